"""Images built up from coarse to fine: progressive growing and Laplacian pyramids."""

from __future__ import annotations

from SynthGANLib.recipes.base import Optimiser, Recipe, Setup, net
from SynthGANLib.regimes.progressive import Progressive, ProgressiveConfig
from SynthGANLib.regimes.pyramid import JointPyramid, Pyramid, PyramidConfig

BAUR = "Baur C et al. MelanoGANs: high resolution skin lesion synthesis with GANs. arXiv 1804.04338, 2018"

PYRAMID_TINY = {
    "networks.generator.arguments.size": 32,
    "networks.generator.arguments.coarsest": 8,
    "networks.generator.arguments.code": 8,
    "networks.generator.arguments.base": 8,
    "networks.generator.arguments.widths": [8, 8],
    "networks.discriminator.arguments.size": 32,
    "networks.discriminator.arguments.coarsest": 8,
    "networks.discriminator.arguments.base": 8,
    "networks.discriminator.arguments.widths": [8, 8],
    "config.code": 8,
    "patch": (32, 32),
    "batch": 4,
}

RECIPES = (
    # Image and segmentation grown together from 4 pixels up, WGAN-GP with drift (Beers 2018).
    Recipe(
        name="pggan",
        review="progressive growing GAN",
        table="Reference 5",
        citation=(
            "Beers A et al. High-resolution medical image synthesis using progressively grown generative "
            "adversarial networks. arXiv 1805.03144, 2018; Karras T et al. ICLR 2018"
        ),
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("ProgressiveGenerator", out_channels=2, size=256, code=512),
                "critic": net("ProgressiveDiscriminator", in_channels=2, size=256),
            },
            regime=Progressive,
            config=ProgressiveConfig(stable=600_000, fade=600_000),
            dims=2,
            patch=(256, 256),
            channels=(1, 2),
            batch=16,
            steps=500_000,
            optimisers={"*": Optimiser(rate=1e-3, betas=(0.0, 0.99))},
            schedule="constant",
            initialise="default",
            ema=0.999,
        ),
        tiny_settings={
            "networks.generator.arguments.size": 16,
            "networks.generator.arguments.code": 8,
            # The networks' own defaults are the paper's widths.
            "networks.generator.arguments.base": 64,
            "networks.generator.arguments.cap": 8,
            "networks.critic.arguments.size": 16,
            "networks.critic.arguments.base": 64,
            "networks.critic.arguments.cap": 8,
            "config.stable": 16,
            "config.fade": 16,
            "patch": (16, 16),
            "batch": 4,
        },
    ),
    # Residuals of a Laplacian pyramid, each level by itself (Denton 2015; Baur 2018; Calimeri 2017).
    Recipe(
        name="lapgan",
        review="MelanoGANs (LAPGAN)",
        table="Reference 4",
        citation=BAUR,
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("PyramidGenerator", size=256, coarsest=16, code=100, base=64, widths=[64, 128, 64]),
                "discriminator": net(
                    "PyramidDiscriminator", size=256, coarsest=16, base=64, widths=[64, 128, 256], conditional=True
                ),
            },
            regime=Pyramid,
            config=PyramidConfig(code=100),
            dims=2,
            patch=(256, 256),
            batch=16,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings=PYRAMID_TINY,
    ),
    # The levels together, each image judged (Baur 2018).
    Recipe(
        name="ddgan",
        review="MelanoGANs (DDGAN)",
        table="Reference 4",
        citation=BAUR,
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("PyramidGenerator", size=256, coarsest=16, code=100, base=64, widths=[64, 128, 64]),
                "discriminator": net(
                    "PyramidDiscriminator", size=256, coarsest=16, base=64, widths=[64, 128, 256], conditional=False
                ),
            },
            regime=JointPyramid,
            config=PyramidConfig(code=100),
            dims=2,
            patch=(256, 256),
            batch=16,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings=PYRAMID_TINY,
    ),
)
