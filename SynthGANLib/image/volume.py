"""A volume: voxel values, their grid and their unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Affine, Array, Grid, Shape, checked_affine

UNITS = ("HU", "SUVbw", "1", "RGB", "label", "BQML", "CNTS")
BACKGROUND = {"HU": -1024.0}
"""Unit -> value of voxels without data; 0 for all others."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An image on a grid in the patient.

    Attributes:
        array: (z, y, x) or (z, y, x, c), of any real dtype; never copied, treat it as read-only.
        affine: float64 4x4, maps index (i, j, k) = (x, y, z) to LPS mm.
        unit: ``HU``, ``SUVbw``, ``1`` (arbitrary, as in MR), ``RGB``, ``label``, ``BQML`` or ``CNTS``.
        meta: further facts: ``modality`` (``MR``, ``CT``, ``PT`` or empty), ``sequence``,
            ``description``, ``warnings`` (a tuple of sentences).

    Raises:
        InputError: wrong number of dimensions, complex numbers or an invalid affine.
    """

    array: Array
    affine: Affine
    unit: str = "1"
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.ndim not in (3, 4):
            raise InputError(f"A volume has the axes (z, y, x) or (z, y, x, channel), not the shape {array.shape}.")
        if array.dtype.kind not in "biuf":
            raise InputError(f"A volume holds real numbers, not {array.dtype}; store magnitude and phase apart.")
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", checked_affine(self.affine))
        object.__setattr__(self, "meta", dict(self.meta))

    @property
    def shape(self) -> Shape:
        """Extents (z, y, x)."""
        z, y, x = self.array.shape[:3]
        return z, y, x

    @property
    def channels(self) -> int:
        """Number of channels; 1 for a scalar volume."""
        return int(self.array.shape[3]) if self.array.ndim == 4 else 1

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape, self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel distances (x, y, z) in mm."""
        return self.grid.spacing

    @property
    def origin(self) -> tuple[float, float, float]:
        """LPS position in mm of voxel (0, 0, 0)."""
        return self.grid.origin

    @property
    def direction(self) -> Affine:
        """3x3 matrix whose columns are the unit vectors of x, y, z in LPS."""
        return self.grid.direction

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences a user should see about this volume."""
        return tuple(self.meta.get("warnings", ()))

    def with_array(self, array: Array, *, unit: str | None = None, meta: Mapping[str, Any] | None = None) -> Volume:
        """Another image on the same grid; ``meta`` replaces the present one if given.

        Raises:
            InputError: the extents differ from this volume's.
        """
        if tuple(np.shape(array)[:3]) != self.shape:
            raise InputError(f"An array of shape {np.shape(array)} does not lie on a grid of {self.shape}.")
        return Volume(array, self.affine, self.unit if unit is None else unit, self.meta if meta is None else meta)

    def with_warning(self, *sentences: str) -> Volume:
        """The same volume with further warnings recorded."""
        meta = {**self.meta, "warnings": self.warnings + sentences}
        return replace(self, meta=meta)

    def to_sitk(self) -> Any:
        """A SimpleITK image (a copy of the voxels) on this grid; bool becomes uint8."""
        import SimpleITK as sitk

        array = self.array
        if array.dtype == np.bool_:
            array = array.view(np.uint8)
        elif array.dtype == np.float16:
            array = array.astype(np.float32)
        image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction.ravel().tolist())
        return image

    @staticmethod
    def from_sitk(image: Any, *, unit: str = "1", meta: Mapping[str, Any] | None = None) -> Volume:
        """A volume from a 2D or 3D SimpleITK image (a copy); a 2D image becomes one slice at z = 0.

        Raises:
            InputError: four or more dimensions, or complex voxels.
        """
        import SimpleITK as sitk

        affine = sitk_affine(image)
        array = sitk.GetArrayFromImage(image)
        if image.GetDimension() == 2:
            array = array[np.newaxis]  # (y, x[, c]) -> (1, y, x[, c])
        return Volume(array, affine, unit, meta or {})


def sitk_affine(image: Any) -> Affine:
    """The 4x4 index-to-LPS affine of a 2D or 3D SimpleITK image; a 2D image lies in the plane z = 0.

    Raises:
        InputError: another number of dimensions.
    """
    dimension = image.GetDimension()
    if dimension not in (2, 3):
        raise InputError(f"An image of {dimension} dimensions is not a volume.", next_step="Choose one frame of it.")
    linear = np.eye(3)
    linear[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension, dimension))
    linear[:, :dimension] *= image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:dimension, 3] = image.GetOrigin()
    return affine
