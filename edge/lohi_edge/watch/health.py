"""Health and Prometheus metrics on the loopback interface, for those who ask for a port.

Answers come from the last snapshot that the work loop left; asking never reaches the ledger. A
`/healthz` that is 200 therefore also says that the loop still turns.
"""

from __future__ import annotations

import json
import time
from typing import Any

from lohi_edge.watch.web import LOOPBACK, NOT_FOUND, Answer, Server

STUCK_S = 90.0  # the loop leaves a snapshot at least every 30 s


class Health:
    """Answers `/healthz` and `/metrics`.

    Args:
        port: of 127.0.0.1; 0 for any free one.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._said: dict[str, Any] = {"phase": "starting"}
        self._at = time.monotonic()
        self._server = Server(LOOPBACK, port, "http.port", self.answer)
        self.port = self._server.port

    def tell(self, snapshot: dict[str, Any]) -> None:
        """What to answer from now on."""
        self._said, self._at = snapshot, time.monotonic()

    def stop(self) -> None:
        self._server.stop()

    def answer(self, path: str) -> Answer:
        """The answer to a path."""
        said = self._said
        if path == "/healthz":
            stuck = time.monotonic() - self._at > STUCK_S
            healthy = said["phase"] == "ready" and not said["paused"] and not stuck
            facts = {key: said.get(key) for key in ("phase", "paused", "queue")}
            body = json.dumps({"healthy": healthy, "stuck": stuck, **facts}).encode()
            return Answer(200 if healthy else 503, "application/json", body)
        if path == "/metrics":
            return Answer(200, "text/plain; version=0.0.4", metrics(said).encode())
        return NOT_FOUND


def metrics(said: dict[str, Any]) -> str:
    """Prometheus' text format, version 0.0.4."""
    totals = said.get("totals") or {}
    lines: list[str] = []

    def add(name: str, kind: str, help: str, *samples: tuple[str, Any]) -> None:
        full = f"lohi_edge_{name}"
        lines.append(f"# HELP {full} {help}")
        lines.append(f"# TYPE {full} {kind}")
        lines.extend(f"{full}{labels} {value}" for labels, value in samples if value is not None)

    ready = said["phase"] == "ready"
    add("ready", "gauge", "1 once the model is accepted.", ("", int(ready)))
    add("paused", "gauge", "1 while no work is taken.", ("", int(bool(said.get("paused")))))
    states = tuple((f'{{state="{s}"}}', n) for s, n in (said.get("queue") or {}).items())
    add("scans", "gauge", "Scans in the ledger by state.", *states)
    add("waiting_files", "gauge", "Files not complete yet.", ("", said.get("waiting_count")))
    add("delivered_total", "counter", "Results since the start.", ("", totals.get("delivered")))
    add("seconds_total", "counter", "Seconds spent on them.", ("", totals.get("seconds")))
    add("worker_lost_total", "counter", "Crashes and hangs.", ("", totals.get("lost")))
    time = said.get("latency") or {}
    add("latency_budget_seconds", "gauge", "Of 95 in 100 scans.", ("", time.get("budget_p95_s")))
    add("latency_p95_seconds", "gauge", "Of the last scans.", ("", time.get("p95_s")))
    add("latency_over_budget_total", "counter", "Slower scans.", ("", time.get("over_budget")))
    add("latency_breached", "gauge", "1: p95 over budget.", ("", int(bool(time.get("breached")))))
    add("outbox_free_bytes", "gauge", "Free space of the outbox.", ("", said.get("outbox_free")))
    heat = tuple((f'{{zone="{zone}"}}', t) for zone, t in (said.get("heat") or {}).items())
    add("temperature_celsius", "gauge", "Of the device.", *heat)
    return "\n".join(lines) + "\n"
