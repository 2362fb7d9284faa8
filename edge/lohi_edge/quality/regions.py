"""The 33 regions whose volumes are measured, by FreeSurfer's label numbers.

Numbers and structures are those of FreeSurfer (Fischl et al., Neuron 33:341, 2002) that SynthSeg
measures (Billot et al., Med Image Anal 86:102789, 2023).
"""

from __future__ import annotations

# (structure, label on the left, label on the right); one label where both sides are one region.
STRUCTURES: tuple[tuple[str, int, int | None], ...] = (
    ("cerebral white matter", 2, 41),
    ("cerebral cortex", 3, 42),
    ("lateral ventricle", 4, 43),
    ("inferior lateral ventricle", 5, 44),
    ("cerebellar white matter", 7, 46),
    ("cerebellar cortex", 8, 47),
    ("thalamus", 10, 49),
    ("caudate", 11, 50),
    ("putamen", 12, 51),
    ("pallidum", 13, 52),
    ("hippocampus", 17, 53),
    ("amygdala", 18, 54),
    ("accumbens", 26, 58),
    ("ventral diencephalon", 28, 60),
    ("third ventricle", 14, None),
    ("fourth ventricle", 15, None),
    ("brain-stem", 16, None),
    ("CSF", 24, None),
)
TOTAL = "total intracranial"
VENTRICLES = (4, 43, 5, 44, 14, 15)
CEREBELLUM = (7, 46, 8, 47)
CSF = 24


def _names() -> dict[int, str]:
    names = {}
    for name, left, right in STRUCTURES:
        if right is None:
            names[left] = name
        else:
            names[left], names[right] = f"left {name}", f"right {name}"
    return dict(sorted(names.items()))


REGIONS: dict[int, str] = _names()  # the 32 structures; with TOTAL, the 33 regions
