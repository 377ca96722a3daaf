"""Which normaliser each side of a training gets, and what the network's numbers of a loaded case are.

The source is normalised volume by volume exactly as inference does it. The target's normaliser must be undone where
there is no target, so it never depends on a single case: MR, whose numbers mean nothing, is first brought to arbitrary
units in which 0 and 1000 are the 0.5 and 99.5 percentiles inside the body, and the model promises those units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from SynthGANLib.data.cases import Loaded
from SynthGANLib.data.datalist import Side
from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Array
from SynthGANLib.image.intensity import Labels, Normaliser, Percentile, Rgb, Suv, Window, ZScore, normaliser_from_json
from SynthGANLib.image.volume import Volume

MR_TOP = 1000.0
"""Upper end of the arbitrary units of an MR target; the lower end is 0."""

_SAMPLES_PER_CASE = 200_000


@dataclass(frozen=True)
class Scaling:
    """How one side becomes network numbers.

    `normaliser`: for the model card; one that fits itself to a volume is stored unfitted. `per_case`: an MR target's
    percentiles are brought to 0..1000 first. `binary`: a label map with two values is read as 0 and 1.
    """

    normaliser: Normaliser
    per_case: bool = False
    binary: bool = False

    def physical(self, volume: Volume, body: Array | None) -> Volume:
        """The volume in the units that the model takes or promises."""
        if self.binary:
            return volume.with_array((volume.array > 0).astype(np.uint8))
        if self.per_case:
            fitted = Percentile(out_low=0.0, out_high=MR_TOP, clip=False).fit(volume.array, body)
            return volume.with_array(fitted.apply(volume.array))
        return volume

    def network(self, volume: Volume, body: Array | None) -> Array:
        """float32 (z, y, x[, c]) network values of a volume in physical units."""
        return self.normaliser.fit(volume.array, body).apply(volume.array)


Cases = Callable[[], Iterable[Loaded]]


def choose(name: str, side: Side, wanted: Any, cases: Cases) -> Scaling:
    """The scaling of one side.

    Args:
        name: "source" or "target".
        side: what the data list says of it.
        wanted: "auto": by modality and unit; "fitted": one window over the whole training set, from 0 (SUV, Bq/ml,
            counts) or the 0.5 percentile to the 99.5 percentile inside the body; or the fields of a normaliser.
        cases: gives the training cases of this side, read where the choice depends on them.

    Raises:
        InputError: a target normaliser that could only be undone with the target, or an unknown word.
        ModelError: fields that no normaliser has.
    """
    binary = side.unit == "label" and _two_valued(name, cases)
    if isinstance(wanted, Mapping):
        return Scaling(_given(name, wanted), _is_mr(side) and name == "target", binary)
    if wanted not in ("auto", "fitted"):
        raise InputError(
            f"The {name} normaliser '{wanted}' is unknown.", next_step="Use auto, fitted or the fields of a normaliser."
        )
    if side.unit == "RGB":
        return Scaling(Rgb())
    if side.unit == "label":
        if name == "target":
            return Scaling(Labels(), binary=binary)
        return Scaling(Window(0.0, 1.0 if binary else _highest(name, cases)), binary=binary)
    if wanted == "auto" and side.unit == "HU":
        return Scaling(Window())
    if wanted == "auto" and side.unit == "SUVbw":
        return Scaling(Suv())
    if wanted == "auto" and _is_mr(side):
        return Scaling(Percentile()) if name == "source" else Scaling(Window(0.0, MR_TOP), per_case=True)
    return Scaling(_fitted(name, side, cases))


def _is_mr(side: Side) -> bool:
    return side.modality == "MR" and side.unit == "1"


def _given(name: str, wanted: Mapping[str, Any]) -> Normaliser:
    normaliser = normaliser_from_json(wanted)
    unfitted = isinstance(normaliser, Percentile | ZScore)
    if name == "target" and unfitted:
        raise InputError(
            f"The target normaliser '{normaliser.kind}' is fitted to each target, and at inference there is none.",
            next_step="Choose window, suv, rgb, labels, identity or auto.",
        )
    return normaliser


def _fitted(name: str, side: Side, cases: Cases) -> Normaliser:
    """One window over the training set."""
    samples = []
    for case in cases():
        volume, body = _of(case, name)
        values = volume.array[body] if body is not None else volume.array.reshape(-1)
        samples.append(values.reshape(-1)[:: max(1, values.size // _SAMPLES_PER_CASE)])
    low, high = (float(value) for value in np.percentile(np.concatenate(samples), (0.5, 99.5)))
    if side.unit in ("SUVbw", "BQML", "CNTS"):
        low = 0.0
    if not high > low:
        raise InputError(
            f"All {name} images of the training set are {low:g}: there is no contrast.", next_step="Check the files."
        )
    return Suv(high) if side.unit == "SUVbw" else Window(low, high)


def _two_valued(name: str, cases: Cases) -> bool:
    values: set[int] = set()
    for case in cases():
        values |= {int(value) for value in np.unique(_of(case, name)[0].array)}
        if len(values - {0}) > 1:
            return False
    return True


def _highest(name: str, cases: Cases) -> float:
    return float(max(_of(case, name)[0].array.max() for case in cases()))


def _of(case: Loaded, name: str) -> tuple[Volume, Array | None]:
    volume, body = (case.source, case.source_body) if name == "source" else (case.target, case.target_body)
    if volume is None:
        raise InputError(f"Case '{case.case.name}' has no {name}.", next_step="Correct the data list.")
    return volume, body
