"""The images the zoo trains on, brought to small sizes: one folder of files and one manifest for each collection.

A collection reads what it needs below the data folder and writes volumes and `manifest.json` into a folder of its own.
Real pictures are reduced to 96 pixels; MR, CT and FDG PET of whole heads are simulated on 1.5 mm labels of real anatomy
and averaged to 3 mm. Collections whose licence does not allow passing images on are marked, and no picture of them is
drawn.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.files import write_json
from SynthGANLib.image.body import body_mask
from SynthGANLib.image.geometry import Box, conform
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume

MANIFEST = "manifest.json"
PIXELS = 96
"""Extent of the real slices after reduction."""


@dataclass(frozen=True)
class Item:
    """One case of a collection: files by what they show, relative to its folder; `held` for validation."""

    subject: str
    held: bool
    files: Mapping[str, str]
    label: int | None = None


@dataclass(frozen=True)
class Collection:
    """Where images come from.

    Attributes:
        name: of its folder. title: for the table. licence: class and terms. shown: pictures of it may be passed on.
        split: how training and validation are kept apart, in one sentence.
        make: (data folder, folder to write into) -> items.
    """

    name: str
    title: str
    licence: str
    shown: bool
    split: str
    make: Callable[[Path, Path], Iterable[Item]] = field(repr=False)

    def prepare(self, data: Path, root: Path) -> list[Item]:
        """The items, made once below `root`/name; InputError names what is missing of the data."""
        folder = root / self.name
        if not (folder / MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted call left
            folder.mkdir(parents=True)
            items = list(self.make(data, folder))
            if not any(item.held for item in items) or all(item.held for item in items):
                raise InputError(
                    f"'{self.title}' leaves nothing to train on or nothing to validate on.",
                    next_step="Give the whole data folder with --data.",
                )
            write_json(folder / MANIFEST, {"items": [asdict(item) for item in items]})
        read = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return [Item(**entry) for entry in read["items"]]


def required(data: Path, place: str) -> Path:
    """A folder or file below the data folder; InputError where it is not."""
    path = data / place
    if not path.exists():
        raise InputError(
            f"The data folder '{data}' has no '{place}'.",
            next_step="Name the folder of the shared images with --data, or leave these tasks out with --only.",
        )
    return path


def save(array: Array, affine: Array, folder: Path, name: str, unit: str = "1") -> str:
    """Write one volume of the collection and give its file name."""
    file = f"{name}.png" if unit == "RGB" else f"{name}.nii.gz"
    write_volume(Volume(array, affine, unit), folder / file)
    return file


def stack(files: Iterable[Path], spacing: float = 1.0) -> Volume:
    """Grey pictures as the slices (z, y, x) of one volume, 5 mm apart."""
    slices = [read_volume(path).array for path in files]
    grey = [one[..., 0] if one.ndim == 4 else one for one in slices]
    return Volume(np.concatenate(grey).astype(np.float32), np.diag([spacing, spacing, 5.0, 1.0]))


def reduced(volume: Volume, pixels: int = PIXELS) -> Volume:
    """Slices averaged down to `pixels` along x and as much along y."""
    step = volume.spacing[0] * volume.shape[2] / pixels
    return conform(volume, spacing=(step, step, None)).volume


def slice_stacks(folder: str, pairs: Mapping[str, str], held: tuple[str, ...], only: tuple[str, ...] = ()) -> Callable:
    """A collection of patients' folders of pictures `NNN_<what>.png`; `pairs`: key of the manifest -> what."""

    def make(data: Path, out: Path) -> Iterable[Item]:
        for patient in sorted(path for path in required(data, folder).iterdir() if path.is_dir()):
            if only and patient.name not in only:
                continue
            volumes = {}
            for key, what in pairs.items():
                volumes[key] = reduced(stack(sorted(patient.glob(f"[0-9][0-9][0-9]_{what}.png"))))
            # Where either image shows the patient: every method is given the same place.
            body = np.any([body_mask(volume.array, volume.spacing) for volume in volumes.values()], axis=0)
            files = {key: save(v.array, v.affine, out, f"{patient.name}_{key}") for key, v in volumes.items()}
            affine = next(iter(volumes.values())).affine
            files["body"] = save(body.astype(np.uint8), affine, out, f"{patient.name}_body", "label")
            yield Item(patient.name, patient.name in held, files)

    return make


def blocks(
    images: Mapping[str, tuple[str, float]], spacing: tuple[float | None, ...], held: tuple[float, float], gap: int
) -> Callable:
    """One object cut along z: the slices between the fractions `held` are for validation, `gap` beside them unused.

    `images`: key -> (file, factor on its numbers). Body: found in the first image.
    """

    def make(data: Path, out: Path) -> Iterable[Item]:
        volumes = {}
        for key, (file, factor) in images.items():
            read = read_volume(required(data, file))
            volumes[key] = conform(read.with_array(read.array * np.float32(factor)), spacing=spacing).volume
        first = next(iter(volumes.values()))
        body = body_mask(first.array, first.spacing)
        depth = first.shape[0]
        low, high = (round(part * depth) for part in held)
        parts = {"below": (0, low - gap, False), "held": (low, high, True), "above": (high + gap, depth, False)}
        for name, (start, stop, is_held) in parts.items():
            box = Box((start, 0, 0), (stop, *first.shape[1:]))
            files = {}
            for key, volume in volumes.items():
                part = conform(volume, orientation=None, box=box).volume
                files[key] = save(part.array, part.affine, out, f"{name}_{key}", "HU" if key == "ct" else "1")
            mask = np.ascontiguousarray(body[start:stop]).astype(np.uint8)
            files["body"] = save(mask, part.affine, out, f"{name}_body", "label")
            yield Item(name, is_held, files)

    return make


def fundus(data: Path, out: Path) -> Iterable[Item]:
    """DRIVE at 96 and 64 pixels: photograph, vessels, field of view, and a disc and cup where it is brightest."""
    folder = required(data, "drive_fundus")
    numbers = sorted(path.name[:2] for path in folder.glob("[0-9][0-9]_fundus.png"))
    for place, number in enumerate(numbers):
        photo = read_volume(folder / f"{number}_fundus.png").array[0].astype(np.float32)  # (y, x, 3)
        vessels = read_volume(folder / f"{number}_vessels.png").array.reshape(photo.shape[:2]) > 0
        view = read_volume(folder / f"{number}_fov.png").array.reshape(photo.shape[:2]) > 0
        files = {}
        for pixels, ending in ((PIXELS, ""), (64, "64")):
            small = _square(photo, pixels)
            seen = _square(view.astype(np.float32), pixels) > 0.5
            drawn = {"vessels": _square(vessels.astype(np.float32), pixels) > 0.3, "view": seen}
            drawn |= _disc_and_cup(small, seen)
            files["photo" + ending] = save(small[np.newaxis], np.eye(4), out, f"{number}_photo{ending}", "RGB")
            for key, mask in drawn.items():
                array = mask[np.newaxis].astype(np.uint8)
                files[key + ending] = save(array, np.eye(4), out, f"{number}_{key}{ending}", "label")
        yield Item(number, place % 5 == 4, files)


def _square(image: Array, pixels: int) -> Array:
    """(y, x[, c]) padded to a square and averaged down to `pixels` along both axes, float32."""
    rows, columns = image.shape[:2]
    side = max(rows, columns)
    before = (side - rows) // 2, (side - columns) // 2
    pad = [(before[0], side - rows - before[0]), (before[1], side - columns - before[1])] + [(0, 0)] * (image.ndim - 2)
    square = Volume(np.pad(image, pad)[np.newaxis].astype(np.float32), np.eye(4))
    return conform(square, spacing=(side / pixels, side / pixels, None)).volume.array[0, :pixels, :pixels]


def _disc_and_cup(photo: Array, seen: Array) -> dict[str, Array]:
    """Circles about the brightest spot of the photograph, where the optic disc mostly is; the cup is half as wide."""
    pixels = len(photo)
    y, x = np.indices((pixels, pixels))
    middle = np.hypot(y - pixels / 2, x - pixels / 2) < 0.42 * pixels
    bright = Volume(photo.sum(axis=-1)[np.newaxis], np.eye(4))
    coarse = conform(bright, spacing=(6.0, 6.0, None)).volume.array[0]
    even = np.kron(coarse, np.ones((6, 6), np.float32))[:pixels, :pixels]
    even = np.pad(even, [(0, pixels - even.shape[0]), (0, pixels - even.shape[1])], mode="edge")
    row, column = np.unravel_index(np.argmax(np.where(seen & middle, even, -1.0)), even.shape)
    distance = np.hypot(y - row, x - column)
    return {"disc": distance < 0.07 * pixels, "cup": distance < 0.035 * pixels}


def small_photographs(data: Path, out: Path) -> Iterable[Item]:
    """Fundus photographs of DRIVE and HRF at 32 pixels."""
    files = [(path, path.name[:2]) for path in sorted(required(data, "drive_fundus").glob("*_fundus.png"))]
    files += [(path, path.stem) for path in sorted(required(data, "hrf_fundus_nomask").glob("*.jpg"))]
    for place, (path, name) in enumerate(files):
        photo = read_volume(path).array[0].astype(np.float32)
        # HRF has up to three photographs of the number before the underscore: kept on one side by that number
        held = int(name[:2]) % 5 == 4
        file = save(_square(photo, 32)[np.newaxis], np.eye(4), out, f"photo_{place:02}", "RGB")
        yield Item(f"{path.parent.name}-{name[:2]}", held, {"photo": file})
