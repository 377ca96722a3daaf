"""Volumes and a layout for the tests of comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from SynthGANPanel.scene import nodes, views
from Testing.Mrml.scene_cases import nodes_of

SHAPE = (6, 8, 10)  # z, y, x
VIEW_CLASSES = ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode", "vtkMRMLPlotViewNode", "vtkMRMLCrosshairNode")


@pytest.fixture
def layout(scene: Any) -> Iterator[Any]:
    """The layout node with Slicer's own layouts and the views of one of them, gone afterwards."""
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    bars = ViewBars(scene)
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    register_legend(scene)
    yield node
    scene.RemoveNode(node)
    logic.SetMRMLScene(None)
    bars.close()


class ViewBars:
    """The bars above Slicer's slice views: a layer that a linked view is given, all linked ones of its group get.

    In the application it is their selectors that do so, as if the user had chosen, and also when a volume is removed
    from the scene and their lists become shorter.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._shown: dict[str, Any] = {}
        self._broadcasting = False
        self._tags: dict[Any, int] = {}
        self._sceneTags = [
            scene.AddObserver(scene.NodeAddedEvent, self._watch),
            scene.AddObserver(scene.NodeRemovedEvent, self._removed),
        ]
        self._watch()

    def close(self) -> None:
        for tag in self._sceneTags:
            self._scene.RemoveObserver(tag)
        for node, tag in self._tags.items():
            node.RemoveObserver(tag)

    def _watch(self, *_: Any) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", self._scene):
            if node not in self._tags:
                self._tags[node] = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._modified)

    def _modified(self, changed: Any, _event: str) -> None:
        layers = (changed.GetBackgroundVolumeID(), changed.GetForegroundVolumeID())
        if self._shown.get(changed.GetID()) == layers:
            return
        self._shown[changed.GetID()] = layers
        self._broadcast(changed)

    def _removed(self, *_: Any) -> None:
        for composite in list(self._tags):
            if composite.GetScene() is not None and composite.GetBackgroundVolumeID():
                self._broadcast(composite)

    def _broadcast(self, changed: Any) -> None:
        layers = (changed.GetBackgroundVolumeID(), changed.GetForegroundVolumeID())
        if not changed.GetInteractionFlagsModifier() & changed.BackgroundVolumeFlag:
            return
        if self._broadcasting or not changed.GetLinkedControl():
            return
        self._broadcasting = True
        for other in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", self._scene):
            groups = [views.sliceNode(self._scene, node.GetLayoutName()).GetViewGroup() for node in (changed, other)]
            if other.GetLinkedControl() and groups[0] == groups[1]:
                other.SetBackgroundVolumeID(layers[0])
                other.SetForegroundVolumeID(layers[1])
        self._broadcasting = False


def register_legend(scene: Any) -> None:
    """What Slicer's Colors module does at its start."""
    if not scene.IsNodeClassRegistered("vtkMRMLColorLegendDisplayNode"):
        scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())


def oblique(spacing: tuple[float, float, float] = (0.9, 1.1, 2.5), turned: bool = True) -> np.ndarray:
    """An IJK-to-RAS matrix, by a rotation of whole numbers of thirds unless not turned."""
    matrix = np.eye(4)
    if turned:
        matrix[:3, :3] = np.array([[1, 2, 2], [2, 1, -2], [2, -2, 1]]) / 3.0
    matrix[:3, 3] = (5.0, -7.0, 11.0)
    return matrix @ np.diag([*spacing, 1.0])


def add(scene: Any, array: np.ndarray, name: str, unit: str | None = None, matrix: np.ndarray | None = None) -> Any:
    """A volume node (colors if the array has a fourth axis) that states its unit if one is given."""
    className = "vtkMRMLVectorVolumeNode" if array.ndim == 4 else "vtkMRMLScalarVolumeNode"
    node = scene.AddNewNodeByClass(className, name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique() if matrix is None else matrix))
    node.CreateDefaultDisplayNodes()
    if unit is not None:
        quantity, units = nodes.QUANTITIES[unit]
        for code, setter in ((quantity, node.SetVoxelValueQuantity), (units, node.SetVoxelValueUnits)):
            entry = slicer.vtkCodedEntry()
            entry.SetValueSchemeMeaning(*code)
            setter(entry)
    return node


def synthetic(node: Any) -> Any:
    """Mark a volume as a synthesis's result."""
    node.SetAttribute("SynthGAN.ModelId", "test")
    return node


def values(seed: int = 0, low: float = -1000.0, high: float = 1000.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, SHAPE).astype(np.float32)


def everything(scene: Any) -> dict[str, Any]:
    """All that a comparison could leave behind: the nodes, but for the views', and what views and crosshair show."""
    layout = views.layoutNode(scene)
    kept = {node.GetID(): node.GetName() for node in nodes_of(scene) if node.GetClassName() not in VIEW_CLASSES}
    crosshair = views.findOrMake(scene, "vtkMRMLCrosshairNode", "default")
    shown = {view: views.viewState(scene, view) for view in ("Red", "Green", "Yellow")}
    for state in shown.values():
        state["plane"] = np.round(state["plane"], 9).tolist()
    return {
        "nodes": kept,
        "layout": layout.GetViewArrangement(),
        "attributes": list(layout.GetAttributeNames()),
        "references": [
            role for role in (layout.GetNthNodeReferenceRole(i) for i in range(layout.GetNumberOfNodeReferenceRoles()))
            if layout.GetNodeReferenceID(role)
        ],
        "views": shown,
        "crosshair": (
            crosshair.GetCrosshairMode(), crosshair.GetCrosshairBehavior(), tuple(crosshair.GetCrosshairRAS())
        ),
    }  # fmt: skip


def translation(scene: Any, *offset: float) -> Any:
    """A transform node that moves by an offset in mm."""
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Move")
    moved = vtk.vtkTransform()
    moved.Translate(*offset)
    node.SetMatrixTransformToParent(moved.GetMatrix())
    return node
