"""Pixel data of an instance -> arrays, every size checked before a byte is decoded."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid as uids
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder

from lohi_edge.dicom.instance import Instance, inflated, number, quiet, text
from lohi_edge.errors import BadInput

MAX_SIDE = 4096
MAX_VOXELS = 256 << 20  # of a series: 1 GiB as float32
_TAG = {"<": b"\xe0\x7f\x10\x00", ">": b"\x7f\xe0\x00\x10"}
_UNDEFINED = 0xFFFFFFFF
_CODESTREAM = b"\xff\x4f\xff\x51"  # SOC and SIZ, how one of JPEG 2000 begins
_ELEMENT = 12  # bytes of tag, VR and length, at most
# Uncompressible noise grows a little when it is compressed; anything far larger is no image.
_MAX_GROWTH, _SLACK = 2, 1 << 16


def shape(instance: Instance) -> tuple[int, int, int]:
    """(frames, rows, columns) as declared.

    Raises:
        BadInput: not a greyscale image of plausible size.
    """
    header = instance.header
    rows, columns, frames, samples, allocated, stored = (
        int(number(header, keyword) or default)
        for keyword, default in (
            ("Rows", 0),
            ("Columns", 0),
            ("NumberOfFrames", 1),
            ("SamplesPerPixel", 1),
            ("BitsAllocated", 0),
            ("BitsStored", 0),
        )
    )
    colours = text(header, "PhotometricInterpretation")
    if samples != 1 or colours not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadInput("expected a greyscale image (MONOCHROME1 or 2), got colour; export it anew")
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE and frames > 0):
        raise BadInput(
            f"expected an image of at most {MAX_SIDE} x {MAX_SIDE}, got {frames} x {rows} x "
            f"{columns}; the header is damaged"
        )
    if frames * rows * columns > MAX_VOXELS:
        raise BadInput(f"expected at most {MAX_VOXELS:,} voxels, got {frames * rows * columns:,}")
    if allocated not in (8, 16) or not 0 < stored <= allocated:
        raise BadInput(
            f"expected 8 or 16 bits a pixel, got {stored} stored in {allocated}; export it anew"
        )
    return frames, rows, columns


def decode(instance: Instance, file: bytes) -> NDArray[Any]:
    """Stored pixel values (frames, rows, columns), integer, unused bits cleared.

    MONOCHROME1 is turned into MONOCHROME2, so that larger is brighter.

    Args:
        file: the instance's bytes; deflated ones are inflated as far as the declared size goes.

    Raises:
        BadInput: truncated, damaged, or a compression without a decoder here.
    """
    size = shape(instance)
    header = instance.header
    signed = number(header, "PixelRepresentation") == 1
    allocated = int(number(header, "BitsAllocated") or 0)
    declared = size[0] * size[1] * size[2] * allocated // 8
    data = inflated(file, instance.pixels_at + _ELEMENT + declared)
    body, encapsulated = _element(instance, data)
    if encapsulated != instance.syntax.is_compressed:
        raise BadInput("pixel data and transfer syntax contradict each other; export it anew")
    if encapsulated:
        values = _decompress(instance, body, size)
    else:
        order = ">" if instance.syntax == uids.ExplicitVRBigEndian else "<"
        if order == ">" and allocated == 8:  # its bytes may or may not be swapped in pairs
            raise BadInput("8-bit pixels in big endian; convert the file with dcmconv +te")
        dtype = np.dtype(f"{order}{'i' if signed else 'u'}{allocated // 8}")
        if len(body) < declared:
            raise BadInput(f"truncated: expected {declared:,} bytes of pixels, got {len(body):,}")
        values = np.frombuffer(body[:declared], dtype=dtype).reshape(size)
    return _upright(_clean(values, header, signed, allocated), header, signed)


def _element(instance: Instance, data: bytes) -> tuple[memoryview, bool]:
    """The value of the pixel data element, and whether it is encapsulated."""
    order = ">" if instance.syntax == uids.ExplicitVRBigEndian else "<"
    at = instance.pixels_at
    start = data[at : at + _ELEMENT]
    if start[:4] != _TAG[order] or len(start) < _ELEMENT:
        raise BadInput("no pixel data; this instance is no image")
    if instance.syntax.is_implicit_VR:
        (length,) = struct.unpack(order + "I", start[4:8])
        at += 8
    else:
        (length,) = struct.unpack(order + "I", start[8:12])
        at += _ELEMENT
    view = memoryview(data)
    return (view[at:], True) if length == _UNDEFINED else (view[at : at + length], False)


def _decompress(instance: Instance, body: memoryview, size: tuple[int, int, int]) -> NDArray[Any]:
    frames, rows, columns = size
    header = instance.header
    with quiet("its transfer syntax"):
        decoder = get_decoder(instance.syntax)
        available = decoder.is_available
    if not available:
        raise BadInput(
            f"compressed as {instance.syntax.name}, which cannot be decoded here; decompress it "
            "(dcmdjpeg, gdcmconv --raw) or install python-gdcm (docs/how-to/dicom.md)"
        )
    raw = rows * columns * int(number(header, "BitsAllocated") or 0) // 8
    decoded = []
    with quiet("its compressed pixel data"):
        for frame in generate_frames(bytes(body), number_of_frames=frames):
            _check_codestream(instance.syntax, frame, rows, columns, raw)
            values, _ = decoder.as_array(_lone_frame(instance, frame), raw=True)
            decoded.append(values.reshape(rows, columns))
            if len(decoded) == frames:
                break
    if len(decoded) != frames:
        raise BadInput(f"truncated: expected {frames} compressed frames, got {len(decoded)}")
    return np.stack(decoded)


def _check_codestream(syntax: uids.UID, frame: bytes, rows: int, columns: int, raw: int) -> None:
    """Refuse a compressed frame whose own header promises another size than the instance's."""
    if len(frame) > _MAX_GROWTH * raw + _SLACK:
        raise BadInput(f"expected a frame of about {raw:,} bytes, got {len(frame):,} compressed")
    if syntax == uids.RLELossless:
        return  # at most 64 times its input, which is bounded above
    found = _jpeg_2000_size(frame) if _is_jpeg_2000(frame) else _jpeg_size(frame)
    if found != (rows, columns):
        raise BadInput(f"expected a frame of {rows} x {columns}, its codestream says {found}")


def _is_jpeg_2000(frame: bytes) -> bool:
    return frame[:4] == _CODESTREAM or frame[4:8] == b"jP  "


def _jpeg_2000_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) in the SIZ segment of a JPEG 2000 codestream (ISO 15444-1 A.5.1)."""
    at = _codestream_at(frame)
    if frame[at : at + 4] != _CODESTREAM or len(frame) < at + 42:
        return None
    right, bottom, left, top = struct.unpack(">4I", frame[at + 8 : at + 24])
    (components,) = struct.unpack(">H", frame[at + 40 : at + 42])
    return (bottom - top, right - left) if components == 1 else None


def _codestream_at(frame: bytes) -> int:
    """Where the codestream begins: at once, or in the first such box of a JP2 file (I.4).

    Boxes are walked as decoders walk them; in one that they skip anything may stand.
    """
    at = 0
    while frame[at : at + 4] != _CODESTREAM and at + 16 <= len(frame):
        size, kind = struct.unpack(">I4s", frame[at : at + 8])
        head = 16 if size == 1 else 8
        if kind == b"jp2c":
            return at + head
        if size == 1:
            size = int.from_bytes(frame[at + 8 : at + 16], "big")
        if size < head:
            break
        at += size
    return at


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) in a JPEG (ISO 10918-1 B.2.2) or JPEG-LS (14495-1 C.2.2) frame header."""
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 9 < len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">2H", frame[at + 5 : at + 9])
            return (rows, columns) if frame[at + 9] == 1 else None
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _lone_frame(instance: Instance, frame: bytes) -> Dataset:
    """A data set that holds one compressed frame and what its decoder must know."""
    lone = Dataset()
    lone.file_meta = FileMetaDataset()
    lone.file_meta.TransferSyntaxUID = instance.syntax
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation"):
        setattr(lone, keyword, int(number(instance.header, keyword) or 0))
    lone.SamplesPerPixel = 1
    lone.PhotometricInterpretation = "MONOCHROME2"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    lone.PixelData = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + item
    lone["PixelData"].is_undefined_length = True
    return lone


def _clean(values: NDArray[Any], header: Dataset, signed: bool, allocated: int) -> NDArray[Any]:
    """Clear (or sign-extend into) the bits that are allocated and not stored."""
    stored = int(number(header, "BitsStored") or allocated)
    high = number(header, "HighBit")
    shift = (stored - 1 if high is None else int(high)) - (stored - 1)
    if not 0 <= shift <= allocated - stored:
        raise BadInput("HighBit, BitsStored and BitsAllocated contradict each other")
    if stored == allocated:
        return values
    up = allocated - stored - shift
    native = values.astype(values.dtype.newbyteorder("="))
    return (native << up) >> (up + shift) if signed else _unsigned(native, up, up + shift)


def _unsigned(values: NDArray[Any], up: int, down: int) -> NDArray[Any]:
    plain = values.view(f"u{values.dtype.itemsize}")
    cleared: NDArray[Any] = (plain << plain.dtype.type(up)) >> plain.dtype.type(down)
    return cleared


def _upright(values: NDArray[Any], header: Dataset, signed: bool) -> NDArray[Any]:
    if text(header, "PhotometricInterpretation") != "MONOCHROME1":
        return values
    stored = int(number(header, "BitsStored") or 8 * values.dtype.itemsize)
    return (-1 if signed else (1 << stored) - 1) - values.astype(np.int32)
