"""When a file is ready, and when it is not."""

from __future__ import annotations

import gzip
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_series import SMALL, save, slices
from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.watch import content
from lohi_edge.watch.inbox import SETTLE_S, Inbox
from lohi_edge.watch.listing import is_candidate, mark_of
from lohi_edge.watch.lookout import Lookout


def nifti_bytes(order="<", size=348, voxels=1000) -> bytes:
    """A bare header and uint8 voxels: dim, bitpix and vox_offset where the standard puts them."""
    head = bytearray(size)
    struct.pack_into(order + "i", head, 0, size)
    dims = (3, voxels, 1, 1, 1, 1, 1, 1)
    dim, bitpix, offset = {
        348: ((40, "8h"), (72, "h", 8), (108, "f", 352.0)),
        540: ((16, "8q"), (14, "h", 8), (168, "q", 544)),
    }[size]
    struct.pack_into(order + dim[1], head, dim[0], *dims)
    struct.pack_into(order + bitpix[1], head, *(bitpix[0], bitpix[2]))
    struct.pack_into(order + offset[1], head, *(offset[0], offset[2]))
    return bytes(head) + bytes(4) + os.urandom(voxels)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [348, 540])
@pytest.mark.parametrize("packed", [False, True])
def test_every_cut_is_noticed(tmp_path, order, size, packed):
    whole = nifti_bytes(order, size)
    whole = gzip.compress(whole) if packed else whole
    path = tmp_path / "scan"
    for length in [*range(0, 40), size, size + 3, size + 4, len(whole) - 8, len(whole) - 1]:
        path.write_bytes(whole[:length])
        told = content.missing(path)
        if not packed and 0 < length < 4:
            continue  # too short even to say that it is a NIfTI; the next look sees more
        assert told, length
    path.write_bytes(whole)
    assert content.missing(path) is None


@given(cut=st.integers(1, 400))
def test_a_gzip_of_several_members_is_complete_only_at_its_end(tmp_path_factory, cut):
    raw = nifti_bytes(voxels=3000)
    whole = gzip.compress(raw[:2000]) + gzip.compress(raw[2000:])
    path = tmp_path_factory.mktemp("gz") / "scan"
    path.write_bytes(whole)
    assert content.missing(path) is None
    path.write_bytes(whole[:-cut])
    assert content.missing(path)


@pytest.mark.parametrize("start", [b"no NIfTI header", nifti_bytes(voxels=3000)])
def test_a_file_that_inflates_without_end_is_not_inflated_to_its_end(tmp_path, monkeypatch, start):
    """It would hold up the daemon for minutes, which systemd then ends, again and again."""
    inflated = []

    class Counting(content.igzip.GzipFile):
        def read(self, size=-1):
            data = super().read(size)
            inflated.append(len(data))
            return data

    monkeypatch.setattr(content.igzip, "GzipFile", Counting)
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(start) + 25 * gzip.compress(bytes(2 << 20)))
    assert content.missing(path) is None
    assert sum(inflated) < 4 << 20
    with pytest.raises(BadInput):
        nifti.read(path)


@pytest.mark.parametrize("data", [b"plain text, no scan", b"\x1f\x8b" + b"no gzip at all" * 9])
def test_what_is_no_scan_lacks_nothing(tmp_path, data):
    path = tmp_path / "scan"
    path.write_bytes(data)
    assert content.missing(path) is None


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.nii", True),
        ("a.NII.GZ", True),
        (".a.nii", False),
        ("a.nii.part", False),
        ("a.nii.gz.tmp", False),
        ("a_desc-synthetic.nii.gz", False),
        ("a.dcm", False),
        ("-a.nii", True),
    ],
)
def test_which_names_are_scans(name, wanted):
    assert is_candidate(name) is wanted


def test_ready_needs_two_looks_apart(root):
    (root / "a.nii").write_bytes(nifti_bytes())
    inbox = Inbox(root, lambda _: None)
    first = inbox.look(0.0)
    assert (first.ready, first.settling) == ([], True)
    assert inbox.look(SETTLE_S / 2).ready == []
    assert [f.path for f in inbox.look(SETTLE_S).ready] == ["a.nii"]


def test_any_change_starts_over(root):
    path = root / "a.nii"
    path.write_bytes(nifti_bytes())
    inbox = Inbox(root, lambda _: None)
    inbox.look(0.0)
    os.utime(path, ns=(5, 5))
    assert inbox.look(1.0).ready == []
    path.chmod(0o600)  # only ctime moves
    assert inbox.look(2.0).ready == []
    assert [f.path for f in inbox.look(3.0).ready] == ["a.nii"]


def test_unstable_inodes_are_left_out_of_the_mark(root):
    """SMB servers may make up an inode number at every look."""
    path = root / "a"
    path.write_bytes(b"x")
    status = path.stat()
    other = os.stat_result([*status[:1], status.st_ino + 1, *status[2:]])
    assert mark_of(status, True) != mark_of(other, True).replace("None", "")
    assert mark_of(status, False).count(":") == 2


def test_the_sidecar_belongs_to_the_scan(root):
    (root / "a.nii").write_bytes(nifti_bytes())
    beside = root / "a.json"
    beside.write_text('{"SeriesDesc')
    inbox = Inbox(root, lambda _: None)
    inbox.look(0.0)
    assert "sidecar" in inbox.look(1.0).waiting["a.nii"]
    beside.write_text('{"SeriesDescription": "T2"}')
    assert inbox.look(2.0).ready == []  # it changed: one more look
    assert inbox.look(3.0).ready[0].mark == inbox.mark("a.nii")


def test_known_files_are_not_offered_again_until_they_change(root):
    path = root / "a.nii"
    path.write_bytes(nifti_bytes())
    known = {}
    inbox = Inbox(root, known.get)
    inbox.look(0.0)
    (found,) = inbox.look(1.0).ready
    known["a.nii"] = found.mark
    assert inbox.look(2.0).ready == inbox.look(3.0).ready == []
    os.utime(path, ns=(7, 7))
    inbox.look(4.0)
    assert len(inbox.look(5.0).ready) == 1


def test_an_unreadable_folder_hides_only_itself(root, monkeypatch):
    for folder in ("open", "shut"):
        (root / folder).mkdir()
        (root / folder / "a.nii").write_bytes(nifti_bytes())
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    look = Inbox(root, lambda _: None).look(0.0)
    assert list(look.present) == ["open/a.nii"]
    assert look.troubles == ["shut: permission denied"]


@pytest.mark.parametrize("name", ["a.nii", "slice.dcm", "1.2.840"])
def test_a_folder_that_can_be_listed_and_no_more_holds_up_itself_alone(unprivileged, name):
    """Without its x bit, nothing in it can be looked at."""
    for folder in ("open", "shut"):
        (unprivileged / folder).mkdir()
    (unprivileged / "open" / "a.nii").write_bytes(nifti_bytes())
    (unprivileged / "shut" / name).write_bytes(nifti_bytes())
    (unprivileged / "shut").chmod(0o444)
    inbox = Inbox(unprivileged, lambda _: None)
    inbox.look(0.0)
    look = inbox.look(1.0)
    assert [found.path for found in look.ready] == ["open/a.nii"]
    assert look.unreadable == {f"shut/{name}": "permission denied"}
    assert look.waiting.items() >= look.unreadable.items()


@pytest.mark.parametrize("name", ["round", "round.dcm", "round.nii", "ward/round"])
def test_a_link_to_itself_holds_up_nothing(root, name):
    (root / "ward").mkdir()
    (root / "a.nii").write_bytes(nifti_bytes())
    (root / name).symlink_to((root / name).name)
    inbox = Inbox(root, lambda _: None)
    inbox.look(0.0)
    assert [found.path for found in inbox.look(1.0).ready] == ["a.nii"]


def test_a_missing_inbox_is_an_error_and_not_an_empty_one(root):
    root.rmdir()
    with pytest.raises(FileNotFoundError):
        Inbox(root, lambda _: None).look(0.0)


def test_files_that_are_no_scans_are_told_of(root):
    """Whoever copies a scan of another format waits for nothing, and should hear of it."""
    (root / "ward").mkdir()
    others = ["scan.mgz", "ward/a.tar.gz", "ward/slice.mr", "ward/broken.dcm", "README"]
    expected = ["a.json", ".hidden.mgz", "b.nii.gz.part", "Thumbs.db", "DICOMDIR"]
    ours = f"x{nifti.RESULT}_report.html"
    for name in (*others, *expected, ours, "scan.nii"):
        (root / name).write_bytes(b"no scan")
    (root / "link.mgz").symlink_to(root / "scan.mgz")
    save(root / "study", slices(SMALL))
    inbox = Inbox(root, lambda path: None)
    assert sorted(inbox.look(0).others) == sorted(others)
    (root / "scan.mgz").unlink()
    assert sorted(inbox.look(1).others) == sorted(others[1:])


def test_files_that_are_no_scans_are_logged_once_and_without_names(root):
    said = []
    lookout = Lookout(
        root, Inbox(root, lambda path: None), lambda event, **facts: said.append((event, facts))
    )
    (root / "miller.mgz").write_bytes(b"x")
    lookout.see(0)
    lookout.see(1)
    assert said == [("files.ignored", {"count": 1, "why": "no scans"})]
