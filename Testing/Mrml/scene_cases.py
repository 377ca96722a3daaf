"""What the MRML tests ask of a scene and of the bundled models."""

from __future__ import annotations

from typing import Any

from SynthGANLib.model.catalogue import Catalogue, bundled_folders


def bundled_models() -> list[str]:
    """Ids of the models that come with the extension; a broken one is listed too, so that its test fails."""
    return [entry.id for entry in Catalogue(bundled_folders()).models()]


def nodes_of(scene: Any) -> list[Any]:
    return [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]


def state_of(scene: Any) -> dict[str, tuple[str, int, int]]:
    """What a run that fails must leave alone: which nodes there are, and when each last changed."""
    return {node.GetID(): (node.GetName(), node.GetMTime(), _data_time(node)) for node in nodes_of(scene)}


def _data_time(node: Any) -> int:
    data = node.GetImageData() if node.IsA("vtkMRMLVolumeNode") else None
    return data.GetMTime() if data is not None else 0
