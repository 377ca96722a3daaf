"""Loading the cases of a data list: read, checked against the list, and brought onto one grid per case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SynthGANLib.data.datalist import Case, DataList, Side
from SynthGANLib.errors import InputError, UnfitInputError
from SynthGANLib.image.body import body_mask
from SynthGANLib.image.geometry import conform
from SynthGANLib.image.grid import Array
from SynthGANLib.image.intensity import check_values
from SynthGANLib.image.resampling import Interpolation, resample_to
from SynthGANLib.image.volume import BACKGROUND, Volume
from SynthGANLib.io.formats import PICTURES, suffix_of
from SynthGANLib.io.volumes import read_volume

UNMASKED = ("RGB", "label")
"""Units of images in which no body is looked for: pictures and drawings count everywhere."""

# A target that covers less of the source than this is another place of the body, not the same one.
LEAST_COVERED = 0.1

Corrupt = Callable[[Volume, int], Volume]
"""(clean volume, seed) -> degraded volume on the same grid, in the same unit: makes the source of a restoration."""


@dataclass(frozen=True)
class Spatial:
    """The grid and planes that are trained on; the fields of the model card's `spatial` of the same names.

    Attributes:
        orientation: letters i, j, k increase towards.
        spacing: mm along (x, y, z) of that orientation; None keeps a case's own.
        axis: plane of the slices in two dimensions: "axial", "coronal", "sagittal" or "all".
        neighbours: slices on each side that are further channels of the source, in two dimensions.
    """

    orientation: str = "LPS"
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    axis: str = "axial"
    neighbours: int = 0


@dataclass(frozen=True, eq=False)
class Loaded:
    """A case in memory: volumes in physical units, all on one grid if the case is a pair.

    Attributes:
        source, target: None for a side that the case lacks or that was not asked for.
        source_body, target_body: booleans (z, y, x) where the patient is; None counts everywhere. In a pair they
            are the same: the body of the source, which is all that is known at inference.
        weight: float32 (z, y, x). regions: whole numbers (z, y, x). notes: sentences worth a look.
    """

    case: Case
    source: Volume | None
    target: Volume | None
    source_body: Array | None
    target_body: Array | None
    weight: Array | None
    regions: Array | None
    notes: tuple[str, ...] = ()


@contextmanager
def about(case: Case) -> Iterator[None]:
    """Errors inside name the case; refusals of its content become refusals of the input."""
    try:
        yield
    except (InputError, UnfitInputError) as error:
        raise InputError(f"Case '{case.name}': {error}", next_step=error.next_step) from error


def load_case(
    case: Case,
    data: DataList,
    spatial: Spatial | None = None,
    *,
    sides: tuple[str, ...] = ("source", "target"),
    corrupt: Corrupt | None = None,
    seed: int = 0,
) -> Loaded:
    """Read what is asked for of a case and bring it onto the grid of `spatial`.

    With both sides the target lies on the source's grid; where the files' grids differ it is resampled and a note
    says so. With `corrupt` the source is made from the target.

    Raises:
        InputError: naming the case: unreadable, broken values, other channels or modality than the list says, no
            body, an empty mask, or a target at another place than the source.
    """
    spatial = spatial or Spatial()
    with about(case):
        volumes: dict[str, Volume] = {}
        for side in ("source", "target"):
            if side in sides and getattr(case, side) and not (side == "source" and corrupt):
                volumes[side] = _on_grid(_read_side(getattr(case, side), data.side(side)), spatial)
        notes = [sentence for volume in volumes.values() for sentence in _remarks(volume)]
        if corrupt is not None and "source" in sides:
            volumes["source"] = corrupt(volumes["target"], seed)
        covered: Array | None = None
        if len(volumes) == 2:
            volumes["target"], covered, note = _aligned(volumes["source"], volumes["target"], case)
            notes += note
        first = volumes["source" if "source" in volumes else "target"]
        body = _body(case, first, spatial)
        if body is not None and covered is not None and not covered.all():
            body = body & covered
            _require_some(body)
        return Loaded(
            case=case,
            source=volumes.get("source"),
            target=volumes.get("target"),
            source_body=body if "source" in volumes else None,
            target_body=body if "target" in volumes else None,
            weight=_extra(case.weight, first, spatial, "1"),
            regions=_extra(case.regions, first, spatial, "label"),
            notes=tuple(notes),
        )


def _read_side(paths: tuple[Path | None, ...], side: Side) -> Volume:
    """The image of one side, its files stacked as channels (z, y, x[, c]); missing landmarks are zeros."""
    read = [None if path is None else _read(path, side) for path in paths]
    first = next(volume for volume in read if volume is not None)
    arrays = []
    for path, volume in zip(paths, read, strict=True):
        if volume is not None and volume.shape != first.shape:
            raise InputError(
                f"The channels differ in extent: {first.shape} and {volume.shape} in '{path.name if path else ''}'.",
                next_step="Resample them onto one grid.",
            )
        arrays.append(np.zeros_like(first.array) if volume is None else volume.array)
    if len(arrays) > 1:
        first = first.with_array(np.stack(arrays, axis=-1))
    if first.channels != side.channels:
        raise InputError(
            f"The image has {first.channels} channels, and the data list says {side.channels}.",
            next_step="Correct the list's 'channels', or the file.",
        )
    return first


def _read(path: Path, side: Side) -> Volume:
    volume = read_volume(path, unit="label" if side.unit == "label" else None)
    found = str(volume.meta.get("modality", ""))
    if found and found != side.modality:
        raise InputError(
            f"'{path.name}' is {found}, and the data list says {side.modality}.", next_step="Check the list's sides."
        )
    if side.unit != "RGB":
        volume = _grey(volume, path)
    if volume.unit not in ("1", side.unit):
        raise InputError(
            f"'{path.name}' is in {volume.unit}, and the data list says {side.unit}.", next_step="Correct the list."
        )
    volume = check_values(volume)
    if is_picture(path):  # its pixel spacing is the printer's, not the patient's
        volume = Volume(volume.array, np.eye(4), side.unit, volume.meta)
    return Volume(volume.array, volume.affine, side.unit, volume.meta)


def _grey(volume: Volume, path: Path) -> Volume:
    """One channel of a gray picture that was saved in color; all else as it is."""
    if volume.channels != 3:
        return volume
    first = volume.array[..., 0]
    if not all(np.array_equal(first, volume.array[..., channel]) for channel in (1, 2)):
        raise InputError(
            f"'{path.name}' is in color, and one channel is wanted.",
            next_step="Save it in gray, or call the unit RGB in the data list.",
        )
    return Volume(first if volume.unit == "label" else first.astype(np.float32), volume.affine, "1", volume.meta)


def is_picture(path: Path) -> bool:
    """True for file kinds that know no place in the patient."""
    return suffix_of(path) in PICTURES


def _remarks(volume: Volume) -> list[str]:
    """What reading had to say, but for what is known of every picture."""
    return [sentence for sentence in volume.warnings if not sentence.startswith(("A picture has", "The image is two"))]


def _how(unit: str) -> Interpolation:
    return "nearest" if unit == "label" else "linear"


def _on_grid(volume: Volume, spatial: Spatial) -> Volume:
    return conform(
        volume,
        orientation=spatial.orientation,
        spacing=spatial.spacing,
        fill=BACKGROUND.get(volume.unit, 0.0),
        interpolation=_how(volume.unit),
    ).volume


def _aligned(source: Volume, target: Volume, case: Case) -> tuple[Volume, Array | None, list[str]]:
    """The target on the source's grid, where it has data (None: everywhere), and a note if it was resampled."""
    placeless = any(is_picture(path) for path in (*case.source, *case.target) if path is not None)
    if source.shape == target.shape and (placeless or source.grid.same_as(target.grid)):
        return Volume(target.array, source.affine, target.unit, target.meta), None, []
    if placeless:
        raise InputError(
            f"The pictures differ in size, {source.shape[1:]} and {target.shape[1:]} pixels (y, x).",
            next_step="Register them, or leave the case out.",
        )
    everywhere = Volume(np.ones(target.shape, np.uint8), target.affine, "label")
    covered = resample_to(everywhere, source.grid, fill=0.0, interpolation="nearest").array > 0
    share = float(covered.mean())
    if share < LEAST_COVERED:
        raise InputError(
            f"The target covers {share:.0%} of the source's field of view: they are at different places.",
            next_step="Register the pair, or leave it out.",
        )
    fill = BACKGROUND.get(target.unit, 0.0)
    moved = resample_to(target, source.grid, fill=fill, interpolation=_how(target.unit))
    return moved, covered, [f"The target was resampled onto the source's grid and covers {share:.0%} of it."]


def _body(case: Case, image: Volume, spatial: Spatial) -> Array | None:
    """The mask file, or the body found in the image; None where none is looked for."""
    if case.mask is not None:
        mask: Array = _placed(case.mask, image, spatial, "label").array > 0
        _require_some(mask)
        return mask
    if image.unit in UNMASKED:
        return None
    return body_mask(image.array, image.spacing)


def _require_some(mask: Array) -> None:
    if not mask.any():
        raise InputError("The mask marks no voxel of the image.", next_step="Correct the mask, or leave it out.")


def _extra(path: Path | None, image: Volume, spatial: Spatial, unit: str) -> Array | None:
    return None if path is None else _placed(path, image, spatial, unit).array


def _placed(path: Path, image: Volume, spatial: Spatial, unit: str) -> Volume:
    """A mask, weight or label file (z, y, x) on the image's grid."""
    volume = _on_grid(_labels(path) if unit == "label" else _weights(path), spatial)
    if volume.shape == image.shape and (is_picture(path) or volume.grid.same_as(image.grid)):
        return volume
    if is_picture(path):
        raise InputError(
            f"'{path.name}' has {volume.shape[1:]} pixels (y, x), and the image has {image.shape[1:]}.",
            next_step="Draw it on the image itself.",
        )
    return resample_to(volume, image.grid, fill=0.0, interpolation=_how(unit))


def _labels(path: Path) -> Volume:
    volume = _grey(read_volume(path, unit="label"), path)
    return Volume(volume.array, np.eye(4) if is_picture(path) else volume.affine, "label", volume.meta)


def _weights(path: Path) -> Volume:
    volume = read_volume(path)
    if volume.channels != 1 or not np.isfinite(volume.array).all() or volume.array.min() < 0:
        raise InputError(
            f"'{path.name}' holds no weights: they are one channel of finite numbers that are not negative.",
            next_step="Correct the file.",
        )
    return volume
