"""Networks by name. A model card names one of these and gives its constructor arguments; nothing else is run.

A network's module is imported when the network is built: those that contain others are built through this module too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from torch import nn

from SynthGANLib.errors import ModelError

TRANSLATORS: Mapping[str, str] = {
    "Cascade": "cascade",
    "ConvStack": "conv_stack",
    "CostaUNet": "costa",
    "DenseSR": "dense_sr",
    "EmbeddingStack": "embedding",
    "FcnTranslator": "vgg",
    "FreaUNet": "frea",
    "HanUNet": "han_unet",
    "Inpainter": "cascade",
    "PanResNet": "resnet",
    "PaperUnit": "unit",
    "ResNetTranslator": "resnet",
    "ResidualUNet": "monai_nets",
    "ReversePaperUnit": "unit",
    "ReverseUnit": "unit",
    "StridedUNet": "strided_unet",
    "UnitTranslator": "unit",
    "VolumeUNet": "monai_nets",
}
"""Image to image: name -> module in this package."""

GENERATIVE: Mapping[str, str] = {
    "DualGlow": "glow_relation",
    "MlpGenerator": "noise",
    "NoiseDecoder": "noise",
    "ProgressiveGenerator": "progressive",
    "PyramidGenerator": "pyramid",
    "RetinaSynthesis": "vessel",
    "Sampler": "sampler",
    "VesselAutoencoder": "vessel",
}
"""Generators that start from a code, flows, and what turns them into networks a user can run."""

DISCRIMINATORS: Mapping[str, str] = {
    "AutoregressiveDiscriminator": "autoregressive",
    "CodeDiscriminator": "image_discriminators",
    "CostaDiscriminator": "patch_discriminators",
    "DualHeadDiscriminator": "dual_head",
    "ImageDiscriminator": "image_discriminators",
    "LevelDiscriminator": "image_discriminators",
    "MlpDiscriminator": "image_discriminators",
    "MultiScaleDiscriminator": "patch_discriminators",
    "NieDiscriminator": "image_discriminators",
    "PanDiscriminator": "patch_discriminators",
    "PatchDiscriminator": "patch_discriminators",
    "ProgressiveDiscriminator": "progressive",
    "PyramidDiscriminator": "image_discriminators",
    "SuperResolutionCritic": "image_discriminators",
}
"""Discriminators and critics. All give logits or energies, never probabilities."""

NETWORKS: Mapping[str, str] = {
    "GaussianMixtureRegression": "regression",
    "Identity": "identity",
    "MixtureUNet": "unet",
    "RidgeRegression": "regression",
    "UNet": "unet",
    **TRANSLATORS,
    **GENERATIVE,
    **DISCRIMINATORS,
}
"""Every network: name -> module in this package."""


def constructor(name: str) -> Callable[..., nn.Module]:
    """The class of the network `name`; ModelError lists the known names."""
    if name not in NETWORKS:
        known = ", ".join(sorted(NETWORKS))
        raise ModelError(
            f"the model asks for the network '{name}', which this version does not have (known: {known})",
            next_step="Update SynthGAN, or install a model made for this version.",
        )
    made: Callable[..., nn.Module] = getattr(import_module(f"SynthGANLib.networks.{NETWORKS[name]}"), name)
    return made


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Construct the network `name` with `arguments`; ModelError names what is unknown or does not fit."""
    made = constructor(name)
    unknown = set(arguments) - set(inspect.signature(made).parameters)
    if unknown:
        raise ModelError(f"the network '{name}' has no argument named {', '.join(sorted(unknown))}")
    try:
        return made(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the network '{name}' cannot be built with the card's arguments: {error}") from error
