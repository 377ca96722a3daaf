"""A discriminator with two heads on one trunk, for single images and for pairs.

Source: Jin et al., Sensors 2019 (MR-GAN, arXiv 1805.10790).
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from SynthGANLib.networks.blocks import conv, norm

_SLOPE = 0.2


class DualHeadDiscriminator(nn.Module):
    """`unpaired(x)` judges an image alone, `paired(source, x)` beside its source; both give logits (B, 1, ...).

    Each way has a first layer and two last layers of its own; the `layers` strided convolutions between are the same
    objects for both. Instance norm without gain and shift.

    Args:
        in_channels, source_channels: of the image that is judged, and of the one beside it.
    """

    def __init__(
        self, dims: int = 2, in_channels: int = 1, source_channels: int = 1, base: int = 64, layers: int = 3
    ) -> None:
        super().__init__()
        self.in_channels, self.both_channels = in_channels, in_channels + source_channels
        self.least = 3 * 2 ** (layers + 1)
        widths = [base << i for i in range(layers + 1)]

        def block(a: int, b: int, stride: int) -> list[nn.Module]:
            return [
                conv(dims)(a, b, 4, stride, 1),
                norm(dims, "instance", b, affine=False),
                nn.LeakyReLU(_SLOPE, inplace=True),
            ]

        def head(channels: int) -> nn.Sequential:
            return nn.Sequential(conv(dims)(channels, base, 4, 2, 1), nn.LeakyReLU(_SLOPE, inplace=True))

        def tail() -> nn.Sequential:
            return nn.Sequential(*block(widths[-1], widths[-1], 1), conv(dims)(widths[-1], 1, 4, 1, 1))

        self.trunk = nn.Sequential(*(part for a, b in pairwise(widths) for part in block(a, b, 2)))
        self.unpaired_head, self.unpaired_tail = head(self.in_channels), tail()
        self.paired_head, self.paired_tail = head(self.both_channels), tail()

    def unpaired(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) -> logits."""
        self._check(x)
        return cast(Tensor, self.unpaired_tail(self.trunk(self.unpaired_head(x))))

    def paired(self, source: Tensor, target: Tensor) -> Tensor:
        """(B, source_channels, ...) and (B, in_channels, ...) -> logits."""
        self._check(target)
        return cast(Tensor, self.paired_tail(self.trunk(self.paired_head(torch.cat([source, target], 1)))))

    def forward(self, x: Tensor) -> Tensor:
        """An image, or a source stacked on an image: the number of channels says which."""
        if x.shape[1] == self.in_channels:
            return self.unpaired(x)
        if x.shape[1] == self.both_channels:
            sources = self.both_channels - self.in_channels
            return self.paired(x[:, :sources], x[:, sources:])
        raise ValueError(f"{self.in_channels} or {self.both_channels} channels are judged here, not {x.shape[1]}")

    def _check(self, x: Tensor) -> None:
        if min(x.shape[2:]) < self.least:
            raise ValueError(
                f"images of {tuple(x.shape[2:])} are too small: every extent must be at least {self.least}"
            )
