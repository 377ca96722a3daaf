"""Generators from a code: the fully connected one, and the DCGAN decoder.

Sources: Goodfellow et al., NeurIPS 2014; Radford, Metz & Chintala, ICLR 2016; labels: Mirza & Osindero, 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from SynthGANLib.networks.blocks import conv_transpose, norm, output_activation
from SynthGANLib.networks.codes import at_columns, code_with_label, extents_of, halvings


class NoiseDecoder(nn.Module):
    """DCGAN generator: transposed convolutions that double a `start` sized map until it has `size`.

    Codes (B, code[, 1, ..]), with classes also labels (B,) int64 -> images (B, out_channels, [z,] y, x). The widths are
    `base` before the last layer and double towards the code; batch norm and ReLU between, no biases.

    Args:
        size: extents, one number or one for each axis; `start` is the least extent of the first map.
        classes: how many class labels are told apart; 0 for an unconditional generator.
    """

    def __init__(
        self,
        dims: int = 2,
        out_channels: int = 1,
        size: int | Sequence[int] = 64,
        code: int = 100,
        base: int = 64,
        start: int = 4,
        classes: int = 0,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        extents = extents_of(dims, size)
        ups = halvings(extents, start)
        if ups < 1:
            raise ValueError(f"a decoder to {extents} cannot start at {start}: it doubles its map at least once")
        self.dims, self.code, self.classes = dims, code, classes
        up = cast("Callable[..., nn.Module]", conv_transpose(dims))
        widths = [base << i for i in reversed(range(ups))]
        layers: list[nn.Module] = [
            up(code + classes, widths[0], tuple(n >> ups for n in extents), bias=False),
            norm(dims, "batch", widths[0]),
            nn.ReLU(inplace=True),
        ]
        for a, b in pairwise(widths):
            layers += [up(a, b, 4, 2, 1, bias=False), norm(dims, "batch", b), nn.ReLU(inplace=True)]
        layers += [up(widths[-1], out_channels, 4, 2, 1, bias=False), output_activation(output)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return cast(Tensor, self.layers(at_columns(code_with_label(z, self.code, label, self.classes), self.dims)))


class MlpGenerator(nn.Module):
    """Fully connected generator: codes (B, code[, 1, ..]), with classes also labels (B,) -> (B, *shape).

    Args:
        shape: channels, then extents, of what is generated.
        widths: units of the hidden layers, ReLU.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        code: int = 100,
        widths: Sequence[int] = (256, 512, 1024),
        classes: int = 0,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        self.shape, self.code, self.classes = tuple(shape), code, classes
        layers: list[nn.Module] = []
        for a, b in pairwise([code + classes, *widths]):
            layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
        last = [code + classes, *widths][-1]
        self.layers = nn.Sequential(*layers, nn.Linear(last, math.prod(self.shape)), output_activation(output))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        flat: Tensor = self.layers(code_with_label(z, self.code, label, self.classes))
        return flat.reshape(-1, *self.shape)
