"""Bundles proved and switched by the real commands, killed at every step."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from lohi_edge import bundle as bundles
from lohi_edge import signing
from lohi_edge.device import selftest, trial, update
from lohi_edge.device.installed import resolve
from lohi_edge.device.private import private_folder
from lohi_edge.errors import BundleError
from lohi_edge.files import sha256
from lohi_edge.settings import load
from lohi_edge.store import Store
from lohi_edge.watch.faults import INSTALL_POINTS, REMOVE_POINTS


@pytest.mark.slow
def test_install_proves_a_zip_through_a_daemon_and_activates_it(device, make_serial, tmp_path):
    import zipfile

    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in make_serial(5).iterdir():
            file.write(path, path.name)
    done = device.run("bundle", "install", archive, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["active"] == device.active() == {"T1w": report["folder"]}
    assert report["acceptance"]["accepted"]
    assert report["selftest"]["passed"]
    assert report["selftest"]["bundle"]["serial"] == 5
    assert report["selftest"]["phases"]["total"]["seconds"] > 0
    assert not list((device.cache / "engines/bundles").iterdir())  # the archive's copy is gone
    listed = json.loads(device.run("bundle", "list", "--json").stdout)
    assert [(row["serial"], row["active"]) for row in listed] == [(5, ["T1w"])]

    # What the golden output of this very bundle says is taken for true: make it say otherwise.
    (record,) = (device.cache / "engines/selftest").iterdir()
    store = Store(device.cache / "engines")
    kept = store.read(record)
    means = np.array(kept["means"])
    store.write(record, {**kept, "means": (means + 20 * (means > 100)).tolist()})
    done = device.run("selftest", "--rollback")
    assert done.returncode == trial.SelfTestFailed.exit_code == 4
    assert "differs from the golden output by 20" in done.stderr
    assert "is refused, active for T1w is the bundle that ships" in done.stderr
    assert device.active() == {}
    assert resolve("T1w") == bundles.shipped("T1w")


def test_a_bundle_whose_golden_slices_differ_here_is_not_activated(device, make_serial):
    path = make_serial(2)
    golden = dict(np.load(path / "golden.npz"))
    np.savez(path / "golden.npz", **{**golden, "output": golden["output"] * np.float32(0.9)})
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = sha256((path / "golden.npz").read_bytes())
    (path / "manifest.json").write_text(json.dumps(manifest))
    done = device.run("bundle", "install", path)
    assert done.returncode == 5
    assert "largest error" in done.stderr
    assert device.active() == {}


@pytest.mark.slow
@pytest.mark.parametrize("serial", [4, 6])
def test_only_activation_changes_the_record_of_serials(
    device, monkeypatch, make_serial, keys, serial
):
    before, other, older = make_serial(5), make_serial(serial), make_serial(3)
    for path in (before, other, older):
        signing.sign(path, keys[0])
    signing.admit(bundles.load(before))
    passed = []

    def fail(bundle, settings, _):
        passed.append(selftest.run(bundle.path, settings)["passed"])
        raise trial.SelfTestFailed("too slow")

    with monkeypatch.context() as patch:
        patch.setattr(update, "_prove", fail)
        with pytest.raises(trial.SelfTestFailed, match="too slow"):
            device.install(other, allow_downgrade=True)
    assert passed == [True]
    signing.screen(bundles.load(before))
    with pytest.raises(BundleError, match="expected serial 5 or later"):
        signing.screen(bundles.load(older))


def test_a_self_test_of_an_older_bundle_is_refused_where_keys_are_trusted(
    device, make_serial, keys
):
    new, old = make_serial(5), make_serial(4)
    for path in (new, old):
        signing.sign(path, keys[0])
    signing.admit(bundles.load(new))
    with pytest.raises(BundleError, match="expected serial 5 or later"):
        update.check_active(old, load(None, {}), False, lambda _: None)


def test_a_contrast_of_which_no_scan_ships_passes_on_its_golden_slices(device, make_serial):
    report = selftest.run(make_serial(1, contrasts=["T2w"]), load(None, {}))
    assert report == {
        "passed": True, "problems": [], "skipped": "no scan but of T1w ships"
    }  # fmt: skip


def test_the_private_daemon_gets_nothing_of_the_device_s_settings():
    own = {
        "LOHI_EDGE_KEYS": "/keys", "LOHI_EDGE_CACHE": "/cache", "PATH": "/bin",
        "LOHI_EDGE_WATCH_HOOK": "rm", "LOHI_EDGE_WATCH_ORIGINALS": "delete", "LOHI_EDGE_FAULT": "x",
        "NOTIFY_SOCKET": "/run/s", "WATCHDOG_USEC": "1", "LOHI_EDGE_ENHANCE_BUNDLE": "/other",
    }  # fmt: skip
    settings = load(None, {"LOHI_EDGE_ENHANCE_PRECISION": "int8", "LOHI_EDGE_ENHANCE_THREADS": "3"})
    found = trial.environment(own, settings, Path("/private"))
    assert {k: v for k, v in found.items() if k in own} == {
        "LOHI_EDGE_KEYS": "/keys", "LOHI_EDGE_CACHE": "/cache", "PATH": "/bin",
    }  # fmt: skip
    assert found["LOHI_EDGE_ENHANCE_PRECISION"] == "int8"
    assert found["LOHI_EDGE_ENHANCE_THREADS"] == "3"


def runs_in(folder: Path) -> bool:
    """Whether a process has the folder, or one below, on its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if bytes(folder) in path.read_bytes():
                return True
    return False


@pytest.mark.slow
def test_the_private_daemon_ends_with_a_self_test_that_is_killed(
    device, make_serial, tmp_path, monkeypatch
):
    bundle, private = make_serial(1), tmp_path / "private"
    private.mkdir()
    with device.start("selftest", "--bundle", bundle, TMPDIR=str(private)) as test:
        while not runs_in(private):
            assert test.poll() is None
        test.kill()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    for _ in range(600):
        with private_folder(trial.PREFIX) as (folder, _):  # as the next one begins
            left = [path for path in private.iterdir() if path != folder]
        if not left and not runs_in(private):
            return
        time.sleep(0.1)
    pytest.fail("the daemon lives on, or its folder does")


def test_block_means_are_means_of_whole_blocks():
    data = np.zeros((17, 8, 9), np.float32)
    data[:8, :, :8] = 3
    data[16, :, 8] = 99  # beyond the last whole block
    assert selftest.block_means(data).tolist() == [[[3.0]], [[0.0]]]


@pytest.mark.slow
def test_killed_at_each_step_and_repeated_it_ends_right(device, make_serial):
    first, second = make_serial(1), make_serial(2)
    assert device.run("bundle", "install", first).returncode == 0
    before = device.active()
    for point in INSTALL_POINTS:
        done = device.run("bundle", "install", second, LOHI_EDGE_FAULT=point)
        assert done.returncode == -9, (point, done.stderr)
        serial = bundles.load(resolve("T1w")).manifest.serial
        assert serial == (2 if point == "bundle_switched" else 1), point
    done = device.run("bundle", "install", second)
    assert done.returncode == 0, done.stderr
    assert bundles.load(resolve("T1w")).manifest.serial == 2
    assert device.library.pointer().previous == before
    assert [path.name for path in device.bundles.glob(".*")] == []


@pytest.mark.slow
def test_killed_at_each_step_of_a_removal_and_repeated_it_ends_right(device, make_serial):
    with device.library.locked():
        first, second = (
            device.library.add(bundles.load(make_serial(serial))).name for serial in (1, 2)
        )
        device.library.switch(device.bundles / first, ("T1w",))
        device.library.switch(device.bundles / second, ("T1w",))
    for point in REMOVE_POINTS:
        done = device.run("bundle", "remove", first, "--force", LOHI_EDGE_FAULT=point)
        assert done.returncode == -9, (point, done.stderr)
        assert device.active() == {"T1w": second}
        gone = point == "bundle_hidden"
        assert [p.name for p in device.library.folders()] == [first, second][gone:]
    done = device.run("bundle", "remove", first, "--force")
    assert done.returncode == 2  # it is gone, and now what was left of it as well
    assert "got 'identity-1" in done.stderr
    assert [path.name for path in device.bundles.glob(".removed*")] == []
    assert json.loads(device.run("bundle", "list", "--json").stdout)[0]["folder"] == second
