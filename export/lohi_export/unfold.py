"""A shipped ONNX file -> weights that train on: the BatchNorms that export folded, put back.

What a BatchNorm divided by is lost in the fold. Any mean and variance give the same generator if
its weight and bias undo them; those of real slices give one whose training goes on as it was.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from lohi_edge.bundle import MAX_FILE, load
from lohi_edge.errors import BadInput, LohiError
from lohi_edge.files import read_bytes
from lohi_edge.onnx_check import check_onnx
from lohi_edge.volume import Float32
from lohi_export.onnx_export import TOLERANCE, infer, normalised

ONNX = "fp32.onnx"
CONVOLUTIONS = ("Conv", "ConvTranspose")


def is_exported(source: Path) -> bool:
    """Whether a path is a bundle or an ONNX file, not a run or its weights."""
    return source.suffix == ".onnx" or (source / "manifest.json").is_file()


def read_exported(source: Path) -> bytes:
    """fp32.onnx of a bundle whose files match its manifest, or an ONNX file.

    Raises:
        BadInput: unreadable, or not what it says.
    """
    try:
        if source.is_dir():
            return load(source).read_onnx(ONNX)
        model = read_bytes(source, MAX_FILE)
        check_onnx(model, source.name)
    except LohiError as error:
        raise BadInput(f"{source}: cannot begin with these weights: {error}") from None
    return model


def unfold(generator: nn.Module, model: bytes, slices: Float32) -> dict[str, Tensor]:
    """Weights of a generator that computes what an ONNX file of it does.

    Args:
        generator: of the file's architecture; left as it is.
        slices: float32 (n, C, H, W) of the file's H and W: the BatchNorms' statistics.

    Raises:
        BadInput: the file is of another architecture, H or W.
    """
    graph = onnx.load_from_string(model).graph
    shape = graph.input[0].type.tensor_type.shape
    wanted = tuple(dimension.dim_value for dimension in shape.dim)[2:]
    if slices.shape[2:] != wanted:
        raise BadInput(
            f"expected slices of {wanted}, as the shipped model has them, got {slices.shape[2:]}; "
            "set height and width_px with --config"
        )
    unfolded = copy.deepcopy(generator).eval()
    stack = torch.from_numpy(slices)
    norms: dict[Any, Any] = {at[i]: at[i + 1] for at, i in normalised(unfolded)}
    pairs = [(layer, norms.get(layer)) for layer in _in_order(unfolded, stack[:1])]
    folded = _folded(graph)
    fits = len(folded) == len(pairs) and all(
        weight.shape == tuple(convolution.weight.shape)
        for (weight, _), (convolution, _) in zip(folded, pairs, strict=True)
    )
    if not fits:
        raise BadInput(_another(len(pairs), len(folded)))
    for (weight, bias), (convolution, norm) in zip(folded, pairs, strict=True):
        _assign(convolution.weight, weight)
        if norm is None:
            _assign(convolution.bias, bias)
            continue
        _assign(norm.bias, bias)
        norm.register_forward_pre_hook(partial(_standardise, norm))
    with torch.no_grad():
        answer = unfolded(stack).numpy()
    if not np.abs(answer - infer(model, slices)).max() <= 10 * TOLERANCE:
        raise BadInput(_another(len(pairs), len(folded)))
    return unfolded.state_dict()


def _standardise(norm: nn.BatchNorm2d, _: nn.Module, inputs: tuple[Tensor]) -> None:
    """Mean and variance of what comes in, undone by weight and bias: the input plus the bias."""
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    _assign(norm.bias, (norm.bias + mean).numpy())
    _assign(norm.weight, torch.sqrt(variance + norm.eps).numpy())
    _assign(norm.running_mean, mean.numpy())
    _assign(norm.running_var, variance.numpy())


@torch.no_grad()
def _assign(parameter: Tensor | None, value: Any) -> None:
    assert parameter is not None
    parameter.copy_(torch.from_numpy(np.array(value)))


def _in_order(generator: nn.Module, stack: Tensor) -> list[Any]:
    """Convolutions in the order in which they compute."""
    order: list[Any] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append(module))
        for module in generator.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        generator(stack)
    for hook in hooks:
        hook.remove()
    return order


def _folded(graph: onnx.GraphProto) -> list[tuple[Any, Any]]:
    """(weight, bias) of every convolution of an ONNX graph, in order."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in CONVOLUTIONS:
            weight, *bias = (tensors.get(name) for name in node.input[1:])
            if weight is None or not bias or bias[0] is None:
                raise BadInput("expected an FP32 generator with its weights beside it")
            found.append((weight, bias[0]))
    return found


def _another(wanted: int, got: int) -> str:
    return (
        f"expected weights of a generator with {wanted} convolutions of this width, depth and "
        f"channels, got {got} of another; give the options the shipped model was trained with"
    )
