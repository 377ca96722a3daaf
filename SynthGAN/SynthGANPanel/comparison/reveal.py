"""The synthetic volume in a patch around the mouse, in slice views that have it as an invisible foreground layer.

Slicer's module CompareVolumes does this; where an application comes without it, the patch is made here.
"""

import slicer
import vtk

EVENTS = ("MouseMoveEvent", "EnterEvent", "LeaveEvent")
PRIORITY = 2.0
"""Above that of the views' own interaction, which would swallow the events; none is aborted."""
BORDER_COLOR = (1.0, 0.85, 0.0)


def start(pixels):
    """Follow the mouse with a patch of a given size; ends by `cleanup()` of what is returned, None without views."""
    app = getattr(slicer, "app", None)
    if app is None or app.layoutManager() is None:
        return None
    try:
        from CompareVolumes import LayerReveal
    except ImportError:
        return MousePatch(app.layoutManager(), pixels)
    return LayerReveal(width=pixels, height=pixels)


def extent(dimensions, position, pixels):
    """The part of an image around a position: (first column, last, first row, last), None if there is none.

    :param dimensions: (columns, rows, ...) of the image
    :param position: (column, row) of the mouse
    """
    bounds = []
    for count, place in zip(dimensions[:2], position, strict=True):
        first, last = max(0, int(place) - pixels // 2), min(count - 1, int(place) - pixels // 2 + pixels - 1)
        if first > last:
            return None
        bounds += [first, last]
    return tuple(bounds)


def patch(sliceLogic, position, pixels):
    """What the foreground layer of a view shows around a position: (image of RGBA bytes, its extent), or None."""
    layer = sliceLogic.GetForegroundLayer()
    if layer is None or layer.GetVolumeNode() is None:
        return None
    producer = layer.GetImageDataConnection().GetProducer()
    producer.Update()
    image = producer.GetOutputDataObject(0)
    bounds = extent(image.GetDimensions(), position, pixels)
    if bounds is None:
        return None
    cut = vtk.vtkExtractVOI()
    cut.SetInputData(image)
    cut.SetVOI(*bounds, 0, 0)
    cut.Update()
    return cut.GetOutput(), bounds


class MousePatch:
    """Watches the mouse in all slice views of a layout manager."""

    def __init__(self, layoutManager, pixels):
        self._pixels = pixels
        self._observations = []
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._frame, self._outline = _frame()
        self._renderer = None
        for view in layoutManager.sliceViewNames():
            widget = layoutManager.sliceWidget(view)
            interactor = widget.sliceView().interactor()
            for event in EVENTS:
                follow = self._follower(widget)
                self._observations.append((interactor, interactor.AddObserver(event, follow, PRIORITY)))

    def cleanup(self):
        """Watch no more and take the patch away."""
        for caller, tag in self._observations:
            caller.RemoveObserver(tag)
        self._observations = []
        self._hide()

    def _follower(self, widget):
        def follow(interactor, event):
            self._hide()
            found = None
            if event != "LeaveEvent":
                found = patch(widget.sliceLogic(), interactor.GetEventPosition(), self._pixels)
            if found is not None:
                self._show(widget.sliceView().renderWindow().GetRenderers().GetFirstRenderer(), *found)
            widget.sliceView().scheduleRender()

        return follow

    def _show(self, renderer, image, bounds):
        self._mapper.SetInputData(image)
        # The mapper draws an image from its own first column and row on
        self._actor.SetPosition(bounds[0], bounds[2])
        image.SetExtent(0, bounds[1] - bounds[0], 0, bounds[3] - bounds[2], 0, 0)
        corners = ((0, 2), (1, 2), (1, 3), (0, 3))
        for index, (column, row) in enumerate(corners):
            self._outline.SetPoint(index, bounds[column], bounds[row], 0)
        self._outline.Modified()
        self._renderer = renderer
        renderer.AddViewProp(self._actor)
        renderer.AddViewProp(self._frame)

    def _hide(self):
        if self._renderer is not None:
            self._renderer.RemoveViewProp(self._actor)
            self._renderer.RemoveViewProp(self._frame)
            self._renderer = None


def _frame():
    """A rectangle as actor, and its four corner points."""
    points = vtk.vtkPoints()
    points.SetNumberOfPoints(4)
    lines = vtk.vtkCellArray()
    lines.InsertNextCell(5)
    for index in (0, 1, 2, 3, 0):
        lines.InsertCellPoint(index)
    outline = vtk.vtkPolyData()
    outline.SetPoints(points)
    outline.SetLines(lines)
    mapper = vtk.vtkPolyDataMapper2D()
    mapper.SetInputData(outline)
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetColor(*BORDER_COLOR)
    return actor, points
