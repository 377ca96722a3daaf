"""What the demo does in the scene: the module's own logic, and nodes to compare its result with the truth."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import slicer

from SynthGANLib.image.volume import Volume
from SynthGANPanel.comparison import compare
from Testing.Headless.scene import add_volume
from Testing.Headless.slices import add_difference_colours

DIFFERENCE_WINDOW_HU = 500.0
DISPLAY_MARGIN = 1.08
MIDLINE_OFFSET_MM = 8.0
# The application describes its layouts to the layout node when it starts; here the one that is used.
SIDE_BY_SIDE = """<layout type="horizontal">
<item><view class="vtkMRMLSliceNode" singletontag="Red"/></item>
<item><view class="vtkMRMLSliceNode" singletontag="Yellow"/></item>
</layout>"""


def synthesize(source: Any, model: str, device: str) -> Any:
    """The result node that the extension's logic makes of a volume node, as from Slicer's Python console.

    Progress is shown in one line where a person watches.
    """
    from SynthGAN import SynthGANLogic

    watched = sys.stderr.isatty()

    def show(fraction: float | None, text: str) -> None:
        if watched:
            print(f"\r\033[K{100 * (fraction or 0):3.0f} %  {text}", end="", file=sys.stderr, flush=True)

    try:
        return SynthGANLogic().synthesize(source, model=model, device=device, progressCallback=show)
    finally:
        if watched:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def add_comparison(synthetic: Any, result: Volume, truth: Volume, body: Any) -> tuple[Any, Any]:
    """Nodes of the truth, windowed as the synthetic volume is, and of the difference inside the body."""
    scene = synthetic.GetScene()
    truth_node = add_volume(scene, truth, "Truth CT")
    shown, display = synthetic.GetDisplayNode(), truth_node.GetDisplayNode()
    display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
    error = np.where(body, result.array - truth.array, 0.0).astype(np.float32)
    difference = add_volume(scene, truth.with_array(error), "Difference (synthetic minus truth)")
    difference.GetDisplayNode().SetWindowLevelMinMax(-DIFFERENCE_WINDOW_HU, DIFFERENCE_WINDOW_HU)
    difference.GetDisplayNode().SetAndObserveColorNodeID(add_difference_colours(scene).GetID())
    for node in (truth_node, difference):
        for setter, entry in (
            (node.SetVoxelValueQuantity, synthetic.GetVoxelValueQuantity()),
            (node.SetVoxelValueUnits, synthetic.GetVoxelValueUnits()),
        ):
            setter(entry)
    return truth_node, difference


def field_of_view(volume: Volume, body: Any) -> tuple[Any, float]:
    """Centre (RAS, mm) and side (mm) of the cube around the body (z, y, x) of a volume.

    The centre is moved aside a little: the very midline of a head shows the fissure between its halves.
    """
    corners = np.argwhere(body)[:, ::-1]  # (voxels, zyx) -> xyz
    lps = corners @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    low, high = lps.min(axis=0), lps.max(axis=0)
    centre = (low + high) / 2 * (-1.0, -1.0, 1.0) - (MIDLINE_OFFSET_MM, 0.0, 0.0)
    return centre, float((high - low).max()) * DISPLAY_MARGIN


def show_side_by_side(source: Any, synthetic: Any) -> None:
    """Leave the scene as the panel shows a result: both volumes in linked views, side by side."""
    scene = source.GetScene()
    if scene.GetFirstNodeByClass("vtkMRMLLayoutNode") is None:
        layout = slicer.vtkMRMLLayoutNode()
        layout.AddLayoutDescription(layout.SlicerLayoutSideBySideView, SIDE_BY_SIDE)
        scene.AddNode(layout)
    compare.show(source, synthetic)
