"""Residual translators: CycleGAN's generator and the 3D one of Pan; their halves serve UNIT as well.

Sources: Zhu et al., ICCV 2017; Pan et al., MICCAI 2018; resizing instead of transposing: Odena et al., Distill 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.blocks import (
    conv,
    conv_transpose,
    output_activation,
    pad_to_multiple,
    reflect_pad,
    room_for_norm,
)
from SynthGANLib.networks.blocks import norm as make_norm

Normed = Callable[[int], nn.Module]
"""Makes the norm of so many channels."""


class MirrorConv(nn.Module):
    """Convolution after padding by mirroring, `(kernel - 1) // 2` voxels before and after; any extent >= 1."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.pad = (kernel - 1) // 2
        self.conv = conv(dims)(in_channels, out_channels, kernel, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(reflect_pad(x, [(self.pad, self.pad)] * (x.ndim - 2))))


class Double(nn.Module):
    """Every voxel twice along every axis."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), both convolutions 3 wide on mirrored borders."""

    def __init__(self, dims: int, channels: int, normed: Normed) -> None:
        super().__init__()
        self.body = nn.Sequential(
            MirrorConv(dims, channels, channels, 3),
            normed(channels),
            nn.ReLU(),
            MirrorConv(dims, channels, channels, 3),
            normed(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x + self.body(x))


class RectifiedBlock(ResidualBlock):
    """Pan's block: ReLU after the addition."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


class PanOutput(nn.Module):
    """relu(v / 2 + 1) - 1: linear, with -1, the air outside the head, as the floor."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x / 2 + 1) - 1


def down_path(dims: int, in_channels: int, base: int, downs: int, normed: Normed) -> nn.Sequential:
    """Kernel 7, then `downs` strided convolutions of kernel 3, each doubling the channels."""
    layers: list[nn.Module] = [MirrorConv(dims, in_channels, base, 7), normed(base), nn.ReLU()]
    for level in range(downs):
        width = base * 2**level
        layers += [conv(dims)(width, 2 * width, 3, stride=2, padding=1), normed(2 * width), nn.ReLU()]
    return nn.Sequential(*layers)


def up_path(
    dims: int, out_channels: int, base: int, downs: int, normed: Normed, up: str, output: nn.Module
) -> nn.Sequential:
    """The way back: `up` "transposed" (kernel 3) or "resize" (nearest neighbour, then kernel 3); kernel 7 last."""
    layers: list[nn.Module] = []
    for level in reversed(range(downs)):
        width = base * 2**level
        if up == "transposed":
            layers.append(conv_transpose(dims)(2 * width, width, 3, stride=2, padding=1, output_padding=1))
        elif up == "resize":
            layers += [Double(), MirrorConv(dims, 2 * width, width, 3)]
        else:
            raise ValueError(f"up is 'resize' or 'transposed', not '{up}'")
        layers += [normed(width), nn.ReLU()]
    return nn.Sequential(*layers, MirrorConv(dims, base, out_channels, 7), output)


class ResNetTranslator(nn.Module):
    """Convolutions down, residual `blocks` at the bottom, convolutions up.

    Instance norm has no gain and offset here, batch norm has; every convolution has a bias. `up` "resize" and
    "transposed" have equally many parameters: 11,365,633 for one channel to one with 9 blocks, 7,825,153 with 6.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1, padded by mirroring to
    a multiple of 2 ** downs.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        base: int = 64,
        downs: int = 2,
        blocks: int = 9,
        up: str = "resize",
        norm: str = "instance",
        output: str = "tanh",
    ) -> None:
        super().__init__()

        def normed(channels: int) -> nn.Module:
            return make_norm(dims, norm, channels, affine=norm != "instance")

        self.reduction = 2**downs
        self.encoder = down_path(dims, in_channels, base, downs, normed)
        self.blocks = nn.Sequential(*(ResidualBlock(dims, base * 2**downs, normed) for _ in range(blocks)))
        self.decoder = up_path(dims, out_channels, base, downs, normed, up, output_activation(output))

    def encode(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) to features behind all blocks; extents divisible by 2 ** downs."""
        return cast(Tensor, self.blocks(self.encoder(x)))

    def decode(self, h: Tensor) -> Tensor:
        """The features of `encode` to (B, out_channels, ...)."""
        return cast(Tensor, self.decoder(h))

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, self.reduction, minimum=room_for_norm(x, self.reduction))
        return self.decode(self.encode(x))[crop]


class PanResNet(nn.Module):
    """Pan's generator of whole brains: instance norm with gain and offset, ReLU after each block's addition.

    Output in [-1, infinity). 206,753 parameters in 3D with base 8, 814,401 with 16.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1, padded by mirroring to
    a multiple of 4.
    """

    multiple = 1
    reduction = 4

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        base: int = 8,
        blocks: int = 3,
    ) -> None:
        super().__init__()

        def normed(channels: int) -> nn.Module:
            return make_norm(dims, "instance", channels)

        self.encoder = down_path(dims, in_channels, base, 2, normed)
        self.blocks = nn.Sequential(*(RectifiedBlock(dims, base * 4, normed) for _ in range(blocks)))
        self.decoder = up_path(dims, out_channels, base, 2, normed, "transposed", PanOutput())

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, self.reduction, minimum=room_for_norm(x, self.reduction))
        return cast(Tensor, self.decoder(self.blocks(self.encoder(x))))[crop]
