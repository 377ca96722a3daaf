"""Vessel trees and other landmarks to fundus photographs."""

from __future__ import annotations

from SynthGANLib.recipes.base import Net, Pick, Recipe, Setup
from SynthGANLib.recipes.cycle import cyclegan_of
from SynthGANLib.recipes.paired import patch_critic, strided
from SynthGANLib.regimes.cycle import CycleConfig
from SynthGANLib.regimes.paired import PairedAdversarial, PairedConfig
from SynthGANLib.regimes.retina import Retina, RetinaConfig

YU = (
    "Yu Z et al. Retinal image synthesis from multiple-landmarks input with generative adversarial networks. "
    "BioMed Eng OnLine 2019;18:62"
)


def cyclegan_fundus(pick: Pick) -> Setup:
    """CycleGAN between vessel trees and photographs (Yu 2019)."""
    return cyclegan_of(pick, CycleConfig(identity=0.0), 1, 3)


def pix2pix_fundus(pick: Pick, landmarks: int = 1) -> Setup:
    """pix2pix with the residual U-Net, which was best of those compared, on `landmarks` channels (Yu 2019)."""
    widths = pick([64, 128, 256, 512, 1024], [4, 4, 8])
    generator = Net("ResidualUNet", {"in_channels": landmarks, "out_channels": 3, "widths": widths})
    return Setup(
        networks={"generator": generator, "discriminator": patch_critic(pick, landmarks + 3)},
        regime=PairedAdversarial, config=PairedConfig(), dims=2, channels=(landmarks, 3),
        patch=pick((256, 256), (32, 32)), steps=200_000,
    )  # fmt: skip


def mcml(pick: Pick) -> Setup:
    """Vessels, optic disc and optic cup as the channels of the input (Yu 2019)."""
    return pix2pix_fundus(pick, 3)


def vessels_fundus(pick: Pick) -> Setup:
    """pix2pix from the vessel tree at 512 pixels (Costa 2017)."""
    generator = Net("CostaUNet", {"base": pick(64, 8), "downs": pick(8, 3)})
    return Setup(
        networks={"generator": generator, "discriminator": Net("CostaDiscriminator", {"base": pick(64, 8)})},
        regime=PairedAdversarial, config=PairedConfig(), dims=2, channels=(1, 3), patch=pick((512, 512), (32, 32)),
        steps=100_000, schedule="constant",
    )  # fmt: skip


def retina(pick: Pick) -> Setup:
    """From a code to vessels to a photograph, learnt end to end (Costa 2018)."""
    size = pick(256, 32)
    return Setup(
        networks={
            "autoencoder": Net("VesselAutoencoder", {"code": pick(16, 4), "size": size, "base": pick(32, 4)}),
            "renderer": Net("CostaUNet", {"base": pick(32, 4), "downs": pick(7, 3)}),
            "discriminator": Net("CostaDiscriminator", {"base": pick(32, 4)}),
            "code_discriminator": Net("CodeDiscriminator", {"code": pick(16, 4)}),
        },
        regime=Retina, config=RetinaConfig(), dims=2, channels=(1, 3), patch=(size, size), batch=pick(20, 2),
        steps=100_000, schedule="constant",
        normalisers={"source": {"kind": "window", "low": -1.0, "high": 1.0}, "target": "auto"},  # 0 and 1 stay
    )  # fmt: skip


def pix2pix_vessels(pick: Pick) -> Setup:
    """pix2pix from the vessel tree (Yu 2019's comparison)."""
    return Setup(
        networks={"generator": strided(pick, out_channels=3), "discriminator": patch_critic(pick, 4)},
        regime=PairedAdversarial, config=PairedConfig(), dims=2, channels=(1, 3), patch=pick((256, 256), (32, 32)),
        steps=200_000,
    )  # fmt: skip


FUNDUS = ("vessels-fundus",)
RECIPES = (
    Recipe("cyclegan-fundus", "CycleGAN", "Table III, vessel-fundus", YU, 0.9, FUNDUS, "unpaired", cyclegan_fundus),
    Recipe("pix2pix-fundus", "pix2pix", "Table III, vessel-fundus", YU, 0.9, FUNDUS, "paired", pix2pix_vessels),
    Recipe(
        "pix2pix-resunet", "pix2pix + ResU-Net", "Table III, vessel-fundus", YU, 0.95, FUNDUS, "paired", pix2pix_fundus,
    ),
    Recipe(
        "mcml", "MCML-GANs", "Table III, vessel-fundus", YU, 1.0, FUNDUS, "paired", mcml,
        aliases=("MCML input",),
    ),
    Recipe(
        "vessels-fundus", "pix2pix", "Table III, vessel-fundus",
        "Costa P et al. Towards adversarial retinal image synthesis. arXiv 1701.08974, 2017",
        0.95, FUNDUS, "paired", vessels_fundus, aliases=("pix2pix (Costa renderer)",),
    ),
    Recipe(
        "retina", "pix2pix (end to end)", "Table III, vessel-fundus",
        "Costa P et al. End-to-end adversarial retinal image synthesis. IEEE Trans Med Imaging 2018;37:781",
        0.95, FUNDUS, "paired", retina,
        aliases=("end to end from a code through the vessel autoencoder",),
    ),
)  # fmt: skip
