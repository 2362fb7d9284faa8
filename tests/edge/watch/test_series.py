"""Several series in one place of the inbox: each a scan of its own, the place a whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest

from dicom_series import ball, number, save, study
from lohi_edge.watch import series
from lohi_edge.watch.group import UNREADABLE, is_slice_name
from lohi_edge.watch.inbox import SETTLE_S, Inbox

DISC = Path(pydicom.__file__).parent / "data/test_files/dicomdirtests"

pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("IM0001", True), ("1.2.840.7", True), ("a.DCM", True), ("a.ima", True), ("a.", True),
     ("a.nii", False), ("a.nii.gz", False), (".dcm", False), (".1.dcm", False), ("a.txt", False)],
)  # fmt: skip
def test_which_names_may_be_slices(name, wanted):
    assert is_slice_name(name) is wanted


class TestInbox:
    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "in").mkdir()
        return tmp_path / "in"

    def ready(self, inbox, at=0.0):
        inbox.look(at)
        return inbox.look(at + 10)

    def test_a_folder_is_sorted_into_series_and_says_what_it_skips(self, root):
        study(root / "ward")
        (root / "ward/notes").write_text("no DICOM")
        look = self.ready(Inbox(root, lambda path: None))
        assert [(number(f.path), len(f.parts)) for f in look.ready] == [("1", 24), ("2", 24)]
        assert all(f.path.startswith("ward/series-") and not f.refused for f in look.ready)
        assert list(look.skipped.values()) == ["a localizer"]

    def test_a_late_slice_changes_its_own_series_only(self, root):
        *made, late = ball(1)
        folder = save(root / "ward", made)
        save(folder, ball(2), prefix="two")
        inbox = Inbox(root, lambda path: None)
        before = {number(p): mark for p, mark in inbox.look(0).present.items()}
        save(folder, [late], prefix="late")
        after = {number(p): mark for p, mark in inbox.look(1).present.items()}
        assert before["2"] == after["2"]
        assert before["1"] != after["1"]

    def test_two_patients_in_a_folder_are_refused_and_in_the_inbox_itself_are_not(self, root):
        for folder in (root, root / "ward"):
            save(folder, ball(1), prefix="a")
            save(folder, ball(2, patient_id="OTHER"), prefix="b")
        look = self.ready(Inbox(root, lambda path: None))
        assert [(f.path.count("/"), bool(f.refused)) for f in look.ready] == [
            (0, False), (0, False), (1, True), (1, True),
        ]  # fmt: skip
        assert "2 patients" in look.ready[-1].refused

    def test_a_damaged_file_could_be_of_any_series_of_its_folder(self, root):
        save(root / "ward", ball(1))
        whole = (root / "ward/z00000").read_bytes()
        (root / "ward/cut").write_bytes(whole[:300])
        (root / "cut").write_bytes(whole[:300])
        save(root, ball(2))
        inbox = Inbox(root, lambda path: None)
        look = self.ready(inbox)
        refused = {f.path: bool(f.refused) for f in look.ready}
        assert len(refused) == 4
        assert refused[UNREADABLE] is True
        assert [r for p, r in refused.items() if p.startswith("ward/")] == [True, True]
        before = look.present
        (root / "ward/cut").unlink()
        after = inbox.look(20).present
        (mended,) = (p for p in after if p.startswith("ward/"))
        assert after[mended] != before[mended]  # so that it is tried again

    def test_a_file_that_cannot_be_read_holds_up_its_folder_and_in_the_inbox_itself_only_itself(
        self, root, monkeypatch
    ):
        for place in (root, root / "ward"):
            save(place, ball(1))
            save(place, ball(2)[:1], prefix="shut")
        start_of = series.start_of

        def guarded(part, *rest):
            if part.path.name.startswith("shut"):
                raise PermissionError(13, "Permission denied")
            return start_of(part, *rest)

        inbox = Inbox(root, lambda path: None)
        with monkeypatch.context() as patch:
            patch.setattr(series, "start_of", guarded)
            look = self.ready(inbox)
        assert [f.path.count("/") for f in look.ready] == [0]
        denied = dict.fromkeys(("shut00000", "ward/shut00000"), "permission denied")
        assert look.unreadable == denied
        assert look.waiting == denied | {"ward": "permission denied"}
        look = inbox.look(30)  # though no mark changed
        assert [number(p) for p in look.present] == ["1", "2", "1", "2"]
        assert look.unreadable == {}

    @pytest.mark.parametrize("odd", [0, 12, 23])
    @pytest.mark.parametrize("said", [None, "7"])
    def test_the_name_of_a_series_does_not_hang_on_one_of_its_files(self, root, odd, said):
        made = ball(1)
        made[odd].SeriesNumber = said
        save(root / "ward", made, prefix="b")
        inbox = Inbox(root, lambda path: None)
        (before,) = inbox.look(0).present
        assert number(before) == "1"
        for file in (root / "ward").iterdir():
            file.rename(file.with_name(file.name[::-1]))  # another one is the first now
        assert list(inbox.look(1).present) == [before]

    def test_links_out_of_the_inbox_are_refused_and_never_followed(self, root, tmp_path):
        save(root / "ward", ball(1))
        outside = save(tmp_path / "away", ball(2)) / "z00000"
        (root / "ward/link").symlink_to(outside)
        look = self.ready(Inbox(root, lambda path: None))
        assert [number(f.path) for f in look.ready if not f.path.endswith(UNREADABLE)] == ["1"]
        assert all("symbolic link" in f.refused for f in look.ready)

    def test_archives_hold_series_too(self, root, tmp_path):
        shutil.make_archive(str(root / "packed"), "zip", study(tmp_path / "away"))
        look = self.ready(Inbox(root, lambda path: None))
        assert [number(f.path) for f in look.ready] == ["1", "2"]
        assert all(f.path.startswith("packed.zip/") for f in look.ready)

    def test_archives_that_are_cut_off_or_hold_no_scan_are_files(self, root, tmp_path):
        """Which wait for their end, or fail with a reason when they are read."""
        packed = shutil.make_archive(str(tmp_path / "packed"), "zip", study(tmp_path / "away"))
        whole = Path(packed).read_bytes()
        (root / "cut.zip").write_bytes(whole[:-300])
        (root / "text.zip").write_text("no archive")
        inbox = Inbox(root, lambda path: None)
        look = self.ready(inbox)
        assert set(look.present) == set(look.waiting) == {"cut.zip", "text.zip"}
        (root / "cut.zip").write_bytes(whole)
        assert [number(p) for p in inbox.look(11).present if p.startswith("cut.zip/")] == ["1", "2"]

    def test_an_unlimited_folder_takes_several_looks(self, root, monkeypatch):
        study(root / "ward")
        inbox = Inbox(root, lambda path: None)
        monkeypatch.setattr(series, "BUDGET_S", -1.0)
        look = inbox.look(0)
        assert (look.present, look.settling) == ({}, True)
        assert look.waiting == {"ward": "not looked into yet"}
        monkeypatch.setattr(series, "BUDGET_S", 60.0)
        assert len(inbox.look(SETTLE_S).present) == 2

    def test_a_header_longer_than_the_first_look_is_read_on(self, root):
        made = ball(1)
        for ds in made:
            ds.add_new(0x00090010, "LO", "MAKER")
            ds.add_new(0x00091001, "OB", bytes(200_000))
        save(root / "ward", made)
        (found,) = self.ready(Inbox(root, lambda path: None)).ready
        assert (len(found.parts), found.refused) == (24, None)

    def test_a_disc_is_the_folders_on_it(self, root):
        """The DICOMDIR beside them is no scan."""
        shutil.copytree(DISC / "98892003/MR700", root / "disc/MR700")
        shutil.copy(DISC / "DICOMDIR", root / "disc/DICOMDIR")
        look = self.ready(Inbox(root, lambda path: None))
        assert {f.path.rpartition("/")[0] for f in look.ready} == {"disc/MR700"}
        assert {f.refused for f in look.ready} == {None}
