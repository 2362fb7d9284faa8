"""DICOM in, DICOM out: series -> Volume, and Volume -> a derived series that says it is synthetic.

>>> from lohi_edge import dicom
>>> found = dicom.find("study/")  # doctest: +SKIP
>>> volume = dicom.read(found.series[0])  # doctest: +SKIP
"""

from __future__ import annotations

from lohi_edge.dicom.converted import says_synthetic
from lohi_edge.dicom.folder import folder_digest
from lohi_edge.dicom.places import Part
from lohi_edge.dicom.read import only, read
from lohi_edge.dicom.series import Found, Series, find, is_dicom
from lohi_edge.dicom.sheet import write_sheet
from lohi_edge.dicom.words import DESCRIPTION
from lohi_edge.dicom.write import write

__all__ = [
    "DESCRIPTION",
    "Found",
    "Part",
    "Series",
    "find",
    "folder_digest",
    "is_dicom",
    "only",
    "read",
    "says_synthetic",
    "write",
    "write_sheet",
]
