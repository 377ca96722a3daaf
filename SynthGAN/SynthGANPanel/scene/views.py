"""The MRML nodes behind the views: finding them, and what they show as plain values and back.

Only nodes are written to, hence the same code runs with and without the application's windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array

LAYERS = ("background", "foreground", "label")
OWN_LAYERS = 0
"""Flags of what a view passes on to linked views: no volume and no opacity."""


def layoutNode(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLNode | None:
    """The node of the layout of views, None in a scene without windows."""
    return scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def sliceNode(scene: slicer.vtkMRMLScene, view: str) -> slicer.vtkMRMLNode:
    """The slice node (plane, zoom) of a view; made if there is none yet, as without the application's windows."""
    return findOrMake(scene, "vtkMRMLSliceNode", view)


def compositeNode(scene: slicer.vtkMRMLScene, view: str) -> slicer.vtkMRMLNode:
    """The composite node (layers, links) of a view; made if there is none yet."""
    return findOrMake(scene, "vtkMRMLSliceCompositeNode", view)


def plotViewNode(scene: slicer.vtkMRMLScene, view: str) -> slicer.vtkMRMLNode:
    """The node of a plot view; made if there is none yet."""
    return findOrMake(scene, "vtkMRMLPlotViewNode", view)


def find(scene: slicer.vtkMRMLScene, className: str, tag: str) -> slicer.vtkMRMLNode | None:
    """The singleton node of a class and tag, None if there is none."""
    for index in range(scene.GetNumberOfNodesByClass(className)):
        node = scene.GetNthNodeByClass(index, className)
        if node.GetSingletonTag() == tag:
            return node
    return None


def findOrMake(scene: slicer.vtkMRMLScene, className: str, tag: str) -> slicer.vtkMRMLNode:
    """The singleton node of a class and tag."""
    node = find(scene, className, tag)
    if node is not None:
        return node
    node = scene.CreateNodeByClass(className)
    node.UnRegister(None)  # the scene owns it from here on
    node.SetSingletonTag(tag)  # of view nodes, the layout's name too
    if className == "vtkMRMLSliceNode":
        _looksAsInSlicer(node, tag)
    return scene.AddNode(node)


def _looksAsInSlicer(node: slicer.vtkMRMLNode, view: str) -> None:
    """Set the name, letter and color that the application gives its views, so that a saved scene has them."""
    node.SetName(view)
    node.SetLayoutLabel(view[:1] + ("+" if view.endswith("+") else ""))
    colors = {"Red": node.GetRedColor, "Yellow": node.GetYellowColor, "Green": node.GetGreenColor}
    if view in colors:
        node.SetLayoutColor(colors[view]())


def viewState(scene: slicer.vtkMRMLScene, view: str) -> dict[str, Any]:
    """Layers, links and plane of a view, as plain JSON values."""
    slices, composite = sliceNode(scene, view), compositeNode(scene, view)
    return {
        "background": composite.GetBackgroundVolumeID(),
        "foreground": composite.GetForegroundVolumeID(),
        "label": composite.GetLabelVolumeID(),
        "foregroundOpacity": composite.GetForegroundOpacity(),
        "labelOpacity": composite.GetLabelOpacity(),
        "compositing": composite.GetCompositing(),
        "clip": composite.GetClipToBackgroundVolume(),
        "linked": composite.GetLinkedControl(),
        "hotLinked": composite.GetHotLinkedControl(),
        "broadcast": composite.GetInteractionFlagsModifier(),
        "group": slices.GetViewGroup(),
        "plane": plane(slices).tolist(),
        "fieldOfView": list(slices.GetFieldOfView()),
        "dimensions": list(slices.GetDimensions()[:2]),
        "origin": list(slices.GetXYZOrigin()),
    }


def unlink(scene: slicer.vtkMRMLScene, names: Iterable[str]) -> None:
    """Unlink views, so that each can have its own layers."""
    for view in names:
        putLinksBack(scene, view, {"linked": False, "hotLinked": False, "broadcast": OWN_LAYERS})


def linkPlanes(scene: slicer.vtkMRMLScene, names: Iterable[str]) -> None:
    """Link the planes and zoom of views, but not their layers.

    Without that, Slicer gives all linked views the same volume not only when the user chooses one but also when a
    volume is removed from the scene, because then the list of volumes that each view has is set up anew.
    """
    for view in names:
        putLinksBack(scene, view, {"linked": True, "hotLinked": True, "broadcast": OWN_LAYERS})


def putBack(scene: slicer.vtkMRMLScene, view: str, state: dict[str, Any]) -> None:
    """Restore the state that `viewState` returned, except for links; layers whose volume was removed become empty."""
    slices, composite = sliceNode(scene, view), compositeNode(scene, view)
    with slicer.util.NodeModify(composite):
        composite.SetBackgroundVolumeID(stillThere(scene, state["background"]))
        composite.SetForegroundVolumeID(stillThere(scene, state["foreground"]))
        composite.SetLabelVolumeID(stillThere(scene, state["label"]))
        composite.SetForegroundOpacity(state["foregroundOpacity"])
        composite.SetLabelOpacity(state["labelOpacity"])
        composite.SetCompositing(state["compositing"])
        composite.SetClipToBackgroundVolume(state["clip"])
    with slicer.util.NodeModify(slices):
        slices.SetViewGroup(state["group"])
        setPlane(slices, state["plane"])
        slices.SetFieldOfView(*resized(state["fieldOfView"], state.get("dimensions"), slices.GetDimensions()))
        slices.SetXYZOrigin(*state["origin"])


def resized(fieldOfView: Sequence[float], before: Sequence[int] | None, now: Sequence[int]) -> Sequence[float]:
    """The field of view (mm, three numbers) of a view that had `before` pixels (x, y) and has `now`.

    By Slicer's own rule for a window that is resized (vtkMRMLSliceLogic::ResizeSliceNode), which is its own
    inverse when the former size returns: a view that was stored with another window shape is not distorted.
    """
    if not before or min(*before, *now[:2]) < 1:
        return fieldOfView
    x, y, depth = fieldOfView
    wider, higher = (new / old for new, old in zip(now[:2], before, strict=True))
    if max(wider, 1 / wider) < max(higher, 1 / higher):
        return [x, y * higher / wider, depth]
    return [x * wider / higher, y, depth]


def putLinksBack(scene: slicer.vtkMRMLScene, view: str, state: dict[str, Any]) -> None:
    """Restore the links that `viewState` returned, after all views were restored."""
    composite = compositeNode(scene, view)
    with slicer.util.NodeModify(composite):
        composite.SetLinkedControl(state["linked"])
        composite.SetHotLinkedControl(state["hotLinked"])
        composite.SetInteractionFlagsModifier(state["broadcast"])


def setLayers(
    composite: slicer.vtkMRMLNode,
    background: slicer.vtkMRMLNode | None,
    foreground: slicer.vtkMRMLNode | None = None,
    opacity: float = 0.0,
) -> None:
    """Show volumes (nodes or None) in a view, blended in the ordinary way and without labels."""
    with slicer.util.NodeModify(composite):
        composite.SetBackgroundVolumeID(_idOf(background))
        composite.SetForegroundVolumeID(_idOf(foreground))
        composite.SetLabelVolumeID(None)
        composite.SetForegroundOpacity(opacity)
        composite.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha)


def showEverywhere(volume: slicer.vtkMRMLVolumeNode) -> None:
    """Show a volume alone in all slice views that there are, zoomed to it, as Slicer does with one just loaded."""
    scene = volume.GetScene()
    composites = list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene))
    for composite in composites:
        setLayers(composite, volume)
    fit(scene, [composite.GetLayoutName() for composite in composites])


def plane(slices: slicer.vtkMRMLNode) -> Array:
    """The 4x4 SliceToRAS matrix of a slice node."""
    return slicer.util.arrayFromVTKMatrix(slices.GetSliceToRAS())


def setPlane(slices: slicer.vtkMRMLNode, matrix: Array) -> None:
    """Put a slice node into the plane of a 4x4 SliceToRAS matrix."""
    slices.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(np.asarray(matrix, dtype=float)))
    slices.UpdateMatrices()


def fit(scene: slicer.vtkMRMLScene, names: Iterable[str]) -> None:
    """Zoom views to their volumes, as far as there are views; the slices stay where they are."""
    app = getattr(slicer, "app", None)
    if app is None:
        return
    for view in names:
        slices = sliceNode(scene, view)
        logic = app.applicationLogic().GetSliceLogic(slices)
        if logic is not None:
            offset = slices.GetSliceOffset()
            logic.FitSliceToBackground()
            slices.SetSliceOffset(offset)


def renderSpaces() -> None:
    """Draw the 3D views anew, as far as there are any; they are not redrawn when the crosshair is hidden."""
    app = getattr(slicer, "app", None)
    manager = app.layoutManager() if app is not None else None
    if manager is None:
        return
    for index in range(manager.threeDViewCount):
        manager.threeDWidget(index).threeDView().scheduleRender()


def stillThere(scene: slicer.vtkMRMLScene, nodeId: str | None) -> Any | None:
    """The id of a node if the scene has it, else None."""
    return nodeId if nodeId and scene.GetNodeByID(nodeId) is not None else None


def _idOf(node: slicer.vtkMRMLNode | None) -> str | None:
    return node.GetID() if node is not None else None
