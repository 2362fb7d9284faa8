"""From the ledger to the worker and back: one scan is read, one computed, one written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lohi_edge.device import latency
from lohi_edge.device.latency import Contract
from lohi_edge.errors import DiskError, of_exit_code
from lohi_edge.watch import faults
from lohi_edge.watch.choice import Choice
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.crew import Crew
from lohi_edge.watch.endings import Endings
from lohi_edge.watch.gate import Gate
from lohi_edge.watch.group import place_of
from lohi_edge.watch.hands import Hands
from lohi_edge.watch.inbox import Look
from lohi_edge.watch.jobs import Job
from lohi_edge.watch.schema import Scan


class Dispatcher:
    """Feeds the worker and closes what it has done.

    Args:
        parts: ledger, outbox and the rest.
        delivered: called with (scan, folder) after each delivery.
    """

    def __init__(self, parts: Closing, state: Path, delivered: Callable[[Scan, str], None]) -> None:
        self.parts = parts
        self.crew = Crew(state)
        self.gate = Gate(parts)
        self.hands = Hands(parts, self.crew)
        self._ends = Endings(parts, self.gate, self.hands.drop, delivered)
        self._choice = Choice(parts, self.crew, self.gate, self.hands, self._ends)
        self._present: dict[str, str] = {}
        self._renew = False
        self.delivered = 0
        self.seconds = 0.0
        self.contract = Contract(*latency.budget(parts.settings.latency))

    @property
    def busy(self) -> bool:
        """Whether something may need attention before the next look at the inbox."""
        return not self.crew.ready or bool(self.hands.jobs) or self.gate.why is not None

    # Intake.

    def intake(self, look: Look) -> None:
        """Receive what is ready."""
        self._present = look.present
        busy = {job.scan.path for job in self.hands.jobs.values()}
        ready = [found for found in look.ready if found.path not in busy]
        if not ready:
            return
        faults.reach("after_seen")
        ids = self.parts.ledger.receive(ready)
        self.parts.log("scans.received", count=len(ids), first=ids[0], last=ids[-1])
        faults.reach("after_received")

    # What the worker says.

    def tick(self) -> None:
        """Start the worker where there is none, count its time, and end it where it hangs."""
        passed, settings = self.crew.passed(), self.parts.settings
        if not self.crew.keep(settings, passed):
            self._lost("no model after worker.start_timeout_s")
        if late := self.hands.late(passed, settings.worker.timeout_s):
            self._lost(f"took longer than {settings.worker.timeout_s:g} s", late)

    def listen(self) -> None:
        """Take in what the worker has to say.

        Raises:
            BundleError: it refuses the model, or cannot run any.
        """
        for event in self.crew.events():
            handler: Callable[..., None] = getattr(self, f"_on_{event.pop('event')}")
            handler(**event)
        if self.crew.ended:
            self._lost("")

    def _on_ready(self, models: list[dict[str, Any]]) -> None:
        self.crew.accept(models)
        for model in models:
            self.parts.log("model.accepted", **model)
        self.parts.audit.append("model.accepted", models=models)

    def _on_refused(self, message: str, exit_code: int, bundle: str | None) -> None:
        """The worker cannot start; `bundle`: the one that is at fault, None where none is."""
        name = Path(bundle).name if bundle else None
        self.parts.audit.append("model.refused", bundle=name, why=message)
        if exit_code == DiskError.exit_code:  # which passes: no reason to stop
            self.gate.close(message)
            self._lost(message)
            return
        self.hands.stop()
        from lohi_edge.device import installed

        named = self.parts.settings.enhance.bundle
        now = installed.fall_back(Path(bundle), message) if bundle and not named else None
        if now is None:
            raise of_exit_code(exit_code, message)
        self.parts.log("bundle.rolled_back", bundle=name, why=message, active=now)
        self.parts.audit.append("bundle.rolled_back", bundle=name, active=now)

    def _on_progress(self, id: int, done: int, total: int) -> None:
        if job := self.hands.jobs.get(id):
            job.done, job.total = done, total

    def _on_loaded(self, id: int) -> None:
        if job := self.hands.jobs.get(id):
            job.enter("loaded")

    def _on_read(self, id: int, **facts: Any) -> None:
        if job := self.hands.jobs.get(id):
            job.phase, job.facts = "read", facts
            faults.reach("after_read", job.scan.path)

    def _on_computed(self, id: int) -> None:
        if job := self.hands.jobs.get(id):
            job.enter("writing")

    def _on_done(self, id: int, **done: Any) -> None:
        job = self.hands.jobs.pop(id, None)
        if job is None:
            return
        faults.reach("after_computed", job.scan.path)
        self._ends.guarded(job.scan, lambda: self.parts.deliver(job.scan, job.folder, done))
        self.delivered += 1
        self.seconds += done["seconds"]
        if breach := self.contract.add(done["seconds"]):
            self.parts.log("latency.breached", **breach)
            self.parts.audit.append("latency.breached", **breach)

    def _on_failed(self, id: int, kind: str, message: str) -> None:
        job = self.hands.jobs.pop(id, None)
        if job is None:
            return
        if kind == "Held" and not self._choice.changed(job.scan):
            self._ends.hold(job.scan, message)
            return
        self.parts.outbox.discard(id)
        if kind == "DiskError":
            self._ends.put_back(job.scan, message)
        elif self._choice.changed(job.scan):
            self.parts.ledger.put_back(id, last=False)  # half of the old file, half of the new
        else:
            self._ends.close(job.scan, "failed", message)

    # When it ends.

    def _lost(self, why: str, culprit: Job | None = None) -> None:
        self.hands.lost(why, culprit, self._ends.strike)

    def renew_worker(self) -> None:
        """Start another worker with new settings, after the scans that are being finished."""
        self._renew = True

    # Work.

    def feed(self) -> None:
        """Give the worker its next step, as far as disk and pause allow."""
        if self._renew and not self.hands.finishing:
            self._renew = False
            self.hands.stop()
        if not self.crew.ready or self._renew or not self.gate.opens(idle=not self.hands.jobs):
            return
        phases = [job.phase for job in self.hands.jobs.values()]
        # Where writing is slower than computing, the results of two are in memory, and no more.
        if "computing" not in phases and phases.count("writing") < 2 and "read" in phases:
            read = next(job for job in self.hands.jobs.values() if job.phase == "read")
            if not self._choice.make(read):
                self._present.pop(read.scan.path, None)
        alone = any(job.scan.alone for job in self.hands.jobs.values())
        waiting = sum(not job.finishing for job in self.hands.jobs.values())
        while not alone and not waiting and (scan := self._next()):
            if self._take(scan):
                break

    def _next(self) -> Scan | None:
        for scan in self.parts.ledger.due():
            # Not there, or not as it was received: the next look decides.
            if self._present.get(scan.path) != scan.mark:
                continue
            return None if scan.alone and self.hands.jobs else scan
        return None

    def _take(self, scan: Scan) -> bool:
        """Have a scan read; False where it is not, and another may be."""
        found = self.parts.inbox.find(scan.path)
        if found is None or found.mark != scan.mark:
            self._present.pop(scan.path, None)
            return False
        if found.refused:
            self._ends.close(scan, "failed", found.refused)
            return self.gate.why is not None  # it may be put back, for a disk's sake
        self.parts.ledger.begin(scan.id)
        faults.reach("after_begun", scan.path)
        self.hands.jobs[scan.id] = Job(self.parts.ledger.get(scan.id))
        files = found.parts and [[str(part.path), part.member] for part in found.parts]
        path = place_of(scan.path) if files else scan.path
        self.crew.send("read", id=scan.id, path=str(self.parts.root / str(path)), files=files)
        self.parts.log("scan.begun", scan=scan.id, attempt=scan.attempts + 1)
        return True
