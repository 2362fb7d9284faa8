"""Calibration of the small generator, from FP32 bundle to accepted INT8, and the report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from lohi_calibration import graph
from lohi_calibration.choose import choose as choose_slices
from lohi_calibration.overflow import overflows
from lohi_edge import bundle as bundles
from lohi_edge.errors import BundleError, DiskError, ModelFault, UsageError
from lohi_edge.runtime import choose
from lohi_export import precision, precision_data, verify
from lohi_export.cli import app
from lohi_export.precision_data import PrecisionData

ADDED = {"fp16.onnx", "int8.trt.onnx", "int8.cpu.onnx", "calibration.json", "sensitivity.csv"}


@pytest.fixture
def plain(make_bundle):
    """The small generator's bundle as training leaves it: FP32 alone."""
    path = make_bundle("plain")
    manifest = json.loads((path / "manifest.json").read_text())
    for name in ("fp16.onnx", "int8.trt.onnx", "int8.cpu.onnx"):
        (path / name).unlink()
        del manifest["files"][name], manifest["tolerance"][name.removesuffix(".onnx")]
    (path / "manifest.json").write_text(json.dumps(manifest))
    return bundles.load(path)


@pytest.fixture
def data(small_net, slices):
    noise = np.random.default_rng(2).normal(0, 0.1, (8, 1, 32, 40)).astype(np.float32)
    truth = graph.run(graph.load(small_net), slices[:8]) + noise
    return PrecisionData(choose_slices({"11": slices}, 16), slices[:8], truth, {"11": "ab-cd"})


def stage(title):
    return lambda done, total: None


@pytest.fixture
def timed(monkeypatch):
    """Latencies that cost nothing; returns how often one was asked for."""
    calls = []
    monkeypatch.setattr(precision, "saved_ms", lambda slower, faster: calls.append(1) or 1.0)
    return calls


def test_a_calibrated_bundle_is_whole_accepted_and_within_budget(plain, data, tmp_path, timed):
    precision.calibrate(plain, data, tmp_path / "out", 0.3, stage)

    made = bundles.load(tmp_path / "out")
    assert set(made.manifest.files) - set(plain.manifest.files) == ADDED
    assert made.manifest.serial == plain.manifest.serial + 1
    figures = made.manifest.metrics["precision"]
    for stem in ("fp16", "int8.trt", "int8.cpu"):
        assert figures[stem]["psnr"] >= figures["fp32"]["psnr"] - 0.3
    record = json.loads(made.read("calibration.json"))
    assert record["calibration"]["count"] == 16
    assert record["data"] == {"11": "ab-cd"}
    assert set(record["methods_psnr_fp32_db"]) == {"minmax", "percentile", "mse"}
    assert record["method"] == max(record["methods_psnr_fp32_db"].items(), key=lambda i: i[1])[0]
    assert len(record["unquantized"]) < 7
    if overflows():
        with pytest.raises(ModelFault, match="int8 on onnxruntime not accepted"):
            choose(made, 1, "onnxruntime", "int8")
    else:
        assert choose(made, 1, "onnxruntime", "int8").acceptance["accepted"]
    assert (tmp_path / "out.calibration" / "sensitivity.png").read_bytes()[:4] == b"\x89PNG"


def test_interrupted_it_goes_on_where_it_stopped(plain, data, tmp_path, timed, monkeypatch):
    precision.calibrate(plain, data, tmp_path / "once", 0.3, stage)
    whole = len(timed)
    timed.clear()

    def stops(slower, faster):
        timed.append(1)
        if len(timed) == 4:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(precision, "saved_ms", stops)
    with pytest.raises(KeyboardInterrupt):
        precision.calibrate(plain, data, tmp_path / "out", 0.3, stage)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(precision, "saved_ms", lambda slower, faster: timed.append(1) or 1.0)
    precision.calibrate(plain, data, tmp_path / "out", 0.3, stage)

    assert len(timed) == whole + 1  # the interrupted one alone is measured again
    assert (tmp_path / "out" / "int8.trt.onnx").read_bytes() == (
        tmp_path / "once" / "int8.trt.onnx"
    ).read_bytes()


def test_a_budget_that_cannot_hold_leaves_no_bundle(plain, data, tmp_path, timed):
    with pytest.raises(BundleError, match="no INT8 model loses at most"):
        precision.calibrate(plain, data, tmp_path / "out", 1e-7, stage)
    assert not (tmp_path / "out").exists()


def test_nothing_is_fitted_on_subjects_that_a_bundle_is_reported_on(plain, toy, tmp_path, invoke):
    path = plain.path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["provenance"] = {"training": {"split": {"test": ["03", "04"]}}}
    path.write_text(json.dumps(manifest))
    words = ("calibrate", plain.path, "--data", toy, "--subjects", "02,04")
    refused = invoke(*words).exception
    assert isinstance(refused, UsageError)
    assert "got 04 of its test subjects 03, 04" in str(refused)
    bundle = bundles.load(plain.path)
    precision_data.refuse_reported(toy, bundle.manifest, ["01", "02"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "dataset_description.json").write_text('{"Name": "another"}')
    precision_data.refuse_reported(other, bundle.manifest, ["04"])


def test_subjects_that_a_bundle_learned_from_are_not_called_held_out(plain, toy, tmp_path, invoke):
    path = plain.path / "manifest.json"
    manifest = json.loads(path.read_text())
    split = {"train": ["01"], "validation": ["02"], "test": ["03"]}
    manifest["provenance"] = {"training": {"split": split}}
    path.write_text(json.dumps(manifest))
    words = ("verify", plain.path, "--data", toy, "--out", tmp_path / "report", "--subjects")
    refused = invoke(*words, "02,03,04").exception
    assert isinstance(refused, UsageError)
    assert "got 02 of its training and validation subjects" in str(refused)
    assert "began with: 01, 02; name others" in str(refused)
    assert not (tmp_path / "report").exists()
    precision_data.refuse_learned(toy, bundles.load(plain.path).manifest, ["03", "04"])


def test_subjects_that_the_first_weights_learned_from_are_not_called_held_out(plain, toy):
    split = {"train": ["01"], "validation": ["02"], "test": ["03"]}
    before = [{"weights": "0" * 64, "data_set": "", "subjects": ["04"]}]
    provenance = {"training": {"split": split, "init": "0" * 64}, "init_learned": before}
    manifest = replace(plain.manifest, provenance=provenance)
    with pytest.raises(UsageError, match=r"got 04 of .* began with: 01, 02, 04; name others"):
        precision_data.refuse_learned(toy, manifest, ["03", "04"])
    precision_data.refuse_learned(toy, manifest, ["03"])
    elsewhere = [{**before[0], "data_set": "another"}]  # whose 04 is another person
    manifest = replace(plain.manifest, provenance={**provenance, "init_learned": elsewhere})
    precision_data.refuse_learned(toy, manifest, ["03", "04"])


def test_an_existing_bundle_is_not_overwritten(plain, data, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="expected a new directory"):
        precision.calibrate(plain, data, tmp_path / "out", 0.3, stage)


def test_in_place_the_bundle_is_replaced_and_keeps_its_serial(plain, data, timed):
    before = plain.read("fp32.onnx")
    made = precision.calibrate(plain, data, plain.path, 0.3, stage)

    found = bundles.load(plain.path)
    assert found.manifest.to_dict() == made.to_dict()
    assert made.serial == plain.manifest.serial
    assert set(made.files) - set(plain.manifest.files) == ADDED
    assert found.read("fp32.onnx") == before
    kept = {p.name for p in plain.path.parent.iterdir() if p.name.startswith(".plain")}
    assert not kept
    asked = len(timed)
    precision.calibrate(found, data, found.path, 0.3, stage)
    assert len(timed) == asked  # the same FP32 model on the same slices: all is known


def test_the_report_has_a_row_for_everything_that_runs_here(make_bundle):
    report = verify.verify(bundles.load(make_bundle()), [], stage(""))

    ran = {(row["runtime"], row["precision"]) for row in report["rows"]}
    assert {("onnxruntime", p) for p in ("fp32", "fp16", "int8")} <= ran
    assert ("tensorrt, emulated", "int8") in ran
    assert report["passed"]
    assert json.loads(verify.to_json(report))["rows"]
    page = verify.to_html(report)
    assert page.count("<tr class=good>") == len(ran)
    assert "passed" in page


def test_verify_measures_nothing_that_it_cannot_write(make_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "verify", lambda *_: pytest.fail("measured for nothing"))
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["verify", str(make_bundle()), "--out", str(tmp_path / "file")])
    assert isinstance(done.exception, DiskError)


def test_a_failed_gate_fails_the_report(make_bundle, tmp_path):
    path = make_bundle(tolerance={"int8.cpu": 1e-6})
    done = CliRunner().invoke(app, ["verify", str(path), "--out", str(tmp_path / "report")])

    assert done.exit_code == 5
    assert "failed: int8 on onnxruntime" in done.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert not report["passed"]
    assert "FAILED" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize("name", ["int8.cpu.onnx", "int8.trt.onnx"])
def test_a_file_that_no_runtime_takes_fails_the_report(make_bundle, small_net, name):
    model = onnx.load_from_string(small_net)
    next(node for node in model.graph.node if node.op_type == "Concat").attribute[0].i = 2
    broken = make_bundle(files={name: model.SerializeToString()})

    report = verify.verify(bundles.load(broken), (), lambda done, total: None)

    where = "onnxruntime" if name == "int8.cpu.onnx" else "tensorrt, emulated"
    assert any(gate.startswith(f"int8 on {where}: ") for gate in report["gates"])
    assert not report["passed"]


def test_what_is_no_number_on_held_out_heads_fails_the_report():
    rows = [
        {"runtime": "r", "precision": p, "held_out_psnr_db": v, "held_out_ssim": v}
        for p, v in (("fp32", 0.5), ("int8", verify._number(float("nan"), 4)))
    ]
    assert verify._held_out_gates(rows) == 2 * ["int8 on r, held-out heads: no number"]


def test_held_out_heads_are_a_gate_of_their_own():
    good = {"runtime": "a", "precision": "fp32", "held_out_psnr_db": 24.0, "held_out_ssim": 0.8}
    worse = {**good, "precision": "int8", "held_out_psnr_db": 23.6}
    blurred = {**good, "precision": "int8", "held_out_ssim": 0.794}

    assert verify._held_out_gates([good, good]) == []
    assert verify._held_out_gates([good, worse]) == ["int8 on a, held-out heads: PSNR 23.60 dB"]
    assert verify._held_out_gates([good, blurred]) == ["int8 on a, held-out heads: SSIM 0.7940"]


def test_keys_and_signatures_by_command(make_bundle, tmp_path, monkeypatch):
    from lohi_edge import cli

    path, run = make_bundle(), CliRunner().invoke
    assert run(app, ["keygen", str(tmp_path / "maker")]).exit_code == 0
    key, public = tmp_path / "maker.key", str(tmp_path / "maker.pub")
    unsigned = run(cli.app, ["bundle", "verify", str(path), "--key", public])
    assert "not signed" in str(unsigned.exception)
    assert run(app, ["sign", str(path), "--key", str(key)]).exit_code == 0
    assert run(cli.app, ["bundle", "verify", str(path), "--key", public]).exit_code == 0


def test_what_its_manifest_does_not_describe_is_not_signed(make_bundle, tmp_path):
    path = make_bundle()
    assert CliRunner().invoke(app, ["keygen", str(tmp_path / "maker")]).exit_code == 0
    words = ["sign", str(path), "--key", str(tmp_path / "maker.key")]
    onnx_file, manifest = path / "fp32.onnx", path / "manifest.json"
    whole = onnx_file.read_bytes()
    onnx_file.write_bytes(whole[:-1])
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, BundleError)
    assert "fp32.onnx" in str(done.exception)
    onnx_file.write_bytes(whole)
    manifest.write_text("{}")
    assert isinstance(CliRunner().invoke(app, words).exception, BundleError)
    assert not (path / "manifest.sig").exists()


def test_an_engine_without_a_gpu_is_a_clear_refusal(make_bundle):
    done = CliRunner().invoke(app, ["build-engine", str(make_bundle())])

    assert isinstance(done.exception, BundleError)
    assert "expected an NVIDIA GPU" in str(done.exception)
