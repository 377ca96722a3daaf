"""Table I of the review: tissue classes, atlases and statistical models, which are fitted and not trained."""

from __future__ import annotations

from SynthGANLib.recipes.base import FittedRecipe

HSU = (
    "Hsu S-H et al. Investigation of a method for generating synthetic CT models from MRI scans of the head and neck "
    "for radiation therapy. Phys Med Biol 2013;58:8419"
)
HOFMANN = (
    "Hofmann M et al. MRI-based attenuation correction for PET/MRI: a novel approach combining pattern recognition and "
    "atlas registration. J Nucl Med 2008;49:1875"
)
BURGOS = (
    "Burgos N et al. Attenuation correction synthesis for hybrid PET-MR scanners: application to brain studies. IEEE "
    "Trans Med Imaging 2014;33:2332"
)
JOHANSSON = (
    "Johansson A, Karlsson M, Nyholm T. CT substitute derived from MRI sequences with ultrashort echo time. Med Phys "
    "2011;38:2708"
)
TABLE = "Table I"
MR_CT = ("MR-CT",)

FITTED = (
    FittedRecipe(
        name="tissue",
        review="Tissue segmentation",
        table=TABLE,
        citation=HSU,
        certainty=0.7,
        directions=MR_CT,
        method="tissue",
        options={},
    ),
    FittedRecipe(
        name="tissue-echoes",
        review="Tissue segmentation (several echoes)",
        table=TABLE,
        citation=HSU,
        certainty=0.7,
        directions=MR_CT,
        method="tissue_echoes",
        options={"contrasts": ("ute-short", "ute-long"), "echo_times": (0.07, 2.46)},
    ),
    FittedRecipe(
        name="atlas-single",
        review="Atlas-based (the most similar one)",
        table=TABLE,
        citation=HOFMANN,
        certainty=0.8,
        directions=MR_CT,
        method="atlas",
        options={"fusion": "single"},
    ),
    FittedRecipe(
        name="atlas-mean",
        review="Atlas-based (mean)",
        table=TABLE,
        citation=HOFMANN,
        certainty=0.8,
        directions=MR_CT,
        method="atlas",
        options={"fusion": "mean"},
    ),
    FittedRecipe(
        name="atlas-median",
        review="Atlas-based (median)",
        table=TABLE,
        citation=HOFMANN,
        certainty=0.8,
        directions=MR_CT,
        method="atlas",
        options={"fusion": "median"},
    ),
    FittedRecipe(
        name="atlas-lncc",
        review="Atlas-based (local similarity)",
        table=TABLE,
        citation=BURGOS,
        certainty=0.8,
        directions=MR_CT,
        aliases=("LNCC-weighted multi-atlas with SimpleITK registration",),
        method="atlas",
        options={"fusion": "lncc"},
    ),
    FittedRecipe(
        name="gaussian-mixture",
        review="Learning-based (Gaussian mixture regression)",
        table=TABLE,
        citation=JOHANSSON,
        certainty=0.6,
        directions=MR_CT,
        method="mixture",
        options={},
    ),
    FittedRecipe(
        name="ridge",
        review="Learning-based (ridge regression)",
        table=TABLE,
        citation=JOHANSSON,
        certainty=0.5,
        directions=MR_CT,
        method="ridge",
        options={},
    ),
)
