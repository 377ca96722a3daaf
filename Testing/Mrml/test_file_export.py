"""A result as NRRD or NIfTI: the very voxels in the very place, a record beside it, complete or not there at all."""

from __future__ import annotations

import errno
import gzip
import hashlib
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from SynthGANLib.image.grid import Affine
from SynthGANLib.image.volume import Volume, sitk_affine
from SynthGANLib.io.volumes import read_volume
from Testing.Headless.scene import add_volume, lps_to_ras
from Testing.Mrml.export_cases import oblique_affine, result_of, values_for

SHAPE = (5, 14, 11)
SUFFIXES = (".nrrd", ".nii.gz")
UNITS = {"CT": "HU", "MR": "1", "PT": "SUVbw", "RGB": "RGB"}


def result(scene: Any, kind: str = "CT", affine: Affine | None = None, dtype: Any = None) -> tuple[Any, np.ndarray]:
    values = values_for(kind, SHAPE)
    values = values if dtype is None else values.astype(dtype)
    place = oblique_affine() if affine is None else affine
    source = add_volume(scene, Volume(np.zeros(SHAPE, np.float32), place), "Tête")
    return result_of(source, values, kind), values


def export(node: Any, path: Path, overwrite: bool = False) -> Path:
    from SynthGANPanel.export.files import exportFile

    return exportFile(node, path, overwrite)


def refusal(node: Any, path: Path, overwrite: bool = False) -> str:
    from SynthGANPanel.failure import SynthesisError

    with pytest.raises(SynthesisError) as caught:
        export(node, path, overwrite)
    return str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["CT", "MR", "PT", "RGB"])
def test_it_is_read_back_as_it_was(scene: Any, tmp_path: Path, kind: str, suffix: str) -> None:
    node, values = result(scene, kind, oblique_affine("sagittal"))
    path = export(node, tmp_path / f"Kopf é 头{suffix}")
    read = read_volume(path)
    np.testing.assert_array_equal(read.array, values)
    assert read.unit == UNITS[kind]
    tolerance = 1e-9 if suffix == ".nrrd" else 1e-4  # NIfTI's header holds single precision
    assert read.grid.same_as(Volume(values, oblique_affine("sagittal")).grid, tolerance=tolerance)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float64", "uint8"])
def test_every_type_stays_what_it_is(scene: Any, tmp_path: Path, dtype: str, suffix: str) -> None:
    node, values = result(scene, "MR", dtype=dtype)
    image = sitk.ReadImage(str(export(node, tmp_path / f"mr{suffix}")))
    array = sitk.GetArrayFromImage(image)
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(array, values)
    assert Volume(array, sitk_affine(image)).grid.same_as(Volume(array, oblique_affine()).grid, tolerance=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("flips", list(itertools.product((1.0, -1.0), repeat=3)))
def test_either_handedness(scene: Any, tmp_path: Path, flips: tuple[float, ...], suffix: str) -> None:
    affine = oblique_affine("sagittal") @ np.diag([*flips, 1.0])
    node, values = result(scene, affine=affine)
    path = export(node, tmp_path / f"ct{suffix}")
    assert read_volume(path).grid.same_as(Volume(values, affine).grid, tolerance=1e-4)
    if suffix == ".nii.gz":
        assert quaternion_matrix(gzip.decompress(path.read_bytes())) == pytest.approx(
            np.diag([-1, -1, 1]) @ affine[:3, :3], abs=1e-5
        )


def quaternion_matrix(head: bytes) -> np.ndarray:
    """The directions that a NIfTI header gives by its quaternion, read independently of its matrix."""
    handedness, *spacing = struct.unpack("<4f", head[76:92])
    b, c, d = struct.unpack("<3f", head[256:268])
    if 1.0 - b * b - c * c - d * d < 1e-7:  # half a turn but for rounding, as the NIfTI library takes it
        b, c, d = np.array([b, c, d]) / np.linalg.norm([b, c, d])
    a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
    matrix = np.array([
        [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
        [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
        [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - c * c - b * b],
    ])  # fmt: skip
    return matrix @ np.diag([*spacing[:2], spacing[2] * handedness])


def test_every_orientation_of_the_axes(scene: Any) -> None:
    """Turns by 180 degrees are where a quaternion from a matrix goes wrong."""
    from SynthGANPanel.export.files import niftiHeader

    for axes, flips in itertools.product(itertools.permutations(range(3)), itertools.product((1.0, -1.0), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, axes] * flips * (0.7, 1.3, 4.1)
        header = niftiHeader(np.zeros(SHAPE, np.float32), affine, "HU")
        np.testing.assert_allclose(quaternion_matrix(header), np.diag([-1, -1, 1]) @ affine[:3, :3], atol=1e-5)


def test_slicer_reads_it(scene: Any, tmp_path: Path) -> None:
    for kind, suffix in itertools.product(("CT", "RGB"), SUFFIXES):
        node, values = result(scene, kind)
        path = export(node, tmp_path / f"{kind}{suffix}", overwrite=True)
        read = scene.AddNewNodeByClass(node.GetClassName())
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(str(path))
        storage.SetCenterImage(False)
        assert storage.ReadData(read)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(read), values)
        one, other = np.zeros(6), np.zeros(6)
        node.GetRASBounds(one)
        read.GetRASBounds(other)
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_sheared_grid_goes_into_nrrd_only(scene: Any, tmp_path: Path) -> None:
    sheared = oblique_affine()
    sheared[:3, 2] += 0.5 * sheared[:3, 1]
    node, _values = result(scene)
    node.SetIJKToRASMatrix(lps_to_ras(sheared))
    assert "not at right angles" in refusal(node, tmp_path / "ct.nii.gz")
    text = export(node, tmp_path / "ct.nrrd").read_bytes().partition(b"\n\n")[0].decode("ascii")
    (line,) = [line for line in text.splitlines() if line.startswith("space directions: ")]
    written = [json.loads(f"[{part.strip('()')}]") for part in line.removeprefix("space directions: ").split(" ")]
    np.testing.assert_allclose(np.transpose(written), sheared[:3, :3], atol=1e-12)


def test_world_coordinates_are_exported(scene: Any, tmp_path: Path) -> None:
    node, values = result(scene)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    shift = vtk.vtkTransform()
    shift.Translate(10.0, -20.0, 30.0)
    transform.SetMatrixTransformToParent(shift.GetMatrix())
    node.SetAndObserveTransformNodeID(transform.GetID())
    path = export(node, tmp_path / "ct.nrrd")
    expected = oblique_affine()
    expected[:3, 3] += (-10.0, 20.0, 30.0)
    assert read_volume(path).grid.same_as(Volume(values, expected).grid, tolerance=1e-9)
    assert "World coordinates" in json.loads((tmp_path / "ct.json").read_text(encoding="utf-8"))["notes"][0]


def test_the_record_beside_it(scene: Any, tmp_path: Path) -> None:
    node, _values = result(scene)
    node.SetAttribute("SynthGAN.Mask", "[not JSON")
    path = export(node, tmp_path / "Kopf.v2.nii.gz")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["Kopf.v2.json", "Kopf.v2.nii.gz"]
    record = json.loads((tmp_path / "Kopf.v2.json").read_text(encoding="utf-8"))
    assert (record["file"], record["sha256"]) == (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    assert (record["source"], record["unit"], record["notes"]) == ("Tête", "HU", [])
    given = {name for name in node.GetAttributeNames() if name.startswith("SynthGAN.")}
    assert {f"SynthGAN.{name}" for name in record["result"]} == given
    assert record["result"]["Warnings"] == ["One."]
    assert record["result"]["Mask"] == "[not JSON"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_overwritten_without_being_told(scene: Any, tmp_path: Path, suffix: str) -> None:
    node, values = result(scene)
    path, record = tmp_path / f"ct{suffix}", tmp_path / "ct.json"
    path.write_text("mine")
    assert "not overwritten" in refusal(node, path)
    path.unlink()
    record.write_text("mine")
    assert "not overwritten" in refusal(node, path)
    assert record.read_text() == "mine"
    path.write_text("mine")
    np.testing.assert_array_equal(read_volume(export(node, path, overwrite=True)).array, values)
    assert json.loads(record.read_text(encoding="utf-8"))["file"] == path.name


def test_paths_that_cannot_be_written_to(scene: Any, tmp_path: Path) -> None:
    node, _values = result(scene)
    assert "no folder" in refusal(node, tmp_path / "absent" / "ct.nrrd")
    assert "supported file type" in refusal(node, tmp_path / "ct.dcm")
    (tmp_path / "ct.nrrd").mkdir()
    assert "is a folder" in refusal(node, tmp_path / "ct.nrrd", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nrrd"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_ends_at_any_step_without_a_trace(scene: Any, tmp_path: Path, monkeypatch: Any, suffix: str) -> None:
    from SynthGANPanel import task
    from SynthGANPanel.export.files import FileExport

    monkeypatch.setattr(task, "STEP_SECONDS", 0.0)  # one step at each poll
    node, values = result(scene)
    path = tmp_path / f"ct{suffix}"
    path.write_text("mine")
    for steps in itertools.count():
        run = FileExport(node, path, overwrite=True)
        run.start()
        for _ in range(steps):
            run.poll()
        if not run.running:
            break
        run.cancel()
        assert run.state == "cancelled"
        assert [each.read_text() for each in tmp_path.iterdir()] == ["mine"]
    assert run.state == "done"
    assert steps > SHAPE[0]
    np.testing.assert_array_equal(read_volume(path).array, values)


@pytest.mark.parametrize("failing", [1, 3, "record"])
def test_a_full_disk_leaves_everything_as_it_was(scene: Any, tmp_path: Path, monkeypatch: Any, failing: Any) -> None:
    from SynthGANPanel.export import files as fileExport
    from SynthGANPanel.export import record as exportRecord

    node, _values = result(scene)
    (tmp_path / "ct.nrrd").write_text("mine")

    class Full:
        """A file on a disk with room for so many pieces."""

        def __init__(self, file: Any) -> None:
            self.file, self.room = file, failing

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= 1
            self.file.write(content)

    def no_record(path: Path, record: Any) -> None:
        path.write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "record":
        monkeypatch.setattr(exportRecord, "writeRecord", no_record)
    else:
        monkeypatch.setattr(fileExport, "open", lambda path, mode: Full(path.open(mode)), raising=False)
    assert "No space left" in refusal(node, tmp_path / "ct.nrrd", overwrite=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("ct.nrrd", "mine")]


def test_names_for_every_system(tmp_path: Path) -> None:
    from SynthGANPanel.export.record import freePath, safeName

    assert safeName("T1: a/b\\c?") == "T1_ a_b_c_"
    assert safeName("..") == "Result"
    assert len(safeName("头" * 200).encode()) <= 120
    assert freePath(tmp_path, "ct", ".nii.gz") == tmp_path / "ct.nii.gz"
    (tmp_path / "ct.nii.gz").touch()
    (tmp_path / "ct 2.json").touch()
    assert freePath(tmp_path, "ct", ".nii.gz") == tmp_path / "ct 3.nii.gz"
    assert freePath(tmp_path, "ct.v2", "") == tmp_path / "ct.v2"
