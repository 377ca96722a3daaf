"""Makes any generator from codes a network from image to image, so that the inference core can run it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.blocks import resize


def cells_of(extents: Sequence[int], count: int) -> tuple[int, ...]:
    """Cells for each axis, at least `count` in all where there are as many voxels: the longest cells are cut first."""
    cells = [1] * len(extents)
    while math.prod(cells) < count:
        lengths = [n / c if c < n else 0.0 for n, c in zip(extents, cells, strict=True)]
        if not any(lengths):
            break
        cells[lengths.index(max(lengths))] += 1
    return tuple(cells)


def code_from_image(x: Tensor, count: int) -> Tensor:
    """Codes (B, count) from the first channel of (B, C, [z,] y, x); the same image gives the same code.

    The image is cut into equal cells, what is left over at the far borders is not used, and a code is a cell's mean
    times the root of its voxels: an image of independent standard normal noise gives independent standard normal
    codes. Any other image is a seed as well: codes whose root mean square no noise would have (six standard
    deviations above 1) are scaled down to that limit. An image with fewer than `count` voxels repeats its codes.
    """
    cells = cells_of(x.shape[2:], count)
    lengths = [n // c for n, c in zip(x.shape[2:], cells, strict=True)]
    used = x[:, :1]
    for axis, (c, length) in enumerate(zip(cells, lengths, strict=True), start=2):
        used = used.narrow(axis, 0, c * length)
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    codes = pool(used, tuple(lengths)).flatten(1) * math.sqrt(math.prod(lengths))
    codes = codes.repeat(1, -(-count // codes.shape[1]))[:, :count]
    limit = 1.0 + 6.0 / math.sqrt(2.0 * count)  # the root mean square of n normal numbers spreads by 1 / sqrt(2 n)
    size = codes.square().mean(1, keepdim=True).clamp(min=limit**2).sqrt()  # clamped first: the root has no slope at 0
    return codes * (limit / size)


class Sampler(nn.Module):
    """A noise image samples the generator; any image is a seed.

    Image (B, C, [z,] y, x) of any extents -> code, by `code_from_image` -> generator -> linear interpolation to the
    image's extents. Nothing is drawn: the same image gives the same result, so a user who wants another sample gives
    another image of noise.

    Args:
        generator: {"name": ..., "arguments": {...}} of a network from codes (B, code) to images.
        label: class for a generator with classes. level: level for a progressive generator.
        begin, end: channels of the generator's image that are given, from `begin` to before `end`; all of them by
            default.
    """

    multiple = 1

    def __init__(
        self,
        generator: Mapping[str, Any],
        code: int = 100,
        label: int | None = None,
        level: int | None = None,
        begin: int = 0,
        end: int | None = None,
    ) -> None:
        super().__init__()
        from SynthGANLib.networks.registry import build  # here, for that module imports this one

        self.code, self.label, self.level, self.begin, self.end = code, label, level, begin, end
        self.generator = build(generator["name"], generator.get("arguments", {}))

    @classmethod
    def over(cls, generator: nn.Module, code: int, **chosen: int | None) -> Sampler:
        """A Sampler of this very generator, not of a new one; `chosen`: label, level, begin, end."""
        sampler = cls({"name": "Identity"}, code=code, **chosen)  # type: ignore[arg-type]  # whole numbers all
        sampler.generator = generator
        return sampler.train(generator.training)

    def arguments(self) -> dict[str, Any]:
        """What it was built with besides the generator, as far as that is not the default."""
        chosen = {"label": self.label, "level": self.level, "begin": self.begin or None, "end": self.end}
        return {"code": self.code, **{name: value for name, value in chosen.items() if value is not None}}

    def forward(self, x: Tensor) -> Tensor:
        chosen: dict[str, Any] = {}
        if self.label is not None:
            chosen["label"] = torch.full((x.shape[0],), self.label, dtype=torch.int64, device=x.device)
        if self.level is not None:
            chosen["level"] = self.level
        image: Tensor = self.generator(code_from_image(x, self.code), **chosen)[:, self.begin : self.end]
        return image if image.shape[2:] == x.shape[2:] else resize(image, x.shape[2:])
