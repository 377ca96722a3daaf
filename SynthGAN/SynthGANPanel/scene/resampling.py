"""Voxels of one volume at the places of another, and along a line, through the parent transforms of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SynthGANPanel.scene import nodes
from SynthGANPanel.scene.nodes import ijkToRAS

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array

SAME_PLACE_MM = 1e-3
VOXELS_AT_ONCE = 250000
"""A slab of about this size is computed at each step, so that the application stays responsive."""
HALF_VOXEL = 0.5 + 1e-6


def dimensions(node: slicer.vtkMRMLNode) -> tuple[int, int, int]:
    """(i, j, k) counts of a volume's voxels."""
    return node.GetImageData().GetDimensions()


def slabs(gridNode: slicer.vtkMRMLNode) -> list[tuple[int, int]]:
    """Pairs (first, last + 1) of slice numbers k that cover a grid in pieces."""
    columns, rows, slices = dimensions(gridNode)
    thickness = max(1, VOXELS_AT_ONCE // (columns * rows))
    return [(first, min(first + thickness, slices)) for first in range(0, slices, thickness)]


def sameGrid(first: slicer.vtkMRMLNode, second: slicer.vtkMRMLNode) -> bool:
    """Whether the voxels of two volumes lie in the same places."""
    if dimensions(first) != dimensions(second) or first.GetParentTransformNode() is not second.GetParentTransformNode():
        return False
    corners = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    corners[:, :3] *= dimensions(first)
    places = [corners @ ijkToRAS(node).T for node in (first, second)]
    return bool(np.abs(places[0] - places[1]).max() < SAME_PLACE_MM)


def isInside(node: slicer.vtkMRMLNode, position: Sequence[float]) -> bool:
    """Whether a RAS position of the world lies in a voxel of a volume."""
    index = np.array(_transformToIJK(None, node).TransformPoint(position))
    return bool(np.all((index >= -HALF_VOXEL) & (index <= np.array(dimensions(node)) - 1 + HALF_VOXEL)))


def toWorld(node: slicer.vtkMRMLNode, index: Array) -> Array:
    """The RAS position in the world of a fractional index (i, j, k) of a volume."""
    local = ijkToRAS(node) @ np.append(index, 1.0)
    world = np.zeros(3)
    node.TransformPointToWorld(local[:3], world)
    return world


def middle(node: slicer.vtkMRMLNode) -> Array:
    """The RAS position in the world of the middle of a volume."""
    return toWorld(node, (np.array(dimensions(node)) - 1) / 2)


class Sampler:
    """The voxels of a volume on the grid of another, slab by slab.

    On the same grid they are the volume's own. Elsewhere they are interpolated linearly (float32), and NaN where the
    volume, half a voxel beyond its outermost centers, does not extend.
    """

    def __init__(self, node: slicer.vtkMRMLNode, gridNode: slicer.vtkMRMLVolumeNode) -> None:
        self.isOwnGrid = sameGrid(node, gridNode)
        self._columns, self._rows, _slices = dimensions(gridNode)
        if self.isOwnGrid:
            self._array = slicer.util.arrayFromVolume(node)
        else:
            self._reslice = _reslicer(node, gridNode)

    def slab(self, first: int, end: int) -> Array:
        """(k, j, i[, c]) voxels of slices first to end - 1 of the grid."""
        if self.isOwnGrid:
            return self._array[first:end]
        self._reslice.SetOutputExtent(0, self._columns - 1, 0, self._rows - 1, first, end - 1)
        self._reslice.Update()
        image = self._reslice.GetOutput()
        array = vtk_to_numpy(image.GetPointData().GetScalars())
        shape = (end - first, self._rows, self._columns, image.GetNumberOfScalarComponents())
        array = array.reshape(shape)  # (k * j * i, c) -> (k, j, i, c)
        return array if shape[3] > 1 else array[..., 0]


def alongLine(node: slicer.vtkMRMLNode, positions: Array) -> Array:
    """Linearly interpolated values of a volume at (n, 3) RAS positions of the world; NaN outside. Colors: the mean."""
    worldToIJK = _transformToIJK(None, node)
    indices = np.array([worldToIJK.TransformPoint(position) for position in positions]).reshape(-1, 3)
    return interpolate(slicer.util.arrayFromVolume(node), indices[:, ::-1])


def interpolate(array: Array, places: Array) -> Array:
    """Values of an array (k, j, i[, c]) at (n, 3) fractional indices (k, j, i); float64, NaN beyond half a voxel."""
    limits = np.array(array.shape[:3]) - 1
    inside = np.all((places >= -HALF_VOXEL) & (places <= limits + HALF_VOXEL), axis=1)
    clamped = np.clip(places, 0, limits)
    low = np.minimum(np.floor(clamped).astype(int), np.maximum(limits - 1, 0))
    part = clamped - low
    values = np.zeros(len(places))
    for corner in np.ndindex(2, 2, 2):
        index = np.minimum(low + corner, limits)
        weight = np.prod(np.where(corner, part, 1 - part), axis=1)
        voxels = array[index[:, 0], index[:, 1], index[:, 2]].astype(float)
        values += weight * (voxels if voxels.ndim == 1 else voxels.mean(axis=1))  # (n, c) -> (n,)
    return np.where(inside, values, np.nan)


def _reslicer(node: slicer.vtkMRMLNode, gridNode: slicer.vtkMRMLVolumeNode) -> Any:
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(node.GetImageData())
    reslice.SetResliceTransform(_transformToIJK(gridNode, node))
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputScalarType(vtk.VTK_FLOAT)
    reslice.SetInterpolationModeToLinear()
    reslice.SetBackgroundColor(*[np.nan] * 4)
    return reslice


def _transformToIJK(gridNode: slicer.vtkMRMLVolumeNode | None, node: slicer.vtkMRMLNode) -> Any:
    """From voxel indices of a grid (or RAS positions of the world for None) to voxel indices of a volume."""
    before = ijkToRAS(gridNode) if gridNode is not None else np.eye(4)
    after = np.linalg.inv(ijkToRAS(node))
    parents = [each.GetParentTransformNode() if each is not None else None for each in (gridNode, node)]
    matrix = nodes.between(*parents)
    if matrix is not None:
        toIJK = vtk.vtkTransform()  # VTK has a much faster implementation for this one
        toIJK.SetMatrix(slicer.util.vtkMatrixFromArray(after @ matrix @ before))
        return toIJK
    toIJK, between = vtk.vtkGeneralTransform(), vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(*parents, between)
    toIJK.PostMultiply()
    toIJK.Concatenate(slicer.util.vtkMatrixFromArray(before))
    toIJK.Concatenate(between)
    toIJK.Concatenate(slicer.util.vtkMatrixFromArray(after))
    return toIJK
