"""Degradations that make a restoration's source from clean images: motion, low dose, lost resolution, holes.

Each takes an array (z, y, x) or a `Volume` and gives the same back on the same grid, float32. All randomness comes
from the generator given, which lives on the CPU; the same generator state gives the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar, overload

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Array
from SynthGANLib.image.resampling import FWHM_PER_SIGMA, apply_axis, axis_weights
from SynthGANLib.image.volume import Volume

Image = TypeVar("Image", Volume, Array)


def motion(
    image: Image,
    rng: Generator,
    *,
    states: int = 4,
    degrees: float = 4.0,
    pixels: float = 4.0,
    axis: str = "y",
) -> Image:
    """Rigid motion within the slices during an MR acquisition: blocks of k-space lines come from moved copies.

    The lines along the phase-encoding direction are cut into `states` blocks of random width. Each is taken from the
    Fourier transform of the image at its own pose; the block that holds the centre of k-space keeps the pose of the
    clean image, so that the two stay aligned. All slices move alike.

    Args:
        image: (z, y, x), of one channel.
        rng: source of block widths and poses.
        states: number of poses, at least 1; with 1, or without degrees and pixels, the image is unchanged.
        degrees, pixels: largest rotation and largest shift along each axis, of a uniform distribution.
        axis: the phase-encoding direction, "y" or "x".

    Raises:
        InputError: another shape, or an argument that makes no sense.
    """
    if states < 1 or degrees < 0 or pixels < 0 or axis not in ("x", "y"):
        raise InputError("Motion needs at least one state, ranges that are not negative, and the axis x or y.")
    return _mapped(image, lambda clean: _moved(clean, rng, states, degrees, pixels, axis))


def _moved(clean: Tensor, rng: Generator, states: int, degrees: float, pixels: float, axis: str) -> Tensor:
    where = -2 if axis == "y" else -1
    lines = clean.shape[where]
    cuts = torch.randperm(max(1, lines - 1), generator=rng)[: min(states, lines) - 1] + 1
    edges = [0, *sorted(cuts.tolist()), lines]
    result = torch.zeros_like(torch.fft.fft2(clean))
    for low, high in pairwise(edges):
        pose = torch.rand(3, generator=rng) * 2 - 1
        still = low <= lines // 2 < high
        copy = clean if still else _posed(clean, pose, degrees, pixels)
        # Shifted, so that a block is a band of neighbouring frequencies with the centre at lines // 2.
        spectrum = torch.fft.fftshift(torch.fft.fft2(copy), dim=(-2, -1))
        result.narrow(where, low, high - low).copy_(spectrum.narrow(where, low, high - low))
    mixed: Tensor = torch.fft.ifft2(torch.fft.ifftshift(result, dim=(-2, -1))).abs()
    return mixed


def _posed(clean: Tensor, pose: Tensor, degrees: float, pixels: float) -> Tensor:
    """The slices turned about their centre and shifted; nothing beyond the edges."""
    rows, columns = clean.shape[-2:]
    angle = math.radians(float(pose[0]) * degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    # Positions run from -1 to 1 along both axes, so a turn of pixels also stretches by their ratio.
    matrix = torch.tensor(
        [
            [cosine, -sine * rows / columns, 2 * float(pose[1]) * pixels / columns],
            [sine * columns / rows, cosine, 2 * float(pose[2]) * pixels / rows],
        ]
    )
    grid = F.affine_grid(matrix[None], [1, 1, rows, columns], align_corners=False)
    return F.grid_sample(clean[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


def low_dose(
    image: Image,
    rng: Generator,
    *,
    fraction: float = 0.25,
    counts: float = 100.0,
    smooth_mm: float = 0.0,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Image:
    """A PET of a `fraction` of the dose: every count of the full dose is kept with that chance, then scaled back.

    The mean stays, and where the image's own noise is that of Poisson counts the variance grows by 1 / `fraction`.
    Reconstructed PET has no counts, so `counts` says how many stand for the mean of the positive voxels; negative
    voxels stay as they are.

    Args:
        image: (z, y, x), not negative but for noise.
        rng: source of the thinning.
        fraction: above 0, at most 1.
        counts: above 0, of the full dose.
        smooth_mm: full width at half maximum of a Gaussian applied afterwards; 0 for none.
        spacing: mm (x, y, z) of an array; a volume brings its own.

    Raises:
        InputError: another shape, or an argument that makes no sense.
    """
    if not 0 < fraction <= 1 or counts <= 0 or smooth_mm < 0:
        raise InputError("A dose fraction lies in (0, 1], counts are positive and smoothing is not negative.")
    steps = image.spacing if isinstance(image, Volume) else spacing

    def thinned(full: Tensor) -> Tensor:
        thin = _thinned(full, rng, fraction, counts)
        return torch.from_numpy(_smoothed(thin.numpy(), smooth_mm, steps)) if smooth_mm else thin

    return _mapped(image, thinned)


def _thinned(full: Tensor, rng: Generator, fraction: float, counts: float) -> Tensor:
    positive = full > 0
    if fraction == 1 or not bool(positive.any()):
        return full.clone()
    per_unit = counts / float(full[positive].double().mean())
    events = full.clamp_min(0) * per_unit
    # Rounded up or down by chance, which keeps the mean where a voxel holds less than one count.
    whole = torch.floor(events + torch.rand(events.shape, generator=rng))
    kept = torch.binomial(whole, torch.full_like(whole, fraction), generator=rng)
    return torch.where(positive, kept / (fraction * per_unit), full)


def _smoothed(array: Array, width: float, spacing: tuple[float, float, float]) -> Array:
    for axis, step in enumerate(spacing[::-1]):
        extent = array.shape[axis]
        if extent > 1:
            positions = np.arange(extent, dtype=np.float64)
            array = apply_axis(array, axis_weights(extent, positions, "linear", width / FWHM_PER_SIGMA / step), axis)
    return array


def truncate_kspace(image: Image, *, factors: tuple[float, float, float] = (1.0, 2.0, 2.0)) -> Image:
    """Lower resolution on the same matrix: frequencies beyond 1 / factor of the band are removed, along (z, y, x).

    The window is symmetric, so the result is real and band-limited to the last digit; where edges ring it may fall
    below zero, which a scanner's magnitude would fold up and thereby put back what was removed.

    Raises:
        InputError: another shape, or a factor below 1.
    """
    if len(factors) != 3 or min(factors) < 1:
        raise InputError(f"Resolution is lost by three factors of at least 1, not {factors}.")

    def truncated(full: Tensor) -> Tensor:
        spectrum = torch.fft.fftn(full.double())
        for axis, factor in enumerate(factors):
            kept = torch.from_numpy(kept_frequencies(full.shape[axis], factor))
            shape = [1, 1, 1]
            shape[axis] = -1
            spectrum = spectrum * kept.reshape(shape)
        low: Tensor = torch.fft.ifftn(spectrum).real.float()
        return low

    return _mapped(image, truncated)


def kept_frequencies(extent: int, factor: float) -> Array:
    """Booleans (extent,) in the order of an FFT: the frequencies that `truncate_kspace` keeps."""
    if factor == 1:
        return np.ones(extent, bool)
    kept: Array = np.abs(np.fft.fftfreq(extent, 1 / extent)) < max(extent / factor / 2, 0.5)
    return kept


def random_squares(body: Tensor, size: int | tuple[int, ...], rng: Generator) -> Tensor:
    """One square (cube) per item, 1 inside: anywhere within the body, or where most of it is body if it fits nowhere.

    Args:
        body: (B, 1, [z,] y, x), above 0 in the body.
        size: extent, or extents per axis. rng: source of the places.

    Returns:
        float32 like `body`.

    Raises:
        InputError: a square larger than the image.
    """
    extents = body.shape[2:]
    sizes = (size,) * len(extents) if isinstance(size, int) else tuple(size)
    if len(sizes) != len(extents) or any(not 1 <= want <= have for want, have in zip(sizes, extents, strict=True)):
        raise InputError(f"A square of {sizes} voxels does not fit into an image of {tuple(extents)}.")
    pool = F.avg_pool2d if len(extents) == 2 else F.avg_pool3d
    inside = (body > 0).to(device="cpu", dtype=torch.float64)
    filled = pool(inside, sizes, stride=1)[:, 0]  # (B, places...): share of a square from there that is body
    result = torch.zeros(body.shape)
    for item, share in enumerate(filled):
        best = torch.nonzero(share >= min(1.0, float(share.max())) - 1e-9)
        start = best[int(torch.randint(len(best), (), generator=rng))].tolist()
        window = tuple(slice(low, low + want) for low, want in zip(start, sizes, strict=True))
        result[item, 0][window] = 1.0
    return result.to(body.device)


def marked(image: Volume, hole: Array) -> Volume:
    """What an inpainting model takes: the image with one more channel, 1 where it is to be made up and 0 elsewhere.

    Args:
        image: (z, y, x[, c]); its values in the hole are never looked at. hole: (z, y, x), above 0 where it is missing.

    Returns:
        float32 (z, y, x, c + 1) in the image's unit, of a color image in the unit "1".

    Raises:
        InputError: the hole lies on another grid.
    """
    if tuple(hole.shape) != image.shape:
        raise InputError(f"A hole of shape {hole.shape} does not lie on an image of {image.shape}.")
    channels = image.array.reshape(*image.shape, image.channels).astype(np.float32)
    both = np.concatenate([channels, (hole > 0)[..., np.newaxis]], axis=-1, dtype=np.float32)
    return image.with_array(both, unit="1" if image.unit == "RGB" else image.unit)


def landmarks(vessels: Volume | None, disc: Volume | None = None, cup: Volume | None = None) -> Volume:
    """The fundus landmarks as channels of one label image: vessels (R), optic disc (G), optic cup (B), each 0 or 1.

    After Yu et al., BioMed Eng OnLine 18:62 (2019). A landmark that is missing is a channel of zeros.

    Raises:
        InputError: none is given, one has several channels, or their extents differ.
    """
    given = [volume for volume in (vessels, disc, cup) if volume is not None]
    if not given:
        raise InputError("No landmark was given.", next_step="Give vessels, disc or cup.")
    first = given[0]
    for volume in given:
        if volume.channels != 1 or volume.shape != first.shape:
            raise InputError(
                f"Landmarks are one channel each on one grid, not {volume.array.shape} beside {first.array.shape}.",
                next_step="Draw them on the same picture.",
            )
    layers = [
        np.zeros(first.shape, np.uint8) if volume is None else (volume.array > 0).astype(np.uint8)
        for volume in (vessels, disc, cup)
    ]
    return first.with_array(np.stack(layers, axis=-1), unit="label")


@overload
def _mapped(image: Volume, change: Callable[[Tensor], Tensor]) -> Volume: ...
@overload
def _mapped(image: Array, change: Callable[[Tensor], Tensor]) -> Array: ...
def _mapped(image: Volume | Array, change: Callable[[Tensor], Tensor]) -> Volume | Array:
    """`change` applied to the float32 numbers (z, y, x) of a volume or an array."""
    array = image.array if isinstance(image, Volume) else np.asarray(image)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"A degradation takes an image (z, y, x) of one channel, not the shape {array.shape}.")
    # A copy: torch warns about memory it could write to, and nothing may be written to.
    result: Array = change(torch.from_numpy(np.array(array, dtype=np.float32))).numpy()
    return image.with_array(result) if isinstance(image, Volume) else result
