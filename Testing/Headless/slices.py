"""Pictures from Slicer's own slice pipeline: what a slice view shows, as an array, without window or OpenGL.

A slice logic reslices, windows and colors its layers in image filters; only the last step, putting the
result on the screen, needs a render window. Here the filters' output is taken instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

ORIENTATIONS = ("Axial", "Coronal", "Sagittal")
# Anatomical letters at the left, right, upper and lower edge of Slicer's default views.
EDGE_LETTERS = {"Axial": "RLAP", "Coronal": "RLSI", "Sagittal": "APSI"}


class SliceView:
    """One slice view of a scene, of a given size and field of view, cut at one place of the patient."""

    def __init__(self, headless: Any, orientation: str, pixels: tuple[int, int], width_mm: float, centre: Any) -> None:
        """
        Args:
            headless: the HeadlessSlicer whose nodes are shown.
            orientation: "Axial", "Coronal" or "Sagittal".
            pixels: width and height of the picture.
            width_mm: what the width shows; the height follows.
            centre: RAS position in mm in the middle of the picture.
        """
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(headless.application_logic)
        self._logic.SetMRMLScene(headless.scene)
        self._scene = headless.scene
        self._node = self._logic.AddSliceNode(headless.scene.GenerateUniqueName(f"Picture{orientation}"))
        self._node.SetOrientation(orientation)
        self._node.SetDimensions(pixels[0], pixels[1], 1)
        self._node.SetFieldOfView(width_mm, width_mm * pixels[1] / pixels[0], 1.0)
        matrix = self._node.GetSliceToRAS()
        for row in range(3):
            matrix.SetElement(row, 3, float(centre[row]))
        self._node.UpdateMatrices()

    def picture(self, volume_node: Any) -> np.ndarray:
        """What the view shows with this volume as background: uint8 (height, width, 3), black beyond it."""
        composite = self._logic.GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(volume_node.GetID())
        self._logic.UpdatePipeline()
        source = self._logic.GetImageDataConnection().GetProducer()
        source.Update()
        image = source.GetOutputDataObject(0)
        width, height, _ = image.GetDimensions()
        rgba = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1].astype(np.float32)
        opacity = rgba[..., 3:4] / 255.0
        return (rgba[..., :3] * opacity).round().astype(np.uint8)

    def close(self) -> None:
        """Take the view's nodes out of the scene again."""
        composite = self._logic.GetSliceCompositeNode()
        model = self._logic.GetSliceModelNode()
        display, transform = self._logic.GetSliceModelDisplayNode(), self._logic.GetSliceModelTransformNode()
        self._logic.SetMRMLScene(None)
        for node in (model, display, transform, composite, self._node):
            if node is not None and self._scene.IsNodePresent(node):
                self._scene.RemoveNode(node)


def bounds_centre(volume_node: Any) -> np.ndarray:
    """RAS position in mm of the middle of a volume, its parent transform included."""
    bounds = np.zeros(6)
    volume_node.GetRASBounds(bounds)
    return bounds.reshape(3, 2).mean(axis=1)


def extent(volume_node: Any) -> float:
    """The largest side in mm of the box around a volume in the patient's axes."""
    bounds = np.zeros(6)
    volume_node.GetRASBounds(bounds)
    return float(np.ptp(bounds.reshape(3, 2), axis=1).max())


def add_difference_colours(scene: Any) -> Any:
    """A color table for differences: blue below, black at zero, red above."""
    node = scene.AddNewNodeByClass("vtkMRMLColorTableNode", "Difference")
    node.SetTypeToUser()
    node.SetNumberOfColors(256)
    for index, (red, green, blue) in enumerate(difference_colours(256)):
        node.SetColor(index, float(red), float(green), float(blue), 1.0)
    node.GetLookupTable().SetRange(0, 255)
    return node


def difference_colours(count: int) -> np.ndarray:
    """(count, 3) colors in 0..1 from pale blue over black to pale orange: what is black needs no look."""
    at = (0.0, 0.12, 0.5, 1.0)
    cold = ((0.0, 0.0, 0.0), (0.0, 0.16, 0.45), (0.1, 0.5, 1.0), (0.8, 0.93, 1.0))
    warm = ((0.0, 0.0, 0.0), (0.4, 0.1, 0.0), (1.0, 0.38, 0.08), (1.0, 0.9, 0.7))
    t = np.linspace(-1.0, 1.0, count)
    sides = [
        np.stack([np.interp(np.abs(t), at, channel) for channel in zip(*side, strict=True)], axis=1)
        for side in (cold, warm)
    ]
    return np.where(t[:, None] < 0, *sides)
