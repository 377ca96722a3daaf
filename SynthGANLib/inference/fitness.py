"""Does an image fit a model? One line for each thing looked at: good, doubtful or unfit, before anything is run.

Loads no torch. The run itself makes the same checks (`SynthGANLib.inference.fitness`), so that the panel, the console
and the shell refuse the same images with the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from SynthGANLib.errors import UnfitInputError
from SynthGANLib.image.grid import Affine, Grid, Shape
from SynthGANLib.image.volume import Volume
from SynthGANLib.model.card import Card

Level = Literal["good", "doubtful", "unfit"]

LOWEST_MR = -500.0
"""Below this an image without a unit is hardly MR: phase and field maps aside, CT air is what lies there."""
COARSE = 2.0
"""A voxel this many times longer than the model's holds too little detail for it."""
NO_AIR_HU = -300.0
"""A CT whose lowest value lies above this shows no air: cut, masked, or not in HU."""
HIGHEST_SUV = 200.0
"""Uptake above this is hardly a standardised value: rather counts or Bq/ml."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        subject: "channels", "modality", "unit", "values", "sequence", "spacing", "field of view" or "orientation".
        level: "good"; "doubtful": the result may be poor; "unfit": it would mean nothing.
        text: one sentence. next_step: what to do about it; "" where nothing is needed.
        overridable: an unfit image may be used all the same by who knows that the label is wrong; what the model
            cannot take at all is not overridable.
        told: a run repeats it among its remarks; what only concerns the choice in a panel is not repeated.
    """

    subject: str
    level: Level
    text: str
    next_step: str = ""
    overridable: bool = False
    told: bool = True


@dataclass(frozen=True)
class Facts:
    """What the checks look at: extents (z, y, x), index-to-LPS affine in mm, channels, unit as in `Volume`, modality
    code and pulse sequence ("" where unknown), lowest and highest value."""

    shape: Shape
    affine: Affine
    channels: int
    unit: str
    modality: str
    sequence: str
    lowest: float
    highest: float

    @classmethod
    def of(cls, volume: Volume) -> Facts:
        """The facts of a volume, whose values are finite."""
        return cls(
            volume.shape,
            volume.affine,
            volume.channels,
            volume.unit,
            str(volume.meta.get("modality", "")),
            str(volume.meta.get("sequence", "")),
            float(volume.array.min()),
            float(volume.array.max()),
        )

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape, self.affine)


def check_input(facts: Facts, card: Card) -> list[Check]:
    """Everything that can be said about giving this image to the model of `card`, in the order a user reads it."""
    found = [_channels(facts, card), _modality(facts, card), _unit(facts, card), *_values(facts, card)]
    sequence = _sequence(facts, card)
    if sequence is not None:
        found.append(sequence)
    return [*found, _spacing(facts, card), *_field_of_view(facts, card), _orientation(facts)]


def _channels(facts: Facts, card: Card) -> Check:
    if facts.channels != card.source.channels:
        return Check(
            "channels",
            "unfit",
            f"The volume has {facts.channels} channels, and the model '{card.id}' takes {card.source.channels}.",
            "Choose a model for this kind of image.",
        )
    kind = "one value" if facts.channels == 1 else f"{facts.channels} values"
    return Check("channels", "good", f"The volume has {kind} a voxel, as the model takes.")


def _modality(facts: Facts, card: Card) -> Check:
    wanted = card.source.modality
    if not facts.modality:
        return Check(
            "modality",
            "doubtful",
            f"The volume does not say its modality; the model takes {wanted}.",
            f"Make sure that it is {wanted}.",
            told=False,
        )
    if facts.modality != wanted:
        return Check(
            "modality",
            "unfit",
            f"The volume is {facts.modality}, and the model '{card.id}' takes {wanted}.",
            f"Choose a model that starts from {facts.modality}, or another volume.",
            overridable=True,
        )
    return Check("modality", "good", f"The volume is {wanted}, as the model takes.")


def _unit(facts: Facts, card: Card) -> Check:
    wanted = card.source.unit
    if facts.unit == wanted:
        name = "arbitrary units" if wanted == "1" else wanted
        return Check("unit", "good", f"Its values are in {name}, as the model takes.")
    if facts.unit == "1":
        return Check("unit", "doubtful", f"The volume states no unit; its values are taken to be {wanted}.")
    scale = "values of arbitrary scale" if wanted == "1" else wanted
    return Check(
        "unit",
        "unfit",
        f"The volume is in {facts.unit}, and the model '{card.id}' takes {scale}.",
        "Choose a model for this unit, or convert the volume first.",
    )


def _values(facts: Facts, card: Card) -> list[Check]:
    low, high = facts.lowest, facts.highest
    if low == high:
        return [
            Check(
                "values",
                "unfit",
                f"Every voxel of the volume is {low:g}: there is nothing to synthesize from.",
                "Choose another volume.",
            )
        ]
    if card.source.modality == "MR" and not facts.modality and low < LOWEST_MR:
        text = f"The volume's lowest value is {low:g}, which looks like CT, but the model '{card.id}' was made for MR."
        return [Check("values", "doubtful", text)]
    if card.source.unit == "HU" and low > NO_AIR_HU:
        text = f"The volume's lowest value is {low:g}: a CT in HU shows air at about -1000."
        return [Check("values", "doubtful", text, "Make sure that the values are HU and that nothing was cut away.")]
    if card.source.unit == "SUVbw" and high > HIGHEST_SUV:
        text = f"The volume's highest value is {high:g}, which is hardly an SUV."
        return [Check("values", "doubtful", text, "Convert the volume to SUV by body weight first.")]
    return [Check("values", "good", f"Its values reach from {low:g} to {high:g}.")]


def _sequence(facts: Facts, card: Card) -> Check | None:
    known = card.source.sequences
    if not facts.sequence or not known:
        return None
    if facts.sequence.casefold() in [name.casefold() for name in known]:
        return Check("sequence", "good", f"Its sequence is {facts.sequence}, which the model knows.")
    return Check(
        "sequence",
        "doubtful",
        f"The volume's sequence is {facts.sequence}, and the model '{card.id}' was made for {', '.join(known)}.",
    )


def _spacing(facts: Facts, card: Card) -> Check:
    longest = max(facts.grid.spacing)
    wanted = [step for step in card.spatial.spacing if step is not None]
    if wanted and longest > COARSE * max(wanted):
        return Check(
            "spacing",
            "doubtful",
            f"The volume's voxels are up to {longest:.1f} mm long, and the model works on {max(wanted):.1f} mm; "
            "detail in between is interpolated.",
            told=False,  # the run says it from what it has conformed
        )
    x, y, z = facts.grid.spacing
    return Check("spacing", "good", f"Its voxels are {x:.2g} x {y:.2g} x {z:.2g} mm.")


def _field_of_view(facts: Facts, card: Card) -> list[Check]:
    """Extents along the patient's axes against the smallest piece that a 3D model takes."""
    steps = card.spatial.spacing
    if card.spatial.dims != 3 or any(step is None for step in steps):
        return []
    extents = np.abs(facts.affine[:3, :3]) @ np.asarray(facts.shape[::-1], dtype=float)  # mm along L, P, S
    for name, extent, step, least in zip(
        ("left-right", "front-back", "head-foot"), extents, steps, reversed(card.spatial.tile_min), strict=True
    ):
        if step is not None and extent * 2 < least * step:
            return [
                Check(
                    "field of view",
                    "doubtful",
                    f"The volume covers only {extent:.0f} mm {name}, and the model looks at {least * step:.0f} mm "
                    "at least; the rest is mirrored.",
                    told=False,
                )
            ]
    x, y, z = extents
    return [Check("field of view", "good", f"It covers {x:.0f} x {y:.0f} x {z:.0f} mm.")]


def _orientation(facts: Facts) -> Check:
    if not facts.grid.orthogonal:
        return Check(
            "orientation", "good", "Its axes are sheared (tilted gantry), which is resampled and undone.", told=False
        )
    oblique = np.abs(facts.grid.direction).max(axis=0).min() < 0.999
    return Check("orientation", "good", "It lies oblique." if oblique else "It lies along the patient's axes.")


def check_fit(volume: Volume, card: Card, *, accept_unfit: bool = False) -> list[str]:
    """Warnings about giving `volume`, whose values are finite, to the model of `card`; one sentence each.

    Args:
        accept_unfit: what `checks.Check.overridable` allows is remarked instead of refused.

    Raises:
        UnfitInputError: another number of channels, another modality or unit, or a constant image.
    """
    warnings = [*volume.warnings]
    for check in check_input(Facts.of(volume), card):
        if check.level == "unfit" and not (accept_unfit and check.overridable):
            raise UnfitInputError(check.text, next_step=check.next_step)
        if check.level != "good" and check.told:
            warnings.append(check.text)
    return warnings


def check_grid(volume: Volume, source: Volume, card: Card) -> list[str]:
    """Warnings about the resolution and size of `source`, given its conformed version `volume`."""
    warnings = []
    mirrored = card.spatial.dims == 3 and card.method.kind == "network"  # a method takes the volume as it is
    for axis, name in enumerate("zyx"):
        if mirrored and volume.shape[axis] * 2 < card.spatial.tile_min[axis]:
            warnings.append(
                f"Along {name} the volume has only {volume.shape[axis]} voxels on the model's grid, "
                f"and the model needs {card.spatial.tile_min[axis]}; the rest is mirrored."
            )
    coarse = max(source.spacing) / max(volume.spacing)
    if any(step is not None for step in card.spatial.spacing) and coarse > COARSE:
        warnings.append(
            f"The volume's voxels are up to {max(source.spacing):.1f} mm long, and the model works on "
            f"{max(volume.spacing):.1f} mm; detail in between is interpolated."
        )
    return warnings
