"""drift on the outbox of a daemon that works while it looks."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from lohi_edge.quality import drift

WITHHELD = {"result": None, "verdict": "hold"}


def save(folder, name, label="synthetic", **more):
    record = {
        "schema": 1,
        "source": {"sha256": name, "affine": []},
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
    path = folder / f"{name}_desc-{label}.json"
    path.write_text(json.dumps({"LohiEdge": record}))
    return path


def test_a_scan_sent_again_counts_once(tmp_path):
    source = {"sha256": "5ha", "affine": []}
    first, again = ({"scan": n, "received": f"2026-01-0{n}T00:00:00+00:00"} for n in (1, 2))
    save(tmp_path / "b", "b", watch=again, source=source)
    save(tmp_path / "a", "a", watch=first, source=source)
    save(tmp_path / "held", "c", "withheld", watch=again, source=source, **WITHHELD)
    assert [one["watch"]["scan"] for one in drift.receipts([tmp_path], print)] == [1]


def test_what_is_being_written_does_not_count(tmp_path):
    save(tmp_path / ".lohi-edge" / "3", "c", watch={"scan": 3})
    assert drift.receipts([tmp_path], print) == []


def test_receipts_come_oldest_first(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        path = save(tmp_path / name, name, precision=name)
        os.utime(path, (1000 - age, 1000 - age))
    found = [one["precision"] for one in drift.receipts([tmp_path], print)]
    assert found == ["old", "middle", "new"]


def test_the_order_is_that_in_which_scans_came_whatever_the_files_times_are(tmp_path):
    """A copy, or a restored backup, has other times."""
    for age, name in enumerate(("c", "a", "d", "b")):
        at = f"2026-01-01T0{age}:00:00+00:00"
        said = {"watch": {"received": at}} if age % 2 else {"made": at}
        path = save(tmp_path / name, name, **said)
        os.utime(path, (1000 - age, 1000 - age))
    found = drift.receipts([tmp_path], print)
    assert [one["source"]["sha256"] for one in found] == ["c", "a", "d", "b"]
    assert drift.drift(found)["untimed"] == 0


@pytest.mark.parametrize("said", ["noon", 7, None, "2026-13-01T00:00:00+00:00"])
def test_what_is_no_time_leaves_the_order_to_the_file(tmp_path, said):
    save(tmp_path, "a", made=said, watch={"received": said})
    (found,) = drift.receipts([tmp_path], print)
    assert drift.drift([found])["untimed"] == 1


def scans(folder, start, count, noise, **more):
    for number in range(start, start + count):
        entry = {"noise": {"value": None if noise is None else noise + 0.0001 * (number % 7)}}
        at = f"2026-01-01T{number // 60:02}:{number % 60:02}:00+00:00"
        label = "withheld" if more.get("result", 0) is None else "synthetic"
        save(folder / label, f"s{number}", label, metrics={"scan": entry}, made=at, **more)


@pytest.mark.parametrize(("noise", "word"), [(0.045, "noise changed"), (None, "noise could be")])
def test_a_coil_that_breaks_is_seen_though_every_scan_is_held(tmp_path, noise, word):
    scans(tmp_path, 0, 30, 0.03)
    scans(tmp_path, 30, 10, noise, **WITHHELD)
    found = drift.drift(drift.receipts([tmp_path], print))
    assert (found["scans"], found["held"]) == (40, {"before": 0, "latest": 10})
    assert found["verdict"] == "warn"
    assert [reason for reason in found["reasons"] if reason.startswith(word)]
    assert [
        reason for reason in found["reasons"] if "10 of the latest 10 scans were held" in reason
    ]


def test_a_scan_or_two_that_are_held_are_no_drift(tmp_path):
    scans(tmp_path, 0, 30, 0.03)
    scans(tmp_path, 30, 2, 0.03, **WITHHELD)
    scans(tmp_path, 32, 8, 0.03)
    found = drift.drift(drift.receipts([tmp_path], print))
    assert (found["verdict"], found["held"]["latest"]) == ("pass", 2)


def test_a_folder_that_goes_while_it_is_listed_is_passed_over(tmp_path, monkeypatch):
    save(tmp_path / "a", "a")
    save(tmp_path / "b", "b")
    listed = os.scandir

    def late(path="."):
        if str(path).endswith("/a"):
            shutil.rmtree(path, ignore_errors=True)
        return listed(path)

    monkeypatch.setattr(os, "scandir", late)
    assert len(drift.receipts([tmp_path], print)) == 1


@pytest.mark.parametrize("watch", [None, "none", {}])
def test_receipts_of_enhance_count(tmp_path, watch):
    save(tmp_path / "a", "a", watch=watch)
    assert len(drift.receipts([tmp_path], print)) == 1
