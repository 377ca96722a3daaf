"""What all exports need of a result: its position, the unit of its values, and its provenance."""

from __future__ import annotations

import datetime
import json
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import nodes

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array

FORMAT = "SynthGAN export record, version 1"
MODALITIES = {"HU": "CT", "SUVbw": "PT", "1": "MR", "RGB": "RGB"}
"""Modality by unit, where no model card is available."""
UNFIT_FOR_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
SAME_GRID = 1e-4
"""Part of a voxel."""
LONGEST_NAME = 120
"""Bytes; file systems allow 255, and suffixes follow."""


@dataclass(frozen=True)
class Kind:
    """What a result is.

    :ivar modality: "CT", "MR", "PT", "RGB", or another code that the model's card gives
    :ivar unit: the library's unit of its values
    """

    modality: str
    unit: str


@dataclass(frozen=True)
class Place:
    """Where a result lies.

    :ivar affine: 4x4, from voxel indices (i, j, k) to LPS mm
    :ivar moved: whether a parent transform took part
    """

    affine: np.ndarray
    moved: bool

    @property
    def spacing(self) -> Array:
        """Distances in mm of neighboring voxels along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def shares(self, other: Place) -> bool:
        """Whether the voxels of both lie on one grid, of which each may be a part."""
        step = np.linalg.inv(other.affine) @ self.affine  # indices to the other's indices
        shift = step[:3, 3]
        return bool(
            np.abs(step[:3, :3] - np.eye(3)).max() < SAME_GRID and np.abs(shift - np.rint(shift)).max() < SAME_GRID
        )

    def corners(self, shape: Sequence[int], index: int) -> Array:
        """The four corner voxels of slice `index`, (4, 3) in LPS mm; `shape` is (z, y, x)."""
        i, j = shape[2] - 1, shape[1] - 1
        indices = np.array([(0, 0, index, 1), (i, 0, index, 1), (0, j, index, 1), (i, j, index, 1)], float)
        return (indices @ self.affine.T)[:, :3]


def checkResult(node: slicer.vtkMRMLNode | None) -> None:
    """Refuse what was not synthesized here: only synthetic images may be marked as synthetic.

    :raises SynthesisError: naming the node and what to do
    """
    if node is None:
        raise SynthesisError(_("There is no result to export."), _("Synthesize a volume first."))
    nodes.checkInput(node)
    if not node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "ModelId"):
        raise SynthesisError(
            _("'{name}' has no record of being made by SynthGAN.").format(name=node.GetName()),
            _("Choose a synthesized volume, or export this one with Slicer's own tools."),
        )


def attributesOf(node: slicer.vtkMRMLNode) -> dict[str, Any]:
    """The record that was stored with a result, without prefix; JSON texts as what they mean."""
    record = {}
    for name in node.GetAttributeNames():
        if name.startswith(nodes.ATTRIBUTE_PREFIX):
            record[name.removeprefix(nodes.ATTRIBUTE_PREFIX)] = _meaning(node.GetAttribute(name))
    return record


def sourceOf(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLVolumeNode | None:
    """The volume that a result was made from, None if it is not in the scene any more."""
    if node.GetScene() is None:  # it was removed during the export
        return None
    known = nodes.sourceOf(node)
    found = node.GetScene().GetNodeByID(node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "InputNodeID") or "")
    if known is not None or found is None or node.GetNodeReferenceID(nodes.SOURCE_ROLE):
        return known
    # Either it was renamed, or the scene was merged into another, where the id is some other node's.
    isVolume = found.IsA("vtkMRMLVolumeNode") and found.GetImageData() is not None
    return found if isVolume and ownPlaceOf(node).shares(ownPlaceOf(found)) else None


def hasNoSource(node: slicer.vtkMRMLNode) -> bool:
    """Whether a result was made from a seed only."""
    return not node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "InputNodeID")


def kindOf(node: slicer.vtkMRMLNode) -> Kind:
    """What the result is: by its model's card if the model is installed, else by the coded unit of the node.

    :raises SynthesisError: if neither is available
    """
    from SynthGANPanel.runs import request

    record = attributesOf(node)
    try:
        target = request.findCard("{ModelId}@{ModelVersion}".format(**record)).target
        return Kind("RGB" if target.unit == "RGB" else target.modality, target.unit)
    except (SynthesisError, KeyError):
        unit = nodes.unitOf(node)  # a model that is not installed any more, or one given by its folder
    if unit is None:
        raise SynthesisError(
            _("The unit of the values of '{name}' is unknown.").format(name=node.GetName()),
            _("Install its model '{model}' again.").format(model=record["ModelId"]),
        )
    return Kind(MODALITIES[unit], unit)


def placeOf(node: slicer.vtkMRMLNode) -> Place:
    """Where a node lies in the world: its own grid, moved by the linear transforms above it.

    :raises SynthesisError: for a transform that is not linear
    """
    toWorld = nodes.linearBetween(
        node,
        None,
        _("'{name}' is under a transform that is not linear, so its slices are not planes."),
        _("Resample it to an even grid, or take it out of the transform."),
    )
    affine = nodes.RAS_TO_LPS @ toWorld @ nodes.ijkToRAS(node)
    return Place(affine, bool(np.abs(toWorld - np.eye(4)).max() > 1e-9))


def ownPlaceOf(node: slicer.vtkMRMLNode) -> Place:
    """Where a node lies before any transform."""
    return Place(nodes.RAS_TO_LPS @ nodes.ijkToRAS(node), False)


def checkRightAngles(node: slicer.vtkMRMLNode, place: Place, kind: str) -> None:
    """Refuse a sheared grid where the file format cannot store it.

    :param kind: the kind of file, as the message calls it
    :raises SynthesisError: naming the node and what to do
    """
    environment.useLibrary()
    from SynthGANLib.image.grid import Grid

    if not Grid((1, 1, 1), place.affine).orthogonal:
        raise SynthesisError(
            _("The axes of '{name}' are not at right angles, which {kind} cannot store.").format(
                name=node.GetName(), kind=kind
            ),
            _("Export it as NRRD, or resample it to right angles."),
        )


def recordOf(node: slicer.vtkMRMLNode, place: Place, kind: Kind, notes: Sequence[str]) -> dict[str, Any]:
    """What is written beside an export, ready for JSON.

    :param kind: a :class:`Kind`
    :param notes: sentences about what the export changed
    """
    environment.useLibrary()
    import SynthGANLib

    source = sourceOf(node)
    return {
        "format": FORMAT,
        "notice": "Synthetic image, computed and not acquired.",
        "written": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "software": f"SynthGAN {SynthGANLib.__version__}",
        "name": node.GetName(),
        "source": source.GetName() if source is not None else attributesOf(node).get("InputName", ""),
        "modality": kind.modality,
        "unit": kind.unit,
        "voxels": list(node.GetImageData().GetDimensions()),
        "ijk_to_lps_mm": place.affine.tolist(),
        "notes": list(notes),
        "result": attributesOf(node),
    }


def writeRecord(path: Path, record: dict[str, Any]) -> None:
    """Write the JSON file; OSError if the disk refuses."""
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def safeName(name: str) -> str:
    """A node's name as the name of a file on every system."""
    cut = UNFIT_FOR_NAMES.sub("_", name).encode("utf-8")[:LONGEST_NAME].decode("utf-8", "ignore")
    return cut.strip(". ") or "Result"


def freePath(folder: Path, name: str, suffix: str) -> Path:
    """The first of `name`, `name 2`, `name 3`... in a folder that neither exists nor has a record beside it."""
    base, number = safeName(name), 1
    while True:
        path = Path(folder) / f"{base if number == 1 else f'{base} {number}'}{suffix}"
        if not os.path.lexists(path) and not os.path.lexists(recordPath(path, suffix)):
            return path
        number += 1


def recordPath(path: Path, suffix: str = "") -> Path:
    """The path of the JSON file beside an export: `head.json` for `head.nii.gz`."""
    return path.with_name(path.name.removesuffix(suffix) + ".json")


def temporaryBeside(path: Path) -> Path:
    """A path beside `path` that does not exist: what lies there is renamed once it is complete."""
    return path.with_name(f".{path.name[:40]}-{uuid.uuid4().hex[:8]}.part")


def _meaning(text: str) -> Any:
    """A list or an object where the text is one, else the text."""
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            pass  # a name that begins like JSON
    return text
