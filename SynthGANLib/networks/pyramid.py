"""Laplacian pyramid, and the generator that adds one residual a level.

Sources: Burt & Adelson, 1983; Denton et al., NeurIPS 2015 (LAPGAN); Baur et al., 2018 (arXiv 1804.04338: DDGAN).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.blocks import conv, norm, resize
from SynthGANLib.networks.codes import extents_of, halvings
from SynthGANLib.networks.noise import NoiseDecoder

_LARGEST_SEED = 2**63 - 1


def halve(x: Tensor) -> Tensor:
    """Means over blocks of 2 along every axis; an odd extent is rounded up, its last block is half as long."""
    blocks = tuple(min(2, n) for n in x.shape[2:])  # an axis of one voxel has nothing to halve
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    return pool(x, blocks, blocks, ceil_mode=True)


def laplacian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """[coarsest image, residual, ..., residual], `levels` residuals from coarse to fine, of (B, C, [z,] y, x).

    A residual is what linear interpolation of the halved image lacks.
    """
    residuals: list[Tensor] = []
    for _ in range(levels):
        small = halve(x)
        residuals.append(x - resize(small, x.shape[2:]))
        x = small
    return [x, *reversed(residuals)]


def reconstruct(pyramid: Sequence[Tensor]) -> list[Tensor]:
    """The images of all levels, coarse to fine; the last is what `laplacian_pyramid` took apart."""
    images = [pyramid[0]]
    for residual in pyramid[1:]:
        images.append(resize(images[-1], residual.shape[2:]) + residual)
    return images


class LevelGenerator(nn.Module):
    """Residual of one level from a noise map and the enlarged image of the level before, linear output."""

    def __init__(self, dims: int, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise([channels + 1, *widths]):
            layers += [conv(dims)(a, b, 3, padding=1, bias=False), norm(dims, "batch", b), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, conv(dims)([channels + 1, *widths][-1], channels, 3, padding=1))

    def forward(self, noise: Tensor, enlarged: Tensor) -> Tensor:
        """(B, 1, ...), (B, C, ...) -> (B, C, ...)."""
        return cast(Tensor, self.layers(torch.cat([noise, enlarged], 1)))


class PyramidGenerator(nn.Module):
    """A DCGAN decoder for the coarsest image, and one level generator for every doubling: codes (B, code) -> images.

    `coarse` and `levels` are the parts, coarse to fine; a regime trains them apart (LAPGAN) or together (DDGAN).

    Args:
        size: finest extents, one number or one for each axis; `coarsest` is the least extent of the coarsest image.
        base: width of the decoder. widths: channels of the hidden layers of a level generator.
    """

    def __init__(
        self,
        dims: int = 2,
        out_channels: int = 1,
        size: int | Sequence[int] = 256,
        code: int = 100,
        coarsest: int = 16,
        base: int = 64,
        widths: Sequence[int] = (64, 128, 64),
        start: int = 4,
    ) -> None:
        super().__init__()
        extents = extents_of(dims, size)
        count = halvings(extents, coarsest)
        self.code = code
        self.extents = [tuple(n >> (count - level) for n in extents) for level in range(count + 1)]
        self.coarse = NoiseDecoder(dims, out_channels, self.extents[0], code, base, start)
        self.levels = nn.ModuleList(LevelGenerator(dims, out_channels, widths) for _ in range(count))

    def enlarge(self, image: Tensor, level: int) -> Tensor:
        """`image` interpolated to the extents of `level` (1 is the first above the coarsest)."""
        return resize(image, self.extents[level])

    def residual(self, level: int, enlarged: Tensor, rng: Generator) -> Tensor:
        """The residual of `level` for images already enlarged to it, with noise from `rng`."""
        return self._residual(level, enlarged, [rng])

    def images(self, z: Tensor, rng: Generator | None = None) -> list[Tensor]:
        """Images of all levels, coarse to fine, with gradients through all of them.

        The noise maps come from `rng`; without it every code brings its own, so that a code means one image,
        whatever stands beside it in the batch.
        """
        draws = [_draw_of(one) for one in z] if rng is None else [rng]
        found = [self.coarse(z)]
        for level in range(1, len(self.extents)):
            enlarged = self.enlarge(found[-1], level)
            found.append(enlarged + self._residual(level, enlarged, draws))
        return found

    def _residual(self, level: int, enlarged: Tensor, draws: Sequence[Generator]) -> Tensor:
        shape = (enlarged.shape[0] // len(draws), 1, *enlarged.shape[2:])
        noise = torch.cat([torch.randn(shape, generator=rng) for rng in draws]).to(enlarged)
        return cast(Tensor, self.levels[level - 1](noise, enlarged))

    def forward(self, z: Tensor, rng: Generator | None = None) -> Tensor:
        return self.images(z, rng)[-1]


def _draw_of(z: Tensor) -> Generator:
    """A random generator that depends on nothing but the numbers of `z`."""
    bits = z.detach().float().cpu().contiguous().view(torch.int32).flatten().to(torch.int64)
    seed = 0
    for value in bits.tolist():
        seed = (seed * 1_000_003 + value) & _LARGEST_SEED
    return torch.Generator().manual_seed(seed)
