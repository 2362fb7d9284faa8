"""How the daemon is: STATE/status.json for others to read, and what Linux says of the machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lohi_edge.device import machine
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import is_directory, read_bytes
from lohi_edge.watch.clock import boot_id, boot_seconds, wall
from lohi_edge.watch.disk import free_bytes
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.log import printable

if TYPE_CHECKING:
    from lohi_edge.watch.service import Daemon

FILE = "status.json"
STALE_S = 120.0  # a daemon writes at least every 30 s
_MAX = 4 << 20
_SHOWN = 50


def snapshot(daemon: Daemon) -> dict[str, Any]:
    """Everything that only the running process knows."""
    dispatcher = daemon.dispatcher
    worker = dispatcher.crew.process
    look = daemon.lookout.look
    waiting, skipped, others = look.waiting, look.skipped, look.others
    return {
        "phase": daemon.phase,
        "paused": dispatcher.gate.why,
        "pid": os.getpid(),
        "models": dispatcher.crew.models,
        "worker_pid": worker.pid if worker else None,
        "jobs": [
            {"scan": job.scan.id, "phase": job.phase, "slices": [job.done, job.total]}
            for job in dispatcher.hands.jobs.values()
        ],
        "waiting": {printable(p): waiting[p] for p in sorted(waiting)[:_SHOWN]},
        "waiting_count": len(waiting),
        "skipped": {printable(p): skipped[p] for p in sorted(skipped)[:_SHOWN]},
        "skipped_count": len(skipped),
        "others": [printable(p) for p in sorted(others)[:_SHOWN]],
        "others_count": len(others),
        "inbox_trouble": daemon.lookout.trouble and printable(daemon.lookout.trouble),
        "events": daemon.lookout.events,
        "folders": {
            "inbox": str(daemon.parts.root),
            "outbox": str(daemon.outbox.root),
            "state": str(daemon.state),
        },
        "queue": daemon.ledger.counts(),
        "totals": {
            "delivered": dispatcher.delivered,
            "seconds": round(dispatcher.seconds, 4),
            "lost": dispatcher.crew.lost,
        },
        "latency": dispatcher.contract.status(),
        "http_port": daemon.herald.http_port,
        "page_port": daemon.herald.page_port,
        "dicom": _dicom(daemon),
    }


def _dicom(daemon: Daemon) -> dict[str, Any] | bool:
    """False without DICOM; results that are not sent are told whatever the settings say now."""
    network, outgoing = daemon.network, daemon.parts.outgoing
    unsent, why = len(outgoing.unsent()), outgoing.reasons()
    return (network.wanted or bool(unsent or why)) and {
        "port": network.port,
        "pid": network.process and network.process.pid,
        "trouble": network.trouble,
        "unsent": unsent,
        "unsent_why": why,
    }


class Publisher:
    """Writes the snapshot whenever it changed; without fsync, for it is made anew at each start."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._last: dict[str, Any] | None = None

    def publish(self, now: dict[str, Any], beat: bool) -> bool:
        """Returns whether it was written."""
        if now == self._last and not beat:
            return False
        self._last = now
        text = json.dumps({**now, "boot": boot_id(), "uptime_s": boot_seconds(), "at": wall()})
        temporary = self._path.with_name("." + FILE + ".tmp")
        try:
            temporary.write_text(text)
            temporary.replace(self._path)
        except OSError:
            self._last = None  # a full disk; the next step tries again
            return False
        return True


def read(state: Path) -> dict[str, Any]:
    """Status for the command: the daemon's own words if it runs, the ledger, and the machine.

    Raises:
        UsageError: no daemon ever worked with this state folder.
    """
    ledger = Ledger(state, read_only=True)
    try:
        counts = ledger.counts()
        waits = "state = 'received' AND reason IS NOT NULL"
        put_off = [
            {"scan": scan.id, "path": printable(scan.path), "reason": scan.reason}
            for scan in ledger.select(waits, order=f"turn, id LIMIT {_SHOWN}")
        ]
        order = f"finished_at DESC, id DESC LIMIT {10}"
        last = [
            {
                "scan": scan.id,
                "path": printable(scan.path),
                "state": scan.state,
                "verdict": scan.verdict,
                "finished": scan.finished_wall,
                "reason": scan.reason,
            }
            for scan in ledger.select("finished_at IS NOT NULL", order=order)
        ]
    finally:
        ledger.close()
    told = said(state)
    running = told is not None and _is_alive(told)
    outbox = Path(told["folders"]["outbox"]) if told else None
    return {
        "running": running,
        "daemon": told if running else None,
        "last_seen": told["at"] if told else None,
        "queue": counts,
        "put_off": put_off,
        "last": last,
        "disk": {
            "outbox_free": free_bytes(outbox) if outbox else None,
            "state_free": free_bytes(state),
        },
        "machine": {"power_mode": machine.power_mode(), **machine.heat()},
    }


def said(state: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(read_bytes(state / FILE, _MAX))
        return found
    except (BadInput, ValueError):
        return None


def _is_alive(said: dict[str, Any]) -> bool:
    if said["phase"] == "stopped" or said["boot"] != boot_id():
        return False
    if boot_seconds() - said["uptime_s"] > STALE_S:
        return False
    try:
        os.kill(said["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is another user's
    return True


def require(state: Path | None) -> Path:
    """The state folder itself.

    Raises:
        UsageError: it is none, or not for this user to read.
    """
    if state is not None and _is_shut(state):
        raise UsageError(
            f"{state}: this user may not look into it; ask as the daemon's: sudo -u lohi-edge ..."
        )
    if state is None or not is_directory(state):
        raise UsageError(
            f"expected the state folder of a daemon, got {state}; name it with --state"
        )
    return state


def _is_shut(folder: Path) -> bool:
    """Whether this user may not read what is there."""
    try:
        folder.lstat()
    except OSError as error:
        return isinstance(error, PermissionError)
    may = os.access(folder, os.R_OK | os.X_OK, effective_ids=True)
    return is_directory(folder) and not may
