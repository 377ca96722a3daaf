"""Small models for the tests: cards, folders, and ways to break them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SynthGANLib.image.volume import Volume
from SynthGANLib.model.card import Card, MethodSpec, SourceSpec, SpatialSpec, TargetSpec, VectorSpec
from SynthGANLib.model.model import Model
from SynthGANLib.networks import registry

TINY = {"dims": 3, "widths": [4, 8]}


def network_card(**changes: Any) -> Card:
    """A valid card of a 3D network from MR to CT."""
    fields: dict[str, Any] = {
        "id": "tiny-mr-ct",
        "version": "1.0.0",
        "title": "Tiny MR to CT",
        "description": "A network with random weights.",
        "anatomy": "head",
        "source": SourceSpec("MR", "1", ("T1", "T2")),
        "target": TargetSpec("CT", "HU", -1024, (-1024, 2000)),
        "method": MethodSpec("network", "UNet", TINY),
        "spatial": SpatialSpec(3, (16, 16, 16), (32, 32, 32), multiple=2, spacing=(2.0, 2.0, None)),
        "licence": "Apache-2.0",
        "intended_use": "Tests.",
        "normalisers": {
            "source": {"kind": "percentile"},
            "target": {"kind": "window", "low": -1024.0, "high": 2000.0},
        },
        "training": {"data": ["nothing"], "steps": 0},
        "metrics": {"protocol": "none", "phantom": {"bone": {"MAE": 1.5, "n": 2}, "air": {"MAE": 0.25}}},
        "vector": VectorSpec(1e-4),
    }
    return Card(**{**fields, **changes})


def classical_card(**changes: Any) -> Card:
    """A valid card of the classical tissue method."""
    fields: dict[str, Any] = {
        "id": "tissue-test",
        "method": MethodSpec("classical", "tissue"),
        "normalisers": {},
        "vector": None,
    }
    return network_card(**{**fields, **changes})


def tiny_model(card: Card | None = None, seed: int = 0) -> Model:
    """A model of that card with seeded random weights."""
    card = card or network_card()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = registry.build(card.method.name, card.method.arguments)
    generator = torch.Generator().manual_seed(seed)
    shape = (1, card.source.channels, *[16] * card.spatial.dims)
    return Model.build(card, network, torch.randn(shape, generator=generator))


def identity_card(**changes: Any) -> Card:
    """A card whose network gives back its input: MR in, the same numbers as HU out."""
    fields: dict[str, Any] = {
        "id": "same",
        "method": MethodSpec("network", "Identity"),
        "spatial": SpatialSpec(3, (8, 8, 8), (16, 16, 16)),
        "normalisers": {"source": {"kind": "identity"}, "target": {"kind": "identity"}},
        "mask": "none",
        **changes,
    }
    return network_card(**fields)


def edit_json(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change ``model.json`` of a folder in place."""
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    change(content)
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Put other content into a listed file and make the card agree: hashes are not the only guard."""
    (folder / name).write_bytes(data)
    listed = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_json(folder, lambda content: content["files"].__setitem__(name, listed))


def head_like(shape: tuple[int, int, int] = (20, 24, 22), seed: int = 0) -> Volume:
    """A bright ellipsoid with noise on a dark ground, 2 mm, off the origin."""
    axes = np.meshgrid(*[np.linspace(-1.15, 1.15, extent) for extent in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    noise = np.random.default_rng(seed).normal(0, 15, shape)
    array = (np.where(inside, 500, 5) + noise).clip(0).astype(np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-20, 30, 5)
    return Volume(array, affine, "1")
