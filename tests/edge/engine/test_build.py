"""The real TensorRT-RTX, which parses and builds without a GPU: graphs, profiles, refusals."""

from __future__ import annotations

import pytest

from lohi_edge.engine.build import Profile, build
from lohi_edge.errors import BundleError, UsageError

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
ARCH = "SM86"
PROFILE = Profile(1, 4, 8)


def built(onnx, profile=PROFILE):
    return build(trt, onnx, profile, 64, None, ARCH)


@pytest.mark.parametrize("name", ["fp32.onnx", "fp16.onnx", "int8.trt.onnx"])
def test_every_precision_becomes_an_engine(precisions, name):
    plan = built(precisions[0][name])

    assert len(plan.data) > 10_000
    assert plan.notes == ()


def test_the_parser_s_words_are_passed_on():
    with pytest.raises(BundleError, match=r"rejects the model: .*Failed to parse the ONNX model"):
        built(b"no model")


@pytest.mark.parametrize("change", ["zero_point", "bias"])
def test_int8_that_tensorrt_does_not_take_is_rejected(precisions, change):
    onnx = pytest.importorskip("onnx")
    import numpy as np

    model = onnx.load_from_string(precisions[0]["int8.trt.onnx"])
    by_name = {i.name: i for i in model.graph.initializer}
    if change == "zero_point":
        by_name["int8_zero"].CopyFrom(
            onnx.numpy_helper.from_array(np.array(3, np.int8), "int8_zero")
        )
    else:
        bias = np.ones(8, np.int32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(bias, "bias_int32"))
        node = next(n for n in model.graph.node if n.name == "mix")
        dequantize = onnx.helper.make_node(
            "DequantizeLinear", ["bias_int32", by_name["mix.w_scale"].name], ["bias_dq"], axis=0
        )
        node.input[2] = "bias_dq"
        model.graph.node.insert(0, dequantize)

    with pytest.raises(BundleError, match=r"TensorRT 1.* (rejects the model|builds no engine)"):
        built(model.SerializeToString())


@pytest.mark.parametrize("fault", ["missing", "of another input"])
def test_without_a_profile_for_its_input_there_is_no_engine(precisions, monkeypatch, fault):
    def add(builder, network, config, profile):
        if fault != "missing":
            shapes = builder.create_optimization_profile()
            shapes.set_shape("other", *((n, 1, 32, 40) for n in (1, 4, 8)))
            config.add_optimization_profile(shapes)

    monkeypatch.setattr("lohi_edge.engine.build._add_profile", add)
    with pytest.raises(BundleError, match=r"builds no engine within 64 MB.*: .*[Pp]rofile"):
        built(precisions[0]["fp32.onnx"])


def test_a_static_batch_does_not_fit_the_profile(precisions):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(precisions[0]["fp32.onnx"])
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 3

    with pytest.raises(BundleError, match=r"refuses the batch sizes|builds no engine"):
        built(model.SerializeToString())


def test_a_dynamic_size_is_refused(precisions):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(precisions[0]["fp32.onnx"])
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[3].dim_param = "w"

    with pytest.raises(BundleError, match="expected one input with a dynamic batch alone"):
        built(model.SerializeToString())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # RTX keeps the call and times nothing
def test_a_corrupt_timing_cache_is_set_aside_and_noted(precisions):
    plan = build(trt, precisions[0]["fp32.onnx"], Profile(), 64, b"garbage" * 50, ARCH)

    assert plan.data
    assert "not used" in plan.notes[0]


@pytest.mark.parametrize("text", ["1,2", "a,b,c", "1,2,3,4", "1.5,2,3", ""])
def test_what_are_no_batch_sizes_is_a_usage_error(text):
    with pytest.raises(UsageError, match="expected --batch MIN,OPT,MAX"):
        Profile.parse(text)


@pytest.mark.parametrize("text", ["8,4,8", "1,8,4", "0,1,2", "1,1,5000"])
def test_batch_sizes_no_engine_has_are_refused(text):
    with pytest.raises(BundleError, match="1 <= MIN <= OPT <= MAX") as error:
        Profile.parse(text)
    assert error.value.exit_code == 5


def test_batch_sizes_are_read():
    assert Profile.parse("1,4,16") == Profile(1, 4, 16)
