"""Phantom heads as atlases, and what their tests compare by."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from SynthGANLib.classical.atlas import Atlas
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.anatomy import body_of
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr

SPACING = 6.0


def pair(seed: int, spacing: float = SPACING) -> tuple[Atlas, np.ndarray]:
    """A phantom head as an atlas, and its body."""
    head = draw_head(seed, spacing)
    return Atlas(simulate_mr(head, "T1", seed, noise=0.01), simulate_ct(head, seed)), body_of(head.array)


def moved(volume: Volume, transform: Any, fill: float) -> Volume:
    image = volume.to_sitk()
    return Volume.from_sitk(sitk.Resample(image, image, transform, sitk.sitkLinear, fill), unit=volume.unit)


def error(found: np.ndarray, ct: Volume, body: np.ndarray) -> float:
    return float(np.abs(found - ct.array)[body].mean())
