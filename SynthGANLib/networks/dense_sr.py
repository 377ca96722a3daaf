"""mDCSRN: densely connected super-resolution of volumes on their own grid.

Source: Chen et al., MICCAI 2018 (arXiv 1803.01417).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from SynthGANLib.networks.blocks import conv
from SynthGANLib.networks.blocks import norm as make_norm


class DenseBlock(nn.Module):
    """`units` times norm, ELU, convolution of `growth` channels, each fed with all before it; returns all of them."""

    def __init__(self, dims: int, width: int, units: int, growth: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            nn.Sequential(
                make_norm(dims, "batch", width + growth * unit),
                nn.ELU(),
                conv(dims)(width + growth * unit, growth, 3, padding=1, bias=False),
            )
            for unit in range(units)
        )

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = torch.cat([x, unit(x)], 1)
        return x


class DenseSR(nn.Module):
    """A stem, `blocks` dense blocks, and a 1-wide convolution of everything to the image; no biases, linear output.

    Between blocks a 1-wide convolution narrows the stem and all blocks so far to `width` channels. 411,648
    parameters as published.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1. In training batch norm
    needs more than one voxel.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        blocks: int = 4,
        units: int = 4,
        growth: int = 16,
        width: int = 32,
    ) -> None:
        super().__init__()
        grown = width + units * growth
        self.stem = conv(dims)(in_channels, width, 3, padding=1, bias=False)
        self.dense = nn.ModuleList(DenseBlock(dims, width, units, growth) for _ in range(blocks))
        self.compress = nn.ModuleList(
            conv(dims)(width + grown * block, width, 1, bias=False) for block in range(1, blocks)
        )
        self.head = conv(dims)(width + grown * blocks, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        seen = [x]
        for index, dense in enumerate(self.dense):
            seen.append(dense(x if index == 0 else self.compress[index - 1](torch.cat(seen, 1))))
        return cast(Tensor, self.head(torch.cat(seen, 1)))
