"""The server under pages and metrics: where it listens, and to how many."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from lohi_edge.errors import UsageError
from lohi_edge.watch import web


def test_more_connections_than_there_is_room_for_are_closed(monkeypatch):
    """Each takes a file of the daemon's, which ends where it can open no more."""
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 2)
    server = web.Server(web.LOOPBACK, 0, "http.page", lambda path: web.NOT_FOUND)
    place = (web.LOOPBACK, server.port)
    try:
        idle = [socket.create_connection(place, 5) for _ in range(2)]
        with socket.create_connection(place, 5) as third:
            assert third.recv(1) == b""
        for one in idle:
            one.close()
        deadline = time.monotonic() + 5
        while True:  # until their threads have noticed
            with socket.create_connection(place, 5) as fourth:
                fourth.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if fourth.recv(12) == b"HTTP/1.1 404":
                    break
            assert time.monotonic() < deadline
    finally:
        server.stop()


@pytest.mark.parametrize(("fault", "told"), [(None, False), (ValueError, True)])
def test_a_browser_that_leaves_in_the_middle_is_not_told_of_and_a_fault_is(fault, told, capfd):
    large = web.Answer(200, "text/plain", bytes(50_000_000))

    def answer(path):
        if fault:
            raise fault
        return large

    server = web.Server(web.LOOPBACK, 0, "http.page", answer)
    try:
        one = socket.create_connection((web.LOOPBACK, server.port), 5)
        one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.recv(1)
        one.close()  # with a reset, in the middle of the answer
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(10)
    finally:
        server.stop()
    assert ("Traceback" in capfd.readouterr().err) == told


@pytest.mark.parametrize(
    ("text", "meant"),
    [("8080", ("127.0.0.1", 8080)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:9", ("::1", 9))],
)
def test_a_port_alone_is_this_machines(text, meant):
    assert web.address(text) == meant


@pytest.mark.parametrize("text", ["", "http://x:1", "host:", "99999", "a:b:1"])
def test_other_addresses_are_refused(text):
    with pytest.raises(UsageError, match="HOST:PORT"):
        web.address(text)
