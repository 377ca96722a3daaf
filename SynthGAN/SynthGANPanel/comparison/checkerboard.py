"""A volume whose cells show one volume and another in turn, each as the views show it.

Two modalities have no common unit, so the cells show pictures instead of values: window, level and colors of
each volume's own display, made by Slicer's own display pipeline. The cells are cubes along the voxel axes.
"""

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SynthGANPanel.i18n import _
from SynthGANPanel.scene import temporaryNodes
from SynthGANPanel.scene.resampling import Sampler, dimensions, slabs

KIND = "checkerboard"
OUTSIDE_COLOR = (60, 60, 90)
"""Where a volume does not reach. No gray, hence no value of a windowed image."""


def parity(counts, spacing, cellMm, firstSlice=0):
    """Whether each voxel belongs to the first volume: (k, j, i) of bool, cells counted from the grid's first voxel.

    :param counts: (i, j, k) voxels
    :param spacing: (i, j, k) in mm
    :param cellMm: side of a cell; never less than one voxel
    """
    start = (0, 0, firstSlice)
    cells = [
        (np.floor((np.arange(count) + begin) * step / max(cellMm, step) + 1e-6)).astype(int)
        for count, step, begin in zip(counts, spacing, start, strict=True)
    ]
    total = cells[2][:, None, None] + cells[1][None, :, None] + cells[0][None, None, :]  # (k, j, i)
    return total % 2 == 0


def steps(firstNode, secondNode, cellMm):
    """Make (or renew) the checkerboard of two volumes on the grid of the second, in steps.

    Yields the fraction done; the scene is changed after the last step only. Returns the volume node.
    """
    columns, rows, slices = dimensions(secondNode)
    colors = np.empty((slices, rows, columns, 3), np.uint8)
    pictures = [(Sampler(node, secondNode), Picture(node)) for node in (firstNode, secondNode)]
    for first, end in slabs(secondNode):
        pair = [picture.colors(sampler.slab(first, end)) for sampler, picture in pictures]
        isFirst = parity((columns, rows, end - first), secondNode.GetSpacing(), cellMm, first)
        colors[first:end] = np.where(isFirst[..., None], *pair)
        yield end / slices
    temporaryNodes.checkPresent(firstNode, secondNode)
    name = _("Checkerboard of {first} and {second}").format(first=firstNode.GetName(), second=secondNode.GetName())
    return temporaryNodes.fillVolume("vtkMRMLVectorVolumeNode", name, KIND, colors, secondNode)


class Picture:
    """What a slice view makes of a volume's voxels: window, level, threshold and colors of its display node."""

    def __init__(self, node):
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        # A copy, as a slice view has one: the volume's own display node keeps showing the whole volume.
        self._display = getattr(slicer, node.GetDisplayNode().GetClassName())()
        self._display.CopyWithScene(node.GetDisplayNode())
        if self._display.IsA("vtkMRMLScalarVolumeDisplayNode"):
            # An automatic window would be found anew for each slab: the one of the whole volume holds for all.
            self._display.SetAutoWindowLevel(False)
            self._display.SetWindowLevel(node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel())
        self._producer = vtk.vtkTrivialProducer()
        self._isColor = node.GetImageData().GetNumberOfScalarComponents() >= 3

    def colors(self, voxels):
        """Voxels (k, j, i) or (k, j, i, c), NaN outside, as (k, j, i, 3) colors of uint8."""
        shape = voxels.shape[:3]
        outside = np.isnan(voxels if voxels.ndim == 3 else voxels[..., 0])
        values = np.nan_to_num(voxels, nan=0.0)
        if self._isColor:  # interpolated ones are float, but displayed are bytes
            values = np.clip(np.round(values), 0, 255).astype(np.uint8)
        image = vtk.vtkImageData()
        image.SetDimensions(shape[2], shape[1], shape[0])
        flat = np.ascontiguousarray(values).reshape(outside.size, -1)  # (k, j, i[, c]) -> (k * j * i, c)
        image.GetPointData().SetScalars(numpy_to_vtk(flat))
        self._producer.SetOutput(image)
        self._display.SetInputImageDataConnection(self._producer.GetOutputPort())
        output = self._display.GetOutputImageDataConnection().GetProducer()
        output.Update()
        rgba = vtk_to_numpy(output.GetOutputDataObject(0).GetPointData().GetScalars())
        rgba = rgba.reshape(*shape, -1)  # (k * j * i, 4) -> (k, j, i, 4)
        visible = rgba[..., :3] * (rgba[..., 3:] > 0)
        return np.where(outside[..., None], np.array(OUTSIDE_COLOR, np.uint8), visible)
