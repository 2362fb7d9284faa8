"""`enhance`, the one verb: a scan in, an enhanced volume with its verdict and receipt out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lohi_edge import bundle as bundles
from lohi_edge import contrast as contrasts
from lohi_edge import delivery, finished, nifti, receipt, source, withheld
from lohi_edge.clock import Clock
from lohi_edge.dicom import Series
from lohi_edge.errors import BundleError, UsageError
from lohi_edge.head import find_head
from lohi_edge.models import Model, Models
from lohi_edge.nifti_header import Prefer
from lohi_edge.nifti_write import Grid
from lohi_edge.quality.inspect import inspect
from lohi_edge.quality.morphometry import Segmenter
from lohi_edge.quality.uncertainty import spread, summary
from lohi_edge.quality.volumes import before_and_after
from lohi_edge.runtime import Progress
from lohi_edge.slices import from_stack, place, to_intensity, to_stack
from lohi_edge.source import Format, Scan
from lohi_edge.volume import Volume


@dataclass(frozen=True, eq=False)
class Result:
    """An enhanced scan.

    Attributes:
        volume: synthetic 3 T-like volume; intensities 0 to 1000, see `receipt["result"]`.
        receipt: how it came about (see docs/reference/receipt.md).
        before, after: scan and result on one 1 mm grid, for pictures.
        path: the image file, None when nothing was written.
        done_before: the same result was on disk already and was left as it is.
        uncertainty: on the grid of `volume`, where it was asked for (`quality.uncertainty`).
    """

    volume: Volume | None
    receipt: dict[str, Any]
    before: Volume | None = None
    after: Volume | None = None
    path: Path | None = None
    done_before: bool = False
    uncertainty: Volume | None = None


def enhance(
    scan: Scan,
    *,
    out: str | Path | None = None,
    bundle: str | Path | Models | None = None,
    contrast: str | None = None,
    grid: Grid | None = None,
    prefer: Prefer | None = None,
    format: Format = "auto",
    mark: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    limits: str | Path | Mapping[str, Any] | None = None,
    deliver_held: bool = False,
    uncertainty: bool = False,
    volumes: bool = False,
) -> Result:
    """Turn one 64 mT head scan into a synthetic 3 T-like volume. Research use only.

    Args:
        scan: a .nii or .nii.gz file; a folder, zip or DICOMDIR with one DICOM series, or an
            enhanced MR file; a Series; a Volume.
        out: folder for `<name>_desc-synthetic.nii.gz` (or a folder of that name with a DICOM
            series) and its receipt; None writes nothing.
        bundle: a bundle directory, or Models that stay loaded between calls.
        contrast: "T1w", "T2w" or "FLAIR"; None lets the file name, then its sidecar decide.
        grid: "1mm" (isotropic, the scan's own axes) or "native" (the scan's own grid); None is
            "native" for a DICOM result, else "1mm".
        prefer: "sform" or "qform", where a file's two transforms contradict each other.
        format: "nifti", "dicom", or "auto" for what the scan came as.
        mark: burn a mark into a corner of every DICOM image.
        overwrite: replace a different result that is there already.
        threads: of the CPU; None for one per core.
        progress: called with (slices done, slices in all).
        limits: quality limits that go before the bundle's and the package's: a JSON file, or
            what `quality.verdict.read` made of one.
        deliver_held: write a held result too, marked as held in its name and header (research);
            never one that holds what is no number.
        uncertainty: also say how much the answer depends on accidents, as a second image
            `<name>_desc-uncertainty.nii.gz`; takes five times as long.
        volumes: also measure the regions of scan and result, into `receipt["metrics"]["volumes"]`.

    Raises:
        UsageError: an unknown option value, or a result of another scan or model, or judged by
            other limits, is in the way.
        BadInput: the scan cannot be read or enhanced.
        BundleError: the model cannot be used.
        Held: the result is not fit to be seen; with `out` its receipt stands there as
            `<name>_desc-withheld.json`.
        DiskError: the result cannot be written.
    """
    _check_options(contrast, grid, prefer, format)
    limits = Path(limits) if isinstance(limits, str) else limits
    clock = Clock()
    with clock("read"):
        scan = source.resolve(scan)
    grid = grid or _default_grid(scan, format)
    if uncertainty and source.written_as(scan, format) == "dicom":
        raise UsageError("an uncertainty map is written as NIfTI only; add --format nifti")
    volume = source.read(scan, prefer, clock)
    name = volume.origin.name if volume.origin else ""
    sidecar = volume.origin.sidecar if volume.origin else None
    unnamed = contrasts.unnamed(contrast, nifti.stem(Path(name)), sidecar)
    with clock("prepare"):
        fine = volume.isotropic() if unnamed else None
    contrast, rule = contrasts.decide(contrast, nifti.stem(Path(name)), sidecar, fine)
    models = bundle if isinstance(bundle, Models) else Models(bundle, threads)
    model = models.get(contrast)
    record = receipt.start(volume, scan, contrast, rule, model.bundle, model.choice)
    target = delivery.target(scan, out, format)
    delivery.refuse_source(target, scan)
    if target and not overwrite:
        withheld.refuse_other(target, record)
        for path in (target, delivery.held(target))[: 1 + deliver_held]:
            if found := finished.existing(path, record, grid, mark, uncertainty, volumes):
                if limits is not None:
                    finished.refuse_other_limits(path, found, model.bundle.manifest.metrics, limits)
                return Result(None, found, path=path, done_before=True)
    with clock("prepare"):
        fine = fine or volume.isotropic()
    image, doubt = _compute(fine, model, clock, record, progress, uncertainty)
    with clock("quality"):
        quality = model.bundle.manifest.metrics
        seen = inspect(volume, fine, contrast, image, quality, limits, models.threads)
        receipt.judge(record, seen, volume)
    # What is no number cannot be written at all.
    if record["verdict"] == "hold" and not (deliver_held and np.isfinite(image.data).all()):
        record["timings"] = {**clock.seconds(), "write": 0.0}
        raise withheld.held(record, target, scan, name, sidecar)
    if volumes:
        with clock("volumes"):
            record["metrics"]["volumes"] = before_and_after(
                volume, image, Segmenter(threads=models.threads)
            )
    with clock("restore"):
        native = image
        if grid == "native":
            native = image.resampled(volume.shape, volume.affine)
            doubt = doubt and doubt.resampled(volume.shape, volume.affine)
    record["timings"] = clock.seconds()
    result = Result(native, record, fine, image, uncertainty=doubt)
    return write(result, scan, out, grid, format, mark) if out else result


def write(
    result: Result,
    scan: Path | Series | Volume,
    out: str | Path,
    grid: Grid | None = None,
    format: Format = "auto",
    mark: bool = False,
) -> Result:
    """Write what `enhance` computed of `scan`; the arguments are those of `enhance`.

    What bears the same name is replaced.

    Raises:
        DiskError: the result cannot be written.
    """
    assert result.volume
    assert result.before
    assert result.after
    record = result.receipt
    grid = grid or _default_grid(scan, format)
    target = delivery.target(scan, out, format)
    assert target is not None
    if record["verdict"] == "hold":
        target = delivery.held(target)
    clock = Clock()
    delivery.deliver(target, result.volume, record, scan, grid, clock, mark)
    if record["result"].get("format") == "dicom":
        delivery.deliver_sheet(target, result.before, result.after, record, clock)
    if result.uncertainty:
        with clock("write"):
            delivery.deliver_uncertainty(target, result.uncertainty, record)
    spent, before = clock.seconds(), record["timings"]
    total = round(before["total"] + spent["total"], 4)
    record["timings"] = {**before, "write": spent["write"], "total": total}
    acquired = result.before.origin.sidecar if result.before.origin else None
    delivery.write_receipt(target, record, acquired)
    return replace(result, path=target)


def _default_grid(scan: Path | Series | Volume, format: Format) -> Grid:
    return "native" if source.written_as(scan, format) == "dicom" else "1mm"


def _compute(
    fine: Volume,
    model: Model,
    clock: Clock,
    record: dict[str, Any],
    progress: Progress | None,
    uncertainty: bool,
) -> tuple[Volume, Volume | None]:
    """The result for a scan at 1 mm, and where asked its uncertainty, both on its grid."""
    contract = model.bundle.manifest.slice_contract
    with clock("prepare"):
        head = find_head(fine.data)
        placement = place(fine, contract, head)
        stack = to_stack(fine.data, placement, contract)
        record["metrics"] = {
            "head_mm": list(head.size),
            "input_range": [placement.low, placement.high],
        }
    with clock("infer"):
        slices = model.choice.runtime.run(stack, progress)
    with clock("restore"):
        image = fine.with_data(to_intensity(from_stack(slices, placement, contract)))
        image = image.as_synthetic()
    if not uncertainty or not np.isfinite(slices).all():
        return image, None
    with clock("uncertainty"):
        deviation = spread(model.choice.runtime.run, fine.data, placement, contract, slices)
        if not np.isfinite(deviation).all():
            raise BundleError(
                f"{model.bundle.path}: {model.choice.onnx} answers this scan, moved by a few "
                "voxels, with what is no number; choose another --precision or bundle"
            )
        record["uncertainty"] = summary(deviation, head.samples(deviation))
    return image, image.with_data(deviation)


def _check_options(contrast: str | None, grid: str | None, prefer: str | None, format: str) -> None:
    for name, value, known in (
        ("contrast", contrast, bundles.CONTRASTS),
        ("grid", grid, get_args(Grid)),
        ("prefer", prefer, get_args(Prefer)),
        ("format", format, get_args(Format)),
    ):
        if value is not None and value not in known:
            raise UsageError(f"expected {name} to be one of {', '.join(known)}, got {value!r}")
