"""Whole-head label maps prepared for training: tissue codes and the distances the tissues depend on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from SynthGANLib.errors import InputError
from SynthGANLib.image.geometry import conform
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.phantom.anatomy import CAVITY, distance_mm, mark_cavities, tissue_codes
from SynthGANLib.phantom.tissues import EYE, SKIN

GRID_MM = 1.0
"""The network's grid, that of the label maps: a CT taken to 1.5 mm and back loses 60 HU of body MAE, to 1 mm 6 HU."""


@dataclass(frozen=True)
class Head:
    """One head on an LPS grid of `GRID_MM`: codes (z,y,x) uint8 with `CAVITY` for enclosed air, depth under the skin
    and distance from the eyes in mm (uint8, clipped), and the share of each code among the body's voxels."""

    name: str
    codes: Tensor
    depth: Tensor
    eye: Tensor
    share: Tensor


def load_head(path: Path) -> Head:
    """Read one label map; InputError when it holds no head."""
    labels = read_volume(path, unit="label")
    volume = conform(labels, orientation="LPS", spacing=(GRID_MM,) * 3, interpolation="nearest").volume
    codes = mark_cavities(tissue_codes(volume)).array.astype(np.uint8)
    if not (codes == SKIN).any():
        raise InputError(f"{path} has no skin label, so it is not a whole-head tissue map")
    spacing = Volume(codes, volume.affine).spacing
    outside = codes == 0
    depth = distance_mm(outside | (codes == SKIN), spacing)
    eye = distance_mm(codes == EYE, spacing)
    share = np.bincount(codes[codes > 0].ravel(), minlength=CAVITY + 1).astype(np.float32)
    return Head(
        path.name,
        torch.from_numpy(codes),
        torch.from_numpy(np.minimum(depth, 255).astype(np.uint8)),
        torch.from_numpy(np.minimum(eye, 255).astype(np.uint8)),
        torch.from_numpy(share / share.sum()),
    )


def load_heads(folder: Path, held_out: tuple[str, ...]) -> tuple[list[Head], list[Path]]:
    """(heads to train on, paths of the held-out ones); InputError when a held-out name matches no file."""
    paths = sorted(folder.glob("*.nii.gz"))
    if not paths:
        raise InputError(f"no label map (*.nii.gz) in {folder}")
    kept = [p for p in paths if p.name.split(".")[0] in held_out]
    if len(kept) != len(held_out):
        raise InputError(f"not every held-out head of {', '.join(held_out)} is in {folder}")
    return [load_head(p) for p in paths if p not in kept], kept
