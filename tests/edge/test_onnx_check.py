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


def varint(number):
    more = [0x80 | number >> 7 * n & 0x7F for n in range(9) if number >> 7 * (n + 1)]
    return bytes([*more, number >> 7 * len(more)])


def field(number, data, beyond=0):
    """A field of bytes; `beyond` are bits of its tag that a reader of 32 does not see."""
    return varint(number << 3 | 2 | beyond) + varint(len(data)) + data


def test_weights_elsewhere_are_refused_where_their_place_is_a_large_number(model):
    """Of which protobuf keeps 32 bits: EXTERNAL."""
    tensor = varint(14 << 3) + varint(1 | 1 << 32)
    data = model.SerializeToString() + field(7, field(5, tensor))
    assert onnx.load_from_string(data).graph.initializer[-1].data_location == 1
    with pytest.raises(BundleError, match="weights lie in another file"):
        check_onnx(data, "m.onnx")


@pytest.mark.parametrize("beyond", [1 << 32, 1 << 33, 1 << 34])
def test_operators_under_a_tag_of_more_than_32_bits_are_refused(model, beyond):
    """Libraries that read ONNX drop what is beyond, and would run what the check passed over."""
    node = field(4, b"Relu") + field(4, b"Loop", beyond)
    data = model.SerializeToString() + field(7, field(1, node))
    with pytest.raises(BundleError, match="not an ONNX model"):
        check_onnx(data, "m.onnx")


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
