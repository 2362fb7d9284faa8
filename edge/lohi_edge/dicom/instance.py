"""One DICOM instance: untrusted bytes -> a checked header, its pixel data left where it is.

Messages name attributes, never their values where a value may hold a patient's text.
"""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pydicom
from pydicom import uid as uids
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from lohi_edge.errors import BadInput
from lohi_edge.files import sha256

MAX_HEADER = 8 << 20  # bytes before the pixel data; 10,000 enhanced frames need about 4 MB
MR_IMAGE = uids.MRImageStorage
ENHANCED = (uids.EnhancedMRImageStorage, uids.LegacyConvertedEnhancedMRImageStorage)
DIRECTORY = uids.MediaStorageDirectoryStorage
SYNTHETIC_TYPE = "SYNTHETIC"  # a value of ImageType in every instance this package writes
SYNTHETIC_PREFIX = "SYN 3T-like"  # of SeriesDescription
MAKER = "lohi-edge"  # ManufacturerModelName of the equipment that computed an instance
# pydicom logs the values it finds wrong, and those may name a patient.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, eq=False)
class Instance:
    """A DICOM instance without its pixel data.

    Attributes:
        header: every element before the pixel data.
        sha256: of the instance's bytes as stored.
        syntax: transfer syntax UID; of a deflated instance, that of its inflated bytes.
        raw: the elements of `header` as stored, before any is decoded.
        pixels_at: offset of the pixel data element in the `inflated` bytes.
    """

    header: Dataset = field(repr=False)  # a patient's text
    sha256: str
    syntax: uids.UID
    pixels_at: int
    raw: Mapping[BaseTag, DataElement | RawDataElement] = field(repr=False)

    @property
    def sop_class(self) -> str:
        return text(self.header, "SOPClassUID")

    @property
    def sop_uid(self) -> str:
        return text(self.header, "SOPInstanceUID")

    @property
    def series_uid(self) -> str:
        return text(self.header, "SeriesInstanceUID")


def is_uid(found: str) -> bool:
    """Whether a text is a UID (PS3.5 9.1), as far as a path or a name depends on it."""
    return bool(_UID.fullmatch(found)) and len(found) <= 64


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file beginning with `start` (132 bytes or more) may be DICOM, preamble or none."""
    if start[128:132] == b"DICM":
        return True
    return start[:2] in (b"\x02\x00", b"\x08\x00") and len(start) >= 12 and start[3] == 0


def parse(stored: bytes) -> Instance:
    """The header of an instance.

    Raises:
        BadInput: not DICOM, damaged, or its header is larger than any scanner writes.
    """
    if not looks_like_dicom(stored[:132]):
        raise BadInput("not a DICOM file; check what was sent or copied")
    data = inflated(stored, MAX_HEADER)
    file = io.BytesIO(data[:MAX_HEADER])
    with quiet("its header"):
        header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        at = file.tell()
        raw = {tag: header.get_item(tag) for tag in header.keys()}  # noqa: SIM118 (no dict)
        syntax = uids.UID(header.file_meta.get("TransferSyntaxUID") or _guess(header))
    if syntax not in uids.AllTransferSyntaxes:
        raise BadInput("unknown transfer syntax; convert it with dcmconv to explicit little endian")
    if at >= MAX_HEADER:
        raise BadInput(f"expected a header of at most {MAX_HEADER:,} bytes; this is no head scan")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not is_uid(text(header, keyword)):
            if "DirectoryRecordSequence" in header:
                raise BadInput("a DICOMDIR, not an image; name the folder it stands in")
            raise BadInput(f"expected a valid {keyword}, found none; export the scan again")
    return Instance(header, sha256(stored), syntax, at, raw)


def inflated(stored: bytes, most: int) -> bytes:
    """The bytes of an instance; of a deflated data set (PS3.5 A.5) its first `most`, inflated.

    Raises:
        BadInput: damaged.
    """
    deflated = uids.DeflatedExplicitVRLittleEndian.encode()
    if deflated not in stored[132:1024] or stored[132:136] != b"\x02\x00\x00\x00":
        return stored
    end = 144 + int.from_bytes(stored[140:144], "little")
    meta = stored[:end]
    if deflated not in meta:
        return stored
    try:
        body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored[end:], most)
    except zlib.error:
        raise BadInput("damaged deflated data set; copy the file again") from None
    plain = uids.ExplicitVRLittleEndian.encode().ljust(len(deflated), b"\0")
    return meta.replace(deflated, plain) + body


@contextmanager
def quiet(what: str) -> Iterator[None]:
    """Parsing of untrusted elements: whatever it stumbles over becomes BadInput.

    pydicom's warnings and messages quote values, which may name a patient; none gets out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except BadInput:
            raise
        except Exception as error:  # noqa: BLE001 (hostile bytes raise anything inside pydicom)
            name = type(error).__name__
            raise BadInput(f"damaged DICOM: {what} cannot be read ({name})") from None


def text(item: Dataset, keyword: str) -> str:
    """A string value, empty where absent.

    Raises:
        BadInput: it cannot be decoded.
    """
    with quiet(keyword):
        value = item.get(keyword)
        return "" if value is None else str(value)


def texts(item: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a multi-valued string, empty where absent."""
    with quiet(keyword):
        value = item.get(keyword)
        if value is None or value == "":
            return ()
        return (value,) if isinstance(value, str) else tuple(str(part) for part in value)


def numbers(item: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None where the element is absent or empty.

    Raises:
        BadInput: another count, or values that are not finite numbers.
    """
    with quiet(keyword):
        value = item.get(keyword)
        if value is None or value == "":
            return None
        several = not isinstance(value, str) and hasattr(value, "__len__")
        values = tuple(float(part) for part in (value if several else (value,)))
    if not values:
        return None
    if len(values) != count or not all(map(math.isfinite, values)):
        raise BadInput(f"expected {count} finite numbers in {keyword}, got {len(values)}")
    return values


def number(item: Dataset, keyword: str) -> float | None:
    """A finite number, or None where the element is absent or empty."""
    found = numbers(item, keyword, 1)
    return found[0] if found else None


def items(item: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence, empty where absent."""
    with quiet(keyword):
        found: Any = item.get(keyword)
        if found is None:
            return []
        return [one for one in found if isinstance(one, Dataset)]


def _guess(header: Dataset) -> uids.UID:
    """The transfer syntax of an instance without file meta information, as pydicom read it."""
    implicit, little = header.original_encoding
    if implicit:
        return uids.ImplicitVRLittleEndian
    return uids.ExplicitVRLittleEndian if little else uids.ExplicitVRBigEndian
