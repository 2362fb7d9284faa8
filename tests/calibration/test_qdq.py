from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from lohi_calibration import graph, half, qdq, ranges
from lohi_calibration.accuracy import measure
from lohi_calibration.overflow import overflows
from lohi_edge.errors import BundleError


@pytest.fixture(scope="module")
def found(small_net, slices):
    model = graph.load(small_net)
    histograms = ranges.collect(model, qdq.tensors(model), slices)
    return model, {name: h.reach("minmax") for name, h in histograms.items()}


def arrays(model):
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def pairs(model):
    return [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]


def test_int8_stays_near_fp32(found, slices):
    model, reach = found
    fp32 = graph.run(model, slices)
    int8 = graph.run(qdq.quantize(model, reach), slices)

    assert measure(int8, fp32, fp32).psnr_fp32 > 35


def test_zero_points_are_zero_and_types_int8(found):
    model, reach = found
    values = arrays(qdq.quantize(model, reach))
    nodes = pairs(qdq.quantize(model, reach))

    zeros = [values[n.input[2]] for n in nodes]
    assert all(z.dtype == np.int8 and not z.any() for z in zeros)


def test_weights_are_per_channel_and_biases_real(found):
    model, reach = found
    quantized = qdq.quantize(model, reach)
    values = arrays(quantized)

    assert values["mix.w_int8"].dtype == np.int8
    assert values["mix.w_scale"].shape == (8,)
    # Each channel uses its whole range, up to the rounding of its scale to FP16.
    assert (np.abs(values["mix.w_int8"]).max(axis=(1, 2, 3)) >= 126).all()
    assert values["mix.b"].dtype == np.float32
    assert not any("bias" in n.name or ".b" in n.input[0] for n in pairs(quantized))


def test_copied_tensors_share_one_scale(found):
    model, reach = found
    values = arrays(qdq.quantize(model, reach))

    assert values["up_scale"] == values["skip_scale"] == values["joined_scale"]
    assert values["up_scale"] != values["stem.r_scale"]


def test_skipped_layers_keep_their_weights_and_inputs(found):
    model, reach = found
    quantized = qdq.quantize(model, reach, frozenset(["stem", "head"]))
    nodes = {n.name: n for n in quantized.graph.node}

    assert list(nodes["stem"].input) == ["input", "stem.w", "stem.b"]
    assert list(nodes["head"].input) == ["mix.r", "head.w", "head.b"]
    assert nodes["mix"].input[1] == "mix.w_dq"
    assert "input_quantize" not in nodes


def test_skipping_all_layers_gives_the_fp32_model_back(found, slices):
    model, reach = found
    nothing = qdq.quantize(model, reach, frozenset(qdq.quantizable(model)))

    assert not pairs(nothing)
    np.testing.assert_array_equal(graph.run(nothing, slices), graph.run(model, slices))


def test_the_unsigned_form_computes_the_same_from_the_same_scales(found, slices):
    model, reach = found
    signed, unsigned = qdq.quantize(model, reach), qdq.quantize(model, reach, unsigned=True)
    scales = [
        {k: v.tolist() for k, v in arrays(m).items() if k.endswith("_scale")}
        for m in (signed, unsigned)
    ]

    assert scales[0] == scales[1]
    zeros = {arrays(unsigned)[n.input[2]].dtype for n in pairs(unsigned)}
    assert zeros == {np.dtype(np.int8), np.dtype(np.uint8)}
    # They differ only where a value passes the calibrated range: int8 clips at 127, uint8 at 255.
    error = np.abs(graph.run(signed, slices) - graph.run(unsigned, slices))
    assert np.median(error) < 0.01


def test_int8_is_computed_as_written_on_every_processor(found, slices):
    """Of an unsigned model: where sums overflow it would be off by tenths in bright places."""
    model, reach = found
    int8 = qdq.quantize(model, reach, unsigned=True)
    error = np.abs(graph.run(int8, slices) - graph.run(int8, slices, literal=True))
    assert error.mean() < 0.005


def test_what_is_timed_is_what_the_processor_itself_computes(found, slices):
    model, reach = found
    int8 = qdq.quantize(model, reach, unsigned=True)
    running = graph.session(int8, timed=True)
    (itself,) = running.run(None, {running.get_inputs()[0].name: slices[:1]})
    error = np.abs(itself - graph.run(int8, slices[:1], literal=True))
    assert (error.mean() > 0.005) == overflows()


def test_the_input_is_never_unsigned(found):
    model, reach = found
    nodes = {n.name: n for n in qdq.quantize(model, reach, unsigned=True).graph.node}

    assert nodes["input_quantize"].input[2] == "int8_zero"
    assert nodes["joined_quantize"].input[2] == "uint8_zero"


def test_the_fp16_remainder_holds_exactly_the_same_scales(found, slices):
    model, reach = found
    cpu = qdq.quantize(model, reach)
    trt = half.to_fp16(cpu)

    for name, value in arrays(cpu).items():
        if name.endswith("_scale"):
            assert arrays(trt)[name].dtype == np.float16
            np.testing.assert_array_equal(arrays(trt)[name].astype(np.float32), value)
        if name.endswith("_int8"):
            np.testing.assert_array_equal(arrays(trt)[name], value)
    assert np.abs(graph.run(trt, slices, literal=True) - graph.run(cpu, slices)).mean() < 0.01


@given(st.floats(1e-9, 100))
def test_scales_are_normal_fp16_numbers_never_below_what_was_asked(scale):
    rounded = float(qdq.fp16_scale(np.float64(scale)))

    assert float(np.float16(rounded)) == rounded
    assert rounded >= max(scale, 2**-14)
    assert rounded <= max(scale * (1 + 2**-10), 2**-14)


def test_a_layer_without_a_range_is_refused(found):
    model, reach = found
    with pytest.raises(BundleError, match=r"no calibrated range for skip"):
        qdq.quantize(model, {k: v for k, v in reach.items() if k != "skip"})


def test_an_unfolded_norm_is_refused(found):
    model, reach = found
    other = onnx.ModelProto()
    other.CopyFrom(model)
    next(n for n in other.graph.node if n.name == "stem.relu").op_type = "BatchNormalization"

    with pytest.raises(BundleError, match="folded"):
        qdq.quantize(graph.at_opset(other), reach)
