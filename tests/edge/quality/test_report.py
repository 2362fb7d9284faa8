"""The report and the contact sheet, made of a receipt and its images, end to end on a phantom."""

from __future__ import annotations

import base64
import io
import json
import math

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lohi_edge import delivery, nifti, report
from lohi_edge.cli import app
from lohi_edge.errors import BadInput
from lohi_edge.files import sha256
from lohi_edge.picture import STRIP, TILE, marked, planes, views
from lohi_edge.report_images import find_images
from lohi_edge.report_maps import maps
from lohi_edge.spots import places
from lohi_edge.volume import Volume


def test_the_report_is_one_small_page_without_addresses(done):
    page, sheet = report.write(delivery.receipt_path(done.path))
    text = page.read_text()
    assert sheet is not None
    assert sheet.stat().st_size > 1000
    assert len(text) < 3_000_000
    assert "http:" not in text
    assert "https:" not in text
    assert text.index('class="verdict') < text.index("class='figures'") < text.index("<table")


def test_what_the_report_shows_of_a_result_says_so_when_saved_alone(done):
    text = report.write(delivery.receipt_path(done.path))[0].read_text()
    assert "Never use it for diagnosis" in text
    result = find_images(done.path.parent, done.receipt).result
    for plane, cut in zip(("axial", "coronal", "sagittal"), planes(result.data), strict=True):
        data = text.split(f"' alt='{plane} slice of the synthetic result'")[0].rsplit("base64,")[-1]
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert (shown == marked(cut)).all()
        assert (shown != cut).any()


def warned(record, reason):
    """A receipt as it would be had one spot been warned of, for this reason."""
    entry = {"value": 7.0, "unit": "sd", "better": "low", "status": "warn"}
    blob = {"residual_blob": {**entry, "limits": {"warn": [None, 6.5]}}}
    metrics = {**record["metrics"], "result": record["metrics"]["result"] | blob}
    spot = {"name": "residual_blob", "level": "warn", **reason}
    return {**record, "metrics": metrics, "reasons": [spot], "verdict": "warn"}


def test_the_sheet_bears_the_verdict(done):
    receipt = delivery.receipt_path(done.path)
    whole = json.loads(receipt.read_text())
    assert whole["LohiEdge"]["reasons"] == []
    heights = []
    for _ in range(2):
        receipt.write_text(json.dumps(whole))
        with Image.open(report.write(receipt)[1]) as sheet:
            heights.append(sheet.height)
        whole["LohiEdge"] = warned(whole["LohiEdge"], {"text": "a spot near the top"})
    assert heights[1] == heights[0] + STRIP


def test_the_sheet_shows_the_spot_that_is_warned_of_in_a_ring_and_says_what_the_model_gets_wrong(
    done,
):
    receipt = delivery.receipt_path(done.path)
    whole = json.loads(receipt.read_text())
    sheets = []
    at = (nifti.read(done.path).affine @ [30, 40, 30, 1])[:3].tolist()
    spot = {"text": "compare", "at_mm": at}
    plain_record = whole["LohiEdge"]
    spotted = warned(plain_record, spot)
    for record, limits in ((plain_record, None), (spotted, None), (spotted, "Blurs sulci.")):
        whole["LohiEdge"] = {**record, "model_limits": limits}
        receipt.write_text(json.dumps(whole))
        with Image.open(report.write(receipt)[1]) as sheet:
            sheets.append(np.asarray(sheet))
    row = TILE + STRIP
    plain, ringed, stated = sheets
    assert len(ringed) == len(plain) + 2 * row + STRIP  # two rows, one reason
    assert (ringed[: 2 * row] == plain[: 2 * row]).all()
    images = find_images(done.path.parent, json.loads(receipt.read_text())["LohiEdge"])
    for number, volume in ((2, images.fine), (3, images.result)):
        (voxel,) = places({"reasons": [spot]}, volume)
        tile = Image.fromarray(views(volume.data, voxel)[0])
        tile.thumbnail((TILE, TILE))
        left, top = (TILE - tile.width) // 2, number * row + STRIP + (TILE - tile.height) // 2
        shown = ringed[top : top + tile.height, left + 20 : left + tile.width]  # beside the letter
        assert (shown == np.asarray(tile)[:, 20:]).all()
        without = Image.fromarray(planes(volume.data, voxel)[0])
        without.thumbnail((TILE, TILE))
        assert (shown != np.asarray(without)[:, 20:]).sum() > 50  # the ring
    assert len(stated) == len(ringed) + STRIP


@pytest.mark.parametrize(
    "at", ["here", [1, 2], [1, 2, "3"], [1, 2, None], [math.nan, 0, 0], [1e300, 0, 0], [900, 0, 0]]
)
def test_a_place_that_is_none_in_an_edited_receipt_is_left_out(at):
    grid = Volume(np.zeros((50, 60, 40), np.float32), np.eye(4))
    reasons = [{"level": "warn", "text": "", "at_mm": at}, "no reason"]
    assert places({"reasons": reasons}, grid) == []


def test_two_metrics_that_warn_of_one_spot_show_it_once():
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, 3] = -20, -30, 10
    grid = Volume(np.zeros((50, 60, 40), np.float32), affine)
    reasons = [{"at_mm": at} for at in ([0, 0, 30], [4, 0, 33], [0, 20, 30])]
    assert places({"reasons": reasons}, grid) == [(20, 30, 20), (20, 50, 20)]


def test_the_report_shows_where_a_lesion_was_invented(done):
    """Blue is what the result added to the scan."""
    before = centre_of_residual(done)
    image = nib.load(done.path)
    data = np.asarray(image.dataobj, dtype=np.float32)
    data[tuple(slice(n // 2 - 8, n // 2 + 8) for n in data.shape)] += 400
    nib.save(nib.Nifti1Image(data, image.affine), done.path)
    done.receipt["result"]["sha256"] = sha256(done.path.read_bytes())
    red, _, blue = centre_of_residual(done)
    assert blue > 1.5 * red
    assert blue > before[2] + 20


def centre_of_residual(done):
    """Mean colour in the middle of the axial residual map."""
    images = find_images(done.path.parent, done.receipt)
    assert images.notes == ()
    picture = maps(images.scan, images.fine, images.result, None)[1].pictures[0]
    pixels = Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1])))
    x, y = pixels.width // 2, pixels.height // 2
    return np.asarray(pixels, dtype=float)[y - 3 : y + 3, x - 3 : x + 3].mean(axis=(0, 1))


def test_the_report_of_a_deleted_volume_says_so(done):
    done.path.unlink()
    page, sheet = report.write(delivery.receipt_path(done.path))
    assert sheet is None
    assert "The result is not where the receipt says" in page.read_text()


def test_one_receipt_of_no_use_does_not_stop_the_others(done, tmp_path):
    bad, other = tmp_path / "bad.json", tmp_path / "empty"
    bad.write_text("{}")
    other.mkdir()
    words = ["report", str(bad), str(other), str(done.path.parent)]
    asked = CliRunner().invoke(app, words)
    assert asked.exit_code == 3
    page = delivery.receipt_path(done.path).with_name("scan_T1w_desc-synthetic_report.html")
    assert asked.stdout.split() == [str(page), str(page.with_suffix(".png"))]
    first, second = asked.stderr.splitlines()
    assert first.startswith(f"error: {bad}: expected a receipt")
    assert second.startswith(f"error: {other}: expected a folder with one result")


def test_a_page_without_its_scan_says_how_to_name_it(done, tmp_path):
    moved = (tmp_path / "scan_T1w.nii.gz").rename(tmp_path / "moved.nii.gz")
    asked = CliRunner().invoke(app, ["report", str(done.path)])
    page = asked.stdout.strip()
    assert (asked.exit_code, asked.stderr) == (
        0,
        f"{page}: the scan is not where the receipt says: its pictures are missing; say where it "
        "lies with --scan\n",
    )
    asked = CliRunner().invoke(app, ["report", str(done.path), "--scan", str(moved)])
    assert (asked.exit_code, asked.stderr) == (0, "")
    assert len(asked.stdout.split()) == 2


def test_a_page_is_not_replaced_by_one_that_shows_less(done, tmp_path):
    """The daemon's receipts do not say where its inbox lies."""
    receipt = delivery.receipt_path(done.path)
    page, _ = report.write(receipt)
    before = page.read_bytes()
    scan = tmp_path / "scan_T1w.nii.gz"
    moved = scan.rename(tmp_path / "moved.nii.gz")
    with pytest.raises(BadInput, match=r"would show less: the scan is not where the .* --scan"):
        report.write(receipt)
    assert page.read_bytes() == before
    page.unlink()
    again, sheet = report.write(receipt, moved)
    assert sheet is not None
    assert again.read_bytes() == before
    report.write(receipt, moved)  # all is found: a page is made anew


def test_the_report_shows_no_image_under_the_verdict_of_another(done, write_scan):
    write_scan("scan_T1w.nii.gz", nifti.read(done.path).data[::-1].astype(np.int16))
    page, sheet = report.write(delivery.receipt_path(done.path))
    assert sheet is None
    assert "The scan was changed since, or is another" in page.read_text()
    assert "slice of the 64 mT scan" not in page.read_text()


def test_the_report_says_what_the_model_gets_wrong_before_any_figure(edited):
    beside, text, _ = edited
    assert json.loads(text)["LohiEdge"]["model_limits"] is None
    first = report.write(beside)[0]
    assert "known to get wrong" not in first.read_text()
    first.unlink()
    whole = json.loads(text)
    whole["LohiEdge"]["model_limits"] = "Infarcts lose half of their contrast."
    beside.write_text(json.dumps(whole))
    page = report.write(beside)[0].read_text()
    assert page.index('class="verdict') < page.index("Infarcts lose half") < page.index("Metrics<")
    first.unlink()
    beside.write_text(text)


def test_a_verdict_that_was_edited_is_not_shown_as_one(done):
    beside = delivery.receipt_path(done.path)
    whole = json.loads(beside.read_text())
    assert 'class="verdict hold"' not in report.write(beside)[0].read_text()
    was = whole["LohiEdge"]["verdict"]
    whole["LohiEdge"]["verdict"] = "pass" if was == "warn" else "warn"
    beside.write_text(json.dumps(whole))
    told = []
    text = report.write(beside, told=told.append)[0].read_text()
    assert "<title>edited receipt: " in text
    assert 'class="verdict hold" aria-label="Verdict"><strong>edited receipt</strong>' in text
    assert "does not follow from the figures" in text
    assert "was edited" in told[0]


def test_what_a_receipt_says_is_escaped(done):
    path = delivery.receipt_path(done.path)
    whole = json.loads(path.read_text())
    whole["LohiEdge"]["model_limits"] = "<script>alert(2)</script>"
    whole["LohiEdge"]["reasons"] = [{"name": "x", "text": "<script>alert(1)</script>"}]
    whole["LohiEdge"]["metrics"] = {"scan": {"noise": {"value": "<b>", "limits": [1]}}}
    path.write_text(json.dumps(whole))
    text = report.write(path)[0].read_text()
    assert "<script>alert" not in text
    assert "<b>" not in text.replace("<b>note</b>", "")


def test_gauges_show_value_and_range():
    svg = report.gauge({"value": 0.3, "limits": {"warn": [None, 0.2]}})
    assert "good is any to 0.2" in svg
    assert report.gauge({"value": None, "limits": {"warn": [0, 1]}}) == ""
    assert np.isfinite(float(svg.split("class='good'")[0].rsplit("width='", 1)[1].split("'")[0]))


@pytest.mark.parametrize(
    ("value", "warn", "share"), [(0.19, [None, 0.2], 0.95), (0.1, [None, 0.2], 0.5)]
)
def test_gauges_with_one_limit_show_how_much_of_it_is_used_up(value, warn, share):
    """A needle at the same place whatever the value would call 0.19 of 0.2 comfortable."""
    svg = report.gauge({"value": value, "limits": {"warn": warn}})
    stop = float(svg.split("width='")[2].split("'")[0])
    needle = float(svg.rsplit("x='", 1)[1].split("'")[0]) + 0.8
    zero = 100 * 0.2 / 1.4
    assert (needle - zero) / (stop - zero) == pytest.approx(share, abs=0.01)
