"""The doctor's checks of what the daemon stands on: folders, bundles, peers, its budget."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lohi_edge import bundle as bundles
from lohi_edge import signing, store
from lohi_edge.device.doctor import FAIL, NOT_APPLICABLE, PASS, WARN, Check, Context, Finding
from lohi_edge.device.serving import in_use
from lohi_edge.errors import BundleError, LohiError, UsageError
from lohi_edge.files import is_directory, is_file
from lohi_edge.watch import disk as disks
from lohi_edge.watch import localfs, status

_VOLATILE = ("tmpfs", "ramfs", "overlay", "squashfs")
_GB = 1e9
_AS_DAEMON = "ask as the daemon's user: sudo -u lohi-edge lohi-edge doctor"
_BUILD = "sudo -u lohi-edge lohi-edge engine build; then restart the daemon"


def disk(context: Context) -> Finding:
    """The reserve that intake never touches is free, twice over."""
    reserve = context.settings.disk.reserve_gb
    places = {"outbox": context.settings.watch.outbox, "state": str(context.state)}
    free = {n: f for n, p in places.items() if p and (f := disks.free_bytes(Path(p))) is not None}
    if not free:
        return Finding(WARN, "neither outbox nor state folder is there", "set them in the settings")
    words = ", ".join(f"{name} {bytes / _GB:.1f} GB free" for name, bytes in free.items())
    if min(free.values()) < reserve * _GB:
        return Finding(FAIL, f"{words}, intake pauses below {reserve:g} GB", _ROOM)
    if min(free.values()) < 2 * reserve * _GB:
        return Finding(WARN, f"{words}, intake pauses below {reserve:g} GB", _ROOM)
    return Finding(PASS, words)


_ROOM = "remove old results, or let disk.keep_days and disk.keep_gb do it"


def permissions(context: Context) -> Finding:
    """Private what must be private; readable and writable what the daemon needs."""
    faults = []
    for path in (context.state, store.default_root()):
        if is_directory(path) and stat.S_IMODE(path.stat().st_mode) & 0o077:
            faults.append(f"chmod 700 {path}")
    own = (context.config, context.root / "etc/lohi-edge", context.root / "etc/lohi-edge/keys")
    for named in own:
        if (
            named
            and (is_file(named) or is_directory(named))
            and stat.S_IMODE(named.stat().st_mode) & 0o022
        ):
            faults.append(f"chmod go-w {named}")
    if faults:
        return Finding(FAIL, "others may read or write what they must not", "; ".join(faults))
    watch = context.settings.watch
    for folder, mode, verb in ((watch.inbox, os.R_OK, "read"), (watch.outbox, os.W_OK, "write")):
        if (
            folder
            and Path(folder).is_dir()
            and not os.access(folder, mode | os.X_OK, effective_ids=True)
        ):
            return Finding(FAIL, f"user {context.uid} may not {verb} {folder}", _AS_DAEMON)
    return Finding(PASS, f"for user {context.uid}")


def signatures(context: Context) -> Finding:
    """Every bundle in use is whole, and signed by a key this device trusts."""
    words, foreign = [], False
    for path in in_use(context.settings, context.library):
        try:
            bundle = bundles.load(path)
            signer = signing.screen(bundle, allow_downgrade=True)
        except signing.KeyUnusable as error:
            return Finding(FAIL, str(error), f"trusted keys must be readable: {signing.KEY_REMEDY}")
        except BundleError as error:
            return Finding(FAIL, str(error), "lohi-edge bundle rollback, or install it again")
        shipped = bundles.is_shipped(path)
        foreign |= not shipped and signer is None
        by = "comes with the software" if shipped else signer or "not checked"
        words.append(f"{bundle.manifest.name} serial {bundle.manifest.serial}: {by}")
    found = "; ".join(words)
    if foreign:
        return Finding(WARN, found, "trust a key: put its .pub into /etc/lohi-edge/keys")
    return Finding(PASS, found)


def acceptance(context: Context) -> Finding:
    """Every bundle in use computes here what it computed where it was made; on the GPU, if any."""
    from lohi_edge.acceptance import accept

    wanted = context.settings.enhance
    words, slow = [], False
    for path in in_use(context.settings, context.library):
        bundle = bundles.load(path)
        record = accept(bundle, wanted.threads, wanted.runtime, wanted.precision)
        name = f"{bundle.manifest.name} on {record['runtime']} {record['precision']}"
        passed_over = f" (passed over: {record['fallback']})" if record["fallback"] else ""
        if not record["accepted"]:
            fix = "lohi-edge bundle rollback, or install the bundle again"
            return Finding(FAIL, f"{name}: {'; '.join(record['problems'])}{passed_over}", fix)
        slow |= not isinstance(context.gpu, str) and record["runtime"] != "tensorrt"
        words.append(f"{name}, error {record['max_error']:.2g}{passed_over}")
    if slow:
        return Finding(WARN, "; ".join(words), f"the GPU is not used: {_BUILD}")
    return Finding(PASS, "; ".join(words))


def inbox(context: Context) -> Finding:
    """The inbox is there after a power cut and a restart."""
    return _durable(context, context.settings.watch.inbox)


def outbox(context: Context) -> Finding:
    """The outbox is there after a power cut and a restart, and can be written."""
    return _durable(context, context.settings.watch.outbox)


def _durable(context: Context, folder: str | None) -> Finding:
    if folder is None:
        return Finding(NOT_APPLICABLE, "not named in the settings")
    if not Path(folder).is_dir():
        return Finding(FAIL, f"{folder}: not there", "create it, or mount what it lies on")
    mounts = context.root / "proc/self/mountinfo"
    kind = localfs.kind(Path(folder), mounts)
    words = f"{folder} on {kind}"
    if bare := localfs.not_mounted(Path(folder), context.root):
        fix = f"mount {bare}, restart the daemon, and fetch what went into the bare folder"
        return Finding(FAIL, f"{words}: {bare} is not mounted", fix)
    if kind in _VOLATILE:
        return Finding(FAIL, f"{words}, gone with the power", "move it to a disk")
    if kind == "unknown":
        return Finding(WARN, words, "see what it is mounted from: findmnt -T FOLDER")
    point = localfs.mount_point(Path(folder), mounts)
    if point != "/" and not localfs.comes_back(point, context.root):
        return Finding(WARN, f"{words}, mounted by hand at {point}", "add it to /etc/fstab")
    return Finding(PASS, words)


def peers(context: Context) -> Finding:
    """Every DICOM node of the settings answers a C-ECHO."""
    from lohi_edge.dicom import send
    from lohi_edge.dicom.tls import Tls

    settings = context.settings.dicom
    files = (settings.tls_cert, settings.tls_key, settings.tls_ca)
    tls = Tls(*(Path(f) for f in files if f)) if all(files) else None
    nodes = dict.fromkeys((*settings.send, *settings.peers))
    if not nodes:
        return Finding(NOT_APPLICABLE, "no dicom.send and no dicom.peers in the settings")
    silent, words = [], []
    for peer in nodes:
        try:
            seconds = send.echo(send.Node.parse(peer, settings.title), tls)
            words.append(f"{peer} in {1000 * seconds:.0f} ms")
        except LohiError as error:
            silent.append(str(error))
    if silent:
        fix = "cable, address, port, and our AE title in the node's list; lohi-edge echo --to NODE"
        return Finding(FAIL, "; ".join(silent), fix)
    return Finding(PASS, ", ".join(words))


def latency(context: Context) -> Finding:
    """The running daemon keeps its budget."""
    try:
        said = status.read(context.state)["daemon"]
    except (UsageError, LohiError):
        said = None
    contract = (said or {}).get("latency")
    if not contract or contract["p95_s"] is None:
        return Finding(NOT_APPLICABLE, "no daemon runs, or it has enhanced too few scans")
    words = (
        f"p95 {contract['p95_s']:g} s, budget {contract['budget_p95_s']:g} s ({contract['class']})"
    )
    if contract["breached"]:
        return Finding(
            WARN, words, "power mode and throttling above; lohi-edge bench names the phase"
        )
    return Finding(PASS, words)


CHECKS: dict[str, Check] = {
    "disk": disk,
    "permissions": permissions,
    "bundle signature": signatures,
    "acceptance": acceptance,
    "inbox": inbox,
    "outbox": outbox,
    "dicom peers": peers,
    "latency": latency,
}
