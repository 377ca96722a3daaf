"""Pictures of what came out: source, synthetic and real beside one another, one sheet for each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from SynthGANLib.image.grid import Array
from Tools.Zoo.compact import ENTRIES, Entry
from Tools.Zoo.tasks import COLLECTIONS, TASKS

ACROSS, TEXT, GAP, HEIGHT = 7, 16, 4, 168
PAPER, INK = 16, 230
WINDOWS: Mapping[str, tuple[float, float]] = {"HU": (-1000.0, 1500.0), "SUVbw": (0.0, 10.0)}
"""Shown range by unit; other images from 0 to the 99.5 percentile of the real one."""


@dataclass(frozen=True)
class Pane:
    """An image (y, x) with what it is."""

    title: str
    image: Array
    limits: tuple[float, float]


def draw_all(previews: Path, out: Path) -> dict[str, str]:
    """Draw a sheet for every task that has previews and may be shown; file name -> title, sheets of others removed."""
    out.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Entry]] = {}
    for entry in ENTRIES:
        task = TASKS[entry.task]
        if COLLECTIONS[task.collection].shown and (previews / f"{entry.key}.npz").exists():
            groups.setdefault(task.reference, []).append(entry)
    made: dict[str, str] = {}
    for name, entries in groups.items():
        rng = _samples if TASKS[name].generates else _translations
        sheet = rng(name, entries, previews)
        sheet.save(out / f"{name}.png", optimize=True)
        made[f"{name}.png"] = f"{TASKS[name].title}, {COLLECTIONS[TASKS[name].collection].title}"
    for old in out.glob("*.png"):
        if old.name not in made:
            old.unlink()
    return made


def _translations(name: str, entries: list[Entry], previews: Path) -> Image.Image:
    """Source, the U-Net, every recipe, real."""
    task = TASKS[name]
    names = [f"unet-l1-{dims}d--{name}" for dims in (2, 3)] + [entry.key for entry in entries]
    read = {key: np.load(previews / f"{key}.npz") for key in names if (previews / f"{key}.npz").exists()}
    first = next(iter(read.values()))
    limits = _limits(first["real"], task.target_side["unit"])
    panes = [Pane("source", first["source"], _limits(first["source"], task.source_side["unit"]))]
    for key, images in read.items():
        panes.append(Pane(key.split("--")[0], images["fake"], limits))
    return _sheet([*panes, Pane("real", first["real"], limits)])


def _samples(name: str, entries: list[Entry], previews: Path) -> Image.Image:
    """Sixteen samples of every generator, and as many real images."""
    panes = []
    for entry in entries:
        images = np.load(previews / f"{entry.key}.npz")
        panes.append(Pane(entry.recipe, _grid(images["samples"]), (0.0, 1.0)))
    return _sheet([*panes, Pane("real", _grid(images["real"]), (0.0, 1.0))])


def _grid(images: Array) -> Array:
    """(n, y, x) -> four columns (rows * y, 4 * x); missing ones are black."""
    whole = np.zeros((16, *images.shape[1:]), np.float32)
    whole[: len(images)] = images[:16]
    rows, columns = whole.shape[1:]
    return whole.reshape(4, 4, rows, columns).swapaxes(1, 2).reshape(4 * rows, 4 * columns)


def _limits(image: Array, unit: str) -> tuple[float, float]:
    if unit in WINDOWS:
        return WINDOWS[unit]
    top = float(np.percentile(image, 99.5))
    return 0.0, top if top > 0 else 1.0


def _sheet(panes: list[Pane]) -> Image.Image:
    """All panes at one height, `ACROSS` in a row, with their titles above."""
    shown = [(pane.title, _shown(pane)) for pane in panes]
    width = max(image.width for _, image in shown) + GAP
    rows = -(-len(shown) // ACROSS)
    sheet = Image.new("L", (GAP + width * min(ACROSS, len(shown)), rows * (HEIGHT + TEXT + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for place, (title, image) in enumerate(shown):
        left, top = GAP + width * (place % ACROSS), GAP + (HEIGHT + TEXT + GAP) * (place // ACROSS)
        sheet.paste(image, (left, top + TEXT))
        pen.text((left, top), title, INK, font)
    return sheet


def _shown(pane: Pane) -> Image.Image:
    low, high = pane.limits
    grey = (np.clip((pane.image - low) / (high - low), 0.0, 1.0) * 255).astype(np.uint8)
    rows, columns = grey.shape
    return Image.fromarray(grey).resize((round(columns * HEIGHT / rows), HEIGHT), Image.Resampling.NEAREST)
