"""Kept results: when they are used again and when they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lohi_edge.errors import DiskError
from lohi_export.study.stages import Stages, digest


def counted(stages: Stages, name: str, inputs: object) -> tuple[dict[str, object], int]:
    """The stage's result and how often it was computed."""
    calls = []

    def compute() -> dict[str, object]:
        calls.append(1)
        return {"of": inputs, "pair": (1, 2)}

    return stages.get(name, inputs, compute), len(calls)


def test_a_result_is_computed_once_and_reads_the_same_again(tmp_path: Path) -> None:
    first = counted(Stages(tmp_path), "scan/a", {"weights": "x"})
    again = counted(Stages(tmp_path), "scan/a", {"weights": "x"})
    assert (first[1], again[1]) == (1, 0)
    assert first[0] == again[0] == {"of": {"weights": "x"}, "pair": [1, 2]}


def test_other_inputs_are_another_result(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    counted(stages, "a", {"weights": "x"})
    assert stages.kept("a", {"weights": "y"}) is None
    assert counted(stages, "a", {"weights": "y"}) == ({"of": {"weights": "y"}, "pair": [1, 2]}, 1)
    assert stages.kept("a", {"weights": "x"}) is None


@pytest.mark.parametrize("harm", ["cut", "edit", "empty", "list"])
def test_a_damaged_result_is_computed_again(tmp_path: Path, harm: str) -> None:
    stages = Stages(tmp_path)
    counted(stages, "a", 1)
    path = tmp_path / "a.json"
    stored = json.loads(path.read_text())
    stored["result"]["pair"] = [1, 3]
    harmed = {"cut": path.read_text()[:-9], "edit": json.dumps(stored), "empty": "", "list": "[]"}
    path.write_text(harmed[harm])
    assert counted(stages, "a", 1) == ({"of": 1, "pair": [1, 2]}, 1)


def test_a_full_disk_leaves_the_old_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(tmp_path)
    counted(stages, "a", 1)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(DiskError):
        counted(stages, "a", 2)
    assert stages.kept("a", 1) is not None


def test_the_order_of_keys_does_not_matter() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
