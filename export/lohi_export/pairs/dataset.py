"""Writing simulated pairs as a BIDS-like data set, resumably."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lohi_edge import nifti
from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.source import refuse_synthetic
from lohi_edge.volume import Volume
from lohi_export.pairs import volumes
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.ranges import ranges_for
from lohi_export.pairs.simulate import Pair, scan_again, simulate_pair

SIMULATOR = 4  # raised whenever the same seed gives other voxels
SESSIONS = {"64mT": 0.064, "3T": 3.0}  # tesla


@dataclass(frozen=True)
class Job:
    """One pair to write.

    Attributes:
        source: a label map, or a real high-field volume.
        subject: BIDS label of what is in it: the head's number, or a word.
        draw: counts from 0 and becomes run-(draw + 1).
        scans: at 64 mT of the same head; the others are acq-02 and so on, for a label map only.
    """

    source: Path
    out: Path
    subject: str
    draw: int
    seed: int
    contrast: str
    scans: int = 1

    @property
    def from_labels(self) -> bool:
        """Whether the source is a label map."""
        return self.subject.isdecimal()

    def image(self, session: str, scan: int = 1) -> Path:
        """Path of one session's NIfTI file in the data set; `scan` counts from 1."""
        again = f"_acq-{scan:02d}" if scan > 1 else ""
        name = (
            f"sub-{self.subject}_ses-{session}{again}_run-{self.draw + 1:02d}_"
            f"{self.contrast}.nii.gz"
        )
        return self.out / f"sub-{self.subject}" / f"ses-{session}" / "anat" / name

    def segmentation(self) -> Path:
        """Path of the labels the 3 T image was made from, the same for every contrast."""
        image = self.image("3T")
        return image.with_name(image.name.replace(f"_{self.contrast}.", "_dseg."))

    def sidecar(self, session: str, scan: int = 1) -> Path:
        """Path of the JSON file beside that image."""
        image = self.image(session, scan)
        return image.with_name(image.name.replace(".nii.gz", ".json"))


def plan(
    labels: Path,
    out: Path,
    heads: Iterable[int],
    draws: int,
    seed: int,
    contrast: str,
    scans: int = 1,
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
        jobs += [
            Job(path, out, f"{head:02d}", draw, seed, contrast, scans) for draw in range(draws)
        ]
    return jobs


def plan_volumes(volumes: Path, out: Path, draws: int, seed: int, contrast: str) -> list[Job]:
    """One job for every draw of a real high-field NIfTI file, or of every one in a folder.

    Raises:
        UsageError: no such file, or two of one subject.
    """
    ranges_for(contrast)
    files = sorted(volumes.glob("*.nii*")) if volumes.is_dir() else [volumes]
    if not files or not files[0].is_file():
        raise UsageError(f"expected NIfTI files (.nii, .nii.gz) in {volumes}, got none")
    subjects = {file: _subject(file) for file in files}
    twice = [name for name, times in Counter(subjects.values()).items() if times > 1]
    if twice:
        raise UsageError(f"expected one volume a subject, got several of {', '.join(twice)}")
    return [
        Job(file, out, name, draw, seed, contrast)
        for file, name in subjects.items()
        for draw in range(draws)
    ]


def _subject(file: Path) -> str:
    """A BIDS label from a file's name, never a number: those are the label maps' heads."""
    name = re.sub(r"[^0-9A-Za-z]", "", file.name.split(".nii")[0])
    return f"vol{name}" if not name or name.isdecimal() else name


def write_description(out: Path, from_labels: bool = True) -> None:
    """dataset_description.json at the root of the data set (BIDS).

    The licence of what comes from real volumes is theirs, which nobody here knows.
    """
    path = out / "dataset_description.json"
    if path.is_file() and not from_labels:
        return  # what it says of label maps stays true
    text: dict[str, Any] = {
        "Name": "lohi-edge simulated 64 mT and 3 T pairs",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "lohi-export simulate", "Version": str(SIMULATOR)}],
    }
    if from_labels:
        text["License"] = "Apache-2.0"
        text["Acknowledgements"] = (
            "Anatomy from the label maps published with SynthSeg (Apache-2.0)."
        )
    _write(path, _json(text))


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
    """Simulate and write one pair and the head's further scans; True if something was missing.

    Images are written before their sidecars, so a sidecar vouches for a whole image; that of the
    3 T image for the segmentation too.

    Raises:
        BadInput: an unreadable or unfit label map.
        DiskError: the data set cannot be written.
    """
    identity = _identity(job, hashlib.sha256(job.source.read_bytes()).hexdigest())
    whole = all(_is_complete(job, session, identity) for session in SESSIONS)
    if not whole:
        pair = simulate_job(job)
        vouched: dict[str, str] = {}
        if pair.labels is not None:
            segmentation = _label_nifti(pair.labels, pair.high.affine)
            _write(job.segmentation(), segmentation)
            vouched["SegmentationSHA256"] = hashlib.sha256(segmentation).hexdigest()
        for session, volume in (("64mT", pair.low), ("3T", pair.high)):
            _write_image(job, session, 1, volume, {**identity, **vouched}, pair.params)
    further = range(2, job.scans + 1)
    missing = [n for n in further if not _is_complete(job, "64mT", identity, n)]
    if missing:
        labels, affine = read_labels(job.source)
        ranges, seed = ranges_for(job.contrast), (job.seed, int(job.subject), job.draw)
        for n, scan, params in scan_again(labels, affine, seed, ranges, job.contrast, missing):
            _write_image(job, "64mT", n, scan, {**identity, "Scan": n}, params)
    return bool(missing) or not whole


def _write_image(
    job: Job,
    session: str,
    scan: int,
    volume: Volume,
    stated: dict[str, Any],
    params: dict[str, float],
) -> None:
    """An image, then the sidecar that vouches for it."""
    image = nifti_bytes(volume, f"simulated {session} {job.contrast}")
    _write(job.image(session, scan), image)
    sidecar = {
        **_bids(job, session),
        "Simulation": {
            **stated,
            "ImageSHA256": hashlib.sha256(image).hexdigest(),
            "Drawn": params,
            "Ranges": asdict(ranges_for(job.contrast)),
        },
    }
    _write(job.sidecar(session, scan), _json(sidecar))


def simulate_job(job: Job) -> Pair:
    """The pair of a job, in memory.

    Raises:
        BadInput: an unreadable or unfit label map or volume.
    """
    ranges = ranges_for(job.contrast)
    if job.from_labels:
        labels, affine = read_labels(job.source)
        seed = (job.seed, int(job.subject), job.draw)
        return simulate_pair(labels, affine, seed, ranges, job.contrast)
    try:
        real = nifti.read(job.source)
        refuse_synthetic(real)
        source = volumes.prepare(real)
    except BadInput as error:
        raise BadInput(f"{job.source.name}: {error}") from error
    seed = (job.seed, zlib.crc32(job.subject.encode()), job.draw)
    return volumes.simulate_from_volume(source, seed, ranges, job.contrast)


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
    kind = "LabelMap" if job.from_labels else "Volume"
    return {
        "Simulator": SIMULATOR,
        "Seed": job.seed,
        "Head": int(job.subject) if job.from_labels else job.subject,
        "Draw": job.draw,
        "Contrast": job.contrast,
        kind: job.source.name,
        f"{kind}SHA256": digest,
    }


def _bids(job: Job, session: str) -> dict[str, Any]:
    return {
        "MagneticFieldStrength": SESSIONS[session],
        "Simulated": True,
        "ImageComments": f"Simulated {session} {job.contrast} scan, not acquired from a person. "
        "Research use only.",
    }


def _is_complete(job: Job, session: str, identity: dict[str, Any], scan: int = 1) -> bool:
    """Whether an image, its sidecar and segmentation are there, whole, of this very job."""
    segmented = job.from_labels and scan == 1
    try:
        stated = json.loads(job.sidecar(session, scan).read_text())["Simulation"]
        digest = hashlib.sha256(job.image(session, scan).read_bytes()).hexdigest()
        labels = segmented and hashlib.sha256(job.segmentation().read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(
        all(stated.get(k) == v for k, v in identity.items())
        and stated.get("Ranges") == json.loads(json.dumps(asdict(ranges_for(job.contrast))))
        and stated.get("ImageSHA256") == digest
        and stated.get("SegmentationSHA256", False) == labels
    )


def nifti_bytes(volume: Volume, description: str) -> bytes:
    """int16 with slope."""
    top = float(volume.data.max())
    slope = top / 32000 if top > 0 else 1.0
    stored = np.rint(volume.data / slope).astype(np.int16)
    image = nib.Nifti1Image(stored, volume.affine)
    image.header.set_slope_inter(slope, 0)
    return _packed(image, volume.affine, description)


def _label_nifti(labels: Labels, affine: np.ndarray) -> bytes:
    image = nib.Nifti1Image(labels, affine)
    return _packed(image, affine, "labels a simulated 3T scan was made from")


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
