"""Series leave the inbox: a folder's together, once all of them are closed.

Files move one by one, so which are to go is on disk before the first of them does: whatever
happens in between, what is left of a series is never taken for a series.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from lohi_edge.errors import DiskError
from lohi_edge.files import disk_error
from lohi_edge.settings import Settings
from lohi_edge.watch import faults, localfs
from lohi_edge.watch.ground import remembered
from lohi_edge.watch.group import Group, place_of
from lohi_edge.watch.inbox import Inbox
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.listing import mark_of
from lohi_edge.watch.names import clean_name, moved
from lohi_edge.watch.outbox import Outbox
from lohi_edge.watch.plans import DELETE, Plan, Plans, key_of, lasting, place_in
from lohi_edge.watch.schema import FINAL, Scan
from lohi_edge.watch.series import Unfinished

GO_S = 5.0  # at a time, for all that leaves; the daemon has other things to do


class Leaving:
    """Lets originals of series go.

    Args:
        root: the inbox.
        inbox: its looks; they do not see what is leaving.

    Attributes:
        plans: what is on its way out.
        ground: tells the inbox from what lies below its mount.
        more: time ran out before all of something had gone.
        due: when a series that failed is given up, in service seconds.

    Raises:
        DiskError: damaged plans cannot be set aside.
    """

    def __init__(self, root: Path, inbox: Inbox, outbox: Outbox, ledger: Ledger) -> None:
        self._root, self._inbox = root, inbox
        self._outbox, self._ledger = outbox, ledger
        self.plans = Plans(outbox)
        self.ground = remembered(root, ledger)
        self.more = False
        self.due = math.inf
        self._until = math.inf
        self._hide()

    def begin(self) -> None:
        """A step of the daemon begins: what leaves in it shares one allowance of time."""
        self._until = time.monotonic() + GO_S

    def settle(self, path: str, settings: Settings) -> None:
        """Let a closed series go, with all that lies beside it, and tell the ledger.

        It stays where another series there is not closed yet, or more may come of one that failed
        or is skipped. Where it takes longer (`more`), `resume` goes on.

        Args:
            path: of the series; or any in the same place, where all of them are skipped.

        Raises:
            DiskError: some of it could not go; the rest is tried again.
        """
        if time.monotonic() > self._until:
            self.more = True
            return
        key = key_of(path)
        if key not in self.plans:
            groups = self._groups(path)
            if groups is None or not all(self._is_over(one) for one in groups):
                return
            if not groups and not self.ground.token():
                return  # the inbox is not mounted: what is missing has not left
            plan = self._decided(key, groups, settings)
            if not groups:
                self._tell(key, plan)
            if not groups or not (plan.outcomes or all(one.skipped for one in groups)):
                return
            self.plans.add(key, plan)
            self._hide()
        self._go(key)

    def resume(self) -> None:
        """Go on with what did not go at once, or before a power cut.

        Raises:
            DiskError: some of it could not go; the rest is tried again.
        """
        self.more, self.due = False, math.inf
        trouble: DiskError | None = None
        for key in self.plans:
            try:
                self._go(key)
            except DiskError as error:
                trouble = error
        if trouble:
            raise trouble

    def going(self, scan: Scan) -> bool:
        """Whether files beside a scan are on their way out."""
        return key_of(scan.path) in self.plans

    def _groups(self, path: str) -> list[Group] | None:
        """What leaves together with a series; None where it cannot be told, or is none any more."""
        place = place_of(path)
        assert place is not None
        try:
            groups = self._inbox.listing.groups(place)
        except FileNotFoundError:
            return []  # it went, and the ledger only missed it
        except (OSError, Unfinished):
            return None
        if place:
            return groups
        # What lies directly in the inbox need not belong together, and stays where it is no scan.
        groups = [group for group in groups if group.path == path]
        return None if any(group.skipped for group in groups) else groups

    def _is_over(self, group: Group) -> bool:
        if group.skipped:
            return self._inbox.rests(group)
        row = self._ledger.latest(group.path)
        if row is None or row.mark != group.mark or row.state not in FINAL:
            return False
        if row.state != "failed" or row.finished_at is None:
            return True
        # What it lacks may come late, and must find it here.
        over = row.finished_at + self._inbox.incomplete_s
        if self._ledger.clock.now() >= over:
            return True
        self.due = min(self.due, over)
        return False

    def _state(self, group: Group) -> str | None:
        row = self._ledger.latest(group.path)
        return row.state if row else None

    def _decided(self, key: str, groups: list[Group], settings: Settings) -> Plan:
        deletes = settings.watch.originals == DELETE
        # Of those that are not there any more, it is what must have happened.
        outcomes = {
            one.path: "deleted" if deletes and one.state == "done" else "moved"
            for one in self._pending(key)
        }
        whole = self._whole(place_in(key), groups, deletes)
        files: dict[str, tuple[str, str]] = {}
        for group in groups:
            target = whole or self._target(place_in(key), group, deletes)
            files |= {name: (lasting(mark), target) for name, mark in group.marks.items()}
            if group.path in outcomes:
                outcomes[group.path] = "deleted" if target == DELETE else "moved"
        folder = place_in(key).rpartition("/")[0] if whole else place_in(key)
        return Plan(localfs.token(self._root), folder, files, outcomes)

    def _whole(self, place: str, groups: list[Group], deletes: bool) -> str | None:
        """Where an archive goes, as one file; deleted only if all in it became a result."""
        if not any(part.member is not None for group in groups for part in group.parts):
            return None
        if deletes and all(not g.skipped and self._state(g) == "done" for g in groups):
            return DELETE
        return str(moved(self._outbox.root, place, "originals").parent)

    def _target(self, place: str, group: Group, deletes: bool) -> str:
        """Where files of a folder go."""
        state = self._state(group)
        if group.skipped or state is None:
            # What is no scan goes with the others; without a result nothing is deleted.
            return str(moved(self._outbox.root, place, "originals"))
        if state == "done" and deletes:
            return DELETE
        kind = "originals" if state == "done" else state
        return str(moved(self._outbox.root, group.path, kind))

    def _go(self, key: str) -> None:
        plan = self.plans[key]
        if localfs.token(self._root) != plan.inbox:
            return  # the inbox is not mounted: what is missing has not left
        folder = self._root / plan.folder
        trouble: DiskError | None = None
        for name, (mark, target) in plan.files.items():
            if time.monotonic() > self._until:
                self.more = True
                return
            try:
                # Another file under the name is a scan yet to come.
                if self._mark(folder / name) == mark:
                    self._let_go(folder / name, target)
            except DiskError as error:
                trouble = error
            faults.reach("after_slice_left", plan.folder)
        if trouble:
            raise trouble
        faults.reach("after_original", plan.folder)
        self._tell(key, plan)
        faults.reach("after_closed", plan.folder)
        self.plans.remove(key)
        self._hide()
        if plan.folder and plan.folder == place_in(key):
            _remove_empty(folder)

    def _let_go(self, original: Path, target: str) -> None:
        if target == DELETE:
            self._outbox.destroy(original)
        else:
            self._outbox.take(original, Path(target) / clean_name(original.name))

    def _tell(self, key: str, plan: Plan) -> None:
        """The ledger learns what became of the originals."""
        for one in self._pending(key):
            if outcome := plan.outcomes.get(one.path):
                latest = self._ledger.latest(one.path)
                replaced = latest is not None and latest.id != one.id
                self._ledger.set_original(one.id, "kept" if replaced else outcome)

    def _pending(self, key: str) -> list[Scan]:
        """The scans that leave under a key and are yet to go."""
        place = place_in(key)
        found = (
            self._ledger.below(place)
            if place
            else self._ledger.select("path = ?", os.fsencode(key))
        )
        return [one for one in found if one.original == "pending" and key_of(one.path) == key]

    def _mark(self, path: Path) -> str | None:
        try:
            return mark_of(path.lstat(), stable=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_error(path, error) from None

    def _hide(self) -> None:
        self._inbox.listing.leaving = self.plans.hidden()


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # it holds something else, or is gone
