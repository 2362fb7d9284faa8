"""Why another DICOM node gives no association or stores nothing, for who can put it right.

pynetdicom keeps to itself what the network said, so a node that took no connection is tried again.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

from lohi_edge.dicom.tls import Tls

if TYPE_CHECKING:
    from lohi_edge.dicom.send import Node

PROBE_SECONDS = 10.0
_CALLING, _CALLED = (1, 3), (1, 7)  # source and diagnostic of a rejection (PS3.8 9.3.4)
_BUSY = ((3, 1), (3, 2))
# Of C-STORE (PS3.4 B.2.3), and those of every service (PS3.7 C.5); the first hex digits decide.
_REFUSALS = {
    "A7": "it is out of resources: check its disk",
    "A9": "it says that the instance does not fit its class",
    "C": "it cannot understand the instance",
    "0122": "it does not store this kind of instance",
    "0124": "it may not take this from our title",
    "0111": "it has one of this UID already, maybe another image",
    "0110": "it failed to process it",
}


def why(association: Any, connected: bool, node: Node, tls: Tls | None) -> str:
    """What is wrong with an association that was not established, and what to do about it.

    Args:
        connected: a connection was made, TLS included.
    """
    if association.is_rejected:
        return f"refuses the association: {_rejection(association.acceptor.primitive, node)}"
    if not connected:
        return _no_connection(node, tls)
    if getattr(association.acceptor.primitive, "result", None) == 0:
        return (
            "takes no instances of this kind or transfer syntax; check what it is set up to store"
        )
    cause = "it may not accept our certificate" if tls else "it may expect TLS"
    return (
        f"takes the connection but does not answer as a DICOM node: {cause}, not know the address "
        "of this machine, or be another service; check its port and its list of known nodes"
    )


def refusal(status: int) -> str:
    """What the status of a refusal means, to stand behind it."""
    digits = f"{status:04X}"
    found = [words for first, words in _REFUSALS.items() if digits.startswith(first)]
    return f"; {found[0]}, or see its log" if found else "; see its log"


def _rejection(answer: Any, node: Node) -> str:
    reason = (answer.result_source, answer.diagnostic)
    if reason == _CALLING:
        return f"it does not know our title {node.caller}; add it to its list of known nodes"
    if reason == _CALLED:
        return f"it is not called {node.title}; check its title"
    if reason in _BUSY:
        return "it is busy; try again later"
    return f"{answer.reason_str.lower()}; check title and its list of known nodes"


def _no_connection(node: Node, tls: Tls | None) -> str:
    try:
        with socket.create_connection((node.host, node.port), PROBE_SECONDS) as plain:
            trouble = _no_handshake(plain, node, tls) if tls else None
    except ConnectionRefusedError:
        return "does not answer: connection refused; check the port, and that its service runs"
    except TimeoutError:
        return "does not answer: timed out; check the address, the cable and firewalls between"
    except OSError as error:
        return f"does not answer: {_words(error)}; check the address and this machine's network"
    return trouble or "did not answer at first, but takes connections now; try again"


def _no_handshake(plain: socket.socket, node: Node, tls: Tls) -> str | None:
    try:
        tls.context(server=False).wrap_socket(plain, server_hostname=node.host).close()
    except ssl.SSLCertVerificationError as error:
        return (
            f"its TLS certificate is not accepted: {error.verify_message.rstrip('.')}; check "
            "--tls-ca (dicom.tls_ca), and that the certificate names this host"
        )
    except OSError as error:
        return f"TLS fails: {_words(error)}; check that this port speaks TLS"
    return None


def _words(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or str(error)).lower().replace("_", " ")
