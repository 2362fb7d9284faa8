"""The trained segmenter -> the ONNX file that ships with the device's package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from lohi_edge.errors import BadInput
from lohi_edge.onnx_check import check_onnx
from lohi_edge.quality.features import ATLAS_SHAPE, CLASSES
from lohi_edge.quality.segmenter_file import ATLAS, ERRORS, INPUTS, OUTPUTS, SIZES, Errors
from lohi_export.morphometry.train import Model
from lohi_export.onnx_export import IR_VERSION, OPSET


def export(model: Model, errors: Errors) -> bytes:
    """FP32 ONNX: `first` (1, FIRST, n) -> `guess`, `second` (1, SECOND, n) -> `answer`, `atlas`.

    Answers are (1, CLASSES + 1, n): what is added to the logits of the classes before, and the
    right side's logit. The metadata hold `errors`: volume error in percent by kind and region.
    """
    nodes, weights = [], []
    for number, (entry, exit_, size) in enumerate(zip(INPUTS, OUTPUTS, SIZES, strict=True)):
        name = entry
        layers = [m for m in model.stage(number).layers if isinstance(m, torch.nn.Linear)]
        for depth, layer in enumerate(layers):
            kernel, bias = f"{entry}_weight_{depth}", f"{entry}_bias_{depth}"
            values = layer.weight.detach().numpy()[:, :, None], layer.bias.detach().numpy()
            weights += [
                numpy_helper.from_array(v, n) for v, n in zip(values, (kernel, bias), strict=True)
            ]
            last = depth == len(layers) - 1
            out = exit_ if last else f"{entry}_sum_{depth}"
            nodes.append(helper.make_node("Conv", [name, kernel, bias], [out]))
            name = out
            if not last:
                name = f"{entry}_value_{depth}"
                nodes.append(helper.make_node("LeakyRelu", [out], [name], alpha=0.1))
        assert layers[0].in_features == size
    nodes += _atlas(model, weights)
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [_value(name, (1, size, "n")) for name, size in zip(INPUTS, SIZES, strict=True)],
        [*(_value(name, (1, CLASSES + 1, "n")) for name in OUTPUTS),
         _value(ATLAS, (CLASSES, *ATLAS_SHAPE))],
        weights,
    )  # fmt: skip
    proto = helper.make_model(
        graph,
        producer_name="lohi-export",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    proto.metadata_props.add(key=ERRORS, value=json.dumps(errors, sort_keys=True))
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    check_onnx(data, "segmenter.onnx")
    return data


def _atlas(model: Model, weights: list[TensorProto]) -> list[onnx.NodeProto]:
    """The atlas as bytes: the root of a share, so that small ones keep their order."""
    roots = np.rint(np.sqrt(model.atlas.numpy()) * 255).astype(np.uint8)
    weights += [
        numpy_helper.from_array(roots, "atlas_roots"),
        numpy_helper.from_array(np.float32(1 / 255), "atlas_scale"),
    ]
    return [
        helper.make_node("Cast", ["atlas_roots"], ["atlas_levels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["atlas_levels", "atlas_scale"], ["atlas_root"]),
        helper.make_node("Mul", ["atlas_root", "atlas_root"], [ATLAS]),
    ]


def _value(name: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def read_errors(path: Path) -> Errors:
    """Volume errors from the JSON that `morphometry evaluate` printed.

    Raises:
        BadInput: something else.
    """
    try:
        report = json.loads(path.read_text())
        return {
            kind: {name: round(f["volume_error"], 1) for name, f in part["regions"].items()}
            for kind, part in report.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: expected the JSON of `morphometry evaluate`: {error}") from None
