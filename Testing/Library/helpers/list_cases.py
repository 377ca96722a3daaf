"""What the tests of the training data share: small subjects on disk and the JSON that lists them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import write_volume
from SynthGANLib.recipes.base import Setup

MR = {"modality": "MR", "unit": "1"}
CT = {"modality": "CT", "unit": "HU"}


def affine(spacing: float = 2.0) -> np.ndarray:
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = (-40.0, -35.0, 10.0)
    return matrix


def head(seed: int, shape: tuple[int, int, int] = (24, 40, 36)) -> tuple[np.ndarray, np.ndarray]:
    """An MR and the CT of the same ellipsoid with ventricles, skull and a lesion that differs by seed; float32."""
    rng = np.random.default_rng(seed)
    z, y, x = (np.linspace(-1, 1, extent) for extent in shape)
    radius = np.sqrt((z[:, None, None] / 0.9) ** 2 + (y[None, :, None] / 0.75) ** 2 + (x / 0.7) ** 2)
    place = rng.uniform(-0.3, 0.3, 3)
    lesion = (z[:, None, None] - place[0]) ** 2 + (y[None, :, None] - place[1]) ** 2 + (x - place[2]) ** 2 < 0.03
    skull = (radius > 0.8) & (radius < 1.0)
    inside = radius <= 0.8
    mr = np.where(inside, 600.0, 0.0) + 250.0 * (inside & lesion) + 220.0 * skull
    mr = mr * (1 + 0.2 * y[None, :, None]) + rng.normal(0, 8, shape)
    ct = np.where(inside, 40.0, -1000.0) + 60.0 * (inside & lesion)
    ct = np.where(skull, 900.0, ct) + rng.normal(0, 8, shape)
    return np.abs(mr).astype(np.float32), ct.astype(np.float32)


def save(array: np.ndarray, path: Path, unit: str = "1", spacing: float = 2.0) -> str:
    write_volume(Volume(array, affine(spacing), unit), path, force=True)
    return path.name


def subjects(folder: Path, count: int, shape: tuple[int, int, int] = (24, 40, 36)) -> list[dict[str, Any]]:
    """`count` paired cases with masks written to `folder`, as entries of a list.

    The masks are given because finding a body takes ten times as long as all else; what finds it is tested too.
    """
    entries = []
    for number in range(count):
        mr, ct = head(number, shape)
        entry = {"subject": f"s{number}", "source": save(mr, folder / f"s{number}_mr.nii.gz")}
        entry["target"] = save(ct, folder / f"s{number}_ct.nii.gz", "HU")
        entry["mask"] = save((ct > -500).astype(np.uint8), folder / f"s{number}_mask.nii.gz", "label")
        entries.append(entry)
    return entries


def without(entries: list[dict[str, Any]], *fields: str) -> list[dict[str, Any]]:
    """The entries without some of their fields."""
    return [{key: value for key, value in entry.items() if key not in fields} for entry in entries]


def write_list(folder: Path, training: list[Any], **fields: Any) -> Path:
    """A paired MR to CT list, other fields added or, if None, left out."""
    data = {"name": "test", "kind": "paired", "source": MR, "target": CT, "training": training, **fields}
    path = folder / "list.json"
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), encoding="utf-8")
    return path


def setup(dims: int, patch: tuple[int, ...], batch: int = 4, **fields: Any) -> Setup:
    """What a feed reads of a recipe's setup; it has no networks."""
    return Setup(
        networks={},
        regime=lambda networks, config: None,  # type: ignore[arg-type, return-value]
        config=None,
        dims=dims,
        patch=patch,
        batch=batch,
        **fields,
    )
