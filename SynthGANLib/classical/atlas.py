"""Multi-atlas synthetic CT: pairs of MR and CT are registered onto a head's MR, and their CTs are fused.

After Hofmann et al. (J Nucl Med 49:1875, 2008) and Burgos et al. (IEEE TMI 33:2332, 2014). The atlases are the tensors
of the model folder: `atlas_mr_0` and `atlas_ct_0` (z, y, x) on one grid, `atlas_affine_0` (4, 4) from index (x, y, z)
to LPS mm, and so on from 0 without a gap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from SynthGANLib.classical.fusion import FUSIONS, FloatArray, Warped, fuse, local_correlation
from SynthGANLib.classical.registration import DEFORMATIONS, Match, Registrar, Settings, covered, one_thread
from SynthGANLib.errors import CancelledError, InputError, ModelError, UnfitInputError
from SynthGANLib.image.volume import Volume

BoolArray = NDArray[np.bool_]
Tensors = Mapping[str, NDArray[Any]]
MOST_ATLASES = 64
SMALLEST, LARGEST = 8, 1024
"""Voxels along an axis of an atlas."""

_NAME = re.compile(r"atlas_(mr|ct|affine)_(0|[1-9]\d?)")
_IMAGES = (np.dtype(np.int16), np.dtype(np.float16), np.dtype(np.float32))


@dataclass(frozen=True, eq=False)
class Atlas:
    """MR and CT (HU) of one head on one grid."""

    mr: Volume
    ct: Volume

    def __post_init__(self) -> None:
        if not self.mr.grid.same_as(self.ct.grid):
            raise InputError(
                "The MR and the CT of an atlas lie on different grids.", next_step="Resample one onto the other first."
            )


def atlases_of(tensors: Tensors) -> list[Atlas]:
    """The atlases in a model's tensors; ValueError with a clause for whatever is no atlas."""
    numbers: set[int] = set()
    for name in tensors:
        matched = _NAME.fullmatch(name)
        if matched is None:
            raise ValueError(f"holds '{name[:80]}', which is no part of an atlas")
        numbers.add(int(matched[2]))
    if not numbers or len(numbers) > MOST_ATLASES or max(numbers) != len(numbers) - 1:
        raise ValueError(f"must hold 1 to {MOST_ATLASES} atlases, numbered from 0 without a gap")
    return [_atlas_of(tensors, number) for number in sorted(numbers)]


def _atlas_of(tensors: Tensors, number: int) -> Atlas:
    parts = {}
    for part in ("mr", "ct", "affine"):
        name = f"atlas_{part}_{number}"
        if name not in tensors:
            raise ValueError(f"lacks '{name}'")
        parts[part] = tensors[name]
        if part != "affine" and tensors[name].dtype not in _IMAGES:
            raise ValueError(f"stores '{name}' as {tensors[name].dtype}, not int16, float16 or float32")
    mr, ct, affine = parts["mr"], parts["ct"], parts["affine"]
    if mr.ndim != 3 or not all(SMALLEST <= extent <= LARGEST for extent in mr.shape):
        raise ValueError(f"gives 'atlas_mr_{number}' the shape {list(mr.shape)}, not three of {SMALLEST} to {LARGEST}")
    if ct.shape != mr.shape:
        raise ValueError(f"gives 'atlas_ct_{number}' the shape {list(ct.shape)}, its MR has {list(mr.shape)}")
    if affine.shape != (4, 4) or affine.dtype != np.float64:
        raise ValueError(f"gives 'atlas_affine_{number}' as {affine.dtype} {list(affine.shape)}, not float64 [4, 4]")
    if mr.min() == mr.max():
        raise ValueError(f"holds a constant image in 'atlas_mr_{number}'")
    try:
        volume = Volume(mr, affine)
    except InputError as error:
        raise ValueError(f"holds no placement in 'atlas_affine_{number}' ({str(error).rstrip('.')})") from None
    if not volume.grid.orthogonal or not all(1e-2 <= step <= 100.0 for step in volume.spacing):
        raise ValueError(f"holds a sheared, tiny or huge grid in 'atlas_affine_{number}'")
    return Atlas(volume, Volume(ct, affine, "HU"))


def check_atlases(tensors: Tensors) -> None:
    """ValueError with a clause unless the tensors are atlases."""
    atlases_of(tensors)


def tensors_of(atlases: Sequence[Atlas]) -> dict[str, NDArray[Any]]:
    """The tensors of a model folder: MR scaled so that its 99.9th percentile is 4095, and HU, both int16.

    MR has no unit and is matched to the target's histogram before it is used, so its scale is free.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for number, atlas in enumerate(atlases):
        bright = max(float(np.percentile(atlas.mr.array, 99.9)), 1e-12)
        for part, values in (("mr", atlas.mr.array * (4095.0 / bright)), ("ct", atlas.ct.array)):
            tensors[f"atlas_{part}_{number}"] = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
        tensors[f"atlas_affine_{number}"] = np.array(atlas.mr.affine)
    return tensors


def atlas_ct(
    volume: Volume,
    mask: BoolArray,
    *,
    tensors: Tensors,
    progress: Callable[[str, float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    warn: Callable[[str], None] | None = None,
    fusion: str = "lncc",
    deformable: str = "bspline",
    iterations: int = 15,
    window: float = 3.0,
    beta: float = 0.5,
    background: float = -1000.0,
    seed: int = 0,
) -> FloatArray:
    """Synthetic CT (z,y,x) float32 in HU of a head MR on its own grid, from the atlases in `tensors`.

    Args:
        volume: MR (z, y, x). mask: the body (z, y, x); the match is judged in and around it.
        tensors: see the module. progress, cancel, warn: told steps and failed registrations; asked at every iteration.
        fusion: "single", "mean", "median" or "lncc". window, beta: standard deviation in voxels of the window that
            local correlation is taken in, and how fast weights fall with the rank ("lncc").
        deformable: "bspline", "demons" or "none"; iterations: of each of its levels.
        background: HU where no atlas has data. seed: of the voxels a match is judged by; with it the result is
            the same on every run.

    Raises:
        ModelError: no atlases in `tensors`, or an unknown fusion or deformation.
        UnfitInputError: the body is empty or without contrast.
        CancelledError: `cancel()` answered true.
    """
    check_choices(fusion, deformable)
    try:
        atlases = atlases_of(tensors)
    except ValueError as problem:
        raise ModelError(f"The atlas model {problem}.", next_step="Get the model again.") from None
    array = np.asarray(volume.array, np.float32)
    if not mask.any() or array[mask].min() == array[mask].max():
        raise UnfitInputError(
            "The body in this image is empty or without contrast, so nothing can be matched to it.",
            next_step="Use the original image, or give a mask of the head.",
        )
    tell = progress or (lambda stage, share: None)
    ask = cancel or (lambda: False)
    fixed = Volume(array, volume.affine).to_sitk()
    settings = Settings(deformable, iterations, seed)
    shape = (len(atlases), *volume.shape)
    warped = Warped(
        np.empty(shape, np.float32),
        np.empty(shape, np.bool_),
        np.empty(shape, np.float32),
        np.empty(len(atlases), np.float32),
    )
    for number, atlas in enumerate(atlases):
        stage = f"atlas {number + 1} of {len(atlases)}"

        def advance(share: float, number: int = number, stage: str = stage) -> None:
            tell(stage, 0.95 * (number + share) / len(atlases))

        advance(0.0)
        with one_thread():
            registrar = Registrar(fixed, mask, settings, advance=advance, cancel=ask)
            match = _warp(atlas, number, array, fixed, registrar, warped, window)
        for clause in match.warnings:
            if warn is not None:
                warn(f"Atlas {number + 1} of {len(atlases)}: {clause}.")
    if ask():
        raise CancelledError("The synthesis was cancelled.", next_step="Start it again when wanted.")
    tell("fusion", 0.95)
    result = fuse(warped, fusion, beta=beta, background=background)
    tell("fusion", 1.0)
    return result


def _warp(
    atlas: Atlas, number: int, array: FloatArray, fixed: Any, registrar: Registrar, warped: Warped, window: float
) -> Match:
    """Register one atlas and write it into its place in `warped`."""
    moving = matched_histogram(Volume(atlas.mr.array.astype(np.float32), atlas.mr.affine).to_sitk(), fixed)
    match = registrar.register(moving)
    ct = Volume(atlas.ct.array.astype(np.float32), atlas.ct.affine).to_sitk()
    inside = sitk.GetArrayFromImage(covered(moving, fixed, match.transform)).astype(np.bool_)
    image = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, match.transform, sitk.sitkLinear, 0.0))
    warped.ct[number] = sitk.GetArrayFromImage(sitk.Resample(ct, fixed, match.transform, sitk.sitkLinear, 0.0))
    warped.covered[number] = inside
    warped.likeness[number] = local_correlation(array, image, inside, window)
    warped.overall[number] = -match.score if np.isfinite(match.score) else -1e9
    return match


def matched_histogram(moving: Any, fixed: Any) -> Any:
    """The moving image with the gray levels of the fixed one, background left out of the matching."""
    matching = sitk.HistogramMatchingImageFilter()
    matching.SetNumberOfHistogramLevels(256)
    matching.SetNumberOfMatchPoints(15)
    matching.ThresholdAtMeanIntensityOn()
    return matching.Execute(moving, fixed)


def check_choices(fusion: str, deformable: str) -> None:
    """ModelError for a fusion or a deformation of another name."""
    for name, known, what in ((fusion, tuple(FUSIONS), "fusion"), (deformable, DEFORMATIONS, "deformation")):
        if name not in known:
            raise ModelError(
                f"'{name}' is no {what} of atlases (known: {', '.join(known)}).", next_step="Correct the model's card."
            )
