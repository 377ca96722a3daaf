"""The renderer that turns a vessel tree into a fundus photograph.

Sources: Costa et al., arXiv 1701.08974 (2017); Costa et al., IEEE TMI 37 (2018) 781.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from SynthGANLib.networks.blocks import (
    conv,
    conv_transpose,
    crop_to,
    output_activation,
    pad_to_multiple,
    reflect_pad,
)
from SynthGANLib.networks.blocks import norm as make_norm

_DROPPED = 3
"""Dropout follows the so many deepest steps up."""


class CostaUNet(nn.Module):
    """`downs` strided convolutions of kernel 3 and a valid one of kernel 2, transposed ones of kernel 2 up.

    Widths are base, 2, 4 and from there on 8 times base; leaky ReLU 0.2 and norm both ways, also after the first
    convolution. The innermost layer sees one cell, over which no norm by batch or instance has a variance: it is
    normalised over its channels, with as many parameters. Counts for a mask to RGB: 4,607,075 (base 32, `downs=7`,
    256 x 256), 22,869,187 (base 64, `downs=8`, 512 x 512).

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1, padded by mirroring to
    at least 2 ** (downs + 1), an odd extent by one voxel on its level only.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 3,
        base: int = 32,
        downs: int = 7,
        norm: str = "instance",
        dropout: float = 0.5,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        if downs < 1:
            raise ValueError(f"this U-Net has at least one step down, not {downs}")
        self.least = 2 ** (downs + 1)
        widths = [base * 2 ** min(level, 3) for level in range(downs)]
        self.down = nn.ModuleList()
        for in_width, out_width in zip([in_channels, *widths[:-1]], widths, strict=True):
            strided = conv(dims)(in_width, out_width, 3, stride=2, padding=1)
            self.down.append(nn.Sequential(strided, make_norm(dims, norm, out_width)))
        inner = widths[-1]
        self.inner = nn.Sequential(conv(dims)(inner, inner, 2), make_norm(dims, "layer", inner), nn.LeakyReLU(0.2))
        self.grow = conv_transpose(dims)(inner, inner, 2)
        self.grow_norm = nn.Sequential(make_norm(dims, norm, inner), nn.Dropout(dropout))
        self.up = nn.ModuleList()  # deepest first; each takes [skip, up]
        for level in reversed(range(downs)):
            out_width = widths[level - 1] if level else out_channels
            parts: list[nn.Module] = [
                nn.LeakyReLU(0.2),
                conv_transpose(dims)(2 * widths[level], out_width, 2, stride=2),
            ]
            if level:
                parts.append(make_norm(dims, norm, out_width))
                parts += [nn.Dropout(dropout)] if downs - level < _DROPPED else []
            self.up.append(nn.Sequential(*parts))
        self.activation = output_activation(output)

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, 1, minimum=self.least)
        sizes, skips = [], []
        y = x
        for level, down in enumerate(self.down):
            sizes.append(y.shape[2:])
            even = reflect_pad(y, [(0, extent % 2) for extent in y.shape[2:]])
            y = down(even if level == 0 else nn.functional.leaky_relu(even, 0.2))
            skips.append(y)
        y = self.grow_norm(self.grow(self.inner(nn.functional.leaky_relu(y, 0.2))))
        for up in self.up:
            y = crop_to(up(torch.cat([skips.pop(), y], 1)), sizes.pop())
        return cast(Tensor, self.activation(y))[crop]
