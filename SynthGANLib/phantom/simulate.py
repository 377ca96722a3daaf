"""Images of a phantom: MR by the signal equation, CT in HU, FDG PET in SUV, all from one map of tissue codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.anatomy import CAVITY, smooth_field, split_soft_tissue
from SynthGANLib.phantom.sequences import RANGES, named, signal
from SynthGANLib.phantom.tissues import AIR, ARTERY, CORTICAL, TISSUES

FloatArray = NDArray[np.float32]
CONTRASTS = (*RANGES, "random")


def _prepared(labels: Volume, seed: int) -> NDArray[np.uint8]:
    """Tissue codes (z,y,x) with soft tissue divided and cavities as air; InputError for codes that are no tissue."""
    codes = split_soft_tissue(labels, seed).array
    codes = np.where(codes == CAVITY, AIR, codes)
    if codes.size == 0 or int(codes.max()) >= len(TISSUES) or int(codes.min()) < 0:
        raise InputError(
            "the label volume holds numbers that are no tissue codes",
            next_step="Translate it with SynthGANLib.phantom.anatomy.tissue_codes first.",
        )
    return codes.astype(np.uint8)


def _blur(array: FloatArray, spacing: tuple[float, float, float], sigma_mm: float) -> FloatArray:
    """Gaussian blur of (z,y,x) by `sigma_mm`; axes of one voxel are left alone."""
    if sigma_mm <= 0:
        return array
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(s) for s in spacing])
    # the recursive filter needs four voxels; the discrete one is exact at small widths
    widths = [sigma_mm**2 if n > 1 else 0.0 for n in image.GetSize()]
    blurred = sitk.DiscreteGaussian(image, widths, 64, [0.005] * 3, True)
    return np.asarray(sitk.GetArrayFromImage(blurred), np.float32)


def _tissue_values(attribute: str) -> NDArray[np.float64]:
    return np.array([getattr(t, attribute) for t in TISSUES], np.float64)


def _levels(contrast: str, rng: np.random.Generator) -> FloatArray:
    """Signal of every tissue, the brightest at 1."""
    if contrast == "random":
        level = rng.uniform(0.08, 1.0, len(TISSUES))
        level[CORTICAL] = rng.uniform(0.0, 0.15)
    else:
        sequence = named(contrast)
        level = np.asarray(signal(sequence, _tissue_values("t1"), _tissue_values("t2"), _tissue_values("pd")))
        if contrast == "FLAIR":
            level[ARTERY] *= 0.2  # flow void of the long echo
    level[AIR] = 0.0
    scaled: FloatArray = (level / level.max()).astype(np.float32)
    return scaled


def simulate_mr(
    labels: Volume,
    contrast: str = "T1",
    seed: int = 0,
    *,
    noise: float = 0.02,
    bias: float = 0.15,
    blur_mm: float = 0.5,
    gain: float = 600.0,
) -> Volume:
    """MR image (z,y,x) float32 in arbitrary units on the grid of `labels` (tissue codes).

    `contrast` is one of `CONTRASTS`; `noise` the Rician sigma and `bias` the spread of the coil's shading, both
    relative to the brightest tissue. InputError for an unknown contrast.
    """
    if contrast not in CONTRASTS:
        raise InputError(f"there is no MR contrast '{contrast}' in the phantom (known: {', '.join(CONTRASTS)})")
    codes = _prepared(labels, seed)
    rng = np.random.default_rng([seed, CONTRASTS.index(contrast)])
    image = _levels(contrast, rng)[codes]
    image *= 1.0 + 0.04 * smooth_field(labels.shape, labels.spacing, 6.0, rng)
    image = _blur(image, labels.spacing, blur_mm)
    image *= np.exp(bias * smooth_field(labels.shape, labels.spacing, 90.0, rng))
    real = image + noise * rng.standard_normal(image.shape, np.float32)
    image = np.hypot(real, noise * rng.standard_normal(image.shape, np.float32)).astype(np.float32)
    meta: dict[str, Any] = {"modality": "MR", "sequence": contrast, "description": f"simulated {contrast}"}
    return labels.with_array(image * np.float32(gain), unit="1", meta=meta)


def simulate_ct(labels: Volume, seed: int = 0, *, noise: float = 8.0, blur_mm: float = 0.5) -> Volume:
    """CT image (z,y,x) float32 in HU: tissue HU with smooth texture, resolution blur and noise (sigma in HU)."""
    codes = _prepared(labels, seed)
    rng = np.random.default_rng([seed, 101])
    spread = _tissue_values("hu_spread").astype(np.float32)
    image = _tissue_values("hu").astype(np.float32)[codes]
    image += spread[codes] * 0.8 * smooth_field(labels.shape, labels.spacing, 7.0, rng)
    image = _blur(image, labels.spacing, blur_mm)
    image += noise * rng.standard_normal(image.shape, np.float32)
    meta = {"modality": "CT", "description": "simulated CT"}
    return labels.with_array(np.clip(image, -1024.0, 3071.0), unit="HU", meta=meta)


def simulate_fdg(labels: Volume, seed: int = 0, *, fwhm_mm: float = 5.0, counts: float = 60.0) -> Volume:
    """FDG PET image (z,y,x) float32 in SUVbw: uptake blurred by the scanner's `fwhm_mm`, Poisson noise.

    `counts` is the number of detected events per SUV and 8 mm3; more is less noise. The noise is smoothed as a
    reconstruction does it, by a Gaussian of sigma 0.4 `fwhm_mm`, so that the image has 1.37 times `fwhm_mm`.
    """
    codes = _prepared(labels, seed)
    rng = np.random.default_rng([seed, 202])
    image = _tissue_values("suv").astype(np.float32)[codes]
    image = np.maximum(_blur(image, labels.spacing, fwhm_mm / 2.3548), 0.0)
    per_voxel = counts * float(np.prod(labels.spacing)) / 8.0
    image = (rng.poisson(image * per_voxel) / per_voxel).astype(np.float32)
    # reconstruction smooths the noise it amplified
    image = _blur(image, labels.spacing, 0.4 * fwhm_mm)
    return labels.with_array(image, unit="SUVbw", meta={"modality": "PT", "description": "simulated FDG PET"})
