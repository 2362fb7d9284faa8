"""What the worker has in hand, and what becomes of it when the worker ends, whatever the reason."""

from __future__ import annotations

from collections.abc import Callable

from lohi_edge.watch.closing import Closing
from lohi_edge.watch.crew import Crew
from lohi_edge.watch.jobs import Job

Strike = Callable[..., None]  # (scan, reason, alone): a crash that counts against a scan


class Hands:
    """The scans in the worker's hands.

    Args:
        parts: ledger, outbox and the rest.
        crew: the worker.
    """

    def __init__(self, parts: Closing, crew: Crew) -> None:
        self._parts, self._crew = parts, crew
        self.jobs: dict[int, Job] = {}

    @property
    def finishing(self) -> bool:
        """Whether a scan is being computed or written."""
        return any(job.finishing for job in self.jobs.values())

    def late(self, passed: float, timeout_s: float) -> Job | None:
        """Count time against what the worker works on; the job that took too long, or None."""
        for job in self.jobs.values():
            job.spent_s += passed if job.at_work else 0.0
        return next((job for job in self.jobs.values() if job.spent_s > timeout_s), None)

    def drop(self, scan: int) -> None:
        """Take a scan out of the worker's hands."""
        if self.jobs.pop(scan, None):
            self._crew.send("forget", id=scan)

    def lost(self, why: str, culprit: Job | None, strike: Strike) -> None:
        """The worker died or hangs: that costs an attempt of the scan it was working on."""
        ready = self._crew.ready
        how, words = self._crew.bury()
        reason = why or f"the worker {how}" + (f" ({words})" if words else "")
        jobs, self.jobs = list(self.jobs.values()), {}
        working = [job for job in jobs if job.at_work]
        culprit = culprit or next((j for j in working if j.phase == "computing"), None)
        culprit = culprit or (working[0] if working else None)
        # Before it was ready it had seen no scan, whose name its last words might tell.
        told = {"why": why if ready else reason} if why or not ready else {}
        self._parts.log("worker.lost", how=how, scan=culprit.scan.id if culprit else None, **told)
        for job in jobs:
            self._parts.outbox.discard(job.scan.id)
            if job is culprit:
                strike(job.scan, reason, alone=len(working) > 1)
            else:
                # Which of them brought it down is unknown: each is tried by itself.
                self._parts.ledger.put_back(job.scan.id, last=False, alone=job in working)

    def stop(self) -> None:
        """End the worker; what it had in hand is received again, in its old place."""
        self._crew.dismiss()
        jobs, self.jobs = self.jobs, {}
        for scan in jobs:
            self._parts.outbox.discard(scan)
            self._parts.ledger.put_back(scan, last=False)

    def abandon(self) -> None:
        """The ledger cannot be written: forget what is in hand, as a power cut would."""
        self._crew.dismiss()
        self.jobs = {}

    def release(self) -> None:
        """Put back whatever is neither computed nor written yet."""
        for id in [id for id, job in self.jobs.items() if not job.finishing]:
            del self.jobs[id]
            self._parts.ledger.put_back(id, last=False)
