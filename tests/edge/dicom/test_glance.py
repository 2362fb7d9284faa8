"""What the first bytes of a file say of it: the same as all of it, and never a surprise."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid as uids

from dicom_series import slices, write
from helpers import small_head
from lohi_edge.dicom import glance
from lohi_edge.dicom.glance import Glance
from lohi_edge.dicom.instance import parse
from lohi_edge.errors import BadInput

FILES = Path(pydicom.__file__).parent / "data/test_files"


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm",
                                  "CT_small.dcm", "examples_overlay.dcm"])  # fmt: skip
def test_the_start_of_a_file_says_what_all_of_it_says(name):
    stored = (FILES / name).read_bytes()
    wanted = glance.of(parse(stored).header)
    found = glance.look(stored[: glance.START], whole=len(stored) <= glance.START)
    assert found == wanted
    assert glance.look(stored[:4000], whole=False) == wanted


def test_a_deflated_file_too(tmp_path):
    ds = slices(small_head(1))[0]
    ds.file_meta.TransferSyntaxUID = uids.DeflatedExplicitVRLittleEndian
    stored = write(tmp_path / "x", ds).read_bytes()
    assert glance.look(stored, whole=True) == glance.of(parse(stored).header)


def test_what_is_no_image_has_none():
    assert glance.look((FILES / "dicomdirtests/DICOMDIR").read_bytes(), whole=True) is None
    assert glance.look(b"\x08\x00\x05\x00 some other file, by accident", whole=True) is None
    assert glance.look(b"plain text" * 50, whole=True) is None


def test_a_start_that_ends_too_soon_asks_for_more():
    stored = (FILES / "MR_small.dcm").read_bytes()
    with pytest.raises(EOFError):
        glance.look(stored[:600], whole=False)
    with pytest.raises(BadInput):
        glance.look(stored[:600], whole=True)


def stored():
    file = io.BytesIO()
    ds = slices(small_head(1))[0]
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


WHOLE = stored()


@given(
    changes=st.lists(
        st.tuples(st.integers(0, 1600), st.binary(min_size=1, max_size=8)), min_size=1, max_size=12
    ),
    cut=st.integers(0, len(WHOLE)),
    whole=st.booleans(),
)
def test_any_bytes_give_a_glance_or_one_of_two_refusals(changes, cut, whole):
    """It runs in the daemon itself, so nothing else may come out of it."""
    data = bytearray(WHOLE)
    for at, piece in changes:
        data[at : at + len(piece)] = piece
    found: Glance | BadInput | EOFError | None
    try:
        found = glance.look(bytes(data[:cut] if cut % 2 else data), whole)
    except (BadInput, EOFError) as refusal:
        found = refusal
    assert isinstance(found, Glance | BadInput | EOFError | None)
    assert "PLANTED" not in str(found)


def test_names_say_nothing_of_the_patient_and_are_known_again():
    found = glance.look(WHOLE, whole=True)
    name = glance.series_name([found])
    assert glance.is_series_name(name)
    assert "PLANTED" not in name + repr(found)
