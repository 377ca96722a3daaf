"""A result as a DICOM series: valid, read back to the same voxels in the same place, complete or not there at all."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from SynthGANLib.image.grid import Affine
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume
from Testing.Headless.scene import add_volume, lps_to_ras
from Testing.Mrml.export_cases import (
    LONG_AGO,
    corner_values,
    errors_of,
    headers,
    oblique_affine,
    result_of,
    values_for,
)

SHAPE = (5, 14, 11)
KINDS = ("CT", "MR", "PT", "RGB")
UNITS = {"CT": "HU", "MR": "1", "PT": "SUVbw", "RGB": "RGB"}


def plain_source(scene: Any, affine: Affine | None = None, shape: tuple[int, int, int] = SHAPE) -> Any:
    """A volume that was not loaded from DICOM."""
    place = oblique_affine() if affine is None else affine
    return add_volume(scene, Volume(np.zeros(shape, np.float32), place), "Tête")


def export(node: Any, folder: Path, **choices: Any) -> Path:
    from SynthGANPanel.export.dicom import exportDicom

    return exportDicom(node, folder, **choices)


def refusal(node: Any, folder: Path, **choices: Any) -> str:
    from SynthGANPanel.failure import SynthesisError

    with pytest.raises(SynthesisError) as caught:
        export(node, folder, **choices)
    return str(caught.value)


def counted_uids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"1.2.3.9.{next(numbers)}"


def stored_values(folder: Path) -> np.ndarray:
    """Voxels (z, y, x[, 3]) as the headers say: slope times stored number plus intercept, in order of the files."""
    planes = []
    for header in headers(folder):
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        pixels = header.pixel_array
        planes.append(pixels if pixels.ndim == 3 else slope * pixels.astype(np.float64) + intercept)
    return np.stack(planes)


def with_sitk(folder: Path) -> Volume:
    """The series as ITK's GDCM reader sees it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (3, 3))
    affine[:3, :3], affine[:3, 3] = direction * image.GetSpacing(), image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image), affine)


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read_back_as_it_was(scene: Any, tmp_path: Path, kind: str, plane: str) -> None:
    affine, values = oblique_affine(plane), values_for(kind, SHAPE)
    node = result_of(plain_source(scene, affine), values, kind)
    folder = export(node, tmp_path / "Série é 头")
    stored = stored_values(folder)
    if kind in ("CT", "RGB"):
        np.testing.assert_array_equal(stored, values)
    else:
        slope = float(headers(folder)[0].RescaleSlope)
        assert slope <= 1.001 * values.max() / 65535
        assert np.abs(stored - values).max() <= 0.5001 * slope
    ours, itks = read_volume(folder), with_sitk(folder)
    assert ours.unit == UNITS[kind]
    assert ours.grid.same_as(Volume(values, affine).grid, tolerance=1e-6)
    np.testing.assert_array_equal(ours.array, stored.astype(ours.array.dtype))
    assert itks.grid.same_as(Volume(values, affine).grid, tolerance=1e-6)
    np.testing.assert_array_equal(itks.array, stored)


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_errors(scene: Any, tmp_path: Path, kind: str) -> None:
    node = result_of(plain_source(scene), values_for(kind, SHAPE), kind)
    assert errors_of(export(node, tmp_path / "series", patient={"name": "Łukasz^Ø", "id": "é 1"})) == []


@pytest.mark.parametrize("shape", [(1, 14, 11), (3, 1, 11), (2, 3, 1)])
def test_flat_volumes(scene: Any, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    values = values_for("CT", shape)
    folder = export(result_of(plain_source(scene, shape=shape), values, "CT"), tmp_path / "flat")
    np.testing.assert_array_equal(stored_values(folder), values)
    assert read_volume(folder).grid.same_as(Volume(values, oblique_affine()).grid, tolerance=1e-6)
    assert errors_of(folder) == []


def test_a_left_handed_stack_keeps_every_voxel_in_its_place(scene: Any, tmp_path: Path) -> None:
    affine, values = oblique_affine() @ np.diag([1.0, 1.0, -1.0, 1.0]), values_for("CT", SHAPE)
    folder = export(result_of(plain_source(scene, affine), values, "CT"), tmp_path / "left")
    read = read_volume(folder)
    assert corner_values(read, read.array) == corner_values(Volume(values, affine), values)
    along = [np.dot(header.ImagePositionPatient, [0.0, 0.0, 1.0]) for header in headers(folder)]
    assert along == sorted(along)  # numbers and places rise together
    assert errors_of(folder) == []


def test_the_image_type_says_derived(scene: Any, tmp_path: Path) -> None:
    types = {"CT": ["DERIVED", "SECONDARY", "AXIAL"], "MR": ["DERIVED", "SECONDARY", "OTHER"],
             "PT": ["DERIVED", "PRIMARY"], "RGB": ["DERIVED", "SECONDARY"]}  # fmt: skip
    for kind, expected in types.items():
        folder = export(result_of(plain_source(scene), values_for(kind, SHAPE), kind), tmp_path / kind)
        header = headers(folder)[2]
        assert list(header.ImageType) == expected
        assert "SYNTHETIC" in header.SeriesDescription
        assert len(header.SeriesDescription) <= 64
        assert f"test-to-{kind.lower()} 1.2.3" in header.DerivationDescription
        assert header.ContentQualification == "RESEARCH"
        assert header.BurnedInAnnotation == "NO"


def test_each_kind_states_its_numbers(scene: Any, tmp_path: Path) -> None:
    first = {
        kind: headers(export(result_of(plain_source(scene), values_for(kind, SHAPE), kind), tmp_path / kind))[0]
        for kind in KINDS
    }
    assert (first["CT"].RescaleSlope, first["CT"].RescaleIntercept, first["CT"].RescaleType) == (1, -1024, "HU")
    assert (first["CT"].WindowWidth, first["CT"].WindowCenter) == (1000, 400)  # the card asks for CT-Bone
    assert (first["PT"].Units, first["PT"].SUVType, first["PT"].RescaleIntercept) == ("GML", "BW", 0)
    mapping = first["MR"].RealWorldValueMappingSequence[0]
    assert mapping.RealWorldValueSlope == float(first["MR"].RescaleSlope)
    assert first["RGB"].PhotometricInterpretation == "RGB"
    assert (first["RGB"].PlanarConfiguration, first["RGB"].ConversionType) == (0, "SYN")


def test_whole_mr_values_are_stored_as_they_are(scene: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 4096, SHAPE).astype(np.float32)
    for sign, name in ((1, "positive"), (-1, "negative")):
        folder = export(result_of(plain_source(scene), sign * values, "MR"), tmp_path / name)
        assert "RescaleSlope" not in headers(folder)[0]
        np.testing.assert_array_equal(stored_values(folder), sign * values)
        assert errors_of(folder) == []


def test_rounding_is_said(scene: Any, tmp_path: Path) -> None:
    values = values_for("CT", SHAPE) + np.float32(0.25)
    folder = export(result_of(plain_source(scene), values, "CT"), tmp_path / "ct")
    np.testing.assert_array_equal(stored_values(folder), np.rint(values))
    assert "rounded to whole HU" in headers(folder)[0].DerivationDescription
    record = json.loads((tmp_path / "ct.json").read_text(encoding="utf-8"))
    assert any("rounded to whole HU" in note for note in record["notes"])


@pytest.mark.parametrize(("value", "words"), [(40000.0, "40000 HU"), (np.nan, "not finite"), (-np.inf, "not finite")])
def test_values_that_cannot_be_stored_are_refused(scene: Any, tmp_path: Path, value: float, words: str) -> None:
    values = values_for("CT", SHAPE)
    values[2, 3, 4] = value
    assert words in refusal(result_of(plain_source(scene), values, "CT"), tmp_path / "series")
    assert list(tmp_path.iterdir()) == []


def test_the_word_is_drawn_into_one_corner_only(scene: Any, tmp_path: Path) -> None:
    from SynthGANLib.io.dicom.export_pixels import text_mask

    shape = (2, 40, 60)
    for kind in KINDS:
        values = values_for(kind, shape)
        folder = export(result_of(plain_source(scene, shape=shape), values, kind), tmp_path / kind, burnIn=True)
        assert headers(folder)[0].BurnedInAnnotation == "YES"
        letters, box = text_mask(40, 60)
        plain = stored_values(export(result_of(plain_source(scene, shape=shape), values, kind), tmp_path / f"{kind}0"))
        for burned, clean in zip(stored_values(folder), plain, strict=True):
            np.testing.assert_array_equal(burned[~box], clean[~box])
            assert (burned[letters] == plain.max()).all()
            assert (burned[box & ~letters] == plain.min()).all()
        assert errors_of(folder) == []


def test_the_word_is_legible_and_has_to_fit(scene: Any, tmp_path: Path) -> None:
    from SynthGANLib.io.dicom.export_pixels import text_mask

    letters, _ = text_mask(512, 512)
    # The last letter is a C: a bar on the left, open on the right.
    rows, columns = np.nonzero(letters)
    last = letters[rows.min() : rows.max() + 1, columns.max() - 9 : columns.max() + 1]
    assert last[:, :2].sum() > last[:, -2:].sum() > 0
    node = result_of(plain_source(scene), np.zeros(SHAPE, np.float32), "CT")
    assert "too small" in refusal(node, tmp_path / "series", burnIn=True)
    constant = result_of(plain_source(scene, shape=(1, 9, 60)), np.full((1, 9, 60), 7, np.float32), "CT")
    assert len(np.unique(stored_values(export(constant, tmp_path / "constant", burnIn=True)))) == 2


def test_world_coordinates_are_exported(scene: Any, tmp_path: Path) -> None:
    source = plain_source(scene)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    turned = vtk.vtkTransform()
    turned.RotateWXYZ(33.0, 0.2, 0.5, -0.8)
    turned.Translate(5.0, -120.0, 44.0)
    transform.SetMatrixTransformToParent(turned.GetMatrix())
    source.SetAndObserveTransformNodeID(transform.GetID())
    values = values_for("CT", SHAPE)
    folder = export(result_of(source, values, "CT"), tmp_path / "moved")
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    world = flip @ slicer.util.arrayFromVTKMatrix(turned.GetMatrix()) @ flip @ oblique_affine()
    assert read_volume(folder).grid.same_as(Volume(values, world).grid, tolerance=1e-6)
    assert "World coordinates" in json.loads((tmp_path / "moved.json").read_text(encoding="utf-8"))["notes"][0]


def test_places_that_dicom_cannot_say_are_refused(scene: Any, tmp_path: Path) -> None:
    node = result_of(plain_source(scene), values_for("CT", SHAPE), "CT")
    sheared = oblique_affine()
    sheared[:3, 2] += 0.5 * sheared[:3, 1]
    node.SetIJKToRASMatrix(lps_to_ras(sheared))
    assert "not at right angles" in refusal(node, tmp_path / "series")
    node.SetIJKToRASMatrix(lps_to_ras(oblique_affine()))
    bent = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Bent")
    node.SetAndObserveTransformNodeID(bent.GetID())
    assert "not linear" in refusal(node, tmp_path / "series")
    assert list(tmp_path.iterdir()) == []


def test_only_results_are_marked_synthetic(scene: Any, tmp_path: Path) -> None:
    assert "no record" in refusal(plain_source(scene), tmp_path / "series")
    assert "no result" in refusal(None, tmp_path / "series")


def test_a_python_without_pydicom_is_told(scene: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from SynthGANPanel.export import dicom as dicomExport

    node = result_of(plain_source(scene), values_for("CT", SHAPE), "CT")
    monkeypatch.setattr(dicomExport.importlib.util, "find_spec", lambda name: None)
    assert "pydicom" in refusal(node, tmp_path / "series")


@pytest.mark.parametrize("after", [0, 2])
def test_a_full_disk_leaves_nothing(scene: Any, tmp_path: Path, monkeypatch: Any, after: int) -> None:
    node = result_of(plain_source(scene), values_for("CT", SHAPE), "CT")
    calls = itertools.count()
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if next(calls) >= after:
            write(self, content[:200])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "No space left" in refusal(node, tmp_path / "series")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_renamed_leaves_nothing(scene: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from SynthGANPanel.export import dicom as dicomExport

    node = result_of(plain_source(scene), values_for("CT", SHAPE), "CT")
    rename = dicomExport.os.rename

    def refuse(old: Path, new: Path) -> None:
        if Path(new) == tmp_path / "series":
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(old, new)

    monkeypatch.setattr(dicomExport.os, "rename", refuse)
    assert "Permission denied" in refusal(node, tmp_path / "series")
    assert list(tmp_path.iterdir()) == []


def test_it_ends_at_any_step_without_a_trace(scene: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from SynthGANPanel import task
    from SynthGANPanel.export.dicom import DicomExport

    monkeypatch.setattr(task, "STEP_SECONDS", 0.0)  # one step at each poll
    node = result_of(plain_source(scene), values_for("CT", SHAPE), "CT")
    steps = 0
    while True:
        run = DicomExport(node, tmp_path / "series")
        run.start()
        fractions = [run.fraction]
        for _ in range(steps):
            run.poll()
            fractions.append(run.fraction)
        assert fractions == sorted(fractions)
        if not run.running:
            break
        run.cancel()
        assert (run.state, run.error.kind) == ("cancelled", "cancelled")
        assert list(tmp_path.iterdir()) == []
        steps += 1
    assert run.state == "done"
    assert steps > 2 * SHAPE[0]  # every slice is a step of its own, measured and written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["series", "series.json"]


def test_nothing_is_overwritten(scene: Any, tmp_path: Path) -> None:
    node = result_of(plain_source(scene), values_for("CT", SHAPE), "CT")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "record.json").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("full", "record", "file"):
        assert "not overwritten" in refusal(node, tmp_path / name)
    assert "no folder" in refusal(node, tmp_path / "absent" / "series")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "empty").mkdir()
    assert len(headers(export(node, tmp_path / "empty"))) == SHAPE[0]


def test_a_result_that_changes_meanwhile_is_refused(scene: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from SynthGANPanel import task
    from SynthGANPanel.export.dicom import DicomExport

    monkeypatch.setattr(task, "STEP_SECONDS", 0.0)  # one step at each poll
    node = result_of(plain_source(scene), values_for("CT", SHAPE), "CT")
    run = DicomExport(node, tmp_path / "series")
    run.start()
    while run.fraction < 0.6:
        run.poll()
    slicer.util.arrayFromVolume(node)[:] = 0
    slicer.util.arrayFromVolumeModified(node)
    while not run.poll():
        pass
    assert "was changed" in str(run.error)
    assert list(tmp_path.iterdir()) == []


def test_the_same_again_with_the_same_uids(scene: Any, tmp_path: Path) -> None:
    node = result_of(plain_source(scene), values_for("PT", SHAPE), "PT")
    both = [export(node, tmp_path / name, newUid=counted_uids(), now=LONG_AGO) for name in ("a", "b")]
    for one, other in zip(*(sorted(folder.iterdir()) for folder in both), strict=True):
        assert one.read_bytes() == other.read_bytes()
    first, second = (headers(export(node, tmp_path / name))[0] for name in ("c", "d"))
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_the_record_beside_it(scene: Any, tmp_path: Path) -> None:
    node = result_of(plain_source(scene), values_for("CT", SHAPE), "CT")
    folder = export(node, tmp_path / "series")
    record = json.loads((tmp_path / "series.json").read_text(encoding="utf-8"))
    assert record["source"] == "Tête"
    assert (record["modality"], record["unit"], record["voxels"]) == ("CT", "HU", list(reversed(SHAPE)))
    np.testing.assert_allclose(record["ijk_to_lps_mm"], oblique_affine(), atol=1e-12)
    assert record["result"]["ModelId"] == "test-to-ct"
    assert record["result"]["Versions"] == {"torch": "2.0"}
    assert record["dicom"]["SeriesInstanceUID"] == headers(folder)[0].SeriesInstanceUID
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert record["sha256"] == hashes
