"""What an operator asks of the queue: retry, drop, resend; done by whoever owns the ledger.

The ledger has one writer. While a daemon runs, a request is a file in STATE/control that it
answers with another; without one, the command takes the lock and does it itself.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path, PurePath
from typing import Any

from lohi_edge.errors import BadInput, DiskError, LohiError, UsageError
from lohi_edge.files import atomic_write, is_directory, is_file, make_directory, read_bytes
from lohi_edge.settings import Settings
from lohi_edge.watch import faults, localfs, originals, withheld
from lohi_edge.watch.audit import Audit
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.group import place_of
from lohi_edge.watch.inbox import Inbox
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.log import Log, printable
from lohi_edge.watch.names import moved
from lohi_edge.watch.outbox import ELSEWHERE, Outbox
from lohi_edge.watch.outgoing import Outgoing
from lohi_edge.watch.schema import FINAL, Scan
from lohi_edge.watch.sidecars import sidecar_of

FOLDER = "control"
ANSWER_S = 15.0
_MAX = 4 << 20  # bytes of a request or an answer, which names every job that is sent again


def ask(state: Path, do: str, scan: int | None = None) -> dict[str, Any]:
    """Have `retry` or `drop` done to a scan, or `resend` to all results that are to be sent.

    Returns:
        What was done: `did`, in words; the number of a scan in the queue as `scan`; what is sent
        again as `Outgoing.retry` tells it.

    Raises:
        UsageError: there is no such scan, it is in no fit state, the daemon does not answer, or the
            state folder is another user's.
    """
    localfs.require_own(state)
    try:
        held = localfs.lock(state, "state folder", required=True)
    except UsageError:
        return _request(state, do, scan)
    assert held is not None
    try:
        parts = _parts(state)
        try:
            parts.outbox.clear()
            parts.leaving.resume()  # no daemon does it now
            return _do(parts, do, scan)
        finally:
            parts.outbox.close()
            parts.audit.close()
            parts.ledger.close()
    finally:
        os.close(held)


def obey(state: Path, parts: Closing) -> None:
    """Answer the requests that have come in since the last look."""
    folder = state / FOLDER
    try:
        requests = sorted(folder.glob("*.request"))
    except OSError:
        return  # nobody ever asked
    for path in requests:
        answer: dict[str, Any]
        try:
            asked = json.loads(read_bytes(path, _MAX))
            scan = asked["scan"]
            answer = _do(parts, str(asked["do"]), None if scan is None else int(scan))
        except LohiError as error:
            answer = {"error": str(error)}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            answer = {"error": "not a request"}
        reply = path.with_suffix(".answer")
        with atomic_write(reply) as file:
            file.write(json.dumps(answer).encode())
        try:
            path.unlink()
        except FileNotFoundError:  # whoever asked has given up
            reply.unlink(missing_ok=True)


def clear(state: Path) -> None:
    """Remove answers of an earlier daemon that nobody fetched, half-written ones too."""
    for left in (state / FOLDER).glob("*.answer*"):
        left.unlink(missing_ok=True)


def _request(state: Path, do: str, scan: int | None) -> dict[str, Any]:
    folder = state / FOLDER
    make_directory(folder)
    request = folder / f"{uuid.uuid4().hex}.request"
    with atomic_write(request) as file:
        file.write(json.dumps({"do": do, "scan": scan}).encode())
    answer = request.with_suffix(".answer")
    deadline = time.monotonic() + ANSWER_S
    while not answer.is_file():
        if time.monotonic() > deadline and _withdrawn(request):
            raise UsageError(
                f"{state}: the daemon did not answer within {ANSWER_S:g} s; see `lohi-edge status`"
            )
        time.sleep(0.1)
    said: dict[str, Any] = json.loads(read_bytes(answer, _MAX))
    answer.unlink()
    if "error" in said:
        raise UsageError(said["error"])
    return said


def _withdrawn(request: Path) -> bool:
    """Whether a request could be taken back; False once it is answered."""
    try:
        request.unlink()
    except FileNotFoundError:
        return False
    return True


def _parts(state: Path) -> Closing:
    ledger = Ledger(state)
    folders = ledger.fact("folders")
    if folders is None:
        raise UsageError(f"{state}: no daemon has worked here yet")
    root, out = map(Path, folders.split("\n"))
    stable = not localfs.is_network(localfs.kind(root))
    inbox = Inbox(root, ledger.mark, stable)
    settings = Settings()
    outgoing = Outgoing(state, settings)
    return Closing(root, inbox, Outbox(out), ledger, Audit(state), Log(), settings, outgoing)


def _do(parts: Closing, do: str, number: int | None) -> dict[str, Any]:
    if do == "resend":
        return _resend(parts, None)
    if number is None or do not in ("retry", "drop"):
        raise UsageError(f"expected retry or drop of a scan, or resend, got {do!r}")
    scan = parts.ledger.get(number)
    if do == "drop":
        return _drop(parts, scan)
    return _resend(parts, scan) if scan.state == "done" else _retry(parts, scan)


def _resend(parts: Closing, scan: Scan | None) -> dict[str, Any]:
    """Queue anew what was to be sent and was given up, and let nothing wait."""
    answer = parts.outgoing.retry(scan)
    if sends := answer["sends"]:
        parts.audit.append("sends.retried", count=len(sends), first=sends[0], last=sends[-1])
        parts.log("sends.retried", count=len(sends), first=sends[0], last=sends[-1])
    if hurried := answer["hurried"]:
        parts.log("sends.hurried", count=len(hurried), first=hurried[0], last=hurried[-1])
    return answer


def _drop(parts: Closing, scan: Scan) -> dict[str, Any]:
    if scan.state != "received":
        raise UsageError(f"expected a scan that waits in the queue, scan {scan.id} is {scan.state}")
    parts.close_without_result(scan, "failed", "dropped from the queue by an operator")
    return {"did": f"scan {scan.id} dropped; its original is untouched", "scan": scan.id}


def _retry(parts: Closing, scan: Scan) -> dict[str, Any]:
    if scan.state not in FINAL:
        raise UsageError(
            f"expected a scan that was held, failed or quarantined, scan {scan.id} is {scan.state}"
        )
    if parts.leaving.going(scan):
        raise UsageError(f"the files of scan {scan.id} are on their way out; try again in a minute")
    path = scan.path
    # "pending": the daemon died after moving it and before the ledger knew.
    if scan.original in ("moved", "pending") and parts.inbox.mark(path) is None:
        path = _bring_back(parts, scan)
    mark = parts.inbox.mark(path)
    if mark is None:
        raise UsageError(f"expected {printable(path)} in the inbox, it is gone; put it there again")
    parts.outbox.take_back(scan.state, scan.path, scan.id)
    withheld.take_back(parts.outbox, scan.path, scan.id)
    parts.audit.append("scan.retried", scan=scan.id)
    parts.ledger.retry(scan.id, path, mark)
    parts.log("scan.retried", scan=scan.id)
    return {"did": f"scan {scan.id} is in the queue again", "scan": scan.id}


def _bring_back(parts: Closing, scan: Scan) -> str:
    """Move an original from the outbox into the inbox again; returns the scan's path from now on.

    Raises:
        UsageError: it is gone, or its place is taken.
        BadInput: the inbox cannot be written.
        DiskError: the outbox is away, or fails.
    """
    if not parts.outbox.is_there():
        raise DiskError(ELSEWHERE)  # not "gone", which has people put the scan in again
    ways, path = _ways_back(parts, scan)
    for source, target in ways:
        if os.path.lexists(target) or not os.path.lexists(source):
            raise UsageError(
                f"expected to move {printable(str(source))} back to the inbox, "
                "but it is gone or its place is taken"
            )
    try:
        for source, target in ways:
            target.parent.mkdir(parents=True, exist_ok=True)
            parts.outbox.take(source, target)
            faults.reach("after_brought_back", scan.path)
    except OSError as error:
        raise BadInput(f"{printable(str(target))}: {error.strerror}") from None
    place = place_of(path)
    if place and (parts.root / place).is_file():
        # The other series of an archive are back with it: they were not sent again.
        for one in parts.ledger.below(place):
            if one.original == "moved":
                parts.ledger.set_original(one.id, "pending")
    return path


def _ways_back(parts: Closing, scan: Scan) -> tuple[list[tuple[Path, Path]], str]:
    """What to move where, for an original to be in the inbox again, and its path there.

    Raises:
        UsageError: it is gone.
    """
    root, place = parts.root, place_of(scan.path)
    at = moved(parts.outbox.root, scan.path, scan.state)
    if place is None:
        if (found := originals.find(at, scan.mark)) is None:
            raise UsageError(
                f"expected {printable(scan.path)} below {at.parent}, where scan {scan.id} went; "
                "it is gone: put it into the inbox again"
            )
        at = found
        beside, original = sidecar_of(at), root / scan.path
        sidecar = [(beside, sidecar_of(original))] if is_file(beside) else []
        return [*sidecar, (at, original)], scan.path
    if not is_directory(at):  # an archive
        return [(moved(parts.outbox.root, place, "originals"), root / place)], scan.path
    # A folder by one rename, so that nobody ever sees half of it.
    if place and not os.path.lexists(root / place):
        return [(at, root / place)], scan.path
    return [(at, root / scan.path)], f"{scan.path}/{PurePath(scan.path).name}"
