"""The door of a receiver: who may come in, how much they may say, and how long they may stand.

All of it is bounded below pynetdicom, which trusts its peers (pynetdicom issue 1086).
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from lohi_edge.errors import UsageError

MAX_PDU = 1 << 20  # offered are 256 KiB; a peer that ignores the offer is cut off here
MAX_INSTANCE = 256 << 20
FIRST_SECONDS = 10.0  # for the association request; a scanner sends it at once
PDU_SECONDS = 30.0
WAITING, WAITING_OF_ONE = 32, 8  # connections that have not asked for an association yet
_LOCAL_LIMIT = (0x02, 0x03, 0x02)  # rejected, transient: local limit exceeded (PS3.8 9.3.4)


class Door:
    """Admits connections and associations.

    A connection that has not asked for an association yet holds up nobody: where too many of them
    stand, altogether or of one address, the one that stands longest is closed.

    Args:
        peers: IP addresses or networks that may connect; empty is every one.
        associations: served at a time.
        log: told one line per event.

    Raises:
        UsageError: an address is malformed.
    """

    def __init__(
        self, peers: tuple[str, ...], associations: int, log: Callable[[str], Any]
    ) -> None:
        try:
            self._peers = [ipaddress.ip_network(peer) for peer in peers]
        except ValueError as error:
            raise UsageError(f"expected IP addresses or networks as peers: {error}") from None
        self._associations, self._log = associations, log
        self._lock = threading.Lock()
        self._waiting: dict[Any, tuple[str, Any]] = {}  # association -> (address, connection)
        self._served: list[Any] = []

    def opened(self, event: Any) -> None:
        """Somebody has connected: bound what they may make us read, before the first byte is."""
        connection = event.assoc.dul.socket
        address = ipaddress.ip_address(event.address[0])
        if self._peers and not any(address in peer for peer in self._peers):
            self._log("a connection from an address that is not allowed was closed")
            connection.recv = Bounded(connection, allowed=False)
            return
        connection.recv = Bounded(connection)
        with self._lock:
            self._waiting = {a: w for a, w in self._waiting.items() if w[1].socket is not None}
            self._waiting[event.assoc] = (str(address), connection)
            longest = self._longest(str(address))
        if longest is not None:
            self._log("a connection that asked for nothing was closed to make room")
            _close(longest)

    def requested(self, event: Any) -> None:
        """A connection asks for an association."""
        with self._lock:
            self._waiting.pop(event.assoc, None)
            self._served = [one for one in self._served if one.is_alive()]
            room = len(self._served) < self._associations
            if room:
                self._served.append(event.assoc)
        if room:
            event.assoc.dul.socket.recv.restart()
        else:
            self._log("an association was rejected: too many at a time")
            event.assoc.acse.send_reject(*_LOCAL_LIMIT)
            event.assoc.kill()  # as pynetdicom does; waits until it is said

    def _longest(self, address: str) -> Any:
        """Take out the connection that has to go, if one has to; that of `address` is new."""
        counts = Counter(one for one, _ in self._waiting.values())
        crowd = counts[address] > WAITING_OF_ONE
        if not crowd and len(self._waiting) <= WAITING:
            return None
        gone = next(a for a, (one, _) in self._waiting.items() if one == address or not crowd)
        return self._waiting.pop(gone)[1]


def _close(connection: Any) -> None:
    """End a connection that another thread reads from, which then finds it at its end."""
    try:
        # Of an SSL socket too: its own would wait for a word of the peer, or alter what is read.
        socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)
    except (OSError, AttributeError, TypeError):
        return  # it is closed already


class Bounded:
    """`AssociationSocket.recv` with bounds on size and time.

    Raises:
        OSError: a PDU or message is too large; pynetdicom then closes the connection.
        TimeoutError: a PDU takes too long.
    """

    def __init__(self, connection: Any, allowed: bool = True) -> None:
        self._connection, self._allowed = connection, allowed
        self._socket = connection.socket
        self._message = 0
        self._seconds = FIRST_SECONDS

    def restart(self) -> None:
        """A whole message has been received."""
        self._message, self._seconds = 0, PDU_SECONDS

    def __call__(self, size: int) -> bytearray:
        self._message += size
        if not self._allowed or size > MAX_PDU or self._message > MAX_INSTANCE:
            # pynetdicom takes it that the peer has closed the connection, and leaves it open.
            self._connection.socket = None
            self._socket.close()
            raise OSError("an address that is not allowed, or more bytes than a head scan needs")
        deadline = time.monotonic() + self._seconds
        data = bytearray()
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("a PDU takes too long")
            self._socket.settimeout(left)
            chunk = self._socket.recv(min(size - len(data), 1 << 16))
            if not chunk:
                break
            data += chunk
        self._socket.settimeout(self._seconds)
        return data
