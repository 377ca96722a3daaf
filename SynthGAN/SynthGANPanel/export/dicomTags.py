"""The attributes of a derived DICOM series, module by module of DICOM PS3.3.

`series` makes what all images share, `image` what is one image's own. This module does not access the scene.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from SynthGANPanel.export import dicomKinds
from SynthGANPanel.export.dicomKinds import code, decimal, emptyDataset

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    from SynthGANLib.image.grid import Array
    from SynthGANPanel.export.dicomPixels import Stored
    from SynthGANPanel.export.dicomSource import SourceImage, SourceSeries
    from SynthGANPanel.export.record import Place

SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "RGB": "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
}
SYNTHETIC = "SYNTHETIC"
MANUFACTURER = "SynthGAN"
SERIES_OFFSET = 1000
"""Added to the source's series number, so that the result sorts behind what was acquired."""
LONGEST = {"LO": 64, "SH": 16, "ST": 1024, "PN": 64}
"""Characters that a value may have (DICOM PS3.5, 6.2)."""

# What a derived series takes over from its source: the patient, the study, the frame of reference, the position.
PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "OtherPatientIDs", "EthnicGroup", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified",
)  # fmt: skip
STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
    "StudyDescription",
)  # fmt: skip
PLACE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
BODY = ("PatientPosition", "BodyPartExamined", "Laterality")
EQUIPMENT = (
    "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "StationName",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
)  # fmt: skip
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
REQUIRED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
            "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator")  # fmt: skip
"""Type 2: present, empty where nothing is known."""


@dataclass
class Description:
    """The description of the series.

    :ivar modality: "CT", "MR", "PT" or "RGB"
    :ivar unit: the library's unit of the values
    :ivar model: the model's id
    :ivar version: the model's version
    :ivar software: name and version of this program
    :ivar derivation: how the images were made, in sentences
    :ivar window: (window, level) to show them with, None for colors
    :ivar burnedIn: whether a word was drawn into them
    :ivar slices: number of images
    :ivar patient: name, id and study description for a series without a DICOM source
    """

    modality: str
    unit: str
    model: str
    version: str
    software: str
    derivation: str
    window: tuple[float, float] | None
    burnedIn: bool
    slices: int
    patient: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Where the images of the series lie and what they came from.

    :ivar place: the :class:`exportRecord.Place` that is exported
    :ivar own: the :class:`exportRecord.Place` of the volume before any transform
    :ivar shape: (z, y, x)
    :ivar source: the :class:`dicomSource.SourceSeries`, None for a source without DICOM
    :ivar onSource: whether the volume, before any transform, lies on the images of its source
    """

    place: Place
    own: Place
    shape: Sequence[int]
    source: SourceSeries | None = None
    onSource: bool = False

    @property
    def sameFrame(self) -> bool:
        """Whether what is exported has the source's coordinates."""
        return self.onSource and not self.place.moved

    @property
    def thickness(self) -> float:
        """Slice thickness in mm: the source's where the slices are the same, else their distance."""
        known = self.source.thickness(self.own.affine[:3, 2]) if self.source is not None and self.onSource else None
        return known or self.place.spacing[2]

    def imagesFor(self, index: int) -> Sequence[SourceImage]:
        """The images of the source that a slice came from; all where that is unknown."""
        if self.source is None:
            return []
        return self.source.touching(self.own.corners(self.shape, index)) if self.onSource else self.source.images


def series(
    description: Description, stored: Stored, layout: Layout, newUid: Callable[[], str], now: datetime.datetime
) -> Dataset:
    """The attributes that all images of the series share, as a pydicom Dataset.

    :param stored: a :class:`dicomPixels.Stored`
    :param layout: a :class:`Layout`
    :param newUid: function that returns a new UID at every call
    :param now: time of writing
    """
    source = layout.source.header if layout.source is not None else None
    dataset = emptyDataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = SOP_CLASSES[description.modality]
    if source is not None:
        takeOver(dataset, source, PATIENT + STUDY + BODY + (PLACE if layout.sameFrame else ()))
        _completeDeidentification(dataset)
    else:
        _newStudy(dataset, description.patient, newUid, now)
    for keyword in REQUIRED:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, newUid())
    if not dataset.get("BodyPartExamined") and "Laterality" not in dataset:
        dataset.Laterality = None  # it may be a paired one
    _series(dataset, description, source, newUid, now)
    _equipment(dataset, description, source, now)
    _values(dataset, description, stored, source)
    dicomKinds.complete(dataset, description, stored)
    return dataset


def image(shared: Dataset, layout: Layout, index: int, number: int, newUid: Callable[[], str]) -> Dataset:
    """The attributes of one image without its pixels: the shared ones and its own.

    :param layout: a :class:`Layout`
    :param index: slice
    :param number: instance number, from 1
    """
    dataset = emptyDataset()
    dataset.update(shared)
    dataset.SOPInstanceUID = newUid()
    dataset.InstanceNumber = number
    i, j, k = layout.place.spacing
    directions = layout.place.affine[:3, :2] / (i, j)
    if dataset.SOPClassUID == SOP_CLASSES["PT"]:
        dataset.ImageIndex = number
    if dataset.SOPClassUID == SOP_CLASSES["RGB"]:
        dataset.PatientOrientation = dicomKinds.orientation(directions)
    dataset.ImagePositionPatient = [decimal(value) for value in layout.place.corners(layout.shape, index)[0]]
    dataset.ImageOrientationPatient = [decimal(value) for value in directions.T.ravel()]  # row, then column
    dataset.PixelSpacing = [decimal(j), decimal(i)]  # between rows, between columns
    dataset.SliceThickness, dataset.SpacingBetweenSlices = decimal(layout.thickness), decimal(k)
    dataset.Rows, dataset.Columns = layout.shape[1], layout.shape[2]
    images = layout.imagesFor(index)
    if layout.source is not None and images:
        dataset.SourceImageSequence = [_sourceImage(each, layout.sameFrame) for each in images]
        dataset.ReferencedSeriesSequence = [_referencedSeries(images, layout.source.header.SeriesInstanceUID)]
    return dataset


def write(dataset: Dataset, pixels: Array) -> bytes:
    """The bytes of a DICOM file with these pixels (y, x[, 3]), explicit little endian."""
    import io

    import pydicom

    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def takeOver(dataset: Dataset, source: Dataset, keywords: Iterable[str]) -> None:
    """Copy attributes that the source has, text as text, so that it is written in the new character set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid value of the source is copied unchanged
        for keyword in keywords:
            if keyword in source:
                dataset.add(_copied(source[keyword]))


def seriesDescription(description: Description) -> str:
    """`SYNTHETIC CT head-mr-ct 0.2.0`, at most 64 characters."""
    modality = {"PT": "PET", "RGB": "color"}.get(description.modality, description.modality)
    return f"{SYNTHETIC} {modality} {description.model} {description.version}"[: LONGEST["LO"]].strip()


def _copied(element: DataElement) -> DataElement:
    from pydicom.dataelem import DataElement

    if element.VR == "SQ":
        items = []
        for item in element.value:
            items.append(emptyDataset())
            for part in item:
                items[-1].add(_copied(part))
        return DataElement(element.tag, "SQ", items)
    value = element.value
    if element.VR in ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "CS", "DA", "TM", "DT", "AS", "UI"):
        value = [str(each) for each in value] if element.VM > 1 else str(value or "")
    return DataElement(element.tag, element.VR, value)


def _completeDeidentification(dataset: Dataset) -> None:
    """A removed identity requires the method, which some sources lack."""
    for keyword in ("DeidentificationMethod", "DeidentificationMethodCodeSequence"):
        if keyword in dataset and not dataset.get(keyword):
            del dataset[keyword]
    if dataset.get("PatientIdentityRemoved") == "YES" and not (
        "DeidentificationMethod" in dataset or "DeidentificationMethodCodeSequence" in dataset
    ):
        dataset.DeidentificationMethod = "Not stated by the source"


def _newStudy(dataset: Dataset, patient: dict[str, str], newUid: Callable[[], str], now: datetime.datetime) -> None:
    dataset.StudyInstanceUID = newUid()
    dataset.PatientName = patient.get("name") or "Anonymous"
    # Never one id for all: a database would take everything without an id for one patient.
    dataset.PatientID = patient.get("id") or "SYNTHGAN-" + dataset.StudyInstanceUID[-12:].strip(".")
    dataset.StudyDescription = patient.get("study") or "SynthGAN"
    dataset.StudyDate, dataset.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.StudyID = "1"


def _series(
    dataset: Dataset,
    description: Description,
    source: Dataset | None,
    newUid: Callable[[], str],
    now: datetime.datetime,
) -> None:
    number = source.get("SeriesNumber") if source is not None else None
    dataset.SeriesInstanceUID = newUid()
    dataset.SeriesNumber = (int(number) if number else 0) + SERIES_OFFSET
    dataset.SeriesDescription = seriesDescription(description)
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.Modality = {"RGB": "OT"}.get(description.modality, description.modality)
    if "PatientPosition" not in dataset:
        dataset.PatientPosition = None
    if source is not None:
        takeOver(dataset, source, ("AcquisitionDate", "AcquisitionTime"))


def _equipment(dataset: Dataset, description: Description, source: Dataset | None, now: datetime.datetime) -> None:
    """The program as manufacturer; scanner and program as contributors (DICOM PS3.3 C.7.5.1, C.12.1.1.5)."""
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = description.model[: LONGEST["LO"]]
    dataset.SoftwareVersions = [description.software, f"{description.model} {description.version}"[: LONGEST["LO"]]]
    own = emptyDataset()
    own.PurposeOfReferenceCodeSequence = [code("109100", "DCM", "Synthesizing Equipment")]
    own.Manufacturer, own.ManufacturerModelName = dataset.Manufacturer, dataset.ManufacturerModelName
    own.SoftwareVersions = dataset.SoftwareVersions
    own.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    own.ContributionDescription = description.derivation[: LONGEST["ST"]]
    contributors = [own]
    if source is not None and source.get("Manufacturer"):
        scanner = emptyDataset()
        takeOver(scanner, source, [each for each in EQUIPMENT if source.get(each)])
        scanner.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
        contributors.insert(0, scanner)
    dataset.ContributingEquipmentSequence = contributors


def _values(dataset: Dataset, description: Description, stored: Stored, source: Dataset | None) -> None:
    """General image and pixel attributes (DICOM PS3.3 C.7.6.1, C.7.6.3, C.11.2)."""
    colors = description.modality == "RGB"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = description.derivation[: LONGEST["ST"]]
    dataset.DerivationCodeSequence = [code("CROSSMODALITY", "99SYNTHGAN", "Cross-modality image synthesis")]
    dataset.ImageComments = "Synthetic image, computed and not acquired. For research only."
    dataset.ContentQualification = "RESEARCH"
    burned = description.burnedIn or (source is not None and source.get("BurnedInAnnotation") == "YES")
    dataset.BurnedInAnnotation = "YES" if burned else "NO"
    dataset.LossyImageCompression = "00"
    if source is not None and source.get("LossyImageCompression") == "01":
        takeOver(dataset, source, LOSSY)
    dataset.AcquisitionNumber = None
    dataset.SamplesPerPixel = 3 if colors else 1
    dataset.PhotometricInterpretation = "RGB" if colors else "MONOCHROME2"
    if colors:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 1 if stored.dtype.kind == "i" else 0
    if description.window is not None:
        window, level = description.window
        dataset.WindowCenter, dataset.WindowWidth = decimal(level), decimal(max(window, 1e-6))


def _sourceImage(image: SourceImage, sameFrame: bool) -> Dataset:
    item = _reference(image)
    item.PurposeOfReferenceCodeSequence = [code("121322", "DCM", "Source image for image processing operation")]
    item.SpatialLocationsPreserved = "YES" if sameFrame else "NO"
    return item


def _referencedSeries(images: Sequence[SourceImage], seriesUid: str) -> Dataset:
    item = emptyDataset()
    item.SeriesInstanceUID = seriesUid
    files = {image.sopInstance: image for image in images}  # a file of several frames is listed once
    item.ReferencedInstanceSequence = [_reference(each, withFrame=False) for each in files.values()]
    return item


def _reference(image: SourceImage, withFrame: bool = True) -> Dataset:
    item = emptyDataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.sopClass, image.sopInstance
    if withFrame and image.frame is not None:
        item.ReferencedFrameNumber = image.frame
    return item
