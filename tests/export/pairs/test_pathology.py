"""Illness in simulated heads: it stands where it should, and its fate is measured right."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.slices import SliceContract
from lohi_edge.volume import Volume
from lohi_export import pathologies
from lohi_export.pairs import pathology
from lohi_export.pairs.anatomy import Signals
from lohi_export.pairs.ranges import ranges_for
from lohi_export.pairs.tissues import TISSUES


@pytest.fixture(scope="module")
def labels():
    """A brain of shells: ventricle (4) in deep grey (10) in white matter (2) in cortex (3)."""
    grid = np.arange(64) - 31.5
    radius = np.sqrt(sum(g**2 for g in np.meshgrid(grid, grid, grid, indexing="ij", sparse=True)))
    shells = np.select([radius < 6, radius < 12, radius < 24, radius < 28], [4, 10, 2, 3])
    return shells.astype(np.int16)


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "FLAIR"])
def test_lesions_have_the_sign_that_textbooks_give_them(contrast):
    params = ranges_for(contrast).draw(np.random.default_rng(0))
    for tissue, brighter in (
        (pathology.INFARCT, contrast != "T1w"),
        (pathology.TUMOUR, contrast != "T1w"),
        (pathology.OEDEMA, contrast != "T1w"),
        (pathology.HAEMORRHAGE, True),
    ):
        # White matter is 1; its sign after inversion does not matter to a magnitude image.
        for level in pathology.levels(tissue, params, contrast):
            assert (abs(level) > 1) == brighter, (contrast, tissue)


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "FLAIR"])
def test_an_infarct_of_the_cortex_differs_from_cortex_as_one_of_white_matter_from_that(contrast):
    """At 64 mT and at 3 T alike: else a scan would tell the opposite of its truth."""
    params = ranges_for(contrast).draw(np.random.default_rng(0))
    ill = pathology.levels(pathology.CORTICAL_INFARCT, params, contrast)
    well = pathology.levels(TISSUES["cortex"], params, contrast)
    for level, healthy in zip(ill, well, strict=True):
        assert (abs(level) > abs(healthy)) == (contrast != "T1w")


def test_ventricles_grow_by_as_much_as_is_said_and_into_the_brain_only(labels):
    ill = pathology.make("hydrocephalus", labels, 8, np.random.default_rng(0)).labels
    line, grown = labels[32, 32, 32:], ill[32, 32, 32:]
    assert np.count_nonzero(grown == 4) == np.count_nonzero(line == 4) + 8
    assert np.array_equal(labels == 3, ill == 3)


@pytest.mark.parametrize(("name", "among"), [("infarct", (2, 3)), ("tumour", (2,))])
def test_spots_lie_in_their_tissue(labels, name, among):
    found = pathology.make(name, labels, 10, np.random.default_rng(1))
    share = np.maximum.reduce([spot.share for spot in found.spots[: len(among)]])
    assert share.max() == 1
    assert not share[~np.isin(labels, among)].any()


def test_inner_spots_cover_outer_ones(labels):
    found = pathology.make("haemorrhage", labels, 8, np.random.default_rng(0))
    params = ranges_for("T1w").draw(np.random.default_rng(0))
    plain = Signals(np.ones(labels.shape, np.float32), np.ones(labels.shape, np.float32))
    low, _ = pathology.levels(pathology.HAEMORRHAGE, params, "T1w")
    painted = found.paint(plain, params, "T1w").low
    assert painted[found.spots[1].share == 1] == pytest.approx(low)


def test_a_head_to_learn_from_is_ill_in_its_brain_alone_and_by_its_numbers_alone(labels):
    first, again, other = (
        pathology.draw(labels, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert first.spots
    for a, b in zip(first.spots, again.spots, strict=True):
        assert a.tissue == b.tissue
        assert np.array_equal(a.share, b.share)
    assert [spot.tissue for spot in other.spots] != [spot.tissue for spot in first.spots]
    assert max(float(spot.share.max()) for spot in first.spots) == 1


def test_lesions_to_learn_from_are_of_every_sign():
    """What is brighter than white matter and what is darker, in whichever contrast."""
    rng = np.random.default_rng(0)
    tissues = [pathology._times(*pathology._drawn(rng)) for _ in range(40)]
    for contrast in ("T1w", "T2w", "FLAIR"):
        params = ranges_for(contrast).draw(rng)
        lows = [abs(pathology.levels(tissue, params, contrast)[0]) for tissue in tissues]
        assert sum(low > 1.1 for low in lows) >= 4
        assert sum(low < 0.9 for low in lows) >= 4


def test_a_head_without_the_tissue_is_refused(labels):
    labels = np.where(labels == 10, 2, labels)
    with pytest.raises(BadInput, match="expected a label map with one of the labels"):
        pathology.make("haemorrhage", labels, 8, np.random.default_rng(0))


def test_an_unknown_pathology_is_refused(labels):
    with pytest.raises(UsageError, match="haemorrhage"):
        pathology.make("flu", labels, 8, np.random.default_rng(0))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0, -0.3])
def test_the_share_of_a_lesion_that_a_result_shows_is_found(share):
    """A result that shows `share` of the truth's change, whatever its scale elsewhere."""
    rng = np.random.default_rng(0)
    contract = SliceContract(64, 64)
    head = np.zeros((60, 60, 40), np.float32)
    head[10:50, 10:50, 5:35] = rng.uniform(200, 800, (40, 40, 30))
    head[10:50, 10:50, 5] = 1000
    lesion = np.zeros_like(head)
    lesion[28:34, 20:26, 12:18] = -150
    grid = np.eye(4)
    well = SimpleNamespace(high=Volume(head, grid))
    ill = SimpleNamespace(high=Volume(head + lesion, grid))
    in_units = pathologies.scaled(ill.high, well.high, contract) - pathologies.scaled(
        well.high, well.high, contract
    )
    before = SimpleNamespace(volume=SimpleNamespace(data=head))
    after = SimpleNamespace(volume=SimpleNamespace(data=head + share * in_units))
    figures, centre = pathologies.compare(well, ill, before, after, contract)
    assert figures["carried"] == pytest.approx(share, abs=1e-4)
    assert figures["elsewhere"] == pytest.approx(0, abs=1e-4)
    assert centre == pytest.approx((30.5, 22.5, 14.5), abs=1)
