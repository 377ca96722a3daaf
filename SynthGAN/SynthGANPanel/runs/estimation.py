"""The estimated time and memory of a synthesis, in one line, before Apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs.wording import describeSeconds
from SynthGANPanel.scene import nodes, regions

if TYPE_CHECKING:
    from SynthGANLib.model.card import Card


def describe(
    inputNode: slicer.vtkMRMLVolumeNode | None,
    card: Card | None,
    device: str = "auto",
    memoryLimitGb: float = 0.0,
    roiNode: slicer.vtkMRMLMarkupsROINode | None = None,
    frames: int = 1,
) -> str:
    """One line about a synthesis, or why it cannot fit; "" where nothing is known.

    Fast enough for every change of a choice: only the plan of tiles is computed, and nothing heavy is imported.

    :param inputNode: volume to synthesize from, or None
    :param card: the model's card, or None
    :param device: as for a synthesis. memoryLimitGb: 0 is none
    :param roiNode: only this region is synthesized, None for all. frames: of the sequence, one after another
    """
    if inputNode is None or card is None:
        return ""
    environment.useLibrary()
    from SynthGANLib.errors import SynthGANError
    from SynthGANLib.image.grid import Grid
    from SynthGANLib.inference.estimate import estimate_run

    try:
        nodes.checkInput(inputNode)
        grid = nodes.volumeFromNode(inputNode).grid
        if roiNode is not None:
            voxels = regions.voxelsInRoi(roiNode, inputNode)
            grid = Grid(tuple(part.stop - part.start for part in voxels), regions.shifted(grid.affine, voxels))
        found = estimate_run(card, grid, device, memory=round(memoryLimitGb * 2**30) or None)
    except SynthesisError:
        return ""  # an error of the input is shown where it is chosen
    except SynthGANError as error:
        return f"{error} {error.next_step}".strip()
    if found.seconds is None:
        text = _("The time is known after the first synthesis with this model here.")
        if found.bytes is not None:
            text += " " + _("Memory: up to about {size}.").format(size=describeBytes(found.bytes))
        return text
    date = found.basis.rpartition(" ")[2]
    text = _("About {time}").format(time=describeSeconds(found.seconds * max(1, frames)))
    if found.bytes is not None:
        text += " " + _("and {size} of memory").format(size=describeBytes(found.bytes))
    if found.tiles:
        text += " " + _("(tiles: {count} at most)").format(count=found.tiles)
    return text + _(", by runs on this computer, the last on {date}.").format(date=date)


def describeBytes(count: float) -> str:
    """Memory in GB with one decimal, at least 0.1."""
    return _("{count} GB").format(count=f"{max(0.1, count / 2**30):.1f}")
