"""Stages trained one after the other, and flows: auto-context, sketcher and refiner, low-dose PET, CT to PET."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from SynthGANLib.recipes.base import Net, Optimiser, Pick, Recipe, Setup
from SynthGANLib.recipes.paired import critic_nie, fcn_nie, patch_critic, strided
from SynthGANLib.regimes.adversary import AdversarialWeights
from SynthGANLib.regimes.cascade import StagedCascade
from SynthGANLib.regimes.flow import Flow, FlowConfig
from SynthGANLib.regimes.stages import CascadeConfig


def in_series(inputs: str, *stages: Net) -> Net:
    """The stages one after the other."""
    plain: list[Mapping[str, Any]] = [{"name": s.name, "arguments": dict(s.arguments)} for s in stages]
    return Net("Cascade", {"stages": plain, "inputs": inputs})


def evenly(count: int) -> tuple[float, ...]:
    """Fractions of a run at which `count` equal parts but the first begin."""
    return tuple(number / count for number in range(1, count))


def cascade_gan(pick: Pick) -> Setup:
    """Context-aware GANs: each stage sees the MR and the estimate before it, out of fold (Nie 2017)."""
    count = pick(3, 2)
    stages = [fcn_nie(pick, in_channels=1 + (number > 0), out_channels=1) for number in range(count)]
    judges = {f"discriminator_{number}": critic_nie(pick) for number in range(1, count + 1)}
    weights = AdversarialWeights(l2=1.0, gdl=1.0, adversarial=0.05, conditional=False, discriminator=1.0)
    folds = pick(4, 0)  # what is only tried out may have a single subject
    return Setup(
        networks={"generator": in_series("source+prev", *stages), **judges}, regime=StagedCascade,
        config=CascadeConfig((weights,) * count, evenly(count), pick(300_000, 20), folds), dims=3,
        patch=pick((32, 32, 32), (16, 16, 16)), batch=pick(10, 2), steps=pick(300_000, 20),
        optimisers={"*": Optimiser(rate=1e-4)}, schedule="constant",
    )  # fmt: skip


def sketcher_refiner(pick: Pick) -> Setup:
    """A sketch of the PET from four MR maps, then its refinement with voxels weighted by region (Wei 2018)."""
    size = {"dims": 3, "downs": pick(6, 2), "base": pick(32, 8), "cap": pick(256, 16)}
    stages = [strided(pick, in_channels=channels, out_channels=1, **size) for channels in (4, 5)]
    sketch = AdversarialWeights(l1=50.0)
    refine = AdversarialWeights(l1=50.0, voxels="weight")
    critic = patch_critic(pick, 5, 3, base=pick(32, 8))
    return Setup(
        networks={
            "generator": in_series("source+prev", *stages), "discriminator_1": critic, "discriminator_2": critic,
        },
        regime=StagedCascade, config=CascadeConfig((sketch, refine), (0.5,), pick(100_000, 20)), dims=3,
        channels=(4, 1), patch=pick((64, 64, 64), (16, 16, 16)), steps=pick(100_000, 20), schedule="constant",
    )  # fmt: skip


def low_dose_pet(pick: Pick) -> Setup:
    """3D conditional GANs in series: the second refines what the first estimates (Wang 2018)."""
    size = {"dims": 3, "downs": pick(6, 2), "base": pick(64, 8)}
    weights = AdversarialWeights(l1=300.0)
    critic = patch_critic(pick, 2, 3)
    return Setup(
        networks={
            "generator": in_series("prev", *[strided(pick, in_channels=1, out_channels=1, **size)] * 2),
            "discriminator_1": critic, "discriminator_2": critic,
        },
        regime=StagedCascade, config=CascadeConfig((weights, weights), (0.5,), pick(200_000, 20)), dims=3,
        patch=pick((64, 64, 64), (16, 16, 16)), batch=pick(4, 1), steps=pick(200_000, 20), schedule="constant",
        corrupt={"kind": "low_dose"},
    )  # fmt: skip


def fcn_cgan(pick: Pick) -> Setup:
    """A VGG16 FCN with high uptake weighted up, then pix2pix on CT and its estimate (Ben-Cohen 2019)."""
    widths = pick([64, 128, 256, 512, 512], [8, 8, 8, 8, 8])
    fcn = Net("FcnTranslator", {"in_channels": 1, "out_channels": 1, "widths": widths, "output": "linear"})
    first = AdversarialWeights(l2=1.0, adversarial=0.0, voxels="bright")
    return Setup(
        networks={
            "generator": in_series("source+prev", fcn, strided(pick, in_channels=2, out_channels=1)),
            "discriminator_2": patch_critic(pick, 2),
        },
        regime=StagedCascade, config=CascadeConfig((first, AdversarialWeights(l1=20.0)), (0.5,), pick(200_000, 20)),
        dims=2, patch=pick((256, 256), (32, 32)), steps=pick(200_000, 20), schedule="constant",
    )  # fmt: skip


def dual_glow(pick: Pick) -> Setup:
    """Two flows and what relates their codes: exact likelihood of PET given MR (Sun 2019)."""
    size = {"depths": pick([1, 4, 8, 4], [1, 1]), "width": pick(512, 8), "recompute": pick(True, False)}
    return Setup(
        networks={"generator": Net("DualGlow", size)}, regime=Flow, config=FlowConfig(), dims=3,
        patch=pick((48, 64, 48), (16, 16, 16)), steps=150_000,
        optimisers={"*": Optimiser("adamax", rate=1e-3, betas=(0.9, 0.999))}, schedule="constant",
        initialise="default", ema=0.999, clip=100.0, warm_up=pick(7_260, 0),  # ten times 726 subjects
    )  # fmt: skip


RECIPES = (
    Recipe(
        "cascade-gan", "Cascade GAN", "Table III, MRI-CT",
        "Nie D et al. Medical image synthesis with context-aware generative adversarial networks. MICCAI "
        "2017; IEEE TBME 2018;65:2720",
        0.85, ("MR-CT",), "paired", cascade_gan, aliases=("auto-context GAN",),
    ),
    Recipe(
        "sketcher-refiner", "cascade cGAN", "Table III, MRI-PET",
        "Wei W et al. Learning myelin content in multiple sclerosis from multimodal MRI through adversarial "
        "training. MICCAI 2018",
        0.9, ("MR-PET",), "paired", sketcher_refiner, aliases=("cascade cGAN (sketcher-refiner)",),
    ),
    Recipe(
        "low-dose-pet", "3D conditional GAN", "Reference 23",
        "Wang Y et al. 3D conditional generative adversarial networks for high-quality PET image estimation "
        "at low dose. NeuroImage 2018;174:550",
        1.0, ("PET-PET",), "paired", low_dose_pet, aliases=("low-dose PET 3D cGAN", "3D cGAN"),
    ),
    Recipe(
        "fcn-cgan", "FCN and cGAN", "Table III, CT-PET",
        "Ben-Cohen A et al. Cross-modality synthesis from CT to PET using FCN and GAN networks for improved "
        "automated lesion detection. Eng Appl Artif Intell 2019;78:186",
        1.0, ("CT-PET",), "paired", fcn_cgan, aliases=("FCN + cGAN with SUV-weighted loss",),
    ),
    Recipe(
        "dual-glow", "DUAL-GLOW", "Table III, MRI-PET",
        "Sun H et al. DUAL-GLOW: conditional flow-based generative model for modality transfer. ICCV 2019",
        1.0, ("MR-PET",), "paired", dual_glow,
    ),
)  # fmt: skip
