"""Discriminators with one number for an image.

Sources: Radford et al., ICLR 2016 (DCGAN); Gulrajani et al., NeurIPS 2017 (critic); Nie et al., MICCAI 2017; Chen et
al., MICCAI 2018 (mDCSRN); Denton et al., NeurIPS 2015 (pyramid levels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.blocks import conv, norm
from SynthGANLib.networks.codes import extents_of, halvings, image_with_label

_SLOPE = 0.2


def check_extents(x: Tensor, extents: tuple[int, ...]) -> None:
    """ValueError unless the images (B, C, ...) have these extents."""
    if tuple(x.shape[2:]) != extents:
        raise ValueError(f"this discriminator judges images of {extents}, not {tuple(x.shape[2:])}")


def strided_trunk(
    dims: int, channels: int, extents: Sequence[int], base: int, norm_name: str
) -> tuple[nn.Sequential, int, tuple[int, ...]]:
    """DCGAN's strided convolutions down to a least extent of 4 to 7: layers, their channels, their extents.

    Widths double from `base`; no norm in the first layer; a bias only in a later layer without a norm.
    """
    if min(extents) < 8:
        raise ValueError(f"extents {tuple(extents)} are too small for a strided discriminator: 8 is the least")
    layers: list[nn.Module] = []
    width = base
    remaining = tuple(extents)
    while min(remaining) >= 8:
        first = not layers
        bias = norm_name == "none" and not first
        layers.append(conv(dims)(channels, width, 4, 2, 1, bias=bias))
        if not first and norm_name != "none":
            layers.append(norm(dims, norm_name, width))
        layers.append(nn.LeakyReLU(_SLOPE, inplace=True))
        channels, width = width, 2 * width
        remaining = tuple(n // 2 for n in remaining)
    return nn.Sequential(*layers), channels, remaining


class ImageDiscriminator(nn.Module):
    """DCGAN discriminator or critic: (B, in_channels, *size), with classes also labels (B,) int64 -> logits (B, 1).

    Args:
        size: extents, one number or one for each axis, 8 or more.
        norm: "batch", "instance", "layer" (over a whole sample, for a critic with a gradient penalty) or "none".
        classes: how many class labels are told apart; each is a map beside the image.
    """

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        size: int | Sequence[int] = 64,
        base: int = 64,
        norm: str = "batch",
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.extents, self.classes = extents_of(dims, size), classes
        self.trunk, channels, left = strided_trunk(dims, in_channels + classes, self.extents, base, norm)
        self.head = nn.Linear(channels * math.prod(left), 1, bias=False)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        check_extents(x, self.extents)
        return cast(Tensor, self.head(self.trunk(image_with_label(x, label, self.classes)).flatten(1)))


class MlpDiscriminator(nn.Module):
    """Fully connected discriminator, mirror of `MlpGenerator`: (B, *shape), with classes also labels -> (B, 1)."""

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        widths: Sequence[int] = (1024, 512, 256),
        dropout: float = 0.3,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.extents, self.classes = tuple(shape)[1:], classes
        inputs = (shape[0] + classes) * math.prod(self.extents)
        layers: list[nn.Module] = []
        for a, b in pairwise([inputs, *widths]):
            layers += [nn.Linear(a, b), nn.LeakyReLU(_SLOPE, inplace=True), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear([inputs, *widths][-1], 1))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        check_extents(x, self.extents)
        return cast(Tensor, self.layers(image_with_label(x, label, self.classes).flatten(1)))


class LevelDiscriminator(nn.Module):
    """One level of a pyramid: (B, in_channels, *size) -> (B, 1) by strided convolutions and a dense layer.

    For LAPGAN the residual and the enlarged image it belongs to are stacked (`in_channels` doubled); for DDGAN the
    image is judged alone.
    """

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        size: int | Sequence[int] = 32,
        widths: Sequence[int] = (64, 128, 256),
    ) -> None:
        super().__init__()
        self.extents = extents_of(dims, size)
        left = tuple(n >> len(widths) for n in self.extents)
        if min(left) < 1:
            raise ValueError(f"extents {self.extents} are too small for {len(widths)} strided convolutions")
        layers: list[nn.Module] = []
        for a, b in pairwise([in_channels, *widths]):
            layers += [conv(dims)(a, b, 4, 2, 1), nn.LeakyReLU(_SLOPE, inplace=True)]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear([in_channels, *widths][-1] * math.prod(left), 1)

    def forward(self, x: Tensor) -> Tensor:
        check_extents(x, self.extents)
        return cast(Tensor, self.head(self.trunk(x).flatten(1)))


class PyramidDiscriminator(nn.Module):
    """The discriminators of all levels of a `PyramidGenerator`, coarse to fine, in `levels`.

    `judge(0, image)` is DCGAN's for the coarsest image. For a finer level, `judge(level, residual, enlarged)` sees a
    residual and the enlarged image it belongs to, or, with `conditional` false, `judge(level, image)` an image alone.
    """

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        size: int | Sequence[int] = 256,
        coarsest: int = 16,
        base: int = 64,
        widths: Sequence[int] = (64, 128, 256),
        conditional: bool = True,
    ) -> None:
        super().__init__()
        extents = extents_of(dims, size)
        count = halvings(extents, coarsest)
        inputs = 2 * in_channels if conditional else in_channels
        self.levels = nn.ModuleList(
            [ImageDiscriminator(dims, in_channels, [n >> count for n in extents], base)]
            + [
                LevelDiscriminator(dims, inputs, [n >> (count - level) for n in extents], widths)
                for level in range(1, count + 1)
            ]
        )

    def judge(self, level: int, image: Tensor, enlarged: Tensor | None = None) -> Tensor:
        """Logits (B, 1) of one level."""
        return cast(Tensor, self.levels[level](image if enlarged is None else torch.cat([image, enlarged], 1)))

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Logits (B, 1) of every level for the images of every level, coarse to fine; without `conditional` only."""
        return [self.judge(level, image) for level, image in enumerate(images)]


class NieDiscriminator(nn.Module):
    """Three pooled convolutions, a fourth, and three dense layers: (B, in_channels, *size) -> (B, 1)."""

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        size: int | Sequence[int] = 16,
        widths: Sequence[int] = (32, 64, 128, 256),
        dense: Sequence[int] = (512, 128),
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.extents = extents_of(dims, size)
        pools = len(widths) - 1
        left = tuple(n >> pools for n in self.extents)
        if min(left) < 1:
            raise ValueError(f"extents {self.extents} are too small for {pools} poolings")
        pool = nn.MaxPool2d if dims == 2 else nn.MaxPool3d
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise([in_channels, *widths])):
            layers += [conv(dims)(a, b, kernel, padding=kernel // 2), norm(dims, "batch", b), nn.ReLU(inplace=True)]
            if i < pools:
                layers.append(pool(2))
        flat = widths[-1] * math.prod(left)
        layers.append(nn.Flatten())
        for a, b in pairwise([flat, *dense]):
            layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Linear([flat, *dense][-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        check_extents(x, self.extents)
        return cast(Tensor, self.layers(x))


class SuperResolutionCritic(nn.Module):
    """mDCSRN-GAN's critic: (B, in_channels, *size) -> (B, 1).

    Pairs of convolutions, the first of a pair strided, each but the first of all with a layer norm that has a gain and
    a shift for every channel and voxel; then the mean over voxels and two dense layers.
    """

    def __init__(
        self, dims: int = 3, in_channels: int = 1, size: int | Sequence[int] = 64, base: int = 64, dense: int = 1024
    ) -> None:
        super().__init__()
        self.extents = extents = extents_of(dims, size)
        if any(n % 16 for n in extents):
            raise ValueError(f"extents {extents} of this critic must be divisible by 16")
        # width, stride of every layer after the first
        plan = [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]
        layers: list[nn.Module] = [conv(dims)(in_channels, base, 3, padding=1), nn.LeakyReLU(_SLOPE, inplace=True)]
        channels = base
        for times, stride in plan:
            extents = tuple(n // stride for n in extents)
            layers += [
                conv(dims)(channels, times * base, 3, stride, 1),
                nn.LayerNorm([times * base, *extents]),
                nn.LeakyReLU(_SLOPE, inplace=True),
            ]
            channels = times * base
        self.trunk = nn.Sequential(*layers)
        self.dense, self.head = nn.Linear(channels, dense), nn.Linear(dense, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_extents(x, self.extents)
        features = self.trunk(x).flatten(2).mean(2)
        return cast(Tensor, self.head(F.leaky_relu(self.dense(features), _SLOPE)))


class CodeDiscriminator(nn.Module):
    """Tells codes (B, code) of an autoencoder from standard normal ones: logits (B, 1)."""

    def __init__(self, code: int = 16, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(code, width), nn.LeakyReLU(_SLOPE, inplace=True), nn.Linear(width, 1))

    def forward(self, z: Tensor) -> Tensor:
        return cast(Tensor, self.layers(z.flatten(1)))
