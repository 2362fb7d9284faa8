"""The chosen runtime is run anew before it is relied on, whatever was recorded of it."""

from __future__ import annotations

import pytest

from lohi_edge import acceptance
from lohi_edge import bundle as bundles
from lohi_edge.acceptance import prove
from lohi_edge.errors import BundleError, DiskError, ModelFault
from lohi_edge.runtime import choose
from lohi_edge.runtime.chooser import Request, cpu_candidates
from lohi_edge.store import Store


def remember(bundle, accepted):
    """Records of every candidate, int8 the fastest, as an earlier process might have kept them."""
    for candidate in cpu_candidates(bundle, Request()):
        seconds = 0.001 if candidate.precision == "int8" else 0.002
        Store().keep(
            candidate.key,
            {"accepted": accepted, "problems": ["once"], "seconds_per_slice": seconds},
        )  # fmt: skip


def test_what_computes_wrongly_now_gives_way_whatever_was_recorded(make_bundle):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))
    remember(bundle, True)
    assert choose(bundle).runtime.precision == "int8"

    choice = prove(bundle)

    assert choice.runtime.precision == "fp32"
    assert choice.acceptance["max_error"] <= choice.acceptance["tolerance"]
    assert "int8 on onnxruntime not accepted: largest error" in choice.fallback
    again = choose(bundle)  # as another process does
    assert again.runtime.precision == "fp32"
    assert "int8 on onnxruntime not accepted: largest error" in again.fallback


def test_golden_slices_are_run_once_where_nothing_was_recorded(bundle, monkeypatch):
    seen = []
    plain = acceptance.examine

    def examine(bundle, runtime, onnx):
        seen.append((runtime.name, runtime.precision))
        return plain(bundle, runtime, onnx)

    monkeypatch.setattr(acceptance, "examine", examine)
    assert prove(bundle).acceptance["accepted"]
    assert sorted(seen) == sorted(set(seen))
    first = len(seen)
    assert prove(bundle).acceptance["accepted"]  # recorded by now: the chosen one is run anew
    assert len(seen) == first + 1


def test_what_cannot_be_remembered_is_passed_over_all_the_same(make_bundle, monkeypatch):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))
    remember(bundle, True)

    def full(self, key, record):
        raise DiskError("no space left")

    monkeypatch.setattr(Store, "keep", full)
    choice = prove(bundle)
    assert choice.runtime.precision == "fp32"
    assert "acceptance is not remembered: no space left" in choice.fallback


def test_a_runtime_that_breaks_gives_way_in_this_process_alone(bundle, monkeypatch):
    remember(bundle, True)

    def examine(bundle, runtime, onnx):
        if runtime.precision == "int8":
            raise BundleError("CUDA failed")
        return plain(bundle, runtime, onnx)

    plain = acceptance.examine
    monkeypatch.setattr(acceptance, "examine", examine)
    choice = prove(bundle)
    assert choice.runtime.precision == "fp32"
    assert "int8 on onnxruntime not accepted: CUDA failed" in choice.fallback
    assert choose(bundle).runtime.precision == "int8"


def test_where_nothing_is_left_the_model_is_at_fault(make_bundle, precisions):
    from conftest import build_small_net

    other = {"fp32.onnx": build_small_net(seed=9)}
    bundle = bundles.load(make_bundle(files=other, tolerance={"int8.cpu": 1e-6}))
    remember(bundle, True)
    with pytest.raises(ModelFault, match="fp32 on onnxruntime not accepted: largest error"):
        prove(bundle)


def test_no_model_is_at_fault_for_a_precision_that_was_asked_for(make_bundle):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))
    remember(bundle, True)
    with pytest.raises(BundleError, match=r"int8.*set runtime and precision to auto") as e:
        prove(bundle, precision="int8")
    assert not isinstance(e.value, ModelFault)


def test_no_model_is_refused_for_what_was_once_recorded(bundle):
    """The memory that was broken then has been replaced since."""
    remember(bundle, False)
    assert choose(bundle).acceptance["accepted"]
    assert prove(bundle).acceptance["accepted"]
