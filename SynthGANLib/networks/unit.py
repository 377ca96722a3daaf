"""UNIT: two encoders and two decoders around one latent space.

Source: Liu, Breuel and Kautz, NIPS 2017: `PaperUnit` has the paper's layers, `UnitTranslator` those of the released
second version of the program, which shares no weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Self, cast

import torch
from torch import Tensor, nn

from SynthGANLib.networks.blocks import conv, conv_transpose, output_activation, pad_to_multiple, room_for_norm
from SynthGANLib.networks.blocks import norm as make_norm
from SynthGANLib.networks.resnet import Double, MirrorConv, ResidualBlock

_DOWNS = 2
_SLOPE = 0.01
"""Of the leaky ReLU in the paper's network."""


class _Coupled(nn.Module, ABC):
    """The ways through two encoders and two decoders that share blocks; subclasses build these."""

    multiple = 1
    encoder_a: nn.Module
    encoder_b: nn.Module
    shared_encoder: nn.Module
    shared_decoder: nn.Module
    decoder_a: nn.Module
    decoder_b: nn.Module

    def encode_a(self, x: Tensor) -> Tensor:
        """(B, channels, [z,] y, x) of domain a -> latent (B, 4 base, ... / 4); extents divisible by 4."""
        return cast(Tensor, self.shared_encoder(self.encoder_a(x)))

    def encode_b(self, x: Tensor) -> Tensor:
        """The same of domain b."""
        return cast(Tensor, self.shared_encoder(self.encoder_b(x)))

    def decode_a(self, h: Tensor) -> Tensor:
        """A latent to an image of domain a."""
        return cast(Tensor, self.decoder_a(self.shared_decoder(h)))

    def decode_b(self, h: Tensor) -> Tensor:
        """A latent to an image of domain b."""
        return cast(Tensor, self.decoder_b(self.shared_decoder(h)))

    def forward(self, x: Tensor) -> Tensor:
        """a to b; any extent >= 1, padded by mirroring to a multiple of 4."""
        x, crop = pad_to_multiple(x, 2**_DOWNS, minimum=room_for_norm(x, 2**_DOWNS))
        return self.decode_b(self.encode_a(x))[crop]

    @abstractmethod
    def reverse(self) -> nn.Module:
        """The network of the way back, made of the very modules of this one: what trains one trains the other."""


class _Back(_Coupled):
    """`forward` translates b to a."""

    @classmethod
    def of(cls, unit: _Coupled) -> Self:
        """The way back of `unit`, made of its very modules: what trains one trains the other."""
        with torch.device("meta"):
            reverse = cls(base=1, blocks=0)  # as all take that are built on it
        for name, module in unit.named_children():
            setattr(reverse, name, module)
        return reverse.train(unit.training)

    def forward(self, x: Tensor) -> Tensor:
        """b to a; any extent >= 1."""
        x, crop = pad_to_multiple(x, 2**_DOWNS, minimum=room_for_norm(x, 2**_DOWNS))
        return self.decode_a(self.encode_b(x))[crop]


class UnitTranslator(_Coupled):
    """Encoders and decoders of the domains a and b, `channels` of each, as in the released second version.

    An encoder is kernel 7, two strided convolutions of kernel 4 and `blocks` residual blocks, a decoder `blocks`
    residual blocks and two times nearest neighbour, kernel 5 and layer norm, then kernel 7. The last `share` blocks
    of both encoders are one and the same, and so are the first `share` of both decoders. 11,127,937 parameters a
    domain of one channel at base 64, 11,140,483 of three.

    `encode_a`, `encode_b`: (B, channels, [z,] y, x) -> latent (B, 4 base, ... / 4); extents divisible by 4.
    `decode_a`, `decode_b`: the way back. Noise on the latent is the training's affair.
    `forward`: a to b, any extent >= 1, padded by mirroring to a multiple of 4.
    """

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
        a, b = _two(channels)
        residual = partial(_residual, dims, base)
        own = blocks - share
        self.encoder_a = nn.Sequential(*_down(dims, a, base), *residual(own))
        self.encoder_b = nn.Sequential(*_down(dims, b, base), *residual(own))
        self.shared_encoder = nn.Sequential(*residual(share))
        self.shared_decoder = nn.Sequential(*residual(share))
        self.decoder_a = nn.Sequential(*residual(own), *_up(dims, a, base, output))
        self.decoder_b = nn.Sequential(*residual(own), *_up(dims, b, base, output))

    def reverse(self) -> ReverseUnit:
        """The network of the way back."""
        return ReverseUnit.of(self)


class ReverseUnit(_Back, UnitTranslator):
    """The same network and weights with `forward` translating b to a: the model folder of the way back."""


class PaperUnit(_Coupled):
    """Encoders and decoders of the domains a and b, `channels` of each, as in the paper.

    An encoder is kernel 7, two strided convolutions of kernel 3 and `blocks` residual blocks, a decoder `blocks`
    residual blocks, two transposed convolutions of kernel 3 and one of kernel 1; leaky ReLU 0.01, and norm in the
    residual blocks only. One more residual block at the end of both encoders is one and the same, and so is one at the
    beginning of both decoders: 18,004,482 parameters for two domains of one channel at base 64.

    What it takes and gives is as in `UnitTranslator`.
    """

    def __init__(
        self,
        dims: int = 2,
        channels: Sequence[int] = (1, 1),
        base: int = 64,
        blocks: int = 3,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        a, b = _two(channels)
        residual = partial(_residual, dims, base)
        self.encoder_a = nn.Sequential(*_paper_down(dims, a, base), *residual(blocks))
        self.encoder_b = nn.Sequential(*_paper_down(dims, b, base), *residual(blocks))
        self.shared_encoder = nn.Sequential(*residual(1))
        self.shared_decoder = nn.Sequential(*residual(1))
        self.decoder_a = nn.Sequential(*residual(blocks), *_paper_up(dims, a, base, output))
        self.decoder_b = nn.Sequential(*residual(blocks), *_paper_up(dims, b, base, output))

    def reverse(self) -> ReversePaperUnit:
        """The network of the way back."""
        return ReversePaperUnit.of(self)


class ReversePaperUnit(_Back, PaperUnit):
    """The same network and weights with `forward` translating b to a."""


def _two(channels: Sequence[int]) -> tuple[int, int]:
    if len(channels) != 2:
        raise ValueError(f"channels are two numbers, one a domain, not {list(channels)}")
    return channels[0], channels[1]


def _residual(dims: int, base: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(dims, 4 * base, partial(_plain_norm, dims)) for _ in range(count)]


def _plain_norm(dims: int, channels: int) -> nn.Module:
    return make_norm(dims, "instance", channels, affine=False)


def _paper_down(dims: int, channels: int, base: int) -> list[nn.Module]:
    layers: list[nn.Module] = [MirrorConv(dims, channels, base, 7), nn.LeakyReLU(_SLOPE)]
    for level in range(_DOWNS):
        width = base * 2**level
        layers += [MirrorConv(dims, width, 2 * width, 3, stride=2), nn.LeakyReLU(_SLOPE)]
    return layers


def _paper_up(dims: int, channels: int, base: int, output: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for level in reversed(range(_DOWNS)):
        width = base * 2**level
        doubled = conv_transpose(dims)(2 * width, width, 3, stride=2, padding=1, output_padding=1)
        layers += [doubled, nn.LeakyReLU(_SLOPE)]
    return [*layers, conv(dims)(base, channels, 1), output_activation(output)]


def _down(dims: int, channels: int, base: int) -> list[nn.Module]:
    normed = partial(_plain_norm, dims)
    layers: list[nn.Module] = [MirrorConv(dims, channels, base, 7), normed(base), nn.ReLU()]
    for level in range(_DOWNS):
        width = base * 2**level
        layers += [MirrorConv(dims, width, 2 * width, 4, stride=2), normed(2 * width), nn.ReLU()]
    return layers


def _up(dims: int, channels: int, base: int, output: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for level in reversed(range(_DOWNS)):
        width = base * 2**level
        layers += [Double(), MirrorConv(dims, 2 * width, width, 5), make_norm(dims, "layer", width), nn.ReLU()]
    return [*layers, MirrorConv(dims, base, channels, 7), output_activation(output)]
