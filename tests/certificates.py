"""Certificates for the two ends of a connection."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lohi_edge.dicom.tls import Tls


def certificate(folder: Path, name: str) -> Tls:
    """A self-signed certificate, its own authority."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    command += [
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return Tls(cert, key, cert)
