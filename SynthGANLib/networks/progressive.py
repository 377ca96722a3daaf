"""Generator and critic that grow: every level doubles the extents and is faded in.

Sources: Karras et al., ICLR 2018; in medicine Beers et al., 2018 (arXiv 1805.03144).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.blocks import check_dims
from SynthGANLib.networks.codes import code_with_label, extents_of, halvings

_START = 4
_SLOPE = 0.2
_GAIN = math.sqrt(2.0)
"""He's gain, before a (leaky) ReLU."""


class EqualConv(nn.Module):
    """Same-size convolution whose weights are N(0, 1) and scaled by gain / sqrt(fan in) when used.

    All layers then learn at one speed under Adam, whose step does not depend on a weight's scale.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, kernel: int, gain: float = _GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *([kernel] * dims)))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(inputs * kernel**dims)
        self.pad = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        n = x.ndim - 2
        function: Callable[..., Tensor] = F.conv2d if n == 2 else F.conv3d
        # all seven arguments by place: how the inference core recognizes a convolution
        return function(x, self.weight * self.scale, self.bias, (1,) * n, (self.pad,) * n, (1,) * n, 1)


class EqualLinear(nn.Module):
    """Fully connected layer with `EqualConv`'s scaling: (B, inputs) -> (B, outputs)."""

    def __init__(self, inputs: int, outputs: int, gain: float = _GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


class FirstMap(nn.Module):
    """Code (B, code) -> (B, channels, *extents): a dense layer with one bias a channel."""

    def __init__(self, code: int, channels: int, extents: Sequence[int]) -> None:
        super().__init__()
        self.shape = (channels, *extents)
        self.weight = nn.Parameter(torch.randn(math.prod(self.shape), code))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = _GAIN / 4 / math.sqrt(code)  # the code comes with unit mean square, not before a ReLU

    def forward(self, z: Tensor) -> Tensor:
        y = F.linear(z, self.weight * self.scale).reshape(-1, *self.shape)
        return y + self.bias.reshape(-1, *([1] * (len(self.shape) - 1)))


def _wide(x: Tensor) -> Tensor:
    """`x` in float32 at least: half precision has no 1e-8."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pixel_norm(x: Tensor) -> Tensor:
    """Every voxel's channels (B, C, ...) scaled to mean square 1."""
    wide = _wide(x)
    return (wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + 1e-8)).to(x.dtype)


def minibatch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """Appends one channel: the mean standard deviation over groups of samples, exactly 0 where they are identical.

    A group has the largest number of samples up to `group` that divides the batch.
    """
    batch = x.shape[0]
    members = max(n for n in range(1, min(group, batch) + 1) if batch % n == 0)
    variance = _wide(x).reshape(members, -1, *x.shape[1:]).var(0, correction=0)  # batch / members, C, ...
    # sqrt(v + e) - sqrt(e), written so that it is 0 at v = 0 and has a gradient there
    deviation = variance / ((variance + 1e-8).sqrt() + 1e-4)
    each = deviation.flatten(1).mean(1).to(x.dtype).repeat(members)  # sample i belongs to group i mod (batch / members)
    return torch.cat([x, each.reshape(-1, *([1] * (x.ndim - 1))).expand(-1, 1, *x.shape[2:])], 1)


class _Growing(nn.Module):
    """Extents, levels and widths that generator and critic share."""

    def __init__(self, dims: int, size: int | Sequence[int], base: int, cap: int) -> None:
        super().__init__()
        check_dims(dims)
        extents = extents_of(dims, size)
        self.top = halvings(extents, _START)
        self.start = tuple(n >> self.top for n in extents)
        self.widths = [max(min(base >> (level + 1), cap), 1) for level in range(self.top + 1)]

    def extents(self, level: int | None = None) -> tuple[int, ...]:
        """Extents ([z,] y, x) of the images of `level`: 0 is the coarsest, None the finest."""
        return tuple(n << self._level(level) for n in self.start)

    def _level(self, level: int | None) -> int:
        if level is not None and not 0 <= level <= self.top:
            raise ValueError(f"this network has the levels 0 to {self.top}, not {level}")
        return self.top if level is None else level


class ProgressiveGenerator(_Growing):
    """Codes (B, code[, 1, ..]) -> images (B, out_channels, ...) of `extents(level)`, linear output.

    While a level fades in, the image is (1 - alpha) times that of the level before, its voxels doubled, plus alpha
    times its own.

    Args:
        size: finest extents, one number or one for each axis, the least of them 4 * 2 ** n.
        base, cap: level l has min(base / 2 ** (l + 1), cap) channels.
    """

    def __init__(
        self,
        dims: int = 2,
        out_channels: int = 1,
        size: int | Sequence[int] = 64,
        code: int = 512,
        base: int = 8192,
        cap: int = 512,
    ) -> None:
        super().__init__(dims, size, base, cap)
        self.code = code
        self.first = FirstMap(code, self.widths[0], self.start)
        self.blocks = nn.ModuleList([nn.ModuleList([EqualConv(dims, self.widths[0], self.widths[0], 3)])])
        for a, b in zip(self.widths, self.widths[1:], strict=False):
            self.blocks.append(nn.ModuleList([EqualConv(dims, a, b, 3), EqualConv(dims, b, b, 3)]))
        self.to_image = nn.ModuleList(EqualConv(dims, w, out_channels, 1, gain=1.0) for w in self.widths)

    def forward(self, z: Tensor, level: int | None = None, alpha: float = 1.0) -> Tensor:
        level = self._level(level)
        h = pixel_norm(F.leaky_relu(self.first(pixel_norm(code_with_label(z, self.code, None, 0))), _SLOPE))
        before = h
        for i in range(level + 1):
            if i:
                before = h
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            for layer in cast(nn.ModuleList, self.blocks[i]):
                h = pixel_norm(F.leaky_relu(layer(h), _SLOPE))
        image: Tensor = self.to_image[level](h)
        if level == 0 or alpha >= 1.0:
            return image
        coarse = F.interpolate(self.to_image[level - 1](before), scale_factor=2.0, mode="nearest")
        return (1.0 - alpha) * coarse + alpha * image


class ProgressiveDiscriminator(_Growing):
    """Critic: images (B, in_channels, ...) of `extents(level)` -> logits (B, 1); mirrors `ProgressiveGenerator`.

    While a level fades in, its features are mixed with those that the level before has of the halved image.
    """

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        size: int | Sequence[int] = 64,
        base: int = 8192,
        cap: int = 512,
    ) -> None:
        super().__init__(dims, size, base, cap)
        self.from_image = nn.ModuleList(EqualConv(dims, in_channels, w, 1) for w in self.widths)
        self.blocks = nn.ModuleList([nn.ModuleList([EqualConv(dims, self.widths[0] + 1, self.widths[0], 3)])])
        for a, b in zip(self.widths, self.widths[1:], strict=False):
            self.blocks.append(nn.ModuleList([EqualConv(dims, b, b, 3), EqualConv(dims, b, a, 3)]))
        hidden = self.widths[0]
        self.dense = EqualLinear(hidden * math.prod(self.start), hidden)
        self.head = EqualLinear(hidden, 1, gain=1.0)

    def forward(self, x: Tensor, level: int | None = None, alpha: float = 1.0) -> Tensor:
        level = self._level(level)
        if tuple(x.shape[2:]) != self.extents(level):
            raise ValueError(f"level {level} judges images of {self.extents(level)}, not {tuple(x.shape[2:])}")
        h: Tensor = F.leaky_relu(self.from_image[level](x), _SLOPE)
        for i in range(level, -1, -1):
            if i == 0:
                h = minibatch_deviation(h)
            for layer in cast(nn.ModuleList, self.blocks[i]):
                h = F.leaky_relu(layer(h), _SLOPE)
            if i:
                h = _halved(h)
            if i == level and i and alpha < 1.0:
                coarse = F.leaky_relu(self.from_image[level - 1](_halved(x)), _SLOPE)
                h = (1.0 - alpha) * coarse + alpha * h
        return cast(Tensor, self.head(F.leaky_relu(self.dense(h.flatten(1)), _SLOPE)))


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2) if x.ndim == 4 else F.avg_pool3d(x, 2)
