"""What the scan should look like, given the result: lesions that only one of the two shows."""

from __future__ import annotations

import os

import numpy as np
import pytest

from lohi_edge import demo, nifti
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BundleError
from lohi_edge.pipeline import enhance
from lohi_edge.quality import forward, network, result_faults, resultbench, segmenter_file, verdict
from lohi_edge.quality.consistency import CELL_MM
from lohi_edge.quality.inspect import inspect
from lohi_edge.quality.measure import NotApplicable
from lohi_edge.quality.scan import block_mean, lay_out
from lohi_edge.volume import Volume

DEEP = (70, 120, 105)  # white matter of the demo scan, voxels of 1 mm
LIMITS = verdict.limits_for("T1w", {})["result"]
MEASURES = {name: LIMITS[name]["warn"][1] for name in ("residual_blob", "residual_lesion")}


@pytest.fixture(scope="module")
def made():
    """The demo scan, at 1 mm, laid out, and its result."""
    scan = nifti.read(demo.SCAN)
    fine = scan.isotropic()
    result = enhance(scan, contrast="T1w").volume
    return scan, fine, lay_out(scan, fine), result.data


def spots(laid, result):
    return forward.strongest_spots(laid, block_mean(result, 2), "T1w")


def assert_found(laid, result, centre, by=tuple(MEASURES)):
    """These measures warn, and of the right place."""
    for name, found in zip(MEASURES, spots(laid, result), strict=True):
        if name in by:
            assert found.height > MEASURES[name]
            assert away_mm(found, centre) < 8


def away_mm(found, centre):
    middle = (np.array(found.where) + 0.5) * CELL_MM
    return float(np.linalg.norm(middle - centre))


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_lesion_that_only_the_result_shows_is_found_where_it_is(made, sign):
    _, _, laid, result = made
    # By what departs a bright spot is taken for fat, which is hardly brighter in a scan.
    by = ["residual_lesion"] if sign > 0 else MEASURES
    assert_found(laid, result_faults.invented(result, DEEP, 8.0, sign * 0.6), DEEP, by)


def test_of_the_demo_scan_neither_measure_warns(made):
    _, _, laid, result = made
    heights = [found.height for found in spots(laid, result)]
    assert all(h < limit for h, limit in zip(heights, MEASURES.values(), strict=True))


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_lesion_that_only_the_scan_shows_is_found_where_it_is(made, sign):
    scan, fine, _, result = made
    ill = resultbench.with_lesion(scan, fine, DEEP, 12.0, sign * 0.6)
    assert_found(lay_out(ill, ill.isotropic()), result, DEEP)


def test_a_result_with_a_glaring_lesion_that_the_scan_does_not_show_is_held(made):
    scan, fine, _, result = made
    wrong = fine.with_data(result_faults.invented(result, DEEP, 10.0, -0.6))
    seen = inspect(scan, fine, "T1w", wrong)
    assert seen.verdict == "hold"
    (reason,) = (r for r in seen.reasons if r["name"] == "residual_blob")
    assert reason["level"] == "hold"
    # The receipt says where, in the scan's world.
    deep = fine.affine @ [*DEEP, 1]
    assert np.linalg.norm(np.array(reason["at_mm"]) - deep[:3]) < 8


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_every_contrast_has_a_forward_model(made, contrast):
    _, _, laid, result = made
    found = forward.strongest_spots(laid, block_mean(result, 2), contrast)
    assert np.isfinite([one.height for one in found]).all()


def test_where_no_brain_is_there_is_no_figure(made):
    scan, _, _, result = made
    empty = Volume(np.full(scan.shape, 1.0, np.float32) * (scan.data > 0), scan.affine)
    laid = lay_out(empty, empty.isotropic())
    with pytest.raises(NotApplicable, match="brain"):
        spots(laid, np.zeros_like(result))


def test_what_is_larger_than_a_head_is_not_computed(made):
    laid = made[2]
    grown = np.ones((180, 180, 180), bool)
    vast = type(laid)(**{**vars(laid), "inner": grown, "work": np.ones(grown.shape, np.float32)})
    with pytest.raises(NotApplicable, match="larger than a head"):
        forward.strongest_spots(vast, vast.work, "T1w")


def test_places_of_a_mirrored_head_are_mirrored():
    inside = np.zeros((30, 40, 30), bool)
    inside[4:20, 6:30, 3:25] = True
    ahead, back = forward.places(inside), forward.places(inside[::-1])
    np.testing.assert_allclose(back[0], -ahead[0, ::-1], atol=1e-6)
    np.testing.assert_allclose(back[1:], ahead[1:, ::-1], atol=1e-6)


def test_a_damaged_file_of_the_package_is_named(monkeypatch, tmp_path, made):
    (tmp_path / "forward-T1w.onnx").write_bytes(b"no model")
    monkeypatch.setattr(forward.resources, "files", lambda _: tmp_path)
    forward.session.cache_clear()
    try:
        with pytest.raises(BundleError, match="not an ONNX model"):
            spots(made[2], made[3])
    finally:
        forward.session.cache_clear()


def test_the_small_networks_take_no_more_threads_than_asked_for(monkeypatch, scan, identity_bundle):
    opened = []

    def opening(*arguments):
        session = network.open_network(*arguments)
        opened.append(session.get_session_options().intra_op_num_threads)
        return session

    monkeypatch.setattr(forward, "open_network", opening)
    monkeypatch.setattr(segmenter_file, "open_network", opening)
    more = len(os.sched_getaffinity(0)) + 1
    enhance(scan, bundle=identity_bundle, threads=more, volumes=True)
    assert opened == [more, more]
