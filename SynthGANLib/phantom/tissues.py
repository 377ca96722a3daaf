"""Tissues of the simulated head: codes, relaxation times, Hounsfield units and FDG uptake, each with its source.

Relaxation times are those of the BrainWeb simulator at 1.5 T (Kwan, Evans and Pike, IEEE TMI 18:1085, 1999) where it
has the tissue. CSF differs: its T1 of 4.3 s and T2 of 1.4 s are chosen so that the inversion times of clinical FLAIR
null it. Blood, marrow and vitreous are rounded from de Bazelaire et al. (Radiology 230:652, 2004) and Stanisz
et al. (MRM 54:507, 2005). Cortical bone has a short T2 and a small proton density, so that it is dark in every ordinary
sequence (Du and Bydder, NMR Biomed 26:489, 2013). Hounsfield units are near those of the tissues of ICRU Report 44 as
Schneider, Pedroni and Lomax tabulate them (PMB 41:111, 1996), but for two, which are chosen: cortical bone lies between
the whole cranium and compact bone, and skin, thinner than a voxel, lies below its 75 HU. FDG uptake is SUVbw one hour
after injection in a fasting adult, rounded from Wang et al. (Mol Imaging Biol 9:83, 2007) and Zincirkeser et al. (J Int
Med Res 35:231, 2007).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """One tissue: `code` in the label volume, T1 and T2 in ms, proton density relative to water, HU, SUVbw."""

    code: int
    name: str
    t1: float
    t2: float
    pd: float
    hu: float
    hu_spread: float
    suv: float


AIR, FAT, MUSCLE, SKIN, CORTICAL, CANCELLOUS, CSF, GREY, WHITE, DEEP_GREY, CEREBELLUM = range(11)
BRAINSTEM, EYE, MUCOSA, ARTERY, VEIN, LESION, SOFT = range(11, 18)

TISSUES: tuple[Tissue, ...] = (
    Tissue(AIR, "air", 1.0, 1.0, 0.0, -1000.0, 3.0, 0.0),
    Tissue(FAT, "fat", 350.0, 70.0, 1.0, -95.0, 12.0, 0.3),
    Tissue(MUSCLE, "muscle", 900.0, 47.0, 0.85, 50.0, 8.0, 0.7),
    Tissue(SKIN, "skin", 700.0, 40.0, 0.75, 10.0, 20.0, 0.6),
    Tissue(CORTICAL, "cortical bone", 250.0, 1.5, 0.15, 1150.0, 80.0, 0.4),
    Tissue(CANCELLOUS, "cancellous bone", 400.0, 45.0, 0.45, 350.0, 50.0, 1.0),
    Tissue(CSF, "cerebrospinal fluid", 4300.0, 1400.0, 1.0, 8.0, 3.0, 0.4),
    Tissue(GREY, "gray matter", 833.0, 83.0, 0.86, 37.0, 3.0, 8.5),
    Tissue(WHITE, "white matter", 500.0, 70.0, 0.77, 29.0, 3.0, 2.6),
    Tissue(DEEP_GREY, "deep gray matter", 750.0, 75.0, 0.84, 38.0, 3.0, 8.0),
    Tissue(CEREBELLUM, "cerebellar cortex", 800.0, 82.0, 0.86, 36.0, 3.0, 6.5),
    Tissue(BRAINSTEM, "brain stem and cord", 580.0, 73.0, 0.79, 32.0, 4.0, 4.0),
    Tissue(EYE, "vitreous", 3000.0, 400.0, 0.98, 10.0, 4.0, 0.5),
    Tissue(MUCOSA, "mucosa", 1000.0, 75.0, 0.85, 30.0, 15.0, 1.5),
    Tissue(ARTERY, "arterial blood", 1550.0, 150.0, 0.9, 45.0, 5.0, 1.6),
    Tissue(VEIN, "venous blood", 1550.0, 110.0, 0.9, 48.0, 5.0, 1.6),
    Tissue(LESION, "lesion", 950.0, 120.0, 0.9, 22.0, 6.0, 5.0),
    Tissue(SOFT, "other soft tissue", 800.0, 50.0, 0.85, 40.0, 12.0, 0.8),
)
BY_NAME: Mapping[str, Tissue] = {t.name: t for t in TISSUES}

# Foreign label -> tissue of the whole-head label maps published with SynthSeg (Billot et al., Med Image Anal 2023):
# the cerebral numbers are FreeSurfer's, the extra-cerebral ones (above 500) were read from position and shape.
# 507 mixes fat and muscle: it becomes SOFT here and `split_soft_tissue` divides it.
HEAD_LABELS: Mapping[int, int] = {
    0: AIR,
    **dict.fromkeys((2, 41, 85), WHITE),
    **dict.fromkeys((3, 42), GREY),
    **dict.fromkeys((4, 43, 5, 44, 14, 15, 72, 24, 31, 63), CSF),
    **dict.fromkeys((7, 46), WHITE),
    **dict.fromkeys((8, 47), CEREBELLUM),
    **dict.fromkeys((10, 11, 12, 13, 49, 50, 51, 52, 17, 18, 53, 54, 26, 58, 28, 60), DEEP_GREY),
    **dict.fromkeys((16, 512, 530), BRAINSTEM),
    **dict.fromkeys((25, 57), LESION),
    **dict.fromkeys((30, 62, 136, 137, 163, 164), GREY),
    502: ARTERY,
    506: EYE,
    507: SOFT,
    508: MUSCLE,
    509: MUCOSA,
    511: SKIN,
    514: VEIN,
    515: CORTICAL,
    516: CANCELLOUS,
}
