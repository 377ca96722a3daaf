"""What a derived CT, MR, PET or color image says of its values: the attributes of its kind (DICOM PS3.3).

Each function completes a pydicom Dataset that holds the attributes of every kind already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from SynthGANLib.image.grid import Affine
from SynthGANLib.io.dicom.export_pixels import Stored

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LYING = {"S": ("40199007", "supine"), "P": ("1240000", "prone"), "DR": ("102535000", "right lateral decubitus"),
         "DL": ("102536004", "left lateral decubitus")}  # fmt: skip
ENTERING = {"HF": ("102540008", "headfirst"), "FF": ("102541007", "feet-first")}
PET_UNITS = {"SUVbw": "GML", "BQML": "BQML", "CNTS": "CNTS"}


@dataclass
class Description:
    """What the series says of itself.

    Attributes:
        modality: "CT", "MR", "PT" or "RGB". unit: the library's unit of the values.
        model, version: of the model. software: name and version of this program.
        derivation: how the images were made, in sentences.
        window: (window, level) to show them with, None for colors.
        burned_in: whether a word was drawn into them. slices: number of images.
        patient: name, id and study description for a series without a DICOM source.
    """

    modality: str
    unit: str
    model: str
    version: str
    software: str
    derivation: str
    window: tuple[float, float] | None
    burned_in: bool
    slices: int
    patient: dict[str, str] = field(default_factory=dict)


def complete(dataset: Dataset, description: Description, stored: Stored) -> None:
    """Add the attributes of the kind of image."""
    kinds: dict[str, Callable[[Dataset, Description, Stored], None]] = {
        "CT": _ct,
        "MR": _mr,
        "PT": _pet,
        "RGB": _colors,
    }
    kinds[description.modality](dataset, description, stored)


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters (DICOM PS3.5, 6.2)."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value) + 0.0)  # no negative zero


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded entry."""
    dataset = empty_dataset()
    dataset.CodeValue, dataset.CodingSchemeDesignator, dataset.CodeMeaning = value, scheme, meaning
    return dataset


def empty_dataset() -> Dataset:
    """A new pydicom Dataset."""
    from pydicom.dataset import Dataset

    return Dataset()


def _rescale(dataset: Dataset, stored: Stored, kind: str) -> None:
    dataset.RescaleIntercept, dataset.RescaleSlope = decimal(stored.intercept), decimal(stored.slope)
    if kind:
        dataset.RescaleType = kind


def _ct(dataset: Dataset, description: Description, stored: Stored) -> None:
    """DICOM PS3.3 C.8.2.1. There was no tube, hence no KVP."""
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.KVP = None
    _rescale(dataset, stored, "HU")


def _mr(dataset: Dataset, description: Description, stored: Stored) -> None:
    """DICOM PS3.3 C.8.3.1. There was no pulse sequence, hence "research mode" without times.

    The MR IOD knows no rescaling. Values that are not whole numbers need one: it is given as the standard's real
    world value mapping, and as the rescale slope that scanners write and readers apply.
    """
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
    dataset.ScanOptions = dataset.MRAcquisitionType = dataset.EchoTime = dataset.EchoTrainLength = None
    dataset.RepetitionTime = None
    if not stored.identity:
        _rescale(dataset, stored, "US")  # unspecified
        dataset.RealWorldValueMappingSequence = [_real_world(stored)]


def _real_world(stored: Stored) -> Dataset:
    from pydicom.dataelem import DataElement

    limits = np.iinfo(stored.dtype)
    mapping = empty_dataset()
    vr = "SS" if stored.dtype.kind == "i" else "US"
    mapping.add(DataElement("RealWorldValueFirstValueMapped", vr, int(limits.min)))
    mapping.add(DataElement("RealWorldValueLastValueMapped", vr, int(limits.max)))
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = float(stored.slope), float(stored.intercept)
    mapping.LUTExplanation, mapping.LUTLabel = "Synthetic MR signal", "SIGNAL"
    mapping.MeasurementUnitsCodeSequence = [code("1", "UCUM", "no units")]
    return mapping


def _pet(dataset: Dataset, description: Description, stored: Stored) -> None:
    """DICOM PS3.3 C.8.9.1, C.8.9.2, C.8.9.4, C.8.9.5. Nothing was injected and no counts were corrected.

    The second value of a PET image's type is "PRIMARY" whatever the first (C.8.9.4.1.1).
    """
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    position = str(dataset.get("PatientPosition") or "")
    del dataset.PatientPosition  # said by codes instead
    dataset.PatientOrientationCodeSequence, dataset.PatientGantryRelationshipCodeSequence = _lying(position)
    dataset.Units = PET_UNITS.get(description.unit, "NONE")
    if description.unit == "SUVbw":
        dataset.SUVType = "BW"
    dataset.CountsSource, dataset.SeriesType = "EMISSION", ["STATIC", "IMAGE"]
    dataset.NumberOfSlices = description.slices
    dataset.CorrectedImage, dataset.DecayCorrection, dataset.CollimatorType = None, "NONE", None
    dataset.RadiopharmaceuticalInformationSequence = []
    dataset.FrameReferenceTime, dataset.ActualFrameDuration = 0, 0
    for keyword in ("AcquisitionDate", "AcquisitionTime"):
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    _rescale(dataset, stored, "")


def _lying(position: str) -> tuple[list[Dataset], list[Dataset]]:
    """Orientation and gantry relationship as code sequences for a patient position such as HFS; empty if unknown."""
    if position[:2] not in ENTERING or position[2:] not in LYING:
        return [], []
    recumbent = code("102538003", "SCT", "recumbent")
    recumbent.PatientOrientationModifierCodeSequence = [code(LYING[position[2:]][0], "SCT", LYING[position[2:]][1])]
    value, meaning = ENTERING[position[:2]]
    return [recumbent], [code(value, "SCT", meaning)]


def orientation(directions: Affine) -> list[str]:
    """The sides of the patient that rows and columns run towards, for images whose kind has no direction cosines.

    Args:
        directions: (3, 2), LPS unit vectors along a row and along a column.

    Returns:
        Two texts of at most three letters, the nearest side first (DICOM PS3.3 C.7.6.1.1.1).
    """
    texts = []
    for direction in np.asarray(directions).T:
        axes = [axis for axis in np.argsort(-np.abs(direction)) if abs(direction[axis]) > 1e-3]
        texts.append("".join("LPH"[axis] if direction[axis] > 0 else "RAF"[axis] for axis in axes))
    return texts


def _colors(dataset: Dataset, description: Description, stored: Stored) -> None:
    """Secondary capture, DICOM PS3.3 C.8.6.1."""
    dataset.ConversionType = "SYN"
    dataset.SecondaryCaptureDeviceManufacturer = dataset.Manufacturer
    dataset.SecondaryCaptureDeviceManufacturerModelName = dataset.ManufacturerModelName
    dataset.SecondaryCaptureDeviceSoftwareVersions = dataset.SoftwareVersions
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.SeriesDate, dataset.SeriesTime
