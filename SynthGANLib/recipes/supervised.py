"""Paired regression: the CNNs and U-Nets of the review."""

from __future__ import annotations

from SynthGANLib.recipes.base import Net, Optimiser, Pick, Recipe, Setup
from SynthGANLib.regimes.supervised import (
    BandConfig,
    BandSupervised,
    DeepConfig,
    DeeplySupervised,
    Supervised,
    SupervisedConfig,
)


def cnn(pick: Pick) -> Setup:
    """Two hidden layers of 7-cubed kernels on patches, mean squared error (Li 2014)."""
    return Setup(
        networks={"generator": Net("ConvStack", {"layers": pick("li2014", [[3, 8], [3, 8], [1, 1]])})},
        regime=Supervised, config=SupervisedConfig(l1=0.0, l2=1.0), dims=3, patch=pick((32, 32, 32), (16, 16, 16)),
        batch=pick(16, 2), steps=50_000,
        # at 1e-3 every unit of the second layer may fall silent, and the output stays constant
        optimisers={"*": Optimiser(rate=2e-4, betas=(0.9, 0.999))}, schedule="constant", initialise="kaiming",
    )  # fmt: skip


def decnn(pick: Pick) -> Setup:
    """Whole slices, tentative images between embedding blocks, mean squared error on each (Xiang 2018)."""
    arguments = {"width": pick(64, 8), "blocks": pick(4, 2), "convs": pick(3, 1), "norm": pick("batch", "instance")}
    return Setup(
        networks={"generator": Net("EmbeddingStack", arguments)},
        regime=DeeplySupervised, config=DeepConfig(), dims=2, patch=pick((256, 256), (32, 32)), batch=pick(8, 2),
        steps=100_000, optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999))}, initialise="kaiming",
    )  # fmt: skip


def fcnn(pick: Pick) -> Setup:
    """The pool-free 3D FCN, 32-cubed patches to 24-cubed (Nie 2016)."""
    layers = pick("nie2016", [[3, 8, "valid"], [3, 8, "same"], [3, 1, "same"]])
    return Setup(
        networks={"generator": Net("ConvStack", {"layers": layers, "norm": pick("batch", "instance")})},
        regime=Supervised, config=SupervisedConfig(l1=0.0, l2=1.0), dims=3, patch=pick((32, 32, 32), (16, 16, 16)),
        batch=pick(20, 2), steps=100_000,
        optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999), weight_decay=5e-4)}, initialise="kaiming",
    )  # fmt: skip


def unet_han(pick: Pick) -> Setup:
    """The VGG16-shaped U-Net, mean absolute error (Han 2017)."""
    widths, norm = pick([64, 128, 256, 512, 512], [8, 8, 16]), pick("batch", "instance")
    return Setup(
        networks={"generator": Net("HanUNet", {"widths": widths, "norm": norm})},
        regime=Supervised, config=SupervisedConfig(), dims=2, patch=pick((256, 256), (32, 32)), batch=pick(8, 2),
        steps=100_000, optimisers={"*": Optimiser(rate=1e-3, betas=(0.9, 0.999), weight_decay=1e-4)},
        initialise="kaiming",
    )  # fmt: skip


def unet_3d(pick: Pick) -> Setup:
    """The 3D U-Net on patches, mean absolute error (Cicek 2016; Fu 2019; Florkow 2020)."""
    return Setup(
        networks={"generator": Net("VolumeUNet", {"widths": pick([32, 64, 128, 256, 512], [4, 4, 8])})},
        regime=Supervised, config=SupervisedConfig(), dims=3, patch=pick((64, 64, 64), (16, 16, 16)), batch=pick(2, 1),
        steps=100_000, optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999))}, initialise="kaiming",
    )  # fmt: skip


def frea_unet(pick: Pick) -> Setup:
    """A U-Net with attention that reads out low and high frequencies apart (Emami 2020)."""
    return Setup(
        networks={"generator": Net("FreaUNet", {"widths": pick([64, 128, 256, 512], [4, 4, 8, 8])})},
        regime=BandSupervised, config=BandConfig(), dims=2, patch=pick((256, 256), (32, 32)), batch=pick(8, 2),
        steps=100_000, optimisers={"*": Optimiser(rate=1e-4, betas=(0.9, 0.999))}, initialise="kaiming",
    )  # fmt: skip


HAN = "Han X. MR-based synthetic CT generation using a deep convolutional neural network method. Med Phys 2017;44:1408"
RECIPES = (
    Recipe(
        "cnn", "CNN", "Table II",
        "Li R et al. Deep learning based imaging data completion for improved brain disease diagnosis. MICCAI 2014",
        0.6, ("MR-CT", "MR-PET"), "paired", cnn,
    ),
    Recipe(
        "decnn", "Deep CNN", "Table II",
        "Xiang L et al. Deep embedding convolutional neural network for synthesizing CT image from "
        "T1-weighted MR image. Med Image Anal 2018;47:31",
        0.95, ("MR-CT",), "paired", decnn, aliases=("DECNN",),
    ),
    Recipe(
        "fcnn", "FCNN", "Table II",
        "Nie D et al. Estimating CT image from MRI data using 3D fully convolutional networks. DLMIA 2016;10008:170",
        0.9, ("MR-CT",), "paired", fcnn,
    ),
    Recipe("unet-han", "U-Net", "Table II", HAN, 0.9, ("MR-CT",), "paired", unet_han),
    Recipe(
        "unet-3d", "3D U-Net", "Table III, MRI-CT",
        "Cicek O et al. 3D U-Net. MICCAI 2016; for MR to CT: Fu J et al. Med Phys 2019;46:3788 or Florkow MC "
        "et al. Magn Reson Med 2020;83:1429",
        0.6, ("MR-CT",), "paired", unet_3d,
    ),
    Recipe(
        "frea-unet", "FREAUNET", "Table III, MRI-PET",
        "Emami H, Liu Q, Dong M. FREA-UNet: frequency-aware U-Net for modality transfer. arXiv 2012.15397, 2020",
        1.0, ("MR-PET",), "paired", frea_unet, aliases=("FREA-UNet",),
    ),
    Recipe(
        "unet-ct-mr", "U-Net", "Table III, CT-MRI",
        "Li W et al. Magnetic resonance image (MRI) synthesis from brain computed tomography (CT) images. "
        "Quant Imaging Med Surg 2020;10:1223",
        0.5, ("CT-MR",), "paired", unet_han,
    ),
)  # fmt: skip
