from __future__ import annotations

import resource
import signal
import stat
import zipfile

import pytest

from lohi_edge import bundle as bundles
from lohi_edge import zipped
from lohi_edge.errors import BundleError, DiskError
from lohi_edge.store import Store


def pack(folder, target, extra=(), method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
        for entry, data in extra:
            archive.writestr(entry, data)
    return target


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    return Store()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_is_the_same_bundle(make_bundle, tmp_path, own_store, method):
    folder = make_bundle()
    found = bundles.load(pack(folder, tmp_path / "b.zip", method=method))

    assert found.sha256 == bundles.load(folder).sha256
    assert found.read("fp32.onnx") == (folder / "fp32.onnx").read_bytes()
    assert bundles.load(tmp_path / "b.zip").path == found.path


def entry(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (entry("../evil.txt"), "without their folder"),
        (entry("/etc/evil.txt"), "without their folder"),
        (entry("sub/evil.txt"), "without their folder.*zip -j b.zip"),
        (entry("sub/"), "without their folder"),
        (entry("..\\evil.txt"), "without their folder"),
        (entry("link.onnx", stat.S_IFLNK | 0o777), "regular files alone"),
        (entry("pipe.onnx", stat.S_IFIFO | 0o600), "regular files alone"),
    ],
)
def test_hostile_entries_are_refused_and_nothing_is_written(
    make_bundle, tmp_path, own_store, extra, words
):
    path = pack(make_bundle(), tmp_path / "b.zip", [(extra, b"/etc/passwd")])

    with pytest.raises(BundleError, match=words):
        bundles.load(path)
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(own_store.root.glob("bundles/*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(make_bundle, tmp_path, own_store):
    path = pack(make_bundle(), tmp_path / "b.zip", [("fp32.onnx", b"other")])
    with pytest.raises(BundleError, match="two files of one name"):
        bundles.load(path)


def test_a_bomb_is_refused_by_what_it_says_and_by_what_it_does(
    make_bundle, tmp_path, own_store, monkeypatch
):
    monkeypatch.setattr(zipped, "MAX_TOTAL", 1 << 20)
    path = pack(make_bundle(), tmp_path / "b.zip", [("bomb.bin", bytes(2 << 20))])
    with pytest.raises(BundleError, match="expected at most 1,048,576 bytes"):
        bundles.load(path)

    monkeypatch.setattr(zipped, "_check", lambda entries, path: None)
    with pytest.raises(BundleError, match="holds more than"):
        bundles.load(path)
    assert not list(own_store.root.glob("bundles/*"))


def test_too_many_files_are_refused(make_bundle, tmp_path, own_store):
    path = pack(make_bundle(), tmp_path / "b.zip", [(f"f{n}.bin", b"") for n in range(70)])
    with pytest.raises(BundleError, match="at most 64 files"):
        bundles.load(path)


def test_a_cut_or_altered_zip_is_refused(make_bundle, tmp_path, own_store):
    data = pack(make_bundle(), tmp_path / "b.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    altered = bytearray(data)
    altered[len(data) // 3] ^= 255
    (tmp_path / "altered.zip").write_bytes(bytes(altered))
    (tmp_path / "text.zip").write_text("no zip")

    for name in ("cut.zip", "altered.zip", "text.zip"):
        with pytest.raises(BundleError, match=r"(copy|install) it again$"):
            bundles.load(tmp_path / name)
    assert not list(own_store.root.glob("bundles/.*"))


def test_what_a_refused_zip_held_does_not_stay_on_the_disk(make_bundle, tmp_path, own_store):
    folder = make_bundle()
    (folder / "fp32.onnx").write_bytes(b"altered")
    path = pack(folder, tmp_path / "b.zip")
    with pytest.raises(BundleError) as caught:
        bundles.load(path)
    assert str(caught.value).startswith(f"{path}/fp32.onnx: expected sha256")
    assert not list(own_store.root.glob("bundles/*"))


def test_a_name_that_is_no_text_is_refused(make_bundle, tmp_path, own_store):
    path = pack(make_bundle(), tmp_path / "b.zip")
    raw = bytearray(path.read_bytes())
    directory = raw.index(b"PK\x01\x02")
    raw[directory + 9] |= 0x08  # flag bit 11: the name is UTF-8
    raw[directory + 46] = 0xFF
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=r"expected a bundle directory or \.zip"):
        bundles.load(path)


def test_a_full_disk_is_named_as_such_and_leaves_nothing(make_bundle, tmp_path, own_store):
    path = pack(make_bundle(), tmp_path / "b.zip")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DiskError, match="cannot be written"):
            bundles.load(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(own_store.root.glob("bundles/*"))
