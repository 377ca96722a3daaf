"""The body mask: Otsu's threshold, the largest component, holes filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from SynthGANLib.errors import InputError, UnfitInputError
from SynthGANLib.image.grid import Affine, Array, whole_voxels
from SynthGANLib.image.resampling import apply_axis, axis_weights

# Voxel size (mm) at which the mask is computed; its surface is then interpolated to the volume's own voxels.
_WORKING_SPACING = 2.0
# Fewest voxels along an axis of the working grid; shorter axes are not downsampled.
_FEWEST = 32
# Radius (mm) of the opening that removes objects outside the body: tables, head rests, cushions, tubes, ghosts.
_OPENING = 3.0
# Radius (mm) of gaps in the surface that are bridged: ear canals, nostrils, thin dark skin.
_CLOSING = 4.0
# In MR the skull is dark and the scalp thin; closing with this radius (mm) joins both to the brain before the opening.
_JOINING = 6.0
# Largest radius in voxels. Only fields of view below 25 mm would need more, such as those of headers whose lengths are
# wrong by a factor of a thousand: there a radius in mm would take minutes and all memory.
_LARGEST_RADIUS = 16
# If this share of the voxels lies below this value, the values are HU: only lungs and air in CT are so low.
_AIR, _AIR_SHARE = -500.0, 0.02
# Darkest true value of CT; scanners pad beyond their field of view with anything down to -3024.
_DARKEST = -1000.0
_BINS = 512


def body_mask(array: Array, spacing: tuple[float, float, float]) -> Array:
    """Boolean (z, y, x) mask of the body, enclosed air such as sinuses, airways and lungs included.

    Otsu's threshold (1979, IEEE Trans. SMC 9(1)) is taken on the square root of clipped intensities, which
    keeps dim tissue of MR and PET; thin things touching the body are cut off; the largest component is kept,
    closed, and its holes are filled in every plane.

    Args:
        array: (z, y, x), or (z, y, x, c) whose channels are averaged; any real type, NaN counts as air.
        spacing: mm along (x, y, z).

    Raises:
        InputError: the array has neither 3 nor 4 dimensions, or no voxels.
        UnfitInputError: the volume is constant, or no body was found.
    """
    if array.ndim not in (3, 4) or array.size == 0:
        raise InputError(f"A body mask needs a volume, not an array of shape {array.shape}.")
    factors = [
        max(1, min(whole_voxels(_WORKING_SPACING, mm), extent // _FEWEST))
        for extent, mm in zip(array.shape[:3], spacing[::-1], strict=True)
    ]
    coarse = _block_means(array, factors)
    voxel = [mm * factor for mm, factor in zip(spacing[::-1], factors, strict=True)]
    is_ct = np.count_nonzero(coarse < _AIR) > _AIR_SHARE * coarse.size
    if is_ct:
        coarse = np.maximum(coarse, _DARKEST)
    bright = coarse > _threshold(coarse)
    if not is_ct:  # in CT the skull is bright, and a hollow table must not become a solid one
        bright = _filled(_closed(bright, voxel, _JOINING))
    mask = _body(bright, voxel)
    return mask if factors == [1, 1, 1] else _enlarge(mask, array.shape[:3], factors)


def _block_means(array: Array, factors: list[int]) -> Array:
    """Means over blocks of ``factors`` voxels (z, y, x), float32; blocks at the far ends may be smaller."""
    counts = [-(-extent // factor) for extent, factor in zip(array.shape[:3], factors, strict=True)]
    result = np.empty(counts, np.float32)
    starts = [np.arange(count) * factor for count, factor in zip(counts, factors, strict=True)]
    sizes = [
        np.diff(np.append(start, extent)).astype(np.float32)
        for start, extent in zip(starts, array.shape[:3], strict=True)
    ]
    for index, first in enumerate(starts[0]):
        slab = array[first : first + factors[0]]  # (factor, y, x[, c])
        plane = slab.mean(axis=(0, 3) if array.ndim == 4 else 0, dtype=np.float32)
        plane = np.add.reduceat(np.add.reduceat(plane, starts[1], axis=0), starts[2], axis=1)
        result[index] = plane / (sizes[1][:, np.newaxis] * sizes[2])
    return result


def _threshold(values: Array) -> float:
    """Otsu's threshold on the square root of intensities clipped to their central 99.9 %."""
    finite = values[np.isfinite(values)]
    if finite.size == 0 or finite.min() == finite.max():
        raise UnfitInputError("The volume is constant; there is no body in it.", next_step="Choose another volume.")
    low, high = (float(value) for value in np.percentile(finite, (0.05, 99.5)))
    if not high > low:
        low, high = float(finite.min()), float(finite.max())
    roots = np.sqrt((np.clip(finite, low, high) - low) / (high - low))
    counts, edges = np.histogram(roots, bins=_BINS, range=(0.0, 1.0))
    return low + (high - low) * _otsu(counts, edges) ** 2


def _otsu(counts: Array, edges: Affine) -> float:
    """The edge that best separates two classes by the variance between them."""
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * centers)
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (means[0] - means[1]) ** 2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))  # a gap in the histogram gives a plateau
    return float(edges[1:-1][best].mean())


def _body(bright: Array, voxel: list[float]) -> Array:
    """The body among the bright voxels; ``voxel`` in mm (z, y, x)."""
    import SimpleITK as sitk

    solid = sitk.GetImageFromArray(bright.astype(np.uint8))
    opening = _radii(_OPENING, voxel)
    core = _largest(sitk.BinaryMorphologicalOpening(solid, opening, sitk.sitkBall))
    if core is None:  # everything is thinner than the opening, as in a single slice or a tiny volume
        core = _largest(solid)
    if core is None:
        raise UnfitInputError("No body was found in the volume.", next_step="Choose another volume or give a mask.")
    grown = sitk.BinaryDilate(core, [radius + 1 for radius in opening], sitk.sitkBall) & solid
    body: Array = sitk.GetArrayFromImage(grown).astype(bool)
    mask = _filled(_closed(body, voxel, _CLOSING))
    whole: Array = sitk.GetArrayFromImage(_largest(sitk.GetImageFromArray(mask.astype(np.uint8)))).astype(bool)
    return whole


def _radii(mm: float, voxel: list[float]) -> list[int]:
    """A radius in voxels (x, y, z), limited so that the computation takes seconds."""
    return [min(whole_voxels(mm, size), _LARGEST_RADIUS) for size in voxel[::-1]]


def _closed(mask: Array, voxel: list[float], mm: float) -> Array:
    """Bridge gaps narrower than twice the radius; the volume is padded, so that its border closes no gap."""
    import SimpleITK as sitk

    radii = _radii(mm, voxel)
    if not any(radii):
        return mask
    pad = [radius + 1 for radius in radii]
    padded = sitk.ConstantPad(sitk.GetImageFromArray(mask.astype(np.uint8)), pad, pad, 0)
    closed = sitk.Crop(sitk.BinaryMorphologicalClosing(padded, radii, sitk.sitkBall), pad, pad)
    result: Array = sitk.GetArrayFromImage(closed).astype(bool)
    return result


def _largest(image: Any) -> Any:
    """The largest connected component of a binary image, None if it is empty."""
    import SimpleITK as sitk

    components = sitk.RelabelComponent(sitk.ConnectedComponent(image), sortByObjectSize=True)
    largest = components == 1
    return largest if sitk.GetArrayViewFromImage(largest).any() else None


def _filled(mask: Array) -> Array:
    """Fill holes within the slices of each axis: airways leave the volume, but not within a slice."""
    import SimpleITK as sitk

    result = mask.copy()
    for axis in range(3):
        planes = np.moveaxis(result, axis, 0)  # (slices, ...), a view
        walled = np.ones((2 * len(planes) + 1, *planes.shape[1:]), np.uint8)
        walled[1::2] = planes  # a full plane between any two slices keeps their holes apart
        filled = sitk.BinaryFillhole(sitk.GetImageFromArray(walled))
        planes[:] = sitk.GetArrayViewFromImage(filled)[1::2]
    return result


def _enlarge(mask: Array, shape: tuple[int, ...], factors: list[int]) -> Array:
    """The mask on the full grid, its surface interpolated linearly between block centers; slab by slab."""
    weights = [
        axis_weights(extent, (np.arange(full) - (factor - 1) / 2) / factor, "linear", 0.0)
        for extent, full, factor in zip(mask.shape, shape, factors, strict=True)
    ]
    result = np.empty(shape, bool)
    step = 16
    for start in range(0, shape[0], step):
        slab = apply_axis(mask, weights[0][start : start + step], 0)
        slab = apply_axis(apply_axis(slab, weights[1], 1), weights[2], 2)
        result[start : start + step] = slab > 0.5
    return result
