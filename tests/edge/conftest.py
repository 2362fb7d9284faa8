"""Phantoms and a bundle whose generator returns its input: what comes out is known exactly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings

from helpers import head_phantom
from lohi_edge.bundle import Manifest
from lohi_edge.files import sha256
from lohi_edge.slices import SliceContract

# One Identity node, (N, 1, 192, 240) float32, opset 19, written by onnx.helper.make_model.
IDENTITY = Path(__file__).parent / "data" / "identity.onnx"

NOBODY = 65534

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("repeatable")


@pytest.fixture
def write_scan(tmp_path):
    """Factory: save a NIfTI scan, `write_scan(name, data=None, affine=None, **header)`."""

    def write(name="scan.nii.gz", data=None, affine=None, **header):
        data = head_phantom().astype(np.int16) if data is None else data
        affine = np.diag([2.8, 2.8, 9.0, 1.0]) if affine is None else affine
        image = nib.Nifti1Image(data, affine)
        for key, value in header.items():
            image.header[key] = value
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
        return path

    return write


@pytest.fixture
def scan(write_scan):
    return write_scan("sub-01_T1w.nii.gz")


@pytest.fixture
def unprivileged():
    """A folder that belongs to a user who is not root, while that user runs the test."""
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield folder
    if os.getuid() == 0:
        os.seteuid(0)
    shutil.rmtree(folder)


@pytest.fixture
def tmpfs():
    """Factory: mount a small tmpfs, `tmpfs(folder, megabytes)`; unmounted at the end."""
    mounted = []

    def mount(folder, megabytes):
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


@pytest.fixture(scope="session")
def identity_bundle(tmp_path_factory) -> Path:
    """A valid bundle around IDENTITY."""
    contract = SliceContract()
    path = tmp_path_factory.mktemp("bundle") / "identity"
    path.mkdir()
    shape = (2, 1, contract.height, contract.width)
    golden = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    np.savez_compressed(path / "golden.npz", input=golden, output=golden, truth=golden)
    (path / "fp32.onnx").write_bytes(IDENTITY.read_bytes())
    files = {n: sha256((path / n).read_bytes()) for n in ("fp32.onnx", "golden.npz")}
    no_limits = {"quality": {"base": "none"}}  # phantoms are no heads: let them pass
    manifest = Manifest("identity", "1", 1, ("T1w",), contract, files, {"fp32": 1e-6}, no_limits)
    (path / "manifest.json").write_text(json.dumps(manifest.to_dict()))
    return path
