"""Damaged and hostile files: bounded in memory and time, refused, never followed."""

from __future__ import annotations

import contextlib
import random
import resource
import shutil
import signal
import struct
import tracemalloc
import warnings
import zipfile
import zlib

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid as uids
from pydicom.encaps import encapsulate, generate_frames

from dicom_series import PHANTOM, SMALL, TEST_FILES, enhanced, refusal, save, slices, write
from lohi_edge import dicom
from lohi_edge.dicom import glance, instance
from lohi_edge.dicom.pixels import decode
from lohi_edge.errors import BadInput


def test_compressed_frames_of_another_size_are_not_decoded(tmp_path):
    for syntax in (uids.JPEG2000Lossless, uids.JPEGLSLossless):
        made = slices(PHANTOM)
        for ds in made:
            ds.compress(syntax, generate_instance_uid=False)
            ds.Rows, ds.Columns = 64, 64
        assert "its codestream says (70, 60)" in refusal(save(tmp_path / syntax, made))


@pytest.mark.parametrize("large", [False, True])
def test_a_size_in_a_box_that_decoders_skip_counts_for_nothing(tmp_path, large):
    """The codestream of a JPEG 2000 file lies in a box behind others."""
    made = slices(PHANTOM)
    for ds in made:
        ds.compress(uids.JPEG2000Lossless, generate_instance_uid=False)
        (stream,) = generate_frames(ds.PixelData, number_of_frames=1)
        lie = stream[:8] + struct.pack(">4I", 64, 64, 0, 0) + stream[24:60]
        boxes = ((b"jP  ", b"\r\n\x87\n"), (b"free", lie), (b"jp2c", stream))
        ds.PixelData = encapsulate([b"".join(box(*one, large) for one in boxes)])
        ds.Rows, ds.Columns = 64, 64
    assert "its codestream says (70, 60)" in refusal(save(tmp_path / "in", made))


def box(kind, data, large):
    """One of a JPEG 2000 file (ISO 15444-1 I.4), its length in 4 bytes or in 8."""
    if large and kind != b"jP  ":
        return struct.pack(">I4sQ", 1, kind, 16 + len(data)) + data
    return struct.pack(">I4s", 8 + len(data), kind) + data


@pytest.mark.parametrize("before", ["header", "pixels"])
def test_a_deflate_bomb_costs_what_header_and_declared_pixels_need(tmp_path, before):
    ds = slices(SMALL)[0]
    ds.file_meta.TransferSyntaxUID = uids.DeflatedExplicitVRLittleEndian
    raw = write(tmp_path / "a", ds).read_bytes()
    end = 144 + int.from_bytes(raw[140:144], "little")
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
    private = b"\x09\x00\x01\x10OB\0\0" + (200 << 20).to_bytes(4, "little")
    body = zlib.decompress(raw[end:], -15) if before == "pixels" else private
    bomb = squeeze.compress(body) + squeeze.compress(bytes(200 << 20)) + squeeze.flush()
    stored = raw[:end] + bomb
    tracemalloc.start()
    try:
        if before == "pixels":  # and they are all there
            found = decode(instance.parse(stored), stored)[0]
            assert (found == SMALL[:, :, 0].T.astype(int)).all()
            glance.look(stored, whole=True)
        else:
            for read in (instance.parse, lambda data: glance.look(data, whole=True)):
                with pytest.raises(BadInput):
                    read(stored)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_zip_bombs_and_damage_are_refused(tmp_path):
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w") as packed:
        packed.writestr("x", "y")
    assert "found none" in refusal(empty)
    folder = save(tmp_path / "in", slices(SMALL))
    good = tmp_path / "good.zip"
    with zipfile.ZipFile(good, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in folder.iterdir():
            packed.write(file, file.name)
    raw = bytearray(good.read_bytes())
    raw[200:300] = bytes(100)
    good.write_bytes(raw)
    assert "damaged zip" in refusal(good)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_would_inflate_without_a_bound_is_refused(tmp_path, method):
    packed = tmp_path / "odd.zip"
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("a.dcm", bytes(1 << 20))
    assert "uncommon compression" in refusal(packed)


def test_a_dicomdir_cannot_point_outside(tmp_path):
    folder = tmp_path / "disc"
    shutil.copytree(TEST_FILES / "dicomdirtests" / "98892003" / "MR700", folder / "MR700")
    directory = pydicom.dcmread(TEST_FILES / "dicomdirtests" / "DICOMDIR")
    record = next(r for r in directory.DirectoryRecordSequence if "ReferencedFileID" in r)
    directory.DirectoryRecordSequence = [record]
    for target, message in (
        (["MR700", "4467"], "got one slice"),
        (["..", "..", "etc"], "points outside"),
        (["MR700", "PLANTED"], "1 of 1 files in the DICOMDIR are missing"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what this test is about
            record.ReferencedFileID = target
            record.DirectoryRecordType = "IMAGE"
            directory.save_as(folder / "DICOMDIR")
        assert message in refusal(folder / "DICOMDIR")


def test_a_dicomdir_of_any_size_is_not_read_into_memory(tmp_path):
    shutil.copyfile(TEST_FILES / "dicomdirtests" / "DICOMDIR", tmp_path / "DICOMDIR")
    with (tmp_path / "DICOMDIR").open("ab") as file:
        file.truncate(1 << 40)  # sparse
    assert "at most 67,108,864 bytes" in refusal(tmp_path / "DICOMDIR")


class Hang(BaseException):
    """Passes through every `except Exception`."""


@contextlib.contextmanager
def within_5_s():
    """Of processor time, which a busy machine does not stretch."""

    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_mutated_files_give_a_volume_or_one_refusal(tmp_path_factory, seed, changes):
    rng = random.Random(seed)
    folder = save(tmp_path_factory.mktemp("fuzz"), slices(SMALL)[:3])
    if rng.random() < 0.3:
        folder = save(tmp_path_factory.mktemp("fuzz"), [enhanced(SMALL)])
    for file in folder.iterdir():
        raw = bytearray(file.read_bytes())
        for _ in range(changes):
            at = rng.randrange(len(raw))
            raw[at : at + rng.choice([0, 1, 4])] = rng.randbytes(rng.choice([0, 1, 1, 4]))
        file.write_bytes(raw[: rng.choice([len(raw), rng.randrange(1, len(raw))])])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with within_5_s(), contextlib.suppress(BadInput):  # and nothing else, not even a warning
        dicom.read(folder)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 256 << 10  # KiB
