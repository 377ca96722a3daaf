"""Generators that start from a code, flows, and what turns them into networks a user can run, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from SynthGANLib.networks.glow_relation import DualGlow
from SynthGANLib.networks.noise import MlpGenerator, NoiseDecoder
from SynthGANLib.networks.progressive import ProgressiveGenerator
from SynthGANLib.networks.pyramid import PyramidGenerator
from SynthGANLib.networks.sampler import Sampler
from SynthGANLib.networks.vessel import RetinaSynthesis, VesselAutoencoder

GENERATIVE: Mapping[str, Callable[..., nn.Module]] = {
    "DualGlow": DualGlow,
    "MlpGenerator": MlpGenerator,
    "NoiseDecoder": NoiseDecoder,
    "ProgressiveGenerator": ProgressiveGenerator,
    "PyramidGenerator": PyramidGenerator,
    "RetinaSynthesis": RetinaSynthesis,
    "Sampler": Sampler,
    "VesselAutoencoder": VesselAutoencoder,
}
