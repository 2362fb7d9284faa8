"""InstanceNorm whose gradient is right in every memory layout."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class InstanceNorm(nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` for networks in the channels-last layout.

    PyTorch's backward pass on CPUs (2.13 at least) reads a channels-last gradient of a single
    image as if it were contiguous, and answers with a wrong one without a word. So the gradient is
    laid out as the output is.
    """

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        if self.training and out.requires_grad:
            out.register_hook(torch.Tensor.contiguous)
        return out
