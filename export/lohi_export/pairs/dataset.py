"""Writing simulated pairs as a BIDS-like data set, resumably."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.source import refuse_synthetic
from lohi_edge.volume import Volume
from lohi_export.pairs import pathology, volumes
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.files import (
    as_json,
    describe_beside,
    described,
    label_nifti_bytes,
    nifti_bytes,
    read_labels,
    write_whole,
)
from lohi_export.pairs.plan import Job
from lohi_export.pairs.simulate import Pair, scan_again, simulate_pair
from lohi_export.side_by_side import side_by_side

SIMULATOR = 4  # raised whenever the same seed gives other voxels
SESSIONS = {"64mT": 0.064, "3T": 3.0}  # tesla

TOOL, LICENSE = "lohi-export simulate", "Apache-2.0"  # the label maps' own
OF_LABELS = "Anatomy from the label maps published with SynthSeg (Apache-2.0)."
OF_VOLUMES = "Anatomy and 3 T images of others from real volumes, whose licence is their own."


def write_description(out: Path, from_labels: bool = True) -> None:
    """dataset_description.json at the root of the data set (BIDS), of all that was put into it.

    The licence of what comes from real volumes is theirs, which nobody here knows.

    Raises:
        BadInput: one that is there is no JSON object.
    """
    before = described(out)
    credits = [
        credit
        for credit, now in ((OF_LABELS, from_labels), (OF_VOLUMES, not from_labels))
        if now or credit in str(before.get("Acknowledgements"))
    ]
    text: dict[str, Any] = {
        "Name": "lohi-edge simulated 64 mT and 3 T pairs",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": TOOL, "Version": str(SIMULATOR)}],
        "Acknowledgements": " ".join(credits),
    }
    if credits == [OF_LABELS]:
        text["License"] = LICENSE
    describe_beside(out, text, TOOL)


def write_pairs(jobs: list[Job], workers: int = 1) -> Iterator[tuple[Job, bool]]:
    """Simulate and write every pair not yet there; yields (job, written) as each is done."""
    if workers <= 1:
        for job in jobs:
            yield job, write_pair(job)
        return
    yield from side_by_side(write_pair, jobs, workers)


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
            segmentation = label_nifti_bytes(pair.labels, pair.high.affine)
            write_whole(job.segmentation(), segmentation)
            vouched["SegmentationSHA256"] = hashlib.sha256(segmentation).hexdigest()
        for session, volume in (("64mT", pair.low), ("3T", pair.high)):
            _write_image(job, session, 1, volume, {**identity, **vouched}, pair.params)
    further = range(2, job.scans + 1)
    missing = [n for n in further if not _is_complete(job, "64mT", identity, n)]
    if missing:
        labels, affine = read_labels(job.source)
        seed = (job.seed, int(job.subject), job.draw)
        again = scan_again(labels, affine, seed, job.ranges, job.contrast, missing, job.scanner)
        for n, scan, params in again:
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
    write_whole(job.image(session, scan), image)
    sidecar = {
        **_bids(job, session),
        "Simulation": {
            **stated,
            "ImageSHA256": hashlib.sha256(image).hexdigest(),
            "Drawn": params,
            "Ranges": asdict(job.ranges),
        },
    }
    write_whole(job.sidecar(session, scan), as_json(sidecar))


def simulate_job(job: Job) -> Pair:
    """The pair of a job, in memory.

    Raises:
        BadInput: an unreadable or unfit label map or volume.
    """
    ranges = job.ranges
    if job.from_labels:
        labels, affine = read_labels(job.source)
        seed = (job.seed, int(job.subject), job.draw)
        ill = _illness(job, labels, seed)
        return simulate_pair(
            labels, affine, seed, ranges, job.contrast, pathology=ill, scanner=job.scanner
        )
    change = bool(job.made_of)
    source = _prepared(job.source, change or job.ill)
    seed = (job.seed, zlib.crc32(job.subject.encode()), job.draw)
    try:
        ill = None if source.regions is None else _illness(job, source.regions, seed)
        return volumes.simulate_from_volume(
            source, seed, ranges, job.contrast, change=change, pathology=ill
        )
    except BadInput as error:
        raise BadInput(f"{job.source.name}: {error}") from error


def _illness(job: Job, labels: Labels, seed: tuple[int, ...]) -> pathology.Pathology | None:
    """Lesions for an ill head, which its own random numbers place: None for a healthy one."""
    rng = np.random.default_rng([*seed, zlib.crc32(b"ill")])
    return pathology.draw(labels, rng) if job.ill else None


@lru_cache(maxsize=1)  # the draws of a volume follow one another
def _prepared(path: Path, regions: bool) -> volumes.HighField:
    try:
        real = nifti.read(path)
        refuse_synthetic(real)
        return volumes.prepare(real, regions)
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}") from error


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
        "MadeOf": job.made_of or None,
        "Scanner": job.scanner,
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
        and stated.get("Ranges") == json.loads(json.dumps(asdict(job.ranges)))
        and stated.get("ImageSHA256") == digest
        and stated.get("SegmentationSHA256", False) == labels
    )
