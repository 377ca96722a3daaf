"""Paired translation with an adversary: pix2pix and its relatives."""

from __future__ import annotations

from dataclasses import replace

from SynthGANLib.recipes.base import Optimiser, Recipe, Setup, cascade, net
from SynthGANLib.regimes.paired import PairedAdversarial, PairedConfig

ARMANIOUS = "Armanious K et al. MedGAN: medical image translation using GANs. Comput Med Imaging Graph 2020;79:101684"

# U-Net against PatchGAN, 100 L1.
PIX2PIX = Setup(
    networks={
        "generator": net("StridedUNet", downs=8, base=64, dropout=0.5),
        "discriminator": net("PatchDiscriminator", dims=2, in_channels=2, base=64, layers=3, norm="instance"),
    },
    regime=PairedAdversarial,
    config=PairedConfig(),
    dims=2,
    patch=(256, 256),
    steps=200_000,
)

# CasNet of six U-blocks, discriminator of 16 pixels, its features as a perceptual loss, three steps to one.
#
# Style and content need VGG19's weights: `--set config.vgg=FILE config.style=1e-4 config.content=1e-4`.
MEDGAN = Setup(
    networks={
        "generator": cascade(
            net("StridedUNet", downs=8, base=64, dropout=0.5),
            net("StridedUNet", downs=8, base=64, dropout=0.5),
            net("StridedUNet", downs=8, base=64, dropout=0.5),
            net("StridedUNet", downs=8, base=64, dropout=0.5),
            net("StridedUNet", downs=8, base=64, dropout=0.5),
            net("StridedUNet", downs=8, base=64, dropout=0.5),
            inputs="prev",
        ),
        "discriminator": net("PatchDiscriminator", dims=2, in_channels=2, base=64, layers=1, norm="instance"),
    },
    regime=PairedAdversarial,
    config=PairedConfig(l1=0.0, discriminator=1.0, feature=20.0, generator_turns=3),
    dims=2,
    patch=(256, 256),
    steps=200_000,
)

PIX2PIX_TINY = {
    "networks.generator.arguments.downs": 3,
    "networks.generator.arguments.base": 8,
    "networks.generator.arguments.dropout": 0.0,
    "networks.discriminator.arguments.base": 8,
    "networks.discriminator.arguments.layers": 1,
    "patch": (32, 32),
}

MEDGAN_TINY = {
    "networks.generator": cascade(
        net("StridedUNet", downs=3, base=8, dropout=0.0),
        net("StridedUNet", downs=3, base=8, dropout=0.0),
        inputs="prev",
    ),
    "networks.discriminator.arguments.base": 8,
    "patch": (32, 32),
}

RECIPES = (
    Recipe(
        name="pix2pix",
        review="pix2pix",
        table="Table III, MRI-CT",
        citation="Isola P et al. Image-to-image translation with conditional adversarial networks. CVPR 2017",
        certainty=0.95,
        directions=("MR-CT", "CT-MR"),
        data="paired",
        setup=PIX2PIX,
        tiny_settings=PIX2PIX_TINY,
    ),
    Recipe(
        name="pix2pix-pet-mr",
        review="pix2pix",
        table="Table III, PET-MRI",
        citation="Choi H, Lee DS. Generation of structural MR images from amyloid PET. J Nucl Med 2018;59:1111",
        certainty=1.0,
        directions=("PET-MR",),
        data="paired",
        setup=PIX2PIX,
        tiny_settings=PIX2PIX_TINY,
    ),
    # Residual generator against a PatchGAN that sees both images (Emami 2018).
    Recipe(
        name="cgan-emami",
        review="Conditional GAN",
        table="Table III, MRI-CT",
        citation=(
            "Emami H et al. Generating synthetic CTs from magnetic resonance images using generative "
            "adversarial networks. Med Phys 2018;45:3627"
        ),
        certainty=0.7,
        directions=("MR-CT",),
        data="paired",
        setup=Setup(
            networks={
                "generator": net("ResNetTranslator", base=64, blocks=9),
                "discriminator": net("PatchDiscriminator", dims=2, in_channels=2, base=64, layers=3, norm="instance"),
            },
            regime=PairedAdversarial,
            config=PairedConfig(),
            dims=2,
            patch=(256, 256),
            steps=200_000,
        ),
        tiny_settings={
            "networks.generator.arguments.base": 8,
            "networks.generator.arguments.blocks": 1,
            "networks.discriminator.arguments.base": 8,
            "networks.discriminator.arguments.layers": 1,
            "patch": (32, 32),
        },
    ),
    # FCN, gradient difference and an adversary that sees the CT alone (Nie 2017).
    Recipe(
        name="gan-nie",
        review="GAN based",
        table="Table II",
        citation=(
            "Nie D et al. Medical image synthesis with context-aware generative adversarial networks. MICCAI "
            "2017; IEEE TBME 2018;65:2720"
        ),
        certainty=0.9,
        directions=("MR-CT",),
        data="paired",
        setup=Setup(
            networks={
                "generator": net("ConvStack", layers="nie2017", norm="batch"),
                "discriminator": net("NieDiscriminator", size=16, widths=[32, 64, 128, 256]),
            },
            regime=PairedAdversarial,
            config=PairedConfig(l1=0.0, l2=1.0, gdl=1.0, adversarial=0.05, discriminator=1.0, conditional=False),
            dims=3,
            patch=(32, 32, 32),
            batch=10,
            steps=100_000,
            optimisers={"*": Optimiser(rate=1e-4)},
        ),
        tiny_settings={
            "networks.generator.arguments.layers": [[5, 8, "valid"], [3, 8, "same"], [3, 1, "same"]],
            "networks.generator.arguments.norm": "instance",
            "networks.discriminator.arguments.size": 12,
            "networks.discriminator.arguments.widths": [4, 8],
            "patch": (16, 16, 16),
            "batch": 2,
        },
    ),
    # 3D U-Net generator, conditional 3D PatchGAN, on whole small brains (baseline of Sun 2019).
    Recipe(
        name="ucgan",
        review="UcGAN",
        table="Table III, MRI-PET",
        citation=(
            "Sun H et al. DUAL-GLOW: conditional flow-based generative model for modality transfer. ICCV 2019 "
            "(a baseline of)"
        ),
        certainty=0.75,
        directions=("MR-PET",),
        data="paired",
        setup=Setup(
            networks={
                "generator": net("StridedUNet", downs=4, base=64, dropout=0.5, dims=3),
                "discriminator": net("PatchDiscriminator", dims=3, in_channels=2, base=64, layers=2, norm="instance"),
            },
            regime=PairedAdversarial,
            config=PairedConfig(),
            dims=3,
            patch=(48, 64, 48),
            steps=100_000,
        ),
        tiny_settings={
            "networks.generator.arguments.downs": 2,
            "networks.generator.arguments.base": 8,
            "networks.generator.arguments.dropout": 0.0,
            "networks.discriminator.arguments.base": 8,
            "networks.discriminator.arguments.layers": 1,
            "patch": (16, 16, 16),
        },
    ),
    # Generator and discriminator are given an image as the condition; no skips (Mirza 2014 by way of Isola 2017).
    Recipe(
        name="cgan-image",
        review="Conditional GAN",
        table="Section II-C.2",
        citation="Mirza M, Osindero S. Conditional generative adversarial nets. arXiv 1411.1784, 2014",
        certainty=1.0,
        directions=("MR-CT", "CT-MR", "MR-PET", "PET-MR"),
        data="paired",
        aliases=("cGAN", "conditional GAN (image)"),
        setup=Setup(
            networks={
                "generator": net("StridedUNet", downs=8, base=64, dropout=0.5, skips=False),
                "discriminator": net("PatchDiscriminator", dims=2, in_channels=2, base=64, layers=3, norm="instance"),
            },
            regime=PairedAdversarial,
            config=PairedConfig(),
            dims=2,
            patch=(256, 256),
            steps=200_000,
        ),
        tiny_settings=PIX2PIX_TINY,
    ),
    Recipe(
        name="medgan-mr-pet",
        review="MedGAN",
        table="Table III, MRI-PET",
        citation=ARMANIOUS,
        certainty=0.9,
        directions=("MR-PET",),
        data="paired",
        setup=MEDGAN,
        tiny_settings=MEDGAN_TINY,
    ),
    Recipe(
        name="medgan-pet-ct",
        review="CGAN",
        table="Table III, PET-CT",
        citation=ARMANIOUS,
        certainty=0.9,
        directions=("PET-CT",),
        data="paired",
        aliases=("MedGAN PET-to-CT",),
        setup=MEDGAN,
        tiny_settings=MEDGAN_TINY,
    ),
    # MedGAN from images that the patient moved in (Armanious 2019a).
    Recipe(
        name="medgan-motion",
        review="MR motion correction",
        table="Table III, PET-CT",
        citation=ARMANIOUS,
        certainty=0.9,
        directions=("MR-MR",),
        data="paired",
        setup=replace(MEDGAN, corrupt={"kind": "motion"}),
        tiny_settings=MEDGAN_TINY,
    ),
    # MedGAN from PET of a quarter of the dose.
    Recipe(
        name="medgan-denoise",
        review="PET denoising",
        table="Table III, PET-CT",
        citation=ARMANIOUS,
        certainty=0.9,
        directions=("PET-PET",),
        data="paired",
        setup=replace(MEDGAN, corrupt={"kind": "low_dose"}),
        tiny_settings=MEDGAN_TINY,
    ),
)
