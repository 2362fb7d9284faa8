"""Which runtime and precision is taken: the fastest that is accepted, and no other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lohi_edge import bundle as bundles
from lohi_edge.errors import BundleError, UsageError
from lohi_edge.runtime import choose
from lohi_edge.runtime.chooser import Request, cpu_candidates
from lohi_edge.store import Store


def test_auto_takes_the_fastest_accepted(bundle):
    store = Store()
    for candidate in cpu_candidates(bundle, Request()):
        fast = candidate.runtime == "onnxruntime" and candidate.precision == "fp32"
        record = {"accepted": True, "problems": [], "seconds_per_slice": 0.01 if fast else 0.02}
        store.keep(candidate.key, record)

    choice = choose(bundle)

    assert (choice.runtime.name, choice.runtime.precision) == ("onnxruntime", "fp32")
    assert choice.why.startswith("the fastest accepted, 10.0 ms a slice; also accepted: int8 on")
    assert choice.fallback is None


def test_int8_beyond_its_tolerance_is_demoted_and_announced(make_bundle):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))

    choice = choose(bundle)

    assert choice.onnx == "fp32.onnx"
    assert "int8 on onnxruntime not accepted: largest error" in choice.fallback


def test_int8_asked_for_but_not_accepted_is_an_error(make_bundle):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))

    with pytest.raises(BundleError, match="nothing to run for runtime auto, precision int8") as e:
        choose(bundle, precision="int8")

    assert e.value.exit_code == 5


def test_a_model_that_answers_otherwise_is_never_used(make_bundle, precisions):
    from conftest import build_small_net

    bundle = bundles.load(make_bundle(files={"fp32.onnx": build_small_net(seed=9)}))

    with pytest.raises(BundleError, match="fp32 on onnxruntime not accepted"):
        choose(bundle, precision="fp32")


def test_a_model_that_answers_nan_is_never_used(make_bundle, small_net):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(small_net)
    for tensor in model.graph.initializer:
        if tensor.name == "head.b":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([np.nan], np.float32), "head.b"))
    bundle = bundles.load(make_bundle(files={"fp32.onnx": model.SerializeToString()}))

    with pytest.raises(BundleError, match="largest error nan"):
        choose(bundle, runtime="onnxruntime", precision="fp32")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_model_that_answers_with_another_number_of_slices_is_refused(make_bundle, runtime):
    onnx = pytest.importorskip("onnx")
    if runtime == "openvino":
        pytest.importorskip("openvino")
    h, shape = onnx.helper, ["n", 1, 32, 40]
    ends = [h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("input", "output")]
    twice = h.make_node("Concat", ["input", "input"], ["output"], axis=0)
    opset = [h.make_opsetid("", 17)]
    model = h.make_model(h.make_graph([twice], "g", ends[:1], ends[1:]), opset_imports=opset)
    model.ir_version = 9
    bundle = bundles.load(make_bundle(files={"fp32.onnx": model.SerializeToString()}))

    with pytest.raises(BundleError, match=r"expected an answer of shape \(1, 1, 32, 40\), got \(2"):
        choose(bundle, runtime=runtime, precision="fp32")


@pytest.mark.parametrize("options", [{"runtime": "cuda"}, {"precision": "int4"}])
def test_unknown_words_are_usage_errors(bundle, options):
    with pytest.raises(UsageError, match=r"expected (runtime|precision) auto or one of"):
        choose(bundle, **options)


def test_bf16_is_not_offered_where_nothing_says_how_far_off_it_may_be(identity_bundle):
    plain = bundles.load(identity_bundle)  # FP32 alone
    assert cpu_candidates(plain, Request("openvino", "bf16")) == []
    with pytest.raises(BundleError, match="nothing to run for runtime openvino, precision bf16"):
        choose(plain, runtime="openvino", precision="bf16")


def test_bf16_needs_openvino(bundle):
    with pytest.raises(BundleError, match="nothing to run for runtime onnxruntime, precision bf16"):
        choose(bundle, runtime="onnxruntime", precision="bf16")


def test_a_precision_without_a_tolerance_is_refused(make_bundle):
    path = make_bundle()
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["tolerance"]["int8.cpu"]
    (path / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match=r"expected a tolerance for int8\.cpu"):
        choose(bundles.load(path), precision="int8")
