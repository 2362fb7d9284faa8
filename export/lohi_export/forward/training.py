"""Learn the forward model, and the filter that finds spots in what it leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lohi_edge.quality.result_faults import blob
from lohi_edge.runtime import Progress
from lohi_edge.volume import Float32
from lohi_export.forward.network import MIDDLE, ForwardModel
from lohi_export.forward.painting import Shown, paint
from lohi_export.forward.samples import Sample, choose

RATE = 2e-3
EMA = 0.99
GAIN = 0.08  # sd of the logarithm of a scan's brightness against its level
SPOT_MM = 8.0
LESION_SHARE = 0.5  # of steps
LESIONS = 60  # that scan and result both show, where there is room
BLUR_MM = (1.0, 1.0, 2.0)  # sd: what such a spot is blurred by in a scan
REACH = 4  # cells of the filter to either side
LEAST = 0.05  # of the mean power, added to the spectrum


class _Tensors:
    """A sample as tensors, with the surroundings computed once."""

    def __init__(self, sample: Sample, model: ForwardModel) -> None:
        cells = sample.cells
        self.scan, self.result, self.inside, self.brain = (
            torch.from_numpy(np.ascontiguousarray(a))[None, None]
            for a in (cells.scan, cells.result, cells.inside, sample.brain)
        )
        self.place = torch.from_numpy(np.ascontiguousarray(cells.place))[None]
        with torch.no_grad():
            self.context = model.context(self.scan, self.result)

    def loss(self, model: nn.Module, gain: float) -> Tensor:
        """Negative log-likelihood of Laplace's distribution, and cross-entropy of the brain.

        `gain` makes the scan brighter, and with it what is seen of its surroundings.
        """
        half = self.context.shape[1] // 2
        context = self.context.clone()
        context[:, :half] = (context[:, :half] + MIDDLE) * gain - MIDDLE
        mean, trust, brain = model(self.result, context, self.place)
        misfit = (self.scan * gain - mean).abs()
        # The misfit itself counts too: likelihood alone first learns to be unsure.
        fit = misfit * trust - torch.log(trust) + 5 * misfit
        entropy = nn.functional.binary_cross_entropy_with_logits(brain, self.brain)
        total: Tensor = (fit * self.inside).sum() / self.inside.sum() + entropy
        return total


def train(samples: Sequence[Sample], steps: int, seed: int, progress: Progress) -> ForwardModel:
    """A model fitted to samples, its weights averaged (EMA); a step is one scan."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = ForwardModel()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA))
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        sample = choose(samples, rng)
        if rng.random() < LESION_SHARE:
            # Else it learns to expect nothing where a result looks like no healthy head.
            sample = replace(sample, cells=paint(sample, rng, LESIONS, [Shown.BOTH]).cells)
        scan = _Tensors(sample, model)
        loss = scan.loss(model, float(np.exp(rng.normal(0, GAIN))))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(model)
        progress(step + 1, steps)
    model.load_state_dict(average.module.state_dict())
    return model.eval()


@torch.inference_mode()
def spot_filter(model: ForwardModel, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """(9, 9, 9): the matched filter of a spot of SPOT_MM for what departs in these samples.

    In Fourier space the spot's spectrum over the mean power of the departures in the brain, cut to
    REACH cells (North, Proc IEEE 51:1016, 1963).
    """
    shape = tuple(np.max([s.brain.shape for s in samples], axis=0))
    power = np.zeros(1)
    for sample in samples:
        t = _Tensors(sample, model)
        mean, trust, _ = model(t.result, t.context, t.place)
        departure = (trust * (t.scan - mean))[0, 0].numpy()
        departure[sample.brain < 0.95] = 0
        padded = np.zeros(shape)
        padded[tuple(slice(0, n) for n in departure.shape)] = departure
        power = power + np.abs(np.fft.fftn(padded)) ** 2 / (sample.brain >= 0.95).sum()
    spectrum = np.fft.fftn(np.fft.ifftshift(_centred(_spot(), shape)))
    ideal = np.fft.fftshift(np.fft.ifftn(spectrum / (power / power.mean() + LEAST)).real)
    window = tuple(slice(n // 2 - REACH, n // 2 + REACH + 1) for n in shape)
    kernel: NDArray[np.float32] = (ideal[window] / np.abs(ideal).max()).astype(np.float32)
    return kernel


def _spot() -> Float32:
    """(9, 9, 9) cells: a ball of SPOT_MM as cells of 4 mm show it, at a mean place among them."""
    size = 4 * (2 * REACH + 1)
    fine = blob((size + 3,) * 3, ((size + 2) / 2,) * 3, SPOT_MM)
    fine = ndi.gaussian_filter(fine, BLUR_MM)
    for axis in range(3):
        # Once for the cell's own extent, once for the ball's place in it; centred together.
        for origin in (0, -1):
            fine = ndi.uniform_filter1d(fine, 4, axis=axis, mode="constant", origin=origin)
    middle = (size + 3) // 2
    at = middle + 4 * np.arange(-REACH, REACH + 1)
    spot: Float32 = fine[np.ix_(at, at, at)]
    return spot


def _centred(spot: Float32, shape: tuple[int, ...]) -> Float32:
    """`spot` in the middle of a larger array (index n // 2)."""
    wide = np.zeros(shape, np.float32)
    wide[tuple(slice(n // 2 - REACH, n // 2 + REACH + 1) for n in shape)] = spot
    return wide
