"""Every system of the review is the first hit of a search for its name there."""

from __future__ import annotations

import pytest

from SynthGANLib.recipes.registry import FITTED, RECIPES, find

# what a person types, by the review's tables and sections -> the recipe that is meant
MEANT = {
    # Table I
    "tissue segmentation": "tissue",
    "atlas-based (single)": "atlas-single",
    "atlas-based (mean)": "atlas-mean",
    "atlas-based (median)": "atlas-median",
    "LNCC-weighted": "atlas-lncc",
    "multi-atlas": "atlas-lncc",
    "Gaussian mixture regression": "gaussian-mixture",
    "ridge": "ridge",
    # Table II
    "CNN (Li 2014)": "cnn",
    "Li 2014": "cnn",
    "Deep CNN": "decnn",
    "Deep CNN (DECNN)": "decnn",
    "FCNN (Nie 2016)": "fcnn",
    "U-Net (Han 2017)": "unet-han",
    "Han 2017": "unet-han",
    "GAN based (Nie)": "gan-nie",
    # Section II-C and its figures
    "vanilla GAN": "gan",
    "WGAN": "wgan",
    "Wasserstein GAN": "wgan",
    "WGAN-GP": "wgan-gp",
    "conditional GAN (label)": "cgan-label",
    "conditional GAN (image)": "cgan-image",
    "ARGAN": "argan",
    "Autoregressive GAN": "argan",
    "CycleGAN": "cyclegan",
    "CycleGAN (forward and backward cycle)": "cyclegan",
    "UNIT": "unit",
    "DCGAN": "dcgan",
    # Table III, MRI-CT
    "CycleGAN (Wolterink)": "cyclegan-wolterink",
    "pix2pix": "pix2pix",
    "3D U-Net": "unet-3d",
    "Cascade GAN": "cascade-gan",
    "Cascade GAN (auto-context)": "cascade-gan",
    "auto-context": "cascade-gan",
    "Cycle Consistent GAN": "cyclegan-gradient",
    "cycle-consistent GAN (Hiasa)": "cyclegan-gradient",
    "cycle-consistent GAN (gradient consistency, Hiasa)": "cyclegan-gradient",
    "conditional GAN (Emami)": "cgan-emami",
    # Table III, MRI-PET
    "MedGAN": "medgan-mr-pet",
    "cascade cGAN": "sketcher-refiner",
    "sketcher-refiner": "sketcher-refiner",
    "Sketcher\N{EN DASH}Refiner": "sketcher-refiner",
    "3D CycleGAN": "cyclegan-3d",
    "3D cycle-consistent GAN": "cyclegan-3d",
    "3D cycle-consistent GAN (Pan)": "cyclegan-3d",
    "DCGAN per class": "dcgan-pet",
    "DUAL-GLOW": "dual-glow",
    "dual glow": "dual-glow",
    "UcGAN": "ucgan",
    "FREA-UNet": "frea-unet",
    "FREAUNET": "frea-unet",
    # Table III, CT-MRI
    "MR-GAN": "mr-gan",
    "MR-GAN (MGAN)": "mr-gan",
    "MGAN": "mr-gan",
    "U-Net CT-MRI": "unet-ct-mr",
    # Table III, vessel-fundus
    "CycleGAN vessel-fundus": "cyclegan-fundus",
    "pix2pix vessel-fundus": "pix2pix-fundus",
    "pix2pix + ResU-Net": "pix2pix-resunet",
    "pix2pix+ResUNet": "pix2pix-resunet",
    "MCML input": "mcml",
    "MCML-GANs": "mcml",
    "pix2pix (Costa renderer)": "vessels-fundus",
    "pix2pix (end to end)": "retina",
    "vessel autoencoder": "retina",
    # Table III, CT-PET, PET-CT, PET-MRI
    "FCN + cGAN": "fcn-cgan",
    "FCN and cGAN": "fcn-cgan",
    "SUV-weighted": "fcn-cgan",
    "MedGAN PET-to-CT": "medgan-pet-ct",
    "MR motion correction": "medgan-motion",
    "PET denoising": "medgan-denoise",
    "pix2pix (Choi)": "pix2pix-pet-mr",
    # references
    "low-dose PET": "low-dose-pet",
    "low-dose PET 3D cGAN": "low-dose-pet",
    "3D cGAN": "low-dose-pet",
    "ip-MedGAN inpainting": "inpainting",
    "mDCSRN super-resolution": "super-resolution",
    "mDCSRN-GAN": "super-resolution",
    "progressive growing": "pggan",
    "progressive growing GAN": "pggan",
    "LAPGAN": "lapgan",
    "DDGAN": "ddgan",
    "augmentation": "augmentation",
    "augmentation with joint image + label": "augmentation",
    "CycleGAN with masks (Chartsias)": "cyclegan-masks",
    "lung-nodule DCGAN": "dcgan-nodules",
}


@pytest.mark.parametrize(("name", "expected"), MEANT.items(), ids=list(MEANT))
def test_name_of_the_review_finds_its_recipe_first(name, expected):
    found = [entry.name for entry in find(name)]
    assert found[:1] == [expected], found


@pytest.mark.parametrize("name", [*FITTED, *RECIPES])
def test_own_name_comes_first_however_it_is_written(name):
    for written in (name, name.upper(), name.replace("-", " "), name.replace("-", ""), f"  {name} "):
        assert find(written)[0].name == name, written


@pytest.mark.parametrize("entry", [*FITTED.values(), *RECIPES.values()], ids=lambda entry: entry.name)
def test_review_name_and_aliases_find_their_recipe(entry):
    """Several may be called the same in the review: then it is among them, before all that only mention it."""
    for name in (entry.review, *entry.aliases):
        same = [other.name for other in (*FITTED.values(), *RECIPES.values()) if name in (other.review, *other.aliases)]
        assert entry.name in [found.name for found in find(name)][: len(same) + 1], name


def test_all_words_count():
    assert find("pix2pix nobody") == []
    assert find("nothing like it") == []
    assert {"cyclegan", "unit", "mr-gan"} <= {entry.name for entry in find("unpaired")}


def test_a_word_begins_a_word_of_the_citation_or_description():
    assert {entry.name for entry in find("Pan")} == {"cyclegan-3d"}
    assert "dcgan" not in [entry.name for entry in find("conditional")]  # "unconditional" is not that
    assert "atlas-lncc" in [entry.name for entry in find("brain PET")]  # "application to brain studies", "PET-MR"


def test_a_direction_is_found_however_it_is_written():
    assert find("MR-CT")
    assert find("MRI-CT") == find("mr-ct") == find("MR to CT")
    assert find("CT-MR") == find("CT to MRI")
    assert "unet-ct-mr" in [entry.name for entry in find("CT to MRI")]
    assert "unet-3d" not in [entry.name for entry in find("CT to MRI")]  # from MR to CT only


@pytest.mark.parametrize("modality", ["MR", "CT", "PET", "fundus", "vessels"])
def test_a_modality_finds_every_recipe_from_or_to_it(modality):
    entries = [*FITTED.values(), *RECIPES.values()]
    wanted = {entry.name for entry in entries if any(modality in pair.split("-") for pair in entry.directions)}
    assert wanted
    assert wanted <= {entry.name for entry in find(modality)}


@pytest.mark.parametrize("written", ["MR PET", "MRI - PET", "PET, MR"])
def test_both_modalities_find_the_recipes_between_them(written):
    wanted = {entry.name for entry in RECIPES.values() if {"MR-PET", "PET-MR"} & set(entry.directions)}
    assert wanted <= {entry.name for entry in find(written)}


@pytest.mark.parametrize("written", ["3D U-Net", "3d unet", "3D UNET", "u-net 3d"])
def test_hyphens_case_and_order_do_not_matter(written):
    assert find(written)[0].name == "unet-3d"


def test_no_text_lists_all_as_they_are():
    names = [*FITTED, *RECIPES]
    assert [entry.name for entry in find("")] == [entry.name for entry in find(" - ")] == names
