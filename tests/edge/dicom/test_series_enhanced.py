"""Series in, derived series out: whole folders, whatever happens, and nobody's name."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest

from dicom_series import enhanced, instances, save, slices
from lohi_edge import delivery, enhance, report
from lohi_edge.dicom.folder import write_folder
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.provenance import explain
from lohi_edge.quality.verdict import shipped
from lohi_edge.volume import Volume


def test_a_repeated_run_leaves_the_result_alone(tmp_path, identity_bundle):
    folder = save(tmp_path / "in", slices())

    def run(**options):
        return enhance(folder, out=tmp_path / "out", bundle=identity_bundle, **options)

    result = run()
    before = {file: file.stat().st_mtime_ns for file in result.path.iterdir()}
    again = run()
    assert again.done_before
    assert {file: file.stat().st_mtime_ns for file in result.path.iterdir()} == before
    with pytest.raises(UsageError, match="another result is there"):
        run(mark=True)
    assert instances(run(mark=True, overwrite=True).path)[0].BurnedInAnnotation == "YES"
    with pytest.raises(BadInput, match="computed by lohi-edge already"):
        enhance(result.path, bundle=identity_bundle)


def test_a_folder_with_other_files_is_not_replaced(tmp_path, derived):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="found other files"):
        derived()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


# Writes a series over itself and dies at the given step: moving the former aside, moving the new
# one into its place, removing the former.
KILLED = """
import os, pathlib, shutil, signal, sys
import pydicom
from lohi_edge.dicom.folder import write_folder
steps = int(sys.argv[2])
def step(real):
    def taken(*arguments, **named):
        global steps
        if not steps:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1
        return real(*arguments, **named)
    return taken
pathlib.Path.replace, shutil.rmtree = step(pathlib.Path.replace), step(shutil.rmtree)
folder = pathlib.Path(sys.argv[1])
write_folder(folder, [pydicom.dcmread(file) for file in sorted(folder.iterdir())])
"""


@pytest.mark.parametrize("step", [0, 1, 2])
def test_what_a_kill_leaves_beside_a_replaced_series_goes_with_the_next_write(derived, step):
    folder, _, _ = derived()
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    again = instances(folder)
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, str(step)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert folder.exists() == (step != 1)
    assert list(folder.parent.glob(".*"))
    with pytest.raises(ValueError, match="encoding"):
        write_folder(folder, [pydicom.Dataset()])
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert not list(folder.parent.glob(".*"))
    write_folder(folder, again)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert not list(folder.parent.glob(".*"))


def test_nothing_of_the_patient_is_in_names_or_receipts(tmp_path, identity_bundle, capfd):
    folder = save(tmp_path / "PLANTED^NAME", slices())
    out = tmp_path / "out"
    result = enhance(folder, out=out, bundle=identity_bundle)
    receipt = result.path.with_suffix(".json")
    assert "PLANTED" not in receipt.read_text()
    assert json.loads(receipt.read_text())["MagneticFieldStrength"] == 0.064
    assert not [path for path in out.rglob("*") if "PLANTED" in path.name]
    assert "PLANTED" not in "".join(capfd.readouterr())
    assert "PLANTED" not in repr(result.volume.origin)


@pytest.mark.parametrize("make", [slices, enhanced])
def test_a_header_that_states_a_high_field_is_warned_of(tmp_path, identity_bundle, make):
    made = {tesla: make(MagneticFieldStrength=tesla) for tesla in ("3", "0.064")}
    name = "field_strength"  # a phantom is held by the other limits that ship
    limits = {"scan": {c: {name: own[name]} for c, own in shipped()["scan"].items()}}
    told = {}
    for tesla, found in made.items():
        folder = save(tmp_path / tesla, found if isinstance(found, list) else [found])
        result = enhance(folder, bundle=identity_bundle, limits=limits)
        told[tesla] = [r for r in result.receipt["reasons"] if r["name"] == name]
    (reason,) = told["3"]
    assert reason["level"] == "warn"
    assert "its header says 3 T" in reason["text"]
    assert told["0.064"] == []


def test_nifti_on_request_and_contrast_by_description(tmp_path, identity_bundle):
    folder = save(tmp_path / "in", slices(SeriesDescription="AX T1 GRE"))
    result = enhance(folder, out=tmp_path / "out", bundle=identity_bundle, format="nifti")
    image = nib.as_closest_canonical(nib.load(result.path))
    np.testing.assert_allclose(image.affine, result.volume.affine, atol=1e-4)
    assert image.header.get_zooms() == (1, 1, 1)
    assert "SeriesDescription" in result.receipt["contrast"]["rule"]
    with pytest.raises(UsageError, match="expected a DICOM series for --format dicom"):
        enhance(Volume(result.volume.data, result.volume.affine), format="dicom")


def test_a_folder_of_series_on_the_command_line(tmp_path, identity_bundle, capsys):
    from lohi_edge.cli import app

    save(tmp_path / "in" / "a", slices(series=1, SeriesDescription="Scout"))
    save(tmp_path / "in" / "b", slices(series=2))
    save(tmp_path / "in" / "c", slices(series=3)[::2] + slices(series=3)[1:2])
    arguments = ["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        app([*arguments, "--bundle", str(identity_bundle)])
    assert ended.value.code == 3  # series 3 has gaps
    said = capsys.readouterr()
    assert "skipped series 1 (16 files): a localizer" in said.err
    assert "slice(s) missing" in said.err
    assert "PLANTED" not in said.out + said.err
    assert [path.name[:9] for path in (tmp_path / "out").iterdir() if path.is_dir()] == [
        "series-2-"
    ]


def test_a_series_that_was_changed_is_changed_and_not_missing(tmp_path, identity_bundle):
    folder = save(tmp_path / "in", slices())
    result = enhance(folder, out=tmp_path / "out", bundle=identity_bundle)

    def source():
        return explain(result.path, identity_bundle, folder)["checks"]["source"]

    assert source() == "ok"
    sorted(folder.iterdir())[3].write_bytes(bytes(100))
    assert source() == "changed"
    folder.rename(tmp_path / "elsewhere")
    assert source() == "missing"


def test_a_page_of_a_series_says_why_it_has_no_pictures(tmp_path, identity_bundle):
    folder = save(tmp_path / "in", slices())
    result = enhance(folder, out=tmp_path / "out", bundle=identity_bundle)
    told = []
    page, sheet = report.write(delivery.receipt_path(result.path), folder, told.append)
    assert sheet is None
    assert [line.removeprefix(f"{page}: ") for line in told] == [
        "the scan is a DICOM series, and pictures are made of NIfTI files alone",
        "the result is a DICOM series, and pictures are made of NIfTI files alone",
    ]
    with pytest.raises(BadInput, match=r"show less: the scan is a DICOM .*; remove that page"):
        report.write(delivery.receipt_path(result.path), folder)
