"""A derived DICOM series belongs to its source's patient and study and names the images it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import vtk

from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume
from Testing.Headless.scene import add_volume, lps_to_ras
from Testing.Mrml.export_cases import (
    errors_of,
    headers,
    load,
    oblique_affine,
    real_series,
    result_of,
    values_for,
    write_source,
)
from Testing.Mrml.test_dicom_export import KINDS, export, refusal

SHAPE = (5, 14, 11)
SAME = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientWeight", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined",
)  # fmt: skip


@pytest.fixture
def source(scene: Any, tmp_path: Path) -> tuple[Any, Any]:
    """A sagittal oblique MR as loaded from DICOM, and the look-up of its files."""
    return load(scene, write_source(tmp_path / "files" / "mr", oblique_affine("sagittal"), SHAPE))


def referenced(header: Any) -> list[str]:
    return [str(item.ReferencedSOPInstanceUID) for item in header.SourceImageSequence]


@pytest.mark.parametrize("kind", KINDS)
def test_patient_study_and_frame_of_reference_are_the_same(source: Any, tmp_path: Path, kind: str) -> None:
    node, lookup = source
    folder = export(result_of(node, values_for(kind, SHAPE), kind), tmp_path / "series", lookup=lookup)
    original = pydicom.dcmread(lookup("1.2.3.41.1"))
    for header in headers(folder):
        same = [keyword for keyword in SAME if not (kind == "PT" and keyword == "PatientPosition")]
        assert {key: str(header[key].value) for key in same} == {key: str(original[key].value) for key in same}
        assert header.SpecificCharacterSet == "ISO_IR 192"
    raw = (folder / "0001.dcm").read_bytes()
    assert "Müller^Jörg".encode() in raw
    assert "Müller^Jörg".encode("latin-1") not in raw
    assert errors_of(folder) == []


def test_series_and_instances_are_new(source: Any, tmp_path: Path) -> None:
    node, lookup = source
    found = headers(export(result_of(node, values_for("CT", SHAPE), "CT"), tmp_path / "series", lookup=lookup))
    assert {header.SeriesNumber for header in found} == {1004}
    assert len({header.SeriesInstanceUID for header in found}) == 1
    uids = {header.SOPInstanceUID for header in found}
    assert len(uids) == SHAPE[0]
    assert not any(uid.startswith("1.2.3.") for uid in (*uids, found[0].SeriesInstanceUID))


def test_scanner_and_program_contributed(source: Any, tmp_path: Path) -> None:
    node, lookup = source
    header = headers(export(result_of(node, values_for("CT", SHAPE), "CT"), tmp_path / "series", lookup=lookup))[0]
    scanner, program = header.ContributingEquipmentSequence
    assert (scanner.Manufacturer, scanner.InstitutionName) == ("Scanner & Söhne", "Klinik")
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Acquisition Equipment"
    assert (program.Manufacturer, program.ManufacturerModelName) == ("SynthGAN", "test-to-ct")
    assert "test-to-ct 1.2.3" in program.SoftwareVersions
    assert program.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert header.Manufacturer == "SynthGAN"


def test_every_image_names_the_one_at_its_place(source: Any, tmp_path: Path) -> None:
    node, lookup = source
    for header in headers(export(result_of(node, values_for("CT", SHAPE), "CT"), tmp_path / "series", lookup=lookup)):
        (uid,) = referenced(header)
        original = pydicom.dcmread(lookup(uid))
        np.testing.assert_allclose(header.ImagePositionPatient, original.ImagePositionPatient, atol=1e-5)
        assert header.SliceThickness == 3.5  # as the source says, though slices are 4.1 mm apart
        assert header.SourceImageSequence[0].SpatialLocationsPreserved == "YES"
        (series,) = header.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == original.SeriesInstanceUID
        assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [uid]


def test_a_part_of_the_source_names_the_right_images(source: Any, tmp_path: Path) -> None:
    node, lookup = source
    from SynthGANPanel.scene import nodes

    part = nodes.ijkToRAS(node) @ np.array([[1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 1, 2], [0, 0, 0, 1]], float)
    result = result_of(node, values_for("CT", (2, 6, 5)), "CT", part)
    found = headers(export(result, tmp_path / "series", lookup=lookup))
    # The library reads the source's slices along the slice normal, as they are numbered.
    assert [referenced(header) for header in found] == [["1.2.3.41.3"], ["1.2.3.41.4"]]
    assert found[0].FrameOfReferenceUID == "1.2.3.42"


def test_slices_between_and_across_the_source(source: Any) -> None:
    from SynthGANPanel.export.dicomSource import readSource

    node, lookup = source
    reading = readSource(node, lookup)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            series = end.value
            break
    affine = oblique_affine("sagittal")

    def near(*indices: tuple[float, float, float]) -> list[int]:
        corners = np.array([(affine @ (*index, 1))[:3] for index in indices])
        return [int(image.sop_instance.rpartition(".")[2]) for image in series.touching(corners)]

    assert near((0, 0, 1.5), (9, 0, 1.5), (0, 9, 1.5), (9, 9, 1.5)) == [2, 3]
    assert near((0, 0, -0.6), (9, 0, -0.6), (0, 9, -0.6), (9, 9, -0.6)) == [1]
    assert near((0, 0, 0.9), (0, 9, 0.9), (0, 0, 3.2), (0, 9, 3.2)) == [2, 3, 4]


def test_a_moved_result_has_a_frame_of_reference_of_its_own(scene: Any, source: Any, tmp_path: Path) -> None:
    node, lookup = source
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    shift = vtk.vtkTransform()
    shift.Translate(10.0, 0.0, 0.0)
    transform.SetMatrixTransformToParent(shift.GetMatrix())
    node.SetAndObserveTransformNodeID(transform.GetID())
    folder = export(result_of(node, values_for("CT", SHAPE), "CT"), tmp_path / "series", lookup=lookup)
    header = headers(folder)[1]
    assert header.FrameOfReferenceUID != "1.2.3.42"
    assert header.StudyInstanceUID == "1.2.3.40"
    assert referenced(header) == ["1.2.3.41.2"]  # it came from there, wherever it lies now
    assert header.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    expected = oblique_affine("sagittal")
    expected[0, 3] -= 10.0  # 10 mm to the right in RAS
    np.testing.assert_allclose(read_volume(folder).affine, expected, atol=1e-5)
    assert errors_of(folder) == []


def test_a_transform_that_does_nothing_moves_nothing(scene: Any, source: Any, tmp_path: Path) -> None:
    node, lookup = source
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Identity")
    node.SetAndObserveTransformNodeID(transform.GetID())
    header = headers(export(result_of(node, values_for("CT", SHAPE), "CT"), tmp_path / "series", lookup=lookup))[0]
    assert header.FrameOfReferenceUID == "1.2.3.42"


@pytest.mark.parametrize("who", ["source", "result"])
def test_a_hardened_transform_is_noticed(source: Any, tmp_path: Path, who: str) -> None:
    node, lookup = source
    moved = oblique_affine("sagittal")
    moved[:3, 3] += (0.0, 3.3, 0.0)
    result = result_of(node, values_for("CT", SHAPE), "CT")
    if who == "source":
        node.SetIJKToRASMatrix(lps_to_ras(moved))
    result.SetIJKToRASMatrix(lps_to_ras(moved))
    header = headers(export(result, tmp_path / "series", lookup=lookup))[0]
    assert header.FrameOfReferenceUID != "1.2.3.42"
    assert len(referenced(header)) == SHAPE[0]  # which of them cannot be told
    assert header.SliceThickness == pytest.approx(4.1)


def test_missing_files_are_refused_and_nothing_is_guessed(source: Any, tmp_path: Path) -> None:
    node, lookup = source
    result = result_of(node, values_for("CT", SHAPE), "CT")
    told = refusal(result, tmp_path / "series", lookup=lambda uid: "" if uid.endswith(".2") else lookup(uid))
    assert "1 of 5 DICOM files" in told
    assert "5 of 5 DICOM files" in refusal(result, tmp_path / "series")  # no database here
    Path(lookup("1.2.3.41.3")).unlink()
    assert "not in the DICOM database" in refusal(result, tmp_path / "series", lookup=lookup)
    Path(lookup("1.2.3.41.3")).write_bytes(b"no DICOM")
    assert "cannot be read" in refusal(result, tmp_path / "series", lookup=lookup)
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_a_new_study_can_be_asked_for(source: Any, tmp_path: Path) -> None:
    node, _ = source
    result = result_of(node, values_for("CT", SHAPE), "CT")
    folder = export(result, tmp_path / "series", newStudy=True, patient={"name": "Nobody", "study": "Research"})
    text = b"".join(path.read_bytes() for path in folder.iterdir())
    for private in ("Müller", "0815", "1.2.3.40", "1.2.3.41", "1.2.3.42", "Klinik"):
        assert private.encode() not in text
    header = headers(folder)[0]
    assert (header.PatientName, header.StudyDescription) == ("Nobody", "Research")
    assert errors_of(folder) == []


def test_without_dicom_there_is_a_new_study(scene: Any, tmp_path: Path) -> None:
    node = add_volume(scene, Volume(np.zeros(SHAPE, np.float32), oblique_affine()), "head")
    result = result_of(node, values_for("CT", SHAPE), "CT")
    one, other = (headers(export(result, tmp_path / name))[0] for name in ("a", "b"))
    assert one.PatientName == "Anonymous"
    assert one.PatientID != other.PatientID  # one id for all would make all of them one patient
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID"):
        assert one[keyword].value != other[keyword].value
    assert "SourceImageSequence" not in one
    assert one.SeriesNumber == 1000


def test_the_patient_is_said_once(scene: Any, source: Any, tmp_path: Path) -> None:
    node, lookup = source
    result = result_of(node, values_for("CT", SHAPE), "CT")
    assert "identifies the patient" in refusal(result, tmp_path / "a", lookup=lookup, patient={"name": "Somebody"})
    for patient in ({"name": "A=B"}, {"id": "a\\b"}, {"study": "x" * 65}, {"id": "a\nb"}):
        assert "not valid DICOM text" in refusal(result, tmp_path / "a", newStudy=True, patient=patient)
    assert "not a patient field" in refusal(result, tmp_path / "a", newStudy=True, patient={"age": "7"})


def test_a_source_that_is_gone_is_asked_for(scene: Any, source: Any, tmp_path: Path) -> None:
    node, lookup = source
    result = result_of(node, values_for("CT", SHAPE), "CT")
    other = add_volume(scene, Volume(np.zeros(SHAPE, np.float32), oblique_affine()), "other")
    scene.RemoveNode(node)
    assert "not in the scene" in refusal(result, tmp_path / "a", lookup=lookup)
    other.SetAttribute("DICOM.instanceUIDs", " ".join(f"1.2.3.41.{number}" for number in range(1, 6)))
    other.SetIJKToRASMatrix(lps_to_ras(oblique_affine("sagittal")))
    header = headers(export(result, tmp_path / "b", sourceNode=other, lookup=lookup))[0]
    assert header.StudyInstanceUID == "1.2.3.40"
    assert headers(export(result, tmp_path / "c", newStudy=True))[0].PatientName == "Anonymous"


def test_what_stays_true_of_pixels_is_kept(scene: Any, tmp_path: Path) -> None:
    files = write_source(
        tmp_path / "files" / "ct", oblique_affine(), SHAPE, Modality="CT", LossyImageCompression="01",
        LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1", BurnedInAnnotation="YES",
        PatientIdentityRemoved="YES", DeidentificationMethod="", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
    )  # fmt: skip
    node, lookup = load(scene, files)
    folder = export(result_of(node, values_for("MR", SHAPE), "MR"), tmp_path / "series", lookup=lookup)
    header = headers(folder)[0]
    assert (header.LossyImageCompression, header.LossyImageCompressionRatio) == ("01", 12.5)
    assert header.BurnedInAnnotation == "YES"
    assert header.PatientIdentityRemoved == "YES"
    assert errors_of(folder) == []


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom remarks on what real files get wrong
@pytest.mark.parametrize("name", ["dicom_mr_t1_sagittal_HFprone", "dicom_pet_MONOCHROME1_simulated"])
@pytest.mark.parametrize("kind", KINDS)
def test_real_series(scene: Any, shared_data: Path, tmp_path: Path, name: str, kind: str) -> None:
    files = real_series(shared_data, name, tmp_path / "files")
    node, lookup = load(scene, files)
    whole = read_volume(files[0].parent)
    shape = (2, *whole.shape[1:])
    folder = export(result_of(node, values_for(kind, shape), kind), tmp_path / "series", lookup=lookup)
    original = pydicom.dcmread(files[0])
    found = headers(folder)
    assert {header.FrameOfReferenceUID for header in found} == {original.FrameOfReferenceUID}
    assert {str(header.PatientName) for header in found} == {str(original.PatientName)}
    for header in found:
        (uid,) = referenced(header)
        at = pydicom.dcmread(lookup(uid)).ImagePositionPatient
        np.testing.assert_allclose(header.ImagePositionPatient, at, atol=1e-3)
    if kind == "PT" and "PatientPosition" in original:
        modifier = found[0].PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence[0]
        assert (original.PatientPosition, modifier.CodeMeaning) == ("HFP", "prone")
    assert read_volume(folder).grid.same_as(Volume(np.zeros(shape), whole.affine).grid, tolerance=1e-4)
    assert errors_of(folder) == []


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom remarks on what real files get wrong
def test_real_ct_with_tilt_and_uneven_slices(scene: Any, shared_data: Path, tmp_path: Path) -> None:
    """Slicer loads it under a bent transform; resampled to an even grid it is not where its files are any more."""
    files = real_series(shared_data, "dicom_ct_head_GE_gantry18.5_variable_spacing", tmp_path / "files")
    uids = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): str(path) for path in files}
    node = add_volume(scene, Volume(np.zeros(SHAPE, np.float32), oblique_affine()), "ct")
    node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    folder = export(result_of(node, values_for("MR", SHAPE), "MR"), tmp_path / "series", lookup=uids.get)
    original, header = pydicom.dcmread(files[0]), headers(folder)[0]
    assert header.StudyInstanceUID == original.StudyInstanceUID
    assert header.FrameOfReferenceUID != original.FrameOfReferenceUID
    assert len(referenced(header)) == len(files)
    assert header.DeidentificationMethod  # the source says that the identity was removed, but not how
    assert errors_of(folder) == []


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom remarks on what real files get wrong
def test_real_multiframe_source(scene: Any, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "geometry" / "pydicom_eCT_Supplemental.dcm"
    volume, original = read_volume(path), pydicom.dcmread(path)
    node = add_volume(scene, Volume(volume.array, volume.affine), "enhanced")
    node.SetAttribute("DICOM.instanceUIDs", original.SOPInstanceUID)
    folder = export(
        result_of(node, values_for("MR", volume.shape), "MR"), tmp_path / "series", lookup=lambda uid: str(path)
    )
    frames = [item.ReferencedFrameNumber for header in headers(folder) for item in header.SourceImageSequence]
    assert sorted(frames) == list(range(1, int(original.NumberOfFrames) + 1))
    assert headers(folder)[0].FrameOfReferenceUID == original.FrameOfReferenceUID
    assert errors_of(folder) == []
