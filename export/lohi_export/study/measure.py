"""Figures of one held-out pair: the 3 T image by itself, and other images against it."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from lohi_calibration.accuracy import MOST_DB
from lohi_edge.quality.compare import compare
from lohi_edge.quality.piqe import piqe
from lohi_edge.quality.reference import Mask
from lohi_edge.volume import Float32
from lohi_export.evaluation import translate
from lohi_export.study.cases import Case, planes
from lohi_export.study.stages import Result

VERSION = 1  # raised whenever the same images give other figures


def truth_figures(case: Case) -> Result:
    """What the 3 T image shows by itself."""
    return {
        "metrics": {"whole": {"piqe": mean_piqe(case.truth, case)}},
        "planes": planes(case.truth, case.slices.head),
    }


def figures(case: Case, image: Float32, brain: Mask | None) -> Result:
    """Figures of an image (N, H, W) in [-1, 1] against the 3 T image, and its middle slices.

    PSNR is at most MOST_DB, which stands for equal.
    """
    regions: dict[str, Mask | None] = {"whole": None, "head": case.head}
    if brain is not None:
        regions["brain"] = brain
    found = {
        region: {k: min(v, MOST_DB) if k.endswith("psnr") else v for k, v in values.items()}
        for region, values in compare(case.truth, image, regions).items()
    }
    found["whole"]["piqe"] = mean_piqe(image, case)
    return {"metrics": found, "planes": planes(image, case.slices.head)}


def translated(
    case: Case, generator: nn.Module, channels: int, device: torch.device
) -> tuple[Float32, dict[str, float | None]]:
    """A generator's image (N, H, W) of a case, and seconds a slice by the wall and, on the CPU,
    by the processor's clock, which other work on the machine hardly moves.
    """
    indices = np.arange(len(case.truth))
    source, _ = case.slices.batch(indices, channels)
    translate(generator, source[:1], device)  # warm
    wall, cpu = time.perf_counter(), time.process_time()
    image = translate(generator, source, device)[:, 0]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    count = len(indices)
    return image, {"wall_s": wall / count, "cpu_s": cpu / count if device.type == "cpu" else None}


def mean_piqe(stack: Float32, case: Case) -> float:
    """Mean PIQE of the slices (N, H, W) in [-1, 1] that show a head."""
    return float(np.mean([piqe(image, -1, 1) for image in stack[slice(*case.slices.head)]]))
