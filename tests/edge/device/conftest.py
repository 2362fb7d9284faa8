"""Bundles that differ in serial, a device to install them on, and a machine for its doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lohi_edge import signing
from lohi_edge.device import doctor, update
from lohi_edge.device.library import Library
from lohi_edge.settings import Disk, Enhance, Settings, Watch
from machine import mount


@pytest.fixture
def make_serial(tmp_path, identity_bundle):
    """A copy of the identity bundle: `make_serial(2, name="other", contrasts=["T2w"])`."""

    def make(serial: int, **changed) -> Path:
        path = tmp_path / "made" / f"{changed.get('name', 'identity')}-{serial}"
        path.mkdir(parents=True)
        for source in identity_bundle.iterdir():
            (path / source.name).write_bytes(source.read_bytes())
        manifest = json.loads((path / "manifest.json").read_text())
        text = json.dumps({**manifest, "serial": serial, **changed})
        (path / "manifest.json").write_text(text)
        return path

    return make


class Device:
    """A device of its own: store, installed bundles, trusted keys."""

    def __init__(self, base: Path) -> None:
        self.cache, self.bundles, self.keys = (base / n for n in ("cache", "bundles", "keys"))
        self.keys.mkdir(parents=True)
        self.library = Library(self.bundles)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LOHI_EDGE_CACHE": str(self.cache),
            "LOHI_EDGE_BUNDLES": str(self.bundles),
            "LOHI_EDGE_KEYS": str(self.keys),
            "LOHI_EDGE_ENHANCE_THREADS": "1",
            "LOHI_EDGE_ENHANCE_RUNTIME": "onnxruntime",
        }

    def run(self, *words: object, **extra: str) -> subprocess.CompletedProcess[str]:
        """`lohi-edge` in a process of its own."""
        process = self.start(*words, **extra)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *words: object, **extra: str) -> subprocess.Popen[str]:
        """As `run`, without waiting for its end."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("LOHI_EDGE_")}
        paths = [p for p in sys.path if p.endswith(("/edge", "/calibration", "/export"))]
        return subprocess.Popen(
            [sys.executable, "-m", "lohi_edge", *map(str, words)],
            env={**clean, **self.variables, "PYTHONPATH": os.pathsep.join(paths), **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def install(self, source: Path, **options) -> dict:
        """What `update.install` reports of a bundle."""
        return update.install(source, Settings(), self.library, lambda _: None, **options)

    def active(self) -> dict[str, str]:
        return self.library.pointer().active


@pytest.fixture
def device(tmp_path, monkeypatch) -> Device:
    made = Device(tmp_path / "device")
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def proved(monkeypatch):
    """Proof by another test: here it always succeeds."""
    monkeypatch.setattr(update, "_prove", lambda *_: {})


@pytest.fixture
def keys(tmp_path, device):
    """A key pair whose public half the device trusts."""
    private, public = signing.keygen(tmp_path / "maker")
    (device.keys / public.name).write_bytes(public.read_bytes())
    return private, public


def missing() -> str:
    raise ModuleNotFoundError("No module named 'tensorrt'")


@pytest.fixture
def context(device, tmp_path):
    """A sound machine without a GPU, with folders of a daemon."""
    folders = {name: tmp_path / name for name in ("inbox", "outbox", "state")}
    for path in folders.values():
        path.mkdir(mode=0o700)
    settings = Settings(
        watch=Watch(**{k: str(v) for k, v in folders.items()}),
        disk=Disk(reserve_gb=0.001),
        enhance=Enhance(threads=1),
    )
    root = tmp_path / "root"
    mount(root, "/ / rw - ext4 /dev/sda1 rw")
    return doctor.Context(
        settings,
        folders["state"],
        root=root,
        gpu="no CUDA driver on this machine",
        library=device.library,
        tensorrt=missing,
        clock=lambda: 0,
        uid=1000,
    )
