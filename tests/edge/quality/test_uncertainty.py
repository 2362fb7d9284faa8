"""Test-time variants: nothing for an equivariant generator, something where place matters."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lohi_edge
from lohi_edge import batch, nifti
from lohi_edge.errors import DiskError, UsageError
from lohi_edge.quality.uncertainty import VARIANTS, spread
from lohi_edge.slices import Placement, SliceContract, to_stack

CONTRACT = SliceContract(32, 40, 3)


def middle(stack):
    """A pointwise generator: it commutes with every flip and move."""
    return np.tanh(2 * stack[:, 1:2])


def left_sided(stack):
    """A generator that brightens the left half of its window, wherever the head lies."""
    answer = middle(stack).copy()
    answer[:, :, :16] += 0.1
    return answer


def cut(shape, corner, seed=0):
    data = np.random.default_rng(seed).uniform(0, 100, shape).astype(np.float32)
    placement = Placement(shape, corner, 0.0, 100.0)
    return data, placement


@given(
    shape=st.tuples(st.integers(10, 50), st.integers(10, 50), st.integers(1, 4)),
    corner=st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
)
def test_an_equivariant_generator_is_certain_where_every_window_reaches(shape, corner):
    data, placement = cut(shape, corner)
    answer = middle(to_stack(data, placement, CONTRACT))
    deviation = spread(middle, data, placement, CONTRACT, answer)
    assert deviation.shape == shape
    reach = max(abs(move) for variant in VARIANTS for move in variant[1:])
    ranges = [
        slice(max(0, c + reach), max(0, min(n, c + w - reach)))
        for c, w, n in zip(corner, (32, 40), shape, strict=False)
    ]
    assert np.abs(deviation[tuple(ranges)]).max(initial=0) < 1e-3


def test_a_generator_that_knows_its_place_is_uncertain_by_what_it_adds():
    data, placement = cut((32, 40, 2), (0, 0))
    answer = left_sided(to_stack(data, placement, CONTRACT))
    deviation = spread(left_sided, data, placement, CONTRACT, answer)
    # Two of five variants are mirrored: a share of 2/5 differs by 0.1, that is 50 of 1000 units,
    # and a Bernoulli variable of that share has a standard deviation of sqrt(2/5 * 3/5) = 0.49.
    assert np.allclose(deviation[5:11, 5:35], 50 * np.sqrt(0.24), atol=1e-3)


def test_the_map_stands_beside_the_result_and_in_the_receipt(write_scan, identity_bundle, tmp_path):
    scan, out = write_scan("sub-01_T1w.nii.gz"), tmp_path / "out"
    result = lohi_edge.enhance(scan, out=out, bundle=identity_bundle, uncertainty=True)
    path = out / "sub-01_desc-uncertainty_T1w.nii.gz"
    image = nib.load(path)
    assert bytes(image.header["descrip"].item()).startswith(b"SYNTHETIC uncertainty")
    assert image.shape == result.volume.shape
    record = json.loads((out / "sub-01_desc-synthetic_T1w.json").read_text())["LohiEdge"]
    assert record["uncertainty"]["path"] == path.name
    assert record["uncertainty"]["median"] == 0  # the identity commutes with every variant
    assert lohi_edge.enhance(scan, out=out, bundle=identity_bundle, uncertainty=True).done_before
    assert batch.expand([out]) == [out]  # no result is taken for a scan
    assert nifti.is_synthetic(image.header)


def test_a_result_without_its_map_is_another_result(write_scan, identity_bundle, tmp_path):
    scan = write_scan()
    lohi_edge.enhance(scan, out=tmp_path / "out", bundle=identity_bundle)
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(scan, out=tmp_path / "out", bundle=identity_bundle, uncertainty=True)


def test_a_replaced_result_takes_its_map_with_it(write_scan, identity_bundle, tmp_path):
    scan, out = write_scan(), tmp_path / "out"
    options = {"out": out, "bundle": identity_bundle}
    lohi_edge.enhance(scan, uncertainty=True, **options)
    lohi_edge.enhance(scan, overwrite=True, **options)
    assert sorted(p.name for p in out.iterdir()) == [
        "scan_desc-synthetic.json",
        "scan_desc-synthetic.nii.gz",
    ]


def test_a_map_that_cannot_be_written_leaves_no_result(
    write_scan, identity_bundle, tmp_path, monkeypatch
):
    scan, real = write_scan(), lohi_edge.delivery.nifti_write.write

    def full(path, volume, descrip):
        if nifti.UNCERTAINTY in path.name:
            raise DiskError(f"{path}: no space left")
        return real(path, volume, descrip)

    monkeypatch.setattr(lohi_edge.delivery.nifti_write, "write", full)
    with pytest.raises(DiskError):
        lohi_edge.enhance(scan, out=tmp_path / "out", bundle=identity_bundle, uncertainty=True)
    assert list((tmp_path / "out").iterdir()) == []
