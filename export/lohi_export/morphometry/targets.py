"""What each label of the maps is to the segmenter: a one-sided class, and a side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lohi_edge.quality.features import CLASSES
from lohi_edge.quality.regions import CSF, STRUCTURES
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.tissues import LABEL_TISSUE, SULCUS, TABLE_SIZE

# Labels that are no region of their own, and the region that holds them: white matter lesions,
# choroid plexus (136, 163 in the lateral ventricle; 137, 164, which images like the hippocampus it
# lies on), and small vessels, cavum septi pellucidi and optic chiasm within the CSF.
MERGED = {25: 2, 57: 41, 136: 4, 163: 43, 137: 17, 164: 53, 30: CSF, 62: CSF, 72: CSF, 85: CSF}
CODES = np.array(sorted([0, SULCUS, *LABEL_TISSUE]))  # every label a dressed map can hold

CORTEX_CLASS, CSF_CLASS = 2, CLASSES - 1


def regions_of(labels: Labels) -> Labels:
    """A label map (any shape) as the 32 structures and 0."""
    table = np.zeros(TABLE_SIZE, np.int16)
    for _, left, right in STRUCTURES:
        for label in (left, right):
            if label is not None:
                table[label] = label
    for label, region in MERGED.items():
        table[label] = region
    return table[labels]


def encode(dressed: Labels) -> NDArray[np.uint8]:
    """A dressed label map as positions in CODES."""
    return np.searchsorted(CODES, dressed).astype(np.uint8)


def class_table(sulcus: float) -> NDArray[np.uint8]:
    """Class of every position in CODES; a SULCUS is CSF where that is its larger share."""
    table = np.zeros(TABLE_SIZE, np.uint8)
    for number, (_, left, right) in enumerate(STRUCTURES, 1):
        table[[left, left if right is None else right]] = number
    for label, region in MERGED.items():
        table[label] = table[region]
    table[SULCUS] = CSF_CLASS if sulcus > 0.5 else CORTEX_CLASS
    return np.asarray(table[CODES])


def side_table() -> NDArray[np.int8]:
    """-1 left, +1 right, 0 neither, for every position in CODES."""
    table = np.zeros(TABLE_SIZE, np.int8)
    for _, left, right in STRUCTURES:
        if right is not None:
            table[left], table[right] = -1, 1
    for label, region in MERGED.items():
        table[label] = table[region]
    return np.asarray(table[CODES])
