"""Two domains without pairs, or with some: CycleGAN and its medical variants, MR-GAN, UNIT."""

from __future__ import annotations

from typing import Any

from SynthGANLib.recipes.base import Net, Optimiser, Pick, Recipe, Setup
from SynthGANLib.recipes.paired import patch_critic
from SynthGANLib.regimes.cycle import Cycle, CycleConfig
from SynthGANLib.regimes.mixed import Mixed, MixedConfig
from SynthGANLib.regimes.unit import PAPER, Unit, UnitConfig

ZHU = "Zhu J-Y et al. Unpaired image-to-image translation using cycle-consistent adversarial networks. ICCV 2017"


def translators(pick: Pick, a: int = 1, b: int = 1, **others: Any) -> dict[str, Net]:
    """Two residual generators between domains of `a` and `b` channels."""
    size = {"base": pick(64, 8), "blocks": pick(9, 1), **others}
    return {
        "generator_ab": Net("ResNetTranslator", {"in_channels": a, "out_channels": b, **size}),
        "generator_ba": Net("ResNetTranslator", {"in_channels": b, "out_channels": a, **size}),
    }


def cyclegan_of(pick: Pick, config: CycleConfig, a: int = 1, b: int = 1) -> Setup:
    """Residual generators and PatchGANs between domains of `a` and `b` channels."""
    critics = {"discriminator_a": patch_critic(pick, a), "discriminator_b": patch_critic(pick, b)}
    return Setup(
        networks={**translators(pick, a, b), **critics}, regime=Cycle, config=config, dims=2, channels=(a, b),
        patch=pick((256, 256), (32, 32)), steps=200_000,
    )  # fmt: skip


def cyclegan(pick: Pick) -> Setup:
    """Least squares, 10 cycle (forward and backward), 5 identity, replay pool of 50 (Zhu 2017)."""
    return cyclegan_of(pick, CycleConfig())


def cyclegan_gradient(pick: Pick) -> Setup:
    """CycleGAN with gradient consistency (Hiasa 2018)."""
    return cyclegan_of(pick, CycleConfig(cycle=3.0, identity=0.0, gradient=0.3))


def cyclegan_masks(pick: Pick) -> Setup:
    """CycleGAN on images with their segmentation as a second channel (Chartsias 2017)."""
    return cyclegan_of(pick, CycleConfig(), 2, 2)


def cyclegan_pan(pick: Pick) -> Setup:
    """Whole brains in 3D, cycle weight 1, absolute adversarial error (Pan 2018)."""
    generator = Net("PanResNet", {"base": pick(8, 4), "blocks": pick(3, 1)})
    critic = Net("PanDiscriminator", {"base": pick(16, 4)})
    return Setup(
        networks={
            "generator_ab": generator, "generator_ba": generator, "discriminator_a": critic, "discriminator_b": critic,
        },
        regime=Cycle, config=CycleConfig(mode="lsgan_abs", cycle=1.0, identity=0.0, pool=0), dims=3,
        patch=pick((144, 176, 144), (24, 24, 24)), steps=100_000,
    )  # fmt: skip


def mr_gan(pick: Pick) -> Setup:
    """Paired and unpaired steps in turn, discriminators with two heads on one trunk (Jin 2019)."""
    critic = Net("DualHeadDiscriminator", {"base": pick(64, 8)})
    return Setup(
        networks={**translators(pick), "discriminator_a": critic, "discriminator_b": critic},
        regime=Mixed, config=MixedConfig(), dims=2, patch=pick((256, 256), (64, 64)), steps=400_000,
    )  # fmt: skip


def unit(pick: Pick) -> Setup:
    """Coupled variational autoencoders with one space of codes (Liu 2017, released program).

    The perceptual term needs VGG19's weights: `--set config.vgg=FILE config.perceptual=1`.
    """
    return unit_of(pick, Net("UnitTranslator", {"base": pick(64, 8), "blocks": pick(4, 1)}), UnitConfig())


def unit_paper(pick: Pick) -> Setup:
    """With a block that both encoders share, and one that both decoders share, and the paper's weights (Liu 2017)."""
    return unit_of(pick, Net("PaperUnit", {"base": pick(64, 8), "blocks": pick(3, 1)}), PAPER)


def unit_of(pick: Pick, generator: Net, config: UnitConfig) -> Setup:
    """The generator against discriminators of three scales."""
    critic = Net("MultiScaleDiscriminator", {"base": pick(64, 8), "scales": pick(3, 2), "layers": pick(4, 2)})
    return Setup(
        networks={"generator": generator, "discriminator_a": critic, "discriminator_b": critic},
        regime=Unit, config=config, dims=2, patch=pick((256, 256), (32, 32)), steps=1_000_000,
        optimisers={"*": Optimiser(rate=1e-4, weight_decay=1e-4)}, schedule="halving", decay=pick(0.1, 0.0),
        initialise="kaiming",
    )  # fmt: skip


RECIPES = (
    Recipe(
        "cyclegan", "CycleGAN", "Section II-C.4", ZHU, 1.0, ("MR-CT", "CT-MR"), "unpaired", cyclegan,
        aliases=("CycleGAN (forward and backward cycle)",),
    ),
    Recipe(
        "cyclegan-wolterink", "CycleGAN", "Table III, MRI-CT",
        "Wolterink JM et al. Deep MR to CT synthesis using unpaired data. SASHIMI 2017",
        0.9, ("MR-CT",), "unpaired", cyclegan,
    ),
    Recipe(
        "cyclegan-gradient", "Cycle Consistent GAN", "Table III, MRI-CT",
        "Hiasa Y et al. Cross-modality image synthesis from unpaired data using CycleGAN: effects of gradient "
        "consistency loss and training data size. SASHIMI 2018",
        0.7, ("MR-CT",), "unpaired", cyclegan_gradient, aliases=("cycle-consistent GAN (gradient consistency)",),
    ),
    Recipe(
        "cyclegan-3d", "3D CycleGAN; 3D cycle-consistent GAN", "Table III, MRI-PET",
        "Pan Y et al. Synthesizing missing PET from MRI with cycle-consistent generative adversarial networks for "
        "Alzheimer's disease diagnosis. MICCAI 2018;11072:455",
        0.95, ("MR-PET", "PET-MR"), "paired", cyclegan_pan,
        aliases=("3D CycleGAN", "3D cycle-consistent GAN"),
    ),
    Recipe(
        "cyclegan-masks", "CycleGAN (with masks)", "Reference 8",
        "Chartsias A et al. Adversarial image synthesis for unpaired multi-modal cardiac data. SASHIMI 2017",
        1.0, ("CT-MR",), "unpaired", cyclegan_masks,
    ),
    Recipe(
        "mr-gan", "MGAN", "Table III, CT-MRI",
        "Jin C-B et al. Deep CT to MR synthesis using paired and unpaired data. Sensors 2019;19:2361",
        0.97, ("CT-MR", "MR-CT"), "mixed", mr_gan,
    ),
    Recipe(
        "unit", "UNIT", "Section II-C, figure 7",
        "Liu M-Y, Breuel T, Kautz J. Unsupervised image-to-image translation networks. NeurIPS 2017",
        1.0, ("MR-MR", "MR-CT", "CT-MR"), "unpaired", unit,
    ),
    Recipe(
        "unit-paper", "UNIT (layers of the paper)", "Section II-C, figure 7",
        "Liu M-Y, Breuel T, Kautz J. Unsupervised image-to-image translation networks. NeurIPS 2017",
        1.0, ("MR-MR", "MR-CT", "CT-MR"), "unpaired", unit_paper,
    ),
)  # fmt: skip
