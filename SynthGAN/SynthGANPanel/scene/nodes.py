"""From MRML nodes to the library's volumes and back; the scene is written to only by `storeResult`."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array
    from SynthGANLib.image.volume import Volume
    from SynthGANLib.model.card import Card
    from SynthGANLib.model.card_specs import TargetSpec

Code = tuple[str, str, str]
"""A coded entry: value, scheme, meaning."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ATTRIBUTE_PREFIX = "SynthGAN."
SOURCE_ROLE = "SynthGAN.input"
"""Reference from a result to its input. Unlike an id in a text it stays correct when a scene is added to another."""
IMAGE_CLASSES = ("vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode")

# Coded entries (value, scheme, meaning) of quantity and unit, by the library's unit.
# CT and MR as Slicer's DICOM module sets them; SUV by DICOM PS3.16, CID 85 and CID 84.
QUANTITIES = {
    "HU": (("112031", "DCM", "Attenuation Coefficient"), ("[hnsf'U]", "UCUM", "Hounsfield unit")),
    "SUVbw": (
        ("126400", "DCM", "Standardized Uptake Value"),
        ("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight"),
    ),
    "MR": (("110852", "DCM", "MR signal intensity"), ("1", "UCUM", "no units")),
}

GREY = "vtkMRMLColorTableNodeGrey"
# Window, level and color table. The CT presets are those of Slicer's Volumes module, by its ids, written out so that
# a scene made without the application looks the same.
PRESETS = {
    "CT_ABDOMEN": (350.0, 40.0, GREY),
    "CT_AIR": (1000.0, -426.0, GREY),
    "CT_BONE": (1000.0, 400.0, GREY),
    "CT_BRAIN": (100.0, 50.0, GREY),
    "CT_LUNG": (1400.0, -500.0, GREY),
    "PET_SUV": (10.0, 5.0, "vtkMRMLColorTableNodeInvertedGrey"),
    "RGB": (255.0, 127.5, ""),  # colors as they are, which need no table
}
DEFAULT_PRESET = {"HU": "CT_ABDOMEN", "SUVbw": "PET_SUV", "RGB": "RGB"}


def firstVolume(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLVolumeNode | None:
    """The first image of the scene that could be an input, None if there is none."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene):
        if node.GetClassName() in IMAGE_CLASSES:  # label maps, for one, are a subclass
            return node
    return None


def checkIsNode(node: Any, parameter: str) -> None:
    """Refuse what is neither a node nor None; a script may pass anything, often a node's name.

    :param parameter: what the console calls it
    :raises SynthesisError: saying how to get a node
    """
    if node is not None and not isinstance(node, slicer.vtkMRMLNode):
        value = f"'{node}'" if isinstance(node, str) else type(node).__name__
        raise SynthesisError(
            _("'{parameter}' must be a node of the scene, not {value}.").format(parameter=parameter, value=value),
            _("Get a node by its name with slicer.util.getNode."),
        )


def checkInScene(node: slicer.vtkMRMLNode | None) -> None:
    """Refuse a node that was removed from the scene or never added to one.

    :raises SynthesisError: naming the node
    """
    if node is not None and node.GetScene() is None:
        raise SynthesisError(
            _("'{name}' is not in the scene.").format(name=node.GetName()), _("Choose a volume of the scene.")
        )


def checkInput(node: slicer.vtkMRMLNode | None) -> None:
    """Refuse an input that is not an image the library can read.

    :raises SynthesisError: naming the node and what to do
    """
    if node is None:
        raise SynthesisError(_("No input volume is selected."), _("Choose one."))
    name = node.GetName()
    if node.GetClassName() not in (*IMAGE_CLASSES, "vtkMRMLLabelMapVolumeNode"):
        raise SynthesisError(
            _("'{name}' is not a scalar or color volume.").format(name=name), _("Choose another input volume.")
        )
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or 0 in image.GetDimensions():
        raise SynthesisError(_("'{name}' holds no voxels.").format(name=name), _("Choose another input volume."))
    if not np.isfinite(ijkToRAS(node)).all() or abs(np.linalg.det(ijkToRAS(node))) < 1e-12:
        raise SynthesisError(
            _("The voxels of '{name}' have no size (its IJK to RAS matrix cannot be inverted).").format(name=name),
            _("Correct its spacing and directions in the Volumes module."),
        )


def checkOutput(
    node: slicer.vtkMRMLNode | None,
    inputNode: slicer.vtkMRMLVolumeNode | None,
    maskNode: slicer.vtkMRMLNode | None,
    colors: bool,
) -> None:
    """Refuse an output node that cannot hold the result or that is an input.

    :param colors: whether the result is a color volume
    :raises SynthesisError: naming the node and what to do
    """
    if node is None:
        return
    name = node.GetName()
    if node is inputNode or node is maskNode:
        raise SynthesisError(
            _("The output volume '{name}' is an input as well and would be overwritten.").format(name=name),
            _("Choose another output volume or let a new one be created."),
        )
    if node.GetClassName() != _resultClass(colors):
        wanted = _("a color (vector) volume") if colors else _("a scalar volume")
        raise SynthesisError(
            _("The output volume '{name}' cannot hold the result, which is {kind}.").format(name=name, kind=wanted),
            _("Choose another output volume or let a new one be created."),
        )


def ijkToRAS(node: slicer.vtkMRMLNode) -> Array:
    """The 4x4 matrix from voxel indices to the node's own RAS coordinates (mm), before any parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def volumeFromNode(node: slicer.vtkMRMLNode) -> Volume:
    """The library's volume of a node: array (z, y, x) or (z, y, x, 3), affine to LPS mm, unit.

    The array is a view of the node's voxels, except for colors with transparency, which is left out.
    """
    environment.useLibrary()
    from SynthGANLib.image.volume import Volume

    array = slicer.util.arrayFromVolume(node)
    if array.ndim == 4 and array.shape[3] == 4:
        array = array[..., :3]  # (z, y, x, 4) -> (z, y, x, 3)
    return Volume(array, RAS_TO_LPS @ ijkToRAS(node), unitOf(node) or "1")


def unitOf(node: slicer.vtkMRMLNode) -> str | None:
    """The library's unit of a node's voxels, from its coded units; None where the node does not state them."""
    if node.GetImageData().GetNumberOfScalarComponents() >= 3:
        return "RGB"
    units = node.GetVoxelValueUnits()
    code = units.GetCodeValue() if units is not None else ""
    for unit, (_quantity, unitCode) in QUANTITIES.items():
        if unit != "MR" and unitCode[0] == code:
            return unit
    quantity = node.GetVoxelValueQuantity()
    if quantity is not None and quantity.GetCodeValue() == QUANTITIES["MR"][0][0]:
        return "1"
    return None


def resultName(inputNode: slicer.vtkMRMLVolumeNode | None, card: Card) -> str:
    """`<input> synthetic CT (head-mr-ct)`."""
    if inputNode is None:
        return _("synthetic {modality} ({model})").format(modality=card.target.modality, model=card.id)
    return _("{input} synthetic {modality} ({model})").format(
        input=inputNode.GetName(), modality=card.target.modality, model=card.id
    )


def freeName(scene: slicer.vtkMRMLScene, name: str) -> str:
    """The name itself if no node has it, else with a number.

    The scene alone would add a number also for a node that was removed.
    """
    return name if scene.GetFirstNodeByName(name) is None else scene.GenerateUniqueName(name)


def storeResult(
    inputNode: slicer.vtkMRMLVolumeNode | None,
    outputNode: slicer.vtkMRMLVolumeNode | None,
    array: Array,
    card: Card,
    provenance: dict[str, str],
    ijkToRAS: Array,
) -> slicer.vtkMRMLVolumeNode:
    """Put the result into the scene, completely or not at all; nothing else changes the scene.

    :param outputNode: node chosen by the user (keeps its name), or None for a new one
    :param inputNode: None for a model that needs no input
    :param array: (z, y, x[, 3])
    :param card: the model's card
    :param provenance: attributes to store, without prefix
    :param ijkToRAS: 4x4, from the array's indices (x, y, z) to the coordinates of the input node
    :return: the node
    """
    scene = inputNode.GetScene() if inputNode is not None else slicer.mrmlScene
    # The voxels are completed apart, so that lack of memory leaves the scene and the chosen node as they were.
    image = _imageOf(array)
    node = outputNode or scene.AddNewNodeByClass(
        _resultClass(array.ndim == 4), freeName(scene, resultName(inputNode, card))
    )
    completed = False
    try:
        with slicer.util.NodeModify(node):
            _fill(node, image, card, provenance, ijkToRAS)
            node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID() if inputNode is not None else None)
            setSource(node, inputNode)
        showAsTarget(node, card)
        if inputNode is not None:
            placeBeside(inputNode, node)
        completed = True
    finally:
        if not completed and outputNode is None:
            scene.RemoveNode(node)
    return node


def setSource(node: slicer.vtkMRMLNode, inputNode: slicer.vtkMRMLVolumeNode | None) -> None:
    """Store a reference from a result to its input (None: the model needs no input)."""
    node.SetNodeReferenceID(SOURCE_ROLE, inputNode.GetID() if inputNode is not None else None)


def sourceOf(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLVolumeNode | None:
    """The volume that a result was made from; None if there is none, or not in the scene any more."""
    scene = node.GetScene()
    if scene is None or node.GetNodeReferenceID(SOURCE_ROLE):
        return node.GetNodeReference(SOURCE_ROLE) if scene is not None else None
    # A copy of a result has its attributes alone. Another node may have the id by now, so its name is compared, too.
    found = scene.GetNodeByID(node.GetAttribute(ATTRIBUTE_PREFIX + "InputNodeID") or "")
    named = found is not None and found.GetName() == node.GetAttribute(ATTRIBUTE_PREFIX + "InputName")
    return found if named else None


def looseResult(array: Array, card: Card, provenance: dict[str, str], ijkToRAS: Array) -> slicer.vtkMRMLVolumeNode:
    """A result node that is in no scene, for a sequence; parameters as in `storeResult`."""
    node = slicer.vtkMRMLVectorVolumeNode() if array.ndim == 4 else slicer.vtkMRMLScalarVolumeNode()
    _fill(node, _imageOf(array), card, provenance, ijkToRAS)
    return node


def provenance(
    inputNode: slicer.vtkMRMLVolumeNode | None, card: Card, done: dict[str, Any], choices: dict[str, str]
) -> dict[str, str]:
    """The provenance of a result, as text by attribute name.

    :param inputNode: None for a model that needs no input
    :param done: the worker's closing event
    :param choices: further attributes: the choices of the user
    """
    return {
        "ModelId": card.id,
        "ModelVersion": card.version,
        "WeightsSHA256": str(done.get("weights_sha256") or "none"),
        "Seed": str(done.get("seed", "none")),
        "Device": str(done.get("device", "")),
        "Versions": json.dumps(done.get("versions", {}), sort_keys=True),
        "Seconds": str(done.get("seconds", "")),
        "Warnings": json.dumps(done.get("warnings", [])),
        "ResultSHA256": str(done.get("output_sha256", "")),
        "InputNodeID": inputNode.GetID() if inputNode is not None else "",
        "InputName": inputNode.GetName() if inputNode is not None else "none",
        "Date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "Intent": "research only" if card.research_only else "see the model's card",
        **choices,
    }


def _fill(node: slicer.vtkMRMLNode, image: Any, card: Card, provenance: dict[str, str], ijkToRAS: Array) -> None:
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRAS))
    setQuantity(node, card.target)
    for name, value in provenance.items():
        node.SetAttribute(ATTRIBUTE_PREFIX + name, value)


def _resultClass(colors: bool) -> str:
    return "vtkMRMLVectorVolumeNode" if colors else "vtkMRMLScalarVolumeNode"


def _imageOf(array: Array) -> Any:
    holder = slicer.vtkMRMLVectorVolumeNode() if array.ndim == 4 else slicer.vtkMRMLScalarVolumeNode()
    slicer.util.updateVolumeFromArray(holder, array)
    return holder.GetImageData()


def setQuantity(node: slicer.vtkMRMLNode, target: TargetSpec) -> None:
    """Set quantity and unit of the values as coded entries."""
    key = target.unit if target.unit in QUANTITIES else target.modality
    quantity, units = QUANTITIES.get(key, (None, None))
    node.SetVoxelValueQuantity(_codedEntry(quantity))
    node.SetVoxelValueUnits(_codedEntry(units))


def _codedEntry(code: Code | None) -> Any:
    if code is None:
        return None
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*code)
    return entry


def showAsTarget(node: slicer.vtkMRMLNode, card: Card) -> None:
    """Window, level and colors of the model's target; automatic where the unit has no fixed meaning."""
    target = card.target
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    # Cards may give Slicer's id of a preset (CT_BONE) or its name (CT-Bone).
    preset = PRESETS.get(target.display.upper().replace("-", "_")) or PRESETS.get(DEFAULT_PRESET.get(target.unit, ""))
    if preset is None:
        display.SetAutoWindowLevel(True)
        return
    window, level, colors = preset
    with slicer.util.NodeModify(display):
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(window, level)
        if node.GetScene().GetNodeByID(colors) is not None:
            display.SetAndObserveColorNodeID(colors)


def placeBeside(inputNode: slicer.vtkMRMLVolumeNode, node: slicer.vtkMRMLNode) -> None:
    """Same study (or folder) in the subject hierarchy as the input, right after it."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(inputNode.GetScene())
    source = hierarchy.GetItemByDataNode(inputNode) if hierarchy is not None else 0
    if not source:
        return
    parent = hierarchy.GetItemParent(source)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)


def toLocal(node: slicer.vtkMRMLNode, referenceNode: slicer.vtkMRMLNode) -> Array:
    """The 4x4 matrix from the RAS of `node` to the RAS of `referenceNode`, through their parent transforms."""
    return linearBetween(
        node,
        referenceNode,
        _("The mask '{name}' and the input volume are related by a transform that is not linear."),
        _("Harden the transform, or put the mask under the same transform as the input."),
    )


def linearBetween(node: slicer.vtkMRMLNode, other: slicer.vtkMRMLNode | None, cause: str, nextStep: str) -> Array:
    """The 4x4 matrix from the RAS of a node to the RAS of another, or to the world's if that is None.

    :param cause: sentence of the error, with a place {name} for the node; `nextStep`: what to do
    :raises SynthesisError: if the transform between them is not linear
    """
    matrix = between(node.GetParentTransformNode(), other.GetParentTransformNode() if other is not None else None)
    if matrix is None:
        raise SynthesisError(cause.format(name=node.GetName()), nextStep)
    return matrix


def between(transform: slicer.vtkMRMLNode | None, other: slicer.vtkMRMLNode | None) -> Array | None:
    """The 4x4 matrix from the RAS under one parent transform to the RAS under another; None for the world.

    :return: None where one of them is not linear, unless they are the same
    """
    if transform is other:
        return np.eye(4)
    if any(each is not None and not each.IsTransformToWorldLinear() for each in (transform, other)):
        return None
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(transform, other, matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)
