"""Is a scan's file complete? Judged by its own header and trailer, without inflating it whole."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip, isal_zlib

from lohi_edge.nifti import MAX_FILE_BYTES
from lohi_edge.nifti_header import MAX_EXTENSIONS, MAX_TRAILER

_GZIP = b"\x1f\x8b"
_HEAD = 540  # the longer of the two NIfTI headers
_MAGIC = 4  # bytes that tell what a file is
_CHUNK = 1 << 20
_DAMAGED: Any = (isal_zlib.IsalError, igzip.BadGzipFile)  # the stubs hide that they are types


def missing(path: Path) -> str | None:
    """What a NIfTI file still lacks, in words; None when it is complete.

    A file that is no NIfTI at all lacks nothing: reading it will say what it is.

    Raises:
        OSError: it cannot be opened or read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor)
        size = os.fstat(fd).st_size
        if size < _MAGIC:
            return f"{size} bytes so far"
        if file.read(2) == _GZIP:
            return _missing_gzip(file, size)
        file.seek(0)
        wanted = _expected(file.read(_HEAD))
        if wanted is not None and size < wanted:
            return f"{size:,} of {wanted:,} bytes so far"
        return None


def _missing_gzip(file: BinaryIO, size: int) -> str | None:
    """The trailer's ISIZE (RFC 1952) must be the inflated size that the NIfTI header announces."""
    if size < 18:
        return "gzip header only so far"
    file.seek(size - 4)
    stored = struct.unpack("<I", file.read(4))[0]
    file.seek(0)
    try:
        head = igzip.GzipFile(fileobj=file).read(_HEAD)
    except (EOFError, *_DAMAGED):
        head = b""
    wanted = _expected(head)
    if wanted is None and len(head) >= _MAGIC:
        return None  # no NIfTI, or a damaged header
    if wanted is not None and 0 <= stored - wanted % 2**32 <= MAX_TRAILER:
        return None
    # Several members, or cut off: only inflating tells. Rare, so its cost does not matter; but a
    # file may inflate to a thousand times its size, and reading one gives up where a scan ends.
    file.seek(0)
    most = min(wanted or 0, MAX_FILE_BYTES) + MAX_TRAILER
    return None if _inflates(file, most) else f"gzip stream not at its end after {size:,} bytes"


def _inflates(file: BinaryIO, most: int) -> bool:
    """Whether a gzip stream goes on to its end, or for more than so many bytes."""
    size = 0
    try:
        with igzip.GzipFile(fileobj=file) as stream:
            while size <= most and (chunk := stream.read(_CHUNK)):
                size += len(chunk)
    except EOFError:
        return False
    except _DAMAGED:
        return True  # damaged rather than unfinished; reading it will say so
    return True


def _expected(head: bytes) -> int | None:
    """Bytes of an uncompressed NIfTI file by its header; None where there is no telling."""
    for order in "<>":
        for size, dim, bitpix, offset in (
            (348, (40, "8h"), (72, "h"), (108, "f")),
            (540, (16, "8q"), (14, "h"), (168, "q")),
        ):
            if len(head) < 4 or struct.unpack_from(order + "i", head)[0] != size:
                continue
            if len(head) < size:
                return size
            rank, *sizes = struct.unpack_from(order + dim[1], head, dim[0])
            bits = struct.unpack_from(order + bitpix[1], head, bitpix[0])[0]
            start = struct.unpack_from(order + offset[1], head, offset[0])[0]
            sane = 1 <= rank <= 7 and min(sizes[:rank]) > 0 and bits > 0
            if not sane or not size <= start <= MAX_EXTENSIONS:
                return None
            return int(start) + int(math.prod(sizes[:rank])) * int(bits) // 8
    return None
