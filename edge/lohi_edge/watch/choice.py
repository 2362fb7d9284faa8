"""What becomes of a scan that was read: computed, or recognised as one that is done already."""

from __future__ import annotations

from lohi_edge.watch import repeats
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.crew import Crew
from lohi_edge.watch.endings import Endings
from lohi_edge.watch.gate import Gate
from lohi_edge.watch.hands import Hands
from lohi_edge.watch.jobs import Job
from lohi_edge.watch.schema import Scan


class Choice:
    """Chooses for one scan after another, once its bytes are in memory and their hash is known.

    Args:
        parts: ledger, outbox and the rest.
        crew: the worker, and `hands` what it has in hand.
        gate: lets a result into the outbox, or not now.
        ends: for what a disk refuses.
    """

    def __init__(self, parts: Closing, crew: Crew, gate: Gate, hands: Hands, ends: Endings) -> None:
        self._parts, self._crew = parts, crew
        self._gate, self._hands, self._ends = gate, hands, ends

    def make(self, job: Job) -> bool:
        """Have a scan enhanced or closed, or leave it for later; False where its file changed."""
        scan, facts, parts = job.scan, job.facts, self._parts
        assert facts
        if self.changed(scan):
            self._hands.drop(scan.id)
            parts.ledger.put_back(scan.id, last=False)
            parts.log("scan.changed", scan=scan.id)
            return False
        identity = repeats.identify(facts, parts.settings.enhance.digest())
        others = [other for other in self._hands.jobs.values() if other.phase == "writing"]
        if any(other.scan.identity == identity for other in others):
            return True  # the same scan under another name is about to be done
        if repeats.same_file(parts, scan, identity):
            self._hands.drop(scan.id)
            return True
        parts.ledger.identify(scan.id, identity, facts["sha256"], facts["contrast"])
        scan = job.scan = parts.ledger.get(scan.id)
        self._ends.guarded(scan, lambda: self._go_on(job, identity, others))
        return True

    def changed(self, scan: Scan) -> bool:
        """Whether the file in the inbox is not the one any more that was received."""
        return self._parts.inbox.mark(scan.path) != scan.mark

    def _go_on(self, job: Job, identity: str, others: list[Job]) -> None:
        """Raises DiskError where the outbox cannot be read or written."""
        scan, parts = job.scan, self._parts
        expected = sum(j.facts["expected_bytes"] for j in (job, *others) if j.facts)
        placed = parts.outbox.find_own(scan.id, scan.path, identity)
        if placed and placed.image:  # numbers come again where a lost ledger was rebuilt
            self._hands.drop(scan.id)
            parts.adopt(scan, placed)
        elif known := repeats.earlier(parts, identity):
            self._hands.drop(scan.id)
            repeats.deliver(parts, scan, *known)
        elif why := repeats.remainder(parts, scan):
            self._hands.drop(scan.id)
            parts.close_without_result(scan, "failed", why)
        elif self._gate.has_room(expected):
            self._compute(job, identity, others)

    def _compute(self, job: Job, identity: str, others: list[Job]) -> None:
        scan, parts = job.scan, self._parts
        job.folder = parts.outbox.choose(scan.path, identity, {other.folder for other in others})
        out = parts.outbox.stage(scan.id)
        job.enter("computing")
        self._crew.send(
            "enhance",
            id=scan.id,
            path=scan.path,
            out=str(out),
            home=parts.source(scan, job.folder),
            stamp=parts.stamp(scan, identity),
            held=parts.if_held(scan),
        )
