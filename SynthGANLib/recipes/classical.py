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
    FittedRecipe("tissue", "Tissue segmentation", TABLE, HSU, 0.7, MR_CT, "tissue", {}),
    FittedRecipe("tissue-echoes", "Tissue segmentation (several echoes)", TABLE, HSU, 0.7, MR_CT, "tissue_echoes",
                 {"contrasts": ("ute-short", "ute-long"), "echo_times": (0.07, 2.46)}),
    FittedRecipe("atlas-single", "Atlas-based (the most similar one)", TABLE, HOFMANN, 0.8, MR_CT, "atlas",
                 {"fusion": "single"}),
    FittedRecipe("atlas-mean", "Atlas-based (mean)", TABLE, HOFMANN, 0.8, MR_CT, "atlas", {"fusion": "mean"}),
    FittedRecipe("atlas-median", "Atlas-based (median)", TABLE, HOFMANN, 0.8, MR_CT, "atlas", {"fusion": "median"}),
    FittedRecipe("atlas-lncc", "Atlas-based (local similarity)", TABLE, BURGOS, 0.8, MR_CT, "atlas",
                 {"fusion": "lncc"}, aliases=("LNCC-weighted multi-atlas with SimpleITK registration",)),
    FittedRecipe("gaussian-mixture", "Learning-based (Gaussian mixture regression)", TABLE, JOHANSSON, 0.6, MR_CT,
                 "mixture", {}),
    FittedRecipe("ridge", "Learning-based (ridge regression)", TABLE, JOHANSSON, 0.5, MR_CT, "ridge", {}),
)  # fmt: skip
