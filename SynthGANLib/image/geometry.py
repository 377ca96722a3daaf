"""Resampling from a volume's grid to a model's grid, and the exact inverse.

Each step maps grid and array forward, and the array backward. Reorienting,
cropping and padding are exact to the bit; resampling interpolates, but the restored grid is
the source's own, never a computed one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Array, Grid, Shape, nearest_axes, orientation_of, parse_orientation
from SynthGANLib.image.resampling import Interpolation, as_float32, check_interpolation, resample_to
from SynthGANLib.image.transforms import (
    CropPad,
    Order,
    Reorient,
    Resample,
    Step,
    Straighten,
    centered,
    crop_pad,
    uncrop_unpad,
)
from SynthGANLib.image.volume import Volume

__all__ = [
    "Box",
    "Conformed",
    "Grid",
    "WayBack",
    "conform",
    "crop_pad",
    "orientation_of",
    "resample_to",
    "uncrop_unpad",
]

# Spacings this close (relative) are the same: over 512 voxels the drift is a two-thousandth of a voxel.
SAME_SPACING = 1e-6
# A spacing that gives more voxels than this is a mistake.
MAX_VOXELS = 2**33


@dataclass(frozen=True)
class Box:
    """Half-open index box (z, y, x) on a grid; where it extends beyond the grid, the array is padded."""

    lower: Shape
    upper: Shape

    def __post_init__(self) -> None:
        if any(up <= low for low, up in zip(self.lower, self.upper, strict=True)):
            raise InputError(f"The box from {self.lower} to {self.upper} holds no voxel.")

    @property
    def shape(self) -> Shape:
        """Extents (z, y, x) of the box."""
        z, y, x = (up - low for low, up in zip(self.lower, self.upper, strict=True))
        return z, y, x

    @staticmethod
    def around(mask: Array, margin: int | Shape = 0) -> Box:
        """The smallest box around a (z, y, x) mask, widened by ``margin`` voxels and kept on the grid.

        Raises:
            InputError: the mask is empty.
        """
        margins = (margin,) * 3 if isinstance(margin, int) else margin
        lower, upper = [], []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            used = np.flatnonzero(np.any(mask, axis=others))
            if used.size == 0:
                raise InputError("The mask is empty, so it has no bounding box.")
            lower.append(max(0, int(used[0]) - margins[axis]))
            upper.append(min(int(mask.shape[axis]), int(used[-1]) + 1 + margins[axis]))
        return Box((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))


@dataclass(frozen=True, eq=False)
class WayBack:
    """The inverse steps: from the model's grid back to the source's grid."""

    source: Grid
    target: Grid
    steps: tuple[Step, ...]
    fill: float

    def restore(self, array: Array, fill: float | None = None, order: Order = 1) -> Array:
        """The array (z, y, x[, c]) of ``target`` mapped onto ``source``; a new, contiguous array.

        Args:
            array: values on the target grid, with any number of channels.
            fill: value of voxels outside the target grid; the one given to :func:`conform` if None.
            order: 1 interpolates linearly where a resampling is undone, 0 takes the nearest voxel and
                keeps the array's type (labels, masks).

        Raises:
            InputError: the array does not lie on the target grid.
        """
        if tuple(array.shape[:3]) != self.target.shape:
            raise InputError(
                f"An array of shape {array.shape} does not lie on the grid {self.target.shape} to restore."
            )
        background = self.fill if fill is None else float(fill)
        moved = array
        for step in reversed(self.steps):
            moved = step.backward(moved, background, order)
        return np.array(moved, order="C") if np.shares_memory(moved, array) else np.ascontiguousarray(moved)


@dataclass(frozen=True, eq=False)
class Conformed:
    """A volume on a model's grid, and the inverse transform."""

    volume: Volume
    back: WayBack


def conform(
    volume: Volume,
    *,
    orientation: str | None = "LPS",
    spacing: tuple[float | None, ...] | None = None,
    box: Box | None = None,
    fill: float = 0.0,
    interpolation: Interpolation = "linear",
) -> Conformed:
    """Bring a volume onto a model's grid: straighten, reorient, resample, crop and pad, in this order.

    An oblique volume stays oblique: axes are permuted and flipped to the nearest ones, not rotated. A sheared
    grid is resampled to right angles first. The resampled grid shares its center with the source and
    covers its whole extent; beyond the outermost voxel centers the edge value is repeated.

    Args:
        volume: any shape of at least one voxel, scalar or with channels.
        orientation: patient sides toward which i, j, k increase (``LPS``: to the left, posterior, superior);
            None keeps the volume's own order.
        spacing: mm per oriented axis (x, y, z); None, also for single axes, keeps the native spacing.
        box: taken from the oriented and resampled grid, may extend beyond it.
        fill: value of voxels without data.
        interpolation: ``nearest`` keeps the array's type, all else gives float32.

    Raises:
        InputError: empty volume, bad orientation, spacing or interpolation, or a target grid too large.
    """
    check_interpolation(interpolation)
    if volume.array.size == 0:
        raise InputError(f"The volume of shape {volume.array.shape} has no voxels.", next_step="Choose another volume.")
    grid = volume.grid
    steps = _steps_to(grid, orientation, spacing)
    target = steps[-1].target if steps else grid
    if (step := _crop_pad(target, box)) is not None:
        steps.append(step)
        target = step.target
    array = volume.array
    for step in steps:
        array = step.forward(array, float(fill), interpolation)
    if interpolation != "nearest":
        array = as_float32(array)
    conformed = Volume(np.ascontiguousarray(array), target.affine, volume.unit, volume.meta)
    return Conformed(conformed, WayBack(grid, target, tuple(steps), float(fill)))


def conformed_grid(grid: Grid, *, orientation: str | None, spacing: tuple[float | None, ...] | None) -> Grid:
    """The grid that :func:`conform` brings a volume on `grid` to, without computing a voxel.

    Raises:
        InputError: as :func:`conform`.
    """
    steps = _steps_to(grid, orientation, spacing)
    return steps[-1].target if steps else grid


def _steps_to(grid: Grid, orientation: str | None, spacing: tuple[float | None, ...] | None) -> list[Step]:
    """Straighten, reorient and resample, as far as needed."""
    steps: list[Step] = []
    target = grid
    if (orientation is not None or spacing is not None) and not grid.orthogonal:
        steps.append(_straighten(grid))
        target = steps[-1].target
    if (step := _reorient(target, orientation)) is not None:
        steps.append(step)
        target = step.target
    if (step := _resample(target, spacing)) is not None:
        steps.append(step)
    return steps


def _reorient(grid: Grid, orientation: str | None) -> Step | None:
    if orientation is None:
        return None
    wanted, wanted_signs = parse_orientation(orientation)
    present, present_signs = nearest_axes(grid.affine)
    axes = [present.index(world) for world in wanted]  # index axis (i, j, k) order
    flips = [wanted_signs[a] != present_signs[axes[a]] for a in range(3)]
    if axes == [0, 1, 2] and not any(flips):
        return None
    extents = grid.shape[::-1]
    affine = np.eye(4)
    affine[:3, 3] = grid.affine[:3, 3]
    for a, source_axis in enumerate(axes):
        column = grid.affine[:3, source_axis]
        affine[:3, a] = -column if flips[a] else column
        if flips[a]:
            affine[:3, 3] += column * (extents[source_axis] - 1)
    z, y, x = (2 - axes[2 - axis] for axis in range(3))  # array axes run z, y, x
    shape = (grid.shape[z], grid.shape[y], grid.shape[x])
    flipped = tuple(axis for axis in range(3) if flips[2 - axis])
    return Reorient(grid, Grid(shape, affine), (z, y, x), flipped)


def _resample(grid: Grid, spacing: tuple[float | None, ...] | None) -> Step | None:
    if spacing is None:
        return None
    ratios = _ratios(grid, spacing)
    if ratios == (1.0, 1.0, 1.0):
        return None
    z, y, x = (max(1, int(np.ceil(extent / ratio - 1e-3))) for extent, ratio in zip(grid.shape, ratios, strict=True))
    if z * y * x > MAX_VOXELS:
        raise InputError(
            f"At the spacing {spacing} mm the volume of {grid.shape} voxels would have {z * y * x:,} voxels.",
            next_step="Choose a larger spacing.",
        )
    first = [centered(n, m, r)[0] for n, m, r in zip(grid.shape, (z, y, x), ratios, strict=True)]
    affine = grid.affine.copy()
    affine[:3, :3] *= np.asarray(ratios[::-1])
    affine[:3, 3] = grid.to_world(np.asarray(first[::-1]))
    return Resample(grid, Grid((z, y, x), affine), ratios)


def _ratios(grid: Grid, spacing: tuple[float | None, ...]) -> tuple[float, float, float]:
    """Target over source spacing per array axis (z, y, x); exactly 1 where the axis stays."""
    if len(spacing) != 3 or not all(mm is None or (np.isfinite(mm) and mm > 0) for mm in spacing):
        raise InputError(f"A spacing has three positive numbers or None (x, y, z), not {spacing}.")
    ratios = []
    for wanted, native in zip(spacing[::-1], grid.spacing[::-1], strict=True):
        ratio = 1.0 if wanted is None else float(wanted) / native
        ratios.append(1.0 if abs(ratio - 1.0) <= SAME_SPACING else ratio)
    return ratios[0], ratios[1], ratios[2]


def _crop_pad(grid: Grid, box: Box | None) -> Step | None:
    if box is None or (box.lower == (0, 0, 0) and box.upper == grid.shape):
        return None
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(np.asarray(box.lower[::-1], np.float64))
    (z0, y0, x0), (z1, y1, x1) = box.lower, box.upper
    z, y, x = grid.shape
    return CropPad(grid, Grid(box.shape, affine), (-z0, -y0, -x0), (z1 - z, y1 - y, x1 - x))


def _straighten(grid: Grid) -> Step:
    """Keep i and the plane of i and j; k becomes their normal at the planes' true distance."""
    i, j, k = (grid.affine[:3, a] for a in range(3))
    unit_i = i / np.linalg.norm(i)
    unit_j = j - unit_i * (unit_i @ j)
    unit_j /= np.linalg.norm(unit_j)
    normal = np.cross(unit_i, unit_j)
    normal *= np.sign(normal @ k)
    spacing = np.array([np.linalg.norm(i), np.linalg.norm(j), abs(normal @ k)])
    linear = np.stack([unit_i, unit_j, normal], axis=1) * spacing
    corners = np.array([(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)], np.float64)
    world = grid.to_world(corners * (np.asarray(grid.shape[::-1]) - 1))
    index = (world - grid.affine[:3, 3]) @ np.linalg.inv(linear).T
    first = np.floor(index.min(axis=0) + 1e-6)
    x, y, z = (int(n) for n in np.ceil(index.max(axis=0) - 1e-6) - first + 1)
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = grid.affine[:3, 3] + linear @ first
    return Straighten(grid, Grid((z, y, x), affine))
