"""Simulated images of real anatomy: the tissue maps of whole heads as MR, CT and FDG PET, whole and spoilt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator

from SynthGANLib.errors import InputError
from SynthGANLib.image.geometry import Box, conform
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.phantom.anatomy import mark_cavities, split_soft_tissue, tissue_codes
from SynthGANLib.phantom.degrade import low_dose, motion, random_squares, truncate_kspace
from SynthGANLib.phantom.sequences import Sequence, signal
from SynthGANLib.phantom.simulate import simulate_ct, simulate_fdg, simulate_mr
from SynthGANLib.phantom.tissues import BY_NAME, TISSUES
from Tools.Zoo.material import Item, required, save

HELD = ("head_05", "head_09", "head_16")
"""Heads that nothing is trained on."""

FINE, COARSE = 2.0, 3.0
"""mm of the grid that is simulated on, and of the images that are trained on."""

HOLE = 16
"""Extent in voxels of the squares that inpainting fills."""

SMALL, SMALL_MM = 32, 7.5
"""Extent in pixels and mm of a pixel of the whole slices that generators learn."""

_BRAIN = ("gray matter", "white matter", "deep gray matter", "cerebellar cortex", "brain stem and cord")
ECHOES = {"ute_short": 0.07, "ute_long": 2.46}
"""ms of the two echoes of an ultrashort echo time acquisition: in the first one bone still has signal."""
CONTRASTS = {"t1": "T1", "t2": "T2", "pd": "PD", "flair": "FLAIR"}


def tissue_maps(data: Path) -> Iterable[tuple[str, Volume]]:
    """Name and tissue codes on the fine grid of every head below the data folder."""
    files = sorted(required(data, "head_labels").glob("head_*_labels.nii.gz"))
    if not files:
        raise InputError(
            f"'{data / 'head_labels'}' has no head_*_labels.nii.gz.", next_step="Check the folder given with --data."
        )
    for path in files:
        labels = read_volume(path, unit="label")
        fine = conform(labels, spacing=(FINE,) * 3, interpolation="nearest").volume
        # Soft tissue is divided once, not anew for every image of the head.
        yield path.name.removesuffix("_labels.nii.gz"), split_soft_tissue(mark_cavities(tissue_codes(fine)), len(files))


def heads(data: Path, out: Path) -> Iterable[Item]:
    """Every head in every modality on the coarse grid, with body and brain, and spoilt copies for restoration."""
    for number, (name, codes) in enumerate(tissue_maps(data)):
        images = {key: simulate_mr(codes, contrast, number) for key, contrast in CONTRASTS.items()}
        images |= {"ct": simulate_ct(codes, number), "pet": simulate_fdg(codes, number)}
        images |= {key: _ute(codes, te, number) for key, te in ECHOES.items()}
        coarse = {key: _coarse(volume) for key, volume in images.items()}
        brain = codes.with_array(np.isin(codes.array, [BY_NAME[tissue].code for tissue in _BRAIN]).astype(np.uint8))
        yield from _small_items(name, images, brain, out)
        body = codes.with_array((codes.array > 0).astype(np.uint8))  # enclosed air has a code of its own
        masks = {"body": _coarse(body, "nearest"), "brain": _coarse(brain, "nearest")}
        coarse |= _spoilt(coarse, masks["body"].array > 0, number)
        coarse["weight"] = masks["brain"].with_array(_balance(masks["brain"].array), unit="1")
        brain_picture = masks["brain"].array.astype(np.float32) * 1000.0
        coarse["brain_picture"] = masks["brain"].with_array(brain_picture, unit="1")
        units = {"ct": "HU", "pet": "SUVbw", "pet_low": "SUVbw"}
        files = {k: save(v.array, v.affine, out, f"{name}_{k}", units.get(k, "1")) for k, v in coarse.items()}
        for key, mask in (masks | {"hole": coarse["hole"]}).items():
            files[f"{key}_mask"] = save((mask.array > 0).astype(np.uint8), mask.affine, out, f"{name}_{key}_m", "label")
        yield Item(name, name in HELD, files)


def _ute(codes: Volume, te: float, seed: int) -> Volume:
    """One echo of a spoiled gradient echo acquisition, TR 6 ms and 10 degrees, with noise; arbitrary units."""
    t1, t2, density = (np.array([getattr(t, name) for t in TISSUES]) for name in ("t1", "t2", "pd"))
    level = np.append(signal(Sequence("gre", 6.0, te, flip=10.0), t1, t2, density), 0.0)  # and enclosed air
    level[0] = 0.0
    rng = np.random.default_rng([seed, round(1000 * te)])
    real = (level / level.max()).astype(np.float32)[codes.array]
    noisy = np.hypot(real + 0.03 * rng.standard_normal(real.shape), 0.03 * rng.standard_normal(real.shape))
    return codes.with_array((600.0 * noisy).astype(np.float32), unit="1")


def _balance(brain: Array) -> Array:
    """Weights by which brain and all else count the same in sum, with a mean of 1 over the image (Wei 2018's idea)."""
    share = float((brain > 0).mean())
    weights: Array = np.where(brain > 0, 0.5 / share, 0.5 / (1.0 - share)).astype(np.float32)
    return weights


def _coarse(volume: Volume, how: Any = "linear") -> Volume:
    return conform(volume, spacing=(COARSE,) * 3, interpolation=how).volume


def _spoilt(images: dict[str, Volume], body: Array, seed: int) -> dict[str, Volume]:
    """Sources of the restorations, and pairs of channels that belong together."""
    t1, pet, ct = images["t1"], images["pet"], images["ct"]
    hole = _holes(body, seed)
    empty = t1.with_array(np.where(hole, np.float32(0), t1.array))
    # CT between -300 and 1200 HU as 0 to 1000, so that a mask of 0 and 1000 can be its second channel
    shown = ct.with_array(np.clip((ct.array + 300.0) / 1.5, 0.0, 1000.0).astype(np.float32), unit="1")
    return {
        "t1_moved": motion(t1, Generator().manual_seed(seed), degrees=4.0, pixels=2.0),
        "t1_low": truncate_kspace(t1, factors=(2.0, 2.0, 2.0)),
        "pet_low": low_dose(pet, Generator().manual_seed(seed), fraction=0.1, counts=60.0),
        "t1_empty": empty,
        "hole": t1.with_array(hole.astype(np.float32) * 1000.0),
        "ct_shown": shown,
    }


def _holes(body: Array, seed: int) -> Array:
    """One square of `HOLE` voxels within the body of every slice that has room for a good part of one."""
    inside = torch.from_numpy(np.ascontiguousarray(body[:, np.newaxis]).astype(np.float32))  # (z, 1, y, x)
    squares = random_squares(inside, HOLE, Generator().manual_seed(seed)).numpy()[:, 0] > 0
    enough = (squares & body).reshape(len(body), -1).sum(axis=1) > HOLE * HOLE // 2
    return squares & body & enough[:, np.newaxis, np.newaxis]


def _small_items(name: str, images: dict[str, Volume], brain: Volume, out: Path) -> Iterable[Item]:
    """Whole axial slices through the brain at 32 pixels: T1, CT, PET, the brain as a picture; PET also in thirds."""
    used = np.flatnonzero(brain.array.reshape(brain.shape[0], -1).sum(axis=1) > 100)
    low, high = int(used[0]), int(used[-1]) + 1
    chosen = {key: images[key] for key in ("t1", "ct", "pet")}
    chosen["brain"] = brain.with_array(brain.array * np.float32(1000), unit="1")
    small = {key: _small(volume, low, high) for key, volume in chosen.items()}
    # All of a small slice counts: a generator makes the air around the head as well.
    small["all"] = small["t1"].with_array(np.ones(small["t1"].shape, np.uint8), unit="label")
    units = {"ct": "HU", "pet": "SUVbw", "all": "label"}
    held = name in HELD
    files = {
        f"small_{k}": save(v.array, v.affine, out, f"{name}_small_{k}", units.get(k, "1")) for k, v in small.items()
    }
    yield Item(name, held, files)
    for label, part in enumerate(np.array_split(np.arange(small["pet"].shape[0]), 3)):
        thirds = {}
        for key in ("pet", "all"):
            array = np.ascontiguousarray(small[key].array[part])
            thirds[f"third_{key}"] = save(array, small[key].affine, out, f"{name}_third{label}_{key}", units[key])
        yield Item(name, held, thirds, label)


def _small(volume: Volume, low: int, high: int) -> Volume:
    """Slices `low` to `high`, the head in the middle of 32 x 32 pixels."""
    cut = conform(volume, orientation=None, box=Box((low, 0, 0), (high, *volume.shape[1:]))).volume
    tight = conform(cut, spacing=(SMALL_MM, SMALL_MM, None)).volume
    _, rows, columns = tight.shape
    top, left = (rows - SMALL) // 2, (columns - SMALL) // 2
    fill = -1000.0 if volume.unit == "HU" else 0.0
    box = Box((0, top, left), (tight.shape[0], top + SMALL, left + SMALL))
    return conform(tight, orientation=None, box=box, fill=fill).volume
