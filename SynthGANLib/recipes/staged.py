"""Stages trained one after the other, and flows: auto-context, sketcher and refiner, low-dose PET, CT to PET."""

from __future__ import annotations

from SynthGANLib.recipes.base import Optimiser, Recipe, Setup, cascade, net
from SynthGANLib.regimes.adversary import AdversarialWeights
from SynthGANLib.regimes.cascade import StagedCascade
from SynthGANLib.regimes.flow import Flow, FlowConfig
from SynthGANLib.regimes.stages import CascadeConfig

NIE = AdversarialWeights(l2=1.0, gdl=1.0, adversarial=0.05, discriminator=1.0, conditional=False)

RECIPES = (
    # Context-aware GANs: each stage sees the MR and the estimate before it, out of fold (Nie 2017).
    Recipe(
        name="cascade-gan",
        review="Cascade GAN",
        table="Table III, MRI-CT",
        citation=(
            "Nie D et al. Medical image synthesis with context-aware generative adversarial networks. MICCAI "
            "2017; IEEE TBME 2018;65:2720"
        ),
        certainty=0.85,
        directions=("MR-CT",),
        data="paired",
        aliases=("auto-context GAN",),
        setup=Setup(
            networks={
                "generator": cascade(
                    net("ConvStack", layers="nie2017", norm="batch", in_channels=1, out_channels=1),
                    net("ConvStack", layers="nie2017", norm="batch", in_channels=2, out_channels=1),
                    net("ConvStack", layers="nie2017", norm="batch", in_channels=2, out_channels=1),
                    inputs="source+prev",
                ),
                "discriminator_1": net("NieDiscriminator", size=16, widths=[32, 64, 128, 256]),
                "discriminator_2": net("NieDiscriminator", size=16, widths=[32, 64, 128, 256]),
                "discriminator_3": net("NieDiscriminator", size=16, widths=[32, 64, 128, 256]),
            },
            regime=StagedCascade,
            config=CascadeConfig(
                stages=(NIE, NIE, NIE),
                boundaries=(1 / 3, 2 / 3),
                steps=300_000,
                folds=4,
            ),
            dims=3,
            patch=(32, 32, 32),
            batch=10,
            steps=300_000,
            optimisers={"*": Optimiser(rate=1e-4)},
            schedule="constant",
        ),
        tiny_settings={
            "networks": {
                "generator": cascade(
                    net(
                        "ConvStack",
                        layers=[[5, 8, "valid"], [3, 8, "same"], [3, 1, "same"]],
                        norm="instance",
                        in_channels=1,
                        out_channels=1,
                    ),
                    net(
                        "ConvStack",
                        layers=[[5, 8, "valid"], [3, 8, "same"], [3, 1, "same"]],
                        norm="instance",
                        in_channels=2,
                        out_channels=1,
                    ),
                    inputs="source+prev",
                ),
                "discriminator_1": net("NieDiscriminator", size=12, widths=[4, 8]),
                "discriminator_2": net("NieDiscriminator", size=12, widths=[4, 8]),
            },
            # No estimates out of fold: a first try may have a single subject.
            "config": CascadeConfig(stages=(NIE, NIE), boundaries=(0.5,), steps=20, folds=0),
            "patch": (16, 16, 16),
            "batch": 2,
            "steps": 20,
        },
    ),
    # A sketch of the PET from four MR maps, then its refinement with voxels weighted by region (Wei 2018).
    Recipe(
        name="sketcher-refiner",
        review="cascade cGAN",
        table="Table III, MRI-PET",
        citation=(
            "Wei W et al. Learning myelin content in multiple sclerosis from multimodal MRI through adversarial "
            "training. MICCAI 2018"
        ),
        certainty=0.9,
        directions=("MR-PET",),
        data="paired",
        aliases=("cascade cGAN (sketcher-refiner)",),
        setup=Setup(
            networks={
                "generator": cascade(
                    net("StridedUNet", downs=6, base=32, dropout=0.5, in_channels=4, out_channels=1, dims=3, cap=256),
                    net("StridedUNet", downs=6, base=32, dropout=0.5, in_channels=5, out_channels=1, dims=3, cap=256),
                    inputs="source+prev",
                ),
                "discriminator_1": net("PatchDiscriminator", dims=3, in_channels=5, base=32, layers=3, norm="instance"),
                "discriminator_2": net("PatchDiscriminator", dims=3, in_channels=5, base=32, layers=3, norm="instance"),
            },
            regime=StagedCascade,
            config=CascadeConfig(
                stages=(AdversarialWeights(l1=50.0), AdversarialWeights(l1=50.0, voxels="weight")),
                boundaries=(0.5,),
                steps=100_000,
            ),
            dims=3,
            patch=(64, 64, 64),
            channels=(4, 1),
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings={
            "networks.generator": cascade(
                net("StridedUNet", downs=2, base=8, dropout=0.0, in_channels=4, out_channels=1, dims=3, cap=16),
                net("StridedUNet", downs=2, base=8, dropout=0.0, in_channels=5, out_channels=1, dims=3, cap=16),
                inputs="source+prev",
            ),
            "networks.discriminator_1.arguments.base": 8,
            "networks.discriminator_1.arguments.layers": 1,
            "networks.discriminator_2.arguments.base": 8,
            "networks.discriminator_2.arguments.layers": 1,
            "config.steps": 20,
            "patch": (16, 16, 16),
            "steps": 20,
        },
    ),
    # 3D conditional GANs in series: the second refines what the first estimates (Wang 2018).
    Recipe(
        name="low-dose-pet",
        review="3D conditional GAN",
        table="Reference 23",
        citation=(
            "Wang Y et al. 3D conditional generative adversarial networks for high-quality PET image estimation "
            "at low dose. NeuroImage 2018;174:550"
        ),
        certainty=1.0,
        directions=("PET-PET",),
        data="paired",
        aliases=("low-dose PET 3D cGAN", "3D cGAN"),
        setup=Setup(
            networks={
                "generator": cascade(
                    net("StridedUNet", downs=6, base=64, dropout=0.5, in_channels=1, out_channels=1, dims=3),
                    net("StridedUNet", downs=6, base=64, dropout=0.5, in_channels=1, out_channels=1, dims=3),
                    inputs="prev",
                ),
                "discriminator_1": net("PatchDiscriminator", dims=3, in_channels=2, base=64, layers=3, norm="instance"),
                "discriminator_2": net("PatchDiscriminator", dims=3, in_channels=2, base=64, layers=3, norm="instance"),
            },
            regime=StagedCascade,
            config=CascadeConfig(
                stages=(AdversarialWeights(l1=300.0), AdversarialWeights(l1=300.0)), boundaries=(0.5,), steps=200_000
            ),
            dims=3,
            patch=(64, 64, 64),
            batch=4,
            steps=200_000,
            schedule="constant",
            corrupt={"kind": "low_dose"},
        ),
        tiny_settings={
            "networks.generator": cascade(
                net("StridedUNet", downs=2, base=8, dropout=0.0, in_channels=1, out_channels=1, dims=3),
                net("StridedUNet", downs=2, base=8, dropout=0.0, in_channels=1, out_channels=1, dims=3),
                inputs="prev",
            ),
            "networks.discriminator_1.arguments.base": 8,
            "networks.discriminator_1.arguments.layers": 1,
            "networks.discriminator_2.arguments.base": 8,
            "networks.discriminator_2.arguments.layers": 1,
            "config.steps": 20,
            "patch": (16, 16, 16),
            "batch": 1,
            "steps": 20,
        },
    ),
    # A VGG16 FCN with high uptake weighted up, then pix2pix on CT and its estimate (Ben-Cohen 2019).
    Recipe(
        name="fcn-cgan",
        review="FCN and cGAN",
        table="Table III, CT-PET",
        citation=(
            "Ben-Cohen A et al. Cross-modality synthesis from CT to PET using FCN and GAN networks for improved "
            "automated lesion detection. Eng Appl Artif Intell 2019;78:186"
        ),
        certainty=1.0,
        directions=("CT-PET",),
        data="paired",
        aliases=("FCN + cGAN with SUV-weighted loss",),
        setup=Setup(
            networks={
                "generator": cascade(
                    net(
                        "FcnTranslator", in_channels=1, out_channels=1, widths=[64, 128, 256, 512, 512], output="linear"
                    ),
                    net("StridedUNet", downs=8, base=64, dropout=0.5, in_channels=2, out_channels=1),
                    inputs="source+prev",
                ),
                "discriminator_2": net("PatchDiscriminator", dims=2, in_channels=2, base=64, layers=3, norm="instance"),
            },
            regime=StagedCascade,
            config=CascadeConfig(
                stages=(AdversarialWeights(l2=1.0, voxels="bright", adversarial=0.0), AdversarialWeights(l1=20.0)),
                boundaries=(0.5,),
                steps=200_000,
            ),
            dims=2,
            patch=(256, 256),
            steps=200_000,
            schedule="constant",
        ),
        tiny_settings={
            "networks.generator": cascade(
                net("FcnTranslator", in_channels=1, out_channels=1, widths=[8, 8, 8, 8, 8], output="linear"),
                net("StridedUNet", downs=3, base=8, dropout=0.0, in_channels=2, out_channels=1),
                inputs="source+prev",
            ),
            "networks.discriminator_2.arguments.base": 8,
            "networks.discriminator_2.arguments.layers": 1,
            "config.steps": 20,
            "patch": (32, 32),
            "steps": 20,
        },
    ),
    # Two flows and what relates their codes: exact likelihood of PET given MR (Sun 2019).
    Recipe(
        name="dual-glow",
        review="DUAL-GLOW",
        table="Table III, MRI-PET",
        citation="Sun H et al. DUAL-GLOW: conditional flow-based generative model for modality transfer. ICCV 2019",
        certainty=1.0,
        directions=("MR-PET",),
        data="paired",
        setup=Setup(
            networks={"generator": net("DualGlow", depths=[1, 4, 8, 4], width=512, recompute=True)},
            regime=Flow,
            config=FlowConfig(),
            dims=3,
            patch=(48, 64, 48),
            steps=150_000,
            optimisers={"*": Optimiser(kind="adamax", rate=1e-3, betas=(0.9, 0.999))},
            schedule="constant",
            initialise="default",
            ema=0.999,
            clip=100.0,
            warm_up=7_260,  # ten times 726 subjects
        ),
        tiny_settings={
            "networks.generator.arguments.depths": [1, 1],
            "networks.generator.arguments.width": 8,
            "networks.generator.arguments.recompute": False,
            "patch": (16, 16, 16),
            "warm_up": 0,
        },
    ),
)
