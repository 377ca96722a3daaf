"""The U-Net of the shape of VGG16 that Han proposed for MR to CT.

Sources: Han, Medical Physics 44 (2017) 1408; encoder: Simonyan and Zisserman, ICLR 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.blocks import conv, conv_chain, max_pool, output_activation, pad_to_multiple, room_for_norm


class HanUNet(nn.Module):
    """VGG16's convolutions, three more at the bottom, and their mirror image with joined skips: 27 in all.

    Levels one and two have two convolutions, deeper ones three, all 3 wide with norm and ReLU; maximum pooling down,
    nearest neighbour up, skips joined as [encoder, upsampled]; a 1-wide convolution ends it. A single input channel
    is repeated to three, so that weights of VGG16 fit. 34,937,345 parameters with batch norm, 34,920,449 with none.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1, padded by mirroring to
    a multiple of 2 ** (len(widths) - 1).
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        norm: str = "batch",
        output: str = "linear",
    ) -> None:
        super().__init__()
        depths = [2 if level < 2 else 3 for level in range(len(widths))]
        first = 3 if in_channels == 1 else in_channels
        self.repeat = first // in_channels
        self.reduction = 2 ** (len(widths) - 1)
        self.down = nn.ModuleList(
            conv_chain(dims, [a, *[b] * n], norm) for (a, b), n in zip(pairwise([first, *widths]), depths, strict=True)
        )
        self.bottom = conv_chain(dims, [widths[-1]] * (depths[-1] + 1), norm)
        # deepest first: [encoder a, upsampled b] -> a
        self.up = nn.ModuleList(
            conv_chain(dims, [a + b, *[a] * n], norm)
            for (a, b), n in reversed(list(zip(pairwise(widths), depths[:-1], strict=True)))
        )
        self.head = conv(dims)(widths[0], out_channels, 1)
        self.activation = output_activation(output)

    def encoder_convolutions(self) -> list[nn.Module]:
        """The convolutions of the encoder in order: those of VGG16 at the canonical widths."""
        return [part for block in self.down for part in cast(nn.Sequential, block) if hasattr(part, "kernel_size")]

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, self.reduction, minimum=room_for_norm(x, self.reduction))
        x = torch.cat([x] * self.repeat, 1)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else max_pool(x))
            skips.append(x)
        x = self.bottom(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([skip, F.interpolate(x, scale_factor=2, mode="nearest")], 1))
        return cast(Tensor, self.activation(self.head(x)))[crop]
