"""Model cards, networks and runs that the inference tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from SynthGANLib.inference.plan import Plan, TileRules, plan_tiles
from SynthGANLib.inference.progress import Reporter
from SynthGANLib.inference.tiles import Task, predict_tiles
from SynthGANLib.model.card import Card, MethodSpec, SourceSpec, SpatialSpec, TargetSpec, VectorSpec
from SynthGANLib.model.model import Model

WINDOW = {"kind": "window", "low": -1024.0, "high": 3071.0}


def spatial(dims: int = 3, **changes: Any) -> SpatialSpec:
    """A card's grid with tiles of 8 to 16 voxels, unless changed."""
    small, large = ((8, 8, 8), (16, 16, 16)) if dims == 3 else ((1, 8, 8), (1, 16, 16))
    axis = "axial" if dims == 2 else None
    fields = {"dims": dims, "tile_min": small, "tile_max": large, "multiple": 4, "axis": axis}
    return SpatialSpec(**{**fields, **changes})


def card(**changes: Any) -> Card:
    """A card from CT to CT whose network may be anything; `changes` replace whole fields."""
    fields: dict[str, Any] = {
        "id": "test-model",
        "version": "1.0.0",
        "title": "Test model",
        "description": "Made by the tests.",
        "anatomy": "any",
        "source": SourceSpec("CT", "HU"),
        "target": TargetSpec("CT", "HU", -1024.0, (-1024.0, 3071.0)),
        "method": MethodSpec("network", "Identity"),
        "spatial": spatial(),
        "licence": "Apache-2.0",
        "intended_use": "Tests.",
        "normalisers": {"source": WINDOW, "target": WINDOW},
        "mask": "none",
        "vector": VectorSpec(1e-5),
    }
    return Card(**{**fields, **changes})


class Function(nn.Module):
    """A network made of any function; keeps the shapes it was given, but for the planner's probe."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "meta" or bool(x.any()):  # the probe is a volume of zeros
            self.shapes.append(tuple(x.shape))
        return self.function(x)


def model(function: Callable[[Tensor], Tensor] = torch.clone, **changes: Any) -> Model:
    """A model of that card whose network is `function`."""
    return Model(card(**changes), Function(function).eval())


def run(
    source: np.ndarray,
    tile: tuple[int, int, int],
    forward: Callable[[Tensor], Tensor] = torch.clone,
    *,
    overlap: float = 0.25,
    batch: int = 1,
    mask: np.ndarray | None = None,
    background: float = 0.0,
    channels: int = 1,
    reporter: Reporter | None = None,
) -> tuple[np.ndarray, int, Plan]:
    """Predict `source` in tiles of one shape; result (channels, z, y, x), tiles computed, plan."""
    rules = TileRules((1, 1, 1), tile, tile, True, (overlap,) * 3)
    plan = plan_tiles(source.shape[:3], rules, bytes_per_voxel=1.0, budget=2**40, largest_batch=batch)
    task = Task(source, lambda crop: crop.astype(np.float32), mask, background, channels)
    out = np.full((channels, *source.shape[:3]), np.nan, dtype=np.float32)
    count = predict_tiles(task, plan, forward, out, reporter or Reporter(), lambda share: None)
    return out, count, plan


def noise(shape: tuple[int, ...], seed: int = 0, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Uniform float32 noise."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)
