from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lohi_edge import nifti
from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.head import find_head
from lohi_edge.slices import Placement, SliceContract, intensity_range, place, to_stack
from lohi_export.alone import together
from lohi_export.config import TrainConfig
from lohi_export.dataset import SlicePair, decode, encode, find_pairs, load_slices, select
from lohi_export.sampler import Sampler

CONTRACT = SliceContract(64, 72, 1)


@pytest.fixture
def slices(toy: Path) -> list[SlicePair]:
    return [load_slices(pair, CONTRACT, toy / ".slices") for pair in find_pairs(toy, "T1w")]


def test_a_synthetic_image_is_never_learned_from(toy: Path, tmp_path: Path) -> None:
    pair = find_pairs(toy, "T1w")[0]
    image = nib.load(pair.high)
    image.header["descrip"] = b"SYNTHETIC 3T-like, lohi-edge"
    high = tmp_path / "high_T1w.nii.gz"
    nib.save(image, high)
    with pytest.raises(BadInput, match="synthetic already"):
        load_slices(replace(pair, high=high), TrainConfig().contract, tmp_path / "cache")


@pytest.mark.parametrize("word", ["synthetic", "uncertainty"])
def test_results_beside_the_scans_are_no_scans(toy: Path, tmp_path: Path, word: str) -> None:
    data = shutil.copytree(toy, tmp_path / "data")
    before = find_pairs(data, "T1w")
    low = before[0].low
    shutil.copy(low, low.with_name(low.name.replace("_T1w", f"_desc-{word}_T1w")))
    assert find_pairs(data, "T1w") == before


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_source_is_what_the_device_would_feed(toy: Path, channels: int) -> None:
    contract = SliceContract(64, 72, channels)
    pair = find_pairs(toy, "T1w")[0]
    volume = nifti.read(pair.low).isotropic()
    wanted = to_stack(volume.data, place(volume, contract), contract)
    source, _ = load_slices(pair, contract, toy / ".slices").batch(np.arange(52), channels)
    assert source.shape == wanted.shape == (52, channels, 64, 72)
    np.testing.assert_allclose(source, wanted, atol=2e-5)
    assert (source[wanted == -1] == -1).all()


def test_the_target_shares_the_window_and_has_its_own_range(toy: Path) -> None:
    pair = find_pairs(toy, "T1w")[0]
    low, high = nifti.read(pair.low).isotropic(), nifti.read(pair.high)
    head = find_head(high.data)
    placement = Placement(
        low.shape, place(low, CONTRACT).corner, *intensity_range(high.data, head, CONTRACT)
    )
    _, target = load_slices(pair, CONTRACT, toy / ".slices").batch(np.arange(52), 1)
    np.testing.assert_allclose(target, to_stack(high.data, placement, CONTRACT), atol=2e-5)


def test_a_golden_slice(slices: list[SlicePair]) -> None:
    """A change of these figures is a change of what every trained model was fed."""
    source, target = slices[0].batch(np.array([20]), 1)
    assert slices[0].head == (8, 44)
    np.testing.assert_allclose(
        [source.mean(), source.std(), target.mean(), target.std()],
        [-0.420518, 0.681722, -0.471644, 0.654229],
        atol=1e-4,
    )


def test_slices_are_cut_once(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = find_pairs(toy, "T1w")[0]
    first = load_slices(pair, CONTRACT, tmp_path)
    monkeypatch.setattr("lohi_edge.nifti.read", None)
    again = load_slices(pair, CONTRACT, tmp_path)
    assert again.head == first.head
    assert np.array_equal(again.source, first.source)


def test_what_a_killed_run_was_cutting_is_removed(toy: Path, tmp_path: Path) -> None:
    first, other = find_pairs(toy, "T1w")[:2]
    digest = load_slices(first, CONTRACT, tmp_path).digest
    killed, foreign = tmp_path / f".{digest}-192x24.ab12.tmp", tmp_path / ".editor.tmp"
    for path in (killed, foreign):
        path.touch()
    with together(tmp_path, "*.none"):  # another run cuts its slices; whose file it is nobody knows
        load_slices(other, CONTRACT, tmp_path)
        assert killed.exists()
    for path in tmp_path.glob("*.npy"):
        path.unlink()
    load_slices(first, CONTRACT, tmp_path)
    assert not killed.exists()
    assert foreign.exists()


def test_a_changed_scan_is_cut_anew(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy / "sub-01", tmp_path / "sub-01")
    (pair,) = find_pairs(tmp_path, "T1w")
    before = load_slices(pair, CONTRACT, tmp_path / "cache")
    (other,) = (p for p in find_pairs(toy, "T1w") if p.subject == "02")
    for here, there in ((pair.low, other.low), (pair.high, other.high)):
        shutil.copy(there, here)
    after = load_slices(pair, CONTRACT, tmp_path / "cache")
    assert after.digest != before.digest
    assert not np.array_equal(after.source, before.source)


def test_a_scan_without_its_partner_is_named(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy / "sub-01/ses-64mT", tmp_path / "sub-01/ses-64mT")
    with pytest.raises(BadInput, match=r"found none:\n.*64mT_run-01_T1w.nii.gz: has no partner"):
        find_pairs(tmp_path, "T1w")


def test_an_empty_data_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="found none"):
        find_pairs(tmp_path, "T1w")


def test_a_partner_on_another_grid_is_refused(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy / "sub-01", tmp_path / "sub-01")
    (pair,) = find_pairs(tmp_path, "T1w")
    shutil.copy(pair.low, pair.high)
    with pytest.raises(BadInput, match=r"sub-01.*expected the 3 T scan on the grid .*register"):
        load_slices(pair, CONTRACT, tmp_path / "cache")


def test_slices_that_cannot_be_kept_say_how_to_keep_them_elsewhere(
    toy: Path, tmp_path: Path
) -> None:
    pair = find_pairs(toy, "T1w")[0]
    (tmp_path / "cache").touch()
    with pytest.raises(DiskError, match=r"cache: cannot be written: .*--cache FOLDER"):
        load_slices(pair, CONTRACT, tmp_path / "cache")


@given(st.lists(st.floats(-1, 1, width=32), min_size=1))
def test_stored_levels_are_close_and_air_is_exact(values: list[float]) -> None:
    stack = np.array([-1, *values, 1], dtype=np.float32)
    again = decode(encode(stack))
    np.testing.assert_allclose(again, stack, atol=2e-5)
    assert (again[0], again[-1]) == (-1, 1)


def test_every_scan_goes_where_its_subject_is(toy: Path) -> None:
    pairs = find_pairs(toy, "T1w")
    assert [p.subject for p in select(pairs, ["02", "04"], "train")] == ["02", "04"]
    with pytest.raises(BadInput, match="expected test subjects"):
        select(pairs, ["99"], "test")


def test_an_epoch_draws_every_slice_with_a_head_once(slices: list[SlicePair]) -> None:
    sampler = Sampler(slices, TrainConfig(batch=4, crop=0, seed=7))
    assert len(sampler) == sum(last - first for first, last in (s.head for s in slices))
    drawn = [sample for step in range(len(sampler) // 4) for sample in sampler.drawn(step)]
    assert sorted(drawn) == sorted(sampler.index)
    later = [s for step in range(len(sampler) // 4, len(sampler) // 2) for s in sampler.drawn(step)]
    assert sorted(later) == sorted(drawn)
    assert later != drawn


def test_a_batch_depends_on_seed_and_step_only(slices: list[SlicePair]) -> None:
    config = TrainConfig(channels=3, batch=2, crop=32, elastic=1.0, seed=1)
    a, b = (Sampler(slices, config) for _ in range(2))
    b(3)
    for x, y in zip(a(5), b(5), strict=True):
        assert np.array_equal(x, y)
    assert a(5)[0].shape == (2, 3, 32, 32)
    assert not np.array_equal(a(5)[0], a(6)[0])
    assert not np.array_equal(a(5)[0], Sampler(slices, replace(config, seed=2))(5)[0])


def test_shares_of_a_batch_are_the_batch(slices: list[SlicePair]) -> None:
    config = TrainConfig(batch=4, crop=32, elastic=1.0)
    whole = Sampler(slices, config)(3)
    shares = [Sampler(slices, config, rank, 2)(3) for rank in range(2)]
    for part, of_shares in zip(whole, zip(*shares, strict=True), strict=True):
        assert np.array_equal(part, np.concatenate(of_shares))
    with pytest.raises(UsageError, match="that 3 processes can share, got 4; use --batch 6"):
        Sampler(slices, config, 0, 3)


def test_held_neighbours_repeat_the_middle_slice(slices: list[SlicePair]) -> None:
    config = TrainConfig(channels=3, crop=32, seed=1)
    free, held = (Sampler(slices, replace(config, hold=share)) for share in (0.0, 1.0))
    (source, target), (repeated, same) = free(2), held(2)
    assert not np.array_equal(source[:, 0], source[:, 1])
    assert np.array_equal(repeated, np.repeat(repeated[:, 1:2], 3, axis=1))
    assert np.array_equal(repeated[0, 1], source[0, 1])
    assert target.shape == same.shape
