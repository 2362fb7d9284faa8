"""Networks under training: how they are called and updated.

Precision and the averaging of gradients over processes live here, out of the objectives' sight.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from lohi_export import processes


class Networks:
    """Named networks with an Adam optimizer each (beta1 = 0.5 as in pix2pix and CycleGAN).

    Attributes:
        modules: the networks themselves, as they are saved.
        optimizers: by the name of the network that each one updates.
        scaler: keeps small gradients of float16 from vanishing; idle in other precisions.

    Args:
        rates: learning rate of each network.
        half: bfloat16 or float16 for the networks' arithmetic; None for float32.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        rates: Mapping[str, float],
        half: torch.dtype | None = None,
    ) -> None:
        self.modules = dict(modules)
        self._live = {name: processes.parallel(module) for name, module in modules.items()}
        self.optimizers: dict[str, Optimizer] = {
            name: Adam(module.parameters(), lr=rates[name], betas=(0.5, 0.999))
            for name, module in modules.items()
        }
        self._half = half
        self._device = next(self.modules["generator"].parameters()).device.type
        self.scaler = torch.amp.GradScaler(self._device, enabled=half is torch.float16)

    def __call__(self, name: str, *images: Tensor) -> Tensor:
        """A network's float32 output, to be followed by one `update` of it."""
        return self._forward(self._live[name], images)

    def frozen(self, name: str, *images: Tensor) -> Tensor:
        """A network's float32 output with gradients for its inputs alone."""
        module = self.modules[name].requires_grad_(False)
        output = self._forward(module, images)
        module.requires_grad_(True)
        return output

    def update(self, loss: Tensor, *names: str) -> None:
        """One step of the named networks down the gradient of a loss."""
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        for name in names:
            self.scaler.step(self.optimizers[name])
        self.scaler.update()

    def _forward(self, module: nn.Module, images: tuple[Tensor, ...]) -> Tensor:
        with torch.autocast(self._device, self._half, enabled=self._half is not None):
            output: Tensor = module(*images)
        return output.float()


def half_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes with it, float16 on older GPUs."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def emulates_half(device: torch.device) -> bool:
    """Whether 16 bits cost time there: an x86 processor that has no arithmetic in bfloat16.

    A step of the edge recipe took 0.66 s there for 0.32 s in float32 (one core, Xeon, AVX-512).
    """
    has = torch.cpu.get_capabilities()
    known = device.type == "cpu" and has["architecture"] == "x86_64"
    return known and not (has["avx512_bf16"] or has["amx_bf16"])
