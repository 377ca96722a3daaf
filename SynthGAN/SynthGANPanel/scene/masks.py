"""Body masks: a label map, a scalar volume or a segment, transformed to the coordinates of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import nodes

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array
    from SynthGANLib.image.volume import Volume

BINARY = "Binary labelmap"


def segments(node: slicer.vtkMRMLNode | None) -> list[tuple[str, str]]:
    """(id, name) of every segment of a segmentation node, [] for anything else."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return []
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    return [(each, segmentation.GetSegment(each).GetName()) for each in ids]


def maskFromNode(maskNode: slicer.vtkMRMLNode, inputNode: slicer.vtkMRMLVolumeNode, segmentId: str = "") -> Volume:
    """The mask as a label volume of 0 and 1, in the coordinates of the input node but on its own grid.

    :param maskNode: label map, scalar volume (not zero inside) or segmentation; a linear transform may relate it to
        the input
    :param segmentId: which segment; "" takes all of them together
    :raises SynthesisError: for an empty mask or one that cannot be transformed to the input
    """
    environment.useLibrary()
    from SynthGANLib.image.volume import Volume

    if maskNode.IsA("vtkMRMLSegmentationNode"):
        array, local = _segments(maskNode, segmentId)
    else:
        nodes.checkInput(maskNode)
        array, local = slicer.util.arrayFromVolume(maskNode), nodes.ijkToRAS(maskNode)
    if array.ndim != 3 or not array.any():
        raise SynthesisError(
            _("The mask '{name}' is empty.").format(name=maskNode.GetName()), _("Choose another mask or none.")
        )
    affine = nodes.toLocal(maskNode, inputNode) @ local
    return Volume((array != 0).astype(np.uint8), nodes.RAS_TO_LPS @ affine, "label")


def _segments(node: slicer.vtkMRMLNode, segmentId: str) -> tuple[Array, Array]:
    """Voxels (z, y, x) and the 4x4 matrix from their indices to the node's own RAS."""
    known = dict(segments(node))
    if segmentId and segmentId not in known:
        raise SynthesisError(
            _("The segmentation '{name}' no longer has the chosen segment.").format(name=node.GetName()),
            _("Choose another segment or all of them."),
        )
    if not known or not node.GetSegmentation().ContainsRepresentation(BINARY):
        raise SynthesisError(
            _("The segmentation '{name}' holds no voxels.").format(name=node.GetName()),
            _("Create its binary labelmap representation in the Segmentations module, or choose another mask."),
        )
    found = [_voxels(node, each) for each in ([segmentId] if segmentId else known)]
    pieces = [piece for piece in found if piece is not None]
    if not pieces:
        raise SynthesisError(
            _("The mask '{name}' is empty.").format(name=node.GetName()), _("Choose another segment or none.")
        )
    directions = pieces[0][2]
    if any(not np.allclose(piece[2][:3, :3], directions[:3, :3], atol=1e-6) for piece in pieces):
        raise SynthesisError(
            _("The segments of '{name}' lie on different grids.").format(name=node.GetName()), _("Choose one of them.")
        )
    # Segments of one grid share its origin; each holds only its own part of it, between two corners (x, y, z).
    low = np.min([piece[1] for piece in pieces], axis=0)
    high = np.max([piece[1] + piece[0].shape[::-1] for piece in pieces], axis=0)
    joined = np.zeros((high - low)[::-1], dtype=bool)  # (z, y, x)
    for voxels, corner, _matrix in pieces:
        x, y, z = corner - low
        depth, height, width = voxels.shape
        joined[z : z + depth, y : y + height, x : x + width] |= voxels != 0
    matrix = directions.copy()
    matrix[:3, 3] += matrix[:3, :3] @ low
    return joined, matrix


def _voxels(node: slicer.vtkMRMLNode, segmentId: str) -> tuple[Array, Array, Array] | None:
    """A segment's voxels (z, y, x), index (x, y, z) of the first, and the grid's 4x4 matrix; None if it has none."""
    image = slicer.vtkOrientedImageData()
    if not node.GetBinaryLabelmapRepresentation(segmentId, image):
        return None
    x0, x1, y0, y1, z0, z1 = image.GetExtent()
    scalars = image.GetPointData().GetScalars()
    if scalars is None or x1 < x0 or y1 < y0 or z1 < z0:
        return None
    voxels = numpy_support.vtk_to_numpy(scalars).reshape(z1 - z0 + 1, y1 - y0 + 1, x1 - x0 + 1)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return voxels, np.array([x0, y0, z0]), slicer.util.arrayFromVTKMatrix(matrix)
