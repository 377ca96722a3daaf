"""Two domains without pairs, or with some: CycleGAN and its medical variants, MR-GAN, UNIT."""

from __future__ import annotations

from dataclasses import replace

from SynthGANLib.recipes.base import Optimiser, Recipe, Setup, net
from SynthGANLib.regimes.cycle import Cycle, CycleConfig
from SynthGANLib.regimes.mixed import Mixed, MixedConfig
from SynthGANLib.regimes.unit import PAPER, Unit, UnitConfig

LIU = "Liu M-Y, Breuel T, Kautz J. Unsupervised image-to-image translation networks. NeurIPS 2017"

# Least squares, 10 cycle (forward and backward), 5 identity, replay pool of 50 (Zhu 2017).
CYCLEGAN = Setup(
    networks={
        "generator_ab": net("ResNetTranslator", in_channels=1, out_channels=1, base=64, blocks=9),
        "generator_ba": net("ResNetTranslator", in_channels=1, out_channels=1, base=64, blocks=9),
        "discriminator_a": net("PatchDiscriminator", dims=2, in_channels=1, base=64, layers=3, norm="instance"),
        "discriminator_b": net("PatchDiscriminator", dims=2, in_channels=1, base=64, layers=3, norm="instance"),
    },
    regime=Cycle,
    config=CycleConfig(),
    dims=2,
    patch=(256, 256),
    steps=200_000,
)

CYCLEGAN_TINY = {
    "networks.generator_ab.arguments.base": 8,
    "networks.generator_ab.arguments.blocks": 1,
    "networks.generator_ba.arguments.base": 8,
    "networks.generator_ba.arguments.blocks": 1,
    "networks.discriminator_a.arguments.base": 8,
    "networks.discriminator_a.arguments.layers": 1,
    "networks.discriminator_b.arguments.base": 8,
    "networks.discriminator_b.arguments.layers": 1,
    "patch": (32, 32),
}

UNIT_TINY = {
    "networks.generator.arguments.base": 8,
    "networks.generator.arguments.blocks": 1,
    "networks.discriminator_a.arguments.base": 8,
    "networks.discriminator_a.arguments.scales": 2,
    "networks.discriminator_a.arguments.layers": 2,
    "networks.discriminator_b.arguments.base": 8,
    "networks.discriminator_b.arguments.scales": 2,
    "networks.discriminator_b.arguments.layers": 2,
    "patch": (32, 32),
    "decay": 0.0,
}

RECIPES = (
    Recipe(
        name="cyclegan",
        review="CycleGAN",
        table="Section II-C.4",
        citation=(
            "Zhu J-Y et al. Unpaired image-to-image translation using cycle-consistent adversarial networks. ICCV 2017"
        ),
        certainty=1.0,
        directions=("MR-CT", "CT-MR"),
        data="unpaired",
        aliases=("CycleGAN (forward and backward cycle)",),
        setup=CYCLEGAN,
        tiny_settings=CYCLEGAN_TINY,
    ),
    Recipe(
        name="cyclegan-wolterink",
        review="CycleGAN",
        table="Table III, MRI-CT",
        citation="Wolterink JM et al. Deep MR to CT synthesis using unpaired data. SASHIMI 2017",
        certainty=0.9,
        directions=("MR-CT",),
        data="unpaired",
        setup=CYCLEGAN,
        tiny_settings=CYCLEGAN_TINY,
    ),
    # CycleGAN with gradient consistency (Hiasa 2018).
    Recipe(
        name="cyclegan-gradient",
        review="Cycle Consistent GAN",
        table="Table III, MRI-CT",
        citation=(
            "Hiasa Y et al. Cross-modality image synthesis from unpaired data using CycleGAN: effects of "
            "gradient consistency loss and training data size. SASHIMI 2018"
        ),
        certainty=0.7,
        directions=("MR-CT",),
        data="unpaired",
        aliases=("cycle-consistent GAN (gradient consistency)",),
        setup=replace(CYCLEGAN, config=CycleConfig(cycle=3.0, identity=0.0, gradient=0.3)),
        tiny_settings=CYCLEGAN_TINY,
    ),
    # Whole brains in 3D, cycle weight 1, absolute adversarial error (Pan 2018).
    Recipe(
        name="cyclegan-3d",
        review="3D CycleGAN; 3D cycle-consistent GAN",
        table="Table III, MRI-PET",
        citation=(
            "Pan Y et al. Synthesizing missing PET from MRI with cycle-consistent generative adversarial "
            "networks for Alzheimer's disease diagnosis. MICCAI 2018;11072:455"
        ),
        certainty=0.95,
        directions=("MR-PET", "PET-MR"),
        data="paired",
        aliases=("3D CycleGAN", "3D cycle-consistent GAN"),
        setup=Setup(
            networks={
                "generator_ab": net("PanResNet", base=8, blocks=3),
                "generator_ba": net("PanResNet", base=8, blocks=3),
                "discriminator_a": net("PanDiscriminator", base=16),
                "discriminator_b": net("PanDiscriminator", base=16),
            },
            regime=Cycle,
            config=CycleConfig(mode="lsgan_abs", cycle=1.0, identity=0.0, pool=0),
            dims=3,
            patch=(144, 176, 144),
            steps=100_000,
        ),
        tiny_settings={
            "networks.generator_ab.arguments.base": 4,
            "networks.generator_ab.arguments.blocks": 1,
            "networks.generator_ba.arguments.base": 4,
            "networks.generator_ba.arguments.blocks": 1,
            "networks.discriminator_a.arguments.base": 4,
            "networks.discriminator_b.arguments.base": 4,
            "patch": (24, 24, 24),
        },
    ),
    # CycleGAN on images with their segmentation as a second channel (Chartsias 2017).
    Recipe(
        name="cyclegan-masks",
        review="CycleGAN (with masks)",
        table="Reference 8",
        citation=("Chartsias A et al. Adversarial image synthesis for unpaired multi-modal cardiac data. SASHIMI 2017"),
        certainty=1.0,
        directions=("CT-MR",),
        data="unpaired",
        setup=Setup(
            networks={
                "generator_ab": net("ResNetTranslator", in_channels=2, out_channels=2, base=64, blocks=9),
                "generator_ba": net("ResNetTranslator", in_channels=2, out_channels=2, base=64, blocks=9),
                "discriminator_a": net("PatchDiscriminator", dims=2, in_channels=2, base=64, layers=3, norm="instance"),
                "discriminator_b": net("PatchDiscriminator", dims=2, in_channels=2, base=64, layers=3, norm="instance"),
            },
            regime=Cycle,
            config=CycleConfig(),
            dims=2,
            patch=(256, 256),
            channels=(2, 2),
            steps=200_000,
        ),
        tiny_settings=CYCLEGAN_TINY,
    ),
    # Paired and unpaired steps in turn, discriminators with two heads on one trunk (Jin 2019).
    Recipe(
        name="mr-gan",
        review="MGAN",
        table="Table III, CT-MRI",
        citation="Jin C-B et al. Deep CT to MR synthesis using paired and unpaired data. Sensors 2019;19:2361",
        certainty=0.97,
        directions=("CT-MR", "MR-CT"),
        data="mixed",
        setup=Setup(
            networks={
                "generator_ab": net("ResNetTranslator", in_channels=1, out_channels=1, base=64, blocks=9),
                "generator_ba": net("ResNetTranslator", in_channels=1, out_channels=1, base=64, blocks=9),
                "discriminator_a": net("DualHeadDiscriminator", base=64),
                "discriminator_b": net("DualHeadDiscriminator", base=64),
            },
            regime=Mixed,
            config=MixedConfig(),
            dims=2,
            patch=(256, 256),
            steps=400_000,
        ),
        tiny_settings={
            "networks.generator_ab.arguments.base": 8,
            "networks.generator_ab.arguments.blocks": 1,
            "networks.generator_ba.arguments.base": 8,
            "networks.generator_ba.arguments.blocks": 1,
            "networks.discriminator_a.arguments.base": 8,
            "networks.discriminator_b.arguments.base": 8,
            "patch": (64, 64),
        },
    ),
    # Coupled variational autoencoders with one space of codes (Liu 2017, released program).
    #
    # The perceptual term needs VGG19's weights: `--set config.vgg=FILE config.perceptual=1`.
    Recipe(
        name="unit",
        review="UNIT",
        table="Section II-C, figure 7",
        citation=LIU,
        certainty=1.0,
        directions=("MR-MR", "MR-CT", "CT-MR"),
        data="unpaired",
        setup=Setup(
            networks={
                "generator": net("UnitTranslator", base=64, blocks=4),
                "discriminator_a": net("MultiScaleDiscriminator", base=64, scales=3, layers=4),
                "discriminator_b": net("MultiScaleDiscriminator", base=64, scales=3, layers=4),
            },
            regime=Unit,
            config=UnitConfig(),
            dims=2,
            patch=(256, 256),
            steps=1_000_000,
            optimisers={"*": Optimiser(rate=1e-4, weight_decay=1e-4)},
            schedule="halving",
            decay=0.1,
            initialise="kaiming",
        ),
        tiny_settings=UNIT_TINY,
    ),
    # With a block that both encoders share, and one that both decoders share, and the paper's weights (Liu 2017).
    Recipe(
        name="unit-paper",
        review="UNIT (layers of the paper)",
        table="Section II-C, figure 7",
        citation=LIU,
        certainty=1.0,
        directions=("MR-MR", "MR-CT", "CT-MR"),
        data="unpaired",
        setup=Setup(
            networks={
                "generator": net("PaperUnit", base=64, blocks=3),
                "discriminator_a": net("MultiScaleDiscriminator", base=64, scales=3, layers=4),
                "discriminator_b": net("MultiScaleDiscriminator", base=64, scales=3, layers=4),
            },
            regime=Unit,
            config=PAPER,
            dims=2,
            patch=(256, 256),
            steps=1_000_000,
            optimisers={"*": Optimiser(rate=1e-4, weight_decay=1e-4)},
            schedule="halving",
            decay=0.1,
            initialise="kaiming",
        ),
        tiny_settings=UNIT_TINY,
    ),
)
