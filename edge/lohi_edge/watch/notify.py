"""Telling systemd how the daemon is (the protocol of sd_notify(3)); silent where nobody asks."""

from __future__ import annotations

import os
import socket


def notify(*lines: str) -> None:
    """Send e.g. "READY=1"; a no-op without NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(address)
            sender.sendall("\n".join(lines).encode())
        except OSError:
            return  # systemd restarts what no longer reports; nothing better can be done here


def watchdog_s() -> float | None:
    """Seconds within which systemd wants a sign of life; None when it wants none."""
    pid, usec = os.environ.get("WATCHDOG_PID"), os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6 or None
