"""Generator -> one clean FP32 ONNX graph, the same bytes every time."""

from __future__ import annotations

import copy
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lohi_edge.errors import BundleError
from lohi_edge.slices import SliceContract
from lohi_edge.volume import Float32

OPSET = 20
IR_VERSION = 9  # of ONNX 1.15, which brought opset 20
INPUT, OUTPUT = "input", "output"
TOLERANCE = 1e-4


def export(generator: nn.Module, contract: SliceContract) -> bytes:
    """FP32 ONNX: `input` (N, C, H, W) -> `output` (N, 1, H, W), N dynamic, H and W fixed.

    BatchNorm is folded into the convolutions, and nothing of the exporting machine stays behind.
    """
    folded = fold_batch_norm(generator).to("cpu")
    shape = (2, contract.channels, contract.height, contract.width)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, we do not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own use of deprecated interfaces
        program = torch.onnx.export(
            folded,
            (torch.zeros(shape),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: bytes = _tidy(program.model_proto).SerializeToString(deterministic=True)
    return model


def export_checked(generator: nn.Module, contract: SliceContract) -> bytes:
    """`export`, with onnxruntime's answer held against PyTorch's.

    Raises:
        BundleError: they differ by more than 1e-4 anywhere.
    """
    model = export(generator, contract)
    rng = np.random.default_rng(0)
    shape = (2, contract.channels, contract.height, contract.width)
    stack = rng.uniform(-1, 1, shape).astype(np.float32)
    with torch.inference_mode():
        wanted = copy.deepcopy(generator).to("cpu").eval()(torch.from_numpy(stack)).numpy()
    error = float(np.abs(infer(model, stack) - wanted).max())
    if not error <= TOLERANCE:
        raise BundleError(
            f"expected ONNX and PyTorch to agree within {TOLERANCE}, they differ by {error:.2g}; "
            "do not ship this model"
        )
    return model


def infer(model: bytes, stack: Float32) -> Float32:
    """onnxruntime's FP32 output (N, 1, H, W) for a stack (N, C, H, W), slice by slice."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = [session.run([OUTPUT], {INPUT: part[None]})[0] for part in stack]
    return np.concatenate(outputs)


def fold_batch_norm(generator: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose every convolution and BatchNorm2d beside it are one."""
    folded = copy.deepcopy(generator).eval()
    for layers, index in normalised(folded):
        convolution: Any = layers[index]
        norm: Any = layers[index + 1]
        turned = isinstance(convolution, nn.ConvTranspose2d)
        layers[index] = fuse_conv_bn_eval(convolution, norm, transpose=turned)
        layers[index + 1] = nn.Identity()
    return folded


def normalised(generator: nn.Module) -> list[tuple[nn.Sequential, int]]:
    """Where a convolution stands with a BatchNorm2d behind it, which export folds into it."""
    return [
        (layers, index)
        for layers in generator.modules()
        if isinstance(layers, nn.Sequential)
        for index in range(len(layers) - 1)
        if isinstance(layers[index], nn.Conv2d | nn.ConvTranspose2d)
        and isinstance(layers[index + 1], nn.BatchNorm2d)
    ]


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Names by position, one opset, and no traces of the exporting program."""
    graph = model.graph
    names = {"": "", INPUT: INPUT, OUTPUT: OUTPUT}
    for tensor in graph.initializer:
        names[tensor.name] = f"weight_{len(names) - 3}"
        tensor.name = names[tensor.name]
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type.lower()}_{number}"
        for index, name in enumerate(node.output):
            names.setdefault(name, f"value_{number}_{index}")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for field in ("value_info", "metadata_props", "quantization_annotation"):
        graph.ClearField(field)
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.ClearField("doc_string")
        del value.metadata_props[:]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    graph.name = "generator"
    graph.ClearField("doc_string")
    clean = onnx.helper.make_model(
        graph,
        producer_name="lohi-export",
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(clean, full_check=True)
    return clean
