"""The word SYNTHETIC in a corner of every view that shows a synthetic volume, in whatever module and layout.

Slicer's corner texts belong to its DataProbe module, which rewrites them at will. Hence each view gets a text actor of
its own, in the upper right corner, which the default corner texts leave free. It is part of the view's picture, so
screen captures have it too.
"""

import slicer
import vtk

from SynthGANPanel.comparison import checkerboard, compare, difference
from SynthGANPanel.comparison.modes import CompareMode
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import nodes, temporaryNodes, views

COLOR = (1.0, 0.85, 0.0)
FONT_SIZE = 18
MARGIN = 0.02
"""Distance from the corner, as part of the view's width and height."""
LAYERS = (("Background", None), ("Foreground", "GetForegroundOpacity"), ("Label", "GetLabelOpacity"))

_annotator = None


def start(shown=True):
    """Annotate the views of the application from now on, also when a new layout makes new ones. Only once.

    :param shown: False does nothing: the user's settings switch the annotation off
    """
    global _annotator
    if not shown:
        return None
    app = getattr(slicer, "app", None)
    if _annotator is None and app is not None and app.layoutManager() is not None:
        _annotator = Annotator(slicer.mrmlScene, _applicationViews)
        app.layoutManager().connect("layoutChanged(int)", _annotator.onLayoutChanged)
    if _annotator is not None:
        _annotator.update()
    return _annotator


def stop():
    """Annotate no more."""
    global _annotator
    if _annotator is not None:
        app = getattr(slicer, "app", None)
        if app is not None and app.layoutManager() is not None:
            app.layoutManager().disconnect("layoutChanged(int)", _annotator.onLayoutChanged)
        _annotator.cleanup()
        _annotator = None


def isSynthetic(node):
    """Whether a volume is a synthesis's result, or was computed from one for a comparison."""
    if node is None:
        return False
    derived = temporaryNodes.kindOf(node) in (checkerboard.KIND, difference.KIND)
    return derived or bool(node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "ModelId")) or _isKeptDifference(node)


def syntheticViews(scene):
    """The names of the slice views and of the 3D views that show a synthetic volume: ({...}, {...})."""
    comparison = compare.current(scene)
    revealed = {compare.SOURCE_VIEW} if comparison and comparison.mode is CompareMode.REVEAL else set()
    sliced, inSpace = set(), _hasVolumeRendering(scene)
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene):
        view = composite.GetLayoutName()
        shown = any(isSynthetic(scene.GetNodeByID(nodeId)) for nodeId in _visibleLayers(composite, view in revealed))
        if shown:
            sliced.add(view)
            slices = views.find(scene, "vtkMRMLSliceNode", view)
            inSpace = inSpace or (slices is not None and bool(slices.GetSliceVisible()))
    solid = {node.GetLayoutName() for node in slicer.util.getNodesByClass("vtkMRMLViewNode", scene)}
    return sliced, solid if inSpace else set()


def makeActor():
    """The text."""
    actor = vtk.vtkTextActor()
    actor.SetInput(_("SYNTHETIC"))
    style = actor.GetTextProperty()
    style.SetFontSize(FONT_SIZE)
    style.SetColor(*COLOR)
    style.SetBold(True)
    style.SetBackgroundColor(0.0, 0.0, 0.0)  # readable on white too
    style.SetBackgroundOpacity(0.6)
    style.SetJustificationToRight()
    style.SetVerticalJustificationToTop()
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(1 - MARGIN, 1 - MARGIN)
    actor.PickableOff()
    return actor


class Annotator:
    """Keeps the text in the right views while the scene changes.

    :param shownViews: function that returns {(class of the view's node, its layout name): (renderer, function that
        renders it anew)} of the views there are at the moment
    """

    def __init__(self, scene, shownViews):
        self._scene = scene
        self._shownViews = shownViews
        self._actors = {}  # of views: (renderer, actor)
        self._observed = {}  # nodes that decide, and the observer's tag
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent)
        self._sceneTags = [scene.AddObserver(event, self._onScene) for event in events]

    def update(self):
        """Show the text where it belongs and nowhere else."""
        self._observe()
        sliced, solid = syntheticViews(self._scene)
        wanted = {("vtkMRMLSliceNode", view) for view in sliced} | {("vtkMRMLViewNode", view) for view in solid}
        present = self._shownViews()
        for view, (renderer, actor) in list(self._actors.items()):
            if view not in wanted or view not in present or present[view][0] is not renderer:
                renderer.RemoveViewProp(actor)
                del self._actors[view]
                if view in present:
                    present[view][1]()
        for view in wanted & set(present) - set(self._actors):
            renderer, render = present[view]
            self._actors[view] = (renderer, makeActor())
            renderer.AddViewProp(self._actors[view][1])
            render()

    def onLayoutChanged(self, layout=None):
        """The layout has changed."""
        self.update()

    def cleanup(self):
        """Remove texts and observers."""
        for tag in self._sceneTags:
            self._scene.RemoveObserver(tag)
        for node, tag in self._observed.items():
            node.RemoveObserver(tag)
        for renderer, actor in self._actors.values():
            renderer.RemoveViewProp(actor)
        self._sceneTags, self._observed, self._actors = [], {}, {}

    def _onScene(self, caller, event):
        if not (self._scene.IsClosing() or self._scene.IsBatchProcessing()):
            self.update()

    def _onNode(self, caller, event):
        self.update()

    def _observe(self):
        """Watch the nodes that decide: which volume a view shows, and whether that volume is synthetic."""
        deciding = set()
        for className in ("vtkMRMLSliceCompositeNode", "vtkMRMLSliceNode", "vtkMRMLVolumeRenderingDisplayNode"):
            deciding.update(slicer.util.getNodesByClass(className, self._scene))
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", self._scene):
            shown = (self._scene.GetNodeByID(nodeId) for nodeId in _visibleLayers(composite, True))
            deciding.update(node for node in shown if node is not None)
        for node in set(self._observed) - deciding:
            node.RemoveObserver(self._observed.pop(node))
        for node in deciding - set(self._observed):
            self._observed[node] = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onNode)


def _visibleLayers(composite, isRevealed):
    """Ids of the volumes that a view shows, without layers of no opacity unless the mouse reveals them."""
    found = []
    for layer, opacity in LAYERS:
        nodeId = getattr(composite, f"Get{layer}VolumeID")()
        if nodeId and (opacity is None or isRevealed or getattr(composite, opacity)() > 0):
            found.append(nodeId)
    return found


def _hasVolumeRendering(scene):
    for display in slicer.util.getNodesByClass("vtkMRMLVolumeRenderingDisplayNode", scene):
        if display.GetVisibility() and isSynthetic(display.GetDisplayableNode()):
            return True
    return False


def _isKeptDifference(node):
    return node.GetAttribute(difference.UNIT_ATTRIBUTE) is not None


def _applicationViews():
    manager = slicer.app.layoutManager()
    found = {}
    if manager is None:
        return found
    for name in manager.sliceViewNames():
        widget = manager.sliceWidget(name)
        if widget is not None:
            # Slicer lists views by their nodes' names, which need not be those of the layout: a scene may rename them.
            found["vtkMRMLSliceNode", widget.mrmlSliceNode().GetLayoutName()] = _rendererOf(widget.sliceView())
    for index in range(manager.threeDViewCount):
        widget = manager.threeDWidget(index)
        found["vtkMRMLViewNode", widget.mrmlViewNode().GetLayoutName()] = _rendererOf(widget.threeDView())
    return found


def _rendererOf(view):
    return view.renderWindow().GetRenderers().GetFirstRenderer(), view.scheduleRender
