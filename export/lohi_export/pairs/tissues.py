"""Relaxation times and water content of each label, at 64 mT and at 3 T.

The figures are centres, rounded; the simulator jitters every one of them per tissue, per label and
per volume (`Ranges.relaxation_jitter`). They serve to simulate: for measured values with their
spread go to the papers. Sources, by short name:

- OReilly2022: O'Reilly and Webb, Magn Reson Med 87:884 (in vivo T1, T2 at 50 mT: white matter,
  grey matter, CSF, muscle, lipid).
- Jordanova2023: Jordanova et al., MAGMA 36:377 (in vivo brain T1, T2 at 64 mT; tissue values
  somewhat above OReilly2022, CSF underestimated by the method).
- Stanisz2005: Stanisz et al., Magn Reson Med 54:507 (T1, T2 at 3 T: white and grey matter, muscle,
  blood, optic nerve).
- Wansapura1999: Wansapura et al., J Magn Reson Imaging 9:531 (brain T1, T2, T2* at 3 T).
- Wright2008: Wright et al., MAGMA 21:121 (T1 at 3 T: white matter 838, cortex 1607, putamen 1332,
  caudate 1395 ms).
- Gold2004: Gold et al., AJR 183:343 (muscle, fat and marrow at 3 T).
- Lin2001: Lin et al., J Cereb Blood Flow Metab 21:213; Rooney2007: Rooney et al., Magn Reson Med
  57:308 (CSF; deep grey matter against field strength).
- Tofts2003: Tofts (ed.), Quantitative MRI of the Brain, Wiley, ch. 4 (proton density).

Values of tissue for which no measurement at 64 mT was found (skin, marrow, mucosa, nerve, blood,
dura, deep nuclei) are interpolated from the nearest measured one and jittered like the rest.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """One tissue: times in ms, proton density `pd` relative to CSF."""

    t1_low: float
    t2_low: float
    t1_high: float
    t2_high: float
    t2s_high: float
    pd: float


TISSUES: dict[str, Tissue] = {
    # OReilly2022 | T1 between Wansapura1999 (832) and Stanisz2005 (1084), T2 between Stanisz2005
    # (69) and Wansapura1999 (80), T2* Wansapura1999
    "white matter": Tissue(275, 102, 880, 72, 48, 0.70),
    # OReilly2022 | T1 between Wansapura1999 (1331) and Stanisz2005 (1820), T2 for the brightness
    # beside white matter that fast spin echoes show
    "cortex": Tissue(330, 110, 1500, 86, 52, 0.82),
    "cerebellar white matter": Tissue(280, 100, 900, 72, 46, 0.71),
    "cerebellar cortex": Tissue(325, 108, 1400, 84, 50, 0.81),
    # Wright2008, Rooney2007 for the order of the nuclei; iron shortens T2 of the pallidum
    "thalamus": Tissue(300, 100, 1120, 74, 46, 0.77),
    "caudate": Tissue(312, 103, 1280, 78, 44, 0.80),
    "putamen": Tissue(308, 101, 1230, 73, 40, 0.79),
    "pallidum": Tissue(285, 92, 980, 58, 30, 0.74),
    "brain-stem": Tissue(288, 98, 1000, 73, 46, 0.74),
    "hippocampus": Tissue(330, 112, 1450, 90, 50, 0.82),
    "lesion": Tissue(320, 130, 1250, 120, 60, 0.80),
    # OReilly2022 | Lin2001, Rooney2007
    "CSF": Tissue(3700, 1580, 4200, 1500, 800, 1.00),
    # OReilly2022 | Stanisz2005, Gold2004
    "muscle": Tissue(171, 39, 1410, 45, 28, 0.78),
    # Fat's several resonances dephase within a few ms at 3 T and its protons do not all count as
    # water's do: T2* and pd are effective values that give its usual brightness beside muscle. So
    # are its T2: the refocusing pulses of a fast spin echo hold back the decay by J-coupling
    # (Henkelman et al., Magn Reson Imaging 10:371, 1992), which makes fat as bright as CSF.
    "fat": Tissue(130, 150, 360, 260, 8, 0.92),
    "marrow": Tissue(140, 90, 480, 90, 6, 0.65),
    "skin": Tissue(190, 35, 1000, 35, 15, 0.60),
    # Water of cortical bone decays within a millisecond: what is left is what surrounds it.
    "bone": Tissue(120, 12, 500, 12, 4, 0.12),
    # Fresh blood flows in unsaturated and looks like a shorter T1 at 3 T; a spin echo loses what
    # flows out between its pulses (FLOW_VOID).
    "artery": Tissue(500, 250, 1000, 150, 50, 0.85),
    "vein": Tissue(450, 200, 1650, 60, 25, 0.80),
    "dura": Tissue(250, 50, 1200, 45, 20, 0.60),
    "eye": Tissue(3300, 1200, 4000, 1200, 500, 0.98),
    "mucosa": Tissue(280, 70, 1300, 65, 25, 0.80),
    "nerve": Tissue(285, 95, 1080, 78, 45, 0.72),
}

FLOWING, FLOW_VOID = ("artery", "vein"), 0.2  # share of signal that a spin echo leaves them

# Labels that the simulator adds to the label map's own (see anatomy.dress). A sulcus is cortex and
# CSF in one voxel; it takes its signal from both (anatomy.tables).
FAT, SULCUS = 600, 601

LABEL_TISSUE: dict[int, str] = {
    **dict.fromkeys((2, 41), "white matter"),
    **dict.fromkeys((3, 42), "cortex"),
    # FreeSurfer's "vessels" (30, 62) are the fluid about the vessels of the basal ganglia.
    **dict.fromkeys((4, 43, 5, 44, 14, 15, 24, 30, 62, 72, 136, 163), "CSF"),
    **dict.fromkeys((7, 46), "cerebellar white matter"),
    **dict.fromkeys((8, 47), "cerebellar cortex"),
    **dict.fromkeys((10, 49), "thalamus"),
    **dict.fromkeys((11, 50, 26, 58), "caudate"),
    **dict.fromkeys((12, 51), "putamen"),
    **dict.fromkeys((13, 52), "pallidum"),
    **dict.fromkeys((16, 28, 60), "brain-stem"),
    **dict.fromkeys((17, 53, 18, 54, 137, 164), "hippocampus"),
    **dict.fromkeys((25, 57), "lesion"),
    502: "artery",
    514: "vein",
    530: "dura",
    **dict.fromkeys((85, 508, 512), "nerve"),
    506: "eye",
    507: "muscle",
    509: "mucosa",
    511: "skin",
    515: "bone",
    516: "marrow",
    FAT: "fat",
}
TABLE_SIZE = SULCUS + 1
