"""From several warped CTs to one: the best match, the mean, the median, or local weights.

Local weights are those of Burgos et al. (IEEE TMI 33:2332, 2014): atlases are ranked voxel by voxel by the normalised
cross-correlation of the images in a Gaussian window, and rank r weighs exp(-beta r). Voxels an atlas does not cover
never enter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

FLAT = 1e-3
"""Variance, of an image of variance one, below which a window counts as flat: noise correlates with nothing."""


@dataclass(frozen=True, eq=False)
class Warped:
    """Atlases on the target's grid.

    Attributes:
        ct: (n, z, y, x) HU. covered: (n, z, y, x), true where the atlas has data.
        likeness: (n, z, y, x), how well the atlas matches there, higher is better. overall: (n,), the same for all.
    """

    ct: FloatArray
    covered: BoolArray
    likeness: FloatArray
    overall: FloatArray

    def slab(self, part: slice) -> Warped:
        """The slices `part` of all of them; views."""
        return Warped(self.ct[:, part], self.covered[:, part], self.likeness[:, part], self.overall)


def local_correlation(target: FloatArray, warped: FloatArray, covered: BoolArray, sigma: float) -> FloatArray:
    """Normalised cross-correlation (z, y, x), -1 to 1, in a Gaussian window of `sigma` voxels.

    Voxels that are not covered are left out of every window.
    """
    if not covered.any():
        return np.zeros(target.shape, np.float32)
    weight = covered.astype(np.float32)
    share = np.maximum(_smooth(weight, sigma), 1e-6)

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(_smooth(values * weight, sigma) / share)

    one, two = (_standard(image, covered) for image in (target, warped))
    mean_one, mean_two = mean(one), mean(two)
    covariance = mean(one * two) - mean_one * mean_two
    variances = [np.maximum(mean(one * one) - mean_one**2, 0), np.maximum(mean(two * two) - mean_two**2, 0)]
    found = covariance / np.sqrt((variances[0] + FLAT) * (variances[1] + FLAT))
    return np.asarray(np.clip(found, -1.0, 1.0), np.float32)


def _standard(image: FloatArray, covered: BoolArray) -> FloatArray:
    values = image[covered].astype(np.float64)
    return np.asarray((image - values.mean()) / max(float(values.std()), 1e-6), np.float32)


def _smooth(array: FloatArray, sigma: float) -> FloatArray:
    image = sitk.GetImageFromArray(array)
    widths = [sigma**2 if n > 1 else 0.0 for n in image.GetSize()]
    smooth = sitk.DiscreteGaussian(image, widths, max(3, round(8 * sigma)), [0.01] * 3, False)
    return np.asarray(sitk.GetArrayFromImage(smooth), np.float32)


def _by_rank(scores: FloatArray, covered: BoolArray, beta: float) -> FloatArray:
    """(n, ...) weights exp(-beta rank), rank 0 for the highest score; 0 where not covered."""
    order = np.argsort(np.where(covered, -scores, np.inf), axis=0, kind="stable")
    rank = np.empty(order.shape, np.float32)
    ranks = np.arange(len(order), dtype=np.float32).reshape(-1, *[1] * (order.ndim - 1))
    np.put_along_axis(rank, order, np.broadcast_to(ranks, order.shape), axis=0)
    return np.asarray(np.exp(-beta * rank) * covered, np.float32)


def _weighted(ct: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray((ct * weights).sum(0) / np.maximum(weights.sum(0), 1e-30), np.float32)


def single(atlases: Warped, beta: float) -> FloatArray:
    """The best atlas overall; where that has no data, the next best that has."""
    scores = np.where(atlases.covered, atlases.overall.reshape(-1, 1, 1, 1), -np.inf)
    return np.asarray(np.take_along_axis(atlases.ct, scores.argmax(0)[None], axis=0)[0], np.float32)


def mean(atlases: Warped, beta: float) -> FloatArray:
    """The mean of the atlases that have data."""
    return _weighted(atlases.ct, atlases.covered.astype(np.float32))


def median(atlases: Warped, beta: float) -> FloatArray:
    """The median of the atlases that have data."""
    ordered = np.sort(np.where(atlases.covered, atlases.ct, np.inf), axis=0)
    count = atlases.covered.sum(0)
    places = [np.clip((count - 1) // 2, 0, None)[None], np.clip(count // 2, 0, len(ordered) - 1)[None]]
    low, high = (np.take_along_axis(ordered, place, axis=0)[0] for place in places)
    return np.asarray(np.where(count > 0, 0.5 * (low + high), 0.0), np.float32)


def lncc(atlases: Warped, beta: float) -> FloatArray:
    """Ranked weights from the local likeness."""
    return _weighted(atlases.ct, _by_rank(atlases.likeness, atlases.covered, beta))


FUSIONS: Mapping[str, Callable[[Warped, float], FloatArray]] = {
    "single": single,
    "mean": mean,
    "median": median,
    "lncc": lncc,
}


def fuse(atlases: Warped, fusion: str, *, beta: float = 0.5, background: float = -1000.0, slab: int = 8) -> FloatArray:
    """One CT (z, y, x) by the name of a fusion; `background` where no atlas has data. In slabs, to save memory."""
    result = np.empty(atlases.ct.shape[1:], np.float32)
    for first in range(0, len(result), slab):
        part = slice(first, first + slab)
        some = atlases.slab(part)
        result[part] = np.where(some.covered.any(0), FUSIONS[fusion](some, beta), np.float32(background))
    return result
