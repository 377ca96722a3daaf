"""The values of up to three volumes along one line, as a table and a plot."""

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from SynthGANPanel.comparison.difference import unitName
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import nodes, temporaryNodes
from SynthGANPanel.scene.resampling import alongLine, dimensions, toWorld

KIND = "profile"
LENGTH = 0.8
"""Of the default line, as part of the volume's width."""
MAXIMUM_COUNT = 1000
SAMPLES_PER_VOXEL = 2
DISTANCE = "Distance"
SCALED = " scaled"
STYLES = {"Source": (0.45, 0.45, 0.45), "Synthetic": (0.90, 0.45, 0.0), "Reference": (0.0, 0.45, 0.70)}
"""Columns of the table and their colors, which color-blind people can tell apart."""


def defaultLine(volume, plane):
    """A line across the middle of a volume, along the voxel axis nearest to the horizontal of a slice, and in it.

    :param plane: the slice's 4x4 SliceToRAS matrix
    :return: the line made for this comparison before, else a new one
    """
    scene = volume.GetScene()
    line = temporaryNodes.find(scene, KIND, "vtkMRMLMarkupsLineNode")
    if line is not None:
        return line
    counts = np.array(dimensions(volume))
    ends = []
    for axis in range(3):
        half = np.eye(3)[axis] * counts[axis] * LENGTH / 2
        ends.append([toWorld(volume, (counts - 1) / 2 + offset) for offset in (-half, half)])
    directions = np.array([(end - start) / max(np.linalg.norm(end - start), 1e-9) for start, end in ends])
    chosen = ends[int(np.argmax(np.abs(directions @ plane[:3, 0])))]
    normal = plane[:3, 2] / np.linalg.norm(plane[:3, 2])
    chosen = [end + normal * ((plane[:3, 3] - end) @ normal) for end in chosen]
    line = temporaryNodes.add(scene, "vtkMRMLMarkupsLineNode", _("Profile line"), KIND)
    for position in chosen:
        line.AddControlPointWorld(vtk.vtkVector3d(*position))
    if line.GetDisplayNode() is None:
        line.CreateDefaultDisplayNodes()
    return line


def removeDefaultLine(scene):
    """Remove the line that `defaultLine` made, if there is one."""
    line = temporaryNodes.find(scene, KIND, "vtkMRMLMarkupsLineNode")
    if line is not None:
        temporaryNodes.remove(scene, [line])


def update(line, source, result, reference):
    """Sample the volumes (None for absent ones) along a line anew.

    :return: the chart; what it shows stays as it is while the line has less than two points
    """
    scene = result.GetScene()
    chart = temporaryNodes.find(scene, KIND, "vtkMRMLPlotChartNode") or temporaryNodes.add(
        scene, "vtkMRMLPlotChartNode", _("Line profile"), KIND
    )
    table = temporaryNodes.find(scene, KIND, "vtkMRMLTableNode") or temporaryNodes.add(
        scene, "vtkMRMLTableNode", _("Line profile"), KIND
    )
    positions = points(line, result)
    if positions is None:
        return chart
    volumes = {"Source": source, "Synthetic": result, "Reference": reference}
    volumes = {name: volume for name, volume in volumes.items() if volume is not None}
    distance = np.linalg.norm(positions - positions[0], axis=1)
    columns = {DISTANCE: distance}
    columns.update({name: alongLine(volume, positions) for name, volume in volumes.items()})
    isScaled = source is not None and nodes.unitOf(source) != nodes.unitOf(result)
    if isScaled:
        columns["Source" + SCALED] = scaledTo(columns["Source"], columns["Synthetic"])
    _fill(table, columns)
    _plot(chart, table, volumes, isScaled)
    return chart


def points(line, volume):
    """(n, 3) places of the world along a line, two to a voxel; None while it has less than two points."""
    if line is None or line.GetNumberOfDefinedControlPoints() < 2:
        return None
    ends = np.zeros((2, 3))
    for index in range(2):
        line.GetNthControlPointPositionWorld(index, ends[index])
    steps = np.linalg.norm(ends[1] - ends[0]) / min(volume.GetSpacing()) * SAMPLES_PER_VOXEL
    count = int(np.clip(np.ceil(steps) + 1, 2, MAXIMUM_COUNT))
    return np.linspace(ends[0], ends[1], count)


def scaledTo(values, target):
    """Values, linearly mapped so that their smallest and largest are those of the target."""
    both = np.isfinite(values).any() and np.isfinite(target).any()
    if not both or np.nanmax(values) <= np.nanmin(values):
        return np.full(len(values), np.nan)
    part = (values - np.nanmin(values)) / (np.nanmax(values) - np.nanmin(values))
    return np.nanmin(target) + part * (np.nanmax(target) - np.nanmin(target))


def _fill(table, columns):
    content = vtk.vtkTable()
    for name, values in columns.items():
        column = numpy_to_vtk(np.ascontiguousarray(values, dtype=float), deep=True)
        column.SetName(name)
        content.AddColumn(column)
    table.SetAndObserveTable(content)


def _plot(chart, table, volumes, isScaled):
    scene = chart.GetScene()
    unit = unitName(nodes.unitOf(volumes["Synthetic"]))
    kept = {
        each.GetAttribute("Column"): each
        for each in temporaryNodes.nodes(scene, KIND)
        if each.IsA("vtkMRMLPlotSeriesNode")
    }
    with slicer.util.NodeModify(chart):
        chart.RemoveAllPlotSeriesNodeIDs()
        for name, volume in volumes.items():
            series = kept.pop(name, None) or temporaryNodes.add(scene, "vtkMRMLPlotSeriesNode", name, KIND)
            column = name + SCALED if isScaled and name == "Source" else name
            text = _("{name} (scaled to fit)") if column != name else "{name}"
            _style(series, name, column, text.format(name=volume.GetName()), table)
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.SetXAxisTitle(_("Distance along the line (mm)"))
        chart.SetYAxisTitle(_("Value ({unit})").format(unit=unit) if unit else _("Value"))
        chart.SetTitleVisibility(False)
    for series in kept.values():
        scene.RemoveNode(series)


def _style(series, name, column, text, table):
    kind = slicer.vtkMRMLPlotSeriesNode
    with slicer.util.NodeModify(series):
        series.SetAttribute("Column", name)
        series.SetName(text)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(DISTANCE)
        series.SetYColumnName(column)
        series.SetPlotType(kind.PlotTypeScatter)
        series.SetMarkerStyle(kind.MarkerStyleNone)
        series.SetLineStyle(kind.LineStyleSolid)
        series.SetColor(*STYLES[name])
