"""Ventricles of a result that are wider than the scan shows them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from lohi_edge.quality.measure import NotApplicable
from lohi_edge.quality.ventricles import rim_support

SHAPE = (84, 100, 84)  # of 2 mm


def head(wide, level, grown=0, neck=0):
    """Tissue of 1 with two ventricles of `wide` mm, `grown` mm wider on all sides, a sulcus
    between the hemispheres, and cortex of another brightness (x, y, z); and its inside."""
    x, y, z = np.meshgrid(*(2.0 * (np.arange(n) - n / 2) for n in SHAPE), indexing="ij")
    z = z + neck
    image = np.where(x**2 + (y * 0.8) ** 2 + z**2 > 55**2, 0.8, 1.0)
    sulcus = np.maximum(np.abs(x) - 3, 20 - z)
    fluid = np.clip(0.5 - sulcus / 2, 0, 1)
    for side in (-1, 1):
        beside = np.abs(x - side * (wide / 2 + 4)) - wide / 2
        sides = [np.clip(d, 0, None) for d in (beside, np.abs(y) - 30, np.abs(z) - 8)]
        away = np.sqrt(sum(d**2 for d in sides)) - grown
        fluid = np.maximum(fluid, np.clip(1 - away / 2, 0, 1))
    image += (level - image) * fluid
    below = np.where(z < 0, 0.3, 1.0)
    return image.astype(np.float32), x**2 + (y * 0.8) ** 2 + below * z**2 < 66**2


def scanned(image, seed=0):
    """As a scanner sees it: blurred along the slices, shaded, noisy, another contrast."""
    ramp = np.exp(np.linspace(-0.3, 0.3, SHAPE[1]))[None, :, None]
    noise = np.random.default_rng(seed).normal(0, 0.03, SHAPE)
    blurred = ndi.gaussian_filter(image, (0.4, 0.4, 1.0))
    return (50 * ramp * (0.4 + 0.6 * blurred) + 50 * noise).astype(np.float32)


@pytest.mark.parametrize("level", [0.2, 3.0])
@pytest.mark.parametrize(("wide", "neck"), [(12, 0), (12, 16), (24, 0)])
def test_the_wider_the_ventricles_the_less_of_their_rim_is_in_the_scan(level, wide, neck):
    true, inner = head(wide, level, 0, neck)
    scan = scanned(true)
    made = (500 * head(wide, level, grown, neck)[0] for grown in (0, 3, 6))
    found = [rim_support(scan, result, inner) for result in made]
    assert 0.85 < found[0] < 1.3
    assert found[1] < 0.75
    assert found[2] < 0.5


def test_another_contrast_of_the_scan_changes_nothing():
    image, inner = head(16, 0.2)
    scan = scanned(3 - 2 * image)
    assert rim_support(scan, 500 * image, inner) > 0.85
    assert rim_support(scan, 500 * head(16, 0.2, 3)[0], inner) < 0.75


def test_where_no_ventricle_is_wide_nothing_is_said():
    image, inner = head(3, 0.2)
    with pytest.raises(NotApplicable, match="wide enough"):
        rim_support(scanned(image), 500 * image, inner)
    with pytest.raises(NotApplicable):
        rim_support(scanned(image), np.full(SHAPE, 500, np.float32), inner)


@pytest.mark.parametrize("shape", [(4, 4, 4), (12, 12, 12), (60, 60, 3)])
def test_what_shows_too_little_of_the_head_is_not_judged(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    with pytest.raises(NotApplicable):
        rim_support(image, image, np.ones(shape, bool))
