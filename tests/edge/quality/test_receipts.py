"""What is made of a receipt: explain, reproduce and the report, end to end on a phantom."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest

from dicom_series import save, slices
from helpers import move_qform, small_head
from lohi_edge import delivery, provenance, report
from lohi_edge.errors import BadInput
from lohi_edge.models import Models
from lohi_edge.pipeline import enhance
from lohi_edge.quality import drift


def test_the_receipt_holds_every_metric(done):
    assert done.receipt["verdict"] == "pass"
    assert {"value", "unit", "better", "status"} <= done.receipt["metrics"]["scan"]["noise"].keys()
    assert done.receipt["metrics"]["result"]["consistency"]["value"] > 0.5


def test_explain_checks_the_hashes_again(done, identity_bundle):
    found = provenance.explain(done.path, identity_bundle)
    assert set(found["checks"].values()) == {"ok"}
    done.path.write_bytes(done.path.read_bytes() + b"x")
    assert provenance.explain(done.path, identity_bundle)["checks"]["result"] == "changed"
    done.path.unlink()
    assert provenance.explain(done.path, identity_bundle)["checks"]["result"] == "missing"


def test_reproduce_is_bit_exact_here(done, identity_bundle):
    found = provenance.reproduce(done.path, identity_bundle)
    assert found["identical"] is True
    assert all(found["same"].values())


def test_reproduce_runs_what_ran_and_believes_what_was_believed(
    write_scan, identity_bundle, tmp_path
):
    scan = write_scan("scan_T1w.nii.gz")
    move_qform(scan)
    bundle = Models(identity_bundle, runtime="onnxruntime")
    made = enhance(scan, out=tmp_path / "out", bundle=bundle, prefer="qform")
    found = provenance.reproduce(made.path, identity_bundle)
    assert found["identical"] is True
    assert all(found["same"].values())
    assert report.write(delivery.receipt_path(made.path))[1], "images that are there are shown"


def test_reproduce_refuses_a_changed_result(done, identity_bundle):
    done.path.write_bytes(b"other")
    with pytest.raises(BadInput, match="changed"):
        provenance.reproduce(done.path, identity_bundle)


@pytest.mark.parametrize(
    ("part", "key", "value"), [("contrast", "name", "T9w"), ("result", "grid", "3mm")]
)
def test_reproduce_refuses_a_receipt_that_was_edited(done, identity_bundle, part, key, value):
    """As a scan that cannot be enhanced, not as a mistake in the command."""
    receipt = delivery.receipt_path(done.path)
    record = json.loads(receipt.read_text())
    record["LohiEdge"][part][key] = value
    receipt.write_text(json.dumps(record))
    words = f"{receipt}: expected {part}.{key} to be one of .*, got '{value}': the receipt was"
    with pytest.raises(BadInput, match=words):
        provenance.reproduce(done.path, identity_bundle)


def test_a_name_that_is_no_utf8_is_reported_and_printed(write_scan, identity_bundle, tmp_path):
    """As a share with names in Latin-1 gives them."""
    scan = write_scan(os.fsdecode(b"kr\xe4nk_T1w.nii.gz"))
    made = enhance(scan, out=tmp_path / "out", bundle=identity_bundle)
    words = (sys.executable, "-m", "lohi_edge", "report", made.path)
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(words, env=strict, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"kr\udce4nk_T1w_desc-synthetic_report.html" in done.stdout
    (page,) = made.path.parent.glob("*.html")
    assert r"kr\udce4nk_T1w" in page.read_text("utf-8")


def test_reproduce_says_that_it_is_for_nifti(identity_bundle, tmp_path):
    scan = save(tmp_path / "scan", slices(small_head(), (2.0, 2.0), 2.0))
    made = enhance(scan, out=tmp_path / "out", bundle=identity_bundle, contrast="T1w")
    with pytest.raises(BadInput, match="got that of a DICOM series"):
        provenance.reproduce(made.path, identity_bundle)


@pytest.mark.parametrize("value", [None, "x", [1], 7])
@pytest.mark.parametrize(
    "where",
    [
        ("bundle",),
        ("bundle", "sha256"),
        ("onnx",),
        ("onnx", "file"),
        ("verdict",),
        ("reasons",),
        ("metrics",),
        ("metrics", "scan"),
        ("metrics", "scan", "noise"),
        ("metrics", "scan", "noise", "limits"),
        ("metrics", "scan", "noise", "value"),
    ],
    ids=".".join,
)
def test_a_receipt_edited_by_hand_is_read_or_refused(edited, where, value):
    beside, content, bundle = edited
    content = json.loads(content)
    inner = content["LohiEdge"]
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    beside.write_text(json.dumps(content))
    for read in (report.write, lambda path: provenance.explain(path, bundle)):
        with contextlib.suppress(BadInput):
            read(beside)
    report.page_path(beside).unlink(missing_ok=True)  # it would stand in the way of the next
    found = drift.drift(25 * drift.receipts([beside.parent], print))
    json.dumps(found, allow_nan=False)


def edit(text, path, value):
    """The text of a receipt in which the field at a dotted `path` is the JSON text `value`."""
    content = json.loads(text)
    inner = content["LohiEdge"]
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for key in parents:
        inner = inner[key]
    inner[last] = "VALUE"
    return json.dumps(content).replace('"VALUE"', value)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + 400 * "0", "1e101", "NaN"])
@pytest.mark.parametrize(
    "where", ["metrics.scan.noise.value", "metrics.scan.noise.limits", "timings.total"]
)
def test_a_receipt_with_a_number_that_nothing_measures_is_none(edited, where, number):
    beside, text, bundle = edited
    if where.endswith("limits"):
        number = f'{{"warn": [null, {number}]}}'
    beside.write_text(edit(text, where, number))
    for read in (report.write, lambda path: provenance.explain(path, bundle)):
        with pytest.raises(BadInput, match="got another file, or a receipt that was edited"):
            read(beside)
    assert drift.receipts([beside.parent], print) == []


@pytest.mark.parametrize("name", ["..", ".", "", "/etc/hostname", "a/b.nii.gz", "a\\u0000b"])
def test_a_result_that_is_not_beside_its_receipt_is_refused(edited, name):
    beside, text, bundle = edited
    beside.write_text(edit(text, "result.path", f'"{name}"'))
    with pytest.raises(BadInput, match="got another file, or a receipt that was edited"):
        provenance.explain(beside, bundle)


def test_a_folder_is_no_nifti_result(edited):
    beside, text, bundle = edited
    beside.write_text(edit(text, "result.path", '"folder"'))
    (beside.parent / "folder").mkdir()
    assert provenance.explain(beside, bundle)["checks"]["result"] == "missing"


def test_a_receipt_of_a_later_version_asks_for_it(edited, tmp_path):
    _, text, bundle = edited
    beside = tmp_path / "scan_desc-synthetic.json"
    beside.write_text(edit(text, "schema", "99"))
    for read in (
        report.write,
        lambda path: provenance.explain(path, bundle),
        lambda path: provenance.reproduce(path, bundle),
        lambda path: provenance.explain(path.parent, bundle),
    ):
        words = f"{beside}: expected a receipt of schema at most 1, got 99: update lohi-edge"
        with pytest.raises(BadInput, match=words):
            read(beside)


@pytest.mark.parametrize(
    ("where", "value"),
    [("schema", "0"), ("schema", '"1"'), ("schema", "true"), ("runtime", "null")],
)
def test_a_receipt_that_no_version_wrote_is_none(edited, where, value):
    beside, text, bundle = edited
    beside.write_text(edit(text, where, value))
    with pytest.raises(BadInput, match="got another file, or a receipt that was edited"):
        provenance.explain(beside, bundle)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"LohiEdge": {"source": 1}}'])
def test_not_a_receipt_is_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(BadInput, match="receipt"):
        report.write(path)
