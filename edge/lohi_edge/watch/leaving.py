"""Series leave the inbox: a folder's together, once all of them are closed.

Files move one by one, so which are to go is on disk before the first of them does: whatever
happens in between, what is left of a series is never taken for a series.
"""

from __future__ import annotations

import json
import os
import time
import urllib.parse
from pathlib import Path

from lohi_edge.errors import DiskError
from lohi_edge.settings import Settings
from lohi_edge.watch import faults
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.listing import Listing, mark_of
from lohi_edge.watch.names import clean_name, moved
from lohi_edge.watch.outbox import Outbox
from lohi_edge.watch.schema import FINAL, Scan
from lohi_edge.watch.series import Group, Unfinished, place_of

_FACT = "leaving"
DELETE = "delete"
GO_S = 5.0  # at a time; the daemon has other things to do
_Plan = dict[str, list[str]]  # name of a file -> its mark, and the folder it goes to or DELETE


class Leaving:
    """Lets originals of series go.

    Args:
        root: the inbox.
        listing: of it; does not see what is leaving.

    Attributes:
        more: time ran out before all of something had gone.
    """

    def __init__(self, root: Path, listing: Listing, outbox: Outbox, ledger: Ledger) -> None:
        self._root, self._listing = root, listing
        self._outbox, self._ledger = outbox, ledger
        saved: dict[str, _Plan] = json.loads(ledger.fact(_FACT) or "{}")
        self._plans = {_unquoted(key): plan for key, plan in saved.items()}
        self.more = False
        self._hide()

    def settle(self, scan: Scan, settings: Settings) -> bool:
        """Let a closed series go, with all that lies beside it.

        Returns:
            Whether all of it went; False where another series there is not closed yet, or where it
            takes longer (`more`).

        Raises:
            DiskError: some of it could not go; the rest is tried again.
        """
        place = place_of(scan.path)
        assert place is not None
        # What lies directly in the inbox need not belong together.
        key = f"{place}/" if place else scan.path
        if key in self._plans and not self._go(key):
            return False
        try:
            groups = self._listing.groups(place)
        except FileNotFoundError:
            groups = []  # it went, and the ledger only missed it
        except (OSError, Unfinished):
            return False
        groups = groups if place else [g for g in groups if g.path == scan.path]
        if not all(group.skipped or self._closed(group) for group in groups):
            return False
        if groups and not groups[0].marks:
            self._whole(place, groups, settings)
            return True
        self._decide(key, place, groups, settings)
        return self._go(key)

    def going(self, scan: Scan) -> bool:
        """Whether files beside a scan are on their way out."""
        place = place_of(scan.path)
        return place is not None and (f"{place}/" if place else scan.path) in self._plans

    def siblings(self, scan: Scan) -> list[Scan]:
        """The series of the same place whose originals are yet to go, this one among them."""
        place = place_of(scan.path)
        if not place:
            return [scan]
        pending = self._ledger.select("original = 'pending'")
        return [one for one in pending if place_of(one.path) == place]

    def _closed(self, group: Group) -> bool:
        row = self._ledger.latest(group.path)
        return row is not None and row.mark == group.mark and row.state in FINAL

    def _whole(self, place: str, groups: list[Group], settings: Settings) -> None:
        """An archive goes as one file; deleted only if all that is in it became a result."""
        archive = self._root / place
        done = all(not g.skipped and self._state(g) == "done" for g in groups)
        if settings.watch.originals == "delete" and done:
            self._outbox.destroy(archive)
        else:
            self._outbox.take(archive, moved(self._outbox.root, place, "originals"))

    def _state(self, group: Group) -> str | None:
        row = self._ledger.latest(group.path)
        return row.state if row else None

    def _decide(self, key: str, place: str, groups: list[Group], settings: Settings) -> None:
        plan: _Plan = {}
        for group in groups:
            state = self._state(group)
            if group.skipped or state is None:
                # What is no scan goes with the others; without a result nothing is deleted.
                kind = "originals"
                target = str(moved(self._outbox.root, place, kind)) if place else ""
            elif state == "done" and settings.watch.originals == "delete":
                target = DELETE
            else:
                kind = "originals" if state == "done" else state
                target = str(moved(self._outbox.root, group.path, kind))
            plan |= {name: [mark, target] for name, mark in group.marks.items() if target}
        self._plans[key] = plan
        self._save()

    def _go(self, key: str) -> bool:
        plan, place = self._plans[key], _folder(key)
        folder = self._root / place
        until = time.monotonic() + GO_S
        trouble: DiskError | None = None
        for name in list(plan):
            self.more = time.monotonic() > until
            if self.more:
                return False
            mark, target = plan[name]
            try:
                # Another file under the name is a scan yet to come.
                if self._mark(folder / name) == mark:
                    self._let_go(folder / name, target)
                del plan[name]
            except DiskError as error:
                trouble = error
            faults.reach("after_slice_left", place)
        if trouble:
            raise trouble
        del self._plans[key]
        self._save()
        if place:
            _remove_empty(folder)
        return True

    def _let_go(self, original: Path, target: str) -> None:
        if target == DELETE:
            self._outbox.destroy(original)
        else:
            self._outbox.take(original, Path(target) / clean_name(original.name))

    def _mark(self, path: Path) -> str | None:
        try:
            return mark_of(path.lstat(), self._listing.stable)
        except OSError:
            return None

    def _save(self) -> None:
        saved = {urllib.parse.quote_from_bytes(os.fsencode(k)): v for k, v in self._plans.items()}
        with self._ledger.transaction():
            self._ledger.set(_FACT, json.dumps(saved))
        self._hide()

    def _hide(self) -> None:
        hidden: dict[str, dict[str, str]] = {}
        for key, plan in self._plans.items():
            marks = {name: mark for name, (mark, _) in plan.items()}
            hidden.setdefault(_folder(key), {}).update(marks)
        self._listing.leaving = hidden


def _folder(key: str) -> str:
    """The folder of a plan: one's own with a slash behind it; else the inbox, of one series."""
    return key[:-1] if key.endswith("/") else ""


def _unquoted(key: str) -> str:
    return os.fsdecode(urllib.parse.unquote_to_bytes(key))


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # it holds something else, or is gone
