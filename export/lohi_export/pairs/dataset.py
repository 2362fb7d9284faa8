"""Writing simulated pairs as a BIDS-like data set, resumably."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.volume import Volume
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.ranges import ranges_for
from lohi_export.pairs.simulate import Pair, simulate_pair

SIMULATOR = 2  # raised whenever the same seed gives other voxels
SESSIONS = {"64mT": 0.064, "3T": 3.0}  # tesla


@dataclass(frozen=True)
class Job:
    """One pair to write: `draw` counts from 0 and becomes run-(draw + 1)."""

    labels: Path
    out: Path
    head: int
    draw: int
    seed: int
    contrast: str

    def image(self, session: str) -> Path:
        """Path of one session's NIfTI file in the data set."""
        name = f"sub-{self.head:02d}_ses-{session}_run-{self.draw + 1:02d}_{self.contrast}.nii.gz"
        return self.out / f"sub-{self.head:02d}" / f"ses-{session}" / "anat" / name

    def segmentation(self) -> Path:
        """Path of the labels the 3 T image was made from, the same for every contrast."""
        image = self.image("3T")
        return image.with_name(image.name.replace(f"_{self.contrast}.", "_dseg."))

    def sidecar(self, session: str) -> Path:
        """Path of the JSON file beside that image."""
        image = self.image(session)
        return image.with_name(image.name.replace(".nii.gz", ".json"))


def plan(
    labels: Path, out: Path, heads: Iterable[int], draws: int, seed: int, contrast: str
) -> list[Job]:
    """One job for every head and draw.

    Raises:
        UsageError: a head without a label map in `labels`.
    """
    ranges_for(contrast)
    jobs = []
    for head in heads:
        path = labels / f"head_{head:02d}_labels.nii.gz"
        if not path.is_file():
            raise UsageError(f"expected a label map for head {head}, got no file {path}")
        jobs += [Job(path, out, head, draw, seed, contrast) for draw in range(draws)]
    return jobs


def write_description(out: Path) -> None:
    """dataset_description.json at the root of the data set (BIDS)."""
    text = {
        "Name": "lohi-edge simulated 64 mT and 3 T pairs",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "lohi-export simulate", "Version": str(SIMULATOR)}],
        "License": "Apache-2.0",
        "Acknowledgements": "Anatomy from the label maps published with SynthSeg (Apache-2.0).",
    }
    _write(out / "dataset_description.json", _json(text))


def write_pairs(jobs: list[Job], workers: int = 1) -> Iterator[tuple[Job, bool]]:
    """Simulate and write every pair not yet there; yields (job, written) as each is done."""
    if workers <= 1:
        for job in jobs:
            yield job, write_pair(job)
        return
    # spawn: a forked child would inherit the locks of BLAS and progress threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(write_pair, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def write_pair(job: Job) -> bool:
    """Simulate and write one pair, unless it is there and complete; True if it was written.

    Images are written before their sidecars, so a sidecar vouches for a whole image; that of the
    3 T image for the segmentation too.

    Raises:
        BadInput: an unreadable or unfit label map.
        DiskError: the data set cannot be written.
    """
    digest = hashlib.sha256(job.labels.read_bytes()).hexdigest()
    identity = _identity(job, digest)
    if all(_is_complete(job, session, identity) for session in SESSIONS):
        return False
    pair = simulate_job(job)
    segmentation = _label_nifti(pair)
    _write(job.segmentation(), segmentation)
    for session, volume in (("64mT", pair.low), ("3T", pair.high)):
        image = nifti_bytes(volume, f"simulated {session} {job.contrast}")
        _write(job.image(session), image)
        sidecar = {
            **_bids(job, session),
            "Simulation": {
                **identity,
                "ImageSHA256": hashlib.sha256(image).hexdigest(),
                "SegmentationSHA256": hashlib.sha256(segmentation).hexdigest(),
                "Drawn": pair.params,
                "Ranges": asdict(ranges_for(job.contrast)),
            },
        }
        _write(job.sidecar(session), _json(sidecar))
    return True


def simulate_job(job: Job) -> Pair:
    """The pair of a job, in memory.

    Raises:
        BadInput: an unreadable or unfit label map.
    """
    labels, affine = read_labels(job.labels)
    ranges = ranges_for(job.contrast)
    return simulate_pair(labels, affine, (job.seed, job.head, job.draw), ranges, job.contrast)


def read_labels(path: Path) -> tuple[Labels, np.ndarray]:
    """A label map as (int16 (X, Y, Z), affine (4, 4)).

    Raises:
        BadInput: not a readable NIfTI file of whole numbers.
    """
    try:
        image: Any = nib.load(path)
        return np.asarray(image.dataobj, dtype=np.int16), image.affine
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise BadInput(f"expected a NIfTI label map, got {path.name}: {error}") from error


def _identity(job: Job, digest: str) -> dict[str, Any]:
    """What determines a pair's voxels, as the sidecar states it."""
    return {
        "Simulator": SIMULATOR,
        "Seed": job.seed,
        "Head": job.head,
        "Draw": job.draw,
        "Contrast": job.contrast,
        "LabelMap": job.labels.name,
        "LabelMapSHA256": digest,
    }


def _bids(job: Job, session: str) -> dict[str, Any]:
    return {
        "MagneticFieldStrength": SESSIONS[session],
        "Simulated": True,
        "ImageComments": f"Simulated {session} {job.contrast} scan, not acquired from a person. "
        "Research use only.",
    }


def _is_complete(job: Job, session: str, identity: dict[str, Any]) -> bool:
    """Whether a session's image, sidecar and segmentation are there, whole, of this very job."""
    try:
        stated = json.loads(job.sidecar(session).read_text())["Simulation"]
        digest = hashlib.sha256(job.image(session).read_bytes()).hexdigest()
        labels = hashlib.sha256(job.segmentation().read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(
        all(stated.get(k) == v for k, v in identity.items())
        and stated.get("Ranges") == json.loads(json.dumps(asdict(ranges_for(job.contrast))))
        and stated.get("ImageSHA256") == digest
        and stated.get("SegmentationSHA256") == labels
    )


def nifti_bytes(volume: Volume, description: str) -> bytes:
    """int16 with slope."""
    top = float(volume.data.max())
    slope = top / 32000 if top > 0 else 1.0
    stored = np.rint(volume.data / slope).astype(np.int16)
    image = nib.Nifti1Image(stored, volume.affine)
    image.header.set_slope_inter(slope, 0)
    return _packed(image, volume.affine, description)


def _label_nifti(pair: Pair) -> bytes:
    image = nib.Nifti1Image(pair.labels, pair.high.affine)
    return _packed(image, pair.high.affine, "labels a simulated 3T scan was made from")


def _packed(image: Any, affine: np.ndarray, description: str) -> bytes:
    """As a gzip stream without a time stamp (same pair, same bytes)."""
    from isal import igzip

    image.header.set_xyzt_units("mm")
    image.header.set_qform(affine, 1)
    image.header.set_sform(affine, 1)
    image.header["descrip"] = description.encode()
    return bytes(igzip.compress(image.to_bytes(), mtime=0))


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """Temporary name, fsync, rename: the file is there whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DiskError(f"expected to write {path}, got: {error.strerror or error}") from error
