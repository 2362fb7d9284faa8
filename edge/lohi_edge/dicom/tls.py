"""TLS of both ends of a DICOM connection."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import read_bytes

_MAX_PEM = 1 << 20


@dataclass(frozen=True)
class Tls:
    """Files of a mutual TLS connection: both ends show a certificate signed by `authority`."""

    certificate: Path
    key: Path
    authority: Path

    def context(self, server: bool) -> ssl.SSLContext:
        """An SSL context of either end.

        Raises:
            UsageError: a file cannot be read, and which; or one holds no certificate or key.
        """
        kind = _LateHandshake if server else ssl.SSLContext
        context = kind(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        try:
            for file in (self.authority, self.certificate, self.key):
                read_bytes(file, _MAX_PEM)  # says which and why, unlike what follows
            context.load_verify_locations(cafile=str(self.authority))
            context.load_cert_chain(self.certificate, self.key)
        except (BadInput, OSError) as error:
            raise UsageError(f"TLS files cannot be used: {error}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class _LateHandshake(ssl.SSLContext):
    """Shakes hands at the first read, in the connection's own thread and within its time.

    pynetdicom would do it in the thread that accepts connections, where one peer that says nothing
    keeps out all others.
    """

    def wrap_socket(self, sock: socket.socket, *args: Any, **more: Any) -> ssl.SSLSocket:
        return super().wrap_socket(sock, *args, **{**more, "do_handshake_on_connect": False})
