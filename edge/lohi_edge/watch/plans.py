"""What is on its way out of the inbox, on disk in the outbox: beside the receipts, not the ledger.

Whoever loses the ledger rebuilds it from the outbox, and finds there which files in the inbox are
what is left of a delivered series.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from lohi_edge.errors import BadInput
from lohi_edge.files import read_bytes
from lohi_edge.watch.group import place_of
from lohi_edge.watch.outbox import PLANS, Outbox

DELETE = "delete"
_MAX = 64 << 20


@dataclass(frozen=True)
class Plan:
    """Files of one folder that leave together.

    Attributes:
        inbox: what `localfs.token` said of it.
        folder: in the inbox, relative to it.
        files: by name, their lasting marks and the folders they go to, or DELETE.
        outcomes: what becomes thereby of the originals of scans, by path: "moved" or "deleted".
    """

    inbox: str
    folder: str
    files: dict[str, tuple[str, str]]
    outcomes: dict[str, str]


def lasting(mark: str) -> str:
    """The part of a file's mark that no other mount or boot changes: without device and inode."""
    return ":".join(mark.split(":")[-3:])


def key_of(path: str) -> str:
    """What leaves together: a place with all series in it; directly in the inbox, each series."""
    place = place_of(path)
    return f"{place}/" if place else path


def place_in(key: str) -> str:
    """The folder or archive of a key; of a series in the inbox itself that is the inbox."""
    return key[:-1] if key.endswith("/") else ""


class Plans:
    """The plans under way, by key.

    Attributes:
        damaged: the file that held them could not be read, and was set aside.

    Raises:
        DiskError: it could not be set aside.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._plans: dict[str, Plan] = {}
        self.damaged = False
        path = outbox.root / PLANS
        if path.exists():
            try:
                saved = json.loads(read_bytes(path, _MAX))
                self._plans = {key: Plan(**plan) for key, plan in saved.items()}
            except (BadInput, ValueError, TypeError, AttributeError, RecursionError):
                self.damaged = True
                outbox.set_aside(PLANS)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._plans))

    def __contains__(self, key: str) -> bool:
        return key in self._plans

    def __getitem__(self, key: str) -> Plan:
        return self._plans[key]

    def add(self, key: str, plan: Plan) -> None:
        """On disk before it returns.

        Raises:
            DiskError: it is not a plan then.
        """
        self._save({**self._plans, key: plan})

    def remove(self, key: str) -> None:
        """All that it names has gone.

        Raises:
            DiskError: it is a plan still; doing it again changes nothing.
        """
        self._save({k: plan for k, plan in self._plans.items() if k != key})

    def hidden(self) -> dict[str, dict[str, str]]:
        """Lasting marks of all these files, by folder and name."""
        found: dict[str, dict[str, str]] = {}
        for plan in self._plans.values():
            marks = {name: mark for name, (mark, _) in plan.files.items()}
            found.setdefault(plan.folder, {}).update(marks)
        return found

    def _save(self, plans: dict[str, Plan]) -> None:
        if plans:
            text = json.dumps({key: asdict(plan) for key, plan in plans.items()})
            self._outbox.note(PLANS, text.encode())
        else:
            self._outbox.forget(PLANS)
        self._plans = plans
