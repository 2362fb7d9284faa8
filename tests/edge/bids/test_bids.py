"""A BIDS data set in, a valid derivative data set out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers import head_phantom
from lohi_edge import bids
from lohi_edge.errors import BadInput, UsageError


@pytest.fixture
def raw(tmp_path):
    """A raw data set: one T1w with and one without a session, and a scan no model is for."""
    root = tmp_path / "raw"
    image = nib.Nifti1Image(head_phantom().astype(np.int16), np.diag([2.8, 2.8, 9.0, 1.0]))
    for name in (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_PDw.nii.gz",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, root / name)
    description = {"Name": "raw", "BIDSVersion": "1.8.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "README").write_text("A made-up data set, for tests.\n" * 10)
    return root


def test_a_derivative_data_set_with_sources_as_uris(raw, tmp_path, identity_bundle):
    out = tmp_path / "derivatives"
    outcomes = list(bids.run(raw, out, lambda scan: None, bundle=identity_bundle))
    assert [outcome.error for outcome in outcomes] == [None, None]
    image = out / "sub-02/ses-a/anat/sub-02_ses-a_run-1_desc-synthetic_T1w.nii.gz"
    assert image.is_file()
    sidecar = json.loads(image.with_name(image.name[:-7] + ".json").read_text())
    assert sidecar["Sources"] == ["bids:raw:sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz"]
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert (out / description["DatasetLinks"]["raw"]).resolve() == raw.resolve()
    assert description["GeneratedBy"][0]["Name"] == "lohi-edge"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    list(bids.run(raw, out, lambda scan: None, bundle=identity_bundle))
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    # The schema-based validator (PyPI's bids-validator-deno); npm's last one knows raw data only.
    beside = Path(sys.executable).parent
    validator = shutil.which("bids-validator-deno", path=f"{beside}:{os.environ['PATH']}")
    if not validator:
        pytest.skip("bids-validator-deno is not installed: the data set was not validated")
    checked = subprocess.run([validator, "--json", str(out)], capture_output=True, text=True)
    issues = json.loads(checked.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


@pytest.mark.parametrize("within", [".", "sub-01", "sub-01/anat", "sub-new/out", "link"])
def test_a_raw_data_set_takes_no_results(raw, identity_bundle, within):
    (raw / "link").symlink_to(raw / "sub-01")
    before = sorted(raw.rglob("*"))
    with pytest.raises(UsageError, match="derivatives"):
        list(bids.run(raw, raw / within, lambda scan: None, bundle=identity_bundle))
    assert sorted(raw.rglob("*")) == before


def test_derivatives_may_lie_in_the_raw_data_set(raw, identity_bundle):
    out = raw / "derivatives" / "lohi"
    outcomes = list(bids.run(raw, out, lambda scan: None, bundle=identity_bundle))
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert bids.scans(raw) == [outcome.scan for outcome in outcomes]


def test_refuses_what_is_no_bids_data_set(raw, tmp_path):
    with pytest.raises(BadInput, match="no dataset_description"):
        bids.scans(tmp_path)
    shutil.rmtree(raw / "sub-01")
    shutil.rmtree(raw / "sub-02")
    with pytest.raises(BadInput, match="found none"):
        bids.scans(raw)
