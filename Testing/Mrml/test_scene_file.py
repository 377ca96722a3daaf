"""A scene with a result is saved as .mrb and read again: voxels, place, unit, window, provenance are kept."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from SynthGANLib.image.volume import Volume
from Testing.Headless.scene import add_volume, load_scene, open_scene, save_scene


@pytest.fixture
def fresh(headless: Any) -> Any:
    """A second scene, as in another session of Slicer."""
    opened = open_scene()
    yield opened
    opened.close()
    slicer.mrmlScene = headless.scene


def test_nothing_is_lost(
    scene: Any, logic: Any, identity_model: str, oblique: Volume, fresh: Any, tmp_path: Path
) -> None:
    slicer.mrmlScene = scene
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 12.5)
    transform.SetMatrixTransformToParent(matrix)
    source = add_volume(scene, oblique, "source")
    source.SetAndObserveTransformNodeID(transform.GetID())
    result = logic.synthesize(source, model=identity_model, device="cpu")
    path = tmp_path / "à sauver.mrb"
    save_scene(scene, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing half-written beside it
    assert zipfile.ZipFile(path).testzip() is None

    load_scene(fresh, path)
    again = fresh.scene.GetFirstNodeByName(result.GetName())
    np.testing.assert_array_equal(voxels_of(again, at=result), slicer.util.arrayFromVolume(result))
    assert again.GetParentTransformNode().GetName() == "Registration"
    assert again.GetVoxelValueUnits().GetAsString() == result.GetVoxelValueUnits().GetAsString()
    assert again.GetVoxelValueQuantity().GetAsString() == result.GetVoxelValueQuantity().GetAsString()
    assert again.GetDisplayNode().GetWindow() == result.GetDisplayNode().GetWindow()
    assert again.GetDisplayNode().GetLevel() == result.GetDisplayNode().GetLevel()
    names = [name for name in result.GetAttributeNames() if name.startswith("SynthGAN.")]
    assert len(names) >= 8
    assert {name: again.GetAttribute(name) for name in names} == {name: result.GetAttribute(name) for name in names}


def voxels_of(node: Any, at: Any) -> np.ndarray:
    """The voxels of `node` at the places of those of `at`, in the latter's order (z, y, x).

    Slicer stores a left-handed volume with one axis turned round, so the order may change but no place.
    """
    matrices = []
    for volume in (at, node):
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        matrices.append(slicer.util.arrayFromVTKMatrix(matrix))
    array = slicer.util.arrayFromVolume(node)
    shape = slicer.util.arrayFromVolume(at).shape
    zyx = np.indices(shape).reshape(3, -1)  # (3, z, y, x) -> (3, voxels)
    ijk = np.vstack([zyx[::-1], np.ones(zyx.shape[1])])
    there = (np.linalg.inv(matrices[1]) @ matrices[0] @ ijk)[:3]
    nearest = there.round().astype(int)
    assert np.abs(there - nearest).max() < 1e-6  # a voxel lies on a voxel; the file holds decimal text
    assert array.size == zyx.shape[1]
    return array[tuple(nearest[::-1])].reshape(shape)


def test_a_save_that_fails_keeps_the_older_file(scene: Any, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    with pytest.raises(OSError, match="gone"):
        save_scene(scene, folder / "scene.mrb")
    path = tmp_path / "scene.mrb"
    path.write_bytes(b"older")
    with pytest.raises(OSError, match="scene"):
        save_scene(_Refusing(), path)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


class _Refusing:
    """A scene on a disk that is full."""

    def WriteToMRB(self, path: str) -> bool:
        Path(path).write_bytes(b"half")
        return False
