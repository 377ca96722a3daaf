"""A result and its reference brought together: one grid, the voxels both know, tissues, distributions, differences.

Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.errors import InputError
from SynthGANLib.evaluation.metrics import ct_regions
from SynthGANLib.image.grid import Grid
from SynthGANLib.image.resampling import resample_to
from SynthGANLib.image.volume import Volume

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

INTERPOLATION = "linear"
"""How a reference on another grid is brought to the result's; the result itself is never interpolated."""

LEAST_OVERLAP = 0.05
"""Share of the result's voxels that a reference must cover: with less the two were most likely never aligned."""

MOST_POINTS = 5000
LIMITS = 1.96
"""Standard deviations to each side of the mean between which 95 % of normally distributed differences lie."""

HIGH_UPTAKE = 2.5
"""SUV from which uptake is called high here, a threshold long in use for outlining tumors."""

BINS = 128
_CUT = 0.05  # percent of the values at each end that share the outermost bins
_BLOCK = 1 << 20  # values held in float64 at once
_SAMPLE = 1 << 20  # values that the ends of a histogram are found from


@dataclass(frozen=True, eq=False)
class Aligned:
    """A reference on the result's grid.

    Attributes:
        volume: the reference, float32; what `covered` does not mark holds its smallest value.
        covered: (z, y, x), where it has finite values.
        interpolation: "none" where it lay on the grid already, else `INTERPOLATION`.
    """

    volume: Volume
    covered: BoolArray
    interpolation: str


def align(reference: Volume, grid: Grid) -> Aligned:
    """The reference at the voxels of `grid`; what lies beyond it, or holds no number, is marked as not covered.

    Raises:
        InputError: it covers less than `LEAST_OVERLAP` of the grid.
    """
    same = reference.grid.same_as(grid)
    if same:
        array = reference.array.astype(np.float32)
    else:
        array = resample_to(reference, grid, fill=math.nan, interpolation="linear").array
    finite = np.isfinite(array)
    covered = np.asarray(finite.all(axis=3) if array.ndim == 4 else finite, np.bool_)
    share = np.count_nonzero(covered) / covered.size
    if share < LEAST_OVERLAP:
        raise InputError(
            f"The reference covers {100 * share:.1f} % of the result, and at least {100 * LEAST_OVERLAP:.0f} % are "
            "needed to compare them.",
            next_step="Align the reference with the result first, for example by registration.",
        )
    if not finite.all():
        array[~finite] = array[finite].min()
    volume = Volume(array, grid.affine, reference.unit, reference.meta)
    return Aligned(volume, covered, "none" if same else INTERPOLATION)


def tissues(reference: Volume, mask: BoolArray) -> dict[str, BoolArray]:
    """Named parts of `mask` by the reference's values: those of `ct_regions` for HU, two uptakes for SUVbw, else none.

    `reference` lies on the mask's grid.
    """
    if reference.unit == "HU":
        return ct_regions(reference, mask)
    if reference.unit == "SUVbw":
        high = mask & (reference.array >= HIGH_UPTAKE)
        return {f"uptake below {HIGH_UPTAKE:g}": mask & ~high, f"uptake from {HIGH_UPTAKE:g}": high}
    return {}


@dataclass(frozen=True, eq=False)
class BlandAltman:
    """Differences (prediction minus reference) against the means of both.

    Source: Bland and Altman, Lancet 327:307 (1986). Neighbouring voxels depend on each other, so the limits describe
    the spread of the voxels' differences and carry no confidence interval.

    Attributes:
        mean, deviation: of all differences, the latter with one degree of freedom taken; nan for a single value.
        points: (n, 2) means and differences of at most `MOST_POINTS` values, the same ones on every run.
        count: values (voxels times channels) that `mean` and `deviation` are computed from.
    """

    mean: float
    deviation: float
    points: FloatArray
    count: int

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper limit of agreement."""
        return self.mean - LIMITS * self.deviation, self.mean + LIMITS * self.deviation


def bland_altman(prediction: FloatArray, reference: FloatArray) -> BlandAltman:
    """The agreement of paired values (n,).

    Raises:
        InputError: no values, or not as many on both sides.
    """
    if prediction.shape != reference.shape or prediction.ndim != 1 or prediction.size == 0:
        raise InputError("Differences need as many values of the result as of the reference, and at least one.")
    total = square = 0.0
    first = float(prediction[0]) - float(reference[0])  # subtracted, so that squares do not swamp what is left
    for block in _blocks(prediction.size):
        apart = prediction[block].astype(np.float64) - reference[block] - first
        total += float(apart.sum())
        square += float(apart @ apart)
    count = prediction.size
    variance = (square - total**2 / count) / (count - 1) if count > 1 else math.nan
    chosen = _chosen(count, MOST_POINTS)
    fake, real = prediction[chosen].astype(np.float64), reference[chosen].astype(np.float64)
    points = np.stack([(fake + real) / 2, fake - real], axis=1).astype(np.float32)  # (n, 2)
    return BlandAltman(first + total / count, math.sqrt(max(variance, 0.0)), points, count)


@dataclass(frozen=True, eq=False)
class Histogram:
    """Percent of the values in each bin, by name of the image.

    The outermost bins also hold what lies beyond them.
    """

    centres: DoubleArray
    percent: Mapping[str, DoubleArray]

    def to_json(self) -> dict[str, Any]:
        """Ready for ``json.dumps``."""
        shares = {name: [round(float(value), 5) for value in values] for name, values in self.percent.items()}
        return {"centres": [float(f"{centre:.7g}") for centre in self.centres], "percent": shares}


def histogram(images: Mapping[str, FloatArray]) -> Histogram:
    """Histograms of values (n,) over common bins, from the lowest to the highest 0.05 percentile of any image.

    Raises:
        InputError: an image without values.
    """
    if not images or any(values.size == 0 for values in images.values()):
        raise InputError("A histogram needs values.")
    ends = [np.percentile(values[_chosen(values.size, _SAMPLE)], (_CUT, 100 - _CUT)) for values in images.values()]
    low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    if not low < high:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / BINS
    percent = {}
    for name, values in images.items():
        counts = np.zeros(BINS, np.int64)
        for block in _blocks(values.size):
            places = np.floor((values[block].astype(np.float64) - low) / width)
            counts += np.bincount(np.clip(places, 0, BINS - 1).astype(np.intp), minlength=BINS)
        percent[name] = 100.0 * counts / values.size
    return Histogram(low + (np.arange(BINS, dtype=np.float64) + 0.5) * width, percent)


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]


def _chosen(count: int, most: int) -> Any:
    """All places, or `most` of them evenly drawn at random but always the same: rows of an image cannot beat."""
    if count <= most:
        return slice(None)
    steps = np.linspace(0, count, most, endpoint=False)
    inside = np.random.default_rng(0).random(most) * (count / most)
    return np.minimum((steps + inside).astype(np.intp), count - 1)
