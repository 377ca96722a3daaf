"""The invertible transforms between two grids: reorient, straighten, resample, crop and pad."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Affine, Array, Grid, Shape
from SynthGANLib.image.resampling import (
    FWHM_PER_SIGMA,
    Interpolation,
    apply_axis,
    axis_weights,
    resample_to,
    take_axis,
)
from SynthGANLib.image.volume import Volume

Order = Literal[0, 1]


@dataclass(frozen=True, eq=False)
class Step(ABC):
    """One invertible transform from ``source`` to ``target``."""

    source: Grid
    target: Grid

    @abstractmethod
    def forward(self, array: Array, fill: float, interpolation: Interpolation) -> Array:
        """Array on ``source`` to array on ``target``."""

    @abstractmethod
    def backward(self, array: Array, fill: float, order: Order) -> Array:
        """Array on ``target`` to array on ``source``."""


@dataclass(frozen=True, eq=False)
class Reorient(Step):
    """Permute and flip axes; ``axes[a]`` is the source array axis that becomes array axis ``a``."""

    axes: Shape
    flipped: tuple[int, ...]  # array axes of the target that are reversed in the source

    def forward(self, array: Array, fill: float, interpolation: Interpolation) -> Array:
        """A view; no voxel is moved in memory."""
        return np.flip(array.transpose(*self.axes, *range(3, array.ndim)), self.flipped)

    def backward(self, array: Array, fill: float, order: Order) -> Array:
        """A view; no voxel is moved in memory."""
        axes = tuple(int(axis) for axis in np.argsort(self.axes))
        return np.flip(array, self.flipped).transpose(*axes, *range(3, array.ndim))


@dataclass(frozen=True, eq=False)
class Resample(Step):
    """Change the spacing along the grid's own axes."""

    ratios: tuple[float, float, float]  # target spacing / source spacing per array axis (z, y, x)

    def forward(self, array: Array, fill: float, interpolation: Interpolation) -> Array:
        """Interpolated; for larger voxels, a Gaussian first widens the point spread to the new voxel size.

        The blur that widens a point spread of one voxel to one of ``ratio`` voxels, both taken as Gaussians
        of that full width at half maximum (Cardoso et al. 2015, MICCAI, LNCS 9350, "Scale factor point
        spread function matching").
        """
        shrinking_first = sorted(range(3), key=lambda axis: -self.ratios[axis])
        for axis in shrinking_first:
            ratio = self.ratios[axis]
            extents = self.source.shape[axis], self.target.shape[axis]
            positions = centered(extents[0], extents[1], ratio)
            if ratio == 1.0:
                continue
            if interpolation == "nearest":
                array = take_axis(array, positions, axis)
                continue
            blur = float(np.sqrt(max(ratio**2 - 1.0, 0.0))) / FWHM_PER_SIGMA
            array = apply_axis(array, axis_weights(extents[0], positions, interpolation, blur), axis)
        return array

    def backward(self, array: Array, fill: float, order: Order) -> Array:
        """Sampled at the source voxels' centers, without blur: unchanged voxels are restored exactly."""
        shrinking_first = sorted(range(3), key=lambda axis: self.ratios[axis])
        for axis in shrinking_first:
            ratio = self.ratios[axis]
            extents = self.target.shape[axis], self.source.shape[axis]
            if ratio == 1.0:
                continue
            positions = centered(extents[0], extents[1], 1.0 / ratio)
            if order == 0:
                array = take_axis(array, positions, axis)
            else:
                array = apply_axis(array, axis_weights(extents[0], positions, "linear", 0.0), axis)
        return array


@dataclass(frozen=True, eq=False)
class Straighten(Step):
    """Resample a sheared grid (tilted gantry) onto one with right angles that covers it."""

    def forward(self, array: Array, fill: float, interpolation: Interpolation) -> Array:
        """Interpolated; ``fill`` where the sheared grid has no data."""
        return resample_to(Volume(array, self.source.affine), self.target, fill=fill, interpolation=interpolation).array

    def backward(self, array: Array, fill: float, order: Order) -> Array:
        """Interpolated; the straight grid covers every voxel of the sheared one."""
        interpolation: Interpolation = "linear" if order else "nearest"
        return resample_to(Volume(array, self.target.affine), self.source, fill=fill, interpolation=interpolation).array


@dataclass(frozen=True, eq=False)
class CropPad(Step):
    """Take a box; voxels of the box outside the source get the fill value."""

    lower: Shape  # voxels added below (z, y, x); negative: cut off
    upper: Shape

    def forward(self, array: Array, fill: float, interpolation: Interpolation) -> Array:
        """Exact."""
        return crop_pad(array, self.lower, self.upper, fill)

    def backward(self, array: Array, fill: float, order: Order) -> Array:
        """Exact; voxels that were cut off get the fill value."""
        return uncrop_unpad(array, self.lower, self.upper, fill)


def crop_pad(array: Array, lower: Sequence[int], upper: Sequence[int], fill: float) -> Array:
    """Add (positive) or cut (negative) voxels below and above each of the axes (z, y, x).

    Returns a view where nothing is added.

    Raises:
        InputError: the cuts leave no voxel.
    """
    shape = [extent + low + up for extent, low, up in zip(array.shape, lower, upper, strict=False)]
    if min(shape) <= 0:
        raise InputError(f"Cropping {array.shape} by {tuple(lower)} and {tuple(upper)} leaves no voxel.")
    inner = tuple(
        slice(max(0, -low), size - max(0, -up)) for low, up, size in zip(lower, upper, array.shape, strict=False)
    )
    cropped = array[inner]
    if max(*lower, *upper) <= 0:
        return cropped
    result = np.full((*shape, *array.shape[3:]), fill, array.dtype)
    place = tuple(slice(max(0, low), max(0, low) + size) for low, size in zip(lower, cropped.shape, strict=False))
    result[place] = cropped
    return result


def uncrop_unpad(array: Array, lower: Sequence[int], upper: Sequence[int], fill: float) -> Array:
    """The inverse of :func:`crop_pad` with the same amounts; voxels that were cut off get ``fill``."""
    return crop_pad(array, [-low for low in lower], [-up for up in upper], fill)


def centered(extent: int, outputs: int, ratio: float) -> Affine:
    """Positions, in input samples, of ``outputs`` samples ``ratio`` apart with the same center."""
    positions: Affine = (np.arange(outputs, dtype=np.float64) - (outputs - 1) / 2) * ratio + (extent - 1) / 2
    return positions
