"""Separable resampling along index axes, and general resampling onto another grid.

Along an axis every output sample is a weighted sum of a few neighboring input samples. The weights
of one axis form a banded matrix that covers interpolation, anti-aliasing and edge handling.
A volume is processed in slabs, without a second copy of the input, whatever its type.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Affine, Array, Grid
from SynthGANLib.image.volume import Volume

Interpolation = Literal["linear", "nearest"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("linear", "nearest")

# Weights below this share of the largest are dropped; float32 keeps about seven digits.
_NEGLIGIBLE = 1e-7
# Number of float32 values processed at a time: 8 MiB stay in the processor's cache.
_SLAB_VALUES = 2 * 1024 * 1024

FWHM_PER_SIGMA = 2.354820045
"""Full width at half maximum of a normal distribution, 2 sqrt(2 ln 2), in standard deviations."""


def axis_weights(extent: int, positions: Affine, interpolation: Interpolation, blur: float) -> Affine:
    """Matrix (outputs, extent) that samples an axis at ``positions`` (in input samples).

    Positions beyond the first and last sample take the edge value. ``blur`` is the standard deviation,
    in input samples, of a Gaussian applied first; nearest-neighbor sampling ignores it.
    """
    inside = np.clip(positions, 0.0, extent - 1.0)
    if interpolation == "nearest":
        return np.eye(extent)[np.floor(inside + 0.5).astype(np.intp)]
    weights = _hat(inside[:, np.newaxis] - np.arange(extent))
    return weights @ _gaussian(extent, blur) if blur > 0 else weights


def _hat(distance: Affine) -> Affine:
    return np.clip(1.0 - np.abs(distance), 0.0, None)


def _gaussian(extent: int, sigma: float) -> Affine:
    """Matrix (extent, extent) of a Gaussian blur; edge samples are repeated outwards."""
    radius = int(np.ceil(3.5 * sigma))
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    blur = np.zeros((extent, extent))
    rows = np.arange(extent)
    for offset, weight in zip(offsets, kernel, strict=True):
        blur[rows, np.clip(rows + offset, 0, extent - 1)] += weight
    return blur


def apply_axis(array: Array, weights: Affine, axis: int) -> Array:
    """Apply a (outputs, extent) matrix along one spatial axis; float32 (z, y, x[, c]) out."""
    outputs, extent = weights.shape
    shape = list(array.shape)
    shape[axis] = outputs
    result = np.empty(shape, np.float32)
    blocks = _banded_blocks(weights)
    slab_axis = 1 if axis == 0 else 0
    values_per_layer = max(1, array.size // max(1, array.shape[slab_axis]))
    step = max(1, _SLAB_VALUES // values_per_layer)
    for start in range(0, array.shape[slab_axis], step):
        window = [slice(None)] * array.ndim
        window[slab_axis] = slice(start, start + step)
        slab = np.moveaxis(array[tuple(window)], axis, 0)  # (extent, ...)
        columns = np.ascontiguousarray(slab, dtype=np.float32).reshape(extent, -1)
        target = np.moveaxis(result[tuple(window)], axis, 0)  # (outputs, ...), a view
        for rows, band, block in blocks:
            target[rows] = (block @ columns[band]).reshape(target[rows].shape)
    return result


def _banded_blocks(weights: Affine, rows_per_block: int = 8) -> list[tuple[slice, slice, Array]]:
    """Cut a banded matrix into (rows, columns, float32 block) pieces without the empty corners."""
    blocks = []
    for start in range(0, weights.shape[0], rows_per_block):
        piece = weights[start : start + rows_per_block]
        used = np.flatnonzero(np.abs(piece).max(axis=0) > _NEGLIGIBLE * np.abs(piece).max())
        band = slice(int(used[0]), int(used[-1]) + 1)
        rows = slice(start, start + piece.shape[0])
        blocks.append((rows, band, piece[:, band].astype(np.float32)))
    return blocks


def take_axis(array: Array, positions: Affine, axis: int) -> Array:
    """Nearest-neighbor sampling along an axis; the type of the array is kept."""
    nearest = np.floor(np.clip(positions, 0.0, array.shape[axis] - 1.0) + 0.5).astype(np.intp)
    return np.take(array, nearest, axis=axis)


def resample_to(volume: Volume, grid: Grid, *, fill: float, interpolation: Interpolation = "linear") -> Volume:
    """The volume interpolated at the voxels of any other grid, ``fill`` where it has no data.

    No anti-aliasing: for much larger voxels, conform to their spacing first. Nearest keeps the
    integer types, all others give float32. A grid equal to the volume's own returns the same numbers.

    Raises:
        InputError: unknown interpolation, or an empty volume.
    """
    check_interpolation(interpolation)
    if volume.array.size == 0:
        raise InputError("The volume has no voxels to resample.")
    keeps_type = interpolation == "nearest"
    if volume.grid.same_as(grid, tolerance=1e-9):
        return Volume(volume.array if keeps_type else as_float32(volume.array), grid.affine, volume.unit, volume.meta)
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator({"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}[interpolation])
    resampler.SetSize(grid.shape[::-1])
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction.ravel().tolist())
    resampler.SetDefaultPixelValue(float(fill))
    source = volume if keeps_type else Volume(as_float32(volume.array), volume.affine)
    array = sitk.GetArrayFromImage(resampler.Execute(source.to_sitk()))
    if volume.array.dtype == np.bool_ and keeps_type:
        array = array.view(np.bool_)
    return Volume(array, grid.affine, volume.unit, volume.meta)


def as_float32(array: Array) -> Array:
    """The array itself if it is float32, else a converted copy."""
    return array.astype(np.float32, copy=False)


def check_interpolation(interpolation: str) -> None:
    """InputError unless the name is one of :data:`INTERPOLATIONS`."""
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"'{interpolation}' is not an interpolation; choose one of {', '.join(INTERPOLATIONS)}.")
