"""What a comparison changes in the scene's views, crosshair and windows, kept so that it can be put back.

Everything is kept with the layout node: values as text in one attribute, nodes as references, which the scene itself
keeps right when it is saved, loaded or imported into another. So the way back outlives a reload of the module and a
saved scene. A node that is gone by then leaves its place empty.
"""

import json

import slicer

from SynthGANPanel.scene import views

ATTRIBUTE = "SynthGAN.FormerViews"
ROLE_PREFIX = "SynthGAN.Former."
PLOT_VIEW = "PlotView1"
CROSSHAIR = ("vtkMRMLCrosshairNode", "default")


def read(layout):
    """The kept values, None if no comparison was begun."""
    text = layout.GetAttribute(ATTRIBUTE)
    return json.loads(text) if text is not None else None


def write(layout, state):
    """Keep values; nodes have been kept by `keepNode`."""
    layout.SetAttribute(ATTRIBUTE, json.dumps(state))


def keepNode(layout, name, node):
    """Keep a node (or None) under a name."""
    layout.SetNodeReferenceID(ROLE_PREFIX + name, node.GetID() if node is not None else None)


def node(layout, name):
    """The node kept under a name, None if there was none or it is gone."""
    return layout.GetNodeReference(ROLE_PREFIX + name)


def begin(layout):
    """The state of a scene that is not yet compared: its layout and crosshair. Views are kept when first used."""
    crosshair = views.findOrMake(layout.GetScene(), *CROSSHAIR)
    return {
        "layout": layout.GetViewArrangement(),
        "views": {},
        "plots": [],
        "windows": {},
        "crosshair": [crosshair.GetCrosshairMode(), crosshair.GetCrosshairBehavior(), *crosshair.GetCrosshairRAS()],
    }


def keepView(layout, state, view):
    """Keep what a slice view shows, once."""
    if view in state["views"]:
        return
    scene = layout.GetScene()
    values = views.viewState(scene, view)
    for layer in views.LAYERS:
        nodeId = values.pop(layer)
        keepNode(layout, f"{view}.{layer}", scene.GetNodeByID(nodeId) if nodeId else None)
    state["views"][view] = values


def keepPlot(layout, state):
    """Keep which chart the plot view shows, once."""
    if PLOT_VIEW not in state["plots"]:
        plotView = views.plotViewNode(layout.GetScene(), PLOT_VIEW)
        keepNode(layout, PLOT_VIEW, plotView.GetPlotChartNode())
        state["plots"].append(PLOT_VIEW)


def keepWindow(layout, state, name, volume):
    """Keep how a volume is windowed, once per volume; `name` is its role in the comparison."""
    display = volume.GetDisplayNode()
    if name in state["windows"] or not hasattr(display, "GetWindow"):  # of colors there is none
        return
    keepNode(layout, f"window.{name}", display)
    keepNode(layout, f"colors.{name}", display.GetColorNode())
    state["windows"][name] = [display.GetAutoWindowLevel(), display.GetWindow(), display.GetLevel()]


def putBack(layout, state):
    """Put back what the views show, windows and crosshair; not yet the links, nor the arrangement of the views."""
    scene = layout.GetScene()
    views.unlink(scene, state["views"])
    for view, values in state["views"].items():
        layers = {layer: _idOf(node(layout, f"{view}.{layer}")) for layer in views.LAYERS}
        views.putBack(scene, view, {**values, **layers})
    for view in state["plots"]:
        views.plotViewNode(scene, view).SetPlotChartNodeID(_idOf(node(layout, view)))
    for name, window in state["windows"].items():
        _putWindowBack(node(layout, f"window.{name}"), node(layout, f"colors.{name}"), *window)
    crosshair = views.findOrMake(scene, *CROSSHAIR)
    mode, behavior, *position = state["crosshair"]
    with slicer.util.NodeModify(crosshair):
        crosshair.SetCrosshairMode(mode)
        crosshair.SetCrosshairBehavior(behavior)
        crosshair.SetCrosshairRAS(*position)


def putLinksBack(layout, state):
    """Restore the links of the views, at the very end, and remove what was kept."""
    for view, values in state["views"].items():
        views.putLinksBack(layout.GetScene(), view, values)
    forget(layout)


def forget(layout):
    """Remove what was kept."""
    roles = [layout.GetNthNodeReferenceRole(index) for index in range(layout.GetNumberOfNodeReferenceRoles())]
    with slicer.util.NodeModify(layout):
        for role in roles:
            if role and role.startswith(ROLE_PREFIX):
                layout.RemoveNodeReferenceIDs(role)
        layout.RemoveAttribute(ATTRIBUTE)


def _putWindowBack(display, colors, automatic, window, level):
    if display is None:
        return
    with slicer.util.NodeModify(display):
        display.SetAutoWindowLevel(automatic)
        if not automatic:
            display.SetWindowLevel(window, level)
        if colors is not None:
            display.SetAndObserveColorNodeID(colors.GetID())


def _idOf(kept):
    return kept.GetID() if kept is not None else None
