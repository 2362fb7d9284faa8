"""The contact sheet of a derived series: a secondary capture in the same study (PS3.3 A.8)."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid as dicom_uids
from pydicom.filewriter import dcmwrite

from lohi_edge.dicom import uids, words
from lohi_edge.dicom.attributes import identify, of_study, source_images
from lohi_edge.dicom.folder import encoded
from lohi_edge.dicom.read import Acquired
from lohi_edge.files import atomic_write, sha256
from lohi_edge.volume import Volume


def write_sheet(
    path: Path, picture: NDArray[np.uint8], scan: Volume, record: dict[str, Any]
) -> dict[str, Any]:
    """Write a picture of scan and result as an instance of its own series.

    Args:
        picture: (rows, columns), marked as synthetic in its pixels.
        scan: read from a DICOM series.
        record: the receipt, with the `result` that the picture shows.

    Returns:
        What was written, for the receipt.

    Raises:
        DiskError: nothing was left behind.
    """
    assert scan.origin is not None
    acquired: Acquired = scan.origin.header
    source = acquired.frames[0].instance
    pixels = np.ascontiguousarray(picture, dtype=np.uint8)
    named = (record["result"]["series_uid"], hashlib.sha256(pixels.tobytes()).hexdigest())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of slips in the acquired header, with text
        ds = of_study(source)
        identify(ds, source, record)
        ds.SOPClassUID = dicom_uids.SecondaryCaptureImageStorage
        ds.Modality, ds.ConversionType = "OT", "WSD"
        ds.SeriesDescription = words.series_description(record, "sheet")
        if ds.SeriesNumber is not None:
            ds.SeriesNumber += 1000  # behind the derived series, which is as far behind its source
        # Its mark is burnt in; so that a system which asks for that finds it, "YES".
        ds.BurnedInAnnotation = "YES"
        ds.InstanceNumber, ds.PatientOrientation = 1, None
        ds.SeriesInstanceUID = uids.derive("sheet series", *named)
        ds.SOPInstanceUID = uids.derive("sheet", *named)
        ds.SourceImageSequence = source_images(list(acquired.frames))
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = pixels.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        data = pixels.tobytes()
        ds.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
        with atomic_write(path) as file:
            dcmwrite(file, encoded(ds), enforce_file_format=True)
    return {
        "path": path.name,
        "sha256": sha256(path.read_bytes()),
        "series_uid": str(ds.SeriesInstanceUID),
    }
