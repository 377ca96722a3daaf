"""U-Nets in any number of dimensions: the pooled one, and the one that trades resolution for channels.

Sources: Ronneberger et al., MICCAI 2015; Cicek et al., MICCAI 2016; sub-pixel rearrangement: Shi et al., CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


def _offset(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, x: Tensor) -> Tensor:
    """What an instance norm leaves of one voxel: its deviation from its mean is zero, so the offset."""
    return x * 0.0 + norm.bias.reshape(1, -1, *([1] * (x.ndim - 2)))


class Norm2d(nn.InstanceNorm2d):
    """Affine instance norm that also takes images of one pixel, which torch's refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return _offset(self, x) if x[0, 0].numel() == 1 else super().forward(x)


class Norm3d(nn.InstanceNorm3d):
    """Affine instance norm that also takes images of one voxel, which torch's refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return _offset(self, x) if x[0, 0].numel() == 1 else super().forward(x)


_NORM = {2: Norm2d, 3: Norm3d}


def conv_block(dims: int, channels: Sequence[int]) -> nn.Sequential:
    """Convolution 3, instance norm, leaky ReLU for each pair of neighbouring channel counts."""
    layers: list[nn.Module] = []
    for in_channels, out_channels in pairwise(channels):
        layers += [
            _CONV[dims](in_channels, out_channels, 3, padding=1, bias=False),
            _NORM[dims](out_channels, affine=True),
            nn.LeakyReLU(0.1, inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Pooled U-Net of `len(widths)` levels.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); every extent must be divisible by
    `multiple` = 2 ** (len(widths) - 1), else ValueError.
    """

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (16, 32, 64, 128),
        convs: int = 2,
    ) -> None:
        super().__init__()
        if dims not in _CONV:
            raise ValueError(f"a U-Net has 2 or 3 dimensions, not {dims}")
        self.dims, self.multiple = dims, 2 ** (len(widths) - 1)
        self.down = nn.ModuleList(conv_block(dims, [a] + [b] * convs) for a, b in pairwise([in_channels, *widths]))
        # 1x1 before upsampling: the wide, cheap level is narrowed where it has few voxels
        self.narrow = nn.ModuleList(_CONV[dims](b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(conv_block(dims, [2 * a] + [a] * convs) for a in widths[:-1])
        self.head = _CONV[dims](widths[0], out_channels, 1)

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) -> (B, widths[0], ...), the features before the head."""
        if any(n % self.multiple for n in x.shape[2:]):
            raise ValueError(f"extents {tuple(x.shape[2:])} must be divisible by {self.multiple}")
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else _POOL[self.dims](x, 2))
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.narrow[level](x), scale_factor=2, mode="nearest")
            x = self.up[level](torch.cat([x, skips[level]], 1))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(x)))


def space_to_depth(x: Tensor) -> Tensor:
    """(B, C, z, y, x) -> (B, 8 C, z/2, y/2, x/2), and the 2D analogue: every 2-block becomes channels."""
    spatial = x.shape[2:]
    n = len(spatial)
    blocks = x.reshape(*x.shape[:2], *(m for s in spatial for m in (s // 2, 2)))  # B,C,(s/2,2)*n
    order = [0, 1, *range(3, 3 + 2 * n, 2), *range(2, 2 + 2 * n, 2)]
    return blocks.permute(order).reshape(x.shape[0], -1, *(s // 2 for s in spatial))


def depth_to_space(x: Tensor) -> Tensor:
    """Inverse of `space_to_depth`: (B, 8 C, z, y, x) -> (B, C, 2z, 2y, 2x)."""
    spatial = x.shape[2:]
    n = len(spatial)
    blocks = x.reshape(x.shape[0], -1, *([2] * n), *spatial)  # B,C,(2)*n,(s)*n
    order = [0, 1, *(m for i in range(n) for m in (2 + n + i, 2 + i))]
    return blocks.permute(order).reshape(x.shape[0], blocks.shape[1], *(2 * s for s in spatial))


class MixtureUNet(nn.Module):
    """Tissue posterior and residual on the fine grid, at the cost of a U-Net on the half-resolution grid.

    The input is rearranged by `space_to_depth`, so no fine detail is lost; the head predicts, for each fine voxel, a
    softmax over `len(values)` tissues and one residual. The output is sum_k p_k values_k + residual, in the target's
    normalised units: a bounded estimate that cannot drift, sharpened by what the tissues leave over.

    Input (B, in_channels, z, y, x), output (B, 1, z, y, x); extents divisible by `multiple` = 2 ** len(widths).
    """

    values: Tensor

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        values: Sequence[float] = (-1.0, 1.0),
        widths: Sequence[int] = (16, 48, 96, 128),
        convs: int = 2,
    ) -> None:
        super().__init__()
        cells = 2**dims
        self.classes, self.multiple = len(values), 2 ** len(widths)
        self.trunk = UNet(dims, in_channels * cells, (self.classes + 1) * cells, widths, convs)
        self.register_buffer("values", torch.tensor(list(values), dtype=torch.float32))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes, ...) and residual (B, 1, ...) on the input's grid."""
        y = depth_to_space(self.trunk(space_to_depth(x)))
        return y[:, : self.classes], y[:, self.classes :]

    def combine(self, logits: Tensor, residual: Tensor) -> Tensor:
        """Expected value plus residual: (B, classes, ...), (B, 1, ...) -> (B, 1, ...)."""
        weights = self.values.reshape(1, -1, *([1] * (logits.ndim - 2)))
        return (torch.softmax(logits, 1) * weights).sum(1, keepdim=True) + residual

    def forward(self, x: Tensor) -> Tensor:
        return self.combine(*self.parts(x))
