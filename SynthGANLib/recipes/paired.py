"""Paired translation with an adversary: pix2pix and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from SynthGANLib.recipes.base import Net, Optimiser, Pick, Recipe, Setup
from SynthGANLib.regimes.paired import PairedAdversarial, PairedConfig

ISOLA = "Isola P et al. Image-to-image translation with conditional adversarial networks. CVPR 2017"
MEDGAN = "Armanious K et al. MedGAN: medical image translation using GANs. Comput Med Imaging Graph 2020;79:101684"


def patch_critic(pick: Pick, channels: int, dims: int = 2, **others: Any) -> Net:
    """The PatchGAN that sees 70 pixels, instance norm: batches of one image."""
    arguments = {"dims": dims, "in_channels": channels, "base": pick(64, 8), "layers": pick(3, 1), "norm": "instance"}
    return Net("PatchDiscriminator", {**arguments, **others})


def strided(pick: Pick, **others: Any) -> Net:
    """The pix2pix U-Net."""
    arguments: Mapping[str, Any] = {"downs": pick(8, 3), "base": pick(64, 8), "dropout": pick(0.5, 0.0)}
    return Net("StridedUNet", {**arguments, **others})


def pix2pix(pick: Pick) -> Setup:
    """U-Net against PatchGAN, 100 L1."""
    return Setup(
        networks={"generator": strided(pick), "discriminator": patch_critic(pick, 2)},
        regime=PairedAdversarial, config=PairedConfig(), dims=2, patch=pick((256, 256), (32, 32)), steps=200_000,
    )  # fmt: skip


def cgan_emami(pick: Pick) -> Setup:
    """Residual generator against a PatchGAN that sees both images (Emami 2018)."""
    generator = Net("ResNetTranslator", {"base": pick(64, 8), "blocks": pick(9, 1)})
    return Setup(
        networks={"generator": generator, "discriminator": patch_critic(pick, 2)},
        regime=PairedAdversarial, config=PairedConfig(), dims=2, patch=pick((256, 256), (32, 32)), steps=200_000,
    )  # fmt: skip


def fcn_nie(pick: Pick, **others: Any) -> Net:
    """The fully convolutional network of Nie 2017."""
    layers = pick("nie2017", [[5, 8, "valid"], [3, 8, "same"], [3, 1, "same"]])
    return Net("ConvStack", {"layers": layers, "norm": pick("batch", "instance"), **others})


def critic_nie(pick: Pick) -> Net:
    """The discriminator of Nie 2017."""
    return Net("NieDiscriminator", {"size": pick(16, 12), "widths": pick([32, 64, 128, 256], [4, 8])})


def gan_nie(pick: Pick) -> Setup:
    """FCN, gradient difference and an adversary that sees the CT alone (Nie 2017)."""
    return Setup(
        networks={"generator": fcn_nie(pick), "discriminator": critic_nie(pick)},
        regime=PairedAdversarial,
        config=PairedConfig(l1=0.0, l2=1.0, gdl=1.0, adversarial=0.05, conditional=False, discriminator=1.0),
        dims=3, patch=pick((32, 32, 32), (16, 16, 16)), batch=pick(10, 2), steps=100_000,
        optimisers={"*": Optimiser(rate=1e-4)},
    )  # fmt: skip


def ucgan(pick: Pick) -> Setup:
    """3D U-Net generator, conditional 3D PatchGAN, on whole small brains (baseline of Sun 2019)."""
    generator = strided(pick, dims=3, downs=pick(4, 2))
    return Setup(
        networks={"generator": generator, "discriminator": patch_critic(pick, 2, 3, layers=pick(2, 1))},
        regime=PairedAdversarial, config=PairedConfig(), dims=3, patch=pick((48, 64, 48), (16, 16, 16)),
        steps=100_000,
    )  # fmt: skip


def cgan_image(pick: Pick) -> Setup:
    """Generator and discriminator are given an image as the condition; no skips (Mirza 2014 by way of Isola 2017)."""
    return Setup(
        networks={"generator": strided(pick, skips=False), "discriminator": patch_critic(pick, 2)},
        regime=PairedAdversarial, config=PairedConfig(), dims=2, patch=pick((256, 256), (32, 32)), steps=200_000,
    )  # fmt: skip


def casnet(pick: Pick, blocks: int) -> Net:
    """U-blocks in series, each fed with the one before (MedGAN)."""
    block = strided(pick)
    stage = {"name": block.name, "arguments": dict(block.arguments)}
    return Net("Cascade", {"stages": [stage] * blocks, "inputs": "prev"})


def medgan(pick: Pick) -> Setup:
    """CasNet of six U-blocks, discriminator of 16 pixels, its features as a perceptual loss, three steps to one.

    Style and content need VGG19's weights: `--set config.vgg=FILE config.style=1e-4 config.content=1e-4`.
    """
    return Setup(
        networks={"generator": casnet(pick, pick(6, 2)), "discriminator": patch_critic(pick, 2, layers=1)},
        regime=PairedAdversarial, config=PairedConfig(l1=0.0, feature=20.0, generator_turns=3, discriminator=1.0),
        dims=2, patch=pick((256, 256), (32, 32)), steps=200_000,
    )  # fmt: skip


def medgan_motion(pick: Pick) -> Setup:
    """MedGAN from images that the patient moved in (Armanious 2019a)."""
    return replace(medgan(pick), corrupt={"kind": "motion"})


def medgan_denoise(pick: Pick) -> Setup:
    """MedGAN from PET of a quarter of the dose."""
    return replace(medgan(pick), corrupt={"kind": "low_dose"})


RECIPES = (
    Recipe("pix2pix", "pix2pix", "Table III, MRI-CT", ISOLA, 0.95, ("MR-CT", "CT-MR"), "paired", pix2pix),
    Recipe(
        "pix2pix-pet-mr", "pix2pix", "Table III, PET-MRI",
        "Choi H, Lee DS. Generation of structural MR images from amyloid PET. J Nucl Med 2018;59:1111",
        1.0, ("PET-MR",), "paired", pix2pix,
    ),
    Recipe(
        "cgan-emami", "Conditional GAN", "Table III, MRI-CT",
        "Emami H et al. Generating synthetic CTs from magnetic resonance images using generative adversarial "
        "networks. Med Phys 2018;45:3627",
        0.7, ("MR-CT",), "paired", cgan_emami,
    ),
    Recipe(
        "gan-nie", "GAN based", "Table II",
        "Nie D et al. Medical image synthesis with context-aware generative adversarial networks. MICCAI "
        "2017; IEEE TBME 2018;65:2720",
        0.9, ("MR-CT",), "paired", gan_nie,
    ),
    Recipe(
        "ucgan", "UcGAN", "Table III, MRI-PET",
        "Sun H et al. DUAL-GLOW: conditional flow-based generative model for modality transfer. ICCV 2019 (a "
        "baseline of)",
        0.75, ("MR-PET",), "paired", ucgan,
    ),
    Recipe(
        "cgan-image", "Conditional GAN", "Section II-C.2",
        "Mirza M, Osindero S. Conditional generative adversarial nets. arXiv 1411.1784, 2014",
        1.0, ("MR-CT", "CT-MR", "MR-PET", "PET-MR"), "paired", cgan_image,
        aliases=("cGAN", "conditional GAN (image)"),
    ),
    Recipe("medgan-mr-pet", "MedGAN", "Table III, MRI-PET", MEDGAN, 0.9, ("MR-PET",), "paired", medgan),
    Recipe(
        "medgan-pet-ct", "CGAN", "Table III, PET-CT", MEDGAN, 0.9, ("PET-CT",), "paired", medgan,
        aliases=("MedGAN PET-to-CT",),
    ),
    Recipe(
        "medgan-motion", "MR motion correction", "Table III, PET-CT", MEDGAN, 0.9, ("MR-MR",), "paired", medgan_motion,
    ),
    Recipe(
        "medgan-denoise", "PET denoising", "Table III, PET-CT", MEDGAN, 0.9, ("PET-PET",), "paired", medgan_denoise,
    ),
)  # fmt: skip
