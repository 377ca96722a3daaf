"""Normalization: physical units to a network's values, and the exact inverse.

A normalizer is a frozen dataclass. :meth:`fit` returns a copy that holds the measured statistics, so the JSON of
a fitted normalizer is enough to invert it elsewhere.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from SynthGANLib.errors import InputError, ModelError, UnfitInputError
from SynthGANLib.image.body import body_mask
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume

__all__ = [
    "NORMALISERS",
    "Identity",
    "Labels",
    "Normaliser",
    "Percentile",
    "Rgb",
    "Suv",
    "Window",
    "ZScore",
    "body_mask",
    "check_values",
    "normaliser_from_json",
]

# Statistics of larger samples change in the fourth digit only; a regular subset bounds time and memory.
_SAMPLE = 2**24
# Share of voxels that are not finite beyond which the volume is refused instead of repaired.
MAX_NONFINITE = 0.01


@dataclass(frozen=True)
class Normaliser(ABC):
    """Base: maps an array of physical values to float32 network values and back, element by element."""

    kind: ClassVar[str] = ""

    def fit(self, array: Array, mask: Array | None = None) -> Self:
        """A copy fitted to ``array`` where ``mask`` is true; normalizers without statistics return themselves."""
        return self

    @abstractmethod
    def apply(self, array: Array) -> Array:
        """Physical values to float32 network values; a new array."""

    @abstractmethod
    def invert(self, array: Array) -> Array:
        """Network values to float32 physical values; a new array."""

    def to_json(self) -> dict[str, Any]:
        """Kind and fields, ready for ``json.dumps``."""
        return {"kind": self.kind, **asdict(self)}


def _affine_map(array: Array, scale: float, offset: float) -> Array:
    """``array * scale + offset`` in float32 with one new array."""
    result = np.multiply(array, np.float32(scale), dtype=np.float32)
    result += np.float32(offset)
    return result


def _between(array: Array, source: tuple[float, float], target: tuple[float, float]) -> Array:
    """Map the interval ``source`` linearly onto ``target`` in float32 with one new array.

    The interval's lower end is subtracted first: it keeps the small differences that a product with a
    large offset would round away.
    """
    result = np.subtract(array, np.float32(source[0]), dtype=np.float32)
    result *= np.float32((target[1] - target[0]) / (source[1] - source[0]))
    result += np.float32(target[0])
    return result


@dataclass(frozen=True)
class Window(Normaliser):
    """``low``..``high`` to -1..1, for CT in HU; with ``clip`` values beyond are clipped."""

    low: float = -1024.0
    high: float = 2000.0
    clip: bool = True
    kind: ClassVar[str] = "window"

    def __post_init__(self) -> None:
        _require(self.high > self.low, self.kind, "high must be above low")

    def apply(self, array: Array) -> Array:
        """HU to -1..1."""
        result = _between(array, (self.low, self.high), (-1.0, 1.0))
        return np.clip(result, -1.0, 1.0, out=result) if self.clip else result

    def invert(self, array: Array) -> Array:
        """-1..1 to HU."""
        result = _between(array, (-1.0, 1.0), (self.low, self.high))
        return np.clip(result, self.low, self.high, out=result) if self.clip else result


@dataclass(frozen=True)
class Percentile(Normaliser):
    """The ``low`` and ``high`` percentiles of the masked voxels to ``out_low``..``out_high``, for MR."""

    low: float = 0.5
    high: float = 99.5
    out_low: float = -1.0
    out_high: float = 1.0
    clip: bool = True
    value_low: float | None = None
    value_high: float | None = None
    kind: ClassVar[str] = "percentile"

    def __post_init__(self) -> None:
        _require(0 <= self.low < self.high <= 100, self.kind, "low and high must be percentiles in ascending order")
        _require(self.out_high > self.out_low, self.kind, "out_high must be above out_low")
        if self.value_low is not None and self.value_high is not None:
            _require(self.value_high > self.value_low, self.kind, "value_high must be above value_low")

    def fit(self, array: Array, mask: Array | None = None) -> Self:
        """Measure both percentiles.

        Raises:
            UnfitInputError: no voxel in the mask, or both percentiles are the same value.
        """
        low, high = (float(value) for value in np.percentile(_sample(array, mask), (self.low, self.high)))
        if not high > low:
            raise UnfitInputError(
                f"The percentiles {self.low:g} and {self.high:g} are both {low:g}: no contrast.",
                next_step="Choose another volume.",
            )
        return replace(self, value_low=low, value_high=high)

    def apply(self, array: Array) -> Array:
        """Arbitrary MR units to ``out_low``..``out_high``."""
        result = _between(array, self._values(), (self.out_low, self.out_high))
        return np.clip(result, self.out_low, self.out_high, out=result) if self.clip else result

    def invert(self, array: Array) -> Array:
        """Network values to the units of the array it was fitted to."""
        return _between(array, (self.out_low, self.out_high), self._values())

    def _values(self) -> tuple[float, float]:
        return _fitted(self.value_low, self.kind), _fitted(self.value_high, self.kind)


@dataclass(frozen=True)
class ZScore(Normaliser):
    """Mean 0 and standard deviation 1 over the masked voxels."""

    mean: float | None = None
    std: float | None = None
    kind: ClassVar[str] = "zscore"

    def __post_init__(self) -> None:
        _require(self.std is None or self.std > 0, self.kind, "std must be positive")

    def fit(self, array: Array, mask: Array | None = None) -> Self:
        """Measure mean and standard deviation.

        Raises:
            UnfitInputError: no voxel in the mask, or all have the same value.
        """
        values = _sample(array, mask)
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        if not values.max() > values.min():
            raise UnfitInputError(
                f"Every voxel inside the body is {mean:g}: the image has no contrast.",
                next_step="Choose another volume.",
            )
        return replace(self, mean=mean, std=std)

    def apply(self, array: Array) -> Array:
        """Any unit to standard deviations from the mean."""
        result = np.subtract(array, np.float32(_fitted(self.mean, self.kind)), dtype=np.float32)
        result /= np.float32(_fitted(self.std, self.kind))
        return result

    def invert(self, array: Array) -> Array:
        """Standard deviations from the mean to the unit of the array it was fitted to."""
        return _affine_map(array, _fitted(self.std, self.kind), _fitted(self.mean, self.kind))


@dataclass(frozen=True)
class Suv(Normaliser):
    """SUV 0..``maximum`` to -1..1; values beyond are clipped."""

    maximum: float = 20.0
    kind: ClassVar[str] = "suv"

    def __post_init__(self) -> None:
        _require(self.maximum > 0, self.kind, "maximum must be positive")

    def apply(self, array: Array) -> Array:
        """SUV to -1..1."""
        result = _between(array, (0.0, self.maximum), (-1.0, 1.0))
        return np.clip(result, -1.0, 1.0, out=result)

    def invert(self, array: Array) -> Array:
        """-1..1 to SUV, never negative."""
        result = _between(array, (-1.0, 1.0), (0.0, self.maximum))
        return np.clip(result, 0.0, self.maximum, out=result)


@dataclass(frozen=True)
class Rgb(Normaliser):
    """Color values 0..255 to -1..1."""

    kind: ClassVar[str] = "rgb"

    def apply(self, array: Array) -> Array:
        """0..255 to -1..1."""
        return _affine_map(array, 1 / 127.5, -1.0)

    def invert(self, array: Array) -> Array:
        """-1..1 to 0..255, clipped, not rounded."""
        result = _affine_map(array, 127.5, 127.5)
        return np.clip(result, 0.0, 255.0, out=result)


@dataclass(frozen=True)
class Labels(Normaliser):
    """Label numbers unchanged; the inverse rounds to whole numbers."""

    kind: ClassVar[str] = "labels"

    def apply(self, array: Array) -> Array:
        """Whole numbers as float32 (exact up to 2**24)."""
        return np.array(array, np.float32)

    def invert(self, array: Array) -> Array:
        """Nearest whole numbers, as float32."""
        return np.rint(array).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Identity(Normaliser):
    """``value * scale + offset``, unclipped."""

    scale: float = 1.0
    offset: float = 0.0
    kind: ClassVar[str] = "identity"

    def __post_init__(self) -> None:
        _require(self.scale != 0, self.kind, "scale must not be 0")

    def apply(self, array: Array) -> Array:
        """Scale and shift."""
        return _affine_map(array, self.scale, self.offset)

    def invert(self, array: Array) -> Array:
        """Undo shift and scale."""
        result = np.subtract(array, np.float32(self.offset), dtype=np.float32)
        result /= np.float32(self.scale)
        return result


NORMALISERS: dict[str, type[Normaliser]] = {
    cls.kind: cls for cls in (Window, Percentile, ZScore, Suv, Rgb, Labels, Identity)
}


def normaliser_from_json(data: Mapping[str, Any]) -> Normaliser:
    """Build a normalizer from :meth:`Normaliser.to_json`'s dictionary.

    Raises:
        ModelError: unknown kind or field, a value of the wrong type, not finite or out of range.
    """
    kind = data.get("kind") if isinstance(data, Mapping) else data
    cls = NORMALISERS.get(kind) if isinstance(kind, str) and isinstance(data, Mapping) else None
    if cls is None:
        raise ModelError(f"Unknown normalizer kind {kind!r}; known are {', '.join(NORMALISERS)}.")
    known = {entry.name: entry for entry in fields(cls)}
    arguments: dict[str, Any] = {}
    for name, value in data.items():
        if name == "kind":
            continue
        if name not in known:
            raise ModelError(f"The normalizer '{cls.kind}' has no field '{name}'.")
        arguments[name] = _checked_field(cls.kind, name, value, str(known[name].type))
    return cls(**arguments)


def _checked_field(kind: str, name: str, value: Any, declared: str) -> Any:
    if declared == "bool":
        _require(isinstance(value, bool), kind, f"{name} must be true or false, not {value!r}")
        return value
    if value is None and "None" in declared:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    _require(number, kind, f"{name} must be a finite number, not {value!r}")
    return float(value)


def _require(condition: bool, kind: str, what: str) -> None:
    if not condition:
        raise ModelError(f"The normalizer '{kind}' is invalid: {what}.")


def _fitted(value: float | None, kind: str) -> float:
    if value is None:
        raise InputError(f"The normalizer '{kind}' has not been fitted to a volume yet; call fit() first.")
    return value


def _sample(array: Array, mask: Array | None) -> Array:
    """The finite voxels in the mask, or a regular subset of them."""
    if mask is not None and tuple(mask.shape) != tuple(array.shape[: mask.ndim]):
        raise InputError(f"The mask of shape {mask.shape} does not lie on the volume of shape {array.shape}.")
    values = array.reshape(-1) if mask is None else array[np.asarray(mask, bool)].reshape(-1)
    values = values[:: max(1, values.size // _SAMPLE)]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.size == 0:
        raise UnfitInputError("No voxel lies inside the body mask.", next_step="Choose another volume or mask.")
    return values


def check_values(volume: Volume) -> Volume:
    """The volume with every value finite.

    Up to 1 % of NaN or infinite voxels are replaced by the smallest finite value, and a warning says so.

    Raises:
        InputError: no voxels, no finite value, or more than 1 % that are not finite.
    """
    array = volume.array
    if array.size == 0:
        raise InputError(f"The volume of shape {array.shape} has no voxels.", next_step="Choose another volume.")
    if array.dtype.kind != "f" or math.isfinite(float(array.min()) - float(array.max())):
        return volume
    finite = np.isfinite(array)
    bad = array.size - int(np.count_nonzero(finite))
    if bad == 0:
        return volume
    if bad > MAX_NONFINITE * array.size:
        raise InputError(
            f"{bad / array.size:.1%} of the voxels are NaN or infinite.",
            next_step="Repair the volume: more than 1 % cannot be replaced.",
        )
    lowest = float(np.min(array, where=finite, initial=np.inf))
    repaired = np.where(finite, array, array.dtype.type(lowest))
    return volume.with_array(repaired).with_warning(f"{bad} voxels were NaN or infinite and were set to {lowest:g}.")
