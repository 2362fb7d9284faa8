"""NIfTI files that are damaged, hostile or of no use are refused; a full disk leaves nothing."""

from __future__ import annotations

import gzip
import json
import os
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import DATA, EYE2, saved
from lohi_edge import nifti, nifti_write
from lohi_edge.errors import BadInput, DiskError

DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE, SROW = 40, 70, 72, 76, 108, 112, 280

HEADERS = {
    "dim0": (DIM, "<h", [0], r"dim\[0\] from 1 to 7"),
    "dim8": (DIM, "<h", [8], r"dim\[0\] from 1 to 7"),
    "negative": (DIM + 2, "<h", [-6], "positive dimensions"),
    "zero": (DIM + 4, "<h", [0], "positive dimensions"),
    "huge": (DIM, "<4h", [3, 32767, 32767, 32767], "at most 268,435,456 voxels"),
    "frames": (DIM, "<5h", [4, 6, 5, 2, 2], "single frame"),
    "five axes": (DIM, "<6h", [5, 6, 5, 4, 1, 1], "single frame"),
    "flat": (DIM, "<3h", [2, 6, 20], "3-D"),
    "complex": (DATATYPE, "<2h", [32, 64], "magnitude"),
    "rgb": (DATATYPE, "<2h", [128, 24], "real voxels"),
    "long double": (DATATYPE, "<2h", [1536, 128], "real voxels"),
    "unknown type": (DATATYPE, "<2h", [999, 16], "unknown NIfTI data type"),
    "bitpix": (BITPIX, "<h", [32], "bits per"),
    "zoom 0": (PIXDIM + 4, "<f", [0.0], r"0\.2-20 mm"),
    "zoom negative": (PIXDIM + 4, "<f", [-2.0], r"0\.2-20 mm"),
    "zoom huge": (PIXDIM + 8, "<f", [500.0], r"0\.2-20 mm"),
    "zoom nan": (PIXDIM + 8, "<f", [np.nan], r"0\.2-20 mm"),
    "offset 0": (VOX_OFFSET, "<f", [0.0], "voxels at byte"),
    "offset nan": (VOX_OFFSET, "<f", [np.nan], "voxels at byte"),
    "offset inf": (VOX_OFFSET, "<f", [np.inf], "voxels at byte"),
    "offset far": (VOX_OFFSET, "<f", [1e9], "voxels at byte"),
    "slope nan": (SLOPE, "<f", [np.nan], "finite scaling"),
    "inter inf": (SLOPE + 4, "<f", [np.inf], "finite scaling"),
    "slope huge": (SLOPE, "<2f", [3e38, 0], "within float32"),
    "sform nan": (SROW, "<f", [np.nan], "finite sform"),
    "singular": (SROW, "<4f", [0, 0, 0, 0], r"0\.2-20"),
    "sheared": (SROW, "<4f", [2, 0.5, 0, 0], "sheared"),
    "units": (123, "<B", [5], "xyzt_units"),
    "pair": (344, "<4s", [b"ni1\0"], r"\.hdr/\.img"),
    "magic": (344, "<4s", [b"xxxx"], "NIfTI magic"),
}


def patched(path, offset, fmt, *values):
    """Overwrite bytes of an uncompressed file's header."""
    raw = bytearray(path.read_bytes())
    struct.pack_into(fmt, raw, offset, *values)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_header_is_refused(tmp_path, case):
    offset, fmt, values, words = HEADERS[case]
    path = patched(saved(tmp_path / "bad.nii"), offset, fmt, *values)
    with pytest.raises(BadInput, match=words) as caught:
        nifti.read(path)
    assert str(caught.value).startswith(str(path))


def test_a_slope_beyond_float32_is_refused(tmp_path):
    image = nib.Nifti2Image(DATA, EYE2)
    nib.save(image, tmp_path / "bad.nii")
    patched(tmp_path / "bad.nii", 176, "<2d", 1e300, 0)  # scl_slope of NIfTI-2 is a double
    with pytest.raises(BadInput, match="within float32"):
        nifti.read(tmp_path / "bad.nii")


def test_bad_quaternion_is_refused(tmp_path):
    image = nib.Nifti1Image(DATA, EYE2)
    image.set_qform(EYE2, 1)
    image.header["sform_code"] = 0
    nib.save(image, tmp_path / "q.nii")
    patched(tmp_path / "q.nii", 256, "<3f", 0.9, 0.9, 0.9)
    with pytest.raises(BadInput, match="not a rotation"):
        nifti.read(tmp_path / "q.nii")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((6, 5, 4), "i2"), "all zero"),
        (np.full((6, 5, 4), 7, "i2"), r"constant \(7\)"),
        (np.where(DATA == 3, np.nan, DATA).astype("f4"), "1 NaN or infinite"),
        (np.where(DATA < 2, np.inf, DATA).astype("f4"), "2 NaN or infinite"),
        (DATA.astype("f8") * 1e300, "within float32"),
        (DATA.astype("f4") * 1e35, "check the scaling"),
        (DATA.astype("f4") * 1e-38, "check the scaling"),
    ],
)
def test_unusable_voxels_are_refused(tmp_path, data, words):
    with pytest.raises(BadInput, match=words):
        nifti.read(saved(tmp_path / "v.nii", data))


def test_truncated_files_are_refused_at_every_length(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("t.nii", "t.nii.gz"):
        whole = saved(tmp_path / name, rng.integers(0, 999, (6, 5, 4)).astype("i2")).read_bytes()
        for length in [*range(0, 60, 7), *range(60, len(whole), 41), len(whole) - 1]:
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(BadInput):
                nifti.read(tmp_path / name)


@given(st.data())
def test_any_flipped_bit_of_a_gzip_is_found_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip")
    path = saved(folder / "f.nii.gz", np.random.default_rng(1).integers(0, 99, (9, 8, 7), "i2"))
    honest = nifti.read(path)
    raw = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    try:
        volume = nifti.read(path)
    except BadInput:
        return
    # What is left are fields of the gzip header that carry no data (time, system, name).
    assert np.array_equal(volume.data, honest.data)
    assert np.array_equal(volume.affine, honest.affine)


def test_gzip_bomb_is_refused_before_it_is_inflated(tmp_path):
    """A header that declares little followed by 3 GB of zeros in 3 MB of gzip."""
    honest = saved(tmp_path / "h.nii").read_bytes()
    path = tmp_path / "bomb.nii.gz"
    block = bytes(64 << 20)
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(honest)
        file.write(block)
    path.write_bytes(path.read_bytes() + gzip.compress(block) * 47)
    with pytest.raises(BadInput, match="behind the voxels"):
        nifti.read(path)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(600)])
def test_what_is_not_nifti_is_refused(tmp_path, content):
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(BadInput, match=r"NIfTI|gzip"):
        nifti.read(tmp_path / "x.nii.gz")


@pytest.mark.parametrize(
    ("name", "content"),
    # Without a time, which would name the test otherwise in every process.
    [("x.nii", b""), ("x.nii.gz", b""), ("x.nii.gz", gzip.compress(b"", mtime=0))],
)
def test_an_empty_file_is_called_empty(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match="got an empty one; copy it again"):
        nifti.read(tmp_path / name)


def test_what_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "dangling.nii").symlink_to("nowhere")
    (tmp_path / "folder.nii").mkdir()
    for path, words in (
        (tmp_path / "pipe.nii", "a pipe"),
        (tmp_path / "dangling.nii", "a link to nothing"),
        (tmp_path / "folder.nii", "a folder"),
        (tmp_path / "missing.nii", "found nothing"),
        ("/dev/zero", "a device"),
        (tmp_path / "nul\0byte.nii", "cannot be opened"),
    ):
        with pytest.raises(BadInput, match=words):
            nifti.read(path)


def test_forbidden_paths(unprivileged):
    path = saved(unprivileged / "secret.nii")
    volume = nifti.read(path)
    path.chmod(0)
    with pytest.raises(BadInput, match="permission denied"):
        nifti.read(path)
    unprivileged.chmod(0o500)
    with pytest.raises(DiskError, match="permission denied"):
        nifti_write.write(unprivileged / "out.nii", volume, "SYNTHETIC")


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    volume = nifti.read(saved(tmp_path / "a.nii"))

    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="no space left on device; free some space"):
        nifti_write.write(tmp_path / "out.nii.gz", volume, "SYNTHETIC")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii"]


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file_is_no_sidecar_and_is_told_of(tmp_path, text):
    """As a shell makes before the command runs whose output it is for."""
    saved(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text(text)
    origin = nifti.read(tmp_path / "a.nii").origin
    assert origin.sidecar == {}
    assert any("a.json beside the scan is empty" in note for note in origin.notes)


@pytest.mark.parametrize(
    "record",
    [
        {"source": {"path": "a.nii"}, "verdict": "pass"},
        {"source": {"path": "a.nii"}, "error": {"exit_code": 3, "message": "none"}},
        {"source": {"path": "a.nii"}, "volumes": {}},
    ],
)
def test_our_own_output_is_no_sidecar_and_is_named(tmp_path, record):
    saved(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text(json.dumps([record]))
    with pytest.raises(BadInput, match=r"a.json is what lohi-edge printed with --json.*; .*remove"):
        nifti.read(tmp_path / "a.nii")


def test_another_list_is_not_called_our_output(tmp_path):
    saved(tmp_path / "a.nii")
    for text in ("[]", "[1]", '[{"source": 1}]', "7"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(BadInput, match="is not a JSON object; mend or remove it"):
            nifti.read(tmp_path / "a.nii")


def test_broken_sidecar_is_refused(tmp_path):
    saved(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        nifti.read(tmp_path / "a.nii")
