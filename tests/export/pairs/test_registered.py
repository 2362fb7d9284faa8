"""Checking and registering a data set on disk, by command."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import Result

from lohi_edge import nifti
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.volume import Volume
from lohi_export import session
from lohi_export.dataset import find_pairs
from lohi_export.pairs import registered
from lohi_export.pairs.files import nifti_bytes
from lohi_export.pairs.matching import survey
from lohi_export.pairs.ranges import ranges_for
from lohi_export.pairs.scans import Override
from lohi_export.pairs.simulate import simulate_pair

Invoke = Callable[..., Result]
LOW = "sub-{0}/ses-HFC/anat/sub-{0}_ses-HFC_acq-axi_T2w.nii.gz"
HIGH = "sub-{0}/ses-GE/anat/sub-{0}_ses-GE_acq-MPRAGE_T2w.nii.gz"
FIELDS = ("--low", "ses-HFC", "--high", "ses-GE")


def put(path: Path, volume: Volume) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(nifti_bytes(volume, "test"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory, lopsided: np.ndarray) -> Path:
    """A: a pair in two frames. B: a 3 T file that is none. C: no 3 T scan."""
    root = tmp_path_factory.mktemp("raw")
    pair = simulate_pair(
        lopsided, np.eye(4), 3, ranges_for("T2w"), "T2w", field_of_view=(132, 156, 130)
    )
    affine = pair.high.affine.copy()
    affine[:3, 3] += (9, -14, 21)
    put(root / LOW.format("A"), pair.low)
    put(root / HIGH.format("A"), Volume(pair.high.data, affine))
    put(root / LOW.format("B"), pair.low.with_data(pair.low.data[::-1]))
    (root / HIGH.format("B")).parent.mkdir(parents=True)
    (root / HIGH.format("B")).write_bytes(b"no scan")
    put(root / LOW.format("C"), pair.low.with_data(pair.low.data * 2))
    (root / "dataset_description.json").write_text('{"Name": "Study", "License": "CC0"}')
    return root


def tree(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }


def test_register_writes_a_data_set_that_trains_and_names_what_failed(
    raw: Path, tmp_path: Path, invoke: Invoke
) -> None:
    before, out = tree(raw), tmp_path / "out"
    result = invoke("register", raw, "--out", out, *FIELDS)
    assert isinstance(result.exception, BadInput)
    assert "1 registered, 0 kept, 1 failed" in result.output
    assert "sub-B_ses-HFC_acq-axi_T2w failed" in result.output
    assert "sub-C_ses-HFC_acq-axi_T2w.nii.gz: has no partner" in result.output
    assert tree(raw) == before

    (pair,) = find_pairs(out, "T2w")
    low, high = nifti.read(pair.low), nifti.read(pair.high)
    np.testing.assert_allclose(high.affine, low.isotropic().affine, atol=1e-4)
    assert pair.low.read_bytes() == (raw / LOW.format("A")).read_bytes()
    assert pair.high.name == "sub-A_ses-GE_acq-MPRAGE_space-64mTHFCaxi_T2w.nii.gz"

    stated = json.loads(pair.high.with_name(nifti.stem(pair.high) + ".json").read_text())
    assert stated["Sources"] == [f"bids:raw:{name.format('A')}" for name in (HIGH, LOW)]
    assert stated["MagneticFieldStrength"] == 3.0
    shift = np.array(stated["Registration"]["Matrix"])[:3, 3]
    np.testing.assert_allclose(shift, (9, -14, 21), atol=3)
    files = tree(out)
    assert sum(name.endswith("_from-3T_to-64mT_mode-image_desc-T2w_xfm.txt") for name in files) == 1
    picture = out / "sub-A/figures/sub-A_ses-HFC_acq-axi_desc-registration_T2w.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "lohi-export register"
    assert described["License"] == "CC0"
    rows = list(csv.DictReader((out / "registration.csv").read_text().splitlines()))
    assert [(row["pair"][4], row["status"]) for row in rows] == [
        ("A", "registered"),
        ("B", "failed"),
    ]
    assert 0 <= float(rows[0]["residual_mm"]) < 2
    assert "not a NIfTI file" in rows[1]["problems"]

    # The same again keeps the voxels and tries the rest.
    again = invoke("register", raw, "--out", out, *FIELDS)
    assert "0 registered, 1 kept, 1 failed" in again.output
    same = {k for k in files if not k.startswith("registration.")}
    assert {k: v for k, v in tree(out).items() if k in same} == {k: files[k] for k in same}

    # A damaged result is no result; a failure leaves none of an earlier success behind.
    pair.high.write_bytes(pair.high.read_bytes()[:-9])
    jobs, _ = registered.plan(raw, out, "rigid", Override(("ses-HFC",), ("ses-GE",)))
    assert registered._done(jobs[0], registered._identity(jobs[0])) == {}
    registered._discard(jobs[0])
    assert not survey(out).pairs


def test_pairs_that_lost_their_raw_scans_keep_their_rows(
    raw: Path, tmp_path: Path, invoke: Invoke
) -> None:
    data, out = tmp_path / "raw", tmp_path / "out"
    for subject in ("A", "D"):
        for name in (LOW, HIGH):
            (data / name.format(subject)).parent.mkdir(parents=True)
            volume = nifti.read(raw / name.format("A"))
            put(data / name.format(subject), volume.with_data(volume.data * ord(subject)))

    def rows() -> dict[str, tuple[str, str]]:
        table = csv.DictReader((out / "registration.csv").read_text().splitlines())
        return {row["pair"][4]: (row["status"], row["transform"]) for row in table}

    assert invoke("register", data, "--out", out, *FIELDS).exit_code == 0
    before = json.loads((out / "registration.json").read_text())
    (data / HIGH.format("A")).unlink()
    done = invoke("register", data, "--out", out, "--transform", "affine", *FIELDS)
    assert done.exit_code == 0, done.output
    assert f"sub-A_ses-HFC_acq-axi_T2w stays in {out}, has no pair" in done.stderr
    assert "sub-D_ses-HFC_acq-axi_T2w was rigid, done anew as affine" in done.stderr
    assert rows() == {"A": ("kept", "rigid"), "D": ("registered", "affine")}
    kept = json.loads((out / "registration.json").read_text())[0]
    assert kept == before[0] | {"status": "kept"}
    assert (out / kept["picture"]).is_file()

    again = invoke("register", data, "--out", out, "--transform", "affine", *FIELDS)
    assert "done anew" not in again.stderr
    assert rows() == {"A": ("kept", "rigid"), "D": ("kept", "affine")}


def test_a_scan_that_two_subjects_share_is_not_registered(raw: Path, tmp_path: Path) -> None:
    data = tmp_path / "raw"
    shutil.copytree(raw, data)
    for name in (LOW, HIGH):
        (data / name.format("D")).parent.mkdir(parents=True)
        shutil.copy(data / name.format("A"), data / name.format("D"))
    with pytest.raises(BadInput, match=r"sub-D.*same bytes as a scan of sub-A") as refused:
        registered.plan(data, tmp_path / "out", "rigid", Override(("ses-HFC",), ("ses-GE",)))
    assert str(refused.value).count("\n") == 2
    assert not (tmp_path / "out").exists()


def test_register_leaves_the_raw_data_alone(raw: Path) -> None:
    with pytest.raises(UsageError, match="another folder"):
        registered.plan(raw, raw, "rigid", Override())
    with pytest.raises(UsageError, match="rigid, affine"):
        registered.plan(raw, raw / "x", "elastic", Override())
    with pytest.raises(BadInput, match="neither MagneticFieldStrength nor its name"):
        registered.plan(raw, raw / "x", "rigid", Override())


def kinds(result: Result) -> set[tuple[str, str]]:
    return {
        (f["where"].rsplit("/", 1)[-1], f["kind"]) for f in json.loads(result.stdout)["findings"]
    }


def test_check_data_names_everything_at_once(raw: Path, invoke: Invoke) -> None:
    found = invoke("check-data", raw, *FIELDS, "--json")
    assert found.exit_code == 3
    assert kinds(found) == {
        (Path(HIGH.format("A")).name, "grid"),
        (Path(HIGH.format("B")).name, "unreadable"),
        (Path(LOW.format("C")).name, "partner"),
        (".", "subjects"),
    }
    assert "grid" not in {
        kind for _, kind in kinds(invoke("check-data", raw, *FIELDS, "--raw", "--json"))
    }


def test_check_data_passes_a_good_data_set(toy: Path, invoke: Invoke) -> None:
    found = invoke("check-data", toy)
    assert found.exit_code == 0, found.output
    assert "subjects: 4 with T1w; usable" in found.stdout
    assert found.stdout.count("agree") == 4


@pytest.fixture
def bad(toy: Path, tmp_path: Path) -> Path:
    """The toy, with a NaN, a copied scan, a lying sidecar and a moved head."""
    for subject in toy.glob("sub-*"):
        for file in subject.rglob("*.nii.gz"):
            copy = tmp_path / file.relative_to(toy)
            copy.parent.mkdir(parents=True)
            copy.write_bytes(file.read_bytes())
    low = "sub-{0}/ses-64mT/anat/sub-{0}_ses-64mT_run-01_T1w.nii.gz"
    high = "sub-{0}/ses-3T/anat/sub-{0}_ses-3T_run-01_T1w.nii.gz"
    image = nib.load(tmp_path / low.format("01"))
    data = image.get_fdata().astype(np.float32)
    data[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine), tmp_path / low.format("01"))
    (tmp_path / high.format("02")).write_bytes((tmp_path / high.format("03")).read_bytes())
    sidecar = tmp_path / high.format("03").replace(".nii.gz", ".json")
    sidecar.write_text('{"SeriesDescription": "t2_tse_ax"}')
    return tmp_path


def test_nan_copies_and_contradictions_are_named(bad: Path, invoke: Invoke) -> None:
    found = invoke("check-data", bad, "--json")
    assert found.exit_code == 3
    assert {
        ("sub-01_ses-64mT_run-01_T1w.nii.gz", "unreadable"),
        ("sub-03_ses-3T_run-01_T1w.nii.gz", "duplicate"),
        ("sub-03_ses-3T_run-01_T1w.nii.gz", "contrast"),
    } <= kinds(found)
    assert "NaN" in found.stdout


def test_training_names_every_bad_pair_and_who_is_left_out(
    bad: Path, toy_options: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    low = bad / "sub-03/ses-64mT/anat/sub-03_ses-64mT_run-01_T1w.nii.gz"
    low.write_bytes(b"no scan")
    (bad / "sub-04/ses-3T/anat/sub-04_ses-3T_run-01_T1w.nii.gz").unlink()
    with pytest.raises(BadInput, match=r"named T1w, but SeriesDescription .* says T2w"):
        session.prepare(bad, bad / "run", toy_options, 1, None, None, None)
    (bad / "sub-03/ses-3T/anat/sub-03_ses-3T_run-01_T1w.json").unlink()
    with pytest.raises(BadInput, match="the data set cannot be used") as refused:
        session.prepare(bad, bad / "run", toy_options, 1, None, None, None)
    assert str(refused.value).count("\n") == 3
    for problem in (
        "sub-01_ses-64mT_run-01_T1w.nii.gz: ",
        "sub-03_ses-64mT_run-01_T1w.nii.gz: ",
        "sub-03_ses-3T_run-01_T1w.nii.gz: the same bytes as a scan of sub-02",
    ):
        assert problem in str(refused.value)
    said = capsys.readouterr().err
    assert "sub-04_ses-64mT_run-01_T1w.nii.gz: has no partner: left out" in said
    assert "test subjects without a pair in the data set: 04" in said
    assert not (bad / "run").exists()


def test_training_warns_of_heads_that_lie_apart(
    toy: Path, toy_options: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in toy.glob("sub-*/**/*.nii.gz"):
        copy = tmp_path / file.relative_to(toy)
        copy.parent.mkdir(parents=True)
        image = nib.load(file)
        data = np.asarray(image.dataobj)
        if "sub-02_ses-3T" in file.name:
            data = np.roll(data, 4, axis=0)
        nib.save(nib.Nifti1Image(data, image.affine), copy)
    session.prepare(tmp_path, tmp_path / "run", toy_options, 1, None, None, None)
    said = capsys.readouterr().err
    assert "warning: sub-02_run-01: the heads seem to lie" in said
    assert said.count("warning") == 1
