"""The data set on disk: names, sidecars, resuming, and the command."""

from __future__ import annotations

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_export.dataset import find_pairs
from lohi_export.pairs import dataset, files, plan, simulate
from lohi_export.pairs.command import parse_heads
from lohi_export.pairs.command import simulate as command
from lohi_export.pairs.ranges import ranges_for

PAIR = (
    "sub-01/ses-64mT/anat/sub-01_ses-64mT_run-01_T1w",
    "sub-01/ses-3T/anat/sub-01_ses-3T_run-01_T1w",
)
DSEG = "sub-01/ses-3T/anat/sub-01_ses-3T_run-01_dseg.nii.gz"


pytestmark = pytest.mark.usefixtures("small_field_of_view")


def invoke(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_writes_bids_names_with_sidecars_that_say_simulated(label_folder, tmp_path):
    preview = tmp_path / "pair.png"
    result = invoke(
        "--labels", label_folder, "--out", tmp_path, "--heads", "1", "--draws", 1,
        "--preview", preview,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1 written, 0 kept" in result.output
    assert preview.read_bytes()[:4] == b"\x89PNG"
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    expected = {f"{stem}{end}" for stem in PAIR for end in (".nii.gz", ".json")}
    assert files == expected | {"dataset_description.json", "pair.png", DSEG}
    label_map = (label_folder / "head_01_labels.nii.gz").read_bytes()
    for stem, tesla in zip(PAIR, (0.064, 3.0), strict=True):
        sidecar = json.loads((tmp_path / f"{stem}.json").read_text())
        assert sidecar["MagneticFieldStrength"] == tesla
        assert sidecar["Simulated"] is True
        assert "not acquired" in sidecar["ImageComments"]
        about = sidecar["Simulation"]
        assert about["Seed"] == 0
        assert about["LabelMapSHA256"] == hashlib.sha256(label_map).hexdigest()
        assert about["Drawn"]["low_snr"] > 0
    assert json.loads((tmp_path / "dataset_description.json").read_text())["BIDSVersion"]


def test_a_data_set_keeps_its_seed(label_folder, tmp_path):
    def simulate(*more):
        return invoke("--labels", label_folder, "--out", tmp_path, "--draws", 1, *more)

    assert simulate("--heads", 1).exit_code == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for more in ((), ("--contrast", "T2w")):  # which shares the segmentation
        with pytest.raises(UsageError, match="of seed 0; repeat --seed 0, or name another"):
            simulate("--heads", "2,1", "--seed", 5, *more)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert "1 written, 1 kept" in simulate("--heads", "1,2").output
    assert "1 written, 0 kept" in simulate("--heads", 1, "--contrast", "T2w").output


def test_stored_volumes_are_int16_on_one_frame(label_folder, tmp_path):
    (job,) = plan.plan(label_folder, tmp_path, [1], 1, 0, "T1w")
    assert dataset.write_pair(job)
    low, high = (nib.load(tmp_path / f"{stem}.nii.gz") for stem in PAIR)
    pair = dataset.simulate_job(job)
    for image, volume in ((low, pair.low), (high, pair.high)):
        assert image.get_data_dtype() == np.int16
        step = image.dataobj.slope
        assert step > 0
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        assert np.allclose(image.affine, volume.affine, atol=1e-4)
        assert b"simulated" in bytes(image.header["descrip"])
        assert np.abs(image.get_fdata() - volume.data).max() <= step * 0.51


def test_resuming_keeps_whole_pairs_and_replaces_broken_ones(label_folder, tmp_path):
    jobs = plan.plan(label_folder, tmp_path, [1, 2], 1, 0, "T1w")
    assert [written for _, written in dataset.write_pairs(jobs)] == [True, True]
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*.*")
              if p.is_file()}  # fmt: skip
    assert [written for _, written in dataset.write_pairs(jobs)] == [False, False]
    assert all((p.read_bytes(), p.stat().st_mtime_ns) == v for p, v in before.items())

    broken = jobs[0].image("64mT")
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-100])
    jobs[1].sidecar("3T").unlink()
    assert [written for _, written in dataset.write_pairs(jobs)] == [True, True]
    assert broken.read_bytes() == whole
    assert all(p.read_bytes() == v[0] for p, v in before.items())


def test_segmentation_lies_on_the_3t_grid_and_is_the_same_for_every_contrast(
    label_folder, tmp_path
):
    stored = {}
    for contrast in ("T1w", "T2w"):
        (job,) = plan.plan(label_folder, tmp_path, [1], 1, 0, contrast)
        assert dataset.write_pair(job)
        stored[contrast] = (tmp_path / DSEG).read_bytes()
        assert not dataset.write_pair(job)
    assert stored["T1w"] == stored["T2w"]
    labels, high = nib.load(tmp_path / DSEG), nib.load(tmp_path / f"{PAIR[1]}.nii.gz")
    assert labels.get_data_dtype() == np.int16
    assert labels.shape == high.shape
    assert np.array_equal(labels.affine, high.affine)
    found = np.asarray(labels.dataobj)
    assert {2, 3, 4, 24, 515} <= set(np.unique(found))
    image = high.get_fdata()
    assert np.median(image[found == 2]) > 1.3 * np.median(image[found == 3])
    assert np.median(image[found == 2]) > 2 * np.median(image[found == 4])


def test_a_data_set_without_segmentations_is_completed(label_folder, tmp_path):
    (job,) = plan.plan(label_folder, tmp_path, [1], 1, 0, "T1w")
    dataset.write_pair(job)
    whole = {p: p.read_bytes() for p in tmp_path.rglob("*.nii.gz")}
    job.segmentation().unlink()
    for session in dataset.SESSIONS:  # as an older version left them
        text = json.loads(job.sidecar(session).read_text())
        del text["Simulation"]["SegmentationSHA256"]
        job.sidecar(session).write_text(json.dumps(text))
    assert dataset.write_pair(job)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.nii.gz")} == whole
    assert not dataset.write_pair(job)


def test_another_seed_makes_another_pair(label_folder, tmp_path):
    (first,) = plan.plan(label_folder, tmp_path / "0", [1], 1, 0, "T1w")
    (second,) = plan.plan(label_folder, tmp_path / "1", [1], 1, 1, "T1w")
    assert dataset.write_pair(first)
    assert dataset.write_pair(second)
    assert second.image("3T").name == first.image("3T").name
    assert second.image("3T").read_bytes() != first.image("3T").read_bytes()


@pytest.mark.parametrize(
    ("text", "heads"),
    [("1-10", list(range(1, 11))), ("1,2,13", [1, 2, 13]), ("3, 1-2,2", [3, 1, 2])],
)
def test_heads_are_ranges_and_lists(text, heads):
    assert parse_heads(text) == heads


@pytest.mark.parametrize("text", ["", "a", "1-", "5-3", "1,,2", "-1"])
def test_other_heads_are_refused(text):
    with pytest.raises(UsageError, match="expected heads"):
        parse_heads(text)


def test_missing_or_unreadable_label_maps_end_in_a_clear_message(label_folder, tmp_path):
    with pytest.raises(UsageError, match="head 7"):
        invoke("--labels", label_folder, "--out", tmp_path / "out", "--heads", "7")
    assert not (tmp_path / "out").exists()
    bad = tmp_path / "head_01_labels.nii.gz"
    bad.write_bytes(b"not a scan")
    with pytest.raises(BadInput, match="head_01_labels"):
        files.read_labels(bad)


def test_a_posed_head_is_scanned_again_with_other_settings(label_folder, tmp_path):
    arguments = (
        "--labels", label_folder, "--out", tmp_path, "--heads", "1", "--draws", 1, "--scans", 3,
    )  # fmt: skip
    assert "1 written" in invoke(*arguments).output
    anat = tmp_path / "sub-01" / "ses-64mT" / "anat"
    scans = sorted(anat.glob("*.nii.gz"))
    assert [p.name.split("_")[2] for p in scans] == ["acq-02", "acq-03", "run-01"]
    drawn = [json.loads((anat / p.name.replace(".nii.gz", ".json")).read_text()) for p in scans]
    drawn = [sidecar["Simulation"]["Drawn"] for sidecar in drawn]
    assert len({d["warp"] for d in drawn}) == 1  # one head
    assert len({d["low_snr"] for d in drawn}) == 3  # three scans
    # Every scan has the head's one 3 T scan for a partner.
    assert {pair.high.name for pair in find_pairs(tmp_path, "T1w")} == {
        "sub-01_ses-3T_run-01_T1w.nii.gz"
    }
    bytes_before = scans[0].read_bytes()
    scans[0].unlink()
    assert "1 written" in invoke(*arguments).output
    assert scans[0].read_bytes() == bytes_before
    assert "0 written, 1 kept" in invoke(*arguments).output
    with pytest.raises(UsageError, match="--scans with --labels only"):
        invoke("--from", "volumes", "--volumes", tmp_path, "--out", tmp_path, "--scans", 2)


def test_a_preview_that_cannot_be_written_is_found_before_anything_is_simulated(tmp_path):
    words = ("--labels", tmp_path, "--out", tmp_path / "out", "--heads", "1", "--preview")
    (tmp_path / "head_01_labels.nii.gz").touch()
    with pytest.raises(DiskError):
        invoke(*words, tmp_path / "no" / "p.png")
    assert not (tmp_path / "out").exists()


def test_ill_heads_come_beside_the_healthy_ones_with_partners_of_their_own(labels, tmp_path):
    grid = np.indices(labels.shape) - np.reshape(labels.shape, (3, 1, 1, 1)) / 2
    deep = (np.linalg.norm(grid, axis=0) < 9) & (labels == 2)
    folder = tmp_path / "labels"
    folder.mkdir()
    with_nuclei = np.where(deep, np.int16(10), labels)
    nib.save(nib.Nifti1Image(with_nuclei, np.eye(4)), folder / "head_01_labels.nii.gz")
    out = tmp_path / "pairs"
    arguments = ("--labels", folder, "--out", out, "--heads", "1", "--draws", 1, "--ill", 2)
    assert "3 written" in invoke(*arguments).output
    assert "0 written, 3 kept" in invoke(*arguments).output
    pairs = find_pairs(out, "T1w")
    assert [p.high.name.split("_")[2] for p in pairs] == ["run-01", "run-101", "run-102"]
    assert all(p.low.name.replace("64mT", "3T") == p.high.name for p in pairs)
    # The head of run-101 as it would be without lesions.
    (_, job, _) = plan.plan(folder, out, [1], 1, 0, "T1w", ill=2)
    ranges = ranges_for("T1w")
    well = simulate.simulate_pair(*files.read_labels(job.source), (0, 1, job.draw), ranges)
    ill = dataset.simulate_job(job)
    for healthy, sick in ((well.low, ill.low), (well.high, ill.high)):
        changed = np.abs(sick.data - healthy.data) > 0.05 * simulate.WHITE
        assert 0.0005 < changed.mean() < 0.2
