"""Nodes that a comparison makes (maps, tables, charts): marked by an attribute and removed when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import slicer
import vtk

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array

ATTRIBUTE = "SynthGAN.Comparison"


def mark(node: slicer.vtkMRMLNode, kind: str) -> slicer.vtkMRMLNode:
    """Note that a node was made for a comparison; returns it."""
    node.SetAttribute(ATTRIBUTE, kind)
    return node


def add(scene: slicer.vtkMRMLScene, className: str, name: str, kind: str) -> slicer.vtkMRMLNode:
    """A new node, marked."""
    return mark(scene.AddNewNodeByClass(className, scene.GenerateUniqueName(name)), kind)


def fillVolume(
    className: str, name: str, kind: str, array: Array, gridNode: slicer.vtkMRMLVolumeNode
) -> slicer.vtkMRMLNode:
    """Put voxels into the volume of a kind, which is added if there is none.

    :param array: (k, j, i[, c]) on the grid of the volume `gridNode`
    :return: the volume, placed as `gridNode` is
    """
    scene = gridNode.GetScene()
    node = find(scene, kind, className) or add(scene, className, name, kind)
    matrix = vtk.vtkMatrix4x4()
    gridNode.GetIJKToRASMatrix(matrix)
    with slicer.util.NodeModify(node):
        node.SetName(name)
        slicer.util.updateVolumeFromArray(node, array)
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveTransformNodeID(gridNode.GetTransformNodeID())
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node


def kindOf(node: slicer.vtkMRMLNode) -> str | None:
    """What a node was made for, None if it is not one of a comparison."""
    return node.GetAttribute(ATTRIBUTE)


def nodes(scene: slicer.vtkMRMLScene, kind: str | None = None) -> list[slicer.vtkMRMLNode]:
    """The nodes made for a comparison, of one kind or all."""
    every = (scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes()))
    return [node for node in every if kindOf(node) and kind in (None, kindOf(node))]


def find(scene: slicer.vtkMRMLScene, kind: str, className: str) -> slicer.vtkMRMLNode | None:
    """The first node of a kind and class, None if there is none."""
    return next((node for node in nodes(scene, kind) if node.IsA(className)), None)


def removeOthers(scene: slicer.vtkMRMLScene, kept: Sequence[str] = ()) -> None:
    """Remove the nodes made for a comparison but for some kinds."""
    remove(scene, [node for node in nodes(scene) if kindOf(node) not in kept])


def remove(scene: slicer.vtkMRMLScene, doomed: Iterable[slicer.vtkMRMLNode]) -> None:
    """Remove nodes with their display and storage nodes, which the scene would keep."""
    every = list(doomed)
    for node in doomed:
        if node.IsA("vtkMRMLDisplayableNode"):
            every += [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
        if node.IsA("vtkMRMLStorableNode"):
            every += [node.GetNthStorageNode(index) for index in range(node.GetNumberOfStorageNodes())]
    for node in every:
        if node is not None and scene.IsNodePresent(node):
            scene.RemoveNode(node)


def checkPresent(*compared: slicer.vtkMRMLNode) -> None:
    """Refuse volumes of which one was removed from the scene while they were compared.

    :raises SynthesisError: naming it
    """
    for node in compared:
        if node.GetScene() is None:
            raise SynthesisError(_("'{name}' was removed while it was compared.").format(name=node.GetName()))


def release(scene: slicer.vtkMRMLScene, kind: str) -> list[slicer.vtkMRMLNode]:
    """Remove the mark from the nodes of a kind, so that they stay in the scene. Returns them."""
    released = nodes(scene, kind)
    for node in released:
        with slicer.util.NodeModify(node):
            node.RemoveAttribute(ATTRIBUTE)
    return released
