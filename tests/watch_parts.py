"""The daemon's parts without a daemon, and finished scans without the work."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dicom_series import number
from helpers import small_head
from lohi_edge import receipt
from lohi_edge.settings import Settings, load
from lohi_edge.watch.audit import Audit
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.inbox import Inbox
from lohi_edge.watch.leaving import Leaving
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.listing import Found
from lohi_edge.watch.log import Log
from lohi_edge.watch.outbox import Outbox
from lohi_edge.watch.outgoing import Outgoing


@contextmanager
def opened(tmp_path, inbox="in", outbox="out"):
    """Ledger, outbox and the rest, without a daemon."""
    for name in (inbox, outbox, "state"):
        (tmp_path / name).mkdir()
    ledger = Ledger(tmp_path / "state")
    placed = Outbox(tmp_path / outbox)
    placed.clear()
    made = Closing(
        tmp_path / inbox,
        Inbox(tmp_path / inbox, ledger.mark),
        placed,
        ledger,
        Audit(tmp_path / "state"),
        Log(stream=open(os.devnull, "w")),  # noqa: SIM115, PTH123
        Settings(),
        Outgoing(tmp_path / "state", Settings()),
    )
    yield made
    made.audit.close()
    ledger.close()
    made.log._stream.close()


def receipt_of(parts, scan, **values):
    """The receipt of a scan that passed, without the work; `values` are for its fields."""
    return {
        "schema": receipt.SCHEMA,
        "source": {"sha256": "5ha", "path": scan.path, "affine": []},
        "bundle": {"sha256": "b0nd1e"},
        "onnx": {"file": "model.onnx", "sha256": "0nn7"},
        "contrast": {"name": "T1w"},
        "runtime": {"name": "onnxruntime"},
        "precision": "fp32",
        "metrics": {},
        "timings": {},
        "verdict": "pass",
        "reasons": [],
        "watch": parts.stamp(scan, scan.identity),
        **values,
    }


def deliver(parts, path, identity, size=1000, format="nifti", seconds=1.0, mark=None):
    """A finished scan without the work: an image of `size` bytes and its receipt."""
    (number,) = parts.ledger.receive([Found(path, mark or "m:" + path, 3)])
    parts.ledger.begin(number)
    parts.ledger.identify(number, identity, "5ha", "T1w")
    scan = parts.ledger.get(number)
    folder = parts.outbox.choose(path, identity)
    staged = parts.outbox.stage(number)
    result = {"path": "image.nii.gz", "format": format, "grid": "1mm", "sha256": "1ma9e"}
    record = receipt_of(parts, scan, result=result, timings={"total": seconds})
    (staged / "image.nii.gz").write_bytes(bytes(size))
    (staged / "image.json").write_text(json.dumps({"LohiEdge": record}))
    parts.deliver(scan, folder, {"verdict": "pass", "seconds": seconds, "bytes": size})
    return parts.outbox.root / folder


def save_scan(path: Path, seed: int = 0) -> Path:
    """Save a scan under a name no look of the daemon takes, then rename it in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".nii.gz" if path.name.endswith(".gz") else ".nii"
    hidden = path.parent / f".making-{seed}{suffix}"
    nib.save(nib.Nifti1Image(small_head(seed), np.diag([2.0, 2, 2, 1])), hidden)
    hidden.rename(path)
    return path


def without_root() -> list[str]:
    """A command prefix under which permissions hold even for root."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("running as root without setpriv: no permission can be missing")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


class Leaves:
    """For tests of series that leave the inbox: originals are moved."""

    @pytest.fixture
    def closing(self, parts):
        parts.settings = load(environ={}, overrides={"watch": {"originals": "move"}})
        parts.inbox.incomplete_s = 0.0
        return parts

    def receive(self, parts):
        parts.inbox.look(0)
        ready = parts.inbox.look(10).ready
        return {number(f.path): parts.ledger.receive([f])[0] for f in ready}

    def close(self, parts, scan, state="done"):
        parts.ledger.begin(scan)
        parts.ledger.finish(scan, state, original="pending")
        parts.settle_original(parts.ledger.get(scan))

    def again(self, closing):
        """The process dies; another one goes on."""
        closing.leaving = Leaving(closing.root, closing.inbox, closing.outbox, closing.ledger)
