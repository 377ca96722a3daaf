"""DECNN: convolution and concatenation only; tentative images are embedded between the layers.

Source: Xiang et al., Medical Image Analysis 47 (2018) 31-44; widths and number of blocks are ours.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from SynthGANLib.networks.blocks import conv, output_activation, pad_to_multiple
from SynthGANLib.networks.blocks import norm as make_norm


class EmbeddingStack(nn.Module):
    """A stem of two convolutions, `blocks` embedding blocks of `convs` convolutions, and a last convolution.

    An embedding block makes a tentative image from its features, joins it to them and narrows both back to `width`
    channels. All convolutions are 3 wide and keep the extents; no pooling. With `blocks=0` a plain CNN.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        blocks: int = 4,
        convs: int = 3,
        norm: str = "batch",
        output: str = "linear",
    ) -> None:
        super().__init__()
        self.least = 2 if norm == "instance" else 1
        self.stem = nn.Sequential(_layer(dims, in_channels, width, norm), _layer(dims, width, width, norm))
        self.trunks = nn.ModuleList(
            nn.Sequential(*(_layer(dims, width, width, norm) for _ in range(convs))) for _ in range(blocks)
        )
        self.heads = nn.ModuleList(_image(dims, width, out_channels, output) for _ in range(blocks))
        self.fuses = nn.ModuleList(_layer(dims, width + out_channels, width, norm) for _ in range(blocks))
        self.last = _image(dims, width, out_channels, output)

    def tentative(self, x: Tensor) -> list[Tensor]:
        """Every image on the way, `blocks` + 1 of them, each (B, out_channels, ...); the last is the result."""
        x, crop = pad_to_multiple(x, 1, minimum=self.least)
        features = self.stem(x)
        images: list[Tensor] = []
        for trunk, head, fuse in zip(self.trunks, self.heads, self.fuses, strict=True):
            features = trunk(features)
            images.append(head(features))
            features = fuse(torch.cat([features, images[-1]], 1))
        images.append(self.last(features))
        return [image[crop] for image in images]

    def forward(self, x: Tensor) -> Tensor:
        return self.tentative(x)[-1]


def _layer(dims: int, in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        conv(dims)(in_channels, out_channels, 3, padding=1), make_norm(dims, norm, out_channels), nn.ReLU()
    )


def _image(dims: int, in_channels: int, out_channels: int, output: str) -> nn.Sequential:
    return nn.Sequential(
        cast(nn.Module, conv(dims)(in_channels, out_channels, 3, padding=1)), output_activation(output)
    )
