"""The same modality, better: inpainting and super-resolution. (Motion and noise: MedGAN; low dose: the cascade.)"""

from __future__ import annotations

from SynthGANLib.recipes.base import Optimiser, Recipe, Setup, cascade, net
from SynthGANLib.regimes.inpainting import Inpainting, InpaintingConfig
from SynthGANLib.regimes.paired import PairedAdversarial, PairedConfig
from SynthGANLib.regimes.wasserstein import CriticSchedule

RECIPES = (
    # U-blocks in series fill a missing square; the discriminator sees the square only (Armanious 2019).
    #
    # Style and content need VGG19's weights: `--set config.vgg=FILE config.style=1 config.content=1`.
    Recipe(
        name="inpainting",
        review="ip-MedGAN",
        table="Reference 3",
        citation="Armanious K et al. Adversarial inpainting of medical image modalities. ICASSP 2019",
        certainty=1.0,
        directions=("MR-MR", "CT-CT"),
        data="unconditional",
        aliases=("ip-MedGAN inpainting",),
        setup=Setup(
            networks={
                "generator": cascade(
                    net("StridedUNet", downs=8, base=64, dropout=0.5, in_channels=2, out_channels=1),
                    net("StridedUNet", downs=8, base=64, dropout=0.5, in_channels=1, out_channels=1),
                    net("StridedUNet", downs=8, base=64, dropout=0.5, in_channels=1, out_channels=1),
                    inputs="prev",
                ),
                "discriminator": net("PatchDiscriminator", dims=2, in_channels=1, base=64, layers=3, norm="instance"),
            },
            regime=Inpainting,
            config=InpaintingConfig(extent=64),
            dims=2,
            patch=(256, 256),
            channels=(2, 1),
            steps=200_000,
        ),
        tiny_settings={
            "networks.generator": cascade(
                net("StridedUNet", downs=3, base=8, dropout=0.0, in_channels=2, out_channels=1),
                net("StridedUNet", downs=3, base=8, dropout=0.0, in_channels=1, out_channels=1),
                inputs="prev",
            ),
            "networks.discriminator.arguments.base": 8,
            "networks.discriminator.arguments.layers": 1,
            "config.extent": 12,
            "patch": (32, 32),
        },
    ),
    # Dense blocks, L1 first, then a Wasserstein critic at a thousandth of its weight (Chen 2018).
    Recipe(
        name="super-resolution",
        review="mDCSRN-GAN",
        table="Reference 9",
        citation=(
            "Chen Y et al. Efficient and accurate MRI super-resolution using a generative adversarial network "
            "and 3D multi-level densely connected network. MICCAI 2018"
        ),
        certainty=1.0,
        directions=("MR-MR",),
        data="paired",
        aliases=("mDCSRN super-resolution",),
        setup=Setup(
            networks={
                "generator": net("DenseSR", blocks=4, units=4, growth=16, width=32),
                "discriminator": net("SuperResolutionCritic", size=64, base=64, dense=1024),
            },
            regime=PairedAdversarial,
            config=PairedConfig(
                l1=1.0,
                mode="wgan",
                adversarial=1e-3,
                discriminator=1.0,
                conditional=False,
                penalty=10.0,
                pretrain=250_000,
                critic_pretrain=10_000,
                schedule=CriticSchedule(turns=7, many=207, first=0, every=500),
            ),
            dims=3,
            patch=(64, 64, 64),
            batch=2,
            steps=550_000,
            optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999))},
            schedule="constant",
            initialise="kaiming",
            corrupt={"kind": "truncate_kspace"},
        ),
        tiny_settings={
            "networks.generator.arguments.blocks": 2,
            "networks.generator.arguments.units": 2,
            "networks.generator.arguments.growth": 4,
            "networks.generator.arguments.width": 8,
            "networks.discriminator.arguments.size": 16,
            "networks.discriminator.arguments.base": 4,
            "networks.discriminator.arguments.dense": 8,
            "config.pretrain": 4,
            "config.critic_pretrain": 2,
            "config.schedule.turns": 2,
            "config.schedule.many": 2,
            "patch": (16, 16, 16),
            "batch": 1,
        },
    ),
)
