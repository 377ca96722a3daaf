"""Masked image metrics with their protocol printed beside every number.

`synthrad2025` follows the definition of the SynthRAD2025 challenge: range -1024..3071 HU (4095 wide), voxels outside
the body mask set to -1024 in both images, MAE over the mask without clipping, PSNR over the mask after clipping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.errors import InputError
from SynthGANLib.volume import Volume

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Protocol:
    """name; intensity range (low, high); unit of MAE and ME."""

    name: str
    low: float
    high: float
    unit: str


PROTOCOLS: Mapping[str, Protocol] = {
    "synthrad2025": Protocol("synthrad2025", -1024.0, 3071.0, "HU"),
    "synthrad2023": Protocol("synthrad2023", -1024.0, 3000.0, "HU"),
}


@dataclass(frozen=True)
class Metric:
    """One number with all that is needed to read it."""

    name: str
    value: float
    unit: str
    region: str
    voxels: int
    protocol: str
    data_range: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.name} {self.value:.1f} {self.unit} ({self.region}, {self.voxels} voxels, {self.protocol})"


def _pair(prediction: Volume, reference: Volume, mask: BoolArray) -> tuple[FloatArray, FloatArray]:
    if not prediction.grid.same_as(reference.grid):
        raise InputError(
            "the two images lie on different grids, so their voxels cannot be compared",
            next_step="Resample one onto the other first.",
        )
    if mask.shape != prediction.shape:
        raise InputError(f"the mask has {mask.shape} voxels (z,y,x), the images have {prediction.shape}")
    if not mask.any():
        raise InputError("the mask is empty, so there is nothing to compare")
    return prediction.array.astype(np.float32), reference.array.astype(np.float32)


def evaluate(
    prediction: Volume, reference: Volume, mask: BoolArray, protocol: str = "synthrad2025"
) -> dict[str, Metric]:
    """MAE, ME (prediction minus reference) and PSNR inside `mask` (z,y,x) by `protocol`.

    InputError for different grids, an empty mask or an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"there is no protocol '{protocol}' (known: {', '.join(PROTOCOLS)})")
    rules = PROTOCOLS[protocol]
    fake, real = _pair(prediction, reference, mask)
    error = fake[mask].astype(np.float64) - real[mask]
    clipped = np.clip(fake[mask], rules.low, rules.high).astype(np.float64) - np.clip(real[mask], rules.low, rules.high)
    square = float(np.mean(clipped**2))
    psnr = float("inf") if square == 0 else 10.0 * float(np.log10((rules.high - rules.low) ** 2 / square))
    found = {
        "MAE": (float(np.abs(error).mean()), rules.unit),
        "ME": (float(error.mean()), rules.unit),
        "PSNR": (psnr, "dB"),
    }
    limits = (rules.low, rules.high)
    return {
        name: Metric(name, value, unit, "body", int(mask.sum()), protocol, limits)
        for name, (value, unit) in found.items()
    }


def region_errors(
    prediction: Volume, reference: Volume, regions: Mapping[str, BoolArray], protocol: str = "synthrad2025"
) -> dict[str, dict[str, Metric]]:
    """MAE and ME in each named region; empty regions are left out. InputError for different grids."""
    return {
        name: {
            key: replace_region(metric, name)
            for key, metric in evaluate(prediction, reference, region, protocol).items()
        }
        for name, region in regions.items()
        if region.any()
    }


def replace_region(metric: Metric, region: str) -> Metric:
    """The same number, said to belong to `region`."""
    fields: dict[str, Any] = {**vars(metric), "region": region}
    return Metric(**fields)


def ct_regions(reference: Volume, mask: BoolArray) -> dict[str, BoolArray]:
    """Air (below -400 HU), soft tissue, and bone (above 200 HU) of a reference CT inside `mask`."""
    hu = reference.array
    air, bone = mask & (hu < -400), mask & (hu > 200)
    return {"air": air, "soft tissue": mask & ~air & ~bone, "bone": bone}
