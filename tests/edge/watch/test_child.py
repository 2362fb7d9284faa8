"""What the worker takes for a scan's fault, and what for its own."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from lohi_edge.errors import BundleError, Held
from lohi_edge.sections import Enhance
from lohi_edge.volume import Origin, Volume
from lohi_edge.watch import child


@pytest.fixture
def compute(monkeypatch):
    """Let a worker compute a scan, which goes wrong as given; returns what it says."""

    def run(error):
        said = []
        worker = child.Child(asdict(Enhance()), lambda event, **facts: said.append((event, facts)))
        origin = Origin("scan.nii", "0" * 64, "RAS", (4, 4, 4), np.eye(4), None)
        worker._volumes[1] = Volume(np.zeros((4, 4, 4)), np.eye(4), origin), {"total": 0.0}

        def fail(*_, **__):
            raise error

        monkeypatch.setattr(child, "enhance", fail)
        task = {"id": 1, "path": "scan.nii", "out": "out", "home": "", "stamp": {}}
        worker._tasks.put(("enhance", task))
        worker._tasks.put(("go_on", {}))
        with pytest.raises((RuntimeError, AttributeError)) as ended:
            worker._do(worker._tasks)
        return said, str(ended.value)

    return run


def test_a_scan_that_is_held_is_told_and_the_worker_goes_on(compute):
    said, ended = compute(Held("scan.nii: held: too dark"))
    assert said == [("failed", {"id": 1, "kind": "Held", "message": "scan.nii: held: too dark"})]
    assert "go_on" in ended


def test_a_model_that_breaks_ends_the_worker_and_costs_no_scan_its_place(compute):
    """The GPU may have failed: then every later scan would fail on the same broken engine."""
    said, ended = compute(BundleError("CUDA failed: an illegal address"))
    assert said == []
    assert ended == "the model failed: CUDA failed: an illegal address"
