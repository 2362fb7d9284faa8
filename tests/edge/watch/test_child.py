"""What the worker takes for a scan's fault, and what for its own."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import asdict

import numpy as np
import pytest

import watch_parts
from lohi_edge import bundle as bundles
from lohi_edge.errors import BundleError, Held, ModelFault
from lohi_edge.runtime.chooser import Request, cpu_candidates
from lohi_edge.sections import Enhance
from lohi_edge.store import Store
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
        task["held"] = ("receipt.json", "scan.nii")
        worker._tasks.put(("enhance", task))
        worker._tasks.put(("go_on", {}))
        with pytest.raises((RuntimeError, AttributeError)) as ended:
            worker._do(worker._tasks)
        return said, str(ended.value)

    return run


def test_a_scan_that_is_held_is_computed_and_the_worker_goes_on(compute):
    said, ended = compute(Held("scan.nii: held: too dark"))
    assert said == [("computed", {"id": 1})]  # its receipt is written beside the next scan's work
    assert "go_on" in ended


def test_a_scan_forgotten_and_read_again_is_there_however_busy_the_model(
    tmp_path, identity_bundle, monkeypatch
):
    """As where the outbox could not be written for a moment: that must not cost a strike."""
    path = str(watch_parts.save_scan(tmp_path / "a_T1w.nii.gz", 0))
    read = {"do": "read", "id": 1, "path": path, "files": None}
    said = []
    options = asdict(Enhance(bundle=str(identity_bundle), threads=1, contrast="T1w"))
    worker = child.Child(options, lambda event, **facts: said.append(event))
    commands = [read, {"do": "forget", "id": 1}, read]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(json.dumps, commands))))
    monkeypatch.setattr(os, "_exit", lambda code: None)
    worker.listen()
    for tasks in (worker._reads, worker._tasks):  # the model is busy until all are read
        tasks.put(("end", {}))
        with pytest.raises(AttributeError, match="_end"):
            worker._do(tasks)
    assert said == ["loaded", "read", "loaded", "read"]
    assert list(worker._volumes) == [1]


def test_a_model_that_breaks_ends_the_worker_and_costs_no_scan_its_place(compute):
    """The GPU may have failed: then every later scan would fail on the same broken engine."""
    said, ended = compute(BundleError("CUDA failed: an illegal address"))
    assert said == []
    assert ended == "the model failed: CUDA failed: an illegal address"


def test_a_precision_that_computes_wrongly_gives_way_and_the_worker_says_so(make_bundle):
    path = make_bundle(tolerance={"int8.cpu": 1e-6})
    for candidate in cpu_candidates(bundles.load(path), Request(threads=1)):
        seconds = 0.001 if candidate.precision == "int8" else 0.002
        Store().keep(
            candidate.key, {"accepted": True, "problems": [], "seconds_per_slice": seconds}
        )  # fmt: skip
    said = []
    options = asdict(Enhance(bundle=str(path), threads=1))
    child.Child(options, lambda event, **facts: said.append((event, facts))).accept()
    ((event, facts),) = said
    (model,) = facts["models"]
    assert (event, model["precision"]) == ("ready", "fp32")
    assert "int8 on onnxruntime not accepted: largest error" in model["fallback"]


def test_a_bundle_of_which_nothing_computes_as_it_must_is_at_fault(make_bundle):
    from conftest import build_small_net

    other = {"fp32.onnx": build_small_net(seed=9)}
    path = make_bundle(files=other, tolerance={"int8.cpu": 1e-6})
    worker = child.Child(asdict(Enhance(bundle=str(path), threads=1)), lambda *_, **__: None)
    with pytest.raises(ModelFault, match="largest error"):
        worker.accept()
    assert worker.proving == path
