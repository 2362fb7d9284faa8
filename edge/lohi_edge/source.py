"""What a scan may come as: a NIfTI file, a DICOM series or place, a Volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lohi_edge import dicom, intensities, nifti
from lohi_edge.clock import Clock
from lohi_edge.dicom import Series
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import is_directory
from lohi_edge.nifti_header import Prefer
from lohi_edge.volume import Origin, Volume

Scan = str | Path | Series | Volume
Format = Literal["auto", "nifti", "dicom"]


def resolve(scan: Scan) -> Path | Series | Volume:
    """A folder, zip archive, DICOMDIR or DICOM file becomes the one series in it.

    Raises:
        BadInput: it holds no series to enhance, or several.
    """
    if isinstance(scan, Series | Volume):
        return scan
    path = Path(scan)
    if is_directory(path) or (not nifti.is_nifti_name(path) and dicom.is_dicom(path)):
        return dicom.only(path)
    return path


def read(scan: Path | Series | Volume, prefer: Prefer | None, clock: Clock) -> Volume:
    """The scan's volume, an acquired one.

    Raises:
        BadInput: it cannot be read, or it is a synthetic image.
    """
    if isinstance(scan, Series):
        return dicom.read(scan, clock)
    if isinstance(scan, Volume):
        intensities.check(scan.data)
    volume = scan if isinstance(scan, Volume) else nifti.read(scan, prefer=prefer, clock=clock)
    refuse_synthetic(volume)
    return volume


def refuse_synthetic(volume: Volume) -> None:
    """Raises BadInput where a volume was computed by a generator and is no acquired scan."""
    origin = volume.origin
    if origin and (said := says_synthetic(origin)):
        raise BadInput(
            f"{origin.name}: this image is synthetic already ({said} says so); "
            "use the acquired scan it was made from"
        )


def says_synthetic(origin: Origin) -> str | None:
    """What says that an image was computed; None where nothing does."""
    if origin.synthetic:
        return "its origin"
    if origin.kind == "nifti" and (
        nifti.is_synthetic(origin.header) or _begins(origin.header["aux_file"])
    ):
        return "its header"
    if nifti.names_result(origin.name):  # other tools rewrite headers
        return "its name"
    sidecar = origin.sidecar or {}
    if "LohiEdge" in sidecar or dicom.says_synthetic(sidecar):
        return "its sidecar"
    return None


def _begins(comments: Any) -> bool:
    """Whether the start of a derived series' ImageComments, which dcm2niix keeps in `aux_file`."""
    words = bytes(comments.item())
    return len(words) > 16 and dicom.DESCRIPTION.encode().startswith(words[:23])


def stem(scan: Path | Series | Volume) -> str:
    """The name that results of a scan begin with."""
    if isinstance(scan, Path):
        return nifti.stem(scan)
    if isinstance(scan, Series):
        return scan.name
    return nifti.stem(Path(scan.origin.name if scan.origin else "volume"))


def label(scan: Path | Series) -> str:
    """What to call a scan in a message."""
    return f"{scan.path}: {scan.name}" if isinstance(scan, Series) else str(scan)


def written_as(scan: Path | Series | Volume, wanted: Format) -> Literal["nifti", "dicom"]:
    """The format of a scan's result: as it came, unless another one is wanted.

    Raises:
        UsageError: DICOM is wanted of a scan that did not come as DICOM.
    """
    from_dicom = isinstance(scan, Series) or (
        isinstance(scan, Volume) and scan.origin is not None and scan.origin.kind == "dicom"
    )
    if wanted == "dicom" and not from_dicom:
        raise UsageError(
            "expected a DICOM series for --format dicom, got NIfTI, which names no patient or "
            "study; use --format nifti"
        )
    return "dicom" if from_dicom and wanted != "nifti" else "nifti"
