"""Masked image metrics with their protocol printed beside every number.

A number such as a PSNR or SSIM means nothing without the range, mask, window and offset it was computed with; the same
pair of images can score 17 or 35 dB. So every number belongs to a protocol:

============  ======================================  ============================================================
protocol      range                                   MS-SSIM
============  ======================================  ============================================================
synthrad2023  -1024 to 3000 HU                        as SynthRAD2025 (the 2023 challenge used SSIM)
synthrad2025  -1024 to 3071 HU                        as the challenge computes it
mr            0.5 to 99.5 percentile of the           Wang et al. 2003
              reference in the mask
suv           0 to 20                                 Wang et al. 2003
rgb           0 to 255                                Wang et al. 2003, mean over the channels
============  ======================================  ============================================================

With e = prediction - reference in the mask: MAE = mean |e|, ME = mean e, NMSE = sum e^2 / sum reference^2 and PCC, the
correlation, take the values as they are. PSNR = 10 log10(width^2 / mean e^2), SSIM and MS-SSIM clip both images to the
range first. For SSIM and MS-SSIM voxels outside the mask are set to the low end of the range, and the low end is
subtracted so that intensities start at 0 (for CT the challenge's offset of +1024, which alone is worth some +0.07).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.errors import InputError
from SynthGANLib.evaluation import similarity
from SynthGANLib.image.volume import Volume

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Similarity = Callable[[FloatArray, FloatArray, float, BoolArray], float]

_BLOCK = 1 << 20  # voxels held in float64 at once
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Protocol:
    """name; intensity range (low, high), None where the reference decides; unit of MAE and ME; kind of MS-SSIM."""

    name: str
    low: float | None
    high: float | None
    unit: str
    multi_scale: Similarity = similarity.ms_ssim


PROTOCOLS: Mapping[str, Protocol] = {
    "synthrad2025": Protocol("synthrad2025", -1024.0, 3071.0, "HU", similarity.ms_ssim_synthrad2025),
    "synthrad2023": Protocol("synthrad2023", -1024.0, 3000.0, "HU", similarity.ms_ssim_synthrad2025),
    "mr": Protocol("mr", None, None, ""),
    "suv": Protocol("suv", 0.0, 20.0, "SUVbw"),
    "rgb": Protocol("rgb", 0.0, 255.0, ""),
}


@dataclass(frozen=True)
class Metric:
    """One number with all that is needed to read it.

    `clipped` says whether values were clipped to `data_range`; `offset` is what was added to the intensities, `outside`
    what stood outside the mask, `window` the window (z,y,x) of a similarity; None where there is no such thing. `note`
    says why a value is nan, or what was done about a small image.
    """

    name: str
    value: float
    unit: str
    region: str
    voxels: int
    protocol: str
    data_range: tuple[float, float]
    clipped: bool = False
    offset: float | None = None
    outside: float | None = None
    window: tuple[int, ...] | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self._number()} ({self.region}, {self.voxels} voxels, {self.protocol}: {self.how()})"

    def _number(self) -> str:
        digits = ".1f" if self.unit in ("HU", "dB") else ".3f" if self.window else ".3g"
        return f"{self.value:{digits}} {self.unit}".rstrip()

    def how(self) -> str:
        """What else it takes to read the number: range, what stood outside the mask, offset, window, note."""
        how = [f"range {self.data_range[0]:g} to {self.data_range[1]:g}" if self.clipped else "values not clipped"]
        if self.outside is not None:
            how.append(f"{self.outside:g} outside the mask")
        if self.offset is not None:
            how.append(f"offset {self.offset:+g}")
        if self.window is not None:
            how.append(f"window {'x'.join(str(w) for w in self.window)}")
        return ", ".join([*how, self.note] if self.note else how)


@dataclass(frozen=True, eq=False)
class _Pair:
    """The two images (z,y,x,c), the mask (z,y,x), their values in it, and the protocol's range."""

    fake: NDArray[np.generic]
    real: NDArray[np.generic]
    mask: BoolArray
    inside: tuple[FloatArray, FloatArray]
    low: float
    high: float
    rules: Protocol

    def mean(self, term: Callable[[DoubleArray, DoubleArray], DoubleArray]) -> float:
        """Mean of term(prediction, reference) over the values in the mask, in float64 block by block."""
        total, (fake, real) = 0.0, self.inside
        for start in range(0, fake.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            total += float(term(fake[block].astype(np.float64), real[block].astype(np.float64)).sum())
        return total / fake.size

    def similarity(self, measure: Similarity) -> float:
        """Mean of `measure` over the channels, on clipped images that start at 0 and are 0 outside the mask."""
        found = []
        for channel in range(self.fake.shape[3]):
            ready = []
            for image in (self.fake, self.real):
                values = np.where(self.mask, image[..., channel], self.low).astype(np.float32)
                np.clip(values, self.low, self.high, out=values)
                values -= np.float32(self.low)
                ready.append(values)
            found.append(measure(ready[0], ready[1], self.high - self.low, self.mask))
        return sum(found) / len(found)


def _psnr(pair: _Pair) -> float:
    limits = pair.low, pair.high
    square = pair.mean(lambda f, r: (np.clip(f, *limits) - np.clip(r, *limits)) ** 2)
    return math.inf if square == 0 else 10.0 * math.log10((pair.high - pair.low) ** 2 / square)


def _nmse(pair: _Pair) -> float:
    power = pair.mean(lambda f, r: r**2)
    return pair.mean(lambda f, r: (f - r) ** 2) / power if power > 0 else math.nan


def _pcc(pair: _Pair) -> float:
    # a value of each image is subtracted first: what is left of a constant image is exactly 0
    f0, r0 = (float(values[0]) for values in pair.inside)
    mf, mr = pair.mean(lambda f, r: f - f0) + f0, pair.mean(lambda f, r: r - r0) + r0
    spread = pair.mean(lambda f, r: (f - mf) ** 2) * pair.mean(lambda f, r: (r - mr) ** 2)
    return pair.mean(lambda f, r: (f - mf) * (r - mr)) / math.sqrt(spread) if spread > 0 else math.nan


_VALUES: Mapping[str, Callable[[_Pair], float]] = {
    "MAE": lambda pair: pair.mean(lambda f, r: np.abs(f - r)),
    "ME": lambda pair: pair.mean(lambda f, r: f - r),
    "PSNR": _psnr,
    "SSIM": lambda pair: pair.similarity(similarity.ssim),
    "MS-SSIM": lambda pair: pair.similarity(pair.rules.multi_scale),
    "NMSE": _nmse,
    "PCC": _pcc,
}
MEASURES = tuple(_VALUES)
_RANGED = ("PSNR", "SSIM", "MS-SSIM")
_UNDEFINED = {
    "SSIM": "undefined: no voxel of the mask has its whole window in the image",
    "MS-SSIM": "undefined: no voxel of the mask is left on the coarsest scale",
    "NMSE": "undefined: the reference is 0 everywhere",
    "PCC": "undefined: an image is constant",
}


def evaluate(
    prediction: Volume,
    reference: Volume,
    mask: BoolArray | None = None,
    protocol: str = "synthrad2025",
    measures: Sequence[str] = ("MAE", "ME", "PSNR"),
    data_range: tuple[float, float] | None = None,
) -> dict[str, Metric]:
    """`measures`, of `MEASURES`, of `prediction` against `reference` by `protocol`; ME is prediction minus reference.

    Args:
        prediction: an image on the grid of `reference`.
        reference: the truth.
        mask: (z,y,x), not 0 where the images are compared; the whole volume without it.
        protocol: one of `PROTOCOLS`.
        measures: which to compute; SSIM and MS-SSIM take a second or two for ten million voxels.
        data_range: (low, high) instead of the protocol's, e.g. that of a whole study's MR.

    InputError for different grids or channels, an empty mask, values that are no numbers, an unknown protocol or
    measure, NMSE in HU, whose zero is arbitrary, and a range that is empty.
    """
    rules = _rules(protocol, measures)
    pair = _pair(prediction, reference, mask, rules, data_range)
    if not pair.low < pair.high and any(name in _RANGED for name in measures):
        raise InputError(
            f"the range of intensities {pair.low:g} to {pair.high:g} is empty, so PSNR and SSIM have no meaning",
            next_step="Give a range whose low end is below its high end.",
        )
    region = "whole volume" if mask is None else "body"
    return {name: _metric(name, pair, region) for name in measures}


def _rules(protocol: str, measures: Sequence[str]) -> Protocol:
    if protocol not in PROTOCOLS:
        raise InputError(f"there is no protocol '{protocol}' (known: {', '.join(PROTOCOLS)})")
    unknown = [name for name in measures if name not in _VALUES]
    if unknown:
        raise InputError(f"there is no measure '{unknown[0]}' (known: {', '.join(MEASURES)})")
    rules = PROTOCOLS[protocol]
    if rules.unit == "HU" and "NMSE" in measures:
        raise InputError("NMSE relates errors to the reference's values, and HU are 0 at water by convention only")
    return rules


def _pair(
    prediction: Volume,
    reference: Volume,
    mask: BoolArray | None,
    rules: Protocol,
    data_range: tuple[float, float] | None,
) -> _Pair:
    if not prediction.grid.same_as(reference.grid):
        raise InputError(
            "the two images lie on different grids, so their voxels cannot be compared",
            next_step="Resample one onto the other first.",
        )
    if prediction.channels != reference.channels:
        raise InputError(f"one image has {prediction.channels} channels, the other {reference.channels}")
    if mask is not None and mask.shape != prediction.shape:
        raise InputError(f"the mask has {mask.shape} voxels (z,y,x), the images have {prediction.shape}")
    chosen: BoolArray = np.ones(prediction.shape, np.bool_) if mask is None else np.asarray(mask) > 0
    if not chosen.any():
        raise InputError("the mask is empty, so there is nothing to compare")
    fake, real = (v.array.reshape(*v.shape, v.channels) for v in (prediction, reference))
    inside = _values(fake, chosen), _values(real, chosen)
    for values, which in zip(inside, ("prediction", "reference"), strict=True):
        if not np.isfinite(values).all():
            raise InputError(f"the {which} has voxels inside the mask that are not finite numbers")
    low, high = data_range if data_range is not None else (rules.low, rules.high)
    if low is None or high is None:
        low, high = (float(p) for p in np.percentile(inside[1], _PERCENTILES))
    return _Pair(fake, real, chosen, inside, low, high, rules)


def _values(image: NDArray[np.generic], mask: BoolArray) -> FloatArray:
    """The values (n,) of all channels of an image (z,y,x,c) inside the mask (z,y,x)."""
    # channel by channel: a mask with fewer axes than the image would be turned into an index of 24 bytes per voxel
    return np.concatenate([image[..., c][mask].astype(np.float32) for c in range(image.shape[3])])


def _metric(name: str, pair: _Pair, region: str) -> Metric:
    """`name` of the pair, with what it was computed with."""
    value = _VALUES[name](pair)
    note = _UNDEFINED[name] if math.isnan(value) else ""
    unit = pair.rules.unit if name in ("MAE", "ME") else "dB" if name == "PSNR" else ""
    limits = (pair.low, pair.high)
    voxels = int(np.count_nonzero(pair.mask))
    plain = Metric(name, value, unit, region, voxels, pair.rules.name, limits, name in _RANGED, note=note)
    if name not in ("SSIM", "MS-SSIM"):
        return plain
    shape = pair.mask.shape
    outside = None if pair.mask.all() else pair.low
    similar = replace(plain, offset=-pair.low + 0.0, outside=outside, window=similarity.window_of(shape))
    if name == "SSIM":
        return similar
    if not note and any(1 < n < similarity.LEAST_EXTENT for n in shape):
        note = f"edges repeated to {similarity.LEAST_EXTENT} voxels"
    return replace(similar, window=similarity.multi_scale_window(shape), note=note)


def region_errors(
    prediction: Volume, reference: Volume, regions: Mapping[str, BoolArray], protocol: str = "synthrad2025"
) -> dict[str, dict[str, Metric]]:
    """MAE, ME and PSNR in each named region; empty regions are left out. InputError for different grids."""
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
    return replace(metric, region=region)


def ct_regions(reference: Volume, mask: BoolArray) -> dict[str, BoolArray]:
    """Air (below -400 HU), soft tissue, and bone (above 200 HU) of a reference CT inside `mask`."""
    hu = reference.array
    air, bone = mask & (hu < -400), mask & (hu > 200)
    return {"air": air, "soft tissue": mask & ~air & ~bone, "bone": bone}
