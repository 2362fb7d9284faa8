"""A storage SCP that runs while a test does, and derived series."""

from __future__ import annotations

import pytest

from dicom_series import RECORD, save, slices
from lohi_edge import dicom
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.dicom.send import Node


@pytest.fixture
def receiver(tmp_path):
    """Factory: a running receiver, `receiver(**listening)`; yields (receiver, node, inbox, log)."""
    running = []

    def start(ground=None, **values):
        log = []
        values = {"port": 0, "callers": ("SCANNER",), "reserve": 0} | values
        listening = Listening(**values)
        found = Receiver(tmp_path / "inbox", listening, log.append, ground).__enter__()
        running.append(found)
        node = Node("LOHI_EDGE", "127.0.0.1", found.port, caller="SCANNER")
        return found, node, tmp_path / "inbox", log

    yield start
    for found in running:
        found.__exit__(None, None, None)


@pytest.fixture
def derived(tmp_path):
    """Factory: a derived series of given instances, as (folder, volume, what was written)."""

    def make(source=None, out="out", grid="native", mark=False, **changes):
        volume = dicom.read(save(tmp_path / f"in-{out}", slices() if source is None else source))
        volume = volume if grid == "native" else volume.isotropic(1.0)
        folder = tmp_path / out
        written = dicom.write(folder, volume, {**RECORD, **changes}, grid, mark=mark)
        return folder, volume, written

    return make
