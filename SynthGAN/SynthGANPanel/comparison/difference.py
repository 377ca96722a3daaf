"""The map of differences: synthetic minus real, in the unit of both, in diverging colors with a legend."""

import numpy as np
import slicer

from SynthGANPanel.i18n import _
from SynthGANPanel.scene import nodes, temporaryNodes
from SynthGANPanel.scene.resampling import Sampler, dimensions, slabs

KIND = "difference"
UNIT_ATTRIBUTE = "SynthGAN.DifferenceUnit"
PERCENTILE = 99.0
SAMPLES = 200000
"""Voxels from which the automatic range is found."""
UNIT_NAMES = {"HU": "HU", "SUVbw": "SUVbw", "1": "a.u."}
COLORS = ((0.02, 0.19, 0.58), (0.26, 0.55, 0.87), (1.0, 1.0, 1.0), (0.93, 0.45, 0.30), (0.60, 0.0, 0.05))
"""Evenly spaced from the most negative to the most positive: blue, white at zero, red."""
COLOR_COUNT = 256


def unitName(unit):
    """A unit of the library as people write it."""
    return UNIT_NAMES.get(unit, "")


def obstacle(resultNode, sourceNode, referenceNode):
    """Why no difference map can be made, "" if it can.

    A reference without a unit is taken at the user's word: it was chosen as an image of the synthesized modality.
    """
    unit = nodes.unitOf(resultNode)
    if unit == "RGB":
        return _("Color images have no difference in a physical unit.")
    if referenceNode is not None:
        other = nodes.unitOf(referenceNode)
        if other is not None and unit is not None and other != unit:
            return _("The reference '{name}' is in {other}, the synthetic volume in {unit}.").format(
                name=referenceNode.GetName(), other=unitName(other) or other, unit=unitName(unit)
            )
        return ""
    if sourceNode is None or unit is None or nodes.unitOf(sourceNode) != unit:
        return _("Source and synthetic volume have no common unit: choose a reference, a real image to subtract.")
    return ""


def steps(resultNode, realNode, halfRange=0.0):
    """Make (or renew) the map of `resultNode` minus `realNode` on the grid of the result, in steps.

    :param halfRange: value at the ends of the colors; 0 finds one that 99 % of the differences keep to
    Yields the fraction done; the scene is changed after the last step only. Returns the volume node, whose voxels
    are float32, NaN where `realNode` does not reach.
    """
    columns, rows, slices = dimensions(resultNode)
    array = np.empty((slices, rows, columns), np.float32)
    sampler = Sampler(realNode, resultNode)
    synthetic = slicer.util.arrayFromVolume(resultNode)
    for first, end in slabs(resultNode):
        np.subtract(synthetic[first:end], sampler.slab(first, end), out=array[first:end], dtype=np.float32)
        yield end / slices
    return _store(resultNode, realNode, array, halfRange)


def automaticRange(array):
    """A round number (1, 2 or 5 times a power of ten) that 99 % of the absolute differences do not exceed."""
    sample = np.abs(array.ravel()[:: max(1, array.size // SAMPLES)])
    sample = sample[np.isfinite(sample)]
    bound = float(np.percentile(sample, PERCENTILE)) if len(sample) else 0.0
    if bound <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(bound))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= bound * (1 - 1e-6)))


def setRange(node, halfRange):
    """Show the differences from -halfRange to +halfRange; 0 finds a range."""
    bound = halfRange if halfRange > 0 else automaticRange(slicer.util.arrayFromVolume(node))
    display = node.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(2 * bound, 0.0)
    return bound


def showLegend(scene):
    """Draw the legend in the views that show the map by now; Slicer looks only when the legend itself changes."""
    legend = temporaryNodes.find(scene, KIND, "vtkMRMLColorLegendDisplayNode")
    if legend is not None:
        legend.Modified()


def colorNode(scene):
    """The diverging color table, made if there is none."""
    table = temporaryNodes.find(scene, KIND, "vtkMRMLColorTableNode")
    if table is not None:
        return table
    table = temporaryNodes.add(scene, "vtkMRMLColorTableNode", _("Difference (blue, white, red)"), KIND)
    at = np.linspace(-1, 1, len(COLORS))
    with slicer.util.NodeModify(table):
        table.SetTypeToUser()
        table.SetNumberOfColors(COLOR_COUNT)
        for index, place in enumerate(np.linspace(-1, 1, COLOR_COUNT)):
            color = [float(np.interp(place, at, channel)) for channel in zip(*COLORS, strict=True)]
            table.SetColor(index, f"{place:+.3f}", *color, 1.0)
        table.GetLookupTable().SetRange(0, COLOR_COUNT - 1)
    return table


def _store(resultNode, realNode, array, halfRange):
    temporaryNodes.checkPresent(resultNode, realNode)
    name = _("{synthetic} minus {real}").format(synthetic=resultNode.GetName(), real=realNode.GetName())
    node = temporaryNodes.fillVolume("vtkMRMLScalarVolumeNode", name, KIND, array, resultNode)
    with slicer.util.NodeModify(node):
        node.SetVoxelValueQuantity(resultNode.GetVoxelValueQuantity())
        node.SetVoxelValueUnits(resultNode.GetVoxelValueUnits())
        node.SetAttribute(UNIT_ATTRIBUTE, unitName(nodes.unitOf(resultNode)))
    _display(node)
    setRange(node, halfRange)
    return node


def _display(node):
    display = node.GetDisplayNode()
    limit = float(np.finfo(np.float32).max)
    with slicer.util.NodeModify(display):
        temporaryNodes.mark(display, KIND)
        display.SetAndObserveColorNodeID(colorNode(node.GetScene()).GetID())
        # No number lies outside of these; what is not a number does, and is not drawn.
        display.SetThreshold(-limit, limit)
        display.SetApplyThreshold(True)
    _addLegend(node)


def _addLegend(node):
    """Slicer's color legend, with the unit. Without the Colors module (the bare scene) there is none."""
    if not node.GetScene().IsNodeClassRegistered("vtkMRMLColorLegendDisplayNode"):
        return
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node.GetDisplayNode())
    unit = node.GetAttribute(UNIT_ATTRIBUTE)
    with slicer.util.NodeModify(legend):
        temporaryNodes.mark(legend, KIND)
        legend.SetTitleText(_("Difference ({unit})").format(unit=unit) if unit else _("Difference"))
        legend.SetLabelFormat("%+.4g")
        for style in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):  # readable on white
            style.SetBackgroundColor(0.0, 0.0, 0.0)
            style.SetBackgroundOpacity(0.6)
        legend.SetVisibility(True)
