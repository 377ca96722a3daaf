"""What Slicer's own slice pipeline shows: the synthetic volume lies on its source in every cut, not blank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from SynthGANLib.image.volume import Volume
from SynthGANPanel.comparison import compare
from Testing.Headless.scene import add_volume
from Testing.Headless.slices import ORIENTATIONS, SliceView, bounds_centre, extent


@pytest.fixture(scope="module")
def pair(headless: Any, logic: Any, identity_model: str, oblique: Volume) -> Any:
    """A source under a rotation and its synthetic counterpart, both windowed alike."""
    scene = headless.scene
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn")
    turned = vtk.vtkTransform()
    turned.RotateX(20.0)
    turned.Translate(3.0, 0.0, -60.0)
    transform.SetMatrixTransformToParent(turned.GetMatrix())
    source = add_volume(scene, oblique, "source")
    source.SetAndObserveTransformNodeID(transform.GetID())
    result = logic.synthesize(source, model=identity_model, device="cpu")
    for node in (source, result):
        node.GetDisplayNode().AutoWindowLevelOff()
        node.GetDisplayNode().SetWindowLevelMinMax(-900.0, 720.0)
    yield source, result
    for node in (source, result, transform):
        scene.RemoveNode(node)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_source_and_result_look_the_same(headless: Any, pair: Any, orientation: str) -> None:
    source, result = pair
    count = headless.scene.GetNumberOfNodes()
    view = SliceView(headless, orientation, (120, 90), 1.1 * extent(source), bounds_centre(source))
    pictures = [view.picture(node) for node in (source, result)]
    view.close()
    assert headless.scene.GetNumberOfNodes() == count
    assert pictures[0].shape == (90, 120, 3)
    assert np.mean(pictures[0] > 0) > 0.1
    assert len(np.unique(pictures[0])) > 20
    np.testing.assert_array_equal(pictures[0], pictures[1])


def test_a_shift_by_one_voxel_would_be_seen(headless: Any, pair: Any) -> None:
    source, _ = pair
    view = SliceView(headless, "Axial", (120, 90), 1.1 * extent(source), bounds_centre(source))
    before = view.picture(source)
    matrix = vtk.vtkMatrix4x4()
    source.GetIJKToRASMatrix(matrix)
    kept = vtk.vtkMatrix4x4()
    kept.DeepCopy(matrix)
    for row in range(3):
        matrix.SetElement(row, 3, kept.GetElement(row, 3) + kept.GetElement(row, 1))
    source.SetIJKToRASMatrix(matrix)
    after = view.picture(source)
    source.SetIJKToRASMatrix(kept)
    view.close()
    assert np.mean(before[before > 0] != after[before > 0]) > 0.5


def test_a_picture_shows_the_place_it_says(headless: Any, scene: Any) -> None:
    """One bright voxel left of, anterior to and above the middle appears right, up, and only in its slice."""
    array = np.zeros((21, 21, 21), np.float32)
    array[15, 5, 14] = 100.0  # index to LPS by the unit matrix: left 4 mm, anterior 5 mm, superior 5 mm
    node = add_volume(scene, Volume(array, np.diag([1.0, 1.0, 1.0, 1.0])), "point")
    node.GetDisplayNode().SetWindowLevelMinMax(0.0, 100.0)
    node.GetDisplayNode().SetInterpolate(False)
    at = np.array([-14.0, -5.0, 15.0])  # the same place in RAS
    middle = bounds_centre(node)
    for orientation, offset, place in (
        ("Axial", (0, 0, 5.0), (4, -5)),  # (columns to the right, rows down) from the middle: left is right
        ("Coronal", (0, 5.0, 0), (4, -5)),
        ("Sagittal", (-4.0, 0, 0), (-5, -5)),  # anterior is left
    ):
        view = SliceView(headless, orientation, (210, 210), 21.0, middle + offset)
        rows, columns = np.nonzero(view.picture(node)[..., 0] == 255)
        view.close()
        assert len(rows) == 100, (orientation, at)  # one voxel, ten pixels wide
        assert (round((columns.mean() - 104.5) / 10), round((rows.mean() - 104.5) / 10)) == place, orientation


def test_side_by_side_and_back(headless: Any, pair: Any) -> None:
    source, result = pair
    scene = headless.scene
    layout = slicer.vtkMRMLLayoutNode()
    layout.AddLayoutDescription(layout.SlicerLayoutSideBySideView, "<layout type='horizontal'/>")
    layout.AddLayoutDescription(layout.SlicerLayoutOneUpRedSliceView, "<layout type='horizontal'/>")
    scene.AddNode(layout)
    layout.SetViewArrangement(layout.SlicerLayoutOneUpRedSliceView)
    red = compare.compositeNode(scene, compare.SOURCE_VIEW)
    yellow = compare.compositeNode(scene, compare.RESULT_VIEW)
    assert compare.show(source, result)
    assert layout.GetViewArrangement() == layout.SlicerLayoutSideBySideView
    assert (red.GetBackgroundVolumeID(), yellow.GetBackgroundVolumeID()) == (source.GetID(), result.GetID())
    assert red.GetLinkedControl()
    assert yellow.GetLinkedControl()
    planes = [
        slicer.util.arrayFromVTKMatrix(compare.sliceNode(scene, view).GetSliceToRAS())
        for view in (compare.SOURCE_VIEW, compare.RESULT_VIEW)
    ]
    np.testing.assert_array_equal(*planes)
    compare.restore(scene)
    assert layout.GetViewArrangement() == layout.SlicerLayoutOneUpRedSliceView
    assert red.GetBackgroundVolumeID() is None
    assert yellow.GetBackgroundVolumeID() is None
    scene.RemoveNode(layout)
