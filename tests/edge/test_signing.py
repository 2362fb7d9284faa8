from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lohi_edge import bundle as bundles
from lohi_edge import signing
from lohi_edge.errors import BundleError, UsageError
from lohi_edge.store import Store


@pytest.fixture
def keys(tmp_path):
    return signing.keygen(tmp_path / "maker")


@pytest.fixture
def device(tmp_path, keys, monkeypatch):
    """A configured device that trusts `keys`, with a store of its own."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    shutil.copy(keys[1], folder)
    monkeypatch.setenv("LOHI_EDGE_KEYS", str(folder))
    return Store(tmp_path / "store")


def signed(path, keys):
    signing.sign(path, keys[0])
    return bundles.load(path)


def with_serial(path, serial):
    import json

    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "serial": serial}))
    return path


def test_a_signed_bundle_verifies_and_the_private_key_is_private(make_bundle, keys):
    signing.verify(signed(make_bundle(), keys), keys[1])

    assert keys[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("stem", ["", ".", "/"])
def test_keys_need_a_name(stem):
    with pytest.raises(UsageError, match="expected a stem"):
        signing.keygen(Path(stem))


def test_an_unsigned_bundle_is_refused_on_a_configured_device_alone(
    make_bundle, device, monkeypatch, tmp_path
):
    bundle = bundles.load(make_bundle())
    with pytest.raises(BundleError, match="not signed") as error:
        signing.admit(bundle, store=device)
    assert error.value.exit_code == 5

    monkeypatch.setenv("LOHI_EDGE_KEYS", str(tmp_path / "none"))
    assert signing.admit(bundle, store=device) is None


def test_another_s_signature_is_refused(make_bundle, device, tmp_path):
    others = signing.keygen(tmp_path / "other")
    with pytest.raises(BundleError, match=r"not signed by any of maker\.pub"):
        signing.admit(signed(make_bundle(), others), store=device)


def test_a_damaged_trusted_key_is_named_with_what_to_do(make_bundle, keys, device, tmp_path):
    bundle = signed(make_bundle(), keys)
    damaged = tmp_path / "trusted" / "a.pub"  # sorts before the right one
    damaged.write_text("junk")
    with pytest.raises(BundleError, match=r"trusted/a\.pub: .*repair this file or remove it"):
        signing.admit(bundle, store=device)
    damaged.unlink()
    assert signing.admit(bundle, store=device) == "maker.pub"


def test_a_key_folder_that_cannot_be_listed_is_no_lack_of_keys(
    make_bundle, keys, device, tmp_path, monkeypatch
):
    bundle = signed(make_bundle(), keys)
    folder = tmp_path / "folder"
    folder.write_text("")  # root, who runs tests, may list every folder
    monkeypatch.setenv("LOHI_EDGE_KEYS", str(folder))
    with pytest.raises(BundleError, match="folder: the trusted keys cannot be read: not a dir"):
        signing.admit(bundle, store=device)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_changed_byte_of_any_file_goes_unseen(make_bundle, keys, tmp_path, data):
    path = tmp_path / "bundle"
    if not path.exists():
        signing.sign(make_bundle(), keys[0])
    name = data.draw(st.sampled_from(sorted(p.name for p in path.iterdir())))
    original = (path / name).read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    (path / name).write_bytes(bytes(changed))
    try:
        with pytest.raises(BundleError):
            signing.verify(bundles.load(path), keys[1])
    finally:
        (path / name).write_bytes(original)
    signing.verify(bundles.load(path), keys[1])


@pytest.mark.parametrize("name", ["manifest.sig", "manifest.json", "fp32.onnx", "golden.npz"])
def test_a_missing_or_longer_file_is_seen(make_bundle, keys, name):
    path = make_bundle()
    signing.sign(path, keys[0])
    original = (path / name).read_bytes()
    (path / name).write_bytes(original + b"\n")
    with pytest.raises(BundleError):
        signing.verify(bundles.load(path), keys[1])
    (path / name).unlink()
    with pytest.raises(BundleError):
        signing.verify(bundles.load(path), keys[1])


def test_an_older_serial_needs_a_word(make_bundle, keys, device):
    new = signed(with_serial(make_bundle("new"), 7), keys)
    old = signed(with_serial(make_bundle("old"), 6), keys)
    assert signing.admit(old, store=device) == "maker.pub"
    signing.admit(new, store=device)

    with pytest.raises(BundleError, match="expected serial 7 or later of small, got 6"):
        signing.admit(old, store=device)
    signing.admit(old, allow_downgrade=True, store=device)
    signing.admit(old, store=device)


def test_a_record_of_serials_changed_by_hand_is_refused(make_bundle, keys, device):
    bundle = signed(with_serial(make_bundle(), 7), keys)
    signing.admit(bundle, store=device)
    (record,) = (device.root / "serials").iterdir()
    record.write_text(record.read_text().replace("7", "1"))

    with pytest.raises(BundleError, match="altered"):
        signing.admit(bundle, store=device)


def test_keys_are_never_replaced(keys, tmp_path):
    before = keys[0].read_bytes()
    with pytest.raises(UsageError, match="exists"):
        signing.keygen(tmp_path / "maker")
    assert keys[0].read_bytes() == before


@pytest.mark.parametrize("there", ["maker.key", "maker.pub"])
def test_where_one_key_is_in_the_way_the_other_is_not_made(tmp_path, there):
    (tmp_path / there).write_text("old")
    with pytest.raises(UsageError, match="exists"):
        signing.keygen(tmp_path / "maker")
    assert [p.name for p in tmp_path.iterdir()] == [there]


def test_what_is_no_key_is_refused(make_bundle, keys, tmp_path):
    bundle = signed(make_bundle(), keys)
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(BundleError, match="expected an Ed25519 public key"):
        signing.verify(bundle, tmp_path / "junk")
    with pytest.raises(UsageError, match="expected an Ed25519 private key"):
        signing.sign(bundle.path, keys[1])
