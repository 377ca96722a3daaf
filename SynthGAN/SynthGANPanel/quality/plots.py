"""Histograms and the Bland-Altman plot as Slicer's own charts, and showing them with the table."""

import json

import slicer

from SynthGANPanel.comparison import compare
from SynthGANPanel.comparison import live as liveComparison
from SynthGANPanel.i18n import _
from SynthGANPanel.quality import nodes as qualityNodes
from SynthGANPanel.quality import table as qualityTable

HISTOGRAM, SOURCE_HISTOGRAM, BLAND_ALTMAN = "histogram", "source-histogram", "bland-altman"
CHARTS = (HISTOGRAM, SOURCE_HISTOGRAM, BLAND_ALTMAN)
FORMER_LAYOUT = "SynthGAN.LayoutBeforeQuality"
"""Attribute of the layout node, so that the way back outlives a module reload and a saved scene."""

BLUE, ORANGE, GREEN, BLACK = (0.0, 0.45, 0.70), (0.84, 0.37, 0.0), (0.0, 0.62, 0.45), (0.1, 0.1, 0.1)
"""Colors of Okabe and Ito, which people with color blindness can tell apart."""


def fill(made, found, names):
    """Write the plots of what was measured.

    :param made: the result's QualityNodes. found: the worker's closing event. names: of the images
    """
    unit = unitText(found["unit"])
    colors = {"result": BLUE, "reference": ORANGE}
    _histogram(made, HISTOGRAM, _("{name} histogram"), found["images"], names, colors, unit)
    if found["source"] is not None:
        title = _("{name} histogram of its source")
        _histogram(made, SOURCE_HISTOGRAM, title, found["source"], names, {"source": GREEN}, _("source's own unit"))
    if found["agreement"] is not None:
        _blandAltman(made, found["agreement"], unit)


def unitText(unit):
    """The label of an axis for a unit."""
    return {"1": _("arbitrary units"), "RGB": _("color value")}.get(unit, unit)


def charts(resultNode):
    """(kind, chart node) of what was plotted for a result, in a fixed order."""
    found = [(kind, qualityNodes.find(resultNode, kind)) for kind in CHARTS]
    return [(kind, node) for kind, node in found if node is not None]


def show(tableNode, chartNode):
    """Show table and chart beside the slices.

    :return: False where there is no application with views, True otherwise
    """
    app, scene = getattr(slicer, "app", None), tableNode.GetScene()
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if app is None or layout is None:
        return False
    if compare.isShown(scene):
        liveComparison.ofApplication().end()  # else "back" would lead into the comparison's layout
    if not isShown(scene):
        layout.SetAttribute(FORMER_LAYOUT, str(layout.GetViewArrangement()))
        layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView)
    logic = app.applicationLogic()
    selection = logic.GetSelectionNode()
    selection.SetActiveTableID(tableNode.GetID())
    logic.PropagateTableSelection()
    if chartNode is not None:
        selection.SetActivePlotChartID(chartNode.GetID())
        logic.PropagatePlotChartSelection()
    return True


def isShown(scene):
    """Whether `show` was called and neither `restore` nor another choice of layout followed."""
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return (
        layout is not None
        and layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView
        and layout.GetAttribute(FORMER_LAYOUT) is not None
    )


def restore(scene):
    """Go back to the layout that `show` found; one that the user chose in the meantime stays."""
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout is None or layout.GetAttribute(FORMER_LAYOUT) is None:
        return
    former, wasShown = json.loads(layout.GetAttribute(FORMER_LAYOUT)), isShown(scene)
    layout.RemoveAttribute(FORMER_LAYOUT)
    if wasShown:
        layout.SetViewArrangement(former)


def _histogram(made, kind, title, content, names, colors, unit):
    """One chart with a line for each image."""
    name = title.format(name=made.resultNode.GetName())
    table, _isNew = made.node(kind + "-data", "vtkMRMLTableNode", _("{chart} data").format(chart=name))
    columns = {"value": content["centres"], **{f"{image} %": share for image, share in content["percent"].items()}}
    _setTable(table, columns)
    labels = {"result": _("Result: {name}"), "reference": _("Reference: {name}"), "source": _("Source: {name}")}
    series = [
        _series(
            made,
            f"{kind}-{image}",
            labels[image].format(name=names[image]),
            table,
            ("value", f"{image} %"),
            colors[image],
        )
        for image in content["percent"]
    ]
    _chart(made, kind, name, name, (unit, _("Share of the voxels (%)")), series)


def _blandAltman(made, agreement, unit):
    """Differences against means as points, with the mean and the limits of agreement as lines."""
    name = _("{name} Bland-Altman").format(name=made.resultNode.GetName())
    means, differences = ([point[axis] for point in agreement["points"]] for axis in (0, 1))
    points, _isNew = made.node("bland-altman-data", "vtkMRMLTableNode", _("{chart} data").format(chart=name))
    _setTable(points, {"mean": means, "difference": differences})
    lines, _isNew = made.node("bland-altman-lines", "vtkMRMLTableNode", _("{chart} lines").format(chart=name))
    values = {each: float(agreement[each]) for each in ("mean", "lower", "upper")}
    ends = [min(means), max(means)]
    _setTable(lines, {"x": ends, **{each: [value, value] for each, value in values.items()}})
    count = _("difference at {count} voxels").format(count=len(means))
    series = [_series(made, "bland-altman-points", count, points, ("mean", "difference"), BLUE)]
    texts = {
        "mean": _("mean difference {value}"),
        "lower": _("mean - 1.96 SD {value}"),
        "upper": _("mean + 1.96 SD {value}"),
    }
    for each, text in texts.items():
        label = text.format(value=f"{values[each]:.4g} {unit}")
        line = _series(made, f"bland-altman-{each}", label, lines, ("x", each), BLACK if each == "mean" else ORANGE)
        line.SetLineStyle(line.LineStyleSolid if each == "mean" else line.LineStyleDash)
        series.append(line)
    series[0].SetPlotType(series[0].PlotTypeScatter)
    series[0].SetLineStyle(series[0].LineStyleNone)
    series[0].SetMarkerStyle(series[0].MarkerStyleCircle)
    series[0].SetMarkerSize(3)
    title = _("{name}: mean difference {mean}, limits {lower} to {upper} {unit}").format(
        name=name, unit=unit, **{each: f"{value:.4g}" for each, value in values.items()}
    )
    axes = (
        _("Mean of result and reference ({unit})").format(unit=unit),
        _("Result minus reference ({unit})").format(unit=unit),
    )
    _chart(made, BLAND_ALTMAN, name, title, axes, series)


def _setTable(table, columns):
    with slicer.util.NodeModify(table):
        qualityTable.setColumns(table, {name: [float(each) for each in values] for name, values in columns.items()})
        table.SetUseColumnTitleAsColumnHeader(True)


def _series(made, kind, name, table, columns, color):
    """A line; its name is what the legend shows, so it follows every measurement, and its color only the first."""
    series, isNew = made.node(kind, "vtkMRMLPlotSeriesNode", name)
    with slicer.util.NodeModify(series):
        series.SetName(name)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(series.PlotTypeScatter)
        series.SetXColumnName(columns[0])
        series.SetYColumnName(columns[1])
        if isNew:
            series.SetColor(*color)
            series.SetMarkerStyle(series.MarkerStyleNone)
            series.SetLineWidth(2)
    return series


def _chart(made, kind, name, title, axes, series):
    chart, isNew = made.node(kind, "vtkMRMLPlotChartNode", name)
    with slicer.util.NodeModify(chart):
        chart.SetTitle(title)
        chart.SetXAxisTitle(axes[0])
        chart.SetYAxisTitle(axes[1])
        present = [chart.GetNthPlotSeriesNodeID(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
        for each in series:
            if each.GetID() not in present:  # one that the user added stays
                chart.AddAndObservePlotSeriesNodeID(each.GetID())
    if isNew:
        chart.SetLegendVisibility(True)
