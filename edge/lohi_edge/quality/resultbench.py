"""The fault bench's results: what the generator makes of a scan, and the same made wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage as ndi

from lohi_edge import nifti
from lohi_edge.models import Models
from lohi_edge.pipeline import enhance
from lohi_edge.quality import plausibility, result_faults, verdict
from lohi_edge.quality.faultbench import STRENGTHS, Case, Row
from lohi_edge.quality.scan import WORK_MM, Scan, block_mean, lay_out
from lohi_edge.volume import Float32, Volume

LESION_MM = 8.0
LESION_CONTRAST = (0.15, 0.3, 0.6)  # of the surroundings: weak, middle, strong
OTHER_MM = (5.0, 12.0)  # of middle contrast
MIDDLE = 1
LESIONS = 3  # places a scan and strength
VENTRICLES = (4, 43)  # FreeSurfer's lateral ventricles
BRAIN = tuple(n for n in range(1, 100) if n != 24)  # FreeSurfer's structures but for CSF
GROWTH_MM = (1.5, 3.0, 6.0)


def result_rows(case: Case, models: Models, faulty: bool) -> Iterator[Row]:
    """What the generator makes of a scan, and where `faulty` every fault of a result.

    Raises:
        BundleError: no model for the case's contrast.
    """
    volume = nifti.read(case.path)
    fine = volume.isotropic()
    made = enhance(volume, bundle=models, contrast=case.contrast, deliver_held=True).volume
    assert made is not None
    laid = lay_out(volume, fine)
    figures = models.get(case.contrast).bundle.manifest.metrics
    reference = verdict.limits_for(case.contrast, figures)["reference"]

    def row(fault: str, strength: int, result: Float32, scan: Scan = laid) -> Row:
        measures = plausibility.assess(
            scan, fine.data, result, case.contrast, reference, models.threads
        ).measures
        return case.row("result", fault, strength, {n: m.value for n, m in measures.items()})

    yield row("", 0, made.data)
    if not faulty:
        return
    for name, fault in result_faults.RESULT_FAULTS.items():
        for strength in range(len(STRENGTHS)):
            yield row(name, strength, fault(made.data, strength, case.rng(name, strength)))
    labels = _labels(case.labels()) if case.labels().is_file() else None
    kinds = [("", s, LESION_MM, change) for s, change in enumerate(LESION_CONTRAST)]
    kinds += [(f" ({mm:.0f} mm)", MIDDLE, mm, LESION_CONTRAST[MIDDLE]) for mm in OTHER_MM]
    for name, strength, mm, change in kinds:
        for centre, sign in _places(laid, labels, case.rng(f"lesion{name}", strength)):
            wrong = result_faults.invented(made.data, centre, mm, sign * change)
            yield row(f"lesion invented{name}", strength, wrong)
            ill = with_lesion(volume, fine, centre, mm, sign * change)
            yield row(f"lesion erased{name}", strength, made.data, lay_out(ill, ill.isotropic()))
    if labels is not None:
        inside = np.isin(labels, VENTRICLES)
        for strength, grown in enumerate(GROWTH_MM):
            yield row(
                "ventricle enlarged", strength, result_faults.enlarged(made.data, inside, grown)
            )


def _places(
    scan: Scan, labels: Any, rng: np.random.Generator
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Centres (voxels at 1 mm), brighter and darker in turn.

    In bright tissue deep in the head; of the brain alone where labels say what is brain.
    """
    tissue = scan.inner & (scan.work > 0.5 * scan.level)
    if labels is not None:
        brain = block_mean(np.isin(labels, BRAIN).astype(np.float32), WORK_MM) > 0.5
        short = [(0, max(0, n - m)) for n, m in zip(tissue.shape, brain.shape, strict=True)]
        brain = np.pad(brain, short)
        tissue &= brain[tuple(slice(0, n) for n in tissue.shape)]
    where = np.argwhere(ndi.binary_erosion(tissue, iterations=2))
    for number in range(LESIONS):
        at = where[int(rng.integers(len(where)))]
        yield tuple(int(2 * i + 1) for i in at), 1 if number % 2 else -1


def with_lesion(
    volume: Volume, fine: Volume, centre: tuple[int, ...], diameter: float, change: float
) -> Volume:
    """The scan of a patient with a lesion, `change` of its surroundings brighter (or darker)."""
    difference = result_faults.invented(fine.data, centre, diameter, change) - fine.data
    seen = Volume(difference, fine.affine).resampled(volume.shape, volume.affine)
    return volume.with_data(np.maximum(volume.data + seen.data, 0))


def _labels(path: Path) -> Any:
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)
