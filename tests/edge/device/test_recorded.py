"""explain and reproduce take the bundle that the receipt names, not the one in use now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lohi_edge import bundle as bundles
from lohi_edge import signing
from lohi_edge.cli import app
from lohi_edge.device import recorded
from lohi_edge.errors import BundleError
from lohi_edge.pipeline import enhance

NOT_HERE = {"bundle": "not on this device", "onnx": "not on this device"}


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def checks(result, *words):
    """(what `explain` found of bundle and ONNX file, its exit code)."""
    done = call("explain", result, "--json", *words)
    found = json.loads(done.stdout)["checks"]
    return {key: found[key] for key in ("bundle", "onnx")}, done.exit_code


def note(result, *words):
    """What `explain` says of a bundle that is not the recorded one."""
    return json.loads(call("explain", result, "--json", *words).stdout).get("bundle_note")


@pytest.fixture
def updated(device, proved, make_serial, write_scan, tmp_path):
    """A result of serial 1, where serial 2 is in use since: its path, the folder of serial 1."""
    first = device.install(make_serial(1))["folder"]
    made = enhance(write_scan("scan_T1w.nii.gz"), out=tmp_path)
    device.install(make_serial(2))
    return made.path, device.bundles / first


def test_a_result_of_an_earlier_bundle_is_not_changed(updated):
    result, first = updated
    assert checks(result) == ({"bundle": "ok", "onnx": "ok"}, 0)
    shutil.rmtree(first)
    assert checks(result) == (NOT_HERE, 0)
    assert note(result) is None


def edit(folder):
    """Leave a bundle whole, and another than it was."""
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")


def test_a_bundle_that_claims_to_be_the_recorded_one_and_is_not_is_changed(updated):
    result, first = updated
    golden = first / "golden.npz"
    whole = golden.read_bytes()
    golden.write_bytes(whole + b"x")
    assert checks(result) == ({"bundle": "changed", "onnx": "changed"}, 3)
    assert f"was damaged or edited since: {first}" in note(result)
    golden.write_bytes(whole)
    edit(first)
    assert checks(result)[1] == 3
    assert f"{first} was installed as the recorded bundle and was edited since" in note(result)


def test_a_bundle_of_the_same_name_and_serial_claims_to_be_it(updated, device):
    result, first = updated
    other = device.bundles / "identity-other"
    first.rename(other)
    edit(other)
    assert checks(result) == ({"bundle": "changed", "onnx": "changed"}, 3)
    said = note(result)
    assert f"another build of identity 1 (serial 1) is at {other}: its sha256 is " in said
    assert f"recorded one {recorded_digest(result)}" in said
    assert checks(result, "--bundle", other) == ({"bundle": "changed", "onnx": "ok"}, 3)
    assert note(result, "--bundle", other) == said


def recorded_digest(result):
    content = json.loads(result.with_name("scan_T1w_desc-synthetic.json").read_text())
    return content["LohiEdge"]["bundle"]["sha256"]


def test_a_bundle_that_is_named_is_the_one_that_is_checked(updated, tmp_path):
    result, first = updated
    assert checks(result, "--bundle", first)[1] == 0
    kept = tmp_path / "kept"
    shutil.copytree(first, kept)
    shutil.rmtree(first)
    assert checks(result, "--bundle", kept) == ({"bundle": "ok", "onnx": "ok"}, 0)
    shipped = bundles.shipped("T1w")
    assert checks(result, "--bundle", shipped)[1] == 3
    assert note(result, "--bundle", shipped).startswith(f"{shipped} is another bundle, t1w")
    gone = {"bundle": "missing", "onnx": "missing"}
    assert checks(result, "--bundle", tmp_path / "none") == (gone, 0)


@pytest.mark.parametrize("zipped", [False, True])
def test_the_bundle_of_the_daemon_s_settings_is_on_this_device(
    make_serial, device, write_scan, tmp_path, monkeypatch, zipped
):
    own = make_serial(1)
    if zipped:
        own = Path(shutil.make_archive(str(tmp_path / "own"), "zip", own))
    made = enhance(write_scan("scan_T1w.nii.gz"), out=tmp_path, bundle=own)
    assert checks(made.path) == (NOT_HERE, 0)
    monkeypatch.setenv("LOHI_EDGE_ENHANCE_BUNDLE", str(own))
    assert checks(made.path) == ({"bundle": "ok", "onnx": "ok"}, 0)


def test_an_edited_onnx_is_changed(updated):
    result, _ = updated
    receipt = result.with_name("scan_T1w_desc-synthetic.json")
    content = json.loads(receipt.read_text())
    content["LohiEdge"]["onnx"]["sha256"] = "0" * 64
    receipt.write_text(json.dumps(content))
    assert checks(result) == ({"bundle": "ok", "onnx": "changed"}, 3)


@pytest.mark.parametrize("trusting", [False, True])
def test_reproduce_runs_the_recorded_bundle(updated, keys, device, trusting):
    """Though a later serial ran here since: going back for a comparison is no attack."""
    result, _ = updated
    for folder in device.library.folders():
        signing.sign(folder, keys[0])
    if not trusting:
        (device.keys / keys[1].name).unlink()
    done = call("reproduce", result, "--json")
    found = json.loads(done.stdout)
    assert (found["identical"], found["same"]["bundle"], done.stderr) == (True, True, "")
    assert "note" not in found


def test_reproduce_runs_no_bundle_that_nobody_trusted_signed(updated, keys):
    with pytest.raises(BundleError, match="is not signed"):
        raise call("reproduce", updated[0]).exception


def test_reproduce_says_that_another_model_ran(updated, tmp_path):
    result, first = updated
    shutil.rmtree(first)
    done = call("reproduce", result, "--json")
    note = json.loads(done.stdout)["note"]
    assert "made by bundle identity 1 (serial 1), and identity 1 (serial 2) ran instead" in note
    assert "says nothing about the result" in note
    assert (done.exit_code, done.stderr) == (0, f"note: {note}\n")
    plain = call("reproduce", result)
    assert note in plain.stderr
    assert note not in plain.stdout


def test_a_folder_that_is_no_bundle_claims_nothing(updated, device):
    (device.bundles / "stray").mkdir()
    (device.bundles / "stray" / "manifest.json").write_text("{")
    wanted = {"sha256": "0" * 64, "name": ["identity"]}
    assert recorded.look_up(wanted) == (None, "not on this device", None)
