"""FREA-UNet: a U-Net that estimates the low and the high frequencies apart, each behind an attention gate.

Sources: Emami, Liu and Dong, arXiv 2012.15397 (2020), whose layers are not public: the read-outs and gates here are
ours; attention gate: Oktay et al., MIDL 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from SynthGANLib.networks.blocks import conv, max_pool, pad_to_multiple, resize, room_for_norm
from SynthGANLib.networks.blocks import norm as make_norm

_LOW_LEVEL = 2
"""The low frequencies are read out at a quarter of the resolution."""


class AttentionGate(nn.Module):
    """Scores in (0, 1) for a skip (B, skip, ...) from it and the decoder's features (B, guide, ...) on its grid."""

    def __init__(self, dims: int, skip: int, guide: int) -> None:
        super().__init__()
        self.theta = conv(dims)(skip, max(skip // 2, 1), 1)
        self.phi = conv(dims)(guide, max(skip // 2, 1), 1, bias=False)
        self.score = conv(dims)(max(skip // 2, 1), 1, 1)

    def forward(self, skip: Tensor, guide: Tensor) -> Tensor:
        return torch.sigmoid(self.score(torch.relu(self.theta(skip) + self.phi(guide))))


class FreaUNet(nn.Module):
    """Pooled U-Net with two read-outs: `low` at 1/4 resolution, interpolated linearly, and `high` at full.

    The skip that feeds each read-out is weighted by an attention gate. Instance norm, leaky ReLU 0.2, linear output:
    the two parts add up to it exactly. At least four widths.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1, padded by mirroring to
    a multiple of 2 ** (len(widths) - 1).
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        if len(widths) <= _LOW_LEVEL + 1:
            raise ValueError(f"a FREA-UNet has at least {_LOW_LEVEL + 2} widths, not {len(widths)}")
        self.reduction = 2 ** (len(widths) - 1)
        self.down = nn.ModuleList(_double(dims, a, b) for a, b in pairwise([in_channels, *widths]))
        self.up = nn.ModuleList(_double(dims, a + b, a) for a, b in pairwise(widths))  # finest first
        self.low_gate = AttentionGate(dims, widths[_LOW_LEVEL], widths[_LOW_LEVEL + 1])
        self.high_gate = AttentionGate(dims, widths[0], widths[1])
        self.low_head = conv(dims)(widths[_LOW_LEVEL], out_channels, 1)
        self.high_head = conv(dims)(widths[0], out_channels, 1)

    def _bands(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Low, high, scores of the low gate, scores of the high gate, on the padded grid of `x`."""
        size, skips = x.shape[2:], []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else max_pool(x))
            skips.append(x)
        scores: dict[int, Tensor] = {}
        gates = {_LOW_LEVEL: self.low_gate, 0: self.high_gate}
        low = x
        for level in reversed(range(len(self.up))):
            skip = skips[level]
            x = resize(x, skip.shape[2:])
            if level in gates:
                scores[level] = gates[level](skip, x)
                skip = skip * scores[level]
            x = self.up[level](torch.cat([skip, x], 1))
            if level == _LOW_LEVEL:
                low = resize(self.low_head(x), size)
        return low, self.high_head(x), scores[_LOW_LEVEL], scores[0]

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(low, high), each (B, out_channels, ...) on the grid of `x`."""
        x, crop = pad_to_multiple(x, self.reduction, minimum=room_for_norm(x, self.reduction))
        low, high, _, _ = self._bands(x)
        return low[crop], high[crop]

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attention in (0, 1), (B, 1, ...): the low gate's at 1/4 of the padded grid, the high gate's on it."""
        x, _ = pad_to_multiple(x, self.reduction, minimum=room_for_norm(x, self.reduction))
        return self._bands(x)[2:]

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.parts(x)
        return low + high


def _double(dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((in_channels, out_channels), (out_channels, out_channels)):
        layers += [conv(dims)(a, b, 3, padding=1, bias=False), make_norm(dims, "instance", b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)
