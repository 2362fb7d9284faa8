"""Health and Prometheus metrics on the loopback interface, for those who ask for a port.

Answers come from the last snapshot that the work loop left; asking never reaches the ledger. A
`/healthz` that is 200 therefore also says that the loop still turns.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from typing import Any

from lohi_edge.errors import UsageError

HOST = "127.0.0.1"
STUCK_S = 90.0  # the loop leaves a snapshot at least every 30 s
_NAMES = ("127.0.0.1", "localhost")


class Health:
    """A small server in a thread of its own.

    Args:
        port: of 127.0.0.1; 0 for any free one.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._said: dict[str, Any] = {"phase": "starting"}
        self._at = time.monotonic()
        try:
            self._server = http.server.ThreadingHTTPServer((HOST, port), self._handler())
        except OSError as error:
            raise UsageError(
                f"port {port} of {HOST} cannot be used: {(error.strerror or '').lower()}; "
                "name another as http.port"
            ) from None
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def tell(self, snapshot: dict[str, Any]) -> None:
        """What to answer from now on."""
        self._said, self._at = snapshot, time.monotonic()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """(status, content type, content) for a path."""
        said = self._said
        if path == "/healthz":
            stuck = time.monotonic() - self._at > STUCK_S
            healthy = said["phase"] == "ready" and not said["paused"] and not stuck
            facts = {key: said.get(key) for key in ("phase", "paused", "queue")}
            body = json.dumps({"healthy": healthy, "stuck": stuck, **facts}).encode()
            return (200 if healthy else 503), "application/json", body
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4", metrics(said).encode()
        return 404, "text/plain", b"not found\n"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        health = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 10
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                # A page of another site may resolve its own name to 127.0.0.1; it is not answered.
                name = (self.headers.get("Host") or "").rpartition(":")[0]
                if name not in _NAMES:
                    status, kind, body = 403, "text/plain", b"ask for localhost\n"
                else:
                    status, kind, body = health.answer(self.path.partition("?")[0])
                self.send_response(status)
                for header, value in (
                    ("Content-Type", kind),
                    ("Content-Length", str(len(body))),
                    ("Cache-Control", "no-store"),
                    ("X-Content-Type-Options", "nosniff"),
                ):
                    self.send_header(header, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return  # a line per scrape would bury the events

        return Handler


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
