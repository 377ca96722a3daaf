"""Window presets by the unit of a volume."""

from __future__ import annotations

import numpy as np
import slicer

from SynthGANPanel.i18n import _
from SynthGANPanel.scene import nodes

AUTOMATIC = "automatic"
SAMPLES = 1000000
"""Voxels from which percentiles are found."""
PERCENTILES = {"percentiles": (1.0, 99.0), "range": (0.0, 100.0)}
SUV_MAXIMA = {"suv5": 5.0, "suv10": 10.0, "suv20": 20.0}
CT_PRESETS = ("CT_BRAIN", "CT_ABDOMEN", "CT_BONE", "CT_LUNG", "CT_AIR")


def unitOf(volume: slicer.vtkMRMLVolumeNode | None) -> str | None:
    """The library's unit of a volume; None where the node does not state it, and without a volume or voxels."""
    return nodes.unitOf(volume) if volume is not None and volume.GetImageData() is not None else None


def presets(volume: slicer.vtkMRMLVolumeNode | None) -> list[tuple[str, str]]:
    """Pairs (id, text) of the windows that suit a volume; none for colors and without one."""
    unit = unitOf(volume)
    if volume is None or volume.GetImageData() is None or unit == "RGB":
        return []
    offered = {"HU": CT_PRESETS, "SUVbw": tuple(SUV_MAXIMA)}.get(unit or "", ())
    return [(each, label(each)) for each in (*offered, *PERCENTILES, AUTOMATIC)]


def label(preset: str) -> str:
    """What the panel shows."""
    return {
        "CT_BRAIN": _("Brain (50 +/- 50 HU)"),
        "CT_ABDOMEN": _("Soft tissue (40 +/- 175 HU)"),
        "CT_BONE": _("Bone (400 +/- 500 HU)"),
        "CT_LUNG": _("Lung (-500 +/- 700 HU)"),
        "CT_AIR": _("Air (-426 +/- 500 HU)"),
        "suv5": _("SUV 0 to 5"),
        "suv10": _("SUV 0 to 10"),
        "suv20": _("SUV 0 to 20"),
        "percentiles": _("Percentiles 1 to 99"),
        "range": _("All values"),
        AUTOMATIC: _("Automatic"),
    }[preset]


def apply(volume: slicer.vtkMRMLVolumeNode, preset: str) -> None:
    """Window a volume by the id of a preset.

    :raises KeyError: for an id that no preset has
    """
    if volume.GetDisplayNode() is None:
        volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    if not hasattr(display, "SetWindowLevelMinMax"):
        return  # the colors of a label map stand for labels
    if preset == AUTOMATIC:
        display.SetAutoWindowLevel(True)
        return
    low, high = _bounds(volume, preset)
    with slicer.util.NodeModify(display):
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(low, high)


def _bounds(volume: slicer.vtkMRMLVolumeNode, preset: str) -> tuple[float, float]:
    if preset in CT_PRESETS:
        window, level, _colors = nodes.PRESETS[preset]
        return level - window / 2, level + window / 2
    if preset in SUV_MAXIMA:
        return 0.0, SUV_MAXIMA[preset]
    voxels = slicer.util.arrayFromVolume(volume).ravel()
    if preset != "range":  # a sample has the same percentiles, but not the same extremes
        voxels = voxels[:: max(1, voxels.size // SAMPLES)]
    voxels = voxels[np.isfinite(voxels)]
    low, high = (float(value) for value in np.percentile(voxels, PERCENTILES[preset])) if len(voxels) else (0.0, 1.0)
    return low, high if high > low else low + 1.0
