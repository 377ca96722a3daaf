"""A voxel grid in the patient: shape, affine, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from SynthGANLib.errors import InputError

Array = npt.NDArray[Any]
Affine = npt.NDArray[np.float64]
Shape = tuple[int, int, int]

# Letters an index axis may increase toward, by LPS world axis: (positive, negative).
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))

# Largest cosine between two index axes that still counts as a right angle: 0.001 rad moves a
# voxel by 0.1 mm over 100 mm, the size of the rounding found in real DICOM orientation vectors.
ORTHOGONAL_TOLERANCE = 1e-3

PLANES = {"axial": "SI", "coronal": "AP", "sagittal": "LR"}
"""Plane -> the patient sides between which its slices are stacked."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape (z, y, x) and the 4x4 affine that maps index (i, j, k) = (x, y, z) to LPS mm.

    Raises:
        InputError: the affine is not a finite, invertible 4x4 matrix or the shape is negative.
    """

    shape: Shape
    affine: Affine

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 0:
            raise InputError(f"A grid needs three extents that are not negative, not {self.shape}.")
        object.__setattr__(self, "shape", tuple(int(extent) for extent in self.shape))
        object.__setattr__(self, "affine", checked_affine(self.affine))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighboring voxels along x, y, z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def origin(self) -> tuple[float, float, float]:
        """LPS position in mm of voxel (0, 0, 0)."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> Affine:
        """3x3 matrix whose columns are the unit vectors of x, y, z."""
        columns: Affine = self.affine[:3, :3] / np.asarray(self.spacing)
        return columns

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def orientation(self) -> str:
        """Three letters, the patient sides that i, j, k increase toward (nearest axes)."""
        return orientation_of(self.affine)

    @property
    def orthogonal(self) -> bool:
        """False for a sheared grid, for example one of a CT with a tilted gantry."""
        cosines = self.direction.T @ self.direction - np.eye(3)
        return bool(np.abs(cosines).max() <= ORTHOGONAL_TOLERANCE)

    def same_as(self, other: Grid, tolerance: float = 1e-4) -> bool:
        """True if shapes agree and no corner lies more than ``tolerance`` voxels apart."""
        if self.shape != other.shape:
            return False
        corners = np.array([(i, j, k, 1) for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float64)
        corners[:, :3] *= np.maximum(np.asarray(self.shape[::-1]) - 1, 1)
        apart = (corners @ (self.affine - other.affine).T)[:, :3]
        return bool(np.abs(apart).max() <= tolerance * min(self.spacing))

    def to_world(self, index: Array) -> Array:
        """Map (..., 3) index coordinates (i, j, k) to LPS mm."""
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, world: Array) -> Array:
        """Map (..., 3) LPS mm to index coordinates (i, j, k)."""
        return np.asarray((world - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)


def checked_affine(affine: Array) -> Affine:
    """A read-only float64 copy of a finite, invertible 4x4 affine; InputError for anything else."""
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise InputError(f"The affine must be a 4x4 matrix, not of shape {matrix.shape}.")
    if not np.isfinite(matrix).all() or np.abs(matrix[3] - (0, 0, 0, 1)).max() > 0:
        raise InputError("The affine has entries that are not finite, or its last row is not 0 0 0 1.")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-6:
        raise InputError("The affine is singular: voxels have no volume; repair the header's spacing and axes.")
    matrix.setflags(write=False)
    return matrix


def nearest_axes(affine: Affine) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """For each index axis (i, j, k) the nearest LPS axis and its sign, each world axis used once."""
    direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(permutations(range(3)), key=lambda world: sum(abs(direction[world[a], a]) for a in range(3)))
    signs = tuple(1 if direction[best[a], a] >= 0 else -1 for a in range(3))
    return (best[0], best[1], best[2]), (signs[0], signs[1], signs[2])


def orientation_of(affine: Affine) -> str:
    """Three letters, the patient sides that i, j, k increase toward; ``LPS`` is the DICOM axial order."""
    worlds, signs = nearest_axes(affine)
    return "".join(_LETTERS[world][0 if sign > 0 else 1] for world, sign in zip(worlds, signs, strict=True))


def parse_orientation(letters: str) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """World axis and sign of each letter.

    Raises:
        InputError: not three letters naming each of L/R, P/A, S/I once.
    """
    axes: list[int] = []
    signs: list[int] = []
    for letter in letters.upper():
        for world, pair in enumerate(_LETTERS):
            if letter in pair:
                axes.append(world)
                signs.append(1 if letter == pair[0] else -1)
    if len(letters) != 3 or sorted(axes) != [0, 1, 2]:
        raise InputError(f"'{letters}' is not an orientation: name one of L/R, one of P/A and one of S/I, like LPS.")
    return (axes[0], axes[1], axes[2]), (signs[0], signs[1], signs[2])


def whole_voxels(mm: float, spacing: float) -> int:
    """A length in mm as a number of voxels of that spacing, rounded.

    A half is rounded the same way whatever the last bits of the spacing, which differ after a file or between
    oblique axes.
    """
    return round(mm / round(spacing, 6))


def stack_axes(axis: str, orientation: str) -> tuple[int, ...]:
    """Axes of (z, y, x) across which a model card's `spatial.axis` stacks slices; "all" means each of the three.

    `orientation` names the sides that i, j, k (x, y, z) increase toward; "LPS" stacks axial slices along z.
    """
    letters = orientation[::-1]
    axes = {plane: next(a for a in range(3) if letters[a] in sides) for plane, sides in PLANES.items()}
    return tuple(axes.values()) if axis == "all" else (axes[axis],)


def reflected(start: int, extent: int, length: int) -> npt.NDArray[np.intp]:
    """Indices of `extent` voxels from `start`, mirrored about the first and last of `length` voxels.

    The edge voxel itself is not repeated; an axis of one voxel repeats that voxel.
    """
    if length == 1:
        return np.zeros(extent, dtype=np.intp)
    period = 2 * (length - 1)
    folded = np.abs(np.arange(start, start + extent)) % period
    return np.asarray(np.minimum(folded, period - folded), dtype=np.intp)
