"""The same modality, better: inpainting and super-resolution. (Motion and noise: MedGAN; low dose: the cascade.)"""

from __future__ import annotations

from SynthGANLib.recipes.base import Net, Optimiser, Pick, Recipe, Setup
from SynthGANLib.recipes.paired import patch_critic, strided
from SynthGANLib.regimes.inpainting import Inpainting, InpaintingConfig
from SynthGANLib.regimes.paired import PairedAdversarial, PairedConfig
from SynthGANLib.regimes.wasserstein import CriticSchedule


def inpainting(pick: Pick) -> Setup:
    """U-blocks in series fill a missing square; the discriminator sees the square only (Armanious 2019).

    Style and content need VGG19's weights: `--set config.vgg=FILE config.style=1 config.content=1`.
    """
    blocks = [strided(pick, in_channels=2), *[strided(pick, in_channels=1)] * pick(2, 1)]
    stages = [{"name": b.name, "arguments": {**b.arguments, "out_channels": 1}} for b in blocks]
    return Setup(
        networks={
            "generator": Net("Cascade", {"stages": stages, "inputs": "prev"}),
            "discriminator": patch_critic(pick, 1, layers=pick(3, 1)),
        },
        regime=Inpainting, config=InpaintingConfig(extent=pick(64, 12)), dims=2, channels=(2, 1),
        patch=pick((256, 256), (32, 32)), steps=200_000,
    )  # fmt: skip


def super_resolution(pick: Pick) -> Setup:
    """Dense blocks, L1 first, then a Wasserstein critic at a thousandth of its weight (Chen 2018)."""
    generator = Net("DenseSR", {"blocks": pick(4, 2), "units": pick(4, 2), "growth": pick(16, 4), "width": pick(32, 8)})
    critic = Net("SuperResolutionCritic", {"size": pick(64, 16), "base": pick(64, 4), "dense": pick(1024, 8)})
    return Setup(
        networks={"generator": generator, "discriminator": critic}, regime=PairedAdversarial,
        config=PairedConfig(
            mode="wgan", l1=1.0, adversarial=1e-3, discriminator=1.0, conditional=False, penalty=10.0,
            pretrain=pick(250_000, 4), critic_pretrain=pick(10_000, 2),
            schedule=CriticSchedule(turns=pick(7, 2), many=pick(207, 2), first=0, every=500),
        ),
        dims=3, patch=pick((64, 64, 64), (16, 16, 16)), batch=pick(2, 1), steps=550_000,
        optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999))}, schedule="constant", initialise="kaiming",
        corrupt={"kind": "truncate_kspace"},
    )  # fmt: skip


RECIPES = (
    Recipe(
        "inpainting", "ip-MedGAN", "Reference 3",
        "Armanious K et al. Adversarial inpainting of medical image modalities. ICASSP 2019",
        1.0, ("MR-MR", "CT-CT"), "unconditional", inpainting, aliases=("ip-MedGAN inpainting",),
    ),
    Recipe(
        "super-resolution", "mDCSRN-GAN", "Reference 9",
        "Chen Y et al. Efficient and accurate MRI super-resolution using a generative adversarial network and 3D "
        "multi-level densely connected network. MICCAI 2018",
        1.0, ("MR-MR",), "paired", super_resolution, aliases=("mDCSRN super-resolution",),
    ),
)  # fmt: skip
