"""The anatomy of a phantom: a label volume of tissue codes, from a foreign label map or drawn (`draw.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.tissues import (
    AIR,
    EYE,
    FAT,
    HEAD_LABELS,
    MUSCLE,
    SKIN,
    SOFT,
    TISSUES,
)

CAVITY = len(TISSUES)
"""Code of air enclosed by the body (sinuses, airways, ear), beside AIR for the air around it."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


def tissue_codes(labels: Volume, table: Mapping[int, int] = HEAD_LABELS) -> Volume:
    """Translate a foreign label map into tissue codes (uint8) by `table`; InputError names labels it lacks."""
    present, places = np.unique(labels.array, return_inverse=True)
    missing = [f"{v:g}" for v in present if v not in table]
    if missing:
        shown = ", ".join(missing[:8])
        raise InputError(
            f"the tissue table has no entry for the label{'s' if len(missing) > 1 else ''} {shown}",
            next_step="Add them to the table, each with the tissue it stands for.",
        )
    unknown = sorted({code for code in table.values() if not 0 <= code < len(TISSUES)})
    if unknown:
        raise InputError(
            f"the tissue table names tissues that do not exist: {', '.join(map(str, unknown[:8]))}",
            next_step=f"Use codes of SynthGANLib.phantom.tissues.TISSUES, 0 to {len(TISSUES) - 1}.",
        )
    codes = np.array([table[v] for v in present.tolist()], np.uint8)
    return labels.with_array(codes[places].reshape(labels.array.shape), unit="label")


def distance_mm(mask: BoolArray, spacing: tuple[float, float, float]) -> FloatArray:
    """Distance in mm from each voxel (z,y,x) to the nearest voxel of `mask`; infinite where the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(s) for s in spacing])
    field = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.asarray(np.maximum(sitk.GetArrayFromImage(field), 0.0), np.float32)


def body_of(codes: NDArray[Any]) -> BoolArray:
    """The body of a tissue map: everything but the air connected to the border, closed over narrow openings."""
    solid = sitk.GetImageFromArray((codes != AIR).astype(np.uint8))
    closed = sitk.BinaryMorphologicalClosing(sitk.ConstantPad(solid, [6] * 3, [6] * 3), [5] * 3)
    components = sitk.RelabelComponent(sitk.ConnectedComponent(closed), sortByObjectSize=True) == 1
    filled = sitk.BinaryFillhole(components)
    return np.asarray(sitk.GetArrayFromImage(sitk.Crop(filled, [6] * 3, [6] * 3)), np.bool_)


def mark_cavities(codes: Volume) -> Volume:
    """Tissue codes with enclosed air as `CAVITY` and stray specks outside the body removed."""
    body = body_of(codes.array)
    array = np.where(body, codes.array, AIR).astype(np.uint8)
    array[body & (array == AIR)] = CAVITY
    return codes.with_array(array)


def smooth_field(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    scale_mm: float,
    rng: np.random.Generator,
    size_mm: tuple[float, float, float] | None = None,
) -> FloatArray:
    """Smooth random field (z,y,x) of zero mean and unit variance with features of about `scale_mm`.

    With `size_mm` (x, y, z; that of the volume but for rounding) the same numbers are drawn at every spacing.
    """
    extent = size_mm[::-1] if size_mm else [n * s for n, s in zip(shape, spacing[::-1], strict=True)]
    knots = [max(4, round(e / scale_mm) + 3) for e in extent]
    coarse = sitk.GetImageFromArray(rng.standard_normal(knots).astype(np.float32))
    reference = sitk.Image(list(shape[::-1]), sitk.sitkFloat32)
    # stretch the knots over the volume with one knot of margin, so that the border is no special place
    reference.SetOrigin([1.0] * 3)
    reference.SetSpacing([(k - 3) / max(n - 1, 1) for k, n in zip(knots[::-1], shape[::-1], strict=True)])
    field = sitk.GetArrayFromImage(sitk.Resample(coarse, reference, sitk.Transform(), sitk.sitkBSpline))
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def fat_tendency(depth: FloatArray, eye: FloatArray) -> FloatArray:
    """How readily soft tissue is fat, from its depth under the skin and distance from the eye (mm):
    the layer under the skin and the orbit are fat, what lies deeper is mostly muscle."""
    under_skin = 1.6 * np.exp(-np.square(depth / 5.0))
    orbit = 2.5 * np.exp(-np.square(np.minimum(eye, 60.0) / 11.0))
    return np.asarray(under_skin + orbit - 0.9, np.float32)


def split_soft_tissue(codes: Volume, seed: int = 0) -> Volume:
    """Divide SOFT into FAT and MUSCLE with a seeded smooth field and the rule of `fat_tendency`."""
    array = codes.array.copy()
    soft = array == SOFT
    if not soft.any():
        return codes
    rng = np.random.default_rng(seed)
    depth = distance_mm((array == AIR) | (array == SKIN), codes.spacing)
    eye = distance_mm(array == EYE, codes.spacing)
    field = smooth_field(codes.shape, codes.spacing, 12.0, rng)
    array[soft] = np.where((field + fat_tendency(depth, eye))[soft] > 0, FAT, MUSCLE)
    return codes.with_array(array)
