"""Tissue-class synthetic CT from several co-registered MR contrasts of the head: echoes tell bone from air.

The method of Hsu et al. (Phys Med Biol 58:8419, 2013): fuzzy c-means over several contrasts, membership maps smoothed
by a Gaussian, HU as the memberships' mean. What a contrast contributes is a feature of every voxel. Two echoes of an
ultrashort-echo-time (UTE) sequence give the decay rate R2*, by which cortical bone, dark but decaying, differs from
air, dark throughout (Robson et al., J Comput Assist Tomogr 27:825, 2003); water and fat images of a Dixon sequence give
the fat fraction (Dixon, Radiology 153:189, 1984); T1, T2 and proton density are brightnesses. Without UTE echoes dark
voxels are divided by anatomy as in `SynthGANLib.classical.tissue`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.classical.fuzzy import Clusters, fuzzy_c_means
from SynthGANLib.classical.tissue import DEFAULT_HU, _depth, _smoothed, air_pockets, brain_region, correct_bias
from SynthGANLib.errors import CancelledError, InputError, UnfitInputError
from SynthGANLib.image.volume import Volume

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
CONTRASTS = ("ute-short", "ute-long", "water", "fat", "T1", "T2", "PD")
"""What a channel may be; the two echoes and the two Dixon images come in pairs."""
PAIRS = (("ute-short", "ute-long"), ("water", "fat"))

DECAY_MS = 2.4
"""R2* becomes the share of the signal that is lost in this time: bounded, and the same for every pair of echoes."""
DARK = 0.05
"""Brightness, relative to the brightest tissue, at which the scale turns from linear to logarithmic."""
LEVELS = 40
"""Steps of a feature; voxels of equal features are clustered as one, counted as often as they occur."""

# Where the tissues lie along each feature before the clusters find their place: brightness 0 (none) to 1 (the
# brightest), decay and fat fraction as shares. Relaxation times are those of `SynthGANLib.phantom.tissues`.
_START: Mapping[str, Mapping[str, float]] = {
    "ute-short": {"air": 0.05, "bone": 0.45, "fluid": 0.55, "soft": 0.82, "fat": 1.0},
    "decay": {"bone": 0.8, "soft": 0.05, "fat": 0.05},
    "fat fraction": {"soft": 0.05, "fat": 0.95},
    "T1": {"air": 0.1, "bone": 0.2, "dark": 0.15, "fluid": 0.55, "soft": 0.8, "fat": 1.0},
    "T2": {"air": 0.1, "bone": 0.2, "dark": 0.15, "fluid": 1.0, "soft": 0.75, "fat": 0.8},
    "PD": {"air": 0.1, "bone": 0.25, "dark": 0.2, "fluid": 0.97, "soft": 0.9, "fat": 1.0},
}  # fmt: skip
_BODY = ("fluid", "soft", "fat")
_BRIGHT = frozenset({"ute-short", "T1", "T2", "PD"})


def r2_star(short: FloatArray, long: FloatArray, echo_times: Sequence[float]) -> FloatArray:
    """Decay rate in 1/ms of signals measured at two echo times (ms): ln(short / long) / (TE2 - TE1), at least 0.

    Where nothing is left in the later echo the rate is large but finite; 0 where there is no signal at all.
    """
    tiny = np.float32(1e-6) * max(float(np.max(short, initial=0.0)), 1e-30)
    with np.errstate(divide="ignore"):
        rate = np.log(np.maximum(short, tiny) / np.maximum(long, tiny)) / (echo_times[1] - echo_times[0])
    return np.asarray(np.maximum(rate, 0.0), np.float32)


def fat_fraction(water: FloatArray, fat: FloatArray) -> FloatArray:
    """Share of fat in the signal, 0 to 1; 0 where there is none."""
    total = np.maximum(water, 0) + np.maximum(fat, 0)
    return np.asarray(np.maximum(fat, 0) / np.where(total > 0, total, 1), np.float32)


def check_contrasts(contrasts: Sequence[str], echo_times: Sequence[float]) -> None:
    """Refuse what tissues cannot be told from.

    Raises:
        InputError: fewer than two contrasts, an unknown or repeated one, half of a pair, or echo times (ms) that are
            not two rising numbers where a UTE pair is given.
    """
    ute = "ute-short" in contrasts
    if len(contrasts) < 2:
        raise InputError(
            "Tissue classes of several contrasts need two or more of them.",
            next_step="For one T1-weighted image take the recipe or model 'tissue'.",
        )
    for name in contrasts:
        if name not in CONTRASTS:
            raise InputError(f"There is no contrast '{name}'.", next_step=f"Choose from {', '.join(CONTRASTS)}.")
    if len(set(contrasts)) < len(contrasts):
        raise InputError("A contrast is named twice.", next_step="Name each channel of the volume once.")
    for pair in PAIRS:
        if len(set(pair) & set(contrasts)) == 1:
            raise InputError(f"The contrasts '{pair[0]}' and '{pair[1]}' belong together.", next_step="Give both.")
    if ute and not (len(echo_times) == 2 and 0 <= echo_times[0] < echo_times[1] < 100):
        raise InputError(
            f"The echo times of a UTE pair are two rising numbers in ms, not {list(echo_times)}.",
            next_step="Give those of the short and the long echo, such as 0.07 and 2.46.",
        )
    if not ute and not _BRIGHT & set(contrasts):
        raise InputError(
            "Water and fat images alone do not show where bone is.", next_step="Add a UTE pair, T1, T2 or PD."
        )


def noise_level(channel: FloatArray, mask: BoolArray) -> float:
    """Rayleigh sigma of the air around the body (z,y,x); 2 % of the 99th percentile where that is blank."""
    around = channel[~mask]
    around = around[around > 0]
    if len(around) >= 100:
        return float(np.median(around)) / 1.17741  # the median of a Rayleigh distribution is sigma sqrt(2 ln 2)
    return 0.02 * float(np.percentile(channel[mask], 99.0))


def features_of(
    channels: Mapping[str, FloatArray], mask: BoolArray, echo_times: Sequence[float], shading: FloatArray | None = None
) -> dict[str, FloatArray]:
    """Features (z,y,x), each within 0 and 1.25, by name: "decay", "fat fraction", and the brightness of each contrast.

    A decay or a fraction of signals no stronger than their noise is drawn to 0. `shading` (z,y,x) is the coil's
    sensitivity; the ratios of two images need none.
    """
    sigma = {name: noise_level(channel, mask) for name, channel in channels.items()}
    # the magnitude of noise alone is not zero: its square is taken off (Gudbjartsson and Patz, MRM 34:910, 1995)
    clean = {
        name: np.asarray(np.sqrt(np.maximum(np.square(channel) - 2 * sigma[name] ** 2, 0)), np.float32)
        for name, channel in channels.items()
    }
    found: dict[str, FloatArray] = {}
    if "ute-short" in clean:
        lost = 1 - np.exp(-DECAY_MS * r2_star(clean["ute-short"], clean["ute-long"], echo_times))
        found["decay"] = np.asarray(lost * _trust(clean["ute-short"], 2 * sigma["ute-short"]), np.float32)
    if "water" in clean:
        trust = _trust(clean["water"] + clean["fat"], 2 * (sigma["water"] + sigma["fat"]))
        found["fat fraction"] = fat_fraction(clean["water"], clean["fat"]) * trust
    for name in _BRIGHT & clean.keys():
        found[name] = _brightness(clean[name] if shading is None else clean[name] / shading, mask)
    return dict(sorted(found.items()))


def _trust(signal: FloatArray, doubt: float) -> FloatArray:
    """0 for no signal, 1/2 where it is as strong as `doubt`, towards 1 above."""
    square = np.square(signal)
    return np.asarray(square / np.maximum(square + doubt**2, 1e-30), np.float32)


def _brightness(channel: FloatArray, mask: BoolArray) -> FloatArray:
    """0 for no signal to 1 for the brightest tissue, logarithmic above `DARK` so that dark tissues stand apart."""
    top = float(np.percentile(channel[mask], 99.0))
    if top <= 0:
        raise UnfitInputError(
            "A channel of this image is blank within the body.",
            next_step="Choose a volume with signal in all channels.",
        )
    scaled = np.log1p(channel / (DARK * top)) / np.log1p(1 / DARK)
    return np.asarray(np.clip(scaled, 0, 1.25), np.float32)


def _shading(magnitude: FloatArray, mask: BoolArray, spacing: tuple[float, float, float]) -> FloatArray | None:
    """The coil's sensitivity (z,y,x), one for all channels; None for a slice, in which it is not looked for."""
    if min(magnitude.shape) < 2:
        return None
    even = correct_bias(magnitude, mask, spacing)
    return np.where(mask & (even > 0), magnitude / np.where(even > 0, even, 1), np.float32(1))


def _clustered(features: Mapping[str, FloatArray], mask: BoolArray) -> tuple[NDArray[np.int64], dict[str, FloatArray]]:
    """For every voxel the number of its cell of equal features (z,y,x), and for every tissue the cells' memberships.

    The memberships of a cell sum to 1 over the tissues. What is clustered is the joint histogram, so the order of
    voxels has no part in it.
    """
    cell = np.zeros(mask.shape, np.int64)
    for feature in features.values():
        cell = cell * LEVELS + np.minimum((feature * (LEVELS / 1.25)).astype(np.int64), LEVELS - 1)
    used, counts = np.unique(cell[mask], return_counts=True)
    if len(used) < 8:
        raise UnfitInputError(
            "The head in this image has fewer than eight gray levels, too few to tell tissues apart.",
            next_step="Use the original images, not masks, label maps or thresholded copies.",
        )
    places = np.stack(np.unravel_index(used, (LEVELS,) * len(features)), 1)  # (cells, features)
    points = np.asarray((places + 0.5) * (1.25 / LEVELS), np.float64)
    tissues = ["air" if "decay" in features else "dark", *(["bone"] if "decay" in features else []), *_BODY]
    start = np.array([[_START[feature].get(tissue, 0.0) for feature in features] for tissue in tissues])
    clusters = fuzzy_c_means(points, len(tissues), weights=counts.astype(np.float64), centres=start)
    shares = clusters.memberships(points)
    names = _named(clusters, start, tissues)
    index = np.searchsorted(used, np.where(mask, cell, used[0]))
    return index, {name: shares[number] for number, name in enumerate(names)}


def _named(clusters: Clusters, start: NDArray[np.float64], tissues: list[str]) -> list[str]:
    """The tissue of every cluster: the assignment that moved the centres least from where the tissues lie."""
    moved = np.square(clusters.centres[:, None] - start[None]).sum(-1)  # (clusters, tissues)
    rows = range(len(tissues))
    best = min(permutations(rows), key=lambda order: sum(moved[row, order[row]] for row in rows))
    return [tissues[number] for number in best]


def _divided(
    maps: dict[str, FloatArray], mask: BoolArray, spacing: tuple[float, float, float], radius: float
) -> dict[str, FloatArray]:
    """The maps with "dark" divided by anatomy: thick pockets air, thin layers bone, skin soft; no fat in the brain."""
    share = maps.pop("dark")
    depth = _depth(mask, spacing)
    dark = mask & (share > np.maximum.reduce(list(maps.values())))
    brain = brain_region(mask & ~dark, depth, spacing)
    dark &= ~brain
    air = air_pockets(dark, spacing, radius)
    bone = dark & ~air & (depth >= 2.0)  # skin is as dark after partial volume with the air around it
    soft = maps["soft"] + share * ~(air | bone) + maps["fat"] * brain  # white matter may be as bright as fat
    return {**maps, "air": share * air, "bone": share * bone, "soft": soft, "fat": maps["fat"] * ~brain}


def tissue_echoes_ct(
    volume: Volume,
    mask: BoolArray,
    *,
    contrasts: Sequence[str],
    echo_times: Sequence[float] = (),
    progress: Callable[[str, float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    hu: Mapping[str, float] | None = None,
    bias_correction: bool = True,
    smooth_mm: float = 1.0,
    air_radius_mm: float = 5.0,
) -> FloatArray:
    """Synthetic CT (z,y,x) float32 in HU of a head MR with the channels `contrasts` (z,y,x,c) on its own grid.

    `contrasts` names each channel, from `CONTRASTS`; `echo_times` in ms are those of the UTE pair. `mask` (z,y,x) is
    the body. `hu` replaces entries of `SynthGANLib.classical.tissue.DEFAULT_HU`; `air_radius_mm` is used without UTE
    echoes only.

    Raises:
        UnfitInputError: another number of channels than contrasts, no body, a blank channel, too few gray levels.
        InputError: as `check_contrasts`.
        CancelledError: `cancel()` answered true.
    """

    def step(stage: str, fraction: float) -> None:
        if cancel is not None and cancel():
            raise CancelledError("The synthesis was cancelled.")
        if progress is not None:
            progress(stage, fraction)

    check_contrasts(contrasts, echo_times)
    if volume.channels != len(contrasts):
        raise UnfitInputError(
            f"The volume has {volume.channels} channel{'s' * (volume.channels > 1)}, and this method takes "
            f"{len(contrasts)}: {', '.join(contrasts)}.",
            next_step="Combine the co-registered images into one volume, in this order.",
        )
    if not mask.any():
        raise UnfitInputError("No body was found in the image.", next_step="Give a mask of the head.")
    table = {**DEFAULT_HU, **(hu or {})}
    step("bias correction", 0.0)
    arrays = np.maximum(np.moveaxis(np.asarray(volume.array, np.float32), -1, 0), 0)  # (z,y,x,c) -> (c,z,y,x)
    channels = dict(zip(contrasts, arrays, strict=True))
    shading = _shading(arrays.sum(0), mask, volume.spacing) if bias_correction else None
    step("clustering", 0.5)
    features = features_of(channels, mask, echo_times, shading)
    index, cells = _clustered(features, mask)
    step("anatomy", 0.7)
    maps = {name: np.asarray(shares[index] * mask, np.float32) for name, shares in cells.items()}
    if "dark" in maps:
        maps = _divided(maps, mask, volume.spacing, air_radius_mm)
    result, total = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.float32)
    for number, (name, share) in enumerate(maps.items()):
        step("tissue maps", 0.8 + 0.04 * number)
        smooth = _smoothed(share, volume.spacing, smooth_mm)
        result += table[name] * smooth
        total += smooth
    result /= np.maximum(total, 1e-6)
    step("tissue maps", 1.0)
    return np.where(mask, result, np.float32(table["air"])).astype(np.float32)
