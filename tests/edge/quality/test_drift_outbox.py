"""drift on the outbox of a daemon that works while it looks."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from lohi_edge.quality import drift


def save(folder, name, **more):
    record = {
        "schema": 1,
        "source": {"sha256": "5ha", "affine": []},
        "result": {"grid": "1mm", "sha256": "5ha"},
        "bundle": {"sha256": "5ha"},
        "onnx": {"file": "fp32.onnx", "sha256": "5ha"},
        "contrast": {"name": "T1w"},
        "runtime": {"name": "onnxruntime"},
        "precision": "fp32",
        "metrics": {},
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_desc-synthetic.json"
    path.write_text(json.dumps({"LohiEdge": record}))
    return path


def test_a_scan_sent_again_counts_once(tmp_path):
    save(tmp_path / "a", "a", watch={"scan": 1})
    save(tmp_path / "b", "b", watch={"scan": 2, "repeats": 1})
    assert [one["watch"] for one in drift.receipts([tmp_path])] == [{"scan": 1}]


def test_what_is_being_written_does_not_count(tmp_path):
    save(tmp_path / ".lohi-edge" / "3", "c", watch={"scan": 3})
    assert drift.receipts([tmp_path]) == []


def test_receipts_come_oldest_first(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        path = save(tmp_path / name, name, precision=name)
        os.utime(path, (1000 - age, 1000 - age))
    found = [one["precision"] for one in drift.receipts([tmp_path])]
    assert found == ["old", "middle", "new"]


def test_a_folder_that_goes_while_it_is_listed_is_passed_over(tmp_path, monkeypatch):
    save(tmp_path / "a", "a")
    save(tmp_path / "b", "b")
    listed = os.scandir

    def late(path="."):
        if str(path).endswith("/a"):
            shutil.rmtree(path, ignore_errors=True)
        return listed(path)

    monkeypatch.setattr(os, "scandir", late)
    assert len(drift.receipts([tmp_path])) == 1


@pytest.mark.parametrize("watch", [None, "none", {}])
def test_receipts_of_enhance_count(tmp_path, watch):
    save(tmp_path / "a", "a", watch=watch)
    assert len(drift.receipts([tmp_path])) == 1
