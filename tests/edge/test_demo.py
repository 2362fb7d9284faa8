"""The shipped model on the shipped scan, and the picture people look at."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import head_phantom
from lohi_edge import acceptance, bundle, demo, picture
from lohi_edge.errors import DiskError
from lohi_edge.volume import Volume


def test_demo_gains_on_the_raw_scan(tmp_path):
    """The figures `make demo` prints; a model that does not clearly help must not ship."""
    report = demo.run(tmp_path)
    assert report["after"]["PSNR"] > report["before"]["PSNR"] + 3
    assert report["after"]["SSIM"] > report["before"]["SSIM"] + 0.06
    with Image.open(report["picture"]) as sheet:
        assert sheet.size == (3 * picture.TILE, 3 * (picture.TILE + picture.STRIP))
        assert np.asarray(sheet).std() > 20


@pytest.mark.parametrize("contrast", bundle.CONTRASTS)
def test_shipped_bundle_is_small_and_reproduces_its_golden_slices(contrast):
    path = bundle.shipped(contrast)
    found = bundle.load(path)
    assert found.manifest.contrasts == (contrast,)
    assert "simulated" in found.manifest.provenance["limits"]
    assert sum(p.stat().st_size for p in path.iterdir()) <= 8 << 20
    record = acceptance.accept(found)
    assert record["accepted"], record
    golden = found.golden()
    assert len(golden.input) >= 4
    assert (
        np.abs(golden.output - golden.truth).mean()
        < np.abs(golden.input[:, golden.input.shape[1] // 2, None] - golden.truth).mean()
    )


@pytest.mark.slow
def test_bench_reports_every_phase(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lohi_edge", "bench", "--runs", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    phases = {"read", "validate", "prepare", "infer", "restore", "quality", "write", "total"}
    assert set(report["phases"]) == phases
    parts = sum(row["p50"] for name, row in report["phases"].items() if name != "total")
    assert parts <= report["phases"]["total"]["p50"]
    assert 0 < report["cold_first_slice_s"] <= report["cold_start_s"]


@given(st.tuples(*(st.integers(0, n - 1) for n in (50, 60, 40))))
def test_a_ring_lies_about_the_voxel_that_the_planes_go_through(at):
    data = np.zeros((50, 60, 40), np.float32)
    data[at] = 1
    empty = [np.zeros_like(cut, dtype=np.uint8) for cut in picture.cuts(data)]
    for cut, ringed in zip(picture.cuts(data, at), picture.ringed(empty, at), strict=True):
        (spot,) = np.argwhere(cut == 1)
        ring = np.argwhere(ringed == 255)
        assert len(ring)
        assert np.abs(np.linalg.norm(ring - spot, axis=1) - picture.RING).max() < 1


def test_picture_puts_the_patients_right_on_the_left_and_the_crown_on_top(tmp_path):
    data = np.zeros((64, 64, 64), np.float32)
    data[50:60, 28:36, 40:60] = 1000  # towards the right and the crown
    planes = picture.planes(data + head_phantom((64, 64, 64), (2, 2, 2)) * 1e-3)
    coronal = planes[1].astype(float)
    rows, columns = np.nonzero(coronal > 200)
    assert rows.mean() < 32
    assert columns.mean() < 32


def test_picture_says_which_side_is_which():
    """Even where there is nothing to see."""
    pixels = np.asarray(
        picture.sheet([picture.Row("", Volume(np.zeros((40, 50, 60)), np.eye(4)))] * 2)
    )
    for top in (picture.STRIP, 2 * picture.STRIP + picture.TILE):
        for left in (0, picture.TILE, 2 * picture.TILE):
            assert pixels[top : top + picture.TILE, left : left + 20].max() > 200
            assert not pixels[top : top + picture.TILE, left + 20 : left + picture.TILE].any()


def test_picture_bears_the_remarks_on_it(tmp_path):
    rows = [picture.Row("x", Volume(head_phantom((20, 20, 20), (9, 9, 9)), np.eye(4)))]
    for remarks, lines in (
        (["quality check: warn", "- a spot " * 30, "\udce4\u4e2d"], 5),
        (["- x"] * 99, 16),
    ):
        pixels = np.asarray(picture.sheet(rows, remarks))
        assert len(pixels) == picture.TILE + (1 + lines) * picture.STRIP
        for line in range(lines):
            top = picture.TILE + (1 + line) * picture.STRIP
            assert pixels[top : top + picture.STRIP].max() > 200
            assert not pixels[top : top + picture.STRIP, -10:].any()


def test_a_picture_taken_alone_says_synthetic():
    pixels = np.full((180, 150), 90, np.uint8)
    marked = picture.marked(pixels)
    assert marked[-20:, -80:].max() > 200
    assert (marked[:-20] == 90).all()
    assert (pixels == 90).all()


def test_picture_of_a_scan_in_another_unit_is_the_same():
    data = head_phantom((64, 64, 64), (2, 2, 2))
    for one, other in zip(picture.planes(data), picture.planes(data * 1e-9), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert not any(plane.any() for plane in picture.planes(np.ones((8, 8, 8), np.float32)))


def test_picture_without_a_folder_is_a_disk_error(tmp_path):
    volume = Volume(head_phantom((20, 20, 20), (9, 9, 9)), np.eye(4))
    with pytest.raises(DiskError):
        picture.before_after(tmp_path / "no" / "p.png", [picture.Row("x", volume)])
