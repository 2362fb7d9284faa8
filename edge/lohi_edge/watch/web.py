"""A small read-only HTTP server in a thread, for this machine unless told otherwise."""

from __future__ import annotations

import http.server
import ipaddress
import re
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from lohi_edge.errors import UsageError

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 64
_ADDRESS = re.compile(r"((?P<host>[^:\s/]+|\[[0-9a-fA-F:]+\]):)?(?P<port>\d{1,5})")
_SAFE = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Answer(NamedTuple):
    """An HTTP answer; `policy` is its Content-Security-Policy."""

    status: int
    kind: str
    body: bytes
    policy: str = "default-src 'none'; frame-ancestors 'none'"


NOT_FOUND = Answer(404, "text/plain", b"not found\n")


def address(text: str) -> tuple[str, int]:
    """(host, port) of "PORT", which is this machine's alone, or "HOST:PORT".

    Raises:
        UsageError: it is neither.
    """
    found = _ADDRESS.fullmatch(text)
    if not found or int(found["port"]) > 65535:
        raise UsageError(f"expected a port or HOST:PORT for the page, got {text!r}")
    return (found["host"] or LOOPBACK).strip("[]"), int(found["port"])


class Server:
    """Answers GET and HEAD, each in a thread of its own.

    Args:
        host, port: to listen on; port 0 is any free one.
        setting: that named the port, for the message.
        answer: from a path, without its query, to what is sent.

    Raises:
        UsageError: the address cannot be used.
    """

    def __init__(self, host: str, port: int, setting: str, answer: Callable[[str], Answer]) -> None:
        self._host = host
        self._answer = answer
        kind = _Six if ":" in host else _Bounded
        try:
            self._server = kind((host, port), self._handler())
        except OSError as error:
            raise UsageError(
                f"port {port} of {host} cannot be used: {(error.strerror or '').lower()}; "
                f"name another as {setting}"
            ) from None
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _is_ours(self, header: str) -> bool:
        """Whether a Host header names this server by address or by its own name.

        A page of another site may have its own name resolve to this machine (DNS rebinding); it
        cannot have that name be an address.
        """
        name = re.sub(r":\d+$", "", header).strip("[]").lower()
        if name in ("localhost", self._host.lower(), socket.gethostname().lower()):
            return True
        try:
            named = ipaddress.ip_address(name)
        except ValueError:
            return False
        return named.is_loopback or self._host != LOOPBACK

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 10
            protocol_version = "HTTP/1.1"
            server_version, sys_version = "lohi-edge", ""

            def do_GET(self) -> None:
                if server._is_ours(self.headers.get("Host") or ""):
                    answer = server._answer(self.path.partition("?")[0])
                else:
                    answer = Answer(403, "text/plain", b"ask for localhost\n")
                self.send_response(answer.status)
                headers = {
                    "Content-Type": answer.kind,
                    "Content-Length": str(len(answer.body)),
                    "Content-Security-Policy": answer.policy,
                }
                for name, value in {**headers, **_SAFE}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_HEAD = do_GET  # noqa: N815 (http.server's naming)

            def log_message(self, format: str, *args: Any) -> None:
                return  # a line per request would bury the events

        return Handler


class _Bounded(http.server.ThreadingHTTPServer):
    """Serves so many connections at a time: each takes a thread and a file of the daemon's."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was to be had
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a browser that left is no fault
            super().handle_error(request, client_address)


class _Six(_Bounded):
    address_family = socket.AF_INET6
