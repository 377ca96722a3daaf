"""ARGAN's judge: how badly an image's features are foretold from those before them.

Source of the idea: Yazici, Yap & Winkler, ICLR workshop 2018. Only its abstract and introduction could be read; the
energy defined here is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from SynthGANLib.networks.codes import extents_of
from SynthGANLib.networks.image_discriminators import check_extents, strided_trunk


class AutoregressiveDiscriminator(nn.Module):
    """Encoder to features in (-1, 1), and an LSTM that predicts each step of their sequence from the steps before.

    Images (B, in_channels, *size) -> energies (B,): the mean absolute error of the predictions, low for images whose
    features occur together as they do in real ones. No norm: it would couple the samples of a batch, or the steps.

    Args:
        size: extents, one number or one for each axis, 8 or more. base: width of the first layer of the encoder.
        hidden: units of the LSTM.
        order: "raster", a step is the features of one position, or "channel", a step is one feature's whole map.
    """

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        size: int | Sequence[int] = 32,
        base: int = 128,
        hidden: int = 512,
        order: str = "raster",
    ) -> None:
        super().__init__()
        if order not in ("raster", "channel"):
            raise ValueError(f"an order is 'raster' or 'channel', not '{order}'")
        self.extents, self.order = extents_of(dims, size), order
        trunk, channels, left = strided_trunk(dims, in_channels, self.extents, base, "none")
        self.encoder = nn.Sequential(*list(trunk)[:-1], nn.Tanh())  # bounded in place of the last leaky ReLU
        width = channels if order == "raster" else math.prod(left)
        self.memory = nn.LSTM(width, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, width)

    def sequence(self, x: Tensor) -> Tensor:
        """Images -> features in order (B, steps, width)."""
        check_extents(x, self.extents)
        features = cast(Tensor, self.encoder(x)).flatten(2)  # B, channels, positions
        return features.transpose(1, 2) if self.order == "raster" else features

    def predict(self, sequence: Tensor) -> Tensor:
        """Prediction (B, steps, width) of every step from those before it; of the first from nothing."""
        before = torch.cat([torch.zeros_like(sequence[:, :1]), sequence[:, :-1]], 1)
        return torch.tanh(self.readout(self.memory(before)[0]))

    def steps(self, x: Tensor) -> Tensor:
        """Energy of every step (B, steps)."""
        sequence = self.sequence(x)
        return (sequence - self.predict(sequence)).abs().mean(2)

    def energy(self, x: Tensor) -> Tensor:
        """The mean of `steps`, (B,)."""
        return self.steps(x).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x)
