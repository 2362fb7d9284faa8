"""Acceptance on disk: what is recorded, and what becomes of it where it cannot be."""

from __future__ import annotations

import pytest

from lohi_edge import bundle as bundles
from lohi_edge.acceptance import accept
from lohi_edge.errors import DiskError
from lohi_edge.runtime import choose
from lohi_edge.store import Store


def records(store):
    return sorted((store.root / "accepted").glob("*.json"))


def test_acceptance_is_remembered_until_something_changes(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    choose(bundle, runtime="onnxruntime")
    before = records(Store())
    assert len(before) == 2  # int8 and fp32

    monkeypatch.setattr("lohi_edge.acceptance.examine", lambda *a: pytest.fail("ran again"))
    choose(bundle, runtime="onnxruntime")
    assert records(Store()) == before

    monkeypatch.setattr("lohi_edge.runtime.chooser._version", lambda name: "another")
    with pytest.raises(pytest.fail.Exception, match="ran again"):
        choose(bundle, runtime="onnxruntime")


def test_a_record_changed_by_hand_does_not_count(make_bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))
    choose(bundle)
    for path in records(Store()):
        path.write_text(path.read_text().replace('"accepted": false', '"accepted": true'))

    assert choose(bundle).onnx == "fp32.onnx"


def test_without_a_store_it_still_runs_and_says_so(bundle, monkeypatch, tmp_path):
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open" / "engines").mkdir(mode=0o777)
    (tmp_path / "open" / "engines").chmod(0o777)
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "open"))

    choice = choose(bundle, runtime="onnxruntime")

    assert "acceptance is not remembered" in choice.fallback
    assert "mode 0700" in choice.fallback


def test_a_store_that_cannot_be_written_stops_nothing(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))

    def full(self, key, record):
        raise DiskError("no space left")

    monkeypatch.setattr(Store, "keep", full)
    choice = choose(bundle, 1, "onnxruntime", "fp32")
    assert choice.runtime.precision == "fp32"
    assert choice.fallback == "acceptance is not remembered: no space left"


def test_the_acceptance_record_says_what_was_measured(bundle):
    record = accept(bundle, 1, "onnxruntime", "int8")

    assert record["accepted"]
    assert record["onnx"] == "int8.cpu.onnx"
    assert 0 < record["mean_error"] < record["max_error"] <= record["tolerance"] == 0.3
    assert 30 < record["psnr_fp32_db"] < 70
    assert 25 < record["psnr_db"] < 26.1  # noise of sigma 0.1: 26.02 dB
    assert 0 < record["latency_ms"]["p50"] <= record["latency_ms"]["p95"]
