"""What the training of `head-mr-ct` sees: pairs drawn anew in every step from (seed, step) alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from SynthGANLib.regimes.base import Batch
from Tools.Models.head_mr_ct.heads import GRID_MM, Head
from Tools.Models.head_mr_ct.randomise import Contrasts, draw_pair

WINDOW = (-1024.0, 2000.0)
NORMALISERS: Mapping[str, Mapping[str, Any]] = {
    "source": {"kind": "percentile", "low": 0.5, "high": 99.5, "out_low": 0.0, "out_high": 1.0, "clip": False},
    "target": {"kind": "window", "low": WINDOW[0], "high": WINDOW[1]},
}
SMALL = ((64, 64, 64), (96, 64, 64), (64, 96, 64), (64, 64, 96))
LARGE = ((96, 96, 96), (128, 96, 96), (96, 128, 96), (96, 96, 128), (64, 128, 128), (128, 64, 128), (128, 128, 64))


def normalise(hu: Tensor) -> Tensor:
    """HU to the window's [-1, 1]."""
    low, high = WINDOW
    return (hu.clamp(low, high) - low) * (2.0 / (high - low)) - 1.0


@dataclass(frozen=True)
class Boxes:
    """Of which kind the pairs of a step are.

    Attributes:
        shapes: extents (z, y, x) to choose from.
        spacing: lowest and highest width of a voxel, in mm.
        batch: pairs in a step.
        pull: how far a box is drawn from a random voxel of the body to the middle of the head, lowest and highest.
        contrasts: what MR contrasts are drawn.
    """

    shapes: tuple[tuple[int, int, int], ...]
    spacing: tuple[float, float]
    batch: int
    pull: tuple[float, float]
    contrasts: Contrasts


class HeadFeed:
    """A generating feed (`SynthGANLib.training.batches.Feed`) for one run of the training.

    Args:
        heads: what is drawn from.
        seed: the training's seed.
        offset: steps of the whole training that lie before this run: no two runs draw the same.
        boxes: kinds of boxes by the run's step from which they are drawn, the first from 0 on.
    """

    validation: Sequence[Any] = ()
    normalisers = NORMALISERS

    def __init__(self, heads: Sequence[Head], seed: int, offset: int, boxes: Mapping[int, Boxes]) -> None:
        self.heads, self.seed, self.offset, self.boxes = heads, seed, offset, boxes

    def batch(self, step: int) -> Batch:
        """source, target, weight (B,1,z,y,x) float32 and classes (B,z,y,x) int64 of a step."""
        boxes = self.boxes[max(first for first in self.boxes if first <= step)]
        step += self.offset
        rng = Generator().manual_seed(self.seed * 1_000_003 + step)
        shape = boxes.shapes[int(torch.randint(len(boxes.shapes), (), generator=rng))]
        pairs = []
        for item in range(boxes.batch):
            head = self.heads[int(torch.randint(len(self.heads), (), generator=rng))]
            seed = (self.seed * 7919 + step) * 64 + item
            pairs.append(draw_pair(head, shape, seed, boxes.pull, boxes.spacing, boxes.contrasts))
        return {
            "source": torch.stack([p.mr for p in pairs]).unsqueeze(1),
            "target": normalise(torch.stack([p.hu for p in pairs]).unsqueeze(1)),
            "classes": torch.stack([p.classes for p in pairs]),
            "weight": torch.stack([p.weight for p in pairs]).unsqueeze(1),
        }

    def describe(self) -> Mapping[str, Any]:
        """The heads, and what decides the draws."""
        boxes = {str(first): asdict(kind) for first, kind in self.boxes.items()}
        names = [head.name for head in self.heads]
        return {"heads": names, "grid": GRID_MM, "seed": self.seed, "offset": self.offset, "boxes": boxes}
