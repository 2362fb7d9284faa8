"""The forward model: what it may see, what it learns, what its file computes."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from lohi_edge.quality.forward import Cells
from lohi_export.forward import training
from lohi_export.forward.export import to_onnx
from lohi_export.forward.network import HOLE, REACH, TRUST, ForwardModel, surroundings
from lohi_export.forward.samples import Sample

SHAPE = (14, 14, 12)


@pytest.fixture
def inputs():
    """Scan, result, place and inside of a box."""
    generator = torch.Generator().manual_seed(3)
    scan = torch.rand((1, 1, *SHAPE), generator=generator)
    result = torch.rand((1, 1, *(2 * n for n in SHAPE)), generator=generator)
    place = torch.rand((1, 3, *SHAPE), generator=generator)
    return scan, result, place, torch.ones((1, 1, *SHAPE))


def shaken():
    """A model none of whose weights is zero."""
    torch.manual_seed(1)
    model = ForwardModel().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def test_a_prediction_sees_nothing_of_the_scan_that_it_predicts(inputs):
    scan, result, place, _ = inputs
    scan.requires_grad_()
    model = shaken()
    mean, trust, _ = model(result, model.context(scan, result), place)
    at = (0, 0, 7, 7, 6)
    (slope,) = torch.autograd.grad(mean[at] + trust[at], scan)
    seen = slope[0, 0].numpy() != 0
    x, y, z = (i - middle for i, middle in zip(np.nonzero(seen), at[2:], strict=True))
    assert len(x)
    assert ((np.hypot(x, y) > HOLE) | (abs(z) > 1)).all()


def test_surroundings_are_means():
    around = surroundings()
    assert around.shape[1:] == tuple(2 * r + 1 for r in REACH)
    np.testing.assert_allclose(around.sum(axis=(1, 2, 3)), 1, rtol=1e-5)
    assert (around >= 0).all()


def test_the_file_computes_what_was_learned(inputs):
    model = shaken()
    kernel = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    session = onnxruntime.InferenceSession(to_onnx(model, kernel))
    names = [i.name for i in session.get_inputs()]
    values = [t.numpy() for t in inputs]
    spots, brain = session.run(None, dict(zip(names, values, strict=True)))
    scan, result, place, inside = inputs
    with torch.no_grad():
        mean, trust, logit = model(result, model.context(scan, result), place)
        departure = inside * trust * (scan - mean)
        wanted = torch.nn.functional.conv3d(
            departure, torch.from_numpy(kernel)[None, None], padding=4
        )
    np.testing.assert_allclose(spots, wanted.numpy(), atol=2e-3 * TRUST)
    np.testing.assert_allclose(brain, torch.sigmoid(logit).numpy(), atol=1e-4)


def sample(seed):
    """Fluid and tissue in a result; the scan shows them in other brightness, with noise."""
    rng = np.random.default_rng(seed)
    fine = np.kron(rng.random(tuple(n // 2 for n in SHAPE)) > 0.5, np.ones((4, 4, 4)))
    result = fine.astype(np.float32)
    cells = fine.reshape(SHAPE[0], 2, SHAPE[1], 2, SHAPE[2], 2).mean(axis=(1, 3, 5))
    scan = (1.2 - 0.6 * cells + rng.normal(0, 0.02, SHAPE)).astype(np.float32)
    whole = np.ones(SHAPE, np.float32)
    return Sample(Cells(scan, result, np.zeros((3, *SHAPE), np.float32), whole, (0, 0, 0)), whole)


def misfit(model, one):
    """Mean departure of a scan from what a model predicts of it."""
    scan, result, place = (
        torch.from_numpy(a)[None]
        for a in (one.cells.scan[None], one.cells.result[None], one.cells.place)
    )
    with torch.no_grad():
        mean, _, _ = model(result, model.context(scan, result), place)
    return float((scan - mean).abs().mean())


def test_it_learns_the_scan_and_its_filter_finds_what_departs(monkeypatch):
    monkeypatch.setattr(training, "LESIONS", 10)
    samples = [sample(seed) for seed in range(2)]
    told = []
    model = training.train(samples, 100, 0, lambda done, steps: told.append((done, steps)))
    assert told[-1] == (100, 100)
    new = sample(9)
    assert misfit(model, new) < 0.8 * misfit(ForwardModel(), new)
    kernel = training.spot_filter(model, samples)
    assert kernel.shape == (9, 9, 9)
    assert kernel[4, 4, 4] == kernel.max() == 1
    scan = new.cells.scan.copy()
    scan[6:8, 7:9, 5:7] += 0.5
    session = onnxruntime.InferenceSession(to_onnx(model, kernel))
    feed = {
        "scan": scan[None, None], "result": new.cells.result[None, None],
        "place": new.cells.place[None], "inside": new.cells.inside[None, None],
    }  # fmt: skip
    spots, brain = session.run(None, feed)
    middle = spots[0, 0, 4:-4, 4:-4, 4:-4]  # as the device looks no nearer to the border
    at = np.unravel_index(np.abs(middle).argmax(), middle.shape)
    assert np.abs(np.array(at) + 4 - (6.5, 7.5, 5.5)).max() <= 1
    assert middle[at] > 0
    assert (brain > 0.5).all()


def test_a_mirrored_sample_is_the_same_head_the_other_way_round():
    one = sample(1)
    twice = one.mirrored().mirrored()
    np.testing.assert_array_equal(twice.cells.result, one.cells.result)
    np.testing.assert_array_equal(one.mirrored().cells.scan[0], one.cells.scan[-1])
