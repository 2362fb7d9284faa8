"""Write the demo scan and its truth: one simulated pair of head 14, which no model was fitted on.

python export/make_demo_data.py LABEL_MAPS edge/lohi_edge/demo_data
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from lohi_edge.volume import Volume
from lohi_export.pairs.ranges import ranges_for
from lohi_export.pairs.simulate import simulate_pair

HEAD, SEED = "head_14_labels.nii.gz", 2026


def save(path: Path, volume: Volume, dtype: type, top: float) -> None:
    """Integers from 0 to `top` with a slope; 8 bits keep the truth small."""
    slope = float(volume.data.max()) / top
    image = nib.Nifti1Image(np.rint(np.maximum(volume.data, 0) / slope).astype(dtype), None)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, 1)
    image.set_qform(volume.affine, 1)
    image.header.set_slope_inter(slope, 0)
    image.header["descrip"] = b"simulated from a label map, not acquired"
    nib.save(image, path)


def main(labels: Path, out: Path) -> None:
    image = nib.load(labels / HEAD)
    data = np.asarray(image.dataobj).astype(np.int16)
    pair = simulate_pair(data, image.affine, SEED, ranges_for("T1w"))
    out.mkdir(parents=True, exist_ok=True)
    save(out / "sub-demo_ses-64mT_T1w.nii.gz", pair.low, np.int16, 4095)
    save(out / "sub-demo_ses-3T_T1w.nii.gz", pair.high, np.uint8, 255)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
