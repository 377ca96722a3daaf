"""The modality, contrast and values that a volume node states, and whether they fit a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

from SynthGANPanel import environment
from SynthGANPanel.scene import nodes

if TYPE_CHECKING:
    from SynthGANLib.inference.fitness import Check
    from SynthGANLib.model.card import Card

NOISE = "NOISE"
"""Source modality of a model that makes images from nothing but a seed."""
MODALITIES = {"112031": "CT", "110852": "MR", "126400": "PT"}
"""Modality by the coded quantity of a node's voxels."""
TAGS = {
    "modality": "0008,0060",
    "scanning": "0018,0020",
    "echo_ms": "0018,0081",
    "repetition_ms": "0018,0080",
    "inversion_ms": "0018,0082",
    "series": "0008,103e",
    "protocol": "0018,1030",
}


def modalityOf(node: slicer.vtkMRMLNode) -> str:
    """The DICOM code of a node's modality (MR, CT, PT, ...), "" where it is unknown.

    Sources, in this order: the DICOM file it came from, the subject hierarchy, the coded quantity of its voxels.
    """
    code = _tag(node, "modality") or _hierarchyAttribute(node, "DICOM.Modality")
    if code:
        return code
    quantity = node.GetVoxelValueQuantity()
    return MODALITIES.get(quantity.GetCodeValue(), "") if quantity is not None else ""


def sequenceOf(node: slicer.vtkMRMLNode) -> str:
    """The MR contrast (T1, T2, PD, FLAIR) by the DICOM file, "" where it is another modality or not settled."""
    if modalityOf(node) != "MR":
        return ""
    environment.useLibrary()
    from SynthGANLib.io.dicom.contrast import contrast_of

    times = {name: _number(_tag(node, name)) for name in ("echo_ms", "repetition_ms", "inversion_ms")}
    description = _tag(node, "series") or _tag(node, "protocol")
    return contrast_of(scanning=_tag(node, "scanning"), description=description, **times)


def labels(node: slicer.vtkMRMLNode | None) -> dict[str, Any]:
    """The fields of a job that describe its input."""
    if node is None:
        return {"input_unit": "1", "input_modality": NOISE, "input_sequence": ""}
    return {
        "input_unit": nodes.unitOf(node),
        "input_modality": modalityOf(node) or None,
        "input_sequence": sequenceOf(node) or None,
    }


def checks(node: slicer.vtkMRMLNode, card: Card) -> list[Check]:
    """The library's checks of a node against a model's card, in the order in which they are shown.

    :raises SynthesisError: if the node is not an image
    """
    nodes.checkInput(node)
    environment.useLibrary()
    from SynthGANLib.inference.fitness import Facts, check_input

    volume = nodes.volumeFromNode(node)
    lowest, highest = node.GetImageData().GetScalarRange()  # kept by the image until it changes
    facts = Facts(
        volume.shape,
        volume.affine,
        volume.channels,
        volume.unit,
        modalityOf(node),
        sequenceOf(node),
        lowest,
        highest,
    )
    return check_input(facts, card)


def _tag(node: slicer.vtkMRMLNode, name: str) -> str:
    """A tag of the first DICOM file that the node was loaded from, "" without one."""
    uids = node.GetAttribute("DICOM.instanceUIDs")
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None or not database.isOpen:
        return ""
    return database.instanceValue(uids.split()[0], TAGS[name]) or ""


def _hierarchyAttribute(node: slicer.vtkMRMLNode, name: str) -> str:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    return hierarchy.GetItemAttribute(item, name) if item else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # absent, or not a number: treated as unknown
        return None
