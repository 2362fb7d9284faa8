"""qc and held results, end to end on a phantom."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_series import ball, localizer, save
from lohi_edge import bundle as bundles
from lohi_edge import nifti
from lohi_edge.cli import app
from lohi_edge.device.library import POINTER, Library
from lohi_edge.device.pointer import Pointer
from lohi_edge.errors import BadInput, BundleError, Held, UsageError
from lohi_edge.files import sha256
from lohi_edge.pipeline import enhance
from lohi_edge.quality import qc

HELD = {"base": "none", "scan": {"T1w": {"slices": {"hold": [1000, None]}}}}


@pytest.fixture
def strict(tmp_path):
    path = tmp_path / "strict.json"
    path.write_text(json.dumps(HELD))
    return path


def test_a_hold_delivers_nothing_unless_asked(write_scan, identity_bundle, tmp_path, strict):
    scan, out = write_scan("scan_T1w.nii.gz"), tmp_path / "out"
    with pytest.raises(Held, match="slices") as error:
        enhance(scan, out=out, bundle=identity_bundle, limits=strict)
    assert error.value.receipt["verdict"] == "hold"
    assert [path.name for path in out.iterdir()] == ["scan_T1w_desc-withheld.json"]
    result = enhance(scan, out=out, bundle=identity_bundle, limits=strict, deliver_held=True)
    assert "HELD" in result.path.name
    assert "HELD" in nifti.read(result.path).origin.header["descrip"].item().decode()
    assert result.receipt["verdict"] == "hold"


def test_a_hold_names_every_reason_to_hold(write_scan, identity_bundle, tmp_path):
    """The first alone may mislead: a high-field scan is "noisy" as well, and none to repeat."""
    limits = tmp_path / "limits.json"
    high = {"hold": [None, 0.0]}
    limits.write_text(
        json.dumps(
            {"scan": {"T1w": {"noise": high, "high_field": high, "zipper": {"warn": [None, -1.0]}}}}
        )
    )
    with pytest.raises(Held, match=r"is noisy: .*; this is as sharp as a high-field scan") as error:
        enhance(write_scan("scan_T1w.nii.gz"), bundle=identity_bundle, limits=limits)
    assert "radio" not in str(error.value)


def test_a_held_result_is_replaced_only_where_asked(write_scan, identity_bundle, tmp_path, strict):
    scan, out = write_scan("scan_T1w.nii.gz"), tmp_path / "out"
    options = {"bundle": identity_bundle, "limits": strict, "deliver_held": True}
    first = enhance(scan, out=out, **options)
    before = first.path.stat().st_mtime_ns
    again = enhance(scan, out=out, **options)
    assert (again.done_before, again.path) == (True, first.path)
    other = write_scan("scan_T1w.nii.gz", nifti.read(scan).data[::-1].astype(np.int16))
    with pytest.raises(UsageError, match="another result is there"):
        enhance(other, out=out, **options)
    assert first.path.stat().st_mtime_ns == before
    replaced = enhance(other, out=out, overwrite=True, **options)
    assert replaced.path == first.path
    assert replaced.receipt["result"]["sha256"] != first.receipt["result"]["sha256"]


def test_a_result_that_passed_other_limits_is_not_taken_for_done(
    write_scan, identity_bundle, tmp_path, strict
):
    scan, out = write_scan("scan_T1w.nii.gz"), tmp_path / "out"
    enhance(scan, out=out, bundle=identity_bundle)
    with pytest.raises(UsageError, match=r"other limits of slices.*--overwrite"):
        enhance(scan, out=out, bundle=identity_bundle, limits=strict)
    with pytest.raises(Held, match=r"an earlier result still stands.*_desc-synthetic\.nii\.gz"):
        enhance(scan, out=out, bundle=identity_bundle, limits=strict, overwrite=True)
    with pytest.raises(Held) as caught:
        enhance(scan, out=tmp_path / "other", bundle=identity_bundle, limits=strict)
    assert "earlier" not in str(caught.value)


@pytest.fixture
def dividing_bundle(identity_bundle, tmp_path):
    """0 / 0 wherever the input is air, 1 elsewhere; no golden slice has air."""
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    shape = ["n", 1, 192, 240]
    ends = [h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("input", "output")]
    nodes = [
        h.make_node("Add", ["input", "one"], ["x"]),
        h.make_node("Div", ["x", "x"], ["output"]),
    ]
    one = onnx.numpy_helper.from_array(np.float32([1]), "one")
    graph = h.make_graph(nodes, "g", ends[:1], ends[1:], [one])
    opset = [h.make_opsetid("", 17)]
    folder = shutil.copytree(identity_bundle, tmp_path / "dividing")
    model = h.make_model(graph, opset_imports=opset, ir_version=9)
    (folder / "fp32.onnx").write_bytes(model.SerializeToString())
    with np.load(folder / "golden.npz") as arrays:
        golden = dict(arrays)
    golden["output"] = np.ones_like(golden["input"])
    np.savez(folder / "golden.npz", **golden)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {n: sha256((folder / n).read_bytes()) for n in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_what_is_no_number_is_never_delivered_and_its_receipt_is_json(
    write_scan, dividing_bundle, tmp_path
):
    scan, out = write_scan("scan_T1w.nii.gz"), tmp_path / "out"
    options = {"bundle": dividing_bundle, "deliver_held": True, "uncertainty": True}
    with pytest.raises(Held, match="not numbers") as error:
        enhance(scan, out=out, **options)
    assert [path.name for path in out.iterdir()] == ["scan_T1w_desc-withheld.json"]
    json.dumps(error.value.receipt, allow_nan=False)


def test_qc_prints_a_verdict_and_exits_with_it(write_scan, strict):
    path = write_scan("scan_T1w.nii.gz")
    run = CliRunner().invoke(app, ["qc", str(path), "--json", "--limits", str(strict)])
    assert run.exit_code == 4
    (found,) = json.loads(run.stdout)
    assert {"metrics", "verdict", "reasons"} <= found.keys()
    free = strict.with_name("free.json")
    free.write_text(json.dumps({"base": "none"}))
    assert CliRunner().invoke(app, ["qc", str(path), "--limits", str(free)]).exit_code == 0
    assert CliRunner().invoke(app, ["qc", str(path.with_name("no.nii"))]).exit_code == 3


def test_qc_holds_what_enhance_would_refuse(write_scan, identity_bundle, strict):
    free = strict.with_name("free.json")
    free.write_text(json.dumps({"base": "none"}))
    path = write_scan("wide_T1w.nii.gz", affine=np.diag([6.0, 2.8, 9.0, 1.0]))
    with pytest.raises(BadInput, match="expected a head of at most") as refused:
        enhance(path, bundle=identity_bundle, limits=free)
    found = qc.check(path, limits=free, bundle=identity_bundle)
    assert found["verdict"] == "hold"
    (reason,) = found["reasons"]
    assert reason["text"].removeprefix("not to be enhanced: ") in str(refused.value)


def test_qc_takes_folders_as_enhance_does(write_scan, tmp_path, strict):
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a_T1w.nii.gz", "b_T1w.nii.gz", "b_desc-synthetic.nii.gz"):
        shutil.copy(write_scan("scan_T1w.nii.gz"), scans / name)
    for series in (1, 2):
        save(tmp_path / "study" / str(series), ball(series))
    save(tmp_path / "study" / "scout", localizer())
    folders = [str(tmp_path / name) for name in ("scans", "study", "none")]
    run = CliRunner().invoke(app, ["qc", *folders, "--json", "--limits", str(strict)])
    names = [record["source"]["path"] for record in json.loads(run.stdout)]
    assert names[:2] == ["a_T1w.nii.gz", "b_T1w.nii.gz"]
    assert [name[:9] for name in names[2:4]] == ["series-1-", "series-2-"]
    assert names[4:] == ["none"]
    assert all("error" not in record for record in json.loads(run.stdout)[:4])
    assert "a localizer" in run.stderr
    assert run.exit_code == 3


def test_qc_judges_by_the_limits_of_the_bundle_that_would_run(write_scan, tmp_path, monkeypatch):
    library = Library(tmp_path / "bundles")
    monkeypatch.setenv("LOHI_EDGE_BUNDLES", str(library.root))
    manifest = bundles.read_manifest(bundles.shipped("T1w"))[0]
    (library.root / "mine").mkdir(parents=True)
    text = json.dumps(replace(manifest, metrics={"quality": HELD}).to_dict())
    (library.root / "mine" / "manifest.json").write_text(text)
    (library.root / POINTER).write_text(Pointer({"T1w": "mine"}).to_json())
    path = write_scan("scan_T1w.nii.gz")
    found = qc.check(path)
    assert [reason["name"] for reason in found["reasons"]] == ["slices"]
    assert found["verdict"] == "hold"
    (library.root / "mine" / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="not JSON"):
        qc.check(path)


def test_qc_judges_as_the_daemon_that_is_configured_here(
    write_scan, strict, identity_bundle, tmp_path, monkeypatch
):
    path, config = write_scan("scan_T1w.nii.gz"), tmp_path / "config.toml"
    monkeypatch.setenv("LOHI_EDGE_CONFIG", str(config))
    config.write_text(f'[enhance]\nbundle = "{identity_bundle}"\nlimits = "{strict}"\n')
    run = CliRunner().invoke(app, ["qc", str(path), "--json"])
    assert run.exit_code == 4
    assert [reason["name"] for reason in json.loads(run.stdout)[0]["reasons"]] == ["slices"]
    assert "judged by enhance.limits" in run.stderr
    free = tmp_path / "free.json"
    free.write_text(json.dumps({"base": "none"}))
    judged = ["qc", str(path), "--limits", str(free)]
    over = CliRunner().invoke(app, judged)
    assert (over.exit_code, over.stderr) == (0, "")
    config.write_text('[enhance]\ncontrast = "T2w"\n')
    for options, contrast in (([], "T2w"), (["--contrast", "T1w"], "T1w")):
        run = CliRunner().invoke(app, ["qc", str(path), "--json", *options])
        assert json.loads(run.stdout)[0]["contrast"]["name"] == contrast
    image = nib.load(path)
    image.set_qform(image.affine @ np.diag([1, 1, 1.5, 1]), code=1)
    nib.save(image, path)
    assert CliRunner().invoke(app, judged).exit_code == 3
    config.write_text('[enhance]\nprefer = "sform"\n')
    assert CliRunner().invoke(app, judged).exit_code == 0
    config.write_text(f'[enhance]\nprefer = "sform"\nbundle = "{tmp_path / "none"}"\n')
    gone = CliRunner().invoke(app, ["qc", str(path)])
    assert isinstance(gone.exception, BundleError)


def test_qc_refuses_a_contrast_that_the_daemon_s_bundle_is_not_made_for(
    write_scan, identity_bundle, tmp_path, monkeypatch
):
    config = tmp_path / "config.toml"
    monkeypatch.setenv("LOHI_EDGE_CONFIG", str(config))
    config.write_text(f'[enhance]\nbundle = "{identity_bundle}"\n')
    scans = [str(write_scan(name)) for name in ("a_T2w.nii.gz", "a_T1w.nii.gz")]
    run = CliRunner().invoke(app, ["qc", *scans, "--json"])
    assert run.exit_code == 5
    refused, judged = json.loads(run.stdout)
    with pytest.raises(BundleError) as error:  # in the words of `enhance`
        enhance(scans[0], bundle=identity_bundle)
    assert refused["error"] == {"exit_code": 5, "message": str(error.value)}
    assert "enhances T1w, the scan is T2w" in str(error.value)
    assert judged["verdict"]


def test_qc_needs_no_bundle(write_scan, monkeypatch, tmp_path):
    monkeypatch.setattr(bundles, "_SHIPPED", tmp_path)
    assert qc.check(write_scan("scan_T1w.nii.gz"))["metrics"]["scan"]["noise"]["limits"]


def test_output_that_a_shell_puts_where_the_sidecar_belongs_surprises_nobody(write_scan):
    """`lohi-edge qc scan_T1w.nii.gz --json > scan_T1w.json`, once and again."""
    scan = write_scan("scan_T1w.nii.gz")
    words = [sys.executable, "-m", "lohi_edge", "qc", str(scan), "--json"]
    beside = scan.with_name("scan_T1w.json")
    with beside.open("wb") as out:
        first = subprocess.run(words, stdout=out, check=False)
    (record,) = json.loads(beside.read_text())
    assert "error" not in record
    assert first.returncode in (0, 4)
    assert "scan_T1w.json beside the scan is empty" in json.dumps(record["reasons"])
    again = subprocess.run(words, capture_output=True, check=False)
    assert again.returncode == 3
    assert "what lohi-edge printed with --json" in json.loads(again.stdout)[0]["error"]["message"]
