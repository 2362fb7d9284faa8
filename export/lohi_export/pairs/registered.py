"""A registered data set: every 3 T scan on the 1 mm grid of its 64 mT scan (BIDS derivative)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from lohi_edge import nifti
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import read_bytes, sha256
from lohi_edge.source import refuse_synthetic
from lohi_edge.volume import Volume
from lohi_export.dataset import listed
from lohi_export.pairs.files import as_json, nifti_bytes, write_whole
from lohi_export.pairs.linear import KINDS, Registration, register, resample
from lohi_export.pairs.matching import Survey, survey
from lohi_export.pairs.overlay import overlay
from lohi_export.pairs.registration_report import Outcome
from lohi_export.pairs.scans import Field, Override, Scan
from lohi_export.pairs.twins import twins
from lohi_export.side_by_side import side_by_side

REGISTRATION = 1  # raised whenever the same scans give another result
NOMINAL: dict[Field, float] = {"low": 0.064, "high": 3.0}  # tesla, where metadata name none
# What a sidecar says of a registration beside its figures.
_NO_FIGURES = {"Version", "SimpleITK", "Transform", "LowSHA256", "HighSHA256", "Matrix"}
_AFTER_SPACE = ("split", "recording", "chunk", "seg", "res", "den", "label", "desc")


@dataclass(frozen=True)
class Job:
    """One pair to register."""

    low: Scan
    high: Scan
    out: Path
    kind: str

    @property
    def name(self) -> str:
        return f"{_joined(self.low.entities)}_{self.low.contrast}"

    @property
    def low_image(self) -> Path:
        return self.out / self.low.where

    @property
    def high_image(self) -> Path:
        """Named like the 3 T scan, in a space named after the 64 mT scan's own labels."""
        labels = [v for k, v in self.low.entities.items() if k != "sub"]
        space = "64mT" + "".join(labels).replace("64mT", "")
        kept = {k: v for k, v in self.high.entities.items() if k != "space"}
        last = {k: kept.pop(k) for k in _AFTER_SPACE if k in kept}
        name = _joined({**kept, "space": space, **last}) + f"_{self.high.contrast}.nii.gz"
        return (self.out / self.high.where).with_name(name)

    @property
    def transform(self) -> Path:
        stem = f"{_joined(self.low.entities)}_from-3T_to-64mT_mode-image_desc-{self.low.contrast}"
        return self.low_image.with_name(stem + "_xfm.txt")

    @property
    def picture(self) -> Path:
        return self.out / _picture(self.low.subject, self.name)


def plan(data: Path, out: Path, kind: str, override: Override) -> tuple[list[Job], Survey]:
    """One job a pair, and the data set as it was found.

    Raises:
        UsageError: another kind than rigid or affine, or `out` is the data set itself.
        BadInput: no pairs, or findings that must be mended first: all of them; or two subjects
            share a scan.
    """
    if kind not in KINDS:
        raise UsageError(f"expected a transform of {', '.join(KINDS)}; got {kind!r}")
    if out.resolve() == data.resolve():
        raise UsageError(f"expected --out to be another folder than {data}; raw data stay as is")
    found = survey(data, override=override)
    if found.grave:
        raise BadInput(listed(f"{data} cannot be used", found.grave))
    if not found.pairs:
        raise BadInput(listed(f"expected pairs of 64 mT and 3 T scans in {data}", found.findings))
    if shared := twins(found.pairs):
        raise BadInput(listed(f"{data} cannot be used", shared))
    scans = {scan.path: scan for scan in found.scans}
    return [Job(scans[p.low], scans[p.high], out, kind) for p in found.pairs], found


def register_all(jobs: list[Job], workers: int = 1) -> Iterator[Outcome]:
    """Register every pair not yet done; yields as each is done, `workers` processes at a time."""
    if workers <= 1:
        yield from map(register_pair, jobs)
        return
    for _, outcome in side_by_side(register_pair, jobs, workers):
        yield outcome


def register_pair(job: Job) -> Outcome:
    """Register one pair and write it; the 3 T sidecar last, so that it vouches for the rest.

    Raises:
        DiskError: the data set cannot be written.
    """
    picture = job.picture.relative_to(job.out).as_posix()
    former = _stated(job.high_image).get("Transform", "")
    replaced = former if former != job.kind else ""
    try:
        identity = _identity(job)
        if figures := _done(job, identity):
            return Outcome(job.name, "kept", figures, [], picture)
        low, high = nifti.read(job.low.path), nifti.read(job.high.path)
        for scan in (low, high):
            refuse_synthetic(scan)
        found = register(low, high, job.kind)
    except BadInput as error:
        _discard(job)
        return Outcome(job.name, "failed", {}, [str(error)], "", replaced)
    fine = low.isotropic()
    moved = resample(high, found, fine.shape, fine.affine)
    figures, problems = _figures(found), found.problems()
    title = f"{job.name}: {job.kind}, residual {found.residual_mm:.1f} mm" + (
        " - FAILED" if problems else ""
    )
    write_whole(job.picture, overlay(fine, moved, title))
    if problems:
        _discard(job)
        return Outcome(job.name, "failed", figures, problems, picture, replaced)
    _write_pair(job, moved, found, identity)
    return Outcome(job.name, "registered", figures, [], picture, replaced)


def without_raw(out: Path, jobs: list[Job]) -> list[Outcome]:
    """What earlier runs registered, is still in `out`, and has no job now."""
    asked = {job.low_image for job in jobs}
    found = []
    for pair in survey(out).pairs:
        stated, name = _stated(pair.high), nifti.stem(pair.low)
        if stated and pair.low not in asked:
            picture = _picture(pair.subject, name)
            found.append(Outcome(name, "kept", _figures_in(stated), [], picture))
    return found


def _write_pair(job: Job, moved: Volume, found: Registration, identity: dict[str, Any]) -> None:
    source = read_bytes(job.low.path, nifti.MAX_FILE_BYTES)
    image = nifti_bytes(moved, f"3T {job.high.contrast} registered to 64mT")
    write_whole(job.low_image, source)
    write_whole(_beside(job.low_image), as_json(_sidecar(job.low, [job.low.where])))
    write_whole(job.transform, _transform_bytes(found.transform))
    write_whole(job.high_image, image)
    sidecar = {
        **_sidecar(job.high, [job.high.where, job.low.where]),
        "SpatialReference": f"bids::{job.low.where}",
        "Registration": {**identity, **_figures(found), "Matrix": found.matrix.tolist()},
        "ImageSHA256": sha256(image),
    }
    write_whole(_beside(job.high_image), as_json(sidecar))


def _sidecar(scan: Scan, sources: list[str]) -> dict[str, Any]:
    """Metadata of a scan with its field strength, where that was decided by other means."""
    assert scan.field
    strength = {"MagneticFieldStrength": NOMINAL[scan.field], "FieldDecidedBy": scan.rule}
    own = {} if scan.rule.startswith("MagneticFieldStrength") else strength
    return {**scan.metadata, **own, "Sources": [f"bids:raw:{source}" for source in sources]}


def _identity(job: Job) -> dict[str, Any]:
    """What determines the result."""
    return {
        "Version": REGISTRATION,
        "SimpleITK": sitk.Version_VersionString(),
        "Transform": job.kind,
        "LowSHA256": sha256(read_bytes(job.low.path, nifti.MAX_FILE_BYTES)),
        "HighSHA256": sha256(read_bytes(job.high.path, nifti.MAX_FILE_BYTES)),
    }


def _done(job: Job, identity: dict[str, Any]) -> dict[str, Any]:
    """The figures of a pair that is there, whole, and of this very job; else nothing."""
    kept = _stated(job.high_image)
    try:
        vouched = json.loads(_beside(job.high_image).read_text())["ImageSHA256"]
        whole = sha256(job.high_image.read_bytes()) == vouched
        whole &= sha256(job.low_image.read_bytes()) == identity["LowSHA256"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    there = whole and job.transform.is_file() and _beside(job.low_image).is_file()
    if not there or any(kept.get(k) != v for k, v in identity.items()):
        return {}
    return _figures_in(kept)


def _stated(high_image: Path) -> dict[str, Any]:
    """What the sidecar of a 3 T image says of its registration; nothing where it says nothing."""
    try:
        stated = json.loads(_beside(high_image).read_text())["Registration"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _figures_in(stated: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in stated.items() if k not in _NO_FIGURES}


def _discard(job: Job) -> None:
    """Remove what an earlier run with other scans or another transform left of this pair."""
    for path in (job.high_image, job.transform):
        path.unlink(missing_ok=True)
    _beside(job.high_image).unlink(missing_ok=True)


def _figures(found: Registration) -> dict[str, Any]:
    names = ("metric", "gain", "residual_mm", "degrees", "shift_mm", "overlap", "shown")
    figures = {name: round(float(getattr(found, name)), 4) for name in names}
    scales = {"scale_min": round(found.scales[0], 4), "scale_max": round(found.scales[2], 4)}
    return {"transform": found.kind, **figures, **scales}


def _transform_bytes(transform: sitk.Transform) -> bytes:
    """ITK's text format: positions in the 64 mT scan -> positions in the 3 T scan, LPS+."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "transform.txt"
        sitk.WriteTransform(transform, str(file))
        return file.read_bytes()


def _picture(subject: str, name: str) -> str:
    """Of a pair's registration, relative to the data set."""
    entities, _, contrast = name.rpartition("_")
    return f"sub-{subject}/figures/{entities}_desc-registration_{contrast}.png"


def _joined(entities: dict[str, str]) -> str:
    return "_".join(f"{key}-{value}" for key, value in entities.items())


def _beside(image: Path) -> Path:
    return image.with_name(nifti.stem(image) + ".json")
