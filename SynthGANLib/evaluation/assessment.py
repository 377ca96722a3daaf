"""Everything that can be said about the quality of a result, as rows of a table: with a reference and without.

The one function behind the panel's Quality section, its console call and the worker's job. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from SynthGANLib.errors import InputError, UnfitInputError
from SynthGANLib.evaluation.agreement import (
    LIMITS,
    Aligned,
    BlandAltman,
    BoolArray,
    FloatArray,
    Histogram,
    align,
    bland_altman,
    histogram,
    tissues,
)
from SynthGANLib.evaluation.metrics import MEASURES, PROTOCOLS, Metric, evaluate, region_errors
from SynthGANLib.evaluation.without_reference import indicators
from SynthGANLib.image.body import body_mask
from SynthGANLib.image.resampling import resample_to
from SynthGANLib.image.volume import Volume

AUTO = "auto"
PROTOCOL_OF = {"HU": "synthrad2025", "SUVbw": "suv", "1": "mr", "RGB": "rgb"}
"""The protocol that is taken for a unit unless another is asked for."""

ALL = "all"
GIVEN, WHOLE = "given", "whole volume"
"""The masks a user knows; a body that was found is named after the image it was found in."""

_WATERLESS = -200.0
Enter = Callable[[str, float], None]
"""Told the stage that begins and the share of the whole that is done; may raise to end the work."""


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        name, value, unit: the value may be infinite (PSNR of equal images) or nan (undefined, as `how` then says).
        mask: "given", "body of the reference", "body of the result", or "whole volume".
        region: the tissue in the mask, or "all". voxels: how many there are.
        protocol: one of `PROTOCOLS`, empty where none applies. how: what else it takes to read the number.
        accuracy: False for what is no measure of accuracy, because it does not use the reference.
    """

    name: str
    value: float
    unit: str
    mask: str
    region: str
    voxels: int
    protocol: str
    how: str
    accuracy: bool


@dataclass(frozen=True, eq=False)
class Assessment:
    """What `assess` found.

    Attributes:
        rows: the numbers. remarks: sentences a reader must see.
        unit: of the result. mask: as in `Row`. protocol: empty without a reference.
        interpolation: how the reference was brought to the result: "linear", "none", or empty without a reference.
        compared: voxels of the mask where both images have values. excluded: voxels of the whole result where the
            reference has none.
        images: histogram of result and reference. source: histogram of what the result was made from, in its unit.
        agreement: differences of result and reference.
    """

    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    unit: str
    mask: str
    protocol: str
    interpolation: str
    compared: int
    excluded: int
    images: Histogram
    source: Histogram | None
    agreement: BlandAltman | None

    def to_json(self) -> dict[str, Any]:
        """Ready for ``json.dumps(..., allow_nan=False)``: values that are no finite numbers become text."""
        agreement = None
        if self.agreement is not None:
            low, high = self.agreement.limits
            agreement = {
                "mean": jsonable(self.agreement.mean),
                "lower": jsonable(low),
                "upper": jsonable(high),
                "points": [[float(f"{value:.6g}") for value in point] for point in self.agreement.points.tolist()],
            }
        return {
            "rows": [{**asdict(row), "value": jsonable(row.value)} for row in self.rows],
            "remarks": list(self.remarks),
            "unit": self.unit,
            "mask": self.mask,
            "protocol": self.protocol,
            "interpolation": self.interpolation,
            "compared": self.compared,
            "excluded": self.excluded,
            "images": self.images.to_json(),
            "source": None if self.source is None else self.source.to_json(),
            "agreement": agreement,
        }


def jsonable(value: float) -> float | str:
    """The number itself, or "inf", "-inf" or "nan", all of which ``float`` reads back."""
    return value if math.isfinite(value) else str(value)


def assess(
    result: Volume,
    reference: Volume | None = None,
    *,
    source: Volume | None = None,
    mask: Volume | None = None,
    protocol: str = AUTO,
    enter: Enter | None = None,
) -> Assessment:
    """Measure `result` against `reference`, or say what can be said without one.

    Args:
        result: the synthetic image; its grid is the one everything is measured on.
        reference: a real image of the same unit, of any grid.
        source: what the result was made from, of any grid.
        mask: volume of any grid, above zero where to measure. Without one, the body found in the reference (in the
            result where there is no reference), and everything for colors.
        protocol: one of `PROTOCOLS`, or "auto" for the one of the unit.
        enter: told each stage; may raise to end the work.

    Raises:
        InputError: units or channels that differ, a unit without protocol, a protocol of another unit, a mask that is
            empty or lies outside, and what `align` and `evaluate` refuse.
    """
    begin = enter or (lambda stage, share: None)
    rules = _protocol(result, reference, protocol)
    begin("align", 0.1)
    aligned = None if reference is None else align(reference, result.grid)
    covered = np.ones(result.shape, np.bool_) if aligned is None else aligned.covered
    remarks = [] if aligned is None or reference is None else _remarks(result, reference)
    begin("mask", 0.2)
    inside, name, remark = _mask(result, aligned, mask)
    remarks += remark
    inside = inside & covered
    compared = int(np.count_nonzero(inside))
    if not compared:
        raise InputError(
            "No voxel of the mask lies where both images have values, so there is nothing to measure.",
            next_step="Choose another mask or none.",
        )
    rows: list[Row] = []
    agreement = None
    if aligned is not None:
        rows, agreement = _against(result, aligned.volume, inside, name, rules, begin)
    begin("indicators", 0.8)
    before = None if source is None else align_source(source, result)
    rows += _without(result, before, inside, name, begin)
    begin("histograms", 0.95)
    values = {"result": _values(result, inside)}
    if aligned is not None:
        values["reference"] = _values(aligned.volume, inside)
    return Assessment(
        rows=tuple(rows),
        remarks=tuple(remarks),
        unit=result.unit,
        mask=name,
        protocol=rules if aligned is not None else "",
        interpolation="" if aligned is None else aligned.interpolation,
        compared=compared,
        excluded=int(np.count_nonzero(~covered)),
        images=histogram(values),
        source=None if before is None else histogram({"source": _values(before, inside)}),
        agreement=agreement,
    )


def settle_units(result: str | None, reference: str | None) -> tuple[str, list[str]]:
    """The unit of both images where files do not say it: each is taken to have the other's, which is remarked."""
    known = result or reference
    if known is None:
        return "1", ["Neither image states its unit: arbitrary units are assumed for both."]
    if result is None or reference is None:
        names = ("result", "reference") if result is None else ("reference", "result")
        return known, [f"The {names[0]} does not state its unit: that of the {names[1]} ({_spoken(known)}) is assumed."]
    return known, []


def align_source(source: Volume, result: Volume) -> Volume:
    """The source at the voxels of the result; the smallest of its values where it has none."""
    if source.grid.same_as(result.grid):
        return source
    return resample_to(source, result.grid, fill=float(np.nanmin(source.array)), interpolation="linear")


def _protocol(result: Volume, reference: Volume | None, protocol: str) -> str:
    """The name of the protocol, after everything that has to agree does."""
    if result.unit not in PROTOCOL_OF:
        raise InputError(
            f"There are no measures for images in {result.unit}.",
            next_step="Choose an image in HU, SUVbw, MR or color.",
        )
    if reference is not None and reference.unit != result.unit:
        raise InputError(
            f"The result is in {_spoken(result.unit)} and the reference in {_spoken(reference.unit)}, "
            "so they cannot be compared.",
            next_step="Choose a reference of the modality that was synthesized.",
        )
    if reference is not None and reference.channels != result.channels:
        raise InputError(
            f"The result has {result.channels} channels and the reference {reference.channels}.",
            next_step="Choose a reference of the modality that was synthesized.",
        )
    name = PROTOCOL_OF[result.unit] if protocol == AUTO else protocol
    if name not in PROTOCOLS:
        raise InputError(f"There is no protocol '{name}'.", next_step=f"Choose auto or one of {', '.join(PROTOCOLS)}.")
    fitting = [each for each in PROTOCOLS if _unit_of(each) == result.unit]
    if name not in fitting:
        raise InputError(
            f"The protocol '{name}' is not for images in {_spoken(result.unit)}.",
            next_step=f"Choose auto or one of {', '.join(fitting)}.",
        )
    return name


def _unit_of(protocol: str) -> str:
    return PROTOCOLS[protocol].unit or next(unit for unit, name in PROTOCOL_OF.items() if name == protocol)


def _spoken(unit: str) -> str:
    return "arbitrary units" if unit == "1" else unit


def _remarks(result: Volume, reference: Volume) -> list[str]:
    """What a reader should know of a pair that can be compared all the same."""
    found = []
    if result.unit == "HU":
        for volume, name in ((result, "result"), (reference, "reference")):
            lowest = float(np.nanmin(volume.array))
            if lowest > _WATERLESS:
                found.append(f"The {name} has no value below {lowest:.0f}: it holds no air, or is not in HU.")
    finer = max(fake / real for fake, real in zip(sorted(result.spacing), sorted(reference.spacing), strict=True))
    if finer > 1.5:
        found.append(
            f"The reference's voxels are up to {finer:.1f} times finer than the result's; they were interpolated, not "
            "averaged."
        )
    return found


def _mask(result: Volume, aligned: Aligned | None, given: Volume | None) -> tuple[BoolArray, str, list[str]]:
    """Where to measure, what that is called, and remarks."""
    if given is not None:
        inside = resample_to(given, result.grid, fill=0.0, interpolation="nearest").array > 0
        if inside.ndim != 3 or not inside.any():
            raise InputError("The mask marks no voxel of the result.", next_step="Choose another mask or none.")
        return np.asarray(inside, np.bool_), GIVEN, []
    everything = np.ones(result.shape, np.bool_)
    if result.unit == "RGB":
        return everything, WHOLE, []
    image, owner = (result, "result") if aligned is None else (aligned.volume, "reference")
    try:
        return np.asarray(body_mask(image.array, image.spacing), np.bool_), f"body of the {owner}", []
    except UnfitInputError:
        return everything, WHOLE, [f"No body was found in the {owner}, so the whole volume was measured."]


def _against(
    result: Volume, reference: Volume, inside: BoolArray, mask: str, protocol: str, begin: Enter
) -> tuple[list[Row], BlandAltman]:
    """Rows that use the reference: the protocol's measures, those of tissues, the limits of agreement."""
    hu = result.unit == "HU"
    names = [name for name in MEASURES if not (hu and name == "NMSE")]  # HU are 0 at water by convention only
    similar = ("SSIM", "MS-SSIM")
    rows = []
    for share, chosen in (
        (0.3, [name for name in names if name not in similar]),
        (0.4, similar[:1]),
        (0.5, similar[1:]),
    ):
        begin("measure", share)
        rows += [_row(metric, mask, ALL) for metric in evaluate(result, reference, inside, protocol, chosen).values()]
    begin("tissues", 0.7)
    for tissue, found in region_errors(result, reference, tissues(reference, inside), protocol).items():
        rows += [_row(metric, mask, tissue) for metric in found.values()]
    begin("agreement", 0.75)
    agreement = bland_altman(_values(result, inside), _values(reference, inside))
    low, high = agreement.limits
    unit = PROTOCOLS[protocol].unit
    base = Row("Mean difference", agreement.mean, unit, mask, ALL, int(np.count_nonzero(inside)), protocol, "", True)
    how = f"mean difference minus or plus {LIMITS} standard deviations of the voxels' differences (Bland and Altman)"
    rows += [
        replace(base, name="Lower limit of agreement", value=low, how=how),
        replace(base, name="Upper limit of agreement", value=high, how=how),
    ]
    return rows, agreement


def _row(metric: Metric, mask: str, region: str) -> Row:
    how = metric.how()
    return Row(metric.name, metric.value, metric.unit, mask, region, metric.voxels, metric.protocol, how, True)


def _without(result: Volume, source: Volume | None, inside: BoolArray, mask: str, begin: Enter) -> list[Row]:
    """Rows that use no reference."""
    found = indicators(result, source, inside, poll=lambda: begin("indicators", 0.8))
    return [
        Row(each.name, each.value, each.unit, mask if each.region == "mask" else WHOLE, ALL, each.voxels, "",
            each.meaning, False)
        for each in found
    ]  # fmt: skip


def _values(volume: Volume, mask: BoolArray) -> FloatArray:
    """The finite values (n,) of all channels inside the mask (z, y, x)."""
    array = volume.array.reshape(*volume.shape, volume.channels)  # (z, y, x, c)
    values = np.concatenate([array[..., channel][mask].astype(np.float32) for channel in range(volume.channels)])
    finite: FloatArray = values[np.isfinite(values)]
    return finite
