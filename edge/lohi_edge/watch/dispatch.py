"""From the ledger to the worker and back: one scan computing, one read ahead."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lohi_edge.device import latency
from lohi_edge.device.latency import Contract
from lohi_edge.errors import BundleError, DiskError
from lohi_edge.watch import disk, faults, repeats
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.inbox import Look
from lohi_edge.watch.ledger import Scan
from lohi_edge.watch.log import without_names
from lohi_edge.watch.worker import Worker

TICK_S = 0.5
PAUSE_S = 5.0
RESTART_S = (0.1, 60.0)  # first and longest wait before a worker is started again
_VERDICTS = {"Held": "held"}


@dataclass
class Job:
    """A scan the worker has in hand.

    Attributes:
        phase: "reading", "loaded" (in the worker's memory), "read" (its hash is known, waiting for
            its turn) or "computing".
        spent_s: time in a phase of the worker's; a stopped daemon does not count it.
        facts: what the worker said about it: sha256, contrast, bundle, expected_bytes.
    """

    scan: Scan
    phase: str = "reading"
    spent_s: float = 0.0
    facts: dict[str, Any] | None = None
    folder: str = ""
    done: int = 0
    total: int = 0


class Dispatcher:
    """Feeds the worker and closes what it has done.

    Args:
        parts: ledger, outbox and the rest.
        delivered: called with (scan, folder) after each delivery.
    """

    def __init__(self, parts: Closing, state: Path, delivered: Callable[[Scan, str], None]) -> None:
        self.parts = parts
        self._state = state
        self._delivered = delivered
        self.worker: Worker | None = None
        self.models: list[dict[str, Any]] = []
        self.jobs: dict[int, Job] = {}
        self.present: dict[str, str] = {}
        self.pause: str | None = None
        self._pause_until = 0.0
        self._restart_at = 0.0
        self._restart_wait = RESTART_S[0]
        self._starting_s = 0.0
        self._renew = False
        self.totals = {"delivered": 0, "seconds": 0.0, "lost": 0}
        self.contract = Contract(*latency.budget(parts.settings.latency))
        self._ticked = time.monotonic()

    # Intake.

    def intake(self, look: Look) -> None:
        """Receive what is ready; links out of the inbox are refused."""
        self.present = look.present
        busy = {job.scan.path for job in self.jobs.values()}
        ready = [found for found in look.ready if found.path not in busy]
        if not ready:
            return
        faults.reach("after_seen")
        ids = self.parts.ledger.receive(ready)
        self.parts.log("scans.received", count=len(ids), first=ids[0], last=ids[-1])
        faults.reach("after_received")
        for found, scan in zip(ready, ids, strict=True):
            if found.link:
                reason = "a symbolic link that leaves the inbox; put the file itself there"
                self._close(self.parts.ledger.get(scan), "failed", reason)

    # The worker.

    def tick(self) -> None:
        """Start the worker where there is none, count its time, and end it where it hangs."""
        now = time.monotonic()
        # A daemon that was stopped (SIGSTOP, suspend) counts one tick, not the whole time.
        passed = min(now - self._ticked, 2 * TICK_S)
        self._ticked = now
        settings = self.parts.settings
        if self.worker is None:
            if now >= self._restart_at:
                self.worker, self._starting_s = Worker(settings.enhance, self._state), 0.0
            return
        if not self.worker.ready:
            self._starting_s += passed
            if self._starting_s > settings.worker.start_timeout_s:
                self._lost("no model after worker.start_timeout_s")
            return
        for job in self.jobs.values():
            job.spent_s += passed if job.phase in ("reading", "computing") else 0.0
        late = [j for j in self.jobs.values() if j.spent_s > settings.worker.timeout_s]
        if late:
            self._lost(f"took longer than {settings.worker.timeout_s:g} s", late[0])

    def listen(self) -> None:
        """Take in what the worker has to say.

        Raises:
            BundleError: it refuses the model.
        """
        if self.worker is None:
            return
        for event in self.worker.receive():
            handler: Callable[..., None] = getattr(self, f"_on_{event.pop('event')}")
            handler(**event)
        if self.worker and self.worker.ended:
            self._lost("")

    def _on_ready(self, models: list[dict[str, Any]]) -> None:
        assert self.worker
        self.worker.ready = True
        self.models = models
        self._restart_wait = RESTART_S[0]
        for model in models:
            self.parts.log("model.accepted", **model)
        self.parts.audit.append("model.accepted", models=models)

    def _on_refused(self, message: str, exit_code: int) -> None:
        self.stop_worker()
        from lohi_edge.device import installed

        own = exit_code == BundleError.exit_code and not self.parts.settings.enhance.bundle
        now = installed.fall_back(message) if own else None
        if now is None:
            raise BundleError(message)
        self.parts.log("bundle.rolled_back", why=message, active=now)
        self.parts.audit.append("bundle.rolled_back", active=now)

    def _on_progress(self, id: int, done: int, total: int) -> None:
        if job := self.jobs.get(id):
            job.done, job.total = done, total

    def _on_loaded(self, id: int) -> None:
        if job := self.jobs.get(id):
            job.phase = "loaded"

    def _on_read(self, id: int, **facts: Any) -> None:
        if job := self.jobs.get(id):
            job.phase, job.facts = "read", facts
            faults.reach("after_read", job.scan.path)

    def _on_done(self, id: int, **done: Any) -> None:
        job = self.jobs.pop(id, None)
        if job is None:
            return
        faults.reach("after_computed", job.scan.path)
        self._disk_guarded(job.scan, lambda: self.parts.deliver(job.scan, job.folder, done))
        self.totals["delivered"] += 1
        self.totals["seconds"] = round(self.totals["seconds"] + done["seconds"], 4)
        if breach := self.contract.add(done["seconds"]):
            self.parts.log("latency.breached", **breach)
            self.parts.audit.append("latency.breached", **breach)

    def _on_failed(self, id: int, kind: str, message: str) -> None:
        job = self.jobs.pop(id, None)
        if job is None:
            return
        self.parts.outbox.discard(id)
        if kind == "DiskError":
            self.parts.ledger.put_back(id, last=False)
            self._pause(job.scan, message)
        elif self._changed(job.scan):
            self.parts.ledger.put_back(id, last=False)  # half of the old file, half of the new
        else:
            self._close(job.scan, _VERDICTS.get(kind, "failed"), message)

    def _lost(self, why: str, culprit: Job | None = None) -> None:
        """The worker died or hangs: that costs an attempt of the scan it was working on."""
        assert self.worker
        how = self.worker.end()
        words = self.worker.last_words().rpartition("\n")[2]
        reason = why or f"the worker {how}" + (f" ({words})" if words else "")
        self.worker = None
        self.totals["lost"] += 1
        self._restart_at = time.monotonic() + self._restart_wait
        self._restart_wait = min(2 * self._restart_wait, RESTART_S[1])
        jobs, self.jobs = list(self.jobs.values()), {}
        working = [job for job in jobs if job.phase in ("reading", "computing")]
        culprit = culprit or next((j for j in working if j.phase == "computing"), None)
        culprit = culprit or (working[0] if working else None)
        self.parts.log("worker.lost", how=how, scan=culprit.scan.id if culprit else None)
        for job in jobs:
            self.parts.outbox.discard(job.scan.id)
            if job is culprit:
                self._strike(job.scan, reason, alone=len(working) > 1)
            else:
                # Which of two brought it down is unknown: each is tried by itself.
                self.parts.ledger.put_back(job.scan.id, last=False, alone=job in working)

    def _strike(self, scan: Scan, reason: str, alone: bool) -> None:
        settings = self.parts.settings.worker
        strikes = scan.strikes + 1
        delay = settings.backoff_s * 2 ** (strikes - 1)
        self.parts.ledger.strike(scan.id, delay, alone or scan.alone)
        told = without_names(reason, scan.path, scan.id)
        self.parts.audit.append("scan.crashed", scan=scan.id, strikes=strikes)
        self.parts.log("scan.crashed", scan=scan.id, strikes=strikes, why=told, retry_in_s=delay)
        if strikes >= settings.attempts:
            self._close(self.parts.ledger.get(scan.id), "quarantined", reason)

    def stop_worker(self) -> None:
        """End the worker; what it had in hand is received again, in its old place."""
        if self.worker:
            self.worker.end()
            self.worker = None
        jobs, self.jobs = self.jobs, {}
        for scan in jobs:
            self.parts.outbox.discard(scan)
            self.parts.ledger.put_back(scan, last=False)

    # Work.

    def feed(self) -> None:
        """Give the worker its next step, as far as disk and pause allow."""
        if self._renew and not self.computing:
            self._renew = False
            self.stop_worker()
            self._restart_at = 0.0
        if self.worker is None or not self.worker.ready or self._renew or not self._may_work():
            return
        phases = [job.phase for job in self.jobs.values()]
        if "computing" not in phases and "read" in phases:
            self._decide(next(job for job in self.jobs.values() if job.phase == "read"))
        alone = any(job.scan.alone for job in self.jobs.values())
        waiting = sum(job.phase != "computing" for job in self.jobs.values())
        if not alone and not waiting and (scan := self._next()):
            self._take(scan)

    @property
    def busy(self) -> bool:
        """Whether something may need attention before the next look at the inbox."""
        waits = self.worker is None or not self.worker.ready
        return waits or bool(self.jobs) or self.pause is not None

    def renew_worker(self) -> None:
        """Start another worker with new settings, after the scan that is computing."""
        self._renew = True

    def abandon(self) -> None:
        """The ledger cannot be written: forget what is in hand, as a power cut would."""
        if self.worker:
            self.worker.end()
        self.worker, self.jobs = None, {}

    @property
    def computing(self) -> bool:
        return any(job.phase == "computing" for job in self.jobs.values())

    def release(self) -> None:
        """Put back whatever is not computing yet."""
        for id in [id for id, job in self.jobs.items() if job.phase != "computing"]:
            del self.jobs[id]
            self.parts.ledger.put_back(id, last=False)

    def _next(self) -> Scan | None:
        for scan in self.parts.ledger.due():
            # Not there, or not as it was received: the next look decides.
            if self.present.get(scan.path) != scan.mark:
                continue
            return None if scan.alone and self.jobs else scan
        return None

    def _take(self, scan: Scan) -> None:
        if self._changed(scan):
            self.present.pop(scan.path, None)
            return
        self.parts.ledger.begin(scan.id)
        faults.reach("after_begun", scan.path)
        assert self.worker
        self.jobs[scan.id] = Job(self.parts.ledger.get(scan.id))
        self.worker.send("read", id=scan.id, path=str(self.parts.root / scan.path))
        self.parts.log("scan.begun", scan=scan.id, attempt=scan.attempts + 1)

    def _changed(self, scan: Scan) -> bool:
        return self.parts.inbox.mark(scan.path) != scan.mark

    def _decide(self, job: Job) -> None:
        """The bytes are in memory and their hash is known: enhance, or recognise."""
        scan, facts = job.scan, job.facts
        assert facts
        assert self.worker
        parts = self.parts
        if self._changed(scan):
            self._drop(job)
            parts.ledger.put_back(scan.id, last=False)
            self.present.pop(scan.path, None)
            parts.log("scan.changed", scan=scan.id)
            return
        identity = identify(facts, parts.settings.enhance.digest())
        if repeats.same_file(parts, scan, identity):
            self._drop(job)
            return
        parts.ledger.identify(scan.id, identity, facts["sha256"], facts["contrast"])
        scan = job.scan = parts.ledger.get(scan.id)
        if placed := parts.outbox.find_near(scan.path, identity):
            self._drop(job)
            self._disk_guarded(scan, lambda: parts.adopt(scan, placed))
        elif first := parts.ledger.with_identity(identity):
            self._drop(job)
            self._disk_guarded(scan, lambda: repeats.deliver(parts, scan, first))
        elif not disk.has_room(parts.outbox.root, parts.settings.disk, facts["expected_bytes"]):
            self.hold("not enough free disk space")
        else:
            self._compute(job, identity)

    def _compute(self, job: Job, identity: str) -> None:
        assert self.worker
        scan = job.scan
        job.folder = self.parts.outbox.choose(scan.path, identity)
        self._disk_guarded(scan, lambda: self._start(job, identity))

    def _start(self, job: Job, identity: str) -> None:
        assert self.worker
        out = self.parts.outbox.stage(job.scan.id)
        job.phase, job.spent_s = "computing", 0.0
        self.worker.send(
            "enhance",
            id=job.scan.id,
            path=job.scan.path,
            out=str(out),
            home=self.parts.source(job.scan, job.folder),
            stamp=self.parts.stamp(job.scan, identity),
        )

    def _drop(self, job: Job) -> None:
        assert self.worker
        del self.jobs[job.scan.id]
        self.worker.send("forget", id=job.scan.id)

    def _close(self, scan: Scan, state: str, reason: str) -> None:
        self._disk_guarded(scan, lambda: self.parts.close_without_result(scan, state, reason))

    # Disk.

    def _disk_guarded(self, scan: Scan, step: Callable[[], None]) -> None:
        """Run a step that writes; a full or failing disk is the disk's fault, never the scan's."""
        try:
            step()
        except DiskError as error:
            if job := self.jobs.get(scan.id):
                self._drop(job)
            self.parts.outbox.discard(scan.id)
            self.parts.ledger.put_back(scan.id, last=False)
            self._pause(scan, str(error))
            return
        row = self.parts.ledger.get(scan.id)
        if row.state == "done" and row.result is not None:
            self._delivered(row, row.result)

    def _pause(self, scan: Scan, message: str) -> None:
        self.hold(without_names(message, scan.path, scan.id))

    def hold(self, why: str, seconds: float = PAUSE_S) -> None:
        """Take no work for a while, and say why."""
        if self.pause != why:
            self.parts.log("intake.paused", why=why)
        self.pause, self._pause_until = why, time.monotonic() + seconds

    def _may_work(self) -> bool:
        if time.monotonic() < self._pause_until:
            return False
        if not self.parts.outbox.is_there():
            why = "the outbox is not the folder it was at the start: mount it again, or restart"
            self.hold(why)
            return False
        if not disk.has_room(self.parts.outbox.root, self.parts.settings.disk, 0):
            self.hold("not enough free disk space")
            return False
        if self.pause:
            try:
                self.parts.outbox.clear() if not self.jobs else None
            except DiskError as error:
                self.hold(str(error))
                return False
            self.parts.log("intake.resumed")
            self.pause = None
        return True


def identify(facts: dict[str, Any], settings: str) -> str:
    """What makes a scan the same work: its bytes, contrast, bundle serial and settings."""
    parts = (facts["sha256"], facts["contrast"], facts["bundle"], settings)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
