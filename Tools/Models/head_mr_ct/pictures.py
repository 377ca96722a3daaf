"""Pictures for a model's card: source above, synthetic CT below, in three axial, one coronal and one sagittal slice.

python -m Tools.Models.head_mr_ct.pictures SOURCE --model FOLDER --out picture.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from SynthGANLib.image.geometry import conform
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.model.model import Model

CELL = 240  # pixels of a slice's frame, at 1 mm
BONE_WINDOW = (-1024.0, 1500.0)


def slices(volume: Volume, window: tuple[float, float]) -> NDArray[np.uint8]:
    """One row of slices (CELL, 5 * CELL) in radiological view, windowed to 8 bits."""
    grid = conform(volume, orientation="LPS", spacing=(1.0, 1.0, 1.0), fill=float(volume.array.min()))
    array = grid.volume.array
    depth, height, width = array.shape
    planes = [array[int(depth * part)] for part in (0.8, 0.6, 0.4)]
    planes += [array[::-1, height // 2], array[::-1, :, width // 2]]
    low, high = window
    row = np.zeros((CELL, CELL * len(planes)), np.uint8)
    for number, plane in enumerate(planes):
        grey = (np.clip((plane - low) / (high - low), 0.0, 1.0) * 255).astype(np.uint8)[:CELL, :CELL]
        top, left = (CELL - grey.shape[0]) // 2, number * CELL + (CELL - grey.shape[1]) // 2
        row[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return row


def picture(source: Volume, result: Volume) -> NDArray[np.uint8]:
    """(2 * CELL, 5 * CELL): the source windowed to its 99.7th percentile, the result in a bone window."""
    top = float(np.percentile(source.array, 99.7))
    return np.vstack([slices(source, (0.0, top)), slices(result, BONE_WINDOW)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="an MR volume")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    given = parser.parse_args(arguments)
    source = read_volume(given.source)
    image: Any = sitk.GetImageFromArray(picture(source, synthesize(source, Model.load(given.model))))
    sitk.WriteImage(image, str(given.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
