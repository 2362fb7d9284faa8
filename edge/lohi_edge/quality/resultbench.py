"""The fault bench's results: what the generator makes of a scan, and the same made wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage as ndi

from lohi_edge import nifti
from lohi_edge.pipeline import Models, enhance
from lohi_edge.quality import faults, plausibility
from lohi_edge.quality.faultbench import STRENGTHS, Case, Row
from lohi_edge.quality.scan import Scan, lay_out
from lohi_edge.volume import Float32, Volume

LESION_MM = 8.0
LESION_CONTRAST = (0.15, 0.3, 0.6)  # of the surroundings: weak, middle, strong
LESIONS = 3  # places a scan and strength
VENTRICLES = (4, 43)  # FreeSurfer's lateral ventricles
GROWTH_MM = (1.5, 3.0, 6.0)

Measure = Callable[[Volume, Float32], dict[str, float | None]]


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

    def row(fault: str, strength: int, result: Float32, scan: Scan = laid) -> Row:
        measures = plausibility.assess(scan, fine.data, result).measures
        return case.row("result", fault, strength, {n: m.value for n, m in measures.items()})

    yield row("", 0, made.data)
    if not faulty:
        return
    for name, fault in faults.RESULT_FAULTS.items():
        for strength in range(len(STRENGTHS)):
            yield row(name, strength, fault(made.data, strength, case.rng(name, strength)))
    for strength, change in enumerate(LESION_CONTRAST):
        for centre, sign in _places(laid, made.data, case.rng("lesion", strength)):
            wrong = faults.invented(made.data, centre, LESION_MM, sign * change)
            yield row("lesion invented", strength, wrong)
            ill = _with_lesion(volume, fine, centre, sign * change)
            yield row("lesion erased", strength, made.data, lay_out(ill, ill.isotropic()))
    if case.labels().is_file():
        inside = np.isin(_labels(case.labels()), VENTRICLES)
        for strength, grown in enumerate(GROWTH_MM):
            yield row("ventricle enlarged", strength, enlarged(made.data, inside, grown))


def enlarged(result: Float32, ventricle: Any, grown: float) -> Float32:
    """A result (X, Y, Z) at 1 mm whose ventricles (mask) reach `grown` mm further."""
    level = float(np.median(result[ndi.binary_erosion(ventricle)]))
    distance = ndi.distance_transform_edt(~ventricle)
    share = np.clip(grown + 0.5 - distance, 0, 1).astype(np.float32)
    wrong: Float32 = result + share * (np.minimum(result, np.float32(level)) - result)
    return wrong


def _places(
    scan: Scan, result: Float32, rng: np.random.Generator
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Centres (voxels at 1 mm) in bright tissue deep in the head, brighter and darker in turn."""
    tissue = scan.inner & (scan.work > 0.5 * scan.level)
    where = np.argwhere(ndi.binary_erosion(tissue, iterations=2))
    for number in range(LESIONS):
        at = where[int(rng.integers(len(where)))]
        yield tuple(int(2 * i + 1) for i in at), 1 if number % 2 else -1


def _with_lesion(volume: Volume, fine: Volume, centre: tuple[int, ...], change: float) -> Volume:
    """The scan of a patient with a lesion, `change` of its surroundings brighter (or darker)."""
    difference = faults.invented(fine.data, centre, LESION_MM, change) - fine.data
    seen = Volume(difference, fine.affine).resampled(volume.shape, volume.affine)
    return volume.with_data(np.maximum(volume.data + seen.data, 0))


def _labels(path: Path) -> Any:
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)
