"""What decides to which series and patient an instance belongs, and whether it is for enhancing.

All of it stands before the geometry, so that a look into the first bytes of a file is enough.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial

from lohi_edge.dicom.instance import (
    DIRECTORY,
    ENHANCED,
    MAKER,
    MAX_HEADER,
    MR_IMAGE,
    SYNTHETIC_PREFIX,
    SYNTHETIC_TYPE,
    inflated,
    is_uid,
    items,
    looks_like_dicom,
    quiet,
    text,
    texts,
)
from lohi_edge.errors import BadInput

START = 128 << 10  # bytes of a file in which all of this stands, but for odd ones
MOST = MAX_HEADER
_LAST = 0x00200011  # SeriesNumber
_LOCALIZER = re.compile(r"locali[sz]er|scout|survey|3[- ]?plane|(?<![a-z])loc(?![a-z])", re.I)
_NAME = re.compile(r"series-[0-9]{1,8}-[0-9a-f]{8}")


@dataclass(frozen=True)
class Glance:
    """One instance, as far as its series is concerned.

    Attributes:
        series_uid: SeriesInstanceUID.
        number: SeriesNumber as written, empty where absent.
        patient: ID and name, the spelling of the name levelled.
        sop_class, modality: as written.
        synthetic: this package computed it, even if a PACS has edited its attributes since.
        localizer: it calls itself one.
        phase: a phase image.
    """

    series_uid: str
    number: str
    patient: tuple[str, str] = field(repr=False)
    sop_class: str
    modality: str
    synthetic: bool
    localizer: bool
    phase: bool


def series_name(glances: Collection[Glance]) -> str:
    """Name of the series of these instances, for files made from it; says nothing of the patient.

    Where they differ in SeriesNumber, what most of them say counts, whatever their order.
    """
    numbers = ("".join(c for c in g.number if c.isascii() and c.isdigit())[:8] for g in glances)
    counts = Counter(filter(None, numbers))
    number = min(counts, key=lambda one: (-counts[one], one), default="0")
    token = hashlib.sha256(next(iter(glances)).series_uid.encode()).hexdigest()[:8]
    return f"series-{number}-{token}"


def is_series_name(name: str) -> bool:
    """Whether a name is one that `series_name` gives."""
    return bool(_NAME.fullmatch(name))


def of(header: Dataset) -> Glance:
    """A header's glance.

    Raises:
        BadInput: an element cannot be decoded.
    """
    kinds, description = texts(header, "ImageType"), text(header, "SeriesDescription")
    makers: tuple[Any, ...] = (header, *items(header, "ContributingEquipmentSequence"))
    name = re.sub(r"[\W_]+", " ", text(header, "PatientName")).strip().casefold()
    return Glance(
        series_uid=text(header, "SeriesInstanceUID"),
        number=text(header, "SeriesNumber"),
        patient=(text(header, "PatientID").strip(), name),
        sop_class=text(header, "SOPClassUID"),
        modality=text(header, "Modality"),
        synthetic=SYNTHETIC_TYPE in kinds
        or description.startswith(SYNTHETIC_PREFIX)
        or any(text(item, "ManufacturerModelName") == MAKER for item in makers),
        localizer="LOCALIZER" in kinds or bool(_LOCALIZER.search(description)),
        phase="PHASE MAP" in kinds,
    )


def look(start: bytes, whole: bool) -> Glance | None:
    """The glance of a file that begins with `start`; None where it is no DICOM image.

    Args:
        whole: `start` is all of the file.

    Raises:
        BadInput: DICOM, but damaged.
        EOFError: more of the file is needed.
    """
    if not looks_like_dicom(start[:132]):
        return None
    certain = start[128:132] == b"DICM"
    if certain and DIRECTORY.encode() in start[:1024]:
        return None
    try:
        found = _parse(start, whole)
    except BadInput:
        if certain:
            raise
        return None  # two bytes that look like a tag without a preamble: some other file
    return found


def _parse(start: bytes, whole: bool) -> Glance:
    passed = False

    def stop(tag: Any, vr: Any, length: Any) -> bool:
        nonlocal passed
        passed = passed or tag > _LAST
        return passed

    problem: BadInput | None = None
    try:
        with quiet("its header"):
            header = read_partial(io.BytesIO(inflated(start, MOST)), stop_when=stop, force=True)
    except BadInput as error:
        problem = error
    if not whole and (problem or not passed):
        raise EOFError
    if problem:
        raise problem
    found = of(header)
    if not is_uid(found.series_uid):
        raise BadInput("expected a valid SeriesInstanceUID, found none; export the scan again")
    return found


def patients(glances: Collection[Glance]) -> int:
    """How many patients these instances are of; 1 where ID and name agree among all of them."""
    keys = {glance.patient for glance in glances}
    same = all(len({key[part] for key in keys}) <= 1 for part in (0, 1))
    return 1 if same else len(keys)


def several_patients(count: int) -> str:
    """What to say of images of so many patients in one place."""
    return f"images of {count} patients in one place; separate them before anything is computed"


def unfit(glances: Collection[Glance]) -> str | None:
    """Why a series of these instances is not for enhancing, or None."""
    if any(glance.synthetic for glance in glances):
        return "computed by lohi-edge already; the acquired series is what to enhance"
    first = next(iter(glances))
    if first.sop_class.startswith(uids.SecondaryCaptureImageStorage):
        return "a secondary capture, not a scan"
    if first.modality != "MR" or first.sop_class not in (MR_IMAGE, *ENHANCED):
        known = first.modality.isalpha() and len(first.modality) <= 8
        kind = first.modality if known else "something else"
        return f"not an MR image ({kind}, {uids.UID(first.sop_class).name[:40]})"
    if any(glance.localizer for glance in glances):
        return "a localizer"
    if all(glance.phase for glance in glances):
        return "phase images, not magnitude"
    return None
