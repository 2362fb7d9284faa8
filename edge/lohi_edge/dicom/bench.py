"""How fast DICOM is here: a series read, a derived one written, instances received."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid as uids
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from lohi_edge.dicom.instance import MR_IMAGE
from lohi_edge.dicom.read import read
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.dicom.send import Node, send
from lohi_edge.dicom.write import write

ROOT = "1.2.826.0.1.3680043.8.498"
_RECORD = {
    "onnx": {"sha256": "0" * 64},
    "bundle": {"sha256": "0" * 64, "name": "bench", "version": "0"},
    "contrast": {"name": "T1w"},
    "precision": "fp32",
    "runtime": {"name": "none", "version": "0", "device": "cpu"},
    "software": {"lohi-edge": "0"},
    "verdict": "pass",
}


def measure(slices: int = 200, side: int = 256, runs: int = 5) -> dict[str, Any]:
    """Medians over `runs`, of a made-up series of `slices` images of `side` x `side`.

    Returns:
        `read_s`, `write_s` (every file fsynced) and `received_per_s` (over loopback, each instance
        fsynced before it is answered).
    """
    with tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as base:
        folder = Path(base)
        series = make_series(folder / "series", slices, side)
        seconds: dict[str, list[float]] = {"read": [], "write": [], "receive": []}
        for run in range(runs):
            begin = time.perf_counter()
            volume = read(series)
            seconds["read"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            write(folder / f"out-{run}", volume, _RECORD, "native")
            seconds["write"].append(time.perf_counter() - begin)
            seconds["receive"].append(_receive(series, folder / f"in-{run}"))
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "slices": slices,
        "shape": [side, side],
        "runs": runs,
        "read_s": round(median["read"], 3),
        "write_s": round(median["write"], 3),
        "received_per_s": round(slices / median["receive"], 1),
    }


def make_series(folder: Path, slices: int, side: int) -> Path:
    """A classic MR series of a made-up head; returns its folder."""
    folder.mkdir()
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    disc = np.clip(1 - axis[:, None] ** 2 - axis**2, 0, 1) * 1000
    noise = np.random.default_rng(0).integers(0, 50, (side, side))
    for k in range(slices):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = MR_IMAGE, f"{ROOT}.1.1.{k + 1}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.1.1"
        ds.FrameOfReferenceUID, ds.Modality = f"{ROOT}.1.9", "MR"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        ds.PatientName, ds.PatientID, ds.SeriesNumber, ds.InstanceNumber = "", "bench", 1, k + 1
        ds.SeriesDescription = "T1"
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient, ds.PixelSpacing = [0, 0, k], [1, 1]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.Rows, ds.Columns = side, side
        ds.PixelData = (disc + np.roll(noise, k)).astype("<u2").tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
        dcmwrite(folder / f"{k:05d}.dcm", ds, enforce_file_format=True)
    return folder


def _receive(series: Path, inbox: Path) -> float:
    """Seconds to send a folder to a receiver of this process, which stores it."""
    listening = Listening(port=0, callers=("BENCH",), reserve=0)
    with Receiver(inbox, listening, lambda line: None) as receiver:
        node = Node(listening.title, listening.host, receiver.port, "BENCH")
        begin = time.perf_counter()
        send([series], node)
        return time.perf_counter() - begin
