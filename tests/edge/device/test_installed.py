"""Which bundles are active: the pointer, its switches, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lohi_edge import bundle as bundles
from lohi_edge import signing
from lohi_edge.device import installed, update
from lohi_edge.device.library import POINTER, Library
from lohi_edge.errors import BundleError, DiskError, ModelFault, UsageError
from lohi_edge.models import Models
from lohi_edge.settings import Settings


def test_the_active_bundle_goes_before_the_shipped_one(device, proved, make_serial):
    assert installed.resolve("T1w") == bundles.shipped("T1w")
    folder = device.install(make_serial(2))["folder"]
    assert folder.startswith("identity-2-")
    assert installed.resolve("T1w") == device.bundles / folder
    assert Models().get("T1w").bundle.manifest.serial == 2
    assert installed.resolve("T2w") == bundles.shipped("T2w")
    with pytest.raises(BundleError, match="no bundle for PDw"):
        installed.resolve("PDw")


def test_rollback_goes_back_and_once_more_forward(device, proved, make_serial):
    device.install(make_serial(1))
    device.install(make_serial(2))
    serials = []
    for _ in range(2):
        with device.library.locked():
            device.library.roll_back()
        serials.append(bundles.load(installed.resolve("T1w")).manifest.serial)
    assert serials == [1, 2]


def test_installing_what_is_active_keeps_the_way_back(device, proved, make_serial):
    device.install(make_serial(1))
    second = make_serial(2)
    device.install(second)
    before = device.library.pointer()
    device.install(second)
    assert device.library.pointer() == before


def test_a_bundle_of_another_contrast_leaves_the_others_alone(device, proved, make_serial):
    first = device.install(make_serial(3))["folder"]
    other = device.install(make_serial(1, name="other", contrasts=["T2w", "FLAIR"]))["folder"]
    assert device.active() == {"T1w": first, "T2w": other, "FLAIR": other}
    with device.library.locked():
        assert device.library.roll_back() == {"T1w": first}


@pytest.mark.parametrize("trusting", [False, True])
def test_a_downgrade_needs_a_word(device, proved, make_serial, keys, trusting):
    new, old = make_serial(7), make_serial(6)
    for path in (new, old):
        signing.sign(path, keys[0])
    if not trusting:
        (device.keys / keys[1].name).unlink()
    device.install(new)
    with pytest.raises(BundleError, match=r"expected serial 7 or later of identity.*got 6") as e:
        device.install(old)
    assert f"lohi-edge bundle install {old} --allow-downgrade" in str(e.value)
    device.install(old, allow_downgrade=True)
    assert bundles.load(installed.resolve("T1w")).manifest.serial == 6


class TestASerialBeforeTheOneThatShips:
    def test_needs_a_word(self, device, proved, make_serial):
        shipped = bundles.read_manifest(bundles.shipped("T1w"))[0]
        old = make_serial(shipped.serial - 1, name=shipped.name)
        with pytest.raises(BundleError, match=f"expected serial {shipped.serial} or later"):
            device.install(old)
        assert device.library.folders() == []
        device.install(old, allow_downgrade=True)
        device.install(old)  # it is active now: what ships serves T1w no more
        assert bundles.load(installed.resolve("T1w")).manifest.serial == shipped.serial - 1

    def test_needs_none_where_another_bundle_serves_the_contrast(self, device, proved, make_serial):
        shipped = bundles.read_manifest(bundles.shipped("T1w"))[0]
        device.install(make_serial(1))
        device.install(make_serial(shipped.serial - 1, name=shipped.name))

    def test_needs_none_of_a_later_one(self, device, proved, make_serial):
        shipped = bundles.read_manifest(bundles.shipped("T1w"))[0]
        device.install(make_serial(shipped.serial, name=shipped.name))


def test_going_back_is_no_downgrade_to_the_daemon_s_models(device, proved, make_serial, keys):
    for serial in (1, 2):
        path = make_serial(serial)
        signing.sign(path, keys[0])
        device.install(path)
    with device.library.locked():
        device.library.roll_back()
    assert Models().get("T1w").bundle.manifest.serial == 1


def test_what_no_trusted_key_signed_is_not_gone_back_to(
    device, proved, make_serial, keys, tmp_path
):
    """The old key was taken away, as after a theft."""
    private, public = signing.keygen(tmp_path / "newer")
    (device.keys / public.name).write_bytes(public.read_bytes())
    for serial, key in ((1, keys[0]), (2, private)):
        path = make_serial(serial)
        signing.sign(path, key)
        device.install(path)
    (device.keys / keys[1].name).unlink()
    before = device.library.pointer()
    done = device.run("bundle", "rollback")
    assert (done.returncode, device.library.pointer()) == (5, before)
    assert "not signed by any of newer.pub" in done.stderr
    with pytest.raises(BundleError, match=r"its engine is bad; nor can be gone back: .*not signed"):
        installed.fall_back(installed.resolve("T1w"), "its engine is bad")
    assert device.library.pointer() == before


def test_bundles_are_changed_by_their_owner_alone(device, proved, make_serial, monkeypatch):
    """What another user wrote, root too, the daemon could not change: it could not go back."""
    device.install(make_serial(1))
    before = sorted(device.bundles.iterdir())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for change in (
        lambda: device.install(make_serial(2)),
        lambda: installed.fall_back(installed.resolve("T1w"), "it is bad"),
    ):
        with pytest.raises(UsageError, match="belongs to the user"):
            change()
    assert sorted(device.bundles.iterdir()) == before


def test_unsigned_is_refused_where_keys_are_trusted(device, proved, make_serial, keys):
    with pytest.raises(BundleError, match="not signed"):
        device.install(make_serial(1))
    assert device.library.folders() == []


def test_a_refusal_names_the_archive_that_was_given(device, proved, make_serial, keys, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "given"), "zip", make_serial(1)))
    with pytest.raises(BundleError, match=f"^{archive}: this bundle is not signed"):
        device.install(archive)
    assert not list(device.cache.rglob("fp32.onnx"))


def test_a_damaged_or_altered_source_is_refused(device, proved, make_serial):
    path = make_serial(1)
    onnx = path / "fp32.onnx"
    onnx.write_bytes(onnx.read_bytes()[:-1])
    with pytest.raises(BundleError, match="altered or damaged"):
        device.install(path)
    assert device.library.folders() == []


def test_a_failed_proof_leaves_the_active_one_and_says_why(
    device, proved, monkeypatch, make_serial
):
    first = device.install(make_serial(1))["folder"]

    def fail(*_):
        raise ModelFault("golden slices differ")

    monkeypatch.setattr(update, "_prove", fail)
    said: list[str] = []
    with pytest.raises(BundleError, match="golden slices differ"):
        update.install(make_serial(2), Settings(), device.library, said.append)
    assert device.active() == {"T1w": first}
    assert any("is not activated" in line for line in said)
    refused = [row for row in device.library.rows() if row["refused"]]
    assert [row["serial"] for row in refused] == [2]
    assert refused[0]["refused"] == "golden slices differ"


def test_a_damaged_bundle_is_not_rolled_back_to(device, proved, make_serial):
    first = device.install(make_serial(1))["folder"]
    second = device.install(make_serial(2))["folder"]
    (device.bundles / first / "fp32.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="install it again"):
        device.library.roll_back()
    assert device.active() == {"T1w": second}
    (row,) = [row for row in device.library.rows() if "problem" in row]
    assert row["folder"] == first


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "active": {"T1w": "../../etc"}}']
)
def test_a_pointer_that_makes_no_sense_is_not_guessed_at(device, text):
    device.bundles.mkdir()
    (device.bundles / POINTER).write_text(text)
    with pytest.raises(BundleError, match=r"active\.json: cannot be used"):
        installed.resolve("T1w")


def test_names_are_found_by_their_beginning(device, proved, make_serial):
    folder = device.install(make_serial(12))["folder"]
    device.install(make_serial(13))
    assert device.library.find("identity-12").name == folder
    for name in ("identity", "identity-1", ""):  # 1 is not the beginning of 12: 1 may be removed
        with pytest.raises(UsageError, match=f"got {name!r}"):
            device.library.find(name)


def test_a_damaged_bundle_is_mended_by_installing_it_again(device, proved, make_serial):
    path = make_serial(1)
    folder = device.bundles / device.install(path)["folder"]
    whole = (folder / "fp32.onnx").read_bytes()
    (folder / "fp32.onnx").write_bytes(whole[:-1])
    with pytest.raises(BundleError, match="altered or damaged, install it again"):
        bundles.load(installed.resolve("T1w"))
    assert device.install(path)["folder"] == folder.name
    assert bundles.load(installed.resolve("T1w")).read("fp32.onnx") == whole


def test_a_name_with_slashes_stays_in_the_folder(device, proved, make_serial):
    path = make_serial(1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "name": "../../x y"}))
    assert device.install(path)["folder"].startswith("x-y-1-")


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
