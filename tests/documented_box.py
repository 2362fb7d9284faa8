"""A folder in which every name that the docs use for a device is real."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np

import watch_parts
from dicom_series import PHANTOM, save, slices
from helpers import head_phantom, small_head
from lohi_edge import bundle as bundles
from lohi_edge import demo, signing
from lohi_edge.bundle import Manifest
from lohi_edge.device.library import Library
from lohi_edge.files import sha256
from lohi_edge.pipeline import enhance
from lohi_edge.slices import SliceContract
from lohi_edge.watch import state
from lohi_edge.watch.inbox import Found

IDENTITY = Path(__file__).parent / "edge/data/identity.onnx"


def write_bundle(folder: Path, serial: int = 1) -> Path:
    """A generator that returns its input, for every contrast."""
    contract = SliceContract()
    golden = np.random.default_rng(0).uniform(-1, 1, (1, 1, contract.height, contract.width))
    golden = golden.astype(np.float32)
    folder.mkdir()
    np.savez(folder / "golden.npz", input=golden, output=golden, truth=golden)
    shutil.copy(IDENTITY, folder / "fp32.onnx")
    files = {n: sha256((folder / n).read_bytes()) for n in ("fp32.onnx", "golden.npz")}
    manifest = Manifest(
        "identity", "1", serial, bundles.CONTRASTS, contract, files, {"fp32": 1e-6},
        {"quality": {"base": "none"}},
    )  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()))
    return folder


def write_phantom(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(head_phantom(seed=seed).astype(np.int16), np.diag([2.8, 2.8, 9, 1.0]))
    nib.save(image, path)


def write_scans(box: Path) -> None:
    shutil.copy(demo.SCAN, box / "scan.nii.gz")
    nib.save(nib.Nifti1Image(small_head(), np.diag([2.0, 2, 2, 1])), box / "small.nii")
    write_phantom(box / "sub-01_T1w.nii")
    write_phantom(box / "scans/one_T1w.nii.gz")
    write_phantom(box / "scans/two_T2w.nii.gz", seed=1)
    for head in (1, 12, 13):
        name = f"sub-{head:02d}/ses-64mT/anat/sub-{head:02d}_ses-64mT_run-01_T1w.nii.gz"
        write_phantom(box / "pairs" / name, head)
    write_phantom(box / "data/sub-01/anat/sub-01_T1w.nii.gz")
    (box / "data/dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.8.0"}')
    save(box / "study/T1", slices(PHANTOM))
    save(box / "results/series-3-1a2b3c4d_desc-synthetic", slices(PHANTOM, series=3))


def write_models(box: Path) -> None:
    private, public = signing.keygen(box / "maker")
    for name in ("t1w-edge", "t1w-own"):
        signing.sign(write_bundle(box / name), private)
    with zipfile.ZipFile(box / "t1w-edge.zip", "w") as archive:
        for file in (box / "t1w-edge").iterdir():
            archive.write(file, file.name)
    library = Library(box / "bundles")
    with library.locked():
        folder = library.add(bundles.load(box / "t1w-edge"))
        library.switch(folder, bundles.CONTRASTS)
    assert public.is_file()


def write_state(box: Path) -> None:
    """A daemon that stopped: scan 1 is done, 2 failed, 3 waits."""
    srv = box / "srv"
    shutil.rmtree(srv, ignore_errors=True)
    srv.mkdir()
    with watch_parts.opened(srv, inbox="inbox", outbox="outbox") as parts:
        state.same_folders(parts.ledger, parts.root, parts.outbox.root)
        watch_parts.deliver(parts, "first_T1w.nii.gz", "i1")
        for seed, name in enumerate(("second_T1w.nii.gz", "third_T1w.nii.gz")):
            watch_parts.save_scan(parts.root / name, seed)
            (number,) = parts.ledger.receive([Found(name, "m", 3)])
            if not seed:
                failed = parts.ledger.get(number)
                parts.close_without_result(failed, "failed", "cut off")
    (srv / "state").chmod(0o700)
    (box / "etc").mkdir(exist_ok=True)
    for path in (box / "etc/config.toml", box / "new.toml"):
        path.write_text(
            f'[watch]\nstate = "{srv}/state"\ninbox = "{srv}/inbox"\noutbox = "{srv}/outbox"\n'
            '[disk]\nreserve_gb = 0\n[enhance]\nthreads = 1\nruntime = "onnxruntime"\n'
        )


def write_box(box: Path) -> Path:
    """All but the daemon's state, which is bound to where it lies."""
    write_scans(box)
    write_models(box)
    result = enhance(box / "scan.nii.gz", out=box, bundle=box / "t1w-edge", contrast="T1w")
    (box / "outgoing").mkdir()  # a queue of `send` from which all was sent
    for folder in ("outbox/scan", "results"):  # as a daemon and an earlier command left it
        (box / folder).mkdir(parents=True, exist_ok=True)
        for file in box.glob(f"{result.path.name[:-7]}*"):
            shutil.copy(file, box / folder)
    return box
