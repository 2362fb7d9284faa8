"""The network process: a storage SCP into the inbox, and the queue of what is to be sent."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.dicom.sendqueue import Queue
from lohi_edge.dicom.tls import Tls
from lohi_edge.errors import LohiError
from lohi_edge.watch import process
from lohi_edge.watch.ground import Ground, Place
from lohi_edge.watch.process import Send

QUEUE_S = 1.0  # between two looks at the queue


def receive(settings: dict[str, Any], tls: Tls | None, send: Send) -> Receiver:
    """A receiver that listens."""
    listening = Listening(
        title=settings["title"],
        host=settings["host"],
        port=settings["port"],
        callers=tuple(settings["callers"]),
        peers=tuple(settings["allow"]),
        tls=tls,
        reserve=settings["reserve"],
    )
    inbox, known = Path(settings["inbox"]), settings["place"]
    ground = Ground(inbox, Place(*known) if known else None, lambda at: send("mounted", place=at))
    receiver = Receiver(inbox, listening, lambda line: send("said", line=line), ground)
    receiver.__enter__()
    send("listening", port=receiver.port, title=settings["title"], place=ground.place)
    return receiver


def keep_sending(settings: dict[str, Any], tls: Tls | None, send: Send) -> None:
    """Try every job that is due, again and again."""
    queue = Queue(Path(settings["queue"]), tls)
    while True:
        for done in queue.run(lambda job: send("sent", scan=int(job.partition("-")[0]))):
            send("not_sent", why=done)
        time.sleep(QUEUE_S)


def _leave_with_the_daemon() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    send = process.enter(oom_score=300)
    settings = json.loads(sys.stdin.readline())
    files = [settings[key] for key in ("tls_cert", "tls_key", "tls_ca")]
    tls = Tls(*map(Path, files)) if all(files) else None
    process.in_thread(_leave_with_the_daemon)
    try:
        kept = receive(settings, tls, send) if settings["port"] else None
        keep_sending(settings, tls, send)
        del kept
    except LohiError as error:
        send("refused", why=str(error))


if __name__ == "__main__":
    process.or_crash(main)
