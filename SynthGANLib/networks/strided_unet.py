"""The strided U-Net of pix2pix in two and three dimensions, with and without skips.

Sources: Isola et al., CVPR 2017; in 3D: Wang et al., NeuroImage 174 (2018) 550.
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


class StridedUNet(nn.Module):
    """`downs` strided convolutions down to one cell and as many transposed ones up, skips joined as [skip, up].

    Widths double from `base` to at most `cap`. Leaky ReLU 0.2 before every convolution but the first, ReLU before
    every transposed one; norm after all but the first and the innermost convolution and the last transposed one;
    dropout, as `nn.Dropout` layers, after the three deepest steps up. Norms have their own gain and offset,
    convolutions no bias but the last. Counts: 54,407,809 for one channel to one at `downs=8`, 41,822,849 at 7.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1. Extents below 2 ** downs
    are padded to it by mirroring; an odd extent is padded by one voxel on its level only and cropped on the way up.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        downs: int = 8,
        base: int = 64,
        cap: int = 512,
        kernel: int = 4,
        norm: str = "instance",
        dropout: float = 0.5,
        skips: bool = True,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        if kernel not in (3, 4):
            raise ValueError(f"a strided U-Net has kernels of 3 or 4, not {kernel}")
        if downs < 1:
            raise ValueError(f"a strided U-Net has at least one step down, not {downs}")
        self.least, self.skips = 2**downs, skips
        widths = [min(base * 2**level, cap) for level in range(downs)]
        self.down = nn.ModuleList()
        for level, out_width in enumerate(widths):
            in_width = widths[level - 1] if level else in_channels
            parts: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            parts.append(conv(dims)(in_width, out_width, kernel, stride=2, padding=1, bias=False))
            if 0 < level < downs - 1:
                parts.append(make_norm(dims, norm, out_width))
            self.down.append(nn.Sequential(*parts))
        self.up = nn.ModuleList()  # deepest first
        for step, level in enumerate(reversed(range(downs))):
            in_width = widths[level] * (2 if skips and step else 1)
            out_width = widths[level - 1] if level else out_channels
            # kernel 3 needs one voxel more to double an extent exactly
            growth = conv_transpose(dims)(
                in_width, out_width, kernel, stride=2, padding=1, output_padding=4 - kernel, bias=level == 0
            )
            parts = [nn.ReLU(), growth]
            if level:
                parts.append(make_norm(dims, norm, out_width))
                parts += [nn.Dropout(dropout)] if step < _DROPPED and dropout else []
            self.up.append(nn.Sequential(*parts))
        self.activation = output_activation(output)

    def encode(self, x: Tensor) -> list[Tensor]:
        """The features after every step down, finest first; extents at least 2 ** downs."""
        features: list[Tensor] = []
        for down in self.down:
            x = down(reflect_pad(x, [(0, extent % 2) for extent in x.shape[2:]]))
            features.append(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, 1, minimum=self.least)
        features = self.encode(x)
        sizes = [x.shape[2:], *(feature.shape[2:] for feature in features[:-1])]
        y = features[-1]
        for step, up in enumerate(self.up):
            level = len(features) - 1 - step
            if step and self.skips:
                y = torch.cat([features[level], y], 1)
            y = crop_to(up(y), sizes[level])
        return cast(Tensor, self.activation(y))[crop]
