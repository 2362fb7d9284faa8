"""Every check of disks, bundles, peers and the service, made to pass, to fail and not to apply."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lohi_edge import bundle as bundles
from lohi_edge import signing
from lohi_edge.device import checks_data
from lohi_edge.device.doctor import FAIL, NOT_APPLICABLE, PASS, WARN
from lohi_edge.device.serving import in_use
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.files import sha256
from lohi_edge.settings import Dicom, Disk, Enhance, Settings, Watch
from machine import GPU, mount, write


def test_disk(context):
    for reserve, status in ((0.001, PASS), (1e9, FAIL)):
        settings = replace(context.settings, disk=Disk(reserve_gb=reserve))
        assert checks_data.disk(replace(context, settings=settings)).status == status
    gone = replace(context, settings=Settings(), state=Path("/nowhere"))
    assert checks_data.disk(gone).status == WARN


def test_permissions(context, tmp_path):
    assert checks_data.permissions(context).status == PASS
    context.state.chmod(0o755)
    found = checks_data.permissions(context)
    assert (found.status, found.fix) == (FAIL, f"chmod 700 {context.state}")
    context.state.chmod(0o700)
    keys = context.root / "etc/lohi-edge/keys"
    keys.mkdir(parents=True)
    keys.chmod(0o777)
    assert checks_data.permissions(context).fix == f"chmod go-w {keys}"
    keys.chmod(0o755)
    config = tmp_path / "config.toml"
    config.touch()
    config.chmod(0o666)
    assert checks_data.permissions(replace(context, config=config)).fix == f"chmod go-w {config}"


def test_an_outbox_the_daemon_may_not_write_fails(context, unprivileged):
    closed = unprivileged / "outbox"
    closed.mkdir(mode=0o500)
    settings = replace(context.settings, watch=Watch(outbox=str(closed)))
    found = checks_data.permissions(replace(context, settings=settings, state=unprivileged))
    assert (found.status, "may not write" in found.found) == (FAIL, True)


def test_signature(context, make_serial, keys):
    assert checks_data.signatures(context).status == PASS  # the shipped one
    unsigned = replace(context, settings=Settings(enhance=Enhance(bundle=str(make_serial(1)))))
    assert checks_data.signatures(unsigned).status == FAIL
    signing.sign(Path(unsigned.settings.enhance.bundle), keys[0])
    assert checks_data.signatures(unsigned).status == PASS
    damaged = context.root.parent / "device/keys/a.pub"
    damaged.write_text("junk")
    found = checks_data.signatures(unsigned)
    assert (found.status, str(damaged) in found.found) == (FAIL, True)
    assert "repair this file or remove it" in found.fix
    (Path(unsigned.settings.enhance.bundle) / "manifest.sig").unlink()
    for key in context.root.parent.glob("device/keys/*.pub"):
        key.unlink()
    assert checks_data.signatures(unsigned).status == WARN  # no key is trusted
    onnx = Path(unsigned.settings.enhance.bundle) / "fp32.onnx"
    onnx.write_bytes(onnx.read_bytes() + b"\0")
    assert checks_data.signatures(unsigned).status == FAIL


def test_acceptance(context, make_serial):
    path = make_serial(1)
    settings = Settings(enhance=Enhance(bundle=str(path), threads=1))
    sound = replace(context, settings=settings)
    assert checks_data.acceptance(sound).status == PASS
    found = checks_data.acceptance(replace(sound, gpu=GPU))
    assert (found.status, "sudo -u lohi-edge lohi-edge engine build" in found.fix) == (WARN, True)
    golden = dict(np.load(path / "golden.npz"))
    np.savez(path / "golden.npz", **{**golden, "output": golden["output"] * np.float32(0.9)})
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = sha256((path / "golden.npz").read_bytes())
    (path / "manifest.json").write_text(json.dumps(manifest))
    found = checks_data.acceptance(sound)
    assert (found.status, "largest error" in found.found) == (FAIL, True)


def test_acceptance_says_what_was_passed_over_and_why(context, make_bundle):
    """A model that runs in another precision than the fastest is told of, accepted or not."""
    path = make_bundle(tolerance={"int8.cpu": 1e-6})
    wanted = Enhance(bundle=str(path), threads=1, runtime="onnxruntime")
    found = checks_data.acceptance(replace(context, settings=Settings(enhance=wanted)))
    assert (found.status, "fp32, error" in found.found) == (PASS, True)
    assert "passed over: " in found.found
    assert "int8 on onnxruntime not accepted: largest error" in found.found


@pytest.mark.parametrize("name", ["inbox", "outbox"])
def test_durable_mounts(context, name):
    check = {"inbox": checks_data.inbox, "outbox": checks_data.outbox}[name]
    folder = getattr(context.settings.watch, name)
    assert check(context).status == PASS
    for line, status in (
        (f"/ {folder} rw - tmpfs tmpfs rw", FAIL),
        (f"/ {folder} rw - nfs4 pacs:/scans rw", WARN),  # not in fstab
    ):
        mount(context.root, "/ / rw - ext4 /dev/sda1 rw", line)
        assert check(context).status == status
    write(context.root, "etc/fstab", f"# comment\npacs:/scans {folder} nfs4 defaults 0 0\n")
    assert check(context).status == PASS
    above = Path(folder).resolve().parent
    for bare in (folder, above):  # the folder that should be under a mount, and nothing mounted
        write(context.root, "etc/fstab", f"pacs:/scans {bare}/ nfs4 defaults 0 0\n")
        for disk in ("ext4 /dev/sda1", "overlay overlay"):  # the latter where the root is read-only
            mount(context.root, f"/ / rw - {disk} rw")
            found = check(context)
            assert (found.status, f"{bare} is not mounted" in found.found) == (FAIL, True)
        mount(context.root, "/ / rw - ext4 /dev/sda1 rw", f"/ {bare} rw - nfs4 pacs:/scans rw")
        assert check(context).status == PASS
    (context.root / "proc/self/mountinfo").unlink()
    assert check(context).status == WARN
    Path(folder).rmdir()
    assert check(context).status == FAIL
    assert check(replace(context, settings=Settings())).status == NOT_APPLICABLE


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_peers(context, tmp_path):
    assert checks_data.peers(context).status == NOT_APPLICABLE
    listening = Listening(port=0, callers=("LOHI_EDGE",), reserve=0)
    with Receiver(tmp_path / "arrived", listening, lambda _: None) as receiver:
        peer = f"LOHI_EDGE@127.0.0.1:{receiver.port}"
        told = replace(context, settings=replace(context.settings, dicom=Dicom(peers=(peer,))))
        assert checks_data.peers(told).status == PASS
    found = checks_data.peers(told)
    assert (found.status, peer in found.found) == (FAIL, True)


def test_latency(context):
    import os

    from lohi_edge.device.latency import MIN_SCANS, Contract
    from lohi_edge.watch.clock import boot_id, boot_seconds
    from lohi_edge.watch.ledger import Ledger

    assert checks_data.latency(context).status == NOT_APPLICABLE
    Ledger(context.state).close()
    contract = Contract("cpu", 10.0, context.root)
    for seconds, status in ((1.0, PASS), (20.0, WARN)):
        for _ in range(MIN_SCANS):
            contract.add(seconds)
        said = {
            "phase": "ready", "pid": os.getpid(), "boot": boot_id(), "uptime_s": boot_seconds(),
            "at": "now", "latency": contract.status(),
            "folders": {"outbox": context.settings.watch.outbox},
        }  # fmt: skip
        (context.state / "status.json").write_text(json.dumps(said))
        assert checks_data.latency(context).status == status


def test_shipped_bundles_serve_where_nothing_is_installed(context):
    (path,) = {p.resolve() for p in [bundles.shipped("T1w")]}
    assert path in {p.resolve() for p in in_use(context.settings, context.library)}
