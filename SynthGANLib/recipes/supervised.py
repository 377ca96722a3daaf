"""Paired regression: the CNNs and U-Nets of the review."""

from __future__ import annotations

from SynthGANLib.recipes.base import Optimiser, Recipe, Setup, net
from SynthGANLib.regimes.supervised import (
    BandConfig,
    BandSupervised,
    DeepConfig,
    DeeplySupervised,
    Supervised,
    SupervisedConfig,
)

# The VGG16-shaped U-Net, mean absolute error (Han 2017).
UNET_HAN = Setup(
    networks={"generator": net("HanUNet", widths=[64, 128, 256, 512, 512], norm="batch")},
    regime=Supervised,
    config=SupervisedConfig(),
    dims=2,
    patch=(256, 256),
    batch=8,
    steps=100_000,
    optimisers={"*": Optimiser(rate=1e-3, betas=(0.9, 0.999), weight_decay=1e-4)},
    initialise="kaiming",
)

UNET_HAN_TINY = {
    "networks.generator.arguments.widths": [8, 8, 16],
    "networks.generator.arguments.norm": "instance",
    "patch": (32, 32),
    "batch": 2,
}

RECIPES = (
    # Two hidden layers of 7-cubed kernels on patches, mean squared error (Li 2014).
    Recipe(
        name="cnn",
        review="CNN",
        table="Table II",
        citation=(
            "Li R et al. Deep learning based imaging data completion for improved brain disease diagnosis. MICCAI 2014"
        ),
        certainty=0.6,
        directions=("MR-CT", "MR-PET"),
        data="paired",
        setup=Setup(
            networks={"generator": net("ConvStack", layers="li2014")},
            regime=Supervised,
            config=SupervisedConfig(l1=0.0, l2=1.0),
            dims=3,
            patch=(32, 32, 32),
            batch=16,
            steps=50_000,
            # At 1e-3 every unit of the second layer may fall silent, and the output stays constant.
            optimisers={"*": Optimiser(rate=2e-4, betas=(0.9, 0.999))},
            schedule="constant",
            initialise="kaiming",
        ),
        tiny_settings={
            "networks.generator.arguments.layers": [[3, 8], [3, 8], [1, 1]],
            "patch": (16, 16, 16),
            "batch": 2,
        },
    ),
    # Whole slices, tentative images between embedding blocks, mean squared error on each (Xiang 2018).
    Recipe(
        name="decnn",
        review="Deep CNN",
        table="Table II",
        citation=(
            "Xiang L et al. Deep embedding convolutional neural network for synthesizing CT image from "
            "T1-weighted MR image. Med Image Anal 2018;47:31"
        ),
        certainty=0.95,
        directions=("MR-CT",),
        data="paired",
        aliases=("DECNN",),
        setup=Setup(
            networks={"generator": net("EmbeddingStack", width=64, blocks=4, convs=3, norm="batch")},
            regime=DeeplySupervised,
            config=DeepConfig(),
            dims=2,
            patch=(256, 256),
            batch=8,
            steps=100_000,
            optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999))},
            initialise="kaiming",
        ),
        tiny_settings={
            "networks.generator.arguments.width": 8,
            "networks.generator.arguments.blocks": 2,
            "networks.generator.arguments.convs": 1,
            "networks.generator.arguments.norm": "instance",
            "patch": (32, 32),
            "batch": 2,
        },
    ),
    # The pool-free 3D FCN, 32-cubed patches to 24-cubed (Nie 2016).
    Recipe(
        name="fcnn",
        review="FCNN",
        table="Table II",
        citation=(
            "Nie D et al. Estimating CT image from MRI data using 3D fully convolutional networks. DLMIA 2016;10008:170"
        ),
        certainty=0.9,
        directions=("MR-CT",),
        data="paired",
        setup=Setup(
            networks={"generator": net("ConvStack", layers="nie2016", norm="batch")},
            regime=Supervised,
            config=SupervisedConfig(l1=0.0, l2=1.0),
            dims=3,
            patch=(32, 32, 32),
            batch=20,
            steps=100_000,
            optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999), weight_decay=5e-4)},
            initialise="kaiming",
        ),
        tiny_settings={
            "networks.generator.arguments.layers": [[3, 8, "valid"], [3, 8, "same"], [3, 1, "same"]],
            "networks.generator.arguments.norm": "instance",
            "patch": (16, 16, 16),
            "batch": 2,
        },
    ),
    Recipe(
        name="unet-han",
        review="U-Net",
        table="Table II",
        citation=(
            "Han X. MR-based synthetic CT generation using a deep convolutional neural network method. Med Phys "
            "2017;44:1408"
        ),
        certainty=0.9,
        directions=("MR-CT",),
        data="paired",
        setup=UNET_HAN,
        tiny_settings=UNET_HAN_TINY,
    ),
    # The 3D U-Net on patches, mean absolute error (Cicek 2016; Fu 2019; Florkow 2020).
    Recipe(
        name="unet-3d",
        review="3D U-Net",
        table="Table III, MRI-CT",
        citation=(
            "Cicek O et al. 3D U-Net. MICCAI 2016; for MR to CT: Fu J et al. Med Phys 2019;46:3788 or Florkow "
            "MC et al. Magn Reson Med 2020;83:1429"
        ),
        certainty=0.6,
        directions=("MR-CT",),
        data="paired",
        setup=Setup(
            networks={"generator": net("VolumeUNet", widths=[32, 64, 128, 256, 512])},
            regime=Supervised,
            config=SupervisedConfig(),
            dims=3,
            patch=(64, 64, 64),
            batch=2,
            steps=100_000,
            optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999))},
            initialise="kaiming",
        ),
        tiny_settings={"networks.generator.arguments.widths": [4, 4, 8], "patch": (16, 16, 16), "batch": 1},
    ),
    # A U-Net with attention that reads out low and high frequencies apart (Emami 2020).
    Recipe(
        name="frea-unet",
        review="FREAUNET",
        table="Table III, MRI-PET",
        citation=(
            "Emami H, Liu Q, Dong M. FREA-UNet: frequency-aware U-Net for modality transfer. arXiv 2012.15397, 2020"
        ),
        certainty=1.0,
        directions=("MR-PET",),
        data="paired",
        aliases=("FREA-UNet",),
        setup=Setup(
            networks={"generator": net("FreaUNet", widths=[64, 128, 256, 512])},
            regime=BandSupervised,
            config=BandConfig(),
            dims=2,
            patch=(256, 256),
            batch=8,
            steps=100_000,
            optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999))},
            initialise="kaiming",
        ),
        tiny_settings={"networks.generator.arguments.widths": [4, 4, 8, 8], "patch": (32, 32), "batch": 2},
    ),
    Recipe(
        name="unet-ct-mr",
        review="U-Net",
        table="Table III, CT-MRI",
        citation=(
            "Li W et al. Magnetic resonance image (MRI) synthesis from brain computed tomography (CT) images. "
            "Quant Imaging Med Surg 2020;10:1223"
        ),
        certainty=0.5,
        directions=("CT-MR",),
        data="paired",
        setup=UNET_HAN,
        tiny_settings=UNET_HAN_TINY,
    ),
)
