"""Source and result in linked slice views side by side, and the way back to what was there before.

Slicer's own side-by-side layout is used, so that a scene saved in it opens anywhere. What its two views showed, how
they lay and how they were linked is kept with the layout node and put back. While they are side by side the two
views form a group of their own: moving one moves the other and no third. Only MRML nodes are written to, hence the
same code runs with and without the application's windows.
"""

import json

import numpy as np
import slicer

SOURCE_VIEW = "Red"
RESULT_VIEW = "Yellow"
"""The two views of the side-by-side layout, left and right."""
VIEW_GROUP = 8603
"""Slicer itself numbers its view groups from 0."""
FORMER_STATE = "SynthGAN.FormerViews"
"""Attribute of the layout node, so that the way back outlives a module reload and a saved scene."""


def show(sourceNode, resultNode):
    """Show two volumes of one scene side by side in linked views that lie along the voxels of the source.

    :return: False where the scene has no layout to change (Slicer without a main window), True otherwise
    """
    scene = sourceNode.GetScene()
    layout = _layoutNode(scene)
    if layout is None:
        return False
    if not isShown(scene):
        state = {"layout": layout.GetViewArrangement()}
        state.update({view: viewState(scene, view) for view in (SOURCE_VIEW, RESULT_VIEW)})
        layout.SetAttribute(FORMER_STATE, json.dumps(state))
        layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    for view, volume in ((SOURCE_VIEW, sourceNode), (RESULT_VIEW, resultNode)):
        _showVolume(scene, view, volume, sourceNode)
    _fit(scene)
    _afterResizing(lambda: _fit(scene))
    return True


def isShown(scene):
    """Whether `show` was called and neither `restore` nor another choice of layout followed."""
    layout = _layoutNode(scene)
    return (
        layout is not None
        and layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
        and layout.GetAttribute(FORMER_STATE) is not None
    )


def restore(scene):
    """Put back the layout, layers, planes and links that `show` found.

    A layout that the user chose in the meantime stays; the two views are put back in any case.
    """
    layout = _layoutNode(scene)
    if layout is None or layout.GetAttribute(FORMER_STATE) is None:
        return
    state = json.loads(layout.GetAttribute(FORMER_STATE))
    wasShown = isShown(scene)
    layout.RemoveAttribute(FORMER_STATE)
    for view in (SOURCE_VIEW, RESULT_VIEW):
        _putBack(scene, view, state[view])
    if wasShown:
        layout.SetViewArrangement(state["layout"])


def sliceNode(scene, view):
    """The slice node (plane, zoom) of a view; made if there is none yet, as without the application's windows."""
    return _viewNode(scene, "vtkMRMLSliceNode", view)


def compositeNode(scene, view):
    """The composite node (layers, links) of a view; made if there is none yet."""
    return _viewNode(scene, "vtkMRMLSliceCompositeNode", view)


def viewState(scene, view):
    """Layers, links and plane of a view, as plain JSON values."""
    slices, composite = sliceNode(scene, view), compositeNode(scene, view)
    return {
        "background": composite.GetBackgroundVolumeID(),
        "foreground": composite.GetForegroundVolumeID(),
        "label": composite.GetLabelVolumeID(),
        "linked": composite.GetLinkedControl(),
        "hotLinked": composite.GetHotLinkedControl(),
        "group": slices.GetViewGroup(),
        "plane": slicer.util.arrayFromVTKMatrix(slices.GetSliceToRAS()).tolist(),
        "fieldOfView": list(slices.GetFieldOfView()),
        "origin": list(slices.GetXYZOrigin()),
    }


def _showVolume(scene, view, volumeNode, sourceNode):
    slices, composite = sliceNode(scene, view), compositeNode(scene, view)
    with slicer.util.NodeModify(composite):
        composite.SetBackgroundVolumeID(volumeNode.GetID())
        composite.SetForegroundVolumeID(None)
        composite.SetLabelVolumeID(None)
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(True)
    slices.SetViewGroup(VIEW_GROUP)
    slices.SetOrientationToAxial()  # both views start from the same plane, then turn to the voxels
    slices.RotateToVolumePlane(sourceNode)


def _fit(scene):
    """Zoom both views to their volumes, as far as there are views."""
    app = getattr(slicer, "app", None)
    if app is None or not isShown(scene):
        return
    for view in (SOURCE_VIEW, RESULT_VIEW):
        logic = app.applicationLogic().GetSliceLogic(sliceNode(scene, view))
        if logic is not None:
            logic.FitSliceToBackground()


def _afterResizing(function):
    """Call once the views have the size that the new layout gives them."""
    try:
        import qt
    except ImportError:
        return  # no windows, no sizes
    qt.QTimer.singleShot(0, function)


def _putBack(scene, view, state):
    slices, composite = sliceNode(scene, view), compositeNode(scene, view)
    with slicer.util.NodeModify(composite):
        composite.SetBackgroundVolumeID(_stillThere(scene, state["background"]))
        composite.SetForegroundVolumeID(_stillThere(scene, state["foreground"]))
        composite.SetLabelVolumeID(_stillThere(scene, state["label"]))
        composite.SetLinkedControl(state["linked"])
        composite.SetHotLinkedControl(state["hotLinked"])
    with slicer.util.NodeModify(slices):
        slices.SetViewGroup(state["group"])
        slices.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(np.asarray(state["plane"])))
        slices.SetFieldOfView(*state["fieldOfView"])
        slices.SetXYZOrigin(*state["origin"])
        slices.UpdateMatrices()


def _stillThere(scene, nodeId):
    return nodeId if nodeId and scene.GetNodeByID(nodeId) is not None else None


def _layoutNode(scene):
    return scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def _viewNode(scene, className, view):
    for index in range(scene.GetNumberOfNodesByClass(className)):
        node = scene.GetNthNodeByClass(index, className)
        if node.GetLayoutName() == view:
            return node
    node = scene.CreateNodeByClass(className)
    node.UnRegister(None)  # the scene owns it from here on
    node.SetLayoutName(view)
    node.SetSingletonTag(view)
    return scene.AddNode(node)
