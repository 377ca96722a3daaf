"""What the tests of the exports share: results as a synthesis leaves them, DICOM sources, and ways to read back."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from SynthGANLib.image.grid import Affine, Array
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.model.card import Card, MethodSpec, SourceSpec, SpatialSpec, TargetSpec, VectorSpec
from Testing.Headless.scene import add_volume

LONG_AGO = datetime.datetime(2021, 3, 4, 5, 6, 7)
TARGETS = {
    "CT": TargetSpec(modality="CT", unit="HU", background=-1024.0, range=(-1024.0, 3071.0), display="CT-Bone"),
    "MR": TargetSpec(modality="MR", unit="1", background=0.0, range=(0.0, 4095.0)),
    "PT": TargetSpec(modality="PT", unit="SUVbw", background=0.0, range=(0.0, 50.0)),
    "RGB": TargetSpec(modality="FUNDUS", unit="RGB", background=0.0, range=(0.0, 255.0), channels=3),
}
_UNCHANGED = {"kind": "identity", "scale": 1.0, "offset": 0.0}
_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}


def card(kind: str) -> Card:
    """The card of a model that makes CT, MR, PT or RGB and is not installed."""
    source = {"CT": "MR", "MR": "CT", "PT": "CT", "RGB": "LABEL"}[kind]
    return Card(
        id=f"test-to-{kind.lower()}",
        version="1.2.3",
        title="Test",
        description="Test.",
        anatomy="any",
        source=SourceSpec(modality=source, unit="1"),
        target=TARGETS[kind],
        method=MethodSpec(kind="network", name="Identity"),
        spatial=SpatialSpec(dims=3, tile_min=(8, 8, 8), tile_max=(64, 64, 64), multiple=1),
        licence="Apache-2.0",
        intended_use="Tests.",
        normalisers={"source": _UNCHANGED, "target": _UNCHANGED},
        mask="none",
        vector=VectorSpec(tolerance=0.0),
    )


def result_of(source: Any, array: Array, kind: str, ijk_to_ras: Array | None = None) -> Any:
    """The node that a synthesis from `source` leaves, holding `array` (z, y, x[, 3])."""
    from SynthGANPanel.scene import nodes

    done = {"weights_sha256": "a1" * 32, "seed": 7, "device": "cpu", "versions": {"torch": "2.0"}, "warnings": ["One."]}
    record = nodes.provenance(source, card(kind), done, {"Mask": "none"})
    matrix = nodes.ijkToRAS(source) if ijk_to_ras is None else ijk_to_ras
    return nodes.storeResult(source, None, array, card(kind), record, matrix)


def values_for(kind: str, shape: tuple[int, int, int]) -> Array:
    """Values of a target, no slice like another: whole HU, MR with fractions, SUV, 8-bit colors."""
    random = np.random.default_rng(5)
    if kind == "CT":
        return random.integers(-1024, 3072, shape).astype(np.float32)
    if kind == "RGB":
        return random.integers(0, 256, (*shape, 3)).astype(np.uint8)
    return (random.random(shape) * {"MR": 1234.5, "PT": 23.4}[kind]).astype(np.float32)


def oblique_affine(kind: str = "axial") -> Affine:
    """Index to LPS mm of an oblique right-handed grid: rows run to the left, or, "sagittal", to the back."""
    angle = np.deg2rad(17.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(angle), -np.sin(angle)], [0.0, np.sin(angle), np.cos(angle)]])
    axes = {"axial": np.eye(3), "sagittal": np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])}[kind]
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ axes @ np.diag([0.7, 1.3, 4.1])
    affine[:3, 3] = (31.25, -47.5, 12.125)
    return affine


def write_source(folder: Path, affine: Affine, shape: tuple[int, int, int], **changes: Any) -> list[Path]:
    """A DICOM series, MR unless `Modality` says otherwise, as a scanner writes it; `changes` by keyword."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    common = {
        "SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg", "PatientID": "0815",
        "PatientBirthDate": "19500102", "PatientSex": "M", "PatientWeight": "81.5", "StudyInstanceUID": "1.2.3.40",
        "StudyDate": "20200229", "StudyTime": "101112", "StudyID": "ST 9", "AccessionNumber": "A-17",
        "ReferringPhysicianName": "Weiß", "StudyDescription": "Schädel", "SeriesInstanceUID": "1.2.3.41",
        "SeriesNumber": 4, "SeriesDescription": "t1 größer", "FrameOfReferenceUID": "1.2.3.42",
        "PositionReferenceIndicator": "NA", "PatientPosition": "HFS", "BodyPartExamined": "HEAD",
        "Modality": "MR", "Manufacturer": "Scanner & Söhne", "ManufacturerModelName": "One", "SoftwareVersions": "V 1",
        "DeviceSerialNumber": "11", "InstitutionName": "Klinik", "AcquisitionDate": "20200229",
        "AcquisitionTime": "101500", "SliceThickness": "3.5", "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16,
        "HighBit": 15, "PixelRepresentation": 0, **changes,
    }  # fmt: skip
    paths = []
    for index in range(shape[0]):
        dataset = Dataset()
        for keyword, value in common.items():
            setattr(dataset, keyword, value)
        dataset.SOPClassUID = _CLASSES[dataset.Modality]
        dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{index + 1}"
        dataset.InstanceNumber = index + 1
        dataset.Rows, dataset.Columns = shape[1], shape[2]
        dataset.PixelSpacing = [spacing[1], spacing[0]]
        position = affine[:3, 3] + index * affine[:3, 2]
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
        dataset.ImageOrientationPatient = [
            f"{value:.9f}" for column in (0, 1) for value in affine[:3, column] / spacing[column]
        ]
        dataset.PixelData = random.integers(0, 1000, shape[1:]).astype("<u2").tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        paths.append(folder / f"{index + 1}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def load(scene: Any, files: Sequence[Path], name: str = "Schädel") -> tuple[Any, Callable[[str], str]]:
    """A node as Slicer loads it from a series, and the look-up that Slicer's database offers."""
    volume = read_volume(files[0].parent)
    node = add_volume(scene, Volume(volume.array, volume.affine, volume.unit), name)
    by_uid = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): str(path) for path in files}
    node.SetAttribute("DICOM.instanceUIDs", " ".join(by_uid))
    return node, lambda uid: by_uid.get(uid, "")


def real_series(shared_data: Path, name: str, folder: Path) -> list[Path]:
    """The files of a real series."""
    with zipfile.ZipFile(shared_data / "geometry" / f"{name}.zip") as packed:
        packed.extractall(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def headers(folder: Path) -> list[Dataset]:
    """The exported files in the order of their names."""
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def errors_of(folder: Path) -> list[str]:
    """What dciodvfy calls errors in the files of a folder."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian and Ubuntu: apt-get install dicom3tools)")
    found = []
    files = sorted(folder.iterdir())
    assert files
    for path in files:
        done = subprocess.run(
            [program, "-new", str(path)], capture_output=True, text=True, errors="replace", check=False
        )
        said = (done.stdout + done.stderr).splitlines()
        assert any(line.strip() in ("CTImage", "MRImage", "PETImage", "SCImage") for line in said), said
        found += [f"{path.name}: {line}" for line in said if line.startswith("Error")]
    return found


def corner_values(volume: Volume, array: Array) -> dict[tuple[float, ...], float]:
    """Every corner voxel's value by its place in LPS mm, rounded to 1 um; tells mirrored stacks from moved ones."""
    z, y, x = (extent - 1 for extent in volume.shape)
    found = {}
    for k in {0, z}:
        for j in {0, y}:
            for i in {0, x}:
                place = volume.affine @ (i, j, k, 1)
                found[tuple(np.round(place[:3], 3) + 0.0)] = array[k, j, i]
    return found
