from __future__ import annotations

import numpy as np
import onnx
import pytest

from lohi_calibration import graph, half
from lohi_edge.errors import BundleError


def types(model):
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}


def test_all_inner_tensors_are_fp16_and_the_ends_fp32(small_net):
    model = half.to_fp16(graph.load(small_net))

    found = types(model)
    assert {found["stem.y"], found["joined"], found["output_fp16"]} == {onnx.TensorProto.FLOAT16}
    assert set(found.values()) == {onnx.TensorProto.FLOAT16}
    ends = [*model.graph.input, *model.graph.output]
    assert {e.type.tensor_type.elem_type for e in ends} == {onnx.TensorProto.FLOAT}
    assert [e.name for e in ends] == ["input", "output"]


def test_fp16_computes_the_same_within_fp16_rounding(small_net, slices):
    model = graph.load(small_net)

    error = np.abs(graph.run(half.to_fp16(model), slices) - graph.run(model, slices)).max()

    assert 0 < error < 8 * 2**-11  # a few roundings to 11 bits of values near 1


def test_the_fp32_model_is_left_as_it_was(small_net):
    model = graph.load(small_net)
    before = model.SerializeToString()

    half.to_fp16(model)

    assert model.SerializeToString() == before


def scaled(model, factor):
    for tensor in model.graph.initializer:
        if tensor.name == "first.w":
            values = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def test_overflow_on_real_slices_names_the_tensor(small_net, slices):
    with pytest.raises(BundleError, match=r"reaches .* expected at most 16376"):
        half.check_overflow(scaled(graph.load(small_net), 3e4), slices)


def test_no_overflow_returns_the_largest_value(small_net, slices):
    assert 0.5 < half.check_overflow(graph.load(small_net), slices) < 100


def test_weights_beyond_fp16_are_refused(small_net):
    with pytest.raises(BundleError, match=r"first\.w go beyond FP16"):
        half.to_fp16(scaled(graph.load(small_net), 1e6))


def test_an_operator_without_a_known_fp16_form_is_refused(small_net):
    model = graph.load(small_net)
    model.graph.node[-1].op_type = "Softplus"

    with pytest.raises(BundleError, match="Softplus"):
        half.to_fp16(model)


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(BundleError, match="expected an ONNX model"):
        graph.load(b"not a model")
