"""All volumes of a subject-hierarchy study: which of them a model can take, and why not the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer
import vtk

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import inputChecks, nodes

if TYPE_CHECKING:
    from SynthGANLib.model.card import Card


def studyOf(volumeNode: slicer.vtkMRMLVolumeNode) -> tuple[int, str]:
    """The item that holds a volume in the subject hierarchy: its study or folder, else the whole scene; its name."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volumeNode))
    if parent in (0, hierarchy.GetSceneItemID()):
        return hierarchy.GetSceneItemID(), _("the scene")
    return parent, hierarchy.GetItemName(parent)


def volumesOf(volumeNode: slicer.vtkMRMLVolumeNode) -> list[slicer.vtkMRMLVolumeNode]:
    """The volumes of the same study, in the order of the subject hierarchy, without results of a synthesis."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    item, _name = studyOf(volumeNode)
    found = []
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, children, True)
    for index in range(children.GetNumberOfIds()):
        node = hierarchy.GetItemDataNode(children.GetId(index))
        if node is not None and node.GetClassName() in nodes.IMAGE_CLASSES and not isSynthetic(node):
            found.append(node)
    return found


def isSynthetic(node: slicer.vtkMRMLNode) -> bool:
    """Whether a volume is the result of a synthesis."""
    return bool(node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "ModelId"))


def fitting(
    volumeNode: slicer.vtkMRMLVolumeNode, card: Card
) -> tuple[list[slicer.vtkMRMLVolumeNode], list[tuple[str, str]]]:
    """Two lists for a study: volumes that the model can take, and (name, reason) of those it cannot."""
    taken, others = [], []
    for node in volumesOf(volumeNode):
        try:
            unfit = [check for check in inputChecks.checks(node, card) if check.level == "unfit"]
        except SynthesisError as error:
            others.append((node.GetName(), error.cause))
            continue
        if unfit:
            others.append((node.GetName(), unfit[0].text))
        else:
            taken.append(node)
    return taken, others
