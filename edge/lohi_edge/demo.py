"""The main job on a simulated 64 mT scan that ships with its truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import nifti
from lohi_edge.delivery import receipt_path
from lohi_edge.head import find_head
from lohi_edge.models import Models
from lohi_edge.picture import MARK, Row, before_after
from lohi_edge.pipeline import enhance
from lohi_edge.quality.reference import psnr, ssim
from lohi_edge.slices import SliceContract, intensity_range, place, to_stack
from lohi_edge.volume import Float32, Volume

DATA = Path(__file__).parent / "demo_data"
SCAN = DATA / "sub-demo_ses-64mT_T1w.nii.gz"
TRUTH = DATA / "sub-demo_ses-3T_T1w.nii.gz"
NOTE = "Both the scan and its truth are simulated from a label map of a real head."


def run(out: Path) -> dict[str, Any]:
    """Enhance the demo scan into `out` and compare with its truth.

    Returns:
        Paths of `result`, `receipt`, `picture`; PSNR (dB) and SSIM `before` and `after`.
    """
    models = Models()
    result = enhance(SCAN, out=out, bundle=models, overwrite=True)
    assert result.volume is not None
    assert result.path is not None
    scan = nifti.read(SCAN).isotropic()
    truth = nifti.read(TRUTH)
    contract = models.get("T1w").bundle.manifest.slice_contract
    picture = out / "before-after.png"
    before_after(
        picture,
        [
            Row("before: 64 mT (simulated)", scan),
            Row(f"after: {MARK}", result.volume),
            Row("truth: 3 T (simulated)", truth),
        ],
    )
    return {
        "result": str(result.path),
        "receipt": str(receipt_path(result.path)),
        "picture": str(picture),
        "before": compare(scan, scan, truth, contract),
        "after": compare(scan, result.volume, truth, contract),
        "note": NOTE,
    }


def compare(
    scan: Volume, image: Volume, truth: Volume, contract: SliceContract
) -> dict[str, float]:
    """Mean PSNR (dB) and SSIM over the axial slices that show the head, in [-1, 1], range 2.

    All three volumes lie on one 1 mm grid; each is scaled by its own robust range, and cut by the
    window that the 64 mT scan decides.
    """
    pairs = _pairs(scan, image, truth, contract)
    return {
        "PSNR": float(np.mean([psnr(t, i) for t, i in pairs])),
        "SSIM": float(np.mean([ssim(t, i) for t, i in pairs])),
    }


def psnr_db(scan: Volume, image: Volume, truth: Volume, contract: SliceContract) -> float:
    """The PSNR of `compare` alone, in a tenth of its time."""
    return float(np.mean([psnr(t, i) for t, i in _pairs(scan, image, truth, contract)]))


def _pairs(
    scan: Volume, image: Volume, truth: Volume, contract: SliceContract
) -> list[tuple[Float32, Float32]]:
    """(truth, image), each (H, W), of every axial slice that shows the head."""
    one = SliceContract(**{**contract.to_dict(), "channels": 1})
    head = find_head(scan.data)
    window = place(scan, one, head)
    stacks = [_scaled(volume, window, one) for volume in (truth, image)]
    return [(t[0], i[0]) for t, i in zip(*stacks, strict=True)][head.low[2] : head.high[2]]


def _scaled(volume: Volume, window: Any, contract: SliceContract) -> Float32:
    from dataclasses import replace

    low, high = intensity_range(volume.data, find_head(volume.data), contract)
    return to_stack(volume.data, replace(window, low=low, high=high), contract)
