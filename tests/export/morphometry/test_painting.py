"""What the segmenter learns from: targets, painted contrasts, deformed anatomy."""

from __future__ import annotations

import numpy as np
import pytest

from lohi_edge.quality.features import CLASSES
from lohi_edge.quality.frame import CROP
from lohi_edge.quality.regions import REGIONS, STRUCTURES
from lohi_export.morphometry import (
    bank,
    painting,
    targets,
)

NAMES = ["outside", *(name for name, _, _ in STRUCTURES)]


def test_labels_that_are_no_region_belong_to_the_one_about_them():
    labels = np.array([0, 2, 25, 57, 136, 163, 137, 72, 507, 515, 53], np.int16)
    assert targets.regions_of(labels).tolist() == [0, 2, 2, 41, 4, 43, 17, 24, 0, 0, 53]
    # The table of classes says the same, with the side apart.
    classes, sides = targets.class_table(0.0), targets.side_table()
    for label, code in zip(labels, targets.encode(labels), strict=True):
        region = int(targets.regions_of(np.array([label]))[0])
        name = REGIONS.get(region, "outside")
        side, _, rest = name.partition(" ")
        assert NAMES[classes[code]] == (rest if side in ("left", "right") else name)
        assert sides[code] == {"left": -1, "right": 1}.get(side, 0)


def test_targets_count_the_eight_voxels_of_a_cell(codes):
    codes = np.zeros_like(codes)
    labels = np.array([[[2, 2], [3, 3]], [[3, 41], [507, 0]]], np.int16)
    codes[10:12, 20:22, 30:32] = targets.encode(labels)
    counts, right, left = painting.targets(codes, 0.0)
    assert counts.shape == (CLASSES, *CROP)
    cell = counts[:, 5, 10, 15]
    assert cell[NAMES.index("cerebral white matter")] == 3
    assert cell[NAMES.index("cerebral cortex")] == 3
    assert cell[0] == 2
    assert (right[5, 10, 15], left[5, 10, 15]) == (1, 5)
    assert (counts.sum(axis=0) == 8).all()
    assert counts[1:].sum() == 6


def test_painting_repeats_itself_and_shows_the_tissues_apart(codes):
    first, again = (painting.paint(codes, np.random.default_rng(3)) for _ in range(2))
    other = painting.paint(codes, np.random.default_rng(4))
    assert np.array_equal(first.image, again.image)
    assert not np.allclose(first.image, other.image, atol=0.1)
    assert first.image.shape == CROP
    assert np.isfinite(first.image).all()
    white, ventricle = (
        first.counts[NAMES.index(name)] == 8
        for name in ("cerebral white matter", "lateral ventricle")
    )
    apart = abs(np.median(first.image[white]) - np.median(first.image[ventricle]))
    assert apart > 0.05


def test_mirrored_anatomy_has_its_sides_exchanged(codes):
    # Left of the middle in the image is left, mirrored or not: half of the draws are mirrored.
    for seed in range(6):
        painted = painting.paint(codes, np.random.default_rng(seed))
        assert painted.left[: CROP[0] // 2].sum() > 0
        assert painted.left[CROP[0] // 2 :].sum() == 0
        assert painted.right[: CROP[0] // 2].sum() == 0


def test_ventricles_grow_by_the_asked_amount_and_the_skull_stays(head):
    part = head[20:140, 44:164, 20:140]
    grown = bank.dilate_ventricles(part, 2)
    before, after = (np.isin(a, (4, 43)).sum() for a in (part, grown))
    # A ball of 15 mm (12 across) that grows by 3 mm on every side: (18/15)^2 (15/12) = 1.8.
    assert 1.5 < after / before < 2.1
    assert (grown == 515).sum() == pytest.approx((part == 515).sum(), rel=0.05)
    assert {int(v) for v in np.unique(grown)} <= {int(v) for v in np.unique(part)}
    assert np.array_equal(bank.dilate_ventricles(part, 0), part)
