"""A real MRML scene from the slicer-core wheel, without Slicer's application.

The wheel brings Slicer's own C++ classes and `slicer.util`, but no application; of what the application
sets when it starts, only `slicer.mrmlScene` is set here. `slicer.app`, `slicer.modules` and Qt stay absent.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk


@dataclass
class HeadlessSlicer:
    """The scene and the logics that belong to it; `close` takes them away again."""

    scene: Any
    application_logic: Any
    remote_io: Any
    cache: Path

    def close(self) -> None:
        self.scene.RemoveAllObservers()
        self.scene.Clear(True)
        if getattr(slicer, "mrmlScene", None) is self.scene:
            del slicer.mrmlScene
        shutil.rmtree(self.cache)

    @property
    def subject_hierarchy(self) -> Any:
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)


def open_scene() -> HeadlessSlicer:
    """Make a scene as Slicer's application does at its start, and offer it as `slicer.mrmlScene`."""
    console = vtk.vtkOutputWindow()
    console.SetDisplayModeToAlwaysStdErr()  # the default would open a window on Windows
    vtk.vtkOutputWindow.SetInstance(console)

    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    hierarchy = slicer.vtkSlicerSubjectHierarchyModuleLogic()
    hierarchy.SetMRMLApplicationLogic(logic)
    hierarchy.SetMRMLScene(scene)
    logic.SetModuleLogic("SubjectHierarchy", hierarchy)
    scene.RegisterNodeClass(slicer.vtkMRMLSequenceBrowserNode())  # its module's logic does this, and much more
    scene.AddObserver(scene.NodeAddedEvent, _put_into_hierarchy)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, _take_from_hierarchy)

    cache = Path(tempfile.mkdtemp(prefix="synthgan-"))
    remote = slicer.vtkMRMLRemoteIOLogic()  # reading an .mrb needs its cache
    remote.SetMRMLScene(scene)
    remote.SetMRMLApplicationLogic(logic)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    remote.AddDataIOToScene()

    slicer.mrmlScene = scene
    return HeadlessSlicer(scene, logic, remote, cache)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _put_into_hierarchy(scene: Any, _event: str, node: Any) -> None:
    """Give a new volume or transform its place in the subject hierarchy, as the application's plugins do."""
    if not (node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLTransformNode")) or node.GetHideFromEditors():
        return
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is not None and hierarchy.GetItemByDataNode(node) == hierarchy.GetInvalidItemID():
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _take_from_hierarchy(scene: Any, _event: str, node: Any) -> None:
    """Take the item of a node that leaves the scene out of the subject hierarchy, as the plugins do."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is None or node is hierarchy or scene.IsClosing():
        return
    item = hierarchy.GetItemByDataNode(node)
    if item != hierarchy.GetInvalidItemID():
        hierarchy.RemoveItem(item, False, False)


def add_volume(scene: Any, volume: Any, name: str) -> Any:
    """A scalar volume node that holds a SynthGANLib volume (z, y, x), with a window that fits its values."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(volume.array))
    node.SetIJKToRASMatrix(lps_to_ras(volume.affine))
    node.CreateDefaultDisplayNodes()
    low, high = (float(value) for value in np.percentile(volume.array, (0.5, 99.5)))
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(low, max(high, low + 1e-3))
    return node


def lps_to_ras(affine: Any) -> Any:
    """The IJK-to-RAS matrix of Slicer for an index-to-LPS affine: the signs of x and y turn."""
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            value = float(affine[row][column])
            matrix.SetElement(row, column, 0.0 - value if row < 2 else value)
    return matrix


def save_scene(scene: Any, path: Path) -> None:
    """Write the scene with its volumes as one .mrb file, which replaces an older one only when complete.

    Raises:
        OSError: the file could not be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        part = Path(folder) / path.name  # the scene inside the bundle takes its name from the file's
        if not scene.WriteToMRB(str(part)):
            raise OSError(f"The scene could not be written to '{path}': check permissions and free space.")
        part.replace(path)


def load_scene(headless: HeadlessSlicer, path: Path) -> None:
    """Replace the scene's content by that of an .mrb file.

    Raises:
        OSError: the file could not be read.
    """
    if not headless.scene.ReadFromMRB(str(path), True, None):
        raise OSError(f"The scene '{path}' could not be read.")
