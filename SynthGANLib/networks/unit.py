"""UNIT: two encoders and two decoders around one latent space.

Source: Liu, Breuel and Kautz, NIPS 2017; the layers follow the description of the released second version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from SynthGANLib.networks.blocks import norm as make_norm
from SynthGANLib.networks.blocks import output_activation, pad_to_multiple, room_for_norm
from SynthGANLib.networks.resnet import Double, MirrorConv, Normed, ResidualBlock

_DOWNS = 2


class UnitTranslator(nn.Module):
    """Encoders and decoders of the domains a and b, `channels` of each; `forward` translates a to b.

    An encoder is kernel 7, two strided convolutions of kernel 4 and `blocks` residual blocks, a decoder `blocks`
    residual blocks and two times nearest neighbour, kernel 5 and layer norm, then kernel 7. The last `share` blocks
    of both encoders are one and the same, and so are the first `share` of both decoders. 11,127,937 parameters a
    domain of one channel at base 64, 11,140,483 of three.

    `encode_a`, `encode_b`: (B, channels, [z,] y, x) -> latent (B, 4 base, ... / 4); extents divisible by 4.
    `decode_a`, `decode_b`: the way back. Noise on the latent is the training's affair.
    `forward`: any extent >= 1, padded by mirroring to a multiple of 4.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 2,
        channels: Sequence[int] = (1, 1),
        base: int = 64,
        blocks: int = 4,
        share: int = 0,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        if not 0 <= share <= blocks:
            raise ValueError(f"share is 0 to {blocks}, the number of blocks, not {share}")
        if len(channels) != 2:
            raise ValueError(f"channels are two numbers, one a domain, not {list(channels)}")

        def normed(count: int) -> nn.Module:
            return make_norm(dims, "instance", count, affine=False)

        def residual(count: int) -> list[nn.Module]:
            return [ResidualBlock(dims, 4 * base, normed) for _ in range(count)]

        own = blocks - share
        a, b = channels
        self.encoder_a = nn.Sequential(*_down(dims, a, base, normed), *residual(own))
        self.encoder_b = nn.Sequential(*_down(dims, b, base, normed), *residual(own))
        self.shared_encoder = nn.Sequential(*residual(share))
        self.shared_decoder = nn.Sequential(*residual(share))
        self.decoder_a = nn.Sequential(*residual(own), *_up(dims, a, base, output))
        self.decoder_b = nn.Sequential(*residual(own), *_up(dims, b, base, output))

    def encode_a(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.shared_encoder(self.encoder_a(x)))

    def encode_b(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.shared_encoder(self.encoder_b(x)))

    def decode_a(self, h: Tensor) -> Tensor:
        return cast(Tensor, self.decoder_a(self.shared_decoder(h)))

    def decode_b(self, h: Tensor) -> Tensor:
        return cast(Tensor, self.decoder_b(self.shared_decoder(h)))

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, 2**_DOWNS, minimum=room_for_norm(x, 2**_DOWNS))
        return self.decode_b(self.encode_a(x))[crop]


class ReverseUnit(UnitTranslator):
    """The same network and weights with `forward` translating b to a: the model folder of the way back."""

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, 2**_DOWNS, minimum=room_for_norm(x, 2**_DOWNS))
        return self.decode_a(self.encode_b(x))[crop]

    @classmethod
    def of(cls, unit: UnitTranslator) -> ReverseUnit:
        """The way back of `unit`, made of its very modules: what trains one trains the other."""
        with torch.device("meta"):
            reverse = cls(base=1, blocks=0)
        for name, module in unit.named_children():
            setattr(reverse, name, module)
        return reverse.train(unit.training)


def _down(dims: int, channels: int, base: int, normed: Normed) -> list[nn.Module]:
    layers: list[nn.Module] = [MirrorConv(dims, channels, base, 7), normed(base), nn.ReLU()]
    for level in range(_DOWNS):
        here = base * 2**level
        layers += [MirrorConv(dims, here, 2 * here, 4, stride=2), normed(2 * here), nn.ReLU()]
    return layers


def _up(dims: int, channels: int, base: int, output: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for level in reversed(range(_DOWNS)):
        there = base * 2**level
        layers += [Double(), MirrorConv(dims, 2 * there, there, 5), make_norm(dims, "layer", there), nn.ReLU()]
    return [*layers, MirrorConv(dims, base, channels, 7), output_activation(output)]
