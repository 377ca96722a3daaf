"""Degradations by name, with typed arguments: how a recipe makes the sources of a restoration from clean targets.

A setup names one as plain values, {"kind": "low_dose", "fraction": 0.25}; what is left out has the default.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Generator

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.degrade import low_dose, motion, truncate_kspace
from SynthGANLib.recipes.overrides import apply

NONE = "none"
"""The kind that degrades nothing: the sources have to be in the data list."""


@dataclass(frozen=True)
class Degradation(ABC):
    """Makes a source from a clean volume; the same seed makes the same."""

    kind: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, clean: Volume, seed: int) -> Volume:
        """The degraded volume on the same grid in the same unit; InputError for more than one channel."""

    def to_json(self) -> dict[str, Any]:
        """Kind and arguments as plain values."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Motion(Degradation):
    """Rigid motion during an MR acquisition; the arguments of `SynthGANLib.phantom.degrade.motion`."""

    states: int = 4
    degrees: float = 4.0
    pixels: float = 4.0
    axis: Literal["x", "y"] = "y"
    kind: ClassVar[str] = "motion"

    def __call__(self, clean: Volume, seed: int) -> Volume:
        rng = Generator().manual_seed(seed)
        return motion(clean, rng, states=self.states, degrees=self.degrees, pixels=self.pixels, axis=self.axis)


@dataclass(frozen=True)
class LowDose(Degradation):
    """A PET of a part of the dose; the arguments of `SynthGANLib.phantom.degrade.low_dose`."""

    fraction: float = 0.25
    counts: float = 100.0
    smooth_mm: float = 0.0
    kind: ClassVar[str] = "low_dose"

    def __call__(self, clean: Volume, seed: int) -> Volume:
        rng = Generator().manual_seed(seed)
        return low_dose(clean, rng, fraction=self.fraction, counts=self.counts, smooth_mm=self.smooth_mm)


@dataclass(frozen=True)
class LowResolution(Degradation):
    """High frequencies removed; `factors` along (z, y, x) as in `SynthGANLib.phantom.degrade.truncate_kspace`."""

    factors: tuple[float, float, float] = (1.0, 2.0, 2.0)
    kind: ClassVar[str] = "truncate_kspace"

    def __call__(self, clean: Volume, seed: int) -> Volume:
        return truncate_kspace(clean, factors=self.factors)


DEGRADATIONS: Mapping[str, type[Degradation]] = {cls.kind: cls for cls in (Motion, LowDose, LowResolution)}
"""kind -> degradation."""


def degradation_of(fields: Mapping[str, Any]) -> Degradation | None:
    """The degradation that a setup's `corrupt` names; None for an empty one and for the kind "none".

    Raises:
        InputError: an unknown kind, an argument that it does not have, or a value that it does not take.
    """
    if not fields:
        return None
    kind = fields.get("kind", "") if isinstance(fields, Mapping) else ""
    if kind == NONE:
        return None
    if not isinstance(kind, str) or kind not in DEGRADATIONS:
        raise InputError(
            f"There is no degradation '{kind or fields}'.",
            next_step=f"Set corrupt.kind to {', '.join(DEGRADATIONS)} or {NONE}.",
        )
    given = {name: value for name, value in fields.items() if name != "kind"}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    try:
        found = apply(DEGRADATIONS[kind](), texts)
        # each function checks its own arguments: asked here, not first by the first case
        found(Volume(np.ones((2, 4, 4), np.float32), np.eye(4)), 0)
    except InputError as error:
        raise InputError(
            f"The degradation '{kind}' is refused: {error}",
            next_step=error.next_step or "Correct the settings that begin with 'corrupt.'.",
        ) from error
    return found


def in_words(fields: Mapping[str, Any]) -> str:
    """A degradation's `to_json` for people: "low_dose (fraction 0.25, counts 100, smooth mm 0)"."""
    arguments = [f"{name.replace('_', ' ')} {_number(value)}" for name, value in fields.items() if name != "kind"]
    return f"{fields['kind']} ({', '.join(arguments)})" if arguments else str(fields["kind"])


def _number(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " x ".join(_number(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
