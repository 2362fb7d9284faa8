"""Phantoms and a bundle whose generator returns its input: what comes out is known exactly."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings
from lohi_edge.bundle import Manifest
from lohi_edge.files import sha256
from lohi_edge.slices import SliceContract

# One Identity node, (N, 1, 192, 240) float32, opset 19, written by onnx.helper.make_model.
IDENTITY = Path(__file__).parent / "data" / "identity.onnx"

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("repeatable")


def head_phantom(shape=(60, 70, 16), zooms=(2.8, 2.8, 9.0), seed=0) -> np.ndarray:
    """An ellipsoid head with a ramp and two blobs inside, noise around it; float32 (X, Y, Z)."""
    rng = np.random.default_rng(seed)
    mm = [(np.arange(n) - (n - 1) / 2) * z for n, z in zip(shape, zooms, strict=True)]
    x, y, z = np.meshgrid(*mm, indexing="ij", sparse=True)
    head = (x / 70) ** 2 + (y / 88) ** 2 + (z / 66) ** 2 < 1
    image = np.where(head, 120 + x / 2 + y / 3, 0)
    for centre, level in (((20, 25, 0), 220), ((-22, -20, 10), 40)):
        blob = sum((a - c) ** 2 for a, c in zip((x, y, z), centre, strict=True)) < 15**2
        image = np.where(blob, level, image)
    return np.abs(image + rng.normal(0, 2, image.shape)).astype(np.float32)


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
    manifest = Manifest("identity", "1", 1, ("T1w",), contract, files, {"fp32": 1e-6})
    (path / "manifest.json").write_text(json.dumps(manifest.to_dict()))
    return path
