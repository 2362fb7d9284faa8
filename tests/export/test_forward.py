"""The forward model: what it may see, what it learns, what its file computes."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lohi_edge.errors import BadInput
from lohi_edge.quality.forward import INPUTS, OUTPUTS, Cells
from lohi_export.forward import detector, training
from lohi_export.forward.detector import FEATURES, SPOT, Detector, bank, look
from lohi_export.forward.export import to_onnx
from lohi_export.forward.network import HOLE, REACH, ForwardModel, surroundings
from lohi_export.forward.painting import Shown, paint
from lohi_export.forward.samples import Sample, choose

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
    filters = bank(np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32))
    told = Detector(torch.randn(FEATURES), 0.5 + torch.rand(FEATURES)).eval()
    scan, result, place, inside = (t.numpy() for t in inputs)
    cells = Cells(scan[0, 0], result[0, 0], place[0], inside[0, 0], (0, 0, 0))
    features, chance = look(model, filters, cells)
    odds = told(features[0].flatten(1).T).detach().numpy().reshape(SHAPE)
    session = onnxruntime.InferenceSession(to_onnx(model, filters, told))
    feed = dict(zip(INPUTS, (scan, result, place, inside), strict=True))
    departures, spots, brain = (found[0, 0] for found in session.run(OUTPUTS, feed))
    np.testing.assert_allclose(spots, odds, atol=1e-3 * np.abs(odds).max())
    np.testing.assert_allclose(brain, chance, atol=1e-4)
    of_spot = features[0, SPOT].numpy()
    scale = np.abs(departures).sum() / np.abs(of_spot).sum()  # one for the whole scan
    np.testing.assert_allclose(departures, scale * of_spot, atol=1e-3 * np.abs(departures).max())


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


@pytest.fixture(scope="module")
def learned():
    """A model, its filters and a detector, of two made-up samples."""
    samples = [sample(seed) for seed in range(2)]
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LESIONS", 10)
        patch.setattr(detector, "LESIONS", (2, 6))
        model = training.train(samples, 200, 0, lambda done, steps: told.append((done, steps)))
        filters = detector.bank(training.spot_filter(model, samples))
        gathered = detector.gather(model, filters, samples, 40, 0, lambda done, steps: None)
    assert told[-1] == (200, 200)
    return model, filters, detector.fit(*gathered, seed=0, updates=300)


def test_of_a_model_that_finds_no_brain_nothing_is_learned():
    filters = detector.bank(np.ones((9, 9, 9), np.float32))
    with pytest.raises(BadInput, match="more --steps"):
        detector.gather(ForwardModel(), filters, [sample(0)], 1, 0, lambda done, steps: None)


def test_it_learns_the_scan_and_the_filter_of_a_spot(learned):
    model, filters, _ = learned
    assert misfit(model, sample(9)) < 0.8 * misfit(ForwardModel(), sample(9))
    assert filters.shape[1:] == (9, 9, 9)
    assert (filters[:, 4, 4, 4] == filters.max(axis=(1, 2, 3))).all()


def found_by(learned, sample):
    """Where the likeliest cell lies, and its odds."""
    session = onnxruntime.InferenceSession(to_onnx(*learned))
    cells = sample.cells
    parts = (cells.scan[None], cells.result[None], cells.place, cells.inside[None])
    feed = {name: part[None] for name, part in zip(INPUTS, parts, strict=True)}
    _, spots, brain = (part[0, 0] for part in session.run(OUTPUTS, feed))
    assert (brain > 0.5).all()
    inner = (slice(4, -4),) * 3  # as the device looks no nearer to the border
    at = np.array(np.unravel_index(spots[inner].argmax(), spots[inner].shape)) + 4
    return at, spots[tuple(at)]


@pytest.mark.parametrize("change", [-0.5, 0.5])
def test_a_spot_of_the_scan_alone_is_found_where_it_is(learned, change):
    new = sample(9)
    scan = new.cells.scan.copy()
    scan[6:8, 7:9, 5:7] += change
    ill = replace(new, cells=replace(new.cells, scan=scan))
    at, odds = found_by(learned, ill)
    assert np.abs(at - (6.5, 7.5, 5.5)).max() <= 1.5  # one of its cells or beside it
    assert odds > found_by(learned, new)[1]


def test_what_both_images_show_is_painted_into_both_and_the_rest_into_one():
    one = sample(4)
    for kind in Shown:
        painted = paint(one, np.random.default_rng(0), 3, [kind])
        in_scan = not np.array_equal(painted.cells.scan, one.cells.scan)
        in_result = not np.array_equal(painted.cells.result, one.cells.result)
        assert (in_scan, in_result) == (kind is not Shown.RESULT, kind is not Shown.SCAN)
        cover, other = painted.wrong, painted.kept
        if kind is Shown.BOTH:
            cover, other = other, cover
        assert cover.max() > 0.9
        assert not other.any()
        assert painted.near[cover > 0].all()


def test_heads_that_the_generator_did_not_see_are_chosen_half_of_the_time():
    samples = [sample(seed) for seed in range(9)] + [replace(sample(9), unseen=True)]
    rng = np.random.default_rng(0)
    share = np.mean([choose(samples, rng).unseen for _ in range(400)])
    assert 0.4 < share < 0.6
    assert not choose(samples[:9], rng).unseen


def test_a_mirrored_sample_is_the_same_head_the_other_way_round():
    one = sample(1)
    twice = one.mirrored().mirrored()
    np.testing.assert_array_equal(twice.cells.result, one.cells.result)
    np.testing.assert_array_equal(one.mirrored().cells.scan[0], one.cells.scan[-1])


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "FLAIR"])
def test_no_file_that_ships_pads_while_it_pools(contrast):
    """See `export._Writer._mean_about`."""
    data = resources.files("lohi_edge.quality").joinpath(f"forward-{contrast}.onnx").read_bytes()
    pooling = [n for n in onnx.load_from_string(data).graph.node if "Pool" in n.op_type]
    assert {tuple(a.name for a in n.attribute) for n in pooling} == {
        (),
        ("kernel_shape", "strides"),
    }
