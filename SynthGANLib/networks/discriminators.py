"""Discriminators and critics by name. All give logits or energies, never probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from SynthGANLib.networks.autoregressive import AutoregressiveDiscriminator
from SynthGANLib.networks.dual_head import DualHeadDiscriminator
from SynthGANLib.networks.image_discriminators import (
    CodeDiscriminator,
    ImageDiscriminator,
    LevelDiscriminator,
    MlpDiscriminator,
    NieDiscriminator,
    PyramidDiscriminator,
    SuperResolutionCritic,
)
from SynthGANLib.networks.patch_discriminators import (
    CostaDiscriminator,
    MultiScaleDiscriminator,
    PanDiscriminator,
    PatchDiscriminator,
)
from SynthGANLib.networks.progressive import ProgressiveDiscriminator

DISCRIMINATORS: Mapping[str, Callable[..., nn.Module]] = {
    "AutoregressiveDiscriminator": AutoregressiveDiscriminator,
    "CodeDiscriminator": CodeDiscriminator,
    "CostaDiscriminator": CostaDiscriminator,
    "DualHeadDiscriminator": DualHeadDiscriminator,
    "ImageDiscriminator": ImageDiscriminator,
    "LevelDiscriminator": LevelDiscriminator,
    "MlpDiscriminator": MlpDiscriminator,
    "MultiScaleDiscriminator": MultiScaleDiscriminator,
    "NieDiscriminator": NieDiscriminator,
    "PanDiscriminator": PanDiscriminator,
    "PatchDiscriminator": PatchDiscriminator,
    "ProgressiveDiscriminator": ProgressiveDiscriminator,
    "PyramidDiscriminator": PyramidDiscriminator,
    "SuperResolutionCritic": SuperResolutionCritic,
}
