"""Series -> Volume."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import intensities
from lohi_edge.clock import Clock
from lohi_edge.dicom.geometry import Frame, affine, describe
from lohi_edge.dicom.instance import Instance, number, text
from lohi_edge.dicom.pixels import MAX_VOXELS, decode
from lohi_edge.dicom.places import Part, contents
from lohi_edge.dicom.series import Series, find
from lohi_edge.errors import BadInput
from lohi_edge.files import sha256
from lohi_edge.volume import Float32, Origin, Volume, axcodes


@dataclass(frozen=True, eq=False)
class Acquired:
    """What writing a derived series needs of the acquired one.

    Attributes:
        frames: in the order of the stored array's third axis.
        series_uid: SeriesInstanceUID.
    """

    frames: tuple[Frame, ...] = field(repr=False)
    series_uid: str


def read(source: str | Path | Series, clock: Clock | None = None) -> Volume:
    """One head scan from a series, or from a place that holds exactly one to enhance.

    The stored array has axes (column, row, slice along the normal).

    Args:
        source: a Series that `find` found, or a folder, zip, DICOMDIR or enhanced MR file.
        clock: gets the phases "read" (bytes, headers, decoding) and "validate".

    Raises:
        BadInput: anything this reader will not vouch for; the message says what was expected,
            what was found and what to do, and names no patient.
    """
    clock = clock or Clock()
    with clock("read"):
        series = source if isinstance(source, Series) else only(Path(source))
    try:
        return _read(series, clock)
    except BadInput as error:
        message = str(error)
        known = message.startswith(str(series.path))
        raise BadInput(message if known else f"{series.path}: {series.name}: {message}") from None


def _read(series: Series, clock: Clock) -> Volume:
    with clock("validate"):
        ranked, notes = series.ordered()
        to_mm = affine(ranked)
        rows, columns = ranked[0].size
        if len(ranked) * rows * columns > MAX_VOXELS:
            raise BadInput(f"expected at most {MAX_VOXELS:,} voxels; {describe(ranked)}")
    with clock("read"):
        data = _voxels(series, ranked)
    with clock("validate"):
        intensities.check(data)
        first = ranked[0].instance
        if any(text(f.instance.header, "PhotometricInterpretation")[-1:] == "1" for f in ranked):
            notes = (*notes, "intensities: MONOCHROME1 was inverted, so that larger is brighter")
        origin = Origin(
            name=series.name,
            sha256=digest(series),
            axcodes=axcodes(to_mm),
            shape=data.shape,
            affine=to_mm,
            header=Acquired(tuple(ranked), series.uid),
            notes=notes,
            sidecar=_sidecar(first),
            kind="dicom",
        )
        return Volume.canonical(data, to_mm, origin)


def digest(series: Series) -> str:
    """sha256 over the instances' own, in the order of their SOP Instance UIDs."""
    ordered = sorted(series.instances, key=lambda instance: instance.sop_uid)
    return hashlib.sha256("".join(i.sha256 for i in ordered).encode()).hexdigest()


def only(path: Path, parts: Sequence[Part] | None = None) -> Series:
    """The one series to enhance in a place.

    Args:
        parts: of the place; None for all of it.

    Raises:
        BadInput: none, or several, or a file is damaged.
    """
    found = find(path, parts)
    if trouble := next((series.trouble for series in found.series if not series.instances), None):
        raise BadInput(trouble)
    if len(found.series) > 1:
        names = ", ".join(series.name for series in found.series)
        raise BadInput(f"{path}: expected one series to enhance, found {names}; name one folder")
    return found.series[0]


def _voxels(series: Series, ranked: list[Frame]) -> Float32:
    """Real values (columns, rows, slices), float32."""
    places: dict[str, list[int]] = {}
    for place, frame in enumerate(ranked):
        places.setdefault(frame.instance.sop_uid, []).append(place)
    rows, columns = ranked[0].size
    planes = np.empty((len(ranked), rows, columns), dtype=np.float32)
    for instance, stored in zip(series.instances, contents(series.parts), strict=True):
        if sha256(stored) != instance.sha256:
            raise BadInput("a file changed while the series was read; enhance it again")
        values = decode(instance, stored)
        padding = _padding(instance)
        for place in places.get(instance.sop_uid, ()):
            frame = ranked[place]
            plane = values[frame.index]
            with np.errstate(over="ignore", invalid="ignore"):  # looked for behind it
                np.multiply(plane, np.float32(frame.slope), out=planes[place], casting="unsafe")
                planes[place] += np.float32(frame.intercept)
            if padding is not None and (pad := plane == padding).any() and not pad.all():
                planes[place][pad] = planes[place][~pad].min()
    volume: Float32 = planes.transpose(2, 1, 0)
    return volume


def _padding(instance: Instance) -> int | None:
    """The stored value that means "no image here" (PS3.3 C.7.5.1.1.2), where it is no intensity.

    Some scanners name 0 as padding in images whose air is 0; that is left as it is.
    """
    if text(instance.header, "PhotometricInterpretation") != "MONOCHROME2":
        return None
    value: Any = number(instance.header, "PixelPaddingValue")
    return None if value is None or value >= 0 else int(value)


def _sidecar(instance: Instance) -> dict[str, Any]:
    """The BIDS keys that decide on the contrast, from the header."""
    found: dict[str, Any] = {
        key: value
        for key in ("SeriesDescription", "ProtocolName")
        if (value := text(instance.header, key))
    }
    strength = number(instance.header, "MagneticFieldStrength")
    return found if strength is None else {**found, "MagneticFieldStrength": strength}
