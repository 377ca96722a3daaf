"""A part of the input chosen by a region of interest: whole voxels of the input, never resampled."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import slicer

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import nodes

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array

Voxels = tuple[slice, ...]
"""The part of a volume that is cut out, as slices (z, y, x)."""
BORDER = 0.01
"""Part of a voxel that a region may overlap without including the voxel."""


def wholeVolume(node: slicer.vtkMRMLNode) -> Voxels:
    """The slices (z, y, x) of all voxels."""
    return tuple(slice(0, extent) for extent in reversed(node.GetImageData().GetDimensions()))


def voxelsInRoi(
    roiNode: slicer.vtkMRMLMarkupsROINode,
    inputNode: slicer.vtkMRMLVolumeNode,
    placedNode: slicer.vtkMRMLVolumeNode | None = None,
) -> Voxels:
    """Slices (z, y, x) of the input's voxels that hold the region, which may be turned against them.

    :param placedNode: whose parent transform places the input; the input itself by default
    :raises SynthesisError: if the region lies outside the input, is empty, or is under a transform that is not linear
    """
    name = roiNode.GetName()
    if nodes.between(roiNode.GetParentTransformNode(), None) is None:
        raise SynthesisError(
            _("The region '{name}' is under a transform that is not linear.").format(name=name),
            _("Harden the transform or draw the region again."),
        )
    size = np.asarray(roiNode.GetSize(), dtype=float)
    if not (size > 0).all():
        raise SynthesisError(_("The region '{name}' is empty.").format(name=name), _("Draw it, or choose none."))
    objectToWorld = slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToWorldMatrix())
    corners = np.array([[*(size * signs / 2), 1.0] for signs in itertools.product((-1, 1), repeat=3)])
    toIndex = np.linalg.inv(worldMatrix(placedNode or inputNode) @ nodes.ijkToRAS(inputNode)) @ objectToWorld
    indices = (corners @ toIndex.T)[:, :3]  # (8, ijk)
    extents = np.array(inputNode.GetImageData().GetDimensions())
    # Voxel i reaches from i - 0.5 to i + 0.5; a border drawn on one of these must not add a layer of voxels.
    low = np.floor(indices.min(axis=0) + 0.5 + BORDER).astype(int).clip(0, extents)
    high = np.ceil(indices.max(axis=0) + 0.5 - BORDER).astype(int).clip(0, extents)
    if (low >= high).any():
        raise SynthesisError(
            _("The region '{name}' lies outside the input volume '{input}'.").format(
                name=name, input=inputNode.GetName()
            ),
            _("Move it onto the volume, or choose none."),
        )
    return tuple(slice(int(a), int(b)) for a, b in zip(reversed(low), reversed(high), strict=True))


def shifted(matrix: Array, voxels: Voxels) -> Array:
    """The 4x4 index matrix of the voxels cut out by slices (z, y, x)."""
    cut = np.array(matrix, dtype=float)
    start = [part.start for part in reversed(voxels)]
    cut[:3, 3] += cut[:3, :3] @ start
    return cut


def worldMatrix(node: slicer.vtkMRMLNode) -> Array:
    """The 4x4 matrix from the node's own coordinates to the world's.

    :raises SynthesisError: if its parent transform is not linear
    """
    return nodes.linearBetween(
        node,
        None,
        _("'{name}' is under a transform that is not linear, so that no region can be cut from it."),
        _("Harden the transform, or choose no region."),
    )


def fitRoi(roiNode: slicer.vtkMRMLMarkupsROINode, volumeNode: slicer.vtkMRMLVolumeNode) -> None:
    """Fit a region to the box of a volume's voxels, with their orientation.

    :raises SynthesisError: if the volume's parent transform is not linear
    """
    extents = np.array(volumeNode.GetImageData().GetDimensions(), dtype=float)
    matrix = nodes.ijkToRAS(volumeNode)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    placed = np.eye(4)
    placed[:3, :3] = matrix[:3, :3] / spacing
    placed[:3, 3] = (matrix @ [*((extents - 1) / 2), 1.0])[:3]
    roiNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    roiNode.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(placed))
    roiNode.SetSize(*(extents * spacing))
