"""What can be told about a result where there is nothing to compare it with.

None of these numbers measures accuracy: a result can be plausible, share the outline and the edges of its source, and
still be wrong everywhere. They only show what is certainly amiss. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from SynthGANLib.errors import InputError, UnfitInputError
from SynthGANLib.image.body import body_mask
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume

PLAUSIBLE = {
    "HU": (-1024.0, 3071.0),
    "SUVbw": (0.0, math.inf),
    "1": (0.0, math.inf),
    "RGB": (0.0, 255.0),
}
"""Values that an image of a unit can have: twelve bits of CT, no negative uptake or magnitude, eight bits of color."""

BINS = 32
"""Grey levels that a joint histogram distinguishes."""

WORKING_VOXELS = 1 << 23
"""Edges and shared information are found on blocks of voxels, so that no more than this many are looked at."""


@dataclass(frozen=True)
class Indicator:
    """One number that is no measure of accuracy.

    `region` says where it holds, `voxels` how many voxels of the result those are, `meaning` how to read it. The value
    is nan where it is undefined, and `meaning` then says why.
    """

    name: str
    value: float
    unit: str
    region: str
    voxels: int
    meaning: str


def indicators(
    result: Volume, source: Volume | None = None, mask: Array | None = None, poll: Callable[[], None] | None = None
) -> tuple[Indicator, ...]:
    """All indicators that the images at hand allow.

    Args:
        result: the synthetic image.
        source: what it was made from, on the result's grid.
        mask: (z, y, x), where the values are looked at; the whole volume without it.
        poll: called between the steps; what it raises ends the work.

    Raises:
        InputError: source or mask of another shape than the result.
    """
    for extents, name in ((source and source.shape, "source"), (None if mask is None else mask.shape, "mask")):
        if extents is not None and extents != result.shape:
            raise InputError(f"The {name} has {extents} voxels (z, y, x), the result {result.shape}.")
    step = poll or (lambda: None)
    found = [_implausible(result, mask)]
    if source is None:
        return tuple(found)
    step()
    found.append(_outline(result, source))
    step()
    grey = [blocks(_grey(volume)) for volume in (source, result)]
    voxels = math.prod(result.shape)
    found.append(_information(grey[0], grey[1], mask, voxels))
    step()
    edges = edge_agreement(grey[0], grey[1])
    meaning = "mean squared cosine between gradients: 1 if edges coincide, by chance 1/3 in a volume, 1/2 in a slice"
    if math.isnan(edges):
        meaning = "undefined: no voxel is steep in both images"
    found.append(Indicator("Edges shared with the source", edges, "", "whole volume", voxels, meaning))
    return tuple(found)


def _information(source: Array, result: Array, mask: Array | None, voxels: int) -> Indicator:
    """Normalised mutual information of two images of one shape, in the mask if there is one that leaves any voxel."""
    levels = grey_levels(source).astype(np.intp) * BINS + grey_levels(result)
    region = "whole volume"
    if mask is not None and (inside := blocks(mask) > 0.5).any():
        levels, region, voxels = levels[inside], "mask", int(np.count_nonzero(mask))
    joint = np.bincount(levels.reshape(-1), minlength=BINS * BINS).reshape(BINS, BINS)
    meaning = "normalized mutual information: 1 if independent, 2 if each explains the other"
    return Indicator(
        "Information shared with the source", normalised_mutual_information(joint), "", region, voxels, meaning
    )


def _implausible(result: Volume, mask: Array | None) -> Indicator:
    """Percent of the values that the unit does not allow, numbers that are none included."""
    low, high = PLAUSIBLE.get(result.unit, (-math.inf, math.inf))
    outside = total = 0
    for number, plane in enumerate(result.array):
        values = plane if mask is None else plane[mask[number]]
        # What is no number is neither above nor below, hence the double negation.
        outside += int(np.count_nonzero(~((values >= low) & (values <= high) & np.isfinite(values))))
        total += values.size
    bounds = f"below {low:g}" if high == math.inf else f"outside {low:g} to {high:g}"
    meaning = f"share of values {bounds}" if low > -math.inf else "share of values that are no finite numbers"
    voxels = total // result.channels
    region = "whole volume" if mask is None else "mask"
    if not total:
        return Indicator("Implausible values", math.nan, "%", region, 0, "undefined: no voxel is looked at")
    return Indicator("Implausible values", 100.0 * outside / total, "%", region, voxels, meaning)


def _outline(result: Volume, source: Volume) -> Indicator:
    """Dice coefficient of the bodies found in both images."""
    name, unit, region, voxels = "Outline shared with the source", "", "whole volume", math.prod(result.shape)
    try:
        bodies = [body_mask(volume.array, volume.spacing) for volume in (result, source)]
    except UnfitInputError:
        return Indicator(name, math.nan, unit, region, voxels, "undefined: one of the two images shows no body")
    meaning = "Dice coefficient of the bodies found in both images: 0 if apart, 1 if the same"
    return Indicator(name, dice(bodies[0], bodies[1]), unit, region, voxels, meaning)


def dice(first: Array, second: Array) -> float:
    """Twice the common voxels of two boolean masks over the sum of their voxels; nan where both are empty."""
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2.0 * int(np.count_nonzero(first & second)) / total if total else math.nan


def _grey(volume: Volume) -> Array:
    """(z, y, x): the channels' mean; what is no number becomes the smallest number of the image."""
    array = volume.array
    if array.ndim == 4:
        array = array.mean(axis=3, dtype=np.float32)
    finite = np.isfinite(array)
    if finite.all():
        return array
    lowest = array[finite].min() if finite.any() else 0.0
    return np.where(finite, array, lowest)


def blocks(array: Array, most: int = WORKING_VOXELS) -> Array:
    """Means (float32) over cubes of voxels, as small as leave at most `most` of them; a remainder is cut off.

    An axis shorter than the cube is left as it is. An array (z, y, x) that is small enough is only converted.
    """
    size = 1
    while math.prod(-(-extent // size) for extent in array.shape) > most:
        size += 1
    if size == 1:
        return array.astype(np.float32, copy=False)
    sizes = [size if extent >= size else 1 for extent in array.shape]
    counts = [extent // each for extent, each in zip(array.shape, sizes, strict=True)]
    result = np.empty(counts, np.float32)
    height, width = (count * each for count, each in zip(counts[1:], sizes[1:], strict=True))
    for number in range(counts[0]):
        slab = array[number * sizes[0] : (number + 1) * sizes[0], :height, :width]
        # (s, y, x) -> (s, Y, sy, X, sx)
        cubes = slab.reshape(sizes[0], counts[1], sizes[1], counts[2], sizes[2])
        result[number] = cubes.mean(axis=(0, 2, 4), dtype=np.float32)
    return result


def grey_levels(array: Array) -> Array:
    """Intensities between the 0.5 and 99.5 percentiles as whole numbers below `BINS` (uint8)."""
    low, high = (float(value) for value in np.percentile(array, (0.5, 99.5)))
    if not high > low:
        low, high = float(array.min()), max(float(array.max()), float(array.min()) + 1e-6)
    scaled = (np.clip(array, low, high) - low) * ((BINS - 1) / (high - low))
    levels: Array = np.rint(scaled).astype(np.uint8)
    return levels


def normalised_mutual_information(joint: Array) -> float:
    """(H(a) + H(b)) / H(a, b) of a joint histogram (a, b); 1 where one of the two is constant or nothing is counted.

    Source: Studholme et al., Pattern Recognition 32:71 (1999).
    """
    total = joint.sum()
    if not total:
        return 1.0
    both = _entropy(joint.reshape(-1) / total)
    apart = _entropy(joint.sum(axis=0) / total) + _entropy(joint.sum(axis=1) / total)
    return float(apart / both) if both > 0 else 1.0


def _entropy(shares: Array) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def edge_agreement(first: Array, second: Array) -> float:
    """Mean squared cosine between the gradients of two images (z, y, x) where both are steep; 0 to 1.

    Steep is the upper tenth of the gradients that are not zero. NaN where no voxel is steep in both.
    """
    axes = [axis for axis, extent in enumerate(first.shape) if extent > 1]
    if not axes:
        return math.nan
    # Without the outermost voxels, whose one-sided differences are larger and all point across the border.
    inner = (slice(None), *(slice(1, -1) if extent > 2 else slice(None) for extent in first.shape))
    slopes = [np.stack([np.gradient(image, axis=axis) for axis in axes])[inner] for image in (first, second)]
    sizes = [np.sqrt((slope**2).sum(axis=0)) for slope in slopes]
    both = np.ones(sizes[0].shape, bool)
    for size in sizes:
        if not size.any():
            return math.nan
        both &= size > np.percentile(size[size > 0], 90)
    if not both.any():
        return math.nan
    products = (slopes[0] * slopes[1]).sum(axis=0)[both]
    return float(np.mean((products / (sizes[0][both] * sizes[1][both])) ** 2))
