"""Proof of the segmenter: overlap and volume error per region on simulated scans."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lohi_edge.bundle import load
from lohi_edge.errors import BadInput
from lohi_edge.manifest import CONTRASTS
from lohi_edge.models import Models
from lohi_edge.quality.morphometry import Segmentation, Segmenter, intracranial, region_volumes
from lohi_edge.quality.regions import CSF, REGIONS, TOTAL, VENTRICLES
from lohi_edge.volume import Volume
from lohi_export.morphometry import scans
from lohi_export.morphometry.targets import regions_of
from lohi_export.pairs.files import read_labels

TISSUES: dict[str, tuple[int, ...]] = {
    "white matter": (2, 41, 7, 46),
    "cortex": (3, 42, 8, 47),
    "ventricles": VENTRICLES,
    "CSF": (CSF,),
    "deep grey, brain-stem": (10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58, 28, 60, 16),
    "outside": (0,),
}


@dataclass(frozen=True, eq=False)
class Measured:
    """One image held against its truth.

    Attributes:
        head, run, contrast, kind: what it is; each run is a pair of its own.
        dice: region name -> overlap, of the regions that the truth has.
        truth, found: region name -> ml, "total intracranial" among them.
        confusion: voxels (truth tissue, found tissue), both in the order of TISSUES.
    """

    head: str
    run: str
    contrast: str
    kind: str
    dice: dict[str, float]
    truth: dict[str, float]
    found: dict[str, float]
    confusion: NDArray[np.int64]


def measure(
    data: Path, heads: list[str], segmenter: Segmenter, bundle: Path | None
) -> Iterator[Measured]:
    """Segment every scan of some heads of a data set of `lohi-export simulate`.

    With `bundle` the 64 mT scans of its contrasts are enhanced, and their results are segmented
    too; other contrasts are left out, or figures of scans and results would not compare.

    Raises:
        BadInput: no scans of these heads and contrasts with a segmentation.
    """
    models = Models(bundle) if bundle else None
    served = load(bundle).manifest.contrasts if bundle else CONTRASTS
    for scan in scans.find(data, heads, served):
        truth = _truth(scan.dseg)
        for kind in scans.KINDS if models else scans.KINDS[:2]:
            image = scan.image(kind, models)
            yield compare(truth, image, segmenter, (scan.head, scan.run, scan.contrast, kind))


def compare(
    truth: Segmentation, image: Volume, segmenter: Segmenter, what: tuple[str, str, str, str]
) -> Measured:
    """Segment one image on the truth's grid and count."""
    found = segmenter.segment(image)
    if found.labels.shape != truth.labels.shape:
        raise BadInput(
            f"expected {what} on the grid {truth.labels.shape}, got {found.labels.shape}"
        )
    size = max(REGIONS) + 1
    joint = np.bincount(
        (truth.labels.astype(np.int64) * size + found.labels).ravel(), minlength=size * size
    ).reshape(size, size)
    dice = {
        name: float(2 * joint[label, label] / (joint[label].sum() + joint[:, label].sum()))
        for label, name in REGIONS.items()
        if joint[label].any()
    }
    confusion = np.array(
        [[joint[np.ix_(a, b)].sum() for b in TISSUES.values()] for a in TISSUES.values()]
    )
    return Measured(*what, dice, region_volumes(truth), region_volumes(found), confusion)


def _truth(path: Path) -> Segmentation:
    labels, affine = read_labels(path)
    return Segmentation(intracranial(regions_of(labels)), affine)


def summary(rows: list[Measured]) -> dict[str, Any]:
    """Mean Dice, volume error and bias per kind and region, and the confusion of tissues.

    Volume error is the mean of |found - truth| / truth in percent; bias its mean with the sign.
    `to_3T` is the mean of |found - found in the 3 T image| / found in the 3 T image over regions
    and images, as the study has it, and `ventricles_to_3T` the same of all ventricles together.
    """
    report: dict[str, Any] = {}
    for kind in scans.KINDS:
        of = [row for row in rows if row.kind == kind]
        if not of:
            continue
        regions = {name: _figures(of, name) for name in (*REGIONS.values(), TOTAL)}
        counts = sum((row.confusion for row in of), np.zeros((len(TISSUES),) * 2, np.int64))
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        inner = [regions[name] for name in REGIONS.values()]
        overlaps = [r["dice"] for r in inner if "dice" in r] or [0.0]
        report[kind] = {
            **_to_3t(of, rows),
            "images": len(of),
            "mean_dice": float(np.mean(overlaps)),
            "mean_volume_error": float(np.mean([r["volume_error"] for r in inner])),
            "regions": regions,
            "confusion": dict(zip(TISSUES, shares.round(1).tolist(), strict=True)),
        }
    return report


def _to_3t(of: list[Measured], rows: list[Measured]) -> dict[str, float]:
    high = {_pair(row): row.found for row in rows if row.kind == "3T"}
    pairs = [(row.found, high[_pair(row)]) for row in of if row.kind != "3T" and _pair(row) in high]
    if not pairs:
        return {}
    ventricles = [REGIONS[label] for label in VENTRICLES]
    regions = [_percent(own[name], other[name]) for own, other in pairs for name in own]
    fluid = [_percent(*(sum(one[v] for v in ventricles) for one in pair)) for pair in pairs]
    return {"to_3T": float(np.mean(regions)), "ventricles_to_3T": float(np.mean(fluid))}


def _pair(row: Measured) -> tuple[str, str, str]:
    return row.head, row.run, row.contrast


def _percent(found: float, wanted: float) -> float:
    return 100 * abs(found - wanted) / max(wanted, 1e-3)


def _figures(rows: list[Measured], name: str) -> dict[str, float]:
    truth, found = (np.array([getattr(r, part)[name] for r in rows]) for part in ("truth", "found"))
    relative = 100 * (found - truth) / np.maximum(truth, 1e-3)
    figures = {
        "truth_ml": float(truth.mean()),
        "found_ml": float(found.mean()),
        "volume_error": float(np.abs(relative).mean()),
        "volume_bias": float(relative.mean()),
    }
    if overlaps := [r.dice[name] for r in rows if name in r.dice]:
        figures["dice"] = float(np.mean(overlaps))
    return figures


def table(report: dict[str, Any]) -> str:
    """The summary as lines of text."""
    lines = []
    for kind, part in report.items():
        dice, error = part["mean_dice"], part["mean_volume_error"]
        columns = f"{'Dice':>6}{'truth ml':>10}{'found ml':>10}{'error %':>9}{'bias %':>8}"
        beside = ""
        if "to_3T" in part:
            fluid = f"all ventricles {part['ventricles_to_3T']:.1f} %"
            beside = f", {part['to_3T']:.1f} % from the 3 T image ({fluid})"
        lines += [
            f"{kind}: {part['images']} images, mean Dice {dice:.3f}, mean error {error:.1f} %"
            f"{beside}",
            f"  {'region':34}{columns}",
        ]
        for name, f in part["regions"].items():
            dice = f"{f['dice']:.2f}" if "dice" in f else ""
            lines.append(
                f"  {name:34}{dice:>6}{f['truth_ml']:10.2f}{f['found_ml']:10.2f}"
                f"{f['volume_error']:9.1f}{f['volume_bias']:8.1f}"
            )
        heading = "".join(f"{name[:11]:>13}" for name in TISSUES)
        lines.append(f"  {'% of a true tissue taken for':34}{heading}")
        for name, shares in part["confusion"].items():
            lines.append(f"  {name:34}" + "".join(f"{s:13.1f}" for s in shares))
    return "\n".join(lines) + "\n"


def to_csv(rows: list[Measured]) -> str:
    """One line an image and region."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["head", "run", "contrast", "image", "region", "dice", "truth_ml", "found_ml"])
    for row in rows:
        for name in row.truth:
            dice = f"{row.dice[name]:.4f}" if name in row.dice else ""
            volumes = (f"{row.truth[name]:.4f}", f"{row.found[name]:.4f}")
            writer.writerow([row.head, row.run, row.contrast, row.kind, name, dice, *volumes])
    return out.getvalue()
