"""The local web page: queue, verdicts, reports and pictures for people without a terminal.

Read-only. What it shows comes from the ledger (read in a connection of its own) and from the files
of delivered results; a path is never taken from a request, only the number of a scan.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from importlib import resources
from pathlib import Path
from typing import Any

from lohi_edge.errors import LohiError
from lohi_edge.files import read_bytes
from lohi_edge.receipt import reasons
from lohi_edge.watch import web, withheld
from lohi_edge.watch.group import place_of
from lohi_edge.watch.health import STUCK_S
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.log import printable
from lohi_edge.watch.outbox import Outbox
from lohi_edge.watch.placed import Placed
from lohi_edge.watch.schema import Scan
from lohi_edge.watch.web import NOT_FOUND, Answer, Server

MAX_FILE = 64 << 20
_SHOWN = 50  # rows of each kind
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report brings its own styles, script and pictures, and gets nothing else.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)
_SITE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_FILE = re.compile(r"/(?P<what>report|picture)/(?P<scan>\d{1,12})(\.png)?")
_SUFFIX = {"report": "_report.html", "picture": "_report.png"}
_KIND = {"report": "text/html; charset=utf-8", "picture": "image/png"}
_LATEST = "id = (SELECT max(s.id) FROM scans s WHERE s.path = scans.path)"
_WORDS = {
    "received": "waits", "running": "is being enhanced", "held": "Held back", "failed": "Failed",
    "quarantined": "Set aside", "pass": "Pass", "warn": "Warning", "hold": "Held back",
}  # fmt: skip
_TODO = {
    "held": "There is no result: use the scan itself, which is untouched. If the scan is as bad as "
    "this says, acquire it again.",
    "failed": "Put right what this says and copy the scan into the inbox again. If you cannot, "
    "tell whoever looks after this device, and name the scan's number.",
    "quarantined": "The software failed on this scan again and again. Tell whoever looks after "
    "this device, and name the scan's number. The scan itself is untouched.",
    "gone": "Copy the scan into the inbox again. If nobody wants it any more, tell whoever looks "
    "after this device, and name the scan's number.",
    "warn": "Compare the result with the scan itself before you use it.",
}
_SCANS = "scans are .nii, .nii.gz, DICOM, and zip archives of DICOM"
_GONE = "it was taken out of the inbox before its turn"
_PHASES = {
    "starting": "The software is starting: it loads and checks the model.",
    "ready": "The software is ready.",
}


class Page:
    """The page's server.

    Args:
        state: the daemon's state folder.
        outbox: of the delivered results.
        address: "PORT" or "HOST:PORT".

    Raises:
        UsageError: the address cannot be used.
    """

    def __init__(self, state: Path, outbox: Outbox, address: str) -> None:
        self._state, self._outbox = state, outbox
        self._said: dict[str, Any] = {"phase": "starting", "paused": None, "jobs": []}
        self._at = time.monotonic()
        host, port = web.address(address)
        self._server = Server(host, port, "http.page", self.answer)
        self.port = self._server.port

    def tell(self, snapshot: dict[str, Any]) -> None:
        """How the daemon is."""
        self._said, self._at = snapshot, time.monotonic()

    def stop(self) -> None:
        self._server.stop()

    def answer(self, path: str) -> Answer:
        """The answer to a path."""
        if site := _SITE.get(path):
            name, kind = site
            body = resources.files("lohi_edge.watch").joinpath("site").joinpath(name).read_bytes()
            return Answer(200, kind, body, _POLICY)
        try:
            if path == "/scans.json":
                return Answer(200, "application/json", json.dumps(self._scans()).encode())
            if found := _FILE.fullmatch(path):
                return self._file(found["what"], int(found["scan"]))
        except LohiError:
            return NOT_FOUND  # no such scan, or its files are gone
        except sqlite3.Error:
            return Answer(503, "text/plain", b"the ledger cannot be read now\n")
        return NOT_FOUND

    def _file(self, what: str, number: int) -> Answer:
        ledger = Ledger(self._state, read_only=True)
        try:
            placed = self._placed(ledger, ledger.get(number))
        finally:
            ledger.close()
        path = _beside(placed, what) if placed else None
        if path is None:
            return NOT_FOUND
        policy = _REPORT_POLICY if what == "report" else "default-src 'none'"
        return Answer(200, _KIND[what], read_bytes(path, MAX_FILE), policy)

    def _placed(self, ledger: Ledger, scan: Scan) -> Placed | None:
        """The result of a scan, or of the one it repeats; where it was held, its receipt alone."""
        if scan.state == withheld.HELD:
            return withheld.find(self._outbox, scan.path, scan.id, scan.identity)
        first = ledger.get(scan.first) if scan.first else scan
        if first.result is None or first.identity is None:
            return None
        return self._outbox.find(first.result, first.identity)

    def _scans(self) -> dict[str, Any]:
        jobs = {job["scan"]: job for job in self._said["jobs"]}
        ledger = Ledger(self._state, read_only=True)
        try:
            counts = ledger.counts()
            kinds = {
                "trouble": (
                    f"state IN ('held', 'failed', 'quarantined') AND {_LATEST}",
                    "finished_at DESC",
                ),
                "queue": ("state IN ('running', 'received')", "state = 'received', turn, id"),
                "done": ("state = 'done'", "finished_at DESC, id DESC"),
            }
            rows = {
                kind: [
                    self._row(ledger, scan, jobs.get(scan.id))
                    for scan in ledger.select(where, order=f"{order} LIMIT {_SHOWN}")
                ]
                for kind, (where, order) in kinds.items()
            }
        finally:
            ledger.close()
        stuck = time.monotonic() - self._at > STUCK_S
        rows["queue"] += [
            {
                "scan": None,
                "name": name,
                "state": "arriving",
                "word": "still arrives",
                "reason": why,
            }
            for name, why in (self._said.get("waiting") or {}).items()
        ]
        state, well = _sentence(self._said, counts, stuck)
        return {"state": state, "well": well, **rows}

    def _row(self, ledger: Ledger, scan: Scan, job: dict[str, Any] | None) -> dict[str, Any]:
        done = scan.state == "done"
        placed = self._placed(ledger, scan) if done or scan.state == withheld.HELD else None
        reason = scan.reason or (placed and "; ".join(reasons(placed.record))) or None
        gone = scan.state == "received" and not self._in_inbox(scan)
        todo = "gone" if gone else "warn" if done and scan.verdict == "warn" else scan.state
        return {
            "scan": scan.id,
            "name": printable(scan.path),
            "state": scan.state,
            "verdict": scan.verdict,
            "word": _WORDS.get(scan.verdict or scan.state, scan.state),
            "at": scan.finished_wall or scan.received_wall,
            "reason": _GONE if gone else reason and printable(reason),
            "todo": _TODO.get(todo),
            "same": printable(ledger.get(scan.first).path) if scan.first else None,
            "first": scan.first,
            "folder": printable(placed.folder) if placed else None,
            "slices": job and job["slices"],
            **{what: bool(placed and _beside(placed, what)) for what in _SUFFIX},
        }

    def _in_inbox(self, scan: Scan) -> bool:
        """Whether a scan that waits, or the folder or archive of a series, is still there."""
        folders = self._said.get("folders")
        place = place_of(scan.path)
        path = scan.path if place is None else place
        return not folders or os.path.lexists(os.path.join(folders["inbox"], path))  # noqa: PTH118


def _beside(placed: Placed, what: str) -> Path | None:
    """The report or picture that was delivered with a receipt."""
    path = placed.receipt.with_name(placed.receipt.stem + _SUFFIX[what])
    return path if path.is_file() else None


def _sentence(said: dict[str, Any], counts: dict[str, int], stuck: bool) -> tuple[str, bool]:
    """How the daemon is, for people, and whether nobody need be told."""
    dicom = said.get("dicom") or {}
    wrong = [f"Inbox: {why}." for why in [said.get("inbox_trouble")] if why]
    wrong += [f"DICOM: {why}." for why in [dicom.get("trouble")] if why]
    if stuck:
        wrong.insert(0, "The software does not react.")
    elif said["paused"]:
        wrong.insert(0, f"The software waits: {said['paused']}.")
    how = _PHASES.get(said["phase"], "The software is stopping.")
    if wrong:
        how = f"{' '.join(wrong)} Tell whoever looks after this device."
    waiting = counts["received"] + counts["running"]
    arriving = said.get("waiting_count", 0)
    how += f" {waiting} in the queue, {arriving} still arriving, {counts['done']} done."
    skipped = sorted(set((said.get("skipped") or {}).values()))
    if skipped:
        how += f" {said['skipped_count']} DICOM series skipped: {'; '.join(skipped)}."
    if others := said.get("others_count"):
        how += f" Other files in the inbox: {others}. They are ignored: {_SCANS}."
    if why := dicom.get("unsent_why"):
        how += f" {dicom['unsent']} not sent yet: {'; '.join(why)}."
    return how, not wrong
