"""Does a volume fit a model? Refusals where an answer would mean nothing, warnings where it may be poor."""

from __future__ import annotations

from SynthGANLib.card import Card
from SynthGANLib.checks import COARSE, Facts, check_input
from SynthGANLib.errors import UnfitInputError
from SynthGANLib.volume import Volume


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
