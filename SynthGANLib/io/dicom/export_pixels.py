"""From physical values to the integers of a DICOM series, and the word SYNTHETIC drawn into them.

A classic (single-frame) CT, MR or PET image stores 16-bit integers; value = slope * stored + intercept, with one
slope and intercept for the whole series (DICOM PS3.3 C.11.1, C.8.9.4.1.5). What that loses is said in `note`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Array

Flags = NDArray[np.bool_]

CT_INTERCEPT = -1024.0
TEXT = "SYNTHETIC"
# 5 x 7 dots a letter, one string a row.
LETTERS = {
    "S": (".###.", "#...#", "#....", ".###.", "....#", "#...#", ".###."),
    "Y": ("#...#", "#...#", ".#.#.", "..#..", "..#..", "..#..", "..#.."),
    "N": ("#...#", "##..#", "##..#", "#.#.#", "#..##", "#..##", "#...#"),
    "T": ("#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."),
    "H": ("#...#", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "E": ("#####", "#....", "#....", "####.", "#....", "#....", "#####"),
    "I": (".###.", "..#..", "..#..", "..#..", "..#..", "..#..", ".###."),
    "C": (".###.", "#...#", "#....", "#....", "#....", "#...#", ".###."),
}


@dataclass
class Extent:
    """What is known of the values of a series, slice by slice.

    Attributes:
        low, high: smallest and largest value.
        whole: whether all of them are whole numbers.
        finite: whether all of them are numbers.
    """

    low: float = math.inf
    high: float = -math.inf
    whole: bool = True
    finite: bool = True

    def add(self, plane: Array) -> None:
        """Take in one slice, (y, x) or (y, x, 3)."""
        if plane.dtype.kind == "f":
            self.finite = self.finite and bool(np.isfinite(plane).all())
            self.whole = self.finite and self.whole and bool((np.rint(plane) == plane).all())
        self.low, self.high = min(self.low, float(plane.min())), max(self.high, float(plane.max()))


class Stored:
    """How a series stores its values.

    Attributes:
        slope: value of one step. intercept: value of the stored 0.
        dtype: "<i2", "<u2" or "u1" (colors).
        note: what is lost, one sentence; "" if nothing is.
    """

    def __init__(self, slope: float, intercept: float, dtype: str, note: str = "") -> None:
        self.slope, self.intercept, self.note = slope, intercept, note
        self.dtype = np.dtype(dtype)

    @property
    def identity(self) -> bool:
        """Whether the stored integers are the values themselves."""
        return self.slope == 1.0 and self.intercept == 0.0

    def encode(self, plane: Array) -> Array:
        """The integers to store for a slice of values, of the same shape."""
        if self.identity and plane.dtype.kind in "iub":
            return plane.astype(self.dtype)
        steps: Array = np.rint((plane.astype(np.float64) - self.intercept) / self.slope)
        return steps.astype(self.dtype)


def stored_for(modality: str, extent: Extent, name: str) -> Stored:
    """How the values of a series are stored.

    Args:
        modality: "CT", "MR", "PT" or "RGB".
        extent: of all values. name: the volume's name, for the message.

    Raises:
        InputError: there are values that cannot be stored.
    """
    if not extent.finite:
        raise InputError(
            f"'{name}' holds values that are not finite (NaN or infinite).",
            next_step="Synthesize the volume again or repair it before exporting.",
        )
    return {"CT": _hounsfield, "MR": _signal, "PT": _activity, "RGB": _colors}[modality](extent, name)


def _hounsfield(extent: Extent, name: str) -> Stored:
    """Whole Hounsfield units, slope 1."""
    limits = np.iinfo(np.int16)
    low, high = limits.min + CT_INTERCEPT, limits.max + CT_INTERCEPT
    if extent.low < low - 0.5 or extent.high > high + 0.5:
        raise InputError(
            f"The values of '{name}' reach from {extent.low:.0f} to {extent.high:.0f} HU, "
            "more than a CT image can store.",
            next_step="Limit them to the range of -1024 to 3071 HU before exporting.",
        )
    note = "" if extent.whole else "Values are rounded to whole HU."
    return Stored(1.0, CT_INTERCEPT, "<i2", note)


def _signal(extent: Extent, name: str) -> Stored:
    """MR: whole numbers as they are; other values by a slope, of which the MR Image module itself knows nothing."""
    limits = np.iinfo(np.int16 if extent.low < 0 else np.uint16)
    if extent.whole and limits.min <= extent.low and extent.high <= limits.max:
        return Stored(1.0, 0.0, "<i2" if extent.low < 0 else "<u2")
    return _scaled(extent)


def _activity(extent: Extent, name: str) -> Stored:
    """PET: the intercept of a PET image is always 0 (DICOM PS3.3 C.8.9.4)."""
    return _scaled(extent)


def _scaled(extent: Extent) -> Stored:
    dtype = "<i2" if extent.low < 0 else "<u2"
    largest = max(abs(extent.low), abs(extent.high))
    # Nine digits, which a decimal string of 16 characters holds exactly, so that what is read is what was divided by.
    slope = float(f"{largest / np.iinfo(dtype).max:.8e}") if largest > 0 else 1.0
    return Stored(slope, 0.0, dtype, f"Values are rounded to steps of {slope:.3g} (16 bits).")


def _colors(extent: Extent, name: str) -> Stored:
    if not extent.whole or extent.low < 0 or extent.high > 255:
        raise InputError(
            f"The colors of '{name}' are not whole numbers from 0 to 255.",
            next_step="Convert the volume to 8 bits a color before exporting.",
        )
    return Stored(1.0, 0.0, "u1")


def text_mask(rows: int, columns: int) -> tuple[Flags, Flags]:
    """Where the word is and where the box around it, as two boolean arrays (y, x) in the upper left corner.

    Raises:
        InputError: the slice is too small for the word.
    """
    letters = [np.array([[dot == "#" for dot in row] for row in LETTERS[letter]]) for letter in TEXT]
    word = np.hstack([np.pad(letter, ((1, 1), (1, 0))) for letter in letters])
    word = np.pad(word, ((0, 0), (0, 1)))  # (9, 55)
    size = max(1, min(columns // (4 * word.shape[1]), rows // (8 * word.shape[0])))
    word = np.kron(word, np.ones((size, size), bool))
    if word.shape[0] > rows or word.shape[1] > columns:
        raise InputError(
            f"Slices of {columns} x {rows} voxels are too small for the word {TEXT}.",
            next_step="Switch off the option to draw it into the image.",
        )
    letter_mask, box_mask = np.zeros((rows, columns), bool), np.zeros((rows, columns), bool)
    letter_mask[: word.shape[0], : word.shape[1]] = word
    box_mask[: word.shape[0], : word.shape[1]] = True
    return letter_mask, box_mask


def burn_in(stored: Array, masks: tuple[Flags, Flags], low: int, high: int) -> None:
    """Draw the word in the largest value on a box of the smallest, into stored integers (y, x[, 3]); in place."""
    letters, box = masks
    stored[box] = low
    stored[letters] = high
