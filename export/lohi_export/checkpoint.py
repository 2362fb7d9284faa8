"""One file that holds everything a run needs to go on: weights, optimizers, position, curves.

safetensors with the position as JSON in its metadata: no pickles, and because it is a single file
it is replaced in one atomic step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from lohi_edge.errors import BadInput
from lohi_edge.files import atomic_write


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all; the same content gives the same bytes.

    Raises:
        DiskError: the disk would not take it; what stood there stands.
    """
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with atomic_write(path) as file:
        file.write(_in_order(save(plain, dict(metadata))))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes them in random order."""
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors
    return b"".join([len(text).to_bytes(8, "little"), text, content[begin:]])


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        BadInput: missing or damaged.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: expected a safetensors file: {error}") from None


def save_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    position: Mapping[str, Any],
) -> None:
    """Write modules, their optimizers' state and the JSON-able `position` as one file."""
    tensors = {
        f"module/{name}/{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{name}/{index}/{key}": t for key, t in values.items()}
    write_tensors(path, tensors, {"position": json.dumps(position)})


def read_position(path: Path) -> dict[str, Any]:
    """Where a checkpoint stands: its header alone is read.

    Raises:
        BadInput: damaged, or no checkpoint.
    """
    try:
        with _opened(path) as file:
            metadata = file.metadata() or {}
        if "position" not in metadata:
            raise BadInput(
                f"{path}: expected a checkpoint, got a safetensors file without a position"
            )
    except BadInput as error:
        raise BadInput(
            f"{error}; put a whole copy back, or remove it to train from the start"
        ) from None
    position: dict[str, Any] = json.loads(metadata["position"])
    return position


def load_checkpoint(
    path: Path, model: str, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> dict[str, Any]:
    """Put a checkpoint back into fresh modules and optimizers; its position.

    Raises:
        BadInput: damaged, or of another model.
    """
    position = read_position(path)
    tensors, _ = read_tensors(path)
    if position.get("model", model) != model:
        raise BadInput(f"{path}: expected a checkpoint of {model}, got one of {position['model']}")
    for name, module in modules.items():
        prefix = f"module/{name}/"
        state = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        load_weights(module, state, path)
    for name, optimizer in optimizers.items():
        restored: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, owner, *rest = key.split("/")
            if (kind, owner) == ("optimizer", name):
                restored.setdefault(int(rest[0]), {})[rest[1]] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": restored})
    return position


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """`module.load_state_dict` that says what is wrong.

    Raises:
        BadInput: weights of another architecture.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise BadInput(f"{source}: holds the weights of another model: {why}") from None
