"""Several processes that train one model, started by `torchrun`; one process is the usual case."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

# The others wait while the first caches slices and validates.
PATIENCE = timedelta(days=1)
# Newer versions of torch warn of the old name, and older ones do not know the new one.
_OPTIONS = signature(DistributedDataParallel).parameters
_FORWARD_SYNC = next(o for o in ("forward_sync_buffers", "broadcast_buffers") if o in _OPTIONS)
_NO_FORWARD_SYNC: dict[str, Any] = {_FORWARD_SYNC: False}


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, over NCCL on GPUs and gloo on CPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
        # Networks lie in reference cycles; one that outlives the group may abort its process.
        gc.collect()
        distributed.barrier()  # none leaves while another still talks to it
    finally:
        distributed.destroy_process_group()


def size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def local_rank() -> int:
    """Number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether this is the only process that writes and speaks."""
    return rank() == 0


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process runs the body, then all others, who find what it wrote."""
    if not is_first():
        distributed.barrier()
    yield
    if is_first() and size() > 1:
        distributed.barrier()


def mean(values: Mapping[str, float]) -> dict[str, float]:
    """Each value's mean over all processes."""
    if size() == 1:
        return dict(values)
    total = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
    total = _on_backend(total)
    distributed.all_reduce(total)
    return dict(zip(sorted(values), (total / size()).tolist(), strict=True))


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if size() == 1:
        return flag
    flags = _on_backend(torch.tensor([float(flag)]))
    distributed.all_reduce(flags)
    return bool(flags.item())


def gathered(images: Tensor) -> Tensor:
    """The images of all processes, in their order; each has as many of them."""
    if size() == 1:
        return images
    parts = [
        torch.empty(images.shape, dtype=images.dtype, device=images.device) for _ in range(size())
    ]
    distributed.all_gather(parts, images.contiguous())
    return torch.cat(parts)


def share(images: Tensor) -> Tensor:
    """This process's part of `gathered` images."""
    return images.chunk(size())[rank()]


def parallel(module: nn.Module) -> nn.Module:
    """The module with gradients averaged over all processes.

    On GPUs BatchNorm sees the whole batch. SyncBatchNorm knows no CPU: there each process
    normalises its share, and the first one's running statistics are kept.
    """
    if size() == 1:
        return module
    device = next(module.parameters()).device
    if device.type == "cuda":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    # Buffers are not broadcast: a copy between two forward passes would break the backward one.
    return DistributedDataParallel(
        module,
        device_ids=[device.index] if device.type == "cuda" else None,
        **_NO_FORWARD_SYNC,
    )


def _on_backend(values: Tensor) -> Tensor:
    """NCCL moves tensors of GPUs alone."""
    return values.cuda() if distributed.get_backend() == "nccl" else values
