from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lohi_edge.errors import BundleError
from lohi_edge.onnx_check import check_onnx

onnx = pytest.importorskip("onnx")


def test_every_precision_passes(precisions):
    for name, data in precisions[0].items():
        check_onnx(data, name)


def refused(model, words):
    with pytest.raises(BundleError, match=words):
        check_onnx(model.SerializeToString(), "m.onnx")


@pytest.fixture
def model(small_net):
    return onnx.load_from_string(small_net)


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan", "RandomNormal", "StringNormalizer"])
def test_other_operators_are_refused(model, kind):
    model.graph.node[3].op_type = kind
    refused(model, f"does not need: {kind}")


def test_custom_domains_are_refused(model):
    model.graph.node[3].domain = "com.microsoft"
    refused(model, r"com\.microsoft\.")


def test_weights_elsewhere_are_refused(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    tensor.ClearField("raw_data")
    refused(model, "weights lie in another file")


def test_weights_elsewhere_in_a_constant_are_refused(model):
    node = onnx.helper.make_node("Constant", [], ["c"])
    attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.external_data.add(key="location", value="x")
    model.graph.node.append(node)
    refused(model, "weights lie in another file")


def test_subgraphs_are_refused_whatever_the_operator(model):
    attribute = model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.CopyFrom(onnx.GraphProto(name="inner"))
    refused(model, "subgraphs")


def test_functions_are_refused(model):
    model.functions.add(name="Conv", domain="x")
    refused(model, "functions")


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x0a\x7f", b"\x0b", b"\x80" * 12, b"text"])
def test_what_is_no_model_is_refused(data):
    with pytest.raises(BundleError, match="not an ONNX model"):
        check_onnx(data, "m.onnx")


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_clear_answer(data):
    with pytest.raises(BundleError):
        check_onnx(data, "m.onnx")
