"""Single figures on arrays made for them: echoes, ghosts, zippers, spikes, slices, contrast."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import head_phantom
from lohi_edge.quality import artefacts, plausibility, slicewise


def test_a_spike_stands_out_of_k_space():
    noise = np.random.default_rng(0).normal(100, 3, (64, 64, 4)).astype(np.float32)
    wave = 10 * np.cos(2 * np.pi * (0.3 * np.arange(64)[:, None] + 0.2 * np.arange(64)))
    assert artefacts.spike(noise + wave[..., None].astype(np.float32)) > 3 * artefacts.spike(noise)


def test_the_edge_of_a_mask_over_a_noise_floor_is_no_zipper():
    image = np.random.default_rng(0).rayleigh(2, (96, 96, 8)).astype(np.float32) + 10
    image[:20], image[:, 70:] = 0, 0
    assert artefacts.zipper(image) < 10
    image[40:42, :70] += 20
    assert artefacts.zipper(image) > 50
    assert artefacts.zipper(np.zeros((32, 32, 4), np.float32)) == 0


def test_a_displaced_copy_is_an_echo_of_its_strength_with_and_without_air():
    head = head_phantom((96, 96, 12))
    assert artefacts.echo(head) < 0.001
    for masked in (False, True):
        ghost = head + 0.2 * np.roll(head, 40, axis=1)
        image = np.where(head > 20, ghost, 0) if masked else ghost
        # One displacement of 81 returns 0.2 of the edges: 0.2 / sqrt(81). The detail of an edge is
        # two or three voxels wide, so that those beside it return some as well; what a copy adds
        # to the strength of the place where it stands takes weight from it.
        found = artefacts.echo(image.astype(np.float32))
        assert 0.2 / 9 / 2 < found < 0.2 / 9 * 2


def test_a_ghost_brightens_a_part_of_the_air():
    air = np.random.default_rng(0).rayleigh(2, (48, 48, 32)).astype(np.float32)
    everywhere = np.ones(air.shape, bool)
    plain = artefacts.ghost_level(air, everywhere, 100)
    air[:16] += 12
    assert artefacts.ghost_level(air, everywhere, 100) > plain + 0.08
    assert artefacts.ghost_level(air, ~everywhere, 100) is None


def test_swapped_neighbours_shorten_the_way_back():
    table = np.cumsum(np.random.default_rng(0).random((12, 400)), axis=0).astype(np.float32)
    assert slicewise.swapped(table) < 1
    table[[5, 6]] = table[[6, 5]]
    assert slicewise.swapped(table) > 1


def test_a_slice_left_out_doubles_a_step():
    rng = np.random.default_rng(0)
    table = np.cumsum(rng.standard_normal((14, 4000)), axis=0).astype(np.float32)
    # A random walk: every step is as long as any other, and two at once are sqrt(2) as long.
    assert slicewise.gap(table) == pytest.approx(1, abs=0.05)
    assert slicewise.gap(np.delete(table, 6, axis=0)) == pytest.approx(np.sqrt(2), abs=0.05)


def test_contrast_is_between_tissues_not_of_tissue_against_black():
    # Tissue of 0.8 to 1.2 beside more or less black: (P90 - P10) / median = 0.32 whatever there is.
    tissue = np.linspace(0.8, 1.2, 6000, dtype=np.float32)
    for black in (0, 1000, 4000):
        result = np.concatenate([tissue, np.zeros(black, np.float32)]).reshape(10, 10, -1)
        inside = np.ones(result.shape, bool)
        assert plausibility.tissue_contrast(result, 1.0, inside) == pytest.approx(0.32, abs=0.001)
        assert plausibility.tissue_contrast(0 * result, 1.0, inside) == 0
