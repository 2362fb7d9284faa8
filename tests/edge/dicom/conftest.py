"""A storage SCP that runs while a test does."""

from __future__ import annotations

import pytest

from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.dicom.send import Node


@pytest.fixture
def receiver(tmp_path):
    """Factory: a running receiver, `receiver(**listening)`; yields (receiver, node, inbox, log)."""
    running = []

    def start(**values):
        log = []
        values = {"port": 0, "callers": ("SCANNER",), "reserve": 0} | values
        listening = Listening(**values)
        found = Receiver(tmp_path / "inbox", listening, log.append).__enter__()
        running.append(found)
        node = Node("LOHI_EDGE", "127.0.0.1", found.port, caller="SCANNER")
        return found, node, tmp_path / "inbox", log

    yield start
    for found in running:
        found.__exit__(None, None, None)
