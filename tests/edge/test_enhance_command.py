"""`lohi-edge enhance` as a user runs it: one file or many, exit codes, a full disk, help."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_series import SMALL, save, slices
from lohi_edge.cli import app, run_app
from lohi_edge.errors import BadInput, BundleError
from lohi_edge.files import sha256


def run(*args):
    """`lohi-edge ...` in a process of its own, as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "lohi_edge", *map(str, args)], capture_output=True, text=True
    )


def exit_code(*args):
    """As `run`, in this process."""
    with pytest.raises(SystemExit) as ended:
        run_app(lambda: app([*map(str, args)]))
    return ended.value.code


def receipt(path):
    return json.loads(path.read_text())["LohiEdge"]


def test_of_several_scans_every_error_names_its_own(write_scan, identity_bundle, tmp_path, capsys):
    """Also what is found out after the file was read, where nothing knows its name."""
    wide = np.zeros((120, 60, 20), np.int16)
    wide[5:-5, 5:-5, 5:-5] = np.arange(50)[None, :, None] + 100
    scans = write_scan("a/a_T1w.nii.gz", wide), write_scan("b/b_T1w.nii.gz", wide)
    series = save(tmp_path / "series", slices(wide, (2.8, 2.8), 9.0))
    words = ("--bundle", identity_bundle, "--contrast", "T1w", "-o", tmp_path / "out")
    assert exit_code("enhance", *scans, series, *words) == 3
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    for path, error in zip((*scans, series), errors, strict=True):
        assert error.startswith(f"error: {path}: ")
        assert ": expected a head of at most 192 x 240 mm" in error
        assert error.count(str(path)) == 1


@pytest.mark.parametrize("words", [("explain", "nowhere"), ("bundle", "show", "nowhere")])
def test_an_error_is_json_too_where_json_was_asked_for(words):
    done = run(*words, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == told["exit_code"] > 1
    assert done.stderr == f"error: {told['error']}\n"
    assert run(*words).stdout == ""


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


def test_dicom_beside_nifti_is_said_to_be_skipped(write_scan, identity_bundle, tmp_path):
    write_scan("in/a.nii.gz")
    save(tmp_path / "in", slices(SMALL))
    done = run("enhance", tmp_path / "in", "-o", tmp_path / "o", "--bundle", identity_bundle)
    assert done.returncode == 0
    assert "skipped 5 DICOM or zip files beside NIfTI files" in done.stderr
    assert (tmp_path / "o" / "a_desc-synthetic.nii.gz").is_file()


def test_folder_with_one_bad_file_does_the_others_and_says_so(
    write_scan, identity_bundle, tmp_path, capsys
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
    assert exit_code("enhance", tmp_path / "in", "-o", out, "--bundle", identity_bundle) == 3
    assert capsys.readouterr().out.count("done before") == 2


def test_exit_codes(write_scan, identity_bundle, tmp_path):
    scan = write_scan("a.nii")
    broken = tmp_path / "broken"
    broken.mkdir()
    assert exit_code("enhance", tmp_path / "missing.nii", "--bundle", identity_bundle) == 3
    assert exit_code("enhance", scan, "--bundle", broken) == 5
    assert exit_code("enhance", scan, "--contrast", "PD") == 2
    assert exit_code("enhance", scan, "-o", tmp_path / "x.nii.gz") == 2
    assert exit_code("enhance") == 2
    wall = tmp_path / "wall"
    wall.write_text("a file where a folder is wanted")
    assert exit_code("enhance", scan, "-o", wall / "o", "--bundle", identity_bundle) == 6
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
