"""A bundle is used only when every byte is what its manifest says."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lohi_edge import acceptance, bundle
from lohi_edge.errors import BundleError
from lohi_edge.files import sha256
from lohi_edge.runtime import choose


@pytest.fixture
def copy(identity_bundle, tmp_path):
    return shutil.copytree(identity_bundle, tmp_path / "copy")


def edit(path, **changes):
    """Change manifest fields; a value of None removes the field."""
    values = json.loads((path / "manifest.json").read_text()) | changes
    values = {k: v for k, v in values.items() if v is not None}
    (path / "manifest.json").write_text(json.dumps(values))


def replace_file(path, name, data):
    """Swap a file and its hash, as whoever builds bundles could."""
    (path / name).write_bytes(data)
    files = json.loads((path / "manifest.json").read_text())["files"]
    edit(path, files=files | {name: sha256(data)})


def test_loads_and_round_trips(identity_bundle):
    found = bundle.load(identity_bundle)
    again = bundle.Manifest.from_dict(json.loads(json.dumps(found.manifest.to_dict())))
    assert again == found.manifest
    assert found.golden().input.shape == (2, 1, 192, 240)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_found(copy, data):
    name = data.draw(st.sampled_from(["fp32.onnx", "golden.npz"]))
    honest = (copy / name).read_bytes()
    at = data.draw(st.integers(0, len(honest) - 1))
    raw = bytearray(honest)
    raw[at] ^= data.draw(st.integers(1, 255))
    (copy / name).write_bytes(raw)
    try:
        with pytest.raises(BundleError, match="altered or damaged"):
            bundle.load(copy)
    finally:
        (copy / name).write_bytes(honest)


def test_a_file_changed_after_loading_is_found_when_it_is_used(copy):
    found = bundle.load(copy)
    raw = bytearray((copy / "fp32.onnx").read_bytes())
    raw[-1] ^= 1
    (copy / "fp32.onnx").write_bytes(raw)
    with pytest.raises(BundleError, match="altered or damaged"):
        choose(found)


def test_missing_extra_and_linked_files_are_refused(copy):
    (copy / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"does not name.*notes\.txt"):
        bundle.load(copy)
    (copy / "notes.txt").unlink()
    (copy / "golden.npz").rename(copy.parent / "elsewhere")
    with pytest.raises(BundleError, match="missing"):
        bundle.load(copy)
    (copy / "golden.npz").symlink_to(copy.parent / "elsewhere")
    with pytest.raises(BundleError, match="link"):
        bundle.load(copy)


HASH = "0" * 64
MANIFESTS = {
    "schema": ({"schema": 2}, "manifest schema 1, got 2"),
    "use": ({"intended_use": "diagnosis"}, "intended_use"),
    "unknown field": ({"extra": 1}, "unknown fields.*extra"),
    "missing field": ({"serial": None}, "missing or unknown.*serial"),
    "serial": ({"serial": True}, "serial"),
    "contrast": ({"contrasts": ["PD"]}, "contrasts"),
    "traversal": ({"files": {"../fp32.onnx": HASH}}, "files"),
    "absolute": ({"files": {"/etc/passwd": HASH}}, "files"),
    "no golden": ({"files": {"fp32.onnx": HASH}}, "files"),
    "hash": ({"files": {"fp32.onnx": "x", "golden.npz": HASH}}, "files"),
    "tolerance": ({"tolerance": {"fp32": 0}}, "tolerance"),
    "tolerance nan": ({"tolerance": {"fp32": float("nan")}}, "tolerance"),
    "tolerance without model": ({"tolerance": {"fp32": 1e-3, "fp16": 1e-2}}, "tolerance"),
    "contract": ({"slice_contract": {}}, "slice contract"),
    "name": ({"name": "a\x1b[31m"}, "name"),
    "limits no text": ({"provenance": {"limits": 3}}, "provenance"),
    "limits too long": ({"provenance": {"limits": "x" * 2001}}, "provenance"),
    "limits that steer a terminal": ({"provenance": {"limits": "a\x1b[31m"}}, "provenance"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_unusable_manifest_is_refused(copy, case):
    changes, words = MANIFESTS[case]
    edit(copy, **changes)
    with pytest.raises(BundleError, match=words):
        bundle.load(copy)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_manifest_that_is_no_json_object_is_refused(copy, text):
    (copy / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError):
        bundle.load(copy)


def test_pickles_in_golden_slices_are_refused(copy):
    stream = io.BytesIO()
    np.savez(stream, input=np.array([{"a": 1}], dtype=object), output=1, truth=1)
    replace_file(copy, "golden.npz", stream.getvalue())
    with pytest.raises(BundleError, match="unreadable golden"):
        bundle.load(copy).golden()


def test_golden_slices_of_another_shape_are_refused(copy):
    stream = io.BytesIO()
    wrong = np.zeros((2, 1, 96, 240), np.float32)
    np.savez(stream, input=wrong, output=wrong, truth=wrong)
    replace_file(copy, "golden.npz", stream.getvalue())
    with pytest.raises(BundleError, match=r"expected finite float32 \(2, 1, 192, 240\)"):
        bundle.load(copy).golden()


def packed(*arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **dict(zip(("input", "output", "truth"), arrays, strict=True)))
    return stream.getvalue()


def bare(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


SLICES = np.zeros((1, 1, 192, 240), np.float32)
HONEST = packed(*3 * [SLICES])


@pytest.mark.parametrize(
    "data",
    [packed(*3 * [SLICES[:0]]), packed(1.0, 1.0, 1.0), bare(SLICES), b""],
    ids=["none", "a number", "no archive", "nothing"],
)
def test_golden_slices_that_prove_nothing_are_refused(copy, data):
    replace_file(copy, "golden.npz", data)
    with pytest.raises(BundleError, match=r"golden\.npz: (expected finite|unreadable golden)"):
        choose(bundle.load(copy))


def test_golden_slices_that_fill_the_memory_are_refused(copy, monkeypatch):
    monkeypatch.setattr(bundle, "MAX_FILE", 1 << 20)
    replace_file(copy, "golden.npz", packed(*3 * [np.repeat(SLICES, 10, axis=0)]))
    with pytest.raises(BundleError, match="at most 1,048,576 bytes inside, got 5,5"):
        bundle.load(copy).golden()


@given(st.data())
@settings(phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_for_golden_slices_end_in_a_clear_answer(copy, data):
    raw = bytearray(HONEST)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    replace_file(copy, "golden.npz", bytes(raw))
    with contextlib.suppress(BundleError):
        assert bundle.load(copy).golden().input.shape == SLICES.shape


def test_model_that_is_no_onnx_is_refused(copy):
    replace_file(copy, "fp32.onnx", b"not a model")
    with pytest.raises(BundleError, match="not an ONNX model"):
        choose(bundle.load(copy))


def test_model_of_another_slice_contract_is_refused(copy):
    contract = json.loads((copy / "manifest.json").read_text())["slice_contract"]
    edit(copy, slice_contract=contract | {"height": 96})
    with pytest.raises(BundleError, match="after the batch axis"):
        choose(bundle.load(copy))


def test_acceptance_passes_the_honest_and_fails_the_drifted(copy):
    assert acceptance.accept(bundle.load(copy))["accepted"]
    with np.load(copy / "golden.npz") as arrays:
        golden = dict(arrays)
    golden["output"] = golden["output"] + np.float32(1e-3)
    stream = io.BytesIO()
    np.savez(stream, **golden)
    replace_file(copy, "golden.npz", stream.getvalue())
    record = acceptance.accept(bundle.load(copy))
    assert not record["accepted"]
    assert record["max_error"] == pytest.approx(1e-3, rel=0.01)
