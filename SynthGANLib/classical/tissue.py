"""Tissue-class synthetic CT from one T1-weighted head MR: fuzzy clusters, each given its HU.

The bulk-assignment family of Hsu et al. (Phys Med Biol 58:8419, 2013): bias correction, body, fuzzy c-means,
membership maps smoothed by a Gaussian, HU as the memberships' mean. Without an ultrashort echo, cortical bone and air
are equally dark; here anatomy decides: thin dark layers near the surface are bone, thick dark pockets are air.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from SynthGANLib.classical.fuzzy import fuzzy_c_means
from SynthGANLib.errors import CancelledError, UnfitInputError
from SynthGANLib.image.grid import whole_voxels
from SynthGANLib.image.volume import Volume

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
DEFAULT_HU: Mapping[str, float] = {"air": -1000.0, "fat": -95.0, "soft": 40.0, "fluid": 10.0, "bone": 1000.0}
BINS = 256
CLOSING_MM = 12.0  # wider than the fluid over an atrophied brain, narrower than the skull base's hollows


def _image(array: NDArray[Any], spacing: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(s) for s in spacing])
    return image


def correct_bias(array: FloatArray, mask: BoolArray, spacing: tuple[float, float, float]) -> FloatArray:
    """N4 bias correction (Tustison et al., IEEE TMI 29:1310, 2010), the field fitted at about 6 mm."""
    image, inside = _image(array, spacing), _image(mask.astype(np.uint8), spacing)
    shrink = [max(1, min(whole_voxels(6.0, s), n // 4)) for s, n in zip(spacing, image.GetSize(), strict=True)]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([20, 20, 10])
    small = sitk.Shrink(image, shrink)
    if min(small.GetSize()) < 4:
        return array  # a spline of order three has no meaning over fewer voxels
    corrector.Execute(small, sitk.Shrink(inside, shrink))
    field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).astype(np.float32)
    return np.asarray(array / np.exp(field), np.float32)


def _depth(mask: BoolArray, spacing: tuple[float, float, float]) -> FloatArray:
    """Distance in mm (z,y,x) from the outside of the mask; the volume's border is no outside."""
    image = _image((~mask).astype(np.uint8), spacing)
    field = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.asarray(np.maximum(sitk.GetArrayFromImage(field), 0), np.float32)


def opened(mask: BoolArray, spacing: tuple[float, float, float], radius: float) -> BoolArray:
    """Morphological opening of (z,y,x) by a ball of `radius` mm."""
    core = mask & (_depth(mask, spacing) > radius)
    return mask & (_depth(~core, spacing) <= radius) if core.any() else core


def brain_region(bright: BoolArray, depth: FloatArray, spacing: tuple[float, float, float]) -> BoolArray:
    """The brain with its fluid spaces: the largest deep bright body, opened, then closed over sulci and ventricles."""
    core = bright & (depth > 10.0)
    core &= _depth(core, spacing) > 3.0
    if not core.any():
        return core
    parts = sitk.RelabelComponent(
        sitk.ConnectedComponent(_image(core.astype(np.uint8), spacing)), sortByObjectSize=True
    )
    core = sitk.GetArrayFromImage(parts) == 1
    grown = _depth(~core, spacing) <= 3.0 + CLOSING_MM
    return grown & (_depth(grown, spacing) > CLOSING_MM)


def air_pockets(dark: BoolArray, spacing: tuple[float, float, float], radius: float) -> BoolArray:
    """Dark voxels (z,y,x) that are air: pockets thicker than twice `radius` mm, grown back to their dark borders."""
    core = opened(dark, spacing, radius)
    return dark & (_depth(~core, spacing) <= 2.0) if core.any() else core


def _classes(scaled: FloatArray, mask: BoolArray, seed: int) -> tuple[NDArray[np.float64], Any]:
    """Cluster the histogram of the masked, scaled signal: result does not depend on the order of voxels."""
    counts, edges = np.histogram(scaled[mask], bins=BINS, range=(0.0, 1.25))
    middles = 0.5 * (edges[1:] + edges[:-1])
    used = counts > 0
    if used.sum() < 8:
        raise UnfitInputError(
            "The head in this image has fewer than eight gray levels, too few to tell tissues apart.",
            next_step="Use the original image, not a mask, label map or thresholded copy.",
        )
    # from the noise floor to fat; the first is dark in every T1-weighted image: air, bone, and free fluid
    start = np.array([[0.03], [0.2], [0.4], [0.6], [0.95]])
    clusters = fuzzy_c_means(
        middles[used, None], len(start), weights=counts[used].astype(float), seed=seed, centres=start
    )
    return middles, clusters


def tissue_ct(
    volume: Volume,
    mask: BoolArray,
    *,
    progress: Callable[[str, float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    hu: Mapping[str, float] | None = None,
    bias_correction: bool = True,
    smooth_mm: float = 1.0,
    air_radius_mm: float = 5.0,
    fat_depth_mm: float = 12.0,
    bone_depth_mm: float = 18.0,
    seed: int = 0,
) -> FloatArray:
    """Synthetic CT (z,y,x) float32 in HU of a T1-weighted head MR on its own grid.

    `mask` (z,y,x) is the body. `hu` replaces entries of `DEFAULT_HU`. UnfitInputError when the body is empty or holds
    too few gray levels; CancelledError when `cancel()` answers true.
    """

    def step(stage: str, fraction: float) -> None:
        if cancel is not None and cancel():
            raise CancelledError(
                "The synthesis was cancelled; nothing was changed.", next_step="Start it again when wanted."
            )
        if progress is not None:
            progress(stage, fraction)

    table = {**DEFAULT_HU, **(hu or {})}
    if not mask.any():
        raise UnfitInputError("No body was found in the image.", next_step="Give a mask of the head.")
    step("bias correction", 0.0)
    array = np.asarray(volume.array, np.float32)
    if bias_correction and min(array.shape) > 1:
        array = correct_bias(array, mask, volume.spacing)
    step("clustering", 0.5)
    floor, ceiling = (float(v) for v in np.percentile(array[mask], [0.5, 99.0]))
    scaled = (array - min(0.0, floor)) / max(ceiling - min(0.0, floor), float(np.finfo(np.float32).tiny))
    scaled = np.clip(scaled, 0.0, 1.25).astype(np.float32)
    middles, clusters = _classes(scaled, mask, seed)
    # one look-up per gray level instead of one distance per voxel and cluster
    by_level = clusters.memberships(middles[:, None])  # (5, BINS)
    level = np.minimum((scaled * (BINS / 1.25)).astype(np.int32), BINS - 1)
    step("anatomy", 0.7)
    depth = _depth(mask, volume.spacing)
    dark = mask & (by_level.argmax(0)[level] == 0)
    brain = brain_region(mask & ~dark, depth, volume.spacing)
    dark &= ~brain
    air = air_pockets(dark, volume.spacing, air_radius_mm)
    bone = dark & ~air & (depth < bone_depth_mm)  # deeper dark tissue is more often fluid between folds
    brain |= dark & ~air & ~bone
    result, total = np.zeros(array.shape, np.float32), np.zeros(array.shape, np.float32)
    shallow = depth < fat_depth_mm
    surface = depth < 2.0  # skin is as dark as bone after partial volume with the air around it
    low, fluid, bright = by_level[0], by_level[1], by_level[4]
    soft = by_level[2] + by_level[3]
    memberships: dict[str, Callable[[], FloatArray]] = {
        "air": lambda: low[level] * air,
        "bone": lambda: low[level] * (bone & ~surface),
        "fluid": lambda: fluid[level] + low[level] * brain,
        "soft": lambda: soft[level] + bright[level] * (brain | ~shallow) + low[level] * (bone & surface),
        "fat": lambda: bright[level] * (shallow & ~brain),
    }
    for index, (name, make) in enumerate(memberships.items()):
        step("tissue maps", 0.75 + 0.04 * index)
        share = _smoothed(np.asarray(make() * mask, np.float32), volume.spacing, smooth_mm)
        result += table[name] * share
        total += share
    result /= np.maximum(total, 1e-6)
    step("tissue maps", 1.0)
    return np.where(mask, result, np.float32(table["air"])).astype(np.float32)


def _smoothed(array: FloatArray, spacing: tuple[float, float, float], sigma_mm: float) -> FloatArray:
    """Gaussian of `sigma_mm`; axes of a single voxel are left alone."""
    if sigma_mm <= 0:
        return array
    image = _image(array, spacing)
    # At most a quarter of the kernel's 32 voxels: wider ones of microscopic voxels overflow to NaN.
    sigmas = [min(sigma_mm, 8.0 * step) for step in spacing]
    widths = [sigma**2 if n > 1 else 0.0 for sigma, n in zip(sigmas, image.GetSize(), strict=True)]
    smooth = sitk.DiscreteGaussian(image, widths, 32, [0.01] * 3, True)
    return np.asarray(sitk.GetArrayFromImage(smooth), np.float32)
