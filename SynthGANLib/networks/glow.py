"""Glow: an exactly invertible network with a likelihood, in 2D or 3D.

Sources: Kingma & Dhariwal, NeurIPS 2018; in three dimensions and with the edge channel as in Sun et al., ICCV 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from SynthGANLib.networks.blocks import check_dims
from SynthGANLib.networks.unet import depth_to_space, space_to_depth

LOG_SCALE = 3.0
"""Factor on every learned log-scale, so that it moves faster than a weight at the same learning rate."""

_LEAST_STD = 1e-3
"""Below this a channel of the first batch counts as constant; scaling it to unit variance would blow up its noise."""


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, pad: int = 0) -> Tensor:
    """Convolution in 2D or 3D. All seven arguments by place, which is how the inference core recognizes one."""
    n = x.ndim - 2
    function: Callable[..., Tensor] = F.conv2d if n == 2 else F.conv3d
    return function(x, weight, bias, (1,) * n, (pad,) * n, (1,) * n, 1)


def _double(matrix: Tensor) -> Tensor:
    """`matrix` in float64, on the CPU where the device has no such numbers."""
    return (matrix.cpu() if matrix.device.type == "mps" else matrix).double()


def per_channel(values: Tensor, dims: int) -> Tensor:
    """(C,) -> (1, C, 1, 1[, 1])."""
    return values.reshape(1, -1, *([1] * dims))


class ActNorm(nn.Module):
    """One shift and one scale a channel, y = (x + shift) exp(3 logs).

    On the first batch in training mode they are set so that every channel has mean 0 and variance 1; the buffer
    `initialised` keeps that from happening twice, also after a checkpoint.
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.logs = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        values = values.transpose(0, 1).flatten(1)  # C, B * voxels
        self.shift.copy_(-values.mean(1))
        if values.shape[1] > 1:  # a single value has no spread to go by
            self.logs.copy_(-values.std(1, correction=0).clamp(min=_LEAST_STD).log() / LOG_SCALE)
        self.initialised.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, ...) -> the same shape, and the log-determinant for one image (a scalar)."""
        if self.training and not bool(self.initialised):
            self._initialise(x)
        logs, dims = LOG_SCALE * self.logs, x.ndim - 2
        y = (x + per_channel(self.shift, dims)) * per_channel(logs, dims).exp()
        return y, logs.sum() * math.prod(x.shape[2:])

    def inverse(self, y: Tensor) -> Tensor:
        """The x that gives y."""
        dims = y.ndim - 2
        return y * per_channel(-LOG_SCALE * self.logs, dims).exp() - per_channel(self.shift, dims)


class InvertibleConv(nn.Module):
    """1x1 convolution with a square matrix, orthogonal at the start; inverse and determinant in float64."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    def log_determinant(self) -> Tensor:
        """log |det W|, float64 scalar."""
        value: Tensor = torch.linalg.slogdet(_double(self.weight))[1]
        return value

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, ...) -> the same shape, and the log-determinant for one image (a scalar)."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.weight.dtype)
            y = _convolve(x, self._kernel(self.weight, x))
            logdet = self.log_determinant().to(x) * math.prod(x.shape[2:])
        return y, logdet

    def inverse(self, y: Tensor) -> Tensor:
        """The x that gives y."""
        return _convolve(y, self._kernel(torch.linalg.inv(_double(self.weight)), y))

    @staticmethod
    def _kernel(matrix: Tensor, like: Tensor) -> Tensor:
        return matrix.to(like).reshape(*matrix.shape, *([1] * (like.ndim - 2)))


class EdgeConv(nn.Module):
    """3-convolution that also sees a channel which is 1 outside the image and 0 inside; no bias."""

    def __init__(self, dims: int, inputs: int, outputs: int, *, std: float = 0.05) -> None:
        super().__init__()
        kernel = [3] * dims
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *kernel) * std)
        self.edge = nn.Parameter(torch.randn(outputs, 1, *kernel) * std)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, ...) -> (B, outputs, ...)."""
        dims = x.ndim - 2
        outside = F.pad(x.new_zeros(1, 1, *x.shape[2:]), (1, 1) * dims, value=1.0)
        return _convolve(x, self.weight, pad=1) + _convolve(outside, self.edge)


class ZeroConv(EdgeConv):
    """`EdgeConv` with bias and a log-scale a channel, all zero at the start: its flow begins as a constant scaling."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        super().__init__(dims, inputs, outputs, std=0.0)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.logs = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        dims = x.ndim - 2
        return (super().forward(x) + per_channel(self.bias, dims)) * per_channel(LOG_SCALE * self.logs, dims).exp()


class Coupling(nn.Module):
    """Affine coupling: one half of the channels shifts and scales the other, z2 <- (z2 + shift) sigmoid(raw + 2)."""

    def __init__(self, dims: int, channels: int, width: int) -> None:
        super().__init__()
        self.first = EdgeConv(dims, channels // 2, width)
        self.first_norm = ActNorm(width)
        self.second = nn.Parameter(torch.randn(width, width, *([1] * dims)) * 0.05)
        self.second_norm = ActNorm(width)
        self.last = ZeroConv(dims, width, channels)

    def terms(self, z1: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and raw scale, each (B, C / 2, ...), for the half that is changed."""
        h = F.relu(self.first_norm(self.first(z1))[0])
        h = F.relu(self.second_norm(_convolve(h, self.second))[0])
        h = self.last(h).to(z1.dtype)
        return h[:, 0::2], h[:, 1::2] + 2.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, ...) -> the same shape, and the log-determinants (B,)."""
        z1, z2 = x.chunk(2, 1)
        shift, raw = self.terms(z1)
        y = torch.cat([z1, (z2 + shift) * torch.sigmoid(raw)], 1)
        return y, F.logsigmoid(raw).flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """The x that gives y."""
        z1, z2 = y.chunk(2, 1)
        shift, raw = self.terms(z1)
        return torch.cat([z1, z2 / torch.sigmoid(raw) - shift], 1)


class Step(nn.Module):
    """Actnorm, invertible 1x1 convolution, affine coupling."""

    def __init__(self, dims: int, channels: int, width: int) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.mix = InvertibleConv(channels)
        self.coupling = Coupling(dims, channels, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, ...) -> the same shape, and the log-determinants (B,)."""
        x, a = self.norm(x)
        x, b = self.mix(x)
        x, c = self.coupling(x)
        return x, a + b + c

    def inverse(self, y: Tensor) -> Tensor:
        """The x that gives y."""
        x: Tensor = self.norm.inverse(self.mix.inverse(self.coupling.inverse(y)))
        return x


class Flow(nn.Module):
    """Multi-scale Glow: in every level 2-blocks become channels, `depths[i]` steps follow, and half of the channels
    leave as a latent; all that is left after the last level is the last latent.

    Extents must be divisible by `multiple` = 2 ** len(depths), else ValueError. `channels[i]` are those of latent i.
    With `recompute` the steps keep no activations in training and are computed again in the backward pass.
    """

    def __init__(
        self, dims: int, in_channels: int, depths: Sequence[int], width: int, *, recompute: bool = False
    ) -> None:
        super().__init__()
        check_dims(dims)
        if not depths or min(depths) < 1:
            raise ValueError(f"a flow needs at least one step in every level, not {list(depths)}")
        self.recompute, self.multiple = recompute, 2 ** len(depths)
        self.levels = nn.ModuleList()
        self.channels: list[int] = []
        channels = in_channels
        for depth in depths:
            channels *= 2**dims
            self.levels.append(nn.ModuleList(Step(dims, channels, width) for _ in range(depth)))
            channels //= 2
            self.channels.append(channels)
        self.channels[-1] *= 2

    def latent_shapes(self, extents: Sequence[int]) -> list[tuple[int, ...]]:
        """Shapes (C, ...) of the latents of an image with these extents."""
        self._check(extents)
        return [(c, *(n >> (i + 1) for n in extents)) for i, c in enumerate(self.channels)]

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Image (B, C, ...) -> latents, fine to coarse, and log |det| of the map (B,)."""
        self._check(x.shape[2:])
        latents: list[Tensor] = []
        total = x.new_zeros(x.shape[0])
        for level in self._levels():
            x = space_to_depth(x)
            for step in level:
                x, logdet = self._run(step, x)
                total = total + logdet
            if len(latents) < len(self.levels) - 1:
                x, latent = x.chunk(2, 1)
                latents.append(latent)
        return [*latents, x], total

    def inverse(self, latents: Sequence[Tensor]) -> Tensor:
        """The image (B, C, ...) with these latents; without mixed precision, whatever the caller's context."""
        with torch.autocast(latents[-1].device.type, enabled=False):
            x = latents[-1].to(next(self.parameters()).dtype)
            for i, level in reversed(list(enumerate(self._levels()))):
                if i < len(self.levels) - 1:
                    x = torch.cat([x, latents[i].to(x)], 1)
                for step in reversed(level):
                    x = step.inverse(x)
                x = depth_to_space(x)
        return x

    def log_determinants(self) -> Tensor:
        """log |det W| of every invertible convolution, float64; one far below zero is about to become singular."""
        return torch.stack([step.mix.log_determinant().detach() for level in self._levels() for step in level])

    def _levels(self) -> list[list[Step]]:
        return [[step for step in level.children() if isinstance(step, Step)] for level in self.levels]

    def _run(self, step: Step, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.recompute and self.training and torch.is_grad_enabled():
            y, logdet = checkpoint(step, x, use_reentrant=False)
            return y, logdet
        y, logdet = step(x)
        return y, logdet

    def _check(self, extents: Sequence[int]) -> None:
        if any(n % self.multiple for n in extents):
            raise ValueError(f"extents {tuple(extents)} of a flow must be divisible by {self.multiple}")


def normal_log_density(z: Tensor, mean: Tensor | None = None) -> Tensor:
    """log N(z; mean, 1) summed over all but the first axis; mean 0 if None."""
    square = z.square() if mean is None else (z - mean).square()
    return -0.5 * (square + math.log(2 * math.pi)).flatten(1).sum(1)
