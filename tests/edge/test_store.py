from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lohi_edge.errors import BundleError
from lohi_edge.store import Store, canonical, default_root


def test_records_come_back(tmp_path):
    store = Store(tmp_path / "s")
    store.keep({"a": 1, "b": 2}, {"accepted": True})

    assert Store(tmp_path / "s").accepted({"b": 2, "a": 1}) == {"accepted": True}
    assert store.accepted({"a": 1, "b": 3}) is None


def test_the_folder_is_private(tmp_path):
    store = Store(tmp_path / "s")
    store.keep({}, {})

    assert store.root.stat().st_mode & 0o777 == 0o700
    assert (store.root / "accepted").stat().st_mode & 0o777 == 0o700
    assert (store.root / "device.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o710, 0o702])
def test_a_folder_open_to_others_is_refused(tmp_path, mode):
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(mode)

    with pytest.raises(BundleError, match=f"expected mode 0700, got {mode:04o}"):
        Store(tmp_path / "s")


def test_a_link_to_a_folder_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "s").symlink_to(tmp_path / "real")

    with pytest.raises(BundleError, match="expected a directory"):
        Store(tmp_path / "s")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_refused(tmp_path):
    Store(tmp_path / "s")
    os.chown(tmp_path / "s", 12345, 12345)

    with pytest.raises(BundleError, match="belongs to 12345"):
        Store(tmp_path / "s")


def test_a_record_of_another_device_does_not_count(tmp_path):
    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    one.write(one.root / "r.json", {"accepted": True})
    other.write(other.root / "r.json", {"accepted": True})
    (other.root / "r.json").write_bytes((one.root / "r.json").read_bytes())

    assert one.read(one.root / "r.json") == {"accepted": True}
    assert other.read(other.root / "r.json") is None


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(tmp_path_factory, position, change):
    store = Store(tmp_path_factory.getbasetemp() / "bytes")
    path = store.root / "r.json"
    store.write(path, {"accepted": False, "plan": "00ff"})
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= change
    path.write_bytes(bytes(data))

    # White space between JSON's words means nothing, so a record may survive, but unchanged.
    assert store.read(path) in (None, {"accepted": False, "plan": "00ff"})


def test_many_at_once_agree_on_one_key(tmp_path):
    def write(n):
        store = Store(tmp_path / "s")
        store.keep({"n": n}, {"n": n})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(64)))

    store = Store(tmp_path / "s")
    assert all(store.accepted({"n": n}) == {"n": n} for n in range(64))
    assert sorted(p.name for p in store.root.iterdir()) == ["accepted", "device.key"]


def test_the_root_follows_the_environment(monkeypatch, tmp_path):
    for name in ("LOHI_EDGE_CACHE", "CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    assert str(default_root()) == "/home/u/.cache/lohi-edge/engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(default_root()) == "/x/lohi-edge/engines"
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/lohi-edge:/other")
    assert str(default_root()) == "/var/cache/lohi-edge/engines"
    monkeypatch.setenv("LOHI_EDGE_CACHE", "/mine")
    assert str(default_root()) == "/mine/engines"


def test_canonical_json_does_not_depend_on_order():
    assert canonical({"b": [1, {"d": 1, "c": 2}], "a": "é"}) == canonical(
        {"a": "é", "b": [1, {"c": 2, "d": 1}]}
    )
