"""Does a volume fit a model? Refusals where an answer would mean nothing, warnings where it may be poor."""

from __future__ import annotations

from SynthGANLib.card import Card
from SynthGANLib.errors import UnfitInputError
from SynthGANLib.volume import Volume

_LOWEST_MR = -500.0
"""Below this an image without a unit is hardly MR: phase and field maps aside, CT air is what lies there."""

_COARSE = 2.0
"""A voxel this many times longer than the model's holds too little detail for it."""


def check_fit(volume: Volume, card: Card) -> list[str]:
    """Warnings about giving `volume`, whose values are finite, to the model of `card`; one sentence each.

    Raises:
        UnfitInputError: another number of channels, another modality or unit, or a constant image.
    """
    _refuse_channels(volume, card)
    _refuse_modality(volume, card)
    _refuse_unit(volume, card)
    lowest, highest = float(volume.array.min()), float(volume.array.max())
    if lowest == highest:
        raise UnfitInputError(
            f"Every voxel of the volume is {lowest:g}: there is nothing to synthesise from.",
            next_step="Choose another volume.",
        )
    warnings = [*volume.warnings]
    if card.source.modality == "MR" and not volume.meta.get("modality") and lowest < _LOWEST_MR:
        warnings.append(
            f"The volume's lowest value is {lowest:g}, which looks like CT, but the model '{card.id}' was made for MR."
        )
    if card.source.unit != volume.unit and volume.unit == "1":
        warnings.append(f"The volume states no unit; its values are taken to be {card.source.unit}.")
    sequence = str(volume.meta.get("sequence", ""))
    known = [name.casefold() for name in card.source.sequences]
    if sequence and known and sequence.casefold() not in known:
        warnings.append(
            f"The volume's sequence is {sequence}, and the model '{card.id}' was made for "
            f"{', '.join(card.source.sequences)}."
        )
    return warnings


def check_grid(volume: Volume, source: Volume, card: Card) -> list[str]:
    """Warnings about the resolution and size of `source`, given its conformed version `volume`."""
    warnings = []
    for axis, name in enumerate("zyx"):
        if card.spatial.dims == 3 and volume.shape[axis] * 2 < card.spatial.tile_min[axis]:
            warnings.append(
                f"Along {name} the volume has only {volume.shape[axis]} voxels on the model's grid, "
                f"and the model needs {card.spatial.tile_min[axis]}; the rest is mirrored."
            )
    coarse = max(source.spacing) / max(volume.spacing)
    if any(step is not None for step in card.spatial.spacing) and coarse > _COARSE:
        warnings.append(
            f"The volume's voxels are up to {max(source.spacing):.1f} mm long, and the model works on "
            f"{max(volume.spacing):.1f} mm; detail in between is interpolated."
        )
    return warnings


def _refuse_channels(volume: Volume, card: Card) -> None:
    if volume.channels != card.source.channels:
        raise UnfitInputError(
            f"The volume has {volume.channels} channels, and the model '{card.id}' takes {card.source.channels}.",
            next_step="Choose a model for this kind of image.",
        )


def _refuse_modality(volume: Volume, card: Card) -> None:
    found = str(volume.meta.get("modality", ""))
    if found and found != card.source.modality:
        raise UnfitInputError(
            f"The volume is {found}, and the model '{card.id}' takes {card.source.modality}.",
            next_step=f"Choose a model that starts from {found}, or another volume.",
        )


def _refuse_unit(volume: Volume, card: Card) -> None:
    if volume.unit in ("1", card.source.unit):
        return
    wanted = "values of arbitrary scale" if card.source.unit == "1" else card.source.unit
    raise UnfitInputError(
        f"The volume is in {volume.unit}, and the model '{card.id}' takes {wanted}.",
        next_step="Choose a model for this unit, or convert the volume first.",
    )
