"""Pairs from real high-field volumes: a simulated 3 T head stands in for one."""

from __future__ import annotations

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest
import typer
from scipy import ndimage as ndi
from typer.testing import CliRunner

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.quality.recognise import Recognition
from lohi_edge.volume import Volume
from lohi_export.dataset import find_pairs
from lohi_export.pairs import looks, pathology, plan, registration_report, volumes
from lohi_export.pairs.command import simulate as command
from lohi_export.pairs.dataset import OF_LABELS, OF_VOLUMES, write_description
from lohi_export.pairs.ranges import Ranges, ranges_for

LEVEL = {511: 0.66, 507: 1.8, 515: 0.1, 24: 0.26, 3: 0.67, 2: 1.0, 4: 0.26}
FIELD = (112, 128, 96)
STILL = {"tilt": (0, 0), "offset": (0, 0), "rise": (0, 0), "warp": (0, 0), "scale": (1, 1)}


@pytest.fixture(scope="module")
def tissue(labels):
    """The label fixture at 2.4 times its size, an infant's."""
    return ndi.zoom(labels, 2.4, order=0)


@pytest.fixture(scope="module")
def volume(tissue) -> Volume:
    """A T1w scan of that head, intensities as a scanner stores them."""
    signal = np.zeros(tissue.shape, np.float32)
    for label, level in LEVEL.items():
        signal[tissue == label] = level
    noise = np.random.default_rng(0).normal(0, 0.02, signal.shape)
    data = np.abs(ndi.gaussian_filter(signal, 0.5) + noise) * 730
    return Volume(data.astype(np.float32), np.eye(4))


@pytest.fixture(scope="module")
def source(volume) -> volumes.HighField:
    return volumes.prepare(volume)


def test_white_matter_becomes_one_and_the_brain_is_found(tissue, source):
    assert np.median(source.signal[tissue == 2]) == pytest.approx(1, abs=0.05)
    wanted = np.isin(tissue, (2, 3, 4))
    overlap = 2 * (source.brain & wanted).sum() / (source.brain.sum() + wanted.sum())
    assert overlap > 0.9
    assert not source.brain[tissue == 507].any()


def test_the_target_is_the_volume_and_64_mt_a_scan_of_it(source):
    ranges = Ranges(**{**vars(Ranges()), **STILL, "low_snr": (80, 80), "shading_power": (0, 0)})
    pair = volumes.simulate_from_volume(source, 3, ranges, field_of_view=FIELD)
    assert pair.labels is None
    assert pair.high.shape == pair.low.isotropic().shape == FIELD
    brain = (slice(46, 66), slice(40, 50), slice(40, 56))
    assert np.median(pair.high.data[brain]) == pytest.approx(100, rel=0.06)
    assert pair.high.data.max() <= 100 * pair.params["high_top"] * 1.001
    low = pair.low.isotropic().data
    assert np.median(low[brain]) == pytest.approx(100, rel=0.3)
    again = volumes.simulate_from_volume(source, 3, ranges, field_of_view=FIELD)
    assert np.array_equal(pair.low.data, again.low.data)


def test_lesions_change_a_real_head_where_they_are_and_nothing_else(tissue, source):
    deep = ndi.distance_transform_edt(np.isin(tissue, (2, 4))) > 10
    regions = np.where(deep & (tissue == 2), np.int16(10), tissue)  # nuclei for bleedings to be in
    given = dataclasses.replace(source, regions=regions)
    ranges = Ranges(**{**vars(Ranges()), **STILL, "low_snr": (80, 80), "shading_power": (0, 0)})
    grown = pathology.make("hydrocephalus", regions, 4, np.random.default_rng(0))
    blood = pathology.make("haemorrhage", regions, 12, np.random.default_rng(1))
    both = dataclasses.replace(grown, spots=blood.spots)
    well, ill = (
        volumes.simulate_from_volume(given, 3, ranges, field_of_view=FIELD, pathology=p)
        for p in (None, both)
    )
    assert np.array_equal(
        volumes.simulate_from_volume(source, 3, ranges, field_of_view=FIELD).high.data,
        well.high.data,
    )  # regions alone change nothing
    changes = [ill.high.data - well.high.data, ill.low.data - well.low.data]
    for change in changes:
        assert 0.002 < (np.abs(change) > 15).mean() < 0.1
    # Methaemoglobin is brighter than white matter, fluid is darker, in T1w at both fields.
    assert all(change.max() > 20 and change.min() < -30 for change in changes)
    core = both.spots[-1].share[both.spots[-1].share > 0].sum() / 1000
    assert (changes[0] > 20).sum() / 1000 == pytest.approx(core, rel=0.4)


def test_fluid_is_bright_at_64_mt_where_the_contrast_is_t2w(source):
    params = ranges_for("T2w").draw(np.random.default_rng(0))
    bright = volumes.HighField(np.where(source.signal < 0.4, 4, source.signal), source.brain)
    low = volumes.map_contrast(bright, params, "T2w", np.random.default_rng(1))
    middle = tuple(n // 2 for n in low.shape)  # the ventricle
    assert low[middle] > 2 * np.median(low[source.brain])


def test_refuses_what_is_no_whole_head(volume, source):
    stripped = volume.with_data(np.where(source.brain, volume.data, 0))
    with pytest.raises(BadInput, match="whole head"):
        volumes.prepare(stripped)
    thick = Volume(volume.data[:, :, ::5], np.diag([1.0, 1, 5, 1]))
    with pytest.raises(BadInput, match="up to 2 mm"):
        volumes.prepare(thick)
    half = Volume(volume.data[::2, ::2, ::2], np.eye(4))
    with pytest.raises(BadInput, match="ml"):
        volumes.prepare(half)


def test_the_command_names_subjects_after_files_and_keeps_pairs(volume, tmp_path, monkeypatch):
    monkeypatch.setattr(volumes.simulate_from_volume, "__defaults__", ("T1w", FIELD, False, None))
    given, out = tmp_path / "given", tmp_path / "pairs"
    given.mkdir()
    nib.save(nib.Nifti1Image(volume.data, volume.affine), given / "my-head.nii.gz")
    app = typer.Typer()
    app.command()(command)
    arguments = ["--from", "volumes", "--volumes", str(given), "--out", str(out), "--draws", "1"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    (pair,) = find_pairs(out, "T1w")
    assert pair.subject == "myhead"
    assert not list(out.rglob("*dseg*"))
    stated = json.loads(next(out.rglob("*64mT*.json")).read_text())["Simulation"]
    assert stated["Volume"] == "my-head.nii.gz"
    assert "License" not in json.loads((out / "dataset_description.json").read_text())
    assert "0 written, 1 kept" in CliRunner().invoke(app, arguments).output


def test_another_volume_of_the_same_name_is_refused(offered, tmp_path):
    assert offered()[0].exit_code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "pairs").rglob("*") if p.is_file()}
    done, _ = offered(lambda data: data[::-1].copy())
    assert isinstance(done.exception, UsageError)
    assert "expected the volume that " in str(done.exception)
    assert "rename the file if this is another head" in str(done.exception)
    assert {p: p.read_bytes() for p in (tmp_path / "pairs").rglob("*") if p.is_file()} == before


def test_a_pair_that_does_not_tell_its_volume_is_made_anew(offered, tmp_path):
    """As older ones do not."""
    assert offered()[0].exit_code == 0
    for sidecar in (tmp_path / "pairs").rglob("sub-*.json"):
        text = json.loads(sidecar.read_text())
        del text["Simulation"]["VolumeSHA256"]
        sidecar.write_text(json.dumps(text))
    done, _ = offered(lambda data: data[::-1].copy())
    assert "1 written, 0 kept" in done.output


@pytest.fixture
def offered(volume, tmp_path, monkeypatch):
    """Run the command on that head, changed as asked for; its result and what it wrote."""
    monkeypatch.setattr(volumes.simulate_from_volume, "__defaults__", ("T1w", FIELD, False, None))
    given, out = tmp_path / "head.nii.gz", tmp_path / "pairs"
    app = typer.Typer()
    app.command()(command)

    def run(change=lambda data: data, sidecar="{}"):
        nib.save(nib.Nifti1Image(change(volume.data), volume.affine), given)
        (tmp_path / "head.json").write_text(sidecar)
        asked = ["--from", "volumes", "--volumes", str(given), "--out", str(out), "--draws", "1"]
        return CliRunner().invoke(app, asked), [p.name for p in out.rglob("*.nii.gz")]

    return run


@pytest.mark.parametrize("tesla", ["1.5", "3"])
def test_a_high_field_scan_passes_without_a_word(offered, tesla):
    done, written = offered(sidecar=f'{{"MagneticFieldStrength": {tesla}}}')
    assert (done.exit_code, len(written)) == (0, 2), done.output
    assert "warning" not in done.stderr


def test_a_scan_as_blurred_as_a_portable_scanners_is_warned_of(offered):
    done, written = offered(lambda data: ndi.gaussian_filter(data, 2.5))
    assert (done.exit_code, len(written)) == (0, 2), done.output
    assert done.stderr.count("warning") == 1
    assert "head.nii.gz: as blurred as a 64 mT scan" in done.stderr
    assert "warning" not in offered(lambda data: ndi.gaussian_filter(data, 2.5))[0].stderr  # kept


def test_a_scan_of_a_portable_scanner_by_its_sidecar_is_refused(offered):
    done, written = offered(sidecar='{"MagneticFieldStrength": 0.064}')
    assert isinstance(done.exception, BadInput)
    assert "high-field volume, got one acquired at 0.064 T" in str(done.exception)
    assert written == []


def test_a_volume_that_looks_like_another_contrast_is_warned_of(offered, monkeypatch):
    margins = {"T1w": -300.0, "T2w": 300.0, "FLAIR": -400.0}
    monkeypatch.setattr(looks, "recognise", lambda *_: Recognition(1, None, None, "T2w", margins))
    assert "taken for T1w, looks like T2w" in offered()[0].stderr


@pytest.mark.parametrize("order", [(True, False), (False, True), (True, False, True)])
def test_a_data_set_credits_all_that_was_put_into_it(tmp_path, order):
    for from_labels in order:
        write_description(tmp_path, from_labels)
    described = json.loads((tmp_path / "dataset_description.json").read_text())
    assert described["Acknowledgements"] == f"{OF_LABELS} {OF_VOLUMES}"
    assert "License" not in described  # that of the label maps is not the volumes'


@pytest.mark.parametrize("license_", ["CC-BY-NC-4.0", "Apache-2.0"])
def test_a_data_set_of_others_keeps_its_name_and_credits(tmp_path, license_):
    """Who trains on it must still learn whose heads these are."""
    clinic = {"Name": "Our clinic", "License": license_, "Authors": ["A"], "Acknowledgements": "B."}
    path = tmp_path / "dataset_description.json"
    path.write_text(json.dumps(clinic))
    for _ in range(2):
        write_description(tmp_path, True)
        registration_report.write_description(tmp_path / "raw", tmp_path)
    described = json.loads(path.read_text())
    assert (described["Name"], described["Authors"]) == ("Our clinic", ["A"])
    assert described["Acknowledgements"] == f"B. {OF_LABELS}"
    assert "License" not in described  # of `raw` nobody knows one
    made = [one["Name"] for one in described["GeneratedBy"]]
    assert sorted(made) == ["lohi-export register", "lohi-export simulate"]


def test_a_licence_stays_where_it_is_that_of_both(tmp_path):
    path = tmp_path / "dataset_description.json"
    for theirs in ("CC-BY-NC-4.0", "Apache-2.0"):
        path.write_text(json.dumps({"Name": "x", "License": theirs}))
        write_description(tmp_path, True)
        assert json.loads(path.read_text()).get("License") in (None, "Apache-2.0")
    assert json.loads(path.read_text())["License"] == "Apache-2.0"


def test_refuses_two_volumes_of_one_name_none_and_mixed_sources(tmp_path):
    for name in ("a-b.nii", "ab.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="one volume a subject"):
        plan.plan_volumes(tmp_path, tmp_path, 1, 0, "T1w")
    with pytest.raises(UsageError, match="NIfTI"):
        plan.plan_volumes(tmp_path / "none", tmp_path, 1, 0, "T1w")
    app = typer.Typer()
    app.command()(command)
    arguments = ["--from", "volumes", "--out", str(tmp_path)]
    with pytest.raises(UsageError, match="--from volumes with --volumes PATH"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
