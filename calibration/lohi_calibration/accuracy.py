"""How good a converted model is: against the FP32 model, and against the truth."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from lohi_calibration.graph import Float32
from lohi_edge.quality.reference import psnr, ssim

SSIM_BUDGET = 0.005
MOST_DB = 200.0  # stands for equal, which JSON has no number for


@dataclass(frozen=True)
class Accuracy:
    """Mean over slices in [-1, 1], data range 2.

    Attributes:
        psnr_fp32: against the FP32 output (dB); infinite where they are equal.
        psnr, ssim: against the truth.
        max_error: largest |difference| to the FP32 output.
    """

    psnr_fp32: float
    psnr: float
    ssim: float
    max_error: float

    def to_dict(self) -> dict[str, float | None]:
        """For JSON: no PSNR above MOST_DB, None for NaN."""
        return {k: None if math.isnan(v) else min(v, MOST_DB) for k, v in asdict(self).items()}


def measure(output: Float32, fp32: Float32, truth: Float32) -> Accuracy:
    """Compare stacks (N, 1, H, W) in [-1, 1]; PSNR is that of the mean squared error of all."""
    similarity = [ssim(t[0], o[0]) for t, o in zip(truth, output, strict=True)]
    return Accuracy(
        psnr(fp32, output),
        psnr(truth, output),
        float(np.mean(similarity)),
        float(np.abs(output - fp32).max()),
    )


def needed_psnr_fp32(psnr_truth: float, budget_db: float) -> float:
    """Least PSNR against FP32 (dB) that keeps the loss against the truth within the budget.

    Errors that do not depend on each other add their squares. A model at P dB from the truth
    that gains an error of Q dB then loses 10 log10(1 + 10^((P - Q) / 10)) dB; solved for Q.
    """
    return psnr_truth - 10 * math.log10(10 ** (budget_db / 10) - 1)


def within(
    found: Accuracy, reference: Accuracy, budget_db: float, ssim_budget: float = SSIM_BUDGET
) -> list[str]:
    """What breaks the budget, in words; empty where it holds.

    Args:
        reference: of the FP32 model on the same slices.
    """
    needed = needed_psnr_fp32(reference.psnr, budget_db)
    problems = []
    # Written so that NaN breaks every rule.
    if not found.psnr >= reference.psnr - budget_db:
        problems.append(f"PSNR {found.psnr:.2f} dB against {reference.psnr:.2f} dB of FP32")
    if not found.ssim >= reference.ssim - ssim_budget:
        problems.append(f"SSIM {found.ssim:.4f} against {reference.ssim:.4f} of FP32")
    if not found.psnr_fp32 >= needed:
        problems.append(f"{found.psnr_fp32:.1f} dB from the FP32 output, expected {needed:.1f} dB")
    return problems
