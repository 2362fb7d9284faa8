"""Which bundles are active: the pointer, its switches, and what is refused."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from lohi_edge import bundle as bundles
from lohi_edge import signing
from lohi_edge.device import installed, update
from lohi_edge.device.library import POINTER, Library
from lohi_edge.engine.cache import EngineCache, EngineKey
from lohi_edge.errors import BundleError, DiskError, UsageError
from lohi_edge.models import Models
from lohi_edge.settings import Enhance, Settings
from lohi_edge.store import Store
from lohi_edge.watch import audit


@pytest.fixture
def proved(monkeypatch):
    """Proof by another test: here it always succeeds."""
    monkeypatch.setattr(update, "_prove", lambda *_: {})


def install(device, source, **options):
    return update.install(source, Settings(), device.library, lambda _: None, **options)


def test_the_active_bundle_goes_before_the_shipped_one(device, proved, make_serial):
    assert installed.resolve("T1w") == bundles.shipped("T1w")
    folder = install(device, make_serial(2))["folder"]
    assert folder.startswith("identity-2-")
    assert installed.resolve("T1w") == device.bundles / folder
    assert Models().get("T1w").bundle.manifest.serial == 2
    assert installed.resolve("T2w") == bundles.shipped("T2w")
    with pytest.raises(BundleError, match="no bundle for PDw"):
        installed.resolve("PDw")


def test_rollback_goes_back_and_once_more_forward(device, proved, make_serial):
    install(device, make_serial(1))
    install(device, make_serial(2))
    serials = []
    for _ in range(2):
        with device.library.locked():
            device.library.roll_back()
        serials.append(bundles.load(installed.resolve("T1w")).manifest.serial)
    assert serials == [1, 2]


def test_installing_what_is_active_keeps_the_way_back(device, proved, make_serial):
    install(device, make_serial(1))
    second = make_serial(2)
    install(device, second)
    before = device.library.pointer()
    install(device, second)
    assert device.library.pointer() == before


def test_a_bundle_of_another_contrast_leaves_the_others_alone(device, proved, make_serial):
    first = install(device, make_serial(3))["folder"]
    other = install(device, make_serial(1, name="other", contrasts=["T2w", "FLAIR"]))["folder"]
    assert device.active() == {"T1w": first, "T2w": other, "FLAIR": other}
    with device.library.locked():
        assert device.library.roll_back() == {"T1w": first}


def test_a_downgrade_needs_a_word_with_and_without_keys(device, proved, make_serial, tmp_path):
    install(device, make_serial(7))
    old = make_serial(6)
    with pytest.raises(BundleError, match="expected serial 7 or later of identity, got 6"):
        install(device, old)
    install(device, old, allow_downgrade=True)
    assert bundles.load(installed.resolve("T1w")).manifest.serial == 6


def test_going_back_is_no_downgrade_to_the_daemon_s_models(device, proved, make_serial, keys):
    for serial in (1, 2):
        path = make_serial(serial)
        signing.sign(path, keys[0])
        install(device, path)
    with device.library.locked():
        device.library.roll_back()
    assert Models().get("T1w").bundle.manifest.serial == 1


def test_unsigned_is_refused_where_keys_are_trusted(device, proved, make_serial, keys):
    with pytest.raises(BundleError, match="not signed"):
        install(device, make_serial(1))
    assert device.library.folders() == []


def test_a_damaged_or_altered_source_is_refused(device, proved, make_serial):
    path = make_serial(1)
    onnx = path / "fp32.onnx"
    onnx.write_bytes(onnx.read_bytes()[:-1])
    with pytest.raises(BundleError, match="altered or damaged"):
        install(device, path)
    assert device.library.folders() == []


def test_a_failed_proof_leaves_the_active_one_and_says_why(
    device, proved, monkeypatch, make_serial
):
    first = install(device, make_serial(1))["folder"]

    def fail(*_):
        raise BundleError("golden slices differ")

    monkeypatch.setattr(update, "_prove", fail)
    said: list[str] = []
    with pytest.raises(BundleError, match="golden slices differ"):
        update.install(make_serial(2), Settings(), device.library, said.append)
    assert device.active() == {"T1w": first}
    assert any("rolled back" in line for line in said)
    refused = [row for row in device.library.rows() if row["refused"]]
    assert [row["serial"] for row in refused] == [2]
    assert refused[0]["refused"] == "golden slices differ"


def test_falling_back_does_not_go_forward_to_what_failed(device, proved, make_serial):
    first = install(device, make_serial(1))["folder"]
    second = install(device, make_serial(2))["folder"]
    assert installed.fall_back("it differs") == {"T1w": first}
    pointer = device.library.pointer()
    assert (pointer.previous, pointer.refused) == (None, {second: "it differs"})
    assert installed.fall_back("again") is None
    with pytest.raises(UsageError, match="no earlier bundle"):
        device.library.roll_back()


def test_a_damaged_bundle_is_not_rolled_back_to(device, proved, make_serial):
    first = install(device, make_serial(1))["folder"]
    second = install(device, make_serial(2))["folder"]
    (device.bundles / first / "fp32.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="install it again"):
        device.library.roll_back()
    assert device.active() == {"T1w": second}
    (row,) = [row for row in device.library.rows() if "problem" in row]
    assert row["folder"] == first


def test_a_removed_bundle_is_gone_and_its_engines_with_it(device, proved, make_serial):
    first = install(device, make_serial(1))["folder"]
    install(device, make_serial(2))
    shared = bundles.load(device.bundles / first).manifest.files["fp32.onnx"]
    engines = EngineCache(Store())
    for number, onnx in enumerate((shared, "0" * 64)):
        write_engine(engines, onnx, number)
    third = device.bundles / install(device, make_serial(3))["folder"]  # 1 is no way back now
    own = json.loads((device.bundles / first / "manifest.json").read_text())
    own["files"]["int8.trt.onnx"] = "0" * 64
    (device.bundles / first / "manifest.json").write_text(json.dumps(own))
    report = update.remove("identity-1", Settings(), device.library, lambda _: None)
    assert report["removed"] == first
    assert report["engines"] == 1
    assert not (device.bundles / first).exists()
    (left,) = engines.entries()
    assert left.record["key"]["onnx_sha256"] == shared  # the others' as well
    assert device.active() == {"T1w": third.name}
    log = (device.bundles / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in log] == ["bundle.switch"] * 3 + ["bundle.remove"]
    assert audit.verify(device.bundles / "audit.jsonl", ()).faults == ()


@pytest.mark.parametrize("kind", ["folder", "zip", None])
def test_the_engines_of_a_bundle_that_the_settings_name_stay(device, proved, make_serial, kind):
    install(device, make_serial(1))
    with device.library.locked():
        device.library.roll_back()
    named = make_serial(2)  # the same ONNX, not installed
    engines = EngineCache(Store())
    write_engine(engines, bundles.load(named).manifest.files["fp32.onnx"], 0)
    if kind == "zip":
        named = shutil.make_archive(str(named), "zip", named)
    settings = Settings(enhance=Enhance(bundle=str(named) if kind else None))
    report = update.remove("identity-1", settings, device.library, lambda _: None, force=True)
    assert report["engines"] == (0 if kind else 1)
    assert len(engines.entries()) == (1 if kind else 0)


def test_a_bundle_that_is_removed_while_it_is_listed_is_left_out(
    device, proved, make_serial, monkeypatch
):
    first = device.bundles / install(device, make_serial(1))["folder"]
    second = install(device, make_serial(2))["folder"]
    read = bundles.read_manifest

    def removed_meanwhile(path):
        found = read(path)
        if path == first:
            shutil.rmtree(path)
        return found

    monkeypatch.setattr(bundles, "read_manifest", removed_meanwhile)
    assert [row["folder"] for row in device.library.rows()] == [second]


def write_engine(engines, onnx, number):
    key = EngineKey(onnx, "tensorrt", "10.3", "12.6", "Orin", "8.7", "int8", (1, 4, 4 + number))
    folder = engines.workspace()
    (folder / "engine.plan").write_bytes(b"plan")
    engines.publish(folder, key, {"built": str(number)})


def test_what_is_in_use_is_not_removed(device, proved, make_serial):
    def remove(name, settings=None, **options):
        update.remove(name, settings or Settings(), device.library, lambda _: None, **options)

    first = install(device, make_serial(1))["folder"]
    second = install(device, make_serial(2))["folder"]
    before = device.library.pointer()
    with pytest.raises(UsageError, match="is active for T1w; activate another"):
        remove(second, force=True)
    with pytest.raises(UsageError, match="--force removes it"):
        remove(first)
    with pytest.raises(UsageError, match=r"enhance\.bundle names it"):
        remove(first, Settings(enhance=Enhance(bundle=str(device.bundles / first))), force=True)
    with pytest.raises(UsageError, match="got 'nothing'"):
        remove("nothing")
    assert device.library.pointer() == before
    assert len(device.library.folders()) == 2
    remove(first, force=True)
    assert device.library.pointer().previous is None
    with pytest.raises(UsageError, match="no earlier bundle"):
        device.library.roll_back()


def test_a_refused_and_a_damaged_bundle_can_be_removed(device, proved, monkeypatch, make_serial):
    first = install(device, make_serial(1))["folder"]

    def fail(*_):
        raise BundleError("golden slices differ")

    monkeypatch.setattr(update, "_prove", fail)
    with pytest.raises(BundleError):
        install(device, make_serial(2))
    (second,) = device.library.pointer().refused
    (device.bundles / second / "manifest.json").write_text("{")
    update.remove(second, Settings(), device.library, lambda _: None)
    assert device.library.pointer().refused == {}
    assert [path.name for path in device.library.folders()] == [first]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "active": {"T1w": "../../etc"}}']
)
def test_a_pointer_that_makes_no_sense_is_not_guessed_at(device, text):
    device.bundles.mkdir()
    (device.bundles / POINTER).write_text(text)
    with pytest.raises(BundleError, match=r"active\.json: cannot be used"):
        installed.resolve("T1w")


def test_names_are_found_by_their_beginning(device, proved, make_serial):
    folder = install(device, make_serial(12))["folder"]
    install(device, make_serial(13))
    assert device.library.find("identity-12").name == folder
    for name in ("identity", "identity-1", ""):  # 1 is not the beginning of 12: 1 may be removed
        with pytest.raises(UsageError, match=f"got {name!r}"):
            device.library.find(name)


def test_a_damaged_bundle_is_mended_by_installing_it_again(device, proved, make_serial):
    path = make_serial(1)
    folder = device.bundles / install(device, path)["folder"]
    whole = (folder / "fp32.onnx").read_bytes()
    (folder / "fp32.onnx").write_bytes(whole[:-1])
    with pytest.raises(BundleError, match="altered or damaged, install it again"):
        bundles.load(installed.resolve("T1w"))
    assert install(device, path)["folder"] == folder.name
    assert bundles.load(installed.resolve("T1w")).read("fp32.onnx") == whole


def test_a_name_with_slashes_stays_in_the_folder(device, proved, make_serial):
    path = make_serial(1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "name": "../../x y"}))
    assert install(device, path)["folder"].startswith("x-y-1-")


def test_everybody_may_read_it_and_who_may_not_is_told(unprivileged):
    library = Library(unprivileged / "bundles")
    before = os.umask(0o077)
    try:
        with library.locked():
            folder = library.add(bundles.load(bundles.shipped("T1w")))
            library.switch(folder, ("T1w",))
    finally:
        os.umask(before)
    for path in (folder / "manifest.json", library.root / POINTER):
        assert path.stat().st_mode & 0o777 == 0o644
    library.root.chmod(0)
    with pytest.raises(BundleError, match="permission denied"):
        library.pointer()
    library.root.chmod(0o700)


def test_two_commands_do_not_change_it_at_once(device):
    with device.library.locked(), pytest.raises(UsageError, match="another command"):
        device.library.locked().__enter__()


def test_a_folder_of_another_user_is_said_to_be(unprivileged):
    unprivileged.chmod(0o500)
    library = Library(unprivileged / "bundles")
    with pytest.raises(DiskError, match="permission denied"):
        library.locked().__enter__()
