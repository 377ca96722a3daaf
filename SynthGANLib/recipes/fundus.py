"""Vessel trees and other landmarks to fundus photographs."""

from __future__ import annotations

from SynthGANLib.recipes.base import Recipe, Setup, net
from SynthGANLib.recipes.cycle import CYCLEGAN_TINY
from SynthGANLib.recipes.paired import PIX2PIX_TINY
from SynthGANLib.regimes.cycle import Cycle, CycleConfig
from SynthGANLib.regimes.paired import PairedAdversarial, PairedConfig
from SynthGANLib.regimes.retina import Retina, RetinaConfig

YU = (
    "Yu Z et al. Retinal image synthesis from multiple-landmarks input with generative adversarial "
    "networks. BioMed Eng OnLine 2019;18:62"
)

RESUNET_TINY = {
    "networks.generator.arguments.widths": [4, 4, 8],
    "networks.discriminator.arguments.base": 8,
    "networks.discriminator.arguments.layers": 1,
    "patch": (32, 32),
}

RECIPES = (
    # CycleGAN between vessel trees and photographs (Yu 2019).
    Recipe(
        name="cyclegan-fundus",
        review="CycleGAN",
        table="Table III, vessel-fundus",
        citation=YU,
        certainty=0.9,
        directions=("vessels-fundus",),
        data="unpaired",
        setup=Setup(
            networks={
                "generator_ab": net("ResNetTranslator", in_channels=1, out_channels=3, base=64, blocks=9),
                "generator_ba": net("ResNetTranslator", in_channels=3, out_channels=1, base=64, blocks=9),
                "discriminator_a": net("PatchDiscriminator", dims=2, in_channels=1, base=64, layers=3, norm="instance"),
                "discriminator_b": net("PatchDiscriminator", dims=2, in_channels=3, base=64, layers=3, norm="instance"),
            },
            regime=Cycle,
            config=CycleConfig(identity=0.0),
            dims=2,
            patch=(256, 256),
            channels=(1, 3),
            steps=200_000,
        ),
        tiny_settings=CYCLEGAN_TINY,
    ),
    # pix2pix from the vessel tree (Yu 2019's comparison).
    Recipe(
        name="pix2pix-fundus",
        review="pix2pix",
        table="Table III, vessel-fundus",
        citation=YU,
        certainty=0.9,
        directions=("vessels-fundus",),
        data="paired",
        setup=Setup(
            networks={
                "generator": net("StridedUNet", downs=8, base=64, dropout=0.5, out_channels=3),
                "discriminator": net("PatchDiscriminator", dims=2, in_channels=4, base=64, layers=3, norm="instance"),
            },
            regime=PairedAdversarial,
            config=PairedConfig(),
            dims=2,
            patch=(256, 256),
            channels=(1, 3),
            steps=200_000,
        ),
        tiny_settings=PIX2PIX_TINY,
    ),
    # pix2pix with the residual U-Net, which was best of those compared (Yu 2019).
    Recipe(
        name="pix2pix-resunet",
        review="pix2pix + ResU-Net",
        table="Table III, vessel-fundus",
        citation=YU,
        certainty=0.95,
        directions=("vessels-fundus",),
        data="paired",
        setup=Setup(
            networks={
                "generator": net("ResidualUNet", in_channels=1, out_channels=3, widths=[64, 128, 256, 512, 1024]),
                "discriminator": net("PatchDiscriminator", dims=2, in_channels=4, base=64, layers=3, norm="instance"),
            },
            regime=PairedAdversarial,
            config=PairedConfig(),
            dims=2,
            patch=(256, 256),
            channels=(1, 3),
            steps=200_000,
        ),
        tiny_settings=RESUNET_TINY,
    ),
    # Vessels, optic disc and optic cup as the channels of the input (Yu 2019).
    Recipe(
        name="mcml",
        review="MCML-GANs",
        table="Table III, vessel-fundus",
        citation=YU,
        certainty=1.0,
        directions=("vessels-fundus",),
        data="paired",
        aliases=("MCML input",),
        setup=Setup(
            networks={
                "generator": net("ResidualUNet", in_channels=3, out_channels=3, widths=[64, 128, 256, 512, 1024]),
                "discriminator": net("PatchDiscriminator", dims=2, in_channels=6, base=64, layers=3, norm="instance"),
            },
            regime=PairedAdversarial,
            config=PairedConfig(),
            dims=2,
            patch=(256, 256),
            channels=(3, 3),
            steps=200_000,
        ),
        tiny_settings=RESUNET_TINY,
    ),
    # pix2pix from the vessel tree at 512 pixels (Costa 2017).
    Recipe(
        name="vessels-fundus",
        review="pix2pix",
        table="Table III, vessel-fundus",
        citation="Costa P et al. Towards adversarial retinal image synthesis. arXiv 1701.08974, 2017",
        certainty=0.95,
        directions=("vessels-fundus",),
        data="paired",
        aliases=("pix2pix (Costa renderer)",),
        setup=Setup(
            networks={
                "generator": net("CostaUNet", base=64, downs=8),
                "discriminator": net("CostaDiscriminator", base=64),
            },
            regime=PairedAdversarial,
            config=PairedConfig(),
            dims=2,
            patch=(512, 512),
            channels=(1, 3),
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings={
            "networks.generator.arguments.base": 8,
            "networks.generator.arguments.downs": 3,
            "networks.discriminator.arguments.base": 8,
            "patch": (32, 32),
        },
    ),
    # From a code to vessels to a photograph, learnt end to end (Costa 2018).
    Recipe(
        name="retina",
        review="pix2pix (end to end)",
        table="Table III, vessel-fundus",
        citation="Costa P et al. End-to-end adversarial retinal image synthesis. IEEE Trans Med Imaging 2018;37:781",
        certainty=0.95,
        directions=("vessels-fundus",),
        data="paired",
        aliases=("end to end from a code through the vessel autoencoder",),
        setup=Setup(
            networks={
                "autoencoder": net("VesselAutoencoder", code=16, size=256, base=32),
                "renderer": net("CostaUNet", base=32, downs=7),
                "discriminator": net("CostaDiscriminator", base=32),
                "code_discriminator": net("CodeDiscriminator", code=16),
            },
            regime=Retina,
            config=RetinaConfig(),
            dims=2,
            patch=(256, 256),
            channels=(1, 3),
            batch=20,
            steps=100_000,
            schedule="constant",
            # The window keeps vessels at 0 and 1.
            normalisers={"source": {"kind": "window", "low": -1.0, "high": 1.0}, "target": "auto"},
        ),
        tiny_settings={
            "networks.autoencoder.arguments.code": 4,
            "networks.autoencoder.arguments.size": 32,
            "networks.autoencoder.arguments.base": 4,
            "networks.renderer.arguments.base": 4,
            "networks.renderer.arguments.downs": 3,
            "networks.discriminator.arguments.base": 4,
            "networks.code_discriminator.arguments.code": 4,
            "patch": (32, 32),
            "batch": 2,
        },
    ),
)
