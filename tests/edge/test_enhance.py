"""The whole path on an identity generator: what comes out is the input, moved and scaled."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import lohi_edge
from helpers import head_phantom
from lohi_edge import nifti
from lohi_edge.cli import app
from lohi_edge.errors import BadInput, BundleError, DiskError, UsageError
from lohi_edge.files import sha256
from lohi_edge.volume import Volume


def run(*args):
    """`lohi-edge ...` in a process of its own, as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "lohi_edge", *map(str, args)], capture_output=True, text=True
    )


def receipt(path):
    return json.loads(path.read_text())["LohiEdge"]


@pytest.fixture
def scan(write_scan):
    return write_scan("sub-01_T1w.nii.gz")


def test_image_and_receipt_agree(scan, identity_bundle, tmp_path):
    out = tmp_path / "out"
    done = run("enhance", scan, "-o", out, "--bundle", identity_bundle, "--threads", 1)
    assert done.returncode == 0, done.stderr
    image = out / "sub-01_desc-synthetic_T1w.nii.gz"
    assert sorted(p.name for p in out.iterdir()) == [
        "sub-01_desc-synthetic_T1w.json",
        image.name,
    ]
    record = receipt(out / "sub-01_desc-synthetic_T1w.json")
    loaded = nib.load(image)
    assert record["source"]["sha256"] == sha256(scan.read_bytes())
    assert (out / record["source"]["path"]).resolve() == scan.resolve()
    assert record["result"]["sha256"] == sha256(image.read_bytes())
    assert record["result"]["shape"] == list(loaded.shape) == [168, 196, 144]
    assert np.allclose(record["result"]["affine"], loaded.affine)
    assert record["synthetic"] is True
    assert record["intended_use"] == "research use only"
    assert record["contrast"]["rule"].startswith("BIDS suffix")
    assert record["runtime"]["threads"] == 1
    phases = {"read", "validate", "prepare", "infer", "restore", "quality", "write", "total"}
    assert phases == set(record["timings"])
    assert bytes(loaded.header["descrip"].item()).startswith(b"SYNTHETIC")
    assert "SYNTHETIC" in done.stdout


def test_intensities_are_the_scans_own_through_an_identity_generator(scan, identity_bundle):
    """[low, high] -> [-1, 1] -> [0, 1000], nothing else."""
    result = lohi_edge.enhance(scan, bundle=identity_bundle)
    low, high = result.receipt["metrics"]["input_range"]
    fine = nifti.read(scan).isotropic()
    wanted = np.clip((fine.data - low) / (high - low), 0, 1) * 1000
    inside = result.volume.data > 0
    assert np.abs(result.volume.data - wanted)[inside].max() < 0.01
    assert np.array_equal(result.volume.affine, fine.affine)
    assert result.path is None


def test_native_grid_is_the_scans_own(scan, identity_bundle, tmp_path):
    result = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle, grid="native")
    source, out = nib.load(scan), nib.load(result.path)
    assert out.shape == source.shape
    assert np.array_equal(out.affine, source.affine)


def test_same_scan_from_file_and_from_memory(scan, identity_bundle):
    """The API takes what it gave."""
    models = lohi_edge.Models(identity_bundle)
    a = lohi_edge.enhance(scan, bundle=models)
    b = lohi_edge.enhance(nifti.read(scan), bundle=models)
    assert np.array_equal(a.volume.data, b.volume.data)


def test_repeating_does_no_work_twice_and_never_overwrites_another_result(
    scan, identity_bundle, tmp_path, write_scan
):
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    first = lohi_edge.enhance(scan, **options)
    stamp = first.path.stat().st_mtime_ns
    again = lohi_edge.enhance(scan, **options)
    assert again.done_before
    assert first.path.stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(scan, grid="native", **options)
    write_scan("sub-01_T1w.nii.gz", head_phantom(seed=5).astype("i2"))
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(scan, **options)
    other = lohi_edge.enhance(scan, overwrite=True, **options)
    assert other.receipt["source"]["sha256"] != first.receipt["source"]["sha256"]


@pytest.mark.parametrize("damage", ["no receipt", "image altered"])
def test_an_unfinished_or_altered_result_is_not_taken_for_done(
    scan, identity_bundle, tmp_path, damage
):
    options = {"out": tmp_path / "o", "bundle": identity_bundle}
    first = lohi_edge.enhance(scan, **options)
    if damage == "no receipt":
        first.path.with_name("sub-01_desc-synthetic_T1w.json").unlink()
        assert not lohi_edge.enhance(scan, **options).done_before
    else:
        first.path.write_bytes(first.path.read_bytes() + b"x")
        with pytest.raises(UsageError):
            lohi_edge.enhance(scan, **options)


def test_own_results_are_never_enhanced_again(scan, identity_bundle, tmp_path):
    first = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle)
    disguised = first.path.rename(tmp_path / "innocent_T1w.nii.gz")
    with pytest.raises(BadInput, match="synthetic already"):
        lohi_edge.enhance(disguised, bundle=identity_bundle)


@pytest.mark.parametrize("trace", ["name", "sidecar", "memory"])
def test_a_result_is_known_by_its_name_its_receipt_and_its_origin(
    scan, identity_bundle, tmp_path, trace
):
    """Other tools rewrite the header's description."""
    first = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle)
    image = nib.load(first.path)
    image.header["descrip"] = b"FSL6"
    again = first.path
    if trace == "sidecar":
        again = tmp_path / "plain_T1w.nii.gz"
        beside = first.path.with_name("sub-01_desc-synthetic_T1w.json")
        beside.rename(tmp_path / "plain_T1w.json")
    nib.save(image, again)
    with pytest.raises(BadInput, match="synthetic already"):
        lohi_edge.enhance(first.volume if trace == "memory" else again, bundle=identity_bundle)


def test_an_uncertainty_map_is_no_scan(write_scan, identity_bundle):
    with pytest.raises(BadInput, match="synthetic already"):
        lohi_edge.enhance(write_scan("x_desc-uncertainty_T1w.nii.gz"), bundle=identity_bundle)


def test_a_scan_is_never_replaced_by_its_own_result(write_scan, identity_bundle, tmp_path):
    other = write_scan("sub-01_desc-synthetic_T1w.nii.gz")
    before = other.read_bytes()
    with pytest.raises((BadInput, UsageError)):
        lohi_edge.enhance(other, out=tmp_path, bundle=identity_bundle)
    scan = write_scan("sub-01_T1w.nii.gz", head_phantom(seed=3).astype("i2"))
    with pytest.raises(UsageError, match="another result is there"):
        lohi_edge.enhance(scan, out=tmp_path, bundle=identity_bundle)
    assert other.read_bytes() == before


def test_changed_voxels_are_another_scan(scan, identity_bundle, tmp_path):
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    volume = nifti.read(scan)
    lohi_edge.enhance(volume, **options)
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(volume.with_data(volume.data[::-1]), **options)


def test_another_transform_is_another_result(write_scan, identity_bundle, tmp_path):
    scan = write_scan("two.nii")
    image = nib.load(scan)
    moved = image.affine.copy()
    moved[0, 3] += 30
    image.set_sform(image.affine, 1)
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "both.nii")
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    lohi_edge.enhance(tmp_path / "both.nii", prefer="sform", **options)
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(tmp_path / "both.nii", prefer="qform", **options)


def test_the_rule_that_named_the_contrast_does_not_make_another_result(
    scan, identity_bundle, tmp_path
):
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    lohi_edge.enhance(scan, **options)
    assert lohi_edge.enhance(scan, contrast="T1w", **options).done_before


@pytest.mark.parametrize("strength", ["NaN", "1e999", "true", '"3"'])
def test_a_field_strength_that_is_no_number_stays_behind(scan, identity_bundle, tmp_path, strength):
    scan.with_name("sub-01_T1w.json").write_text("{" + f'"MagneticFieldStrength": {strength}' + "}")
    result = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle)
    beside = json.loads(result.path.with_name("sub-01_desc-synthetic_T1w.json").read_text())
    assert "MagneticFieldStrength" not in beside


def test_receipts_name_no_folder_outside_their_own(write_scan, identity_bundle, tmp_path):
    scan = write_scan("DOE_JOHN_1970/scan.nii.gz")
    result = lohi_edge.enhance(scan, out=tmp_path / "out", bundle=identity_bundle)
    assert "DOE" not in result.path.with_name("scan_desc-synthetic.json").read_text()


@pytest.mark.parametrize("source", ["null", "{}", '{"sha256": 1}', "[]"])
def test_a_damaged_receipt_is_in_the_way_and_no_crash(scan, identity_bundle, tmp_path, source):
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    first = lohi_edge.enhance(scan, **options)
    beside = first.path.with_name("sub-01_desc-synthetic_T1w.json")
    record = json.loads(beside.read_text())
    record["LohiEdge"]["source"] = json.loads(source)
    beside.write_text(json.dumps(record))
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(scan, **options)


def test_names_too_long_and_links_in_a_ring_are_bad_input(write_scan, identity_bundle, tmp_path):
    ring = tmp_path / "ring.nii"
    ring.symlink_to(ring)
    long = tmp_path / ("x" * 300 + ".nii")
    empty = tmp_path / "empty"
    empty.mkdir()
    good = write_scan("good.nii")
    out = tmp_path / "o"
    done = run("enhance", ring, long, empty, good, "-o", out, "--bundle", identity_bundle)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 3
    assert (out / "good_desc-synthetic.nii.gz").is_file()


def test_field_strength_stays_the_sources_and_patient_text_stays_behind(
    scan, identity_bundle, tmp_path
):
    scan.with_name("sub-01_T1w.json").write_text(
        json.dumps({"MagneticFieldStrength": 0.064, "PatientName": "DOE^JOHN"})
    )
    result = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle)
    text = result.path.with_name("sub-01_desc-synthetic_T1w.json").read_text()
    assert json.loads(text)["MagneticFieldStrength"] == 0.064
    assert "DOE" not in text


@pytest.mark.parametrize(
    ("name", "sidecar", "asked", "contrast", "rule"),
    [
        ("sub-1_T2w", {}, "T1w", "T1w", "--contrast"),
        ("sub-1_FLAIR", {"ProtocolName": "T1"}, None, "FLAIR", "suffix"),
        ("scan", {"SeriesDescription": "AX T2 FLAIR"}, None, "FLAIR", "SeriesDescription"),
        ("scan", {"ProtocolName": "t2_tse"}, None, "T2w", "ProtocolName"),
        ("scan", {"ProtocolName": "T2*_gre"}, None, "T1w", "assumed"),
        ("scan", {}, None, "T1w", "assumed"),
    ],
)
def test_contrast_rules(name, sidecar, asked, contrast, rule):
    from lohi_edge.contrast import decide

    found, why = decide(asked, name, sidecar)
    assert found == contrast
    assert rule in why


def test_bundle_of_another_contrast_is_refused(write_scan, identity_bundle):
    with pytest.raises(BundleError, match="enhances T1w, the scan is T2w"):
        lohi_edge.enhance(write_scan("sub-1_T2w.nii"), bundle=identity_bundle)


# ---- many files, exit codes ----------------------------------------------------------------------


def test_folder_with_one_bad_file_does_the_others_and_says_so(
    write_scan, identity_bundle, tmp_path
):
    write_scan("in/a.nii.gz")
    write_scan("in/c.nii.gz")
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"junk")
    (tmp_path / "in" / "readme.txt").write_text("not a scan")
    out = tmp_path / "out"
    done = run("enhance", tmp_path / "in", "-o", out, "--bundle", identity_bundle, "--json")
    assert done.returncode == 3
    assert "b.nii.gz" in done.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        f"{stem}_desc-synthetic.{suffix}" for stem in "ac" for suffix in ("json", "nii.gz")
    ]
    entries = json.loads(done.stdout)
    assert [entry["source"]["path"] is not None for entry in entries] == [True] * 3
    assert entries[1]["error"]["exit_code"] == 3
    again = run("enhance", tmp_path / "in", "-o", out, "--bundle", identity_bundle)
    assert again.stdout.count("done before") == 2


def test_exit_codes(write_scan, identity_bundle, tmp_path):
    scan = write_scan("a.nii")
    broken = tmp_path / "broken"
    broken.mkdir()
    assert run("enhance", tmp_path / "missing.nii", "--bundle", identity_bundle).returncode == 3
    assert run("enhance", scan, "--bundle", broken).returncode == 5
    assert run("enhance", scan, "--contrast", "PD").returncode == 2
    assert run("enhance", scan, "-o", tmp_path / "x.nii.gz").returncode == 2
    assert run("enhance").returncode == 2
    wall = tmp_path / "wall"
    wall.write_text("a file where a folder is wanted")
    assert run("enhance", scan, "-o", wall / "o", "--bundle", identity_bundle).returncode == 6
    assert not list(tmp_path.glob("*synthetic*"))


def test_disk_error_outranks_bundle_error_outranks_bad_input():
    from lohi_edge import batch
    from lohi_edge.errors import DiskError, Held

    def code(*errors):
        return batch.exit_code([batch.Outcome(None, None, e("x")) for e in errors])

    assert code(Held, BadInput, BundleError, DiskError) == 6
    assert code(Held, BadInput, BundleError) == 5
    assert code(Held, BadInput) == 3
    assert code(Held) == 4


def test_two_scans_with_one_result_name_are_refused_before_any_work(
    write_scan, identity_bundle, tmp_path
):
    a, b = write_scan("one/s.nii"), write_scan("two/s.nii")
    out = tmp_path / "o"
    done = run("enhance", a, b, "-o", out, "--bundle", identity_bundle)
    assert done.returncode == 2
    assert "would both become" in done.stderr
    assert not out.exists()


def test_a_users_mistake_shows_no_traceback(tmp_path):
    for args in (["enhance", tmp_path / "no.nii"], ["bundle", "show", tmp_path], ["bench", "x"]):
        done = run(*args)
        assert done.returncode in (3, 5)
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") <= 2


def test_full_disk_leaves_no_half_result(scan, identity_bundle, tmp_path):
    """A real full disk: a file system of 1 MB behind /dev/full semantics needs mount rights."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", small], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        done = run("enhance", scan, "-o", small, "--bundle", identity_bundle)
        assert done.returncode == 6
        assert "free some space" in done.stderr
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.fixture
def loaded(identity_bundle):
    models = lohi_edge.Models(identity_bundle)
    models.get("T1w")
    return models


def test_folder_without_permission(loaded, unprivileged):
    source = Volume(head_phantom(), np.diag([2.8, 2.8, 9, 1]))
    locked = unprivileged / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(DiskError, match="permission denied"):
        lohi_edge.enhance(source, out=locked, bundle=loaded)
    assert not list(locked.iterdir())


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom lohi_edge.cli import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'nibabel', 'onnxruntime', 'scipy', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_every_command_explains_itself_with_an_example():
    for command in (["enhance"], ["bench"], ["demo"], ["bundle", "show"], ["bundle", "verify"]):
        done = CliRunner().invoke(app, [*command, "--help"])
        assert done.exit_code == 0
        assert "Example" in done.output


def test_help_tells_the_defaults_that_are_written_in_words():
    done = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "200"})
    assert "[default: the one that ships]" in done.output
