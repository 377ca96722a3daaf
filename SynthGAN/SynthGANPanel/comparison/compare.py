"""Source, result and reference in Slicer's own views, in several ways, and the way back to what was there before.

Only Slicer's own layouts are used, so that a scene saved in one opens anywhere. What the views showed, how they lay
and how they were linked is kept with the layout node and put back. While volumes are compared their views form a
group of their own: moving one moves the others of the group and no further ones. Only MRML nodes are written to,
hence the same code runs with and without the application's windows; what runs by itself (blinking, following the
mouse or a line) is in `liveComparison`.
"""

import collections

import slicer

from SynthGANPanel.comparison import checkerboard, difference, formerState, profile, reveal
from SynthGANPanel.comparison.modes import LAYERED, Against, CompareMode
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import resampling, temporaryNodes, views
from SynthGANPanel.scene.views import compositeNode, layoutNode, sliceNode, viewState  # noqa: F401 - part of this module

SOURCE_VIEW = "Red"
RESULT_VIEW = "Yellow"
"""The two views of the side-by-side layout, left and right."""
VIEW_GROUP = 8603
"""Slicer itself numbers its view groups from 0."""
COLUMNS = ("Red", "Green", "Yellow")
"""The views of Slicer's three-over-three layout, from left to right; the second row is "Red+" and so on."""
LEAD_VIEWS = {"Axial": "Red", "Coronal": "Red+"}
"""All views of one orientation lie in the plane of one of them."""
VIEWS = (*COLUMNS, *(f"{view}+" for view in COLUMNS))

Choices = collections.namedtuple(
    "Choices",
    "mode against fade cellMm differenceRange line crosshair",
    defaults=(CompareMode.SIDE_BY_SIDE, Against.SOURCE, 0.5, 20.0, 0.0, None, True),
)
"""How to compare: mode and volume to lay over (enums), part of the synthetic volume (0 to 1), side of the cells in
mm, value at the ends of the colors (0: found), line of the profile (None: made), whether views share a crosshair."""
Comparison = collections.namedtuple("Comparison", "mode against source result reference line crosshair")
"""What is compared at the moment; a node that was removed meanwhile is None."""
Pane = collections.namedtuple("Pane", "view background foreground opacity orientation", defaults=(None, 0.0, "Axial"))
"""What one view is to show."""


def choicesFor(mode, against, **others):
    """`Choices` by the names of way and volume ("fade", "reference"), and further fields of it.

    :raises SynthesisError: for a name that nothing has
    """
    try:
        return Choices(CompareMode(mode), Against(against), **others)
    except ValueError as error:
        names = [", ".join(f"'{each.value}'" for each in kind) for kind in (CompareMode, Against)]
        raise SynthesisError(
            _("Volumes cannot be compared by '{mode}' with '{against}'.").format(mode=mode, against=against),
            _("Choose from {modes}, and with {volumes}.").format(modes=names[0], volumes=names[1]),
        ) from error


def show(sourceNode, resultNode, referenceNode=None, choices=None):
    """Compare volumes of one scene in linked views that lie along the voxels of the source.

    :param choices: `Choices`; side by side if None
    :return: False where the scene has no layout to change (Slicer without a main window), True otherwise
    :raises SynthesisError: where the volumes cannot be compared in the chosen way; nothing has changed then
    """
    for _fraction in steps(sourceNode, resultNode, referenceNode, choices):
        pass
    return layoutNode(resultNode.GetScene()) is not None


def steps(sourceNode, resultNode, referenceNode=None, choices=None):
    """What `show` does, in steps short enough for an application that must stay alive; yields the fraction computed.

    The views change at the very end; whoever stops earlier has changed nothing.
    """
    choices = choices or Choices()
    layout = layoutNode(resultNode.GetScene())
    if layout is None:
        return
    reason = obstacle(choices, sourceNode, resultNode, referenceNode)
    if reason:
        raise SynthesisError(reason)
    derived = None
    over = overlaid(choices.mode, choices.against, sourceNode, referenceNode)
    if choices.mode is CompareMode.CHECKERBOARD:
        derived = yield from checkerboard.steps(over, resultNode, choices.cellMm)
    elif choices.mode is CompareMode.DIFFERENCE:
        derived = yield from difference.steps(resultNode, over, choices.differenceRange)
    _arrange(layout, choices, (sourceNode, resultNode, referenceNode), over, derived)


def obstacle(choices, sourceNode, resultNode, referenceNode):
    """Why the volumes cannot be compared in the chosen way, "" if they can."""
    if sourceNode is None and resultNode is not None:
        return _("The synthetic volume was made without an input: there is no source to compare it with.")
    if resultNode is None:
        return _("There is no synthetic volume of the chosen input yet.")
    for node in filter(None, (sourceNode, resultNode, referenceNode)):
        if node.GetImageData() is None:
            return _("'{name}' holds no voxels.").format(name=node.GetName())
    if choices.mode is CompareMode.DIFFERENCE:
        return difference.obstacle(resultNode, sourceNode, referenceNode)
    if choices.mode is CompareMode.REVEAL and reveal.obstacle():
        return reveal.obstacle()
    if choices.mode in LAYERED and choices.against is Against.REFERENCE and referenceNode is None:
        return _("Choose a reference to compare with, or compare with the source.")
    return ""


def overlaid(mode, against, sourceNode, referenceNode):
    """The volume that the synthetic one is laid over, or that is subtracted from it."""
    if mode is CompareMode.DIFFERENCE:
        return referenceNode or sourceNode
    return referenceNode if against is Against.REFERENCE else sourceNode


def showsOther(before, choices):
    """Whether other choices need other views or layers, and not just another look of the same."""
    if (before.mode, before.crosshair) != (choices.mode, choices.crosshair):
        return True
    if choices.mode is CompareMode.PROFILE:
        return before.line is not choices.line
    return choices.mode in LAYERED and before.against is not choices.against


def isShown(scene):
    """Whether `show` was called and neither `restore` nor another choice of layout followed."""
    layout = layoutNode(scene)
    state = formerState.read(layout) if layout is not None else None
    return state is not None and layout.GetViewArrangement() == state["shown"]


def isLeft(scene):
    """Whether the user chose another layout while volumes were compared: `restore` then has still to clear up."""
    layout = layoutNode(scene)
    return layout is not None and formerState.read(layout) is not None and not isShown(scene)


def current(scene):
    """What is compared at the moment (`Comparison`), None if nothing is."""
    if not isShown(scene):
        return None
    layout = layoutNode(scene)
    state = formerState.read(layout)
    compared = [formerState.node(layout, name) for name in ("source", "result", "reference", "line")]
    return Comparison(CompareMode(state["mode"]), Against(state["against"]), *compared, state["sharedCrosshair"])


def restore(scene):
    """Put back the layout, layers, planes, links, crosshair and windows that `show` found; remove what it made.

    A layout that the user chose in the meantime stays; the rest is put back in any case.
    """
    layout = layoutNode(scene)
    state = formerState.read(layout) if layout is not None else None
    if state is None:
        return
    wasShown = isShown(scene)
    formerState.putBack(layout, state)
    temporaryNodes.removeOthers(scene)
    formerState.putLinksBack(layout, state)
    if wasShown:
        layout.SetViewArrangement(state["layout"])
    _afterResizing(views.renderSpaces)


def keepDifference(scene):
    """Leave the difference map to the user: `restore` does not remove it. Returns the volume, None if there is none."""
    released = temporaryNodes.release(scene, difference.KIND)
    return next((node for node in released if node.IsA("vtkMRMLVolumeNode")), None)


def setFade(scene, fraction):
    """How much of the synthetic volume is seen over the other: 0 nothing, 1 nothing else."""
    compositeNode(scene, SOURCE_VIEW).SetForegroundOpacity(fraction)


def fade(scene):
    """How much of the synthetic volume is seen over the other."""
    return compositeNode(scene, SOURCE_VIEW).GetForegroundOpacity()


def keepWindow(scene, volume):
    """Note how a compared real volume is windowed before that changes; `restore` puts it back.

    The window of the synthetic volume stays as it was chosen.
    """
    layout = layoutNode(scene)
    state = formerState.read(layout) if layout is not None else None
    names = {"source": formerState.node(layout, "source"), "reference": formerState.node(layout, "reference")}
    name = next((name for name, node in names.items() if node is volume), None)
    if state is not None and name is not None:
        formerState.keepWindow(layout, state, name, volume)
        formerState.write(layout, state)


def _arrange(layout, choices, volumes, over, derived):
    scene = layout.GetScene()
    if isLeft(scene):
        restore(scene)
    wasShown = isShown(scene)
    state = formerState.read(layout) if wasShown else formerState.begin(layout)
    arrangement, panes = _plan(choices, volumes, over, derived)
    for view in VIEWS:  # those that the layout is about to make are kept once it has
        if views.find(scene, "vtkMRMLSliceNode", view) is not None:
            formerState.keepView(layout, state, view)
    state.update(shown=arrangement, mode=choices.mode.value, against=choices.against.value)
    state["sharedCrosshair"] = choices.crosshair
    with slicer.util.NodeModify(layout):  # observers find state and arrangement in agreement
        for name, node in zip(("source", "result", "reference", "line"), (*volumes, None), strict=True):
            formerState.keepNode(layout, name, node)
        formerState.write(layout, state)
        layout.SetViewArrangement(arrangement)
    for pane in panes:
        formerState.keepView(layout, state, pane.view)
    _place(scene, state, panes, volumes[0])
    if choices.mode is CompareMode.PROFILE:
        _plot(layout, state, choices.line, volumes)
    _shareCrosshair(scene, choices.crosshair, state["crosshair"])
    formerState.write(layout, state)
    temporaryNodes.removeOthers(scene, kept=(choices.mode.value,))  # what is made for a mode bears its name
    if choices.line is not None:
        profile.removeDefaultLine(scene)
    names = [pane.view for pane in panes]
    views.linkPlanes(scene, names)
    difference.showLegend(scene)
    views.fit(scene, names)
    _afterResizing(lambda: views.fit(scene, names) if isShown(scene) else None)


def _plot(layout, state, chosenLine, volumes):
    scene = layout.GetScene()
    line = chosenLine or profile.defaultLine(volumes[1], views.plane(sliceNode(scene, SOURCE_VIEW)))
    formerState.keepNode(layout, "line", line)
    formerState.keepPlot(layout, state)
    chart = profile.update(line, *volumes)
    views.plotViewNode(scene, formerState.PLOT_VIEW).SetPlotChartNodeID(chart.GetID())


def _plan(choices, volumes, over, derived):
    """The number of Slicer's layout and what its views are to show."""
    layouts = slicer.vtkMRMLLayoutNode
    source, result, reference = volumes
    mode = choices.mode
    if mode is CompareMode.SIDE_BY_SIDE and reference is None:
        return layouts.SlicerLayoutSideBySideView, [Pane(SOURCE_VIEW, source), Pane(RESULT_VIEW, result)]
    if mode is CompareMode.SIDE_BY_SIDE:
        return layouts.SlicerLayoutThreeOverThreeView, _threeColumns(source, result, reference)
    if mode is CompareMode.DIFFERENCE:
        return layouts.SlicerLayoutThreeOverThreeView, _threeColumns(over, result, derived)
    if mode is CompareMode.PROFILE:
        third = Pane("Yellow", reference) if reference is not None else Pane("Yellow", source, result, 0.5)
        return layouts.SlicerLayoutFourUpPlotView, [Pane("Red", source), Pane("Green", result), third]
    if mode is CompareMode.CHECKERBOARD:
        pane = Pane(SOURCE_VIEW, derived)
    else:  # the synthetic volume lies over the other one, and is more or less seen
        pane = Pane(SOURCE_VIEW, over, result, choices.fade if mode is CompareMode.FADE else 0.0)
    return layouts.SlicerLayoutOneUpRedSliceView, [pane]


def _threeColumns(*volumes):
    """One volume to a column, in two planes."""
    first = [Pane(view, volume) for view, volume in zip(COLUMNS, volumes, strict=True)]
    return first + [pane._replace(view=f"{pane.view}+", orientation="Coronal") for pane in first]


def _place(scene, state, panes, volume):
    """Give the views their layers, and lay all of one orientation into one plane."""
    placed = state.setdefault("placed", [])
    views.unlink(scene, state["views"])
    for pane in panes:
        slices = sliceNode(scene, pane.view)
        views.setLayers(compositeNode(scene, pane.view), pane.background, pane.foreground, pane.opacity)
        slices.SetViewGroup(VIEW_GROUP)
        lead = LEAD_VIEWS[pane.orientation]
        if lead not in placed:
            placed.append(lead)
            _align(sliceNode(scene, lead), pane.orientation, volume)
        if pane.view != lead:
            views.setPlane(slices, views.plane(sliceNode(scene, lead)))


def _align(slices, orientation, volume):
    """Turn a view to the voxels of a volume, at the place it shows if that is inside, else at the middle."""
    at = views.plane(slices)[:3, 3].copy()
    slices.SetOrientation(orientation)
    slices.RotateToVolumePlane(volume)
    if not resampling.isInside(volume, at):
        at = resampling.middle(volume)
    slices.JumpSliceByCentering(*at)


def _shareCrosshair(scene, isShared, former):
    crosshair = views.findOrMake(scene, *formerState.CROSSHAIR)
    with slicer.util.NodeModify(crosshair):
        crosshair.SetCrosshairMode(crosshair.ShowBasic if isShared else former[0])
        crosshair.SetCrosshairBehavior(crosshair.OffsetJumpSlice if isShared else former[1])


def _afterResizing(function):
    """Call once the views have the size that the new layout gives them."""
    try:
        import qt
    except ImportError:
        return  # no windows, no sizes
    qt.QTimer.singleShot(0, function)
