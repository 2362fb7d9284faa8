"""What is no volume is refused in one clear sentence; a slip that harms nothing is not."""

from __future__ import annotations

import shutil
import warnings

import pytest
from pydicom import uid as uids

from dicom_series import SMALL, header, refusal, save, slices, write
from lohi_edge import batch, dicom
from lohi_edge.errors import BadInput


def without(k):
    return lambda made: made[:k] + made[k + 1 :]


def again(made):
    twin = slices(SMALL)[2]
    twin.SOPInstanceUID += ".7"
    return [*made, twin]


def each(**values):
    def change(made):
        for n, ds in enumerate(made):
            for keyword, value in values.items():
                setattr(ds, keyword, value(n) if callable(value) else value)
        return made

    return change


REFUSALS = {
    "a slice is missing": (without(2), "1 slice(s) missing, the first behind slice 2 of 4"),
    "a slice is there twice": (again, "1 of 6 slices lie where another one lies"),
    "two images under one UID": (each(SOPInstanceUID="1.2.3"), "stands for different images"),
    "uneven": (
        each(ImagePositionPatient=lambda n: [0, 0, [0, 5, 12, 19.5, 28][n]]),
        "evenly spaced",
    ),
    "tilted": (each(ImagePositionPatient=lambda n: [0, n, 5 * n]), "11.3 degrees (gantry tilt)"),
    "echoes": (each(EchoTime=lambda n: 5 + 80 * (n % 2)), "echo times 5, 85 ms"),
    "orientations": (
        each(ImageOrientationPatient=lambda n: [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]][n % 2]),
        "several orientations",
    ),
    "spacings": (each(PixelSpacing=lambda n: [1 + n, 1]), "got several"),
    "one slice": (lambda made: made[:1], "got one slice"),
    "no position": (each(ImagePositionPatient=None), "expected ImagePositionPatient"),
    "skewed axes": (each(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "perpendicular"),
    "slope zero": (each(RescaleSlope=0), "RescaleSlope other than zero"),
    "slope beyond float32": (each(RescaleSlope="1e300"), "finite voxels within float32"),
    "slope that overflows sums": (each(RescaleSlope="1e35"), "intensities of at most 1e+30"),
    "slope that leaves no range": (each(RescaleSlope="1e-40"), "differ by more than 1e-30"),
    "blank": (each(PixelData=bytes(240)), "all zero"),
    "colour": (each(PhotometricInterpretation="RGB", SamplesPerPixel=3), "got colour"),
    "12 bits packed": (each(BitsAllocated=12, BitsStored=12), "8 or 16 bits"),
    "huge": (each(Rows=60000, Columns=60000), "at most 4096"),
    "too short": (each(PixelData=b"ab"), "truncated: expected 240 bytes of pixels, got 2"),
    "localizer": (each(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "a localizer"),
    "scout": (each(SeriesDescription="3-plane Loc"), "a localizer"),
    "CT": (each(Modality="CT", SOPClassUID=uids.CTImageStorage), "not an MR image (CT"),
    "screenshot": (each(SOPClassUID=uids.SecondaryCaptureImageStorage), "secondary capture"),
    "two patients": (each(PatientID=lambda n: f"PLANTED{n % 2}"), "images of 2 patients"),
    "two names": (each(PatientName=lambda n: f"PLANTED^{'AB'[n % 2]}"), "images of 2 patients"),
    "ours": (each(ImageType=["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]), "already"),
    "ours, retyped": (each(SeriesDescription="SYN 3T-like T1w"), "computed by lohi-edge"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses(tmp_path, case):
    change, message = REFUSALS[case]
    assert message in refusal(save(tmp_path / "scan", change(slices(SMALL))))


def test_the_same_file_twice_counts_once(tmp_path):
    folder = save(tmp_path, slices(SMALL))
    shutil.copy(next(folder.iterdir()), folder / "copy")
    volume = dicom.read(folder)
    assert volume.shape[2] == 5
    assert "found twice" in volume.origin.notes[0]


def test_spelling_of_a_name_is_no_second_patient(tmp_path):
    made = slices(SMALL)
    for n, ds in enumerate(made):
        ds.PatientName = ["Doe^Jane", "DOE^JANE^", "Doe Jane"][n % 3]
    assert dicom.read(save(tmp_path, made)).shape[2] == 5


def test_mixed_folder_names_its_series_and_skips_what_is_no_scan(tmp_path):
    save(tmp_path / "a", slices(SMALL, series=4))
    save(tmp_path / "b", slices(SMALL, series=3, SeriesDescription="T2 AXI"))
    save(tmp_path / "c", slices(SMALL, series=1, SeriesDescription="Localizer"))
    (tmp_path / "notes.txt").write_text("PLANTED")
    found = dicom.find(tmp_path)
    assert [series.name[:9] for series in found.series] == ["series-3-", "series-4-"]
    assert found.skipped == ("series 1 (5 files): a localizer",)
    assert "found series-3-" in refusal(tmp_path)
    assert "PLANTED" not in repr(found)


@pytest.mark.parametrize(
    "uid", ["../../etc/passwd", "1.2/3", "1." + "2" * 300, "..", "", "1.2.3\\4.5"]
)
def test_hostile_uids_are_refused_and_never_named(tmp_path, uid):
    made = slices(SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what this test is about
        for ds in made:
            ds.SeriesInstanceUID = uid
        message = refusal(save(tmp_path / "scan", made))
    assert "expected a valid SeriesInstanceUID" in message


def evil(path, number=1):
    """A file whose SeriesInstanceUID is none."""
    ds = slices(SMALL, series=9)[number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.SeriesInstanceUID = "../evil"
        return write(path, ds)


class TestADamagedFileInATree:
    def test_is_named_and_holds_up_the_series_of_its_folder_alone(self, tmp_path):
        for series in (1, 2):
            save(tmp_path / str(series), slices(SMALL, series=series))
        bad = evil(tmp_path / "2" / "bad")
        good, near, itself = dicom.find(tmp_path).series
        assert dicom.read(good).shape[2] == 5
        for series in (near, itself):
            with pytest.raises(BadInput, match=f"{bad}: expected a valid SeriesInstanceUID"):
                dicom.read(series)
        assert "could be one of its slices" in near.trouble
        assert str(bad) in refusal(tmp_path)  # where one series is asked for, this may be it

    def test_is_one_scan_among_others_to_enhance(self, tmp_path, identity_bundle):
        save(tmp_path / "1", slices(SMALL))
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            for number in (1, 2):
                evil(tmp_path / folder / f"bad{number}", number)
        scans = batch.expand([tmp_path])
        outcomes = list(batch.run(scans, tmp_path / "out", print, bundle=identity_bundle))
        assert [str(o.error).split(":")[0] for o in outcomes[1:]] == [
            str(tmp_path / folder / "bad1") for folder in ("a", "b")
        ]
        assert batch.exit_code(outcomes[1:]) == 3

    def test_where_nothing_else_is_it_is_the_reason(self, tmp_path):
        bad = evil(save(tmp_path / "1", slices(SMALL)) / "bad")
        with pytest.raises(BadInput, match=f"^{bad}: expected"):
            dicom.find(tmp_path)
        archive = shutil.make_archive(str(tmp_path / "scan"), "zip", tmp_path / "1")
        with pytest.raises(BadInput, match=r"scan\.zip: 'bad': expected"):
            dicom.find(archive)

    def test_is_not_named_where_the_daemon_asks(self, tmp_path):
        folder = save(tmp_path / "1", slices(SMALL))
        parts = [dicom.Part(path) for path in (*folder.iterdir(), evil(folder / "PLANTED"))]
        with pytest.raises(BadInput, match="valid SeriesInstanceUID") as caught:
            dicom.only(folder, parts)
        assert "PLANTED" not in str(caught.value)


def test_a_file_that_changes_is_noticed(tmp_path):
    folder = save(tmp_path, slices(SMALL))
    series = dicom.find(folder).series[0]
    other = slices(SMALL + 1)[0]
    write(series.parts[0].path, other)
    with pytest.raises(BadInput, match="changed while"):
        dicom.read(series)


def test_header_alone_is_no_image(tmp_path):
    ds = header()
    ds.SOPInstanceUID = "1.2.3"
    assert "at most 4096 x 4096, got 1 x 0 x 0" in refusal(write(tmp_path / "a", ds))
