"""Structural similarity (SSIM) and its multi-scale form (MS-SSIM) of two arrays, in numpy, with bounded memory.

All functions take arrays of any number of axes, already clipped, masked and shifted the way their protocol says, and
the width `data_range` of that protocol's range. What is common to them:

- uniform window of 7 along every axis, sample covariance, K1 = 0.01, K2 = 0.03 (scikit-image's defaults);
- the mean runs over the places whose whole window lies in the image, and of those over the ones in the mask;
- an axis of extent 1 is no axis: a single slice of a volume is measured as the plane it is;
- along an axis shorter than the window, the window is the largest odd extent that fits;
- the multi-scale forms repeat the edges of a shorter axis until it has 97 voxels, which five scales need.

They return nan where no voxel of the mask is left to average over. Sources: Wang et al., IEEE TIP 13:600 (2004); Wang,
Simoncelli and Bovik, Asilomar 2003; the evaluation of the SynthRAD2023 and SynthRAD2025 challenges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.floating]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

WINDOW = 7
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
LEAST_EXTENT = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1
"""Voxels an axis needs for the window to fit on the coarsest scale."""

_SLAB = 1 << 19  # voxels whose local statistics are held at once: about ten float64 arrays of this size


@dataclass(frozen=True)
class _Moments:
    """Local means, variances and covariance of two images where the window fits."""

    x: DoubleArray
    y: DoubleArray
    xx: DoubleArray
    yy: DoubleArray
    xy: DoubleArray


def window_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The window SSIM uses for images of `shape`: 7, or the largest odd extent along an axis shorter than that."""
    return tuple(min(WINDOW, n - 1 + n % 2) for n in shape)


def multi_scale_window(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The window MS-SSIM uses for images of `shape`: 7, and 1 along an axis of extent 1."""
    return tuple(1 if n == 1 else WINDOW for n in shape)


def ssim(x: RealArray, y: RealArray, data_range: float, mask: BoolArray | None = None) -> float:
    """Mean structural similarity of `x` and `y` over `mask`; with all of them as scikit-image computes it."""
    x, y, mask = _planar(x, y, mask)
    return _masked_mean(_Terms(data_range).similarity, x, y, mask)


def ms_ssim(x: RealArray, y: RealArray, data_range: float, mask: BoolArray | None = None) -> float:
    """Multi-scale similarity as Wang et al. define it: contrast and structure on every scale, luminance on the last.

    Each scale's mean, no less than 0, is raised to the scale's weight, and the powers are multiplied. A coarser image
    is the mean of pairs along every axis (a last odd voxel stands for itself), a coarser mask every other voxel.
    """
    terms = _Terms(data_range)
    x, y, mask = _padded(*_planar(x, y, mask))
    found = 1.0
    for level, weight in enumerate(SCALE_WEIGHTS, 1):
        last = level == len(SCALE_WEIGHTS)
        mean = _masked_mean(terms.similarity if last else terms.contrast_structure, x, y, mask)
        found *= max(mean, 0.0) ** weight if not math.isnan(mean) else mean
        if not last:
            x, y, mask = _halved(x, _block_means), _halved(y, _block_means), _every_other(mask)
    return found


def ms_ssim_synthrad2025(x: RealArray, y: RealArray, data_range: float, mask: BoolArray | None = None) -> float:
    """Multi-scale similarity as the SynthRAD2025 challenge computes its masked value.

    It differs from Wang's in that luminance counts on every scale; each voxel's luminance, contrast and structure are
    cut off below 0 and raised to the scale's weight before the mean; a coarser image is the mean of each even voxel
    with the one *before* it, of zero at the border; and each scale's mean is clipped to [0, 1].
    """
    terms = _Terms(data_range)
    x, y, mask = _padded(*_planar(x, y, mask))
    found = 1.0
    for level, weight in enumerate(SCALE_WEIGHTS, 1):
        mean = _masked_mean(terms.power(weight), x, y, mask)
        found *= min(max(mean, 0.0), 1.0) if not math.isnan(mean) else mean
        if level < len(SCALE_WEIGHTS):
            x, y, mask = _halved(x, _means_with_previous), _halved(y, _means_with_previous), _every_other(mask)
    return found


class _Terms:
    """Maps of similarity from local moments, for intensities in a range of width `data_range`."""

    def __init__(self, data_range: float) -> None:
        self.c1, self.c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2

    def luminance(self, m: _Moments) -> DoubleArray:
        return (2 * m.x * m.y + self.c1) / (m.x * m.x + m.y * m.y + self.c1)

    def contrast_structure(self, m: _Moments) -> DoubleArray:
        return (2 * m.xy + self.c2) / (m.xx + m.yy + self.c2)

    def similarity(self, m: _Moments) -> DoubleArray:
        return self.luminance(m) * self.contrast_structure(m)

    def power(self, weight: float) -> Callable[[_Moments], DoubleArray]:
        """Luminance, contrast and structure, each no less than 0 and raised to `weight`, multiplied."""

        def term(m: _Moments) -> DoubleArray:
            # a variance below 0 is rounding; the definition cuts it off under the root only
            product = np.sqrt(np.clip(m.xx, 0, None)) * np.sqrt(np.clip(m.yy, 0, None))
            contrast = (2 * product + self.c2) / (m.xx + m.yy + self.c2)
            structure = (m.xy + self.c2 / 2) / (product + self.c2 / 2)
            clipped = [np.clip(part, 0, None) for part in (self.luminance(m), contrast, structure)]
            found: DoubleArray = (clipped[0] * clipped[1] * clipped[2]) ** weight
            return found

        return term


def _planar(x: RealArray, y: RealArray, mask: BoolArray | None) -> tuple[RealArray, RealArray, BoolArray]:
    """The arrays without their axes of extent 1 (one is left where there is nothing else), and a mask for certain."""
    if x.shape != y.shape or (mask is not None and mask.shape != x.shape):
        raise ValueError(f"shapes differ: {x.shape}, {y.shape}" + ("" if mask is None else f", mask {mask.shape}"))
    shape = tuple(n for n in x.shape if n > 1) or (1,)
    everywhere = np.ones(shape, np.bool_) if mask is None else mask.reshape(shape)
    return x.reshape(shape), y.reshape(shape), everywhere


def _padded(x: RealArray, y: RealArray, mask: BoolArray) -> tuple[RealArray, RealArray, BoolArray]:
    """The arrays with their edges repeated to `LEAST_EXTENT`, the odd voxel behind."""
    lacking = [max(LEAST_EXTENT - n, 0) for n in x.shape]
    if not any(lacking):
        return x, y, mask
    width = [(n // 2, n - n // 2) for n in lacking]
    return np.pad(x, width, mode="edge"), np.pad(y, width, mode="edge"), np.pad(mask, width, mode="edge")


def _masked_mean(term: Callable[[_Moments], DoubleArray], x: RealArray, y: RealArray, mask: BoolArray) -> float:
    """Mean of `term` over the voxels of `mask` whose window lies in the image; nan where there is none.

    Only the box around these voxels is computed, slab by slab along the first axis.
    """
    window = window_of(x.shape)
    inner = mask[tuple(slice(w // 2, n - w // 2) for w, n in zip(window, mask.shape, strict=True))]
    total, count = 0.0, int(np.count_nonzero(inner))
    if count == 0:
        return math.nan
    box = _bounds(inner)
    inner = inner[box]
    # the window of inner voxel i covers i to i + w - 1 of the image
    spread = tuple(slice(b.start, b.stop + w - 1) for b, w in zip(box, window, strict=True))
    x, y = x[spread], y[spread]
    for start, stop in _slabs(inner.shape):
        wanted = inner[start:stop]
        if wanted.any():
            rows = slice(start, stop + window[0] - 1)
            total += float(term(_moments(x[rows], y[rows], window))[wanted].sum())
    return total / count


def _bounds(mask: BoolArray) -> tuple[slice, ...]:
    """The smallest box that holds every true voxel; there is one."""
    found = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        found.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(found)


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of rows along the first axis that hold about `_SLAB` voxels each."""
    rows = max(1, _SLAB // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])


def _moments(x: RealArray, y: RealArray, window: tuple[int, ...]) -> _Moments:
    count = math.prod(window)
    sample = count / max(count - 1, 1)
    a, b = x.astype(np.float64), y.astype(np.float64)
    mean_a, mean_b = _box_mean(a, window), _box_mean(b, window)
    return _Moments(
        mean_a,
        mean_b,
        sample * (_box_mean(a * a, window) - mean_a * mean_a),
        sample * (_box_mean(b * b, window) - mean_b * mean_b),
        sample * (_box_mean(a * b, window) - mean_a * mean_b),
    )


def _box_mean(x: DoubleArray, window: tuple[int, ...]) -> DoubleArray:
    """Mean over the window where it fits: each axis loses window - 1."""
    for axis, w in enumerate(window):
        if w > 1:
            views = [x[_along(axis, slice(k, x.shape[axis] - w + 1 + k))] for k in range(w)]
            x = views[0] + views[1]
            for view in views[2:]:
                x += view
    x /= math.prod(window)
    return x


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def _halved(x: RealArray, halve: Callable[[RealArray, int], DoubleArray]) -> RealArray:
    for axis in range(x.ndim):
        x = halve(x, axis)
    return x


def _means_with_previous(x: RealArray, axis: int) -> DoubleArray:
    """Every even entry's mean with the one before it; the first one's with zero."""
    found = x[_along(axis, slice(0, None, 2))].astype(np.float64)
    odd = x[_along(axis, slice(1, None, 2))]
    after = found[_along(axis, slice(1, None))]
    after += odd[_along(axis, slice(0, after.shape[axis]))]
    found /= 2
    return found


def _block_means(x: RealArray, axis: int) -> DoubleArray:
    """Means of neighbouring pairs; a last entry without partner stays as it is."""
    found = x[_along(axis, slice(0, None, 2))].astype(np.float64)
    odd = x[_along(axis, slice(1, None, 2))]
    pairs = found[_along(axis, slice(0, odd.shape[axis]))]
    pairs += odd
    pairs /= 2
    return found


def _every_other(mask: BoolArray) -> BoolArray:
    return mask[(slice(None, None, 2),) * mask.ndim]
