"""Filling in what is missing: ip-MedGAN (Armanious et al., ICASSP 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from SynthGANLib.losses.features import style_content
from SynthGANLib.regimes.adversary import discriminator_terms, generator_terms
from SynthGANLib.regimes.base import Batch, Outputs, Terms
from SynthGANLib.regimes.paired import PairedAdversarial, PairedConfig
from SynthGANLib.regimes.supervised import pixel_terms


@dataclass(frozen=True)
class InpaintingConfig(PairedConfig):
    """extent: of the missing square or cube, in voxels."""

    l1: float = 10.0
    voxels: Literal["all", "mask", "weight", "bright"] = "weight"  # which is the hole here
    feature: float = 20.0
    conditional: bool = False
    extent: int = 64


class Inpainting(PairedAdversarial):
    """A square (cube) is cut out of each image; losses and discriminator see that region only.

    Networks as for `PairedAdversarial`; the generator takes the image, 0 in the hole, and the hole as one more channel.
    The batch's "target" is the image; with a "mask" the squares lie where most of them is body.
    """

    needs: tuple[str, ...] = ("target",)
    config: InpaintingConfig

    def __init__(self, networks: Mapping[str, nn.Module], config: InpaintingConfig) -> None:
        super().__init__(networks, config)
        self.needs = ("target",)  # the source is made of the target

    def corners(self, batch: Batch, rng: Generator) -> Tensor:
        """First voxels of the squares, (B, dims), drawn from where they hold most of the body."""
        image = batch["target"]
        size, extents = self.config.extent, image.shape[2:]
        if min(extents) < size:
            raise ValueError(f"a hole of {size} voxels does not fit into an image of {tuple(extents)}")
        body = batch.get("mask", torch.ones_like(image[:, :1]))[:, :1].float().cpu()
        pool: Any = F.avg_pool2d if image.ndim == 4 else F.avg_pool3d
        share = pool(body, size, 1).flatten(1)  # B, places
        best = (share >= share.amax(1, keepdim=True) - 1e-6).double()
        place = torch.multinomial(best, 1, generator=rng)[:, 0]
        counts = [n - size + 1 for n in extents]
        strides = [math.prod(counts[axis + 1 :]) for axis in range(len(counts))]
        return torch.stack([place // s % n for s, n in zip(strides, counts, strict=True)], 1)

    def hole(self, batch: Batch, rng: Generator) -> Outputs:
        """The "hole" (B, 1, ...), true where the image is missing, and its "corner" (B, dims)."""
        image, corner = batch["target"], self.corners(batch, rng)
        hole = torch.zeros_like(image[:, :1], dtype=torch.bool)
        for index, region in enumerate(self.regions(corner)):
            hole[index, 0][region] = True
        return {"hole": hole, "corner": corner}

    def regions(self, corner: Tensor) -> list[tuple[slice, ...]]:
        """The index of each image's square."""
        return [tuple(slice(at, at + self.config.extent) for at in place) for place in corner.tolist()]

    def seen(self, image: Tensor, outputs: Outputs) -> Tensor:
        """What losses and discriminator see of (B, C, ...): the squares."""
        crops = [image[index][(slice(None), *region)] for index, region in enumerate(self.regions(outputs["corner"]))]
        return torch.stack(crops)

    def filled(self, image: Tensor, hole: Tensor) -> Tensor:
        """The image with what the generator puts into the hole; bit by bit the image outside."""
        known = torch.where(hole, torch.zeros_like(image), image)
        made_up = cast(Tensor, self.generator(torch.cat([known, hole.to(image.dtype)], 1)))
        return torch.where(hole, made_up.to(image.dtype), image)

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        outputs = self.hole(batch, rng)
        return outputs | {"fake": self.filled(batch["target"], outputs["hole"])}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        config, image, hole = self.config, batch["target"], outputs["hole"]
        known = torch.where(hole, torch.zeros_like(image), image)
        source, real, fake = (self.seen(x, outputs) for x in (known, image, outputs["fake"]))
        if turn == "discriminator":
            yield discriminator_terms(config, self.discriminator, self.accuracy, source, real, fake, rng)
            return
        terms = pixel_terms(config, fake, real, {"weight": self.seen(hole.to(image.dtype), outputs)})
        if config.uses_discriminator and self.step >= config.pretrain:
            terms |= generator_terms(config, self.discriminator, source, real, fake)
        if self.vgg is not None:
            style, content = style_content(self.vgg, fake, real)
            terms |= {"style": config.style * style, "content": config.content * content}
        yield terms

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return self.forward(batch, rng)["fake"]


class FreeInpainting(Inpainting):
    """Holes of any form, here unions of three boxes; the discriminator sees the whole image, losses the hole."""

    def hole(self, batch: Batch, rng: Generator) -> Outputs:
        image = batch["target"]
        hole = torch.zeros_like(image[:, :1], dtype=torch.bool)
        least = max(1, self.config.extent // 4)
        for _ in range(3):
            corner = self.corners(batch, rng)
            sizes = torch.randint(least, self.config.extent + 1, corner.shape, generator=rng)
            for index, (place, size) in enumerate(zip(corner.tolist(), sizes.tolist(), strict=True)):
                hole[index, 0][tuple(slice(at, at + n) for at, n in zip(place, size, strict=True))] = True
        return {"hole": hole}

    def seen(self, image: Tensor, outputs: Outputs) -> Tensor:
        return image
