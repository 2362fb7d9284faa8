"""What tells a lesion that one image alone shows from what departs in healthy heads as well.

Of every cell it is told what the forward model made of it: what departs there, at several widths,
among how much that departs about it, and in which tissue. Painted lesions and healthy cells teach
it; what it answers is the logarithm of the odds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Tensor, nn
from torch.nn import functional

from lohi_edge.errors import BadInput
from lohi_edge.quality.forward import FEWEST, Cells, brain_of
from lohi_edge.runtime import Progress
from lohi_edge.volume import Float32
from lohi_export.forward.network import MIXED, ForwardModel, surroundings
from lohi_export.forward.painting import paint
from lohi_export.forward.samples import Sample, choose
from lohi_export.forward.training import REACH

WIDTHS = (64, 32)
FILTERS = (0.5, 0.8, 1.3, 2.0)  # cells; sd of Gaussians beside the spot's filter
NEAR, ABOUT = 3, 7  # cells across, in which the size of departures is averaged
SPOT = MIXED + 2 * len(surroundings()) + 3  # the feature of the spot's filter; after it the others
FEATURES = SPOT + (1 + len(FILTERS)) + 6
LESIONS = (6, 23)  # of each kind in a scan
GAIN = 0.05  # sd of the logarithm of a scan's brightness against its level
COVERED = 0.45  # of a cell that a lesion takes
STRONGEST, OTHERS = 600, 1400  # healthy cells that are kept of a scan
HEALTHY = 0.2  # weight of a healthy cell
RATE, DECAY, UPDATES, BATCH = 2e-3, 1e-3, 6000, 4096


class Detector(nn.Module):
    """Features (n, FEATURES) -> logarithm of the odds (n,)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        sizes = (FEATURES, *WIDTHS, 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, features: Tensor) -> Tensor:
        x = (features - self.mean) / self.spread
        for number, layer in enumerate(self.layers):
            x = layer(functional.relu(x) if number else x)
        return x[..., 0]

    def folded(self) -> list[tuple[Float32, Float32]]:
        """Weights and biases of each layer, for features as they are."""
        parts = [tuple(p.detach() for p in layer.parameters()) for layer in self.layers]
        layers = [(weight, bias) for weight, bias in parts]
        weight, bias = layers[0]
        weight = weight / self.spread
        layers[0] = weight, bias - weight @ self.mean
        return [(w.numpy(), b.numpy()) for w, b in layers]


def bank(spot: NDArray[np.float32]) -> Float32:
    """(n, 9, 9, 9): the spot's filter and Gaussians, each of norm 1."""
    point = np.zeros((2 * REACH + 1,) * 3)
    point[(REACH,) * 3] = 1
    filters = [spot, *(ndi.gaussian_filter(point, sd) for sd in FILTERS)]
    return np.stack([f / np.sqrt(np.square(f).sum()) for f in filters]).astype(np.float32)


@torch.inference_mode()
def look(model: ForwardModel, filters: Float32, cells: Cells) -> tuple[Tensor, Float32]:
    """Features (1, FEATURES, x, y, z), and the chance (x, y, z) that a cell is brain."""
    scan, result, inside = (
        torch.from_numpy(np.ascontiguousarray(a))[None, None]
        for a in (cells.scan, cells.result, cells.inside)
    )
    place = torch.from_numpy(np.ascontiguousarray(cells.place))[None]
    context = model.context(scan, result)
    seen = model.see(result, context, place)
    mean, trust, logit = model.tell(seen, context)
    chance = torch.sigmoid(logit)
    departure = trust * (scan - mean) * inside
    found = functional.conv3d(departure, torch.from_numpy(filters)[:, None], padding=REACH)
    near = functional.avg_pool3d(departure.abs(), NEAR, 1, NEAR // 2)
    about = functional.avg_pool3d(departure.square(), ABOUT, 1, ABOUT // 2).sqrt()
    # What departs in this scan's brain is the measure of what departs in any cell of it.
    weight = chance * inside / (chance * inside).sum()
    usual = (found[:, :1].abs() * weight).sum()
    certain = torch.log(trust)
    parts = [seen, context, place, found / usual, departure / usual, near / usual, about / usual]
    parts += [certain - (certain * weight).sum(), scan, functional.avg_pool3d(result, 2)]
    return torch.cat(parts, 1), chance[0, 0].numpy()


def require_brain(model: ForwardModel, filters: Float32, samples: Sequence[Sample]) -> None:
    """Refuse a model with which the device would look at too little brain to judge a result.

    Raises:
        BadInput: it finds so little in most of these samples.
    """
    found = 0
    for sample in samples:
        _, chance = look(model, filters, sample.cells)
        found += int(brain_of(chance, sample.cells.inside > 0).sum() >= FEWEST)
    if 2 * found < len(samples):
        raise BadInput(
            f"expected a model that surely finds {FEWEST} cells of brain in most scans, it does in "
            f"{found} of {len(samples)}; give more --steps"
        )


def gather(
    model: ForwardModel,
    filters: Float32,
    samples: Sequence[Sample],
    scans: int,
    seed: int,
    progress: Progress,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells of painted scans: features (n, FEATURES), 1 for a wrong lesion (n,), weights (n,).

    Raises:
        BadInput: the model finds no brain in any of them.
    """
    rng = np.random.default_rng(seed)
    rows, answers, weights = [], [], []
    for number in range(scans):
        painted = paint(choose(samples, rng), rng, int(rng.integers(*LESIONS)))
        gain = np.float32(np.exp(rng.normal(0, GAIN)))
        cells = replace(painted.cells, scan=painted.cells.scan * gain)
        features, chance = look(model, filters, cells)
        brain = brain_of(chance, cells.inside > 0)
        free = np.argwhere(brain & ~painted.near)
        strength = features[0, SPOT].abs().numpy()
        free = free[np.argsort(-strength[tuple(free.T)])]
        others = rng.permutation(free[STRONGEST:])[:OTHERS]
        share = max(0, len(free) - STRONGEST) / max(1, len(others))
        for at, answer, weight in (
            (np.argwhere(brain & (painted.wrong > COVERED)), 1.0, 1.0),
            (np.argwhere(brain & (painted.kept > COVERED)), 0.0, 1.0),
            (free[:STRONGEST], 0.0, HEALTHY),
            (others, 0.0, HEALTHY * share),
        ):
            x, y, z = torch.from_numpy(at.T)
            rows.append(features[0, :, x, y, z].T)
            answers.append(torch.full((len(at),), answer))
            weights.append(torch.full((len(at),), weight))
        progress(number + 1, scans)
    if not any(len(part) for part in rows):
        raise BadInput("expected scans in which the model finds a brain, found none: more --steps?")
    return torch.cat(rows), torch.cat(answers), torch.cat(weights)


def fit(
    features: Tensor, answers: Tensor, weights: Tensor, seed: int, updates: int = UPDATES
) -> Detector:
    """A detector fitted to what `gather` gathered: weighted logistic loss, AdamW, cosine."""
    torch.manual_seed(seed)
    detector = Detector(features.mean(0), features.std(0) + 1e-3)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(updates):
        optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / updates))
        of = torch.randint(0, len(answers), (BATCH,))
        odds = detector(features[of])
        loss = functional.binary_cross_entropy_with_logits(odds, answers[of], weights[of])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return detector.eval()
