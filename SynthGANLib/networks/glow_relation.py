"""DUAL-GLOW: two flows, and networks that predict the latents of one modality from those of the other.

Source: Sun et al., ICCV 2019 (arXiv 1908.08074).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.networks.blocks import conv, pad_to_multiple
from SynthGANLib.networks.glow import Flow, normal_log_density


def relation(dims: int, inputs: int, outputs: int, layers: int, width: int) -> nn.Sequential:
    """Predicts the mean of a latent: `layers` convolutions without bias, kernel 5 then 3, each with a leaky ReLU."""
    channels = [inputs, *[width] * (layers - 1), outputs]
    parts: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(channels)):
        kernel = 5 if i == 0 else 3
        parts += [conv(dims)(a, b, kernel, padding=kernel // 2, bias=False), nn.LeakyReLU(0.2)]
    return nn.Sequential(*parts)


class DualGlow(nn.Module):
    """Conditional synthesis with an exact likelihood.

    The source flow has standard normal latents. Those of the target are normal around what the relation networks make
    of the source's latents of the same level, with variance 1. Images in [-1, 1] (halved inside); extents are mirrored
    up to a multiple of 2 ** len(depths) and cropped back, and a likelihood is that of the padded image.

    Args:
        depths: steps in each level. width: channels inside the couplings.
        relation_layers, relation_width: convolutions of a relation network and the channels between them.
        bins: gray levels between -1 and 1 that a likelihood counts with; dequantisation adds less than one.
        recompute: trade time for memory in training.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        depths: Sequence[int] = (1, 4, 8, 4),
        width: int = 512,
        relation_layers: int = 1,
        relation_width: int = 256,
        bins: int = 256,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if relation_layers < 1:
            raise ValueError(f"a relation network has at least one layer, not {relation_layers}")
        self.bins = bins
        self.source_flow = Flow(dims, in_channels, depths, width, recompute=recompute)
        self.target_flow = Flow(dims, out_channels, depths, width, recompute=recompute)
        self.relations = nn.ModuleList(
            relation(dims, a, b, relation_layers, relation_width)
            for a, b in zip(self.source_flow.channels, self.target_flow.channels, strict=True)
        )

    def means(self, source_latents: Sequence[Tensor]) -> list[Tensor]:
        """Means of the target's latents."""
        return [cast(Tensor, g(z)) for g, z in zip(self.relations, source_latents, strict=True)]

    def log_likelihood(self, source: Tensor, target: Tensor, rng: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Bits per voxel of the target given the source, and of the source, each (B,).

        With `rng`, uniform noise of one gray level is added to both, as training does.
        """
        source_latents, source_logdet = self.source_flow(self._prepared(source, rng))
        target_latents, target_logdet = self.target_flow(self._prepared(target, rng))
        means = self.means(source_latents)
        joint = target_logdet + sum(normal_log_density(z, m) for z, m in zip(target_latents, means, strict=True))
        alone = source_logdet + sum(normal_log_density(z) for z in source_latents)
        return self._bits(joint, target_latents), self._bits(alone, source_latents)

    def sample(self, source: Tensor, temperature: float, rng: Generator | None = None) -> Tensor:
        """A target (B, out_channels, ...) for the source (B, in_channels, ...).

        Every latent is its mean plus `temperature` times normal noise from `rng`. At 0 this is the image of the
        mean latents, the same in every call. ValueError where noise is wanted and `rng` is None.
        """
        if temperature and rng is None:
            raise ValueError("a sample at a temperature above 0 needs a random generator")
        padded, crop = pad_to_multiple(source, self.source_flow.multiple)
        with torch.autocast(source.device.type, enabled=False):
            latents = self.means(self.source_flow(padded.to(self._dtype()) / 2)[0])
            if rng is not None and temperature:
                latents = [m + temperature * torch.randn(m.shape, generator=rng).to(m) for m in latents]
            return (2 * self.target_flow.inverse(latents))[crop]

    def forward(self, source: Tensor) -> Tensor:
        """(B, in_channels, ...) -> (B, out_channels, ...) on the same extents: the sample at temperature 0."""
        return self.sample(source, 0.0)

    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _prepared(self, x: Tensor, rng: Generator | None) -> Tensor:
        if rng is not None:
            x = x + torch.rand(x.shape, generator=rng).to(x) * (2 / self.bins)
        return pad_to_multiple(x, self.source_flow.multiple)[0] / 2

    def _bits(self, log_density: Tensor, latents: Sequence[Tensor]) -> Tensor:
        """Bits per voxel from the density of the halved image, whose gray levels lie 1 / bins apart."""
        voxels = sum(z[0].numel() for z in latents)
        return math.log2(self.bins) - log_density / (voxels * math.log(2))
