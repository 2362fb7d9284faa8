"""Every check of the doctor, made to pass, to fail and not to apply."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lohi_edge import bundle as bundles
from lohi_edge.device import checks_data, checks_machine, doctor
from lohi_edge.device.doctor import FAIL, NOT_APPLICABLE, PASS, WARN
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.files import sha256
from lohi_edge.runtime.cuda import Gpu
from lohi_edge.settings import Dicom, Disk, Enhance, Settings, Watch

GPU = Gpu("Orin", "8.7", "12.6", 8 << 30, unified=True)
SHOW = "LoadState={}\nActiveState={}\nSubState={}\nUnitFileState={}\nNRestarts={}\n"


def missing() -> str:
    raise ModuleNotFoundError("No module named 'tensorrt'")


@pytest.fixture
def context(device, tmp_path):
    """A sound machine without a GPU, with folders of a daemon."""
    folders = {name: tmp_path / name for name in ("inbox", "outbox", "state")}
    for path in folders.values():
        path.mkdir(mode=0o700)
    settings = Settings(
        watch=Watch(**{k: str(v) for k, v in folders.items()}),
        disk=Disk(reserve_gb=0.001),
        enhance=Enhance(threads=1),
    )
    root = tmp_path / "root"
    mount(root, "/ / rw - ext4 /dev/sda1 rw")
    return doctor.Context(
        settings,
        folders["state"],
        root=root,
        gpu="no CUDA driver on this machine",
        library=device.library,
        tensorrt=missing,
        clock=lambda: 0,
        uid=1000,
    )


def write(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mount(root: Path, *lines: str) -> None:
    write(root, "proc/self/mountinfo", "".join(f"1 0 8:1 {line}\n" for line in lines))


def jetson(root: Path, release: str = "R36 (release), REVISION: 4.3", mode: str = "2") -> None:
    write(root, "etc/nv_tegra_release", f"# {release}, GCID: 1\n")
    write(root, "proc/device-tree/model", "NVIDIA Jetson Orin Nano\0")
    write(root, "var/lib/nvpmodel/status", f"pmode:000{mode}")
    write(
        root, "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN >"
    )


def test_a_sound_machine_is_healthy(context):
    report = doctor.examine(context)
    assert report["healthy"], report
    assert report["counts"][WARN] == 0, report
    page = doctor.lines(report)
    assert len(page) == len(report["checks"]) + 1
    assert all(row["fix"] == "" for row in report["checks"])


def test_whatever_is_wrong_has_its_fix_beside_it(context):
    sick = replace(context, python=(3, 9), settings=Settings(watch=Watch(inbox="/nowhere")))
    report = doctor.examine(sick)
    assert not report["healthy"]
    wrong = [row for row in report["checks"] if row["status"] in (WARN, FAIL)]
    assert {"python", "inbox"} <= {row["check"] for row in wrong}
    assert all(row["fix"] for row in wrong)
    assert "FAIL  python            3.9" in doctor.lines(report)


@pytest.mark.parametrize(
    ("python", "status"), [((3, 9), FAIL), ((3, 10), PASS), ((3, 12), PASS), ((3, 13), FAIL)]
)
def test_python(context, python, status):
    assert checks_machine.python(replace(context, python=python)).status == status


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("R35 (release), REVISION: 6.1", FAIL),
        ("R36 (release), REVISION: 4.3", PASS),
        ("R38 (release), REVISION: 2.0", PASS),
        ("R99 (release), REVISION: 1.0", WARN),
    ],
)
def test_jetpack(context, release, status):
    assert checks_machine.jetpack(context).status == NOT_APPLICABLE
    jetson(context.root, release)
    assert checks_machine.jetpack(context).status == status


@pytest.mark.parametrize(
    ("version", "status"),
    [("10.3.0", PASS), ("8.6.2", FAIL), ("11.4.0.106", FAIL), ("10.16.1", PASS)],
)
def test_tensorrt_on_jetpack_6(context, version, status):
    jetson(context.root)
    sound = replace(context, gpu=GPU, tensorrt=lambda: version)
    assert checks_machine.tensorrt(sound).status == status


def test_tensorrt_elsewhere(context):
    assert checks_machine.tensorrt(context).status == NOT_APPLICABLE
    assert checks_machine.tensorrt(replace(context, gpu=GPU)).status == WARN
    jetson(context.root, "R38 (release), REVISION: 2.0")
    assert checks_machine.tensorrt(replace(context, gpu=GPU)).status == FAIL
    for version, status in (("11.2.0", FAIL), ("11.4.0", PASS)):
        found = checks_machine.tensorrt(replace(context, gpu=GPU, tensorrt=lambda v=version: v))
        assert found.status == status


def test_cuda(context):
    assert checks_machine.cuda(context).status == NOT_APPLICABLE
    assert checks_machine.cuda(replace(context, gpu=GPU)).status == PASS
    assert checks_machine.cuda(replace(context, gpu=replace(GPU, cuda="11.4"))).status == FAIL
    jetson(context.root)
    assert checks_machine.cuda(context).status == FAIL


@pytest.mark.parametrize(("available_mb", "status"), [(4000, PASS), (300, FAIL)])
def test_gpu_memory(context, available_mb, status):
    assert checks_machine.gpu_memory(context).status == NOT_APPLICABLE
    meminfo = f"MemTotal: 8000000 kB\nMemAvailable: {available_mb * 1024} kB\n"
    write(context.root, "proc/meminfo", meminfo)
    assert checks_machine.gpu_memory(replace(context, gpu=GPU)).status == status
    small = replace(GPU, unified=False, total_bytes=256 << 20)
    assert checks_machine.gpu_memory(replace(context, gpu=small)).status == FAIL


@pytest.mark.parametrize(("mode", "status"), [("2", PASS), ("0", WARN), ("7", WARN)])
def test_power_mode(context, mode, status):
    assert checks_machine.power_mode(context).status == NOT_APPLICABLE
    jetson(context.root, mode=mode)
    assert checks_machine.power_mode(context).status == status
    (context.root / "var/lib/nvpmodel/status").unlink()
    assert checks_machine.power_mode(context).status == WARN


def test_throttling(context):
    assert checks_machine.throttling(context).status == PASS
    write(context.root, "sys/class/hwmon/hwmon3/oc1_event_cnt", "12\n")
    found = checks_machine.throttling(context)
    assert (found.status, "12 by current" in found.found) == (WARN, True)


def test_clock(context):
    assert checks_machine.clock_sync(context).status == PASS
    assert checks_machine.clock_sync(replace(context, clock=lambda: 5)).status == WARN
    assert 0 <= doctor.clock_state() <= 5  # what Linux itself says


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
    assert checks_data.acceptance(replace(sound, gpu=GPU)).status == WARN  # the GPU is not used
    golden = dict(np.load(path / "golden.npz"))
    np.savez(path / "golden.npz", **{**golden, "output": golden["output"] * np.float32(0.9)})
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = sha256((path / "golden.npz").read_bytes())
    (path / "manifest.json").write_text(json.dumps(manifest))
    found = checks_data.acceptance(sound)
    assert (found.status, "largest error" in found.found) == (FAIL, True)


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


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (("loaded", "active", "running", "enabled", 0), PASS),
        (("loaded", "failed", "failed", "enabled", 5), FAIL),
        (("loaded", "active", "running", "disabled", 0), WARN),
        (("loaded", "active", "running", "enabled", 3), WARN),
        (("not-found", "inactive", "dead", "", 0), NOT_APPLICABLE),
    ],
)
def test_service(context, state, status):
    assert checks_data.service(context).status == NOT_APPLICABLE  # no systemd
    (context.root / "run/systemd/system").mkdir(parents=True)
    told = replace(context, command=lambda *_: (0, SHOW.format(*state)))
    assert checks_data.service(told).status == status


def test_a_command_that_is_not_there_is_no_traceback():
    assert doctor.run_command("no-such-command-here") == (127, "")


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


def test_every_check_is_tested_here():
    names = {name for name in globals() if name.startswith("test_")}
    wanted = {**checks_machine.CHECKS, **checks_data.CHECKS}
    other = {"bundle signature": "signature", "inbox": "durable_mounts", "outbox": "durable_mounts"}
    for name in wanted:
        short = other.get(name, name.split()[-1] if name == "dicom peers" else name)
        assert any(n.startswith(f"test_{short.replace(' ', '_')}") for n in names), name


def test_shipped_bundles_serve_where_nothing_is_installed(context):
    (path,) = {p.resolve() for p in [bundles.shipped("T1w")]}
    assert path in {p.resolve() for p in checks_data.in_use(context)}
