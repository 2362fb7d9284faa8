"""The measurements run, on a real daemon, and say what they claim to."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lohi_edge.cli import app
from lohi_edge.dicom import bench as dicom_bench
from lohi_edge.errors import BadInput
from lohi_edge.watch import bench
from lohi_edge.watch.benchrig import Steps
from watch_parts import save_scan


@pytest.mark.slow
def test_every_figure_of_the_daemon_is_measured(tmp_path, identity_bundle, monkeypatch):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "cache"))
    scan = save_scan(tmp_path / "a_T1w.nii")
    told, said = [], []
    steps = Steps(12, lambda *step: told.append(step), said.append)
    found = bench.throughput(scan, identity_bundle, 1, rounds=1, batch=2, steps=steps)
    assert [done for done, _, _ in told] == list(range(1, 13))  # each scan is a step
    assert {total for _, total, _ in told} == {12}
    assert said == ["throughput takes about 0 minutes: 12 scans"]
    assert found["overhead"] > -1
    assert found["daemon_2_s"] > 0
    times = bench.reaction(scan, identity_bundle, runs=1)
    assert times["with_events_s"]["max"] >= 0.1  # between two looks there is at least so much
    assert 0 <= bench.idle(identity_bundle, seconds=1.0)["core_share"] < 2
    found = bench.backlog(scan, identity_bundle, files=20)
    assert 0 < found["listed_s"] <= found["started_s"]
    found = bench.soak(scan, identity_bundle, volumes=20)
    assert found["daemon"]["at_the_end_mb"] > 10


@pytest.mark.parametrize("more", [["--runs", "1"], ["--soak", "20"]])
def test_a_scan_that_is_not_there_is_refused(tmp_path, identity_bundle, more):
    words = ["bench-watch", str(tmp_path / "gone.nii"), "--bundle", str(identity_bundle), *more]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, BadInput)
    assert "found nothing" in str(done.exception)


def test_dicom_is_measured():
    found = dicom_bench.measure(slices=4, side=32, runs=1)
    assert all(found[name] > 0 for name in ("read_s", "write_s", "received_per_s"))
