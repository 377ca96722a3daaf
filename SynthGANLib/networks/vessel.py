"""Vessel trees from a code, and with a renderer whole fundus photographs.

Source: Costa et al., IEEE TMI 2018 (end-to-end adversarial retinal image synthesis).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.codes import code_with_label, halvings

_SLOPE = 0.2
_REFINED_FROM = 32
"""Extent from which the decoder has two convolutions a level."""


def _layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(_SLOPE, inplace=True),
    ]


class VesselAutoencoder(nn.Module):
    """Autoencoder of vessel masks (B, 1, size, size), 0 or 1, through a normal code (B, code).

    A code discriminator, not a Kullback-Leibler term, makes the codes standard normal. `forward` is the reconstruction
    from the mean code, as logits.

    Args:
        size: extent of the square masks, 8 or more, a power of two.
        base: channels at half the extent; they double to 8 times that.
    """

    def __init__(self, code: int = 16, size: int = 256, base: int = 32) -> None:
        super().__init__()
        if size < 8:
            raise ValueError(f"a vessel autoencoder's size is 8 or more, not {size}")
        levels = halvings((size, size), 1)
        self.code, self.size = code, size
        widths = [base * min(1 << i, 8) for i in range(levels - 1)]  # at size / 2, size / 4, ..., 2
        self.encoder = self._encoder(widths)
        self.to_code = nn.Linear(widths[-1], 2 * code)
        self.from_code = nn.Linear(code, widths[-1])
        self.decoder = self._decoder(widths)

    @staticmethod
    def _encoder(widths: list[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise([1, *widths])):
            layers += [*_layer(a, b, 2), *_layer(b, b, 1)]
            if len(widths) - i <= 3:  # the deep levels
                layers.append(nn.Dropout(0.5))
        # no norm at 1 x 1: a batch of one has no statistics there
        layers += [nn.Conv2d(widths[-1], widths[-1], 2), nn.LeakyReLU(_SLOPE, inplace=True)]
        return nn.Sequential(*layers)

    @staticmethod
    def _decoder(widths: list[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        extent = 1
        for a, b in pairwise([widths[-1], *reversed(widths), widths[0]]):
            extent *= 2
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), *_layer(a, b, 1)]
            if extent >= _REFINED_FROM:
                layers += _layer(b, b, 1)
        return nn.Sequential(*layers, nn.Conv2d(widths[0], 1, 1))

    def encode(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Masks -> mean and log-variance of their codes, each (B, code); ValueError for another size."""
        if tuple(mask.shape[2:]) != (self.size, self.size):
            raise ValueError(f"this autoencoder takes masks of {self.size} x {self.size}, not {tuple(mask.shape[2:])}")
        mean, log_variance = self.to_code(self.encoder(mask).flatten(1)).chunk(2, 1)
        return mean, log_variance

    @staticmethod
    def draw_code(mean: Tensor, log_variance: Tensor, rng: Generator) -> Tensor:
        """A code (B, code) from the normal distribution that `encode` gave, differentiable in both."""
        return mean + torch.randn(mean.shape, generator=rng).to(mean) * torch.exp(0.5 * log_variance)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, code[, 1, 1]) -> logits of the masks."""
        h = F.leaky_relu(self.from_code(code_with_label(z, self.code, None, 0)), _SLOPE)
        return cast(Tensor, self.decoder(h[:, :, None, None]))

    def forward(self, mask: Tensor) -> Tensor:
        return self.decode(self.encode(mask)[0])


class RetinaSynthesis(nn.Module):
    """A code (B, code) to a vessel mask and the photograph that the renderer makes of it.

    Args:
        autoencoder, renderer: {"name": ..., "arguments": {...}} of a `VesselAutoencoder` and of a network from one
            channel (the probability of a vessel) to the photograph's.
    """

    def __init__(self, autoencoder: Mapping[str, Any], renderer: Mapping[str, Any]) -> None:
        super().__init__()
        from SynthGANLib.networks.registry import build  # here, for that module imports this one

        self.autoencoder = build(autoencoder["name"], autoencoder.get("arguments", {}))
        self.renderer = build(renderer["name"], renderer.get("arguments", {}))
        self.code = cast(VesselAutoencoder, self.autoencoder).code

    @classmethod
    def of(cls, autoencoder: VesselAutoencoder, renderer: nn.Module) -> RetinaSynthesis:
        """The synthesis by these very networks, not by new ones: what trains them trains it."""
        with torch.device("meta"):
            whole = cls({"name": "VesselAutoencoder", "arguments": {"size": 8, "base": 1}}, {"name": "Identity"})
        whole.autoencoder, whole.renderer, whole.code = autoencoder, renderer, autoencoder.code
        return whole.train(autoencoder.training)

    def both(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Vessel probability (B, 1, y, x) in [0, 1], photograph (B, C, y, x)."""
        decode = cast(VesselAutoencoder, self.autoencoder).decode
        mask = torch.sigmoid(decode(z))
        return mask, self.renderer(mask)

    def forward(self, z: Tensor) -> Tensor:
        """Codes -> (B, 1 + C, y, x): the vessel probability brought to [-1, 1], then the photograph."""
        mask, image = self.both(z)
        return torch.cat([2 * mask - 1, image], 1)
