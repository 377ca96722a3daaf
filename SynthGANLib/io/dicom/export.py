"""The attributes of a derived DICOM series, module by module of DICOM PS3.3.

`series` makes what all images share, `image` what is one image's own.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from SynthGANLib.image.grid import Affine, Array, Shape
from SynthGANLib.io.dicom.export_kinds import Description, code, complete, decimal, empty_dataset, orientation
from SynthGANLib.io.dicom.export_pixels import Stored

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "RGB": "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
}
NewUid = Callable[[], str]
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


@dataclass(frozen=True)
class SourceImage:
    """One image of the source series.

    Attributes:
        sop_class, sop_instance: UIDs.
        frame: frame number from 1, None for a file of one image.
        corners: LPS mm of its four corner voxels, (4, 3); None if the header has no place.
        normal: unit vector across the image; None if the header has no place.
    """

    sop_class: str
    sop_instance: str
    frame: int | None
    corners: Affine | None
    normal: Affine | None


class Source(Protocol):
    """The series that a result was computed from."""

    @property
    def header(self) -> Dataset:
        """Of the first file."""

    @property
    def images(self) -> Sequence[SourceImage]:
        """All of them."""

    def touching(self, corners: Affine) -> list[SourceImage]:
        """The images that a slice with these corners, (4, 3) in LPS mm, meets."""

    def thickness(self, across: Affine) -> float | None:
        """Slice thickness in mm if `across`, (3,), is the direction in which the slices are stacked."""


class Place(Protocol):
    """Where a volume lies."""

    @property
    def affine(self) -> Affine:
        """4x4, from voxel indices (i, j, k) to LPS mm."""

    @property
    def moved(self) -> bool:
        """Whether a transform took part."""

    @property
    def spacing(self) -> Affine:
        """Distances in mm of neighboring voxels along i, j, k."""

    def corners(self, shape: Shape, index: int) -> Affine:
        """The four corner voxels of slice `index`, (4, 3) in LPS mm."""


@dataclass(frozen=True)
class Layout:
    """Where the images of the series lie and what they came from.

    Attributes:
        place: what is exported. own: the place of the volume before any transform.
        shape: (z, y, x).
        source: the series that it was computed from, None for a source without DICOM.
        on_source: whether the volume, before any transform, lies on the images of its source.
    """

    place: Place
    own: Place
    shape: Shape
    source: Source | None = None
    on_source: bool = False

    @property
    def same_frame(self) -> bool:
        """Whether what is exported has the source's coordinates."""
        return self.on_source and not self.place.moved

    @property
    def thickness(self) -> float:
        """Slice thickness in mm: the source's where the slices are the same, else their distance."""
        on_source = self.source if self.on_source else None
        thickness = on_source.thickness(self.own.affine[:3, 2]) if on_source is not None else None
        return thickness or float(self.place.spacing[2])

    def images_for(self, index: int) -> Sequence[SourceImage]:
        """The images of the source that a slice came from; all where that cannot be told."""
        if self.source is None:
            return []
        return self.source.touching(self.own.corners(self.shape, index)) if self.on_source else self.source.images


def series(
    description: Description, stored: Stored, layout: Layout, new_uid: NewUid, now: datetime.datetime
) -> Dataset:
    """The attributes that all images of the series share, as a pydicom Dataset.

    Args:
        description: what the series says of itself. stored: how its values are stored. layout: where it lies.
        new_uid: returns a new UID at every call. now: time of writing.
    """
    source = layout.source.header if layout.source is not None else None
    dataset = empty_dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = SOP_CLASSES[description.modality]
    if source is not None:
        take_over(dataset, source, PATIENT + STUDY + BODY + (PLACE if layout.same_frame else ()))
        _complete_deidentification(dataset)
    else:
        _new_study(dataset, description.patient, new_uid, now)
    for keyword in REQUIRED:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, new_uid())
    if not dataset.get("BodyPartExamined") and "Laterality" not in dataset:
        dataset.Laterality = None  # it may be a paired one
    _series(dataset, description, source, new_uid, now)
    _equipment(dataset, description, source, now)
    _values(dataset, description, stored, source)
    complete(dataset, description, stored)
    return dataset


def image(shared: Dataset, layout: Layout, index: int, number: int, new_uid: NewUid) -> Dataset:
    """The attributes of one image without its pixels: the shared ones and its own.

    Args:
        shared: of the series. layout: where it lies.
        index: slice. number: instance number, from 1.
        new_uid: returns a new UID at every call.
    """
    dataset = empty_dataset()
    dataset.update(shared)
    dataset.SOPInstanceUID = new_uid()
    dataset.InstanceNumber = number
    i, j, k = layout.place.spacing
    directions = layout.place.affine[:3, :2] / (i, j)
    if dataset.SOPClassUID == SOP_CLASSES["PT"]:
        dataset.ImageIndex = number
    if dataset.SOPClassUID == SOP_CLASSES["RGB"]:
        dataset.PatientOrientation = orientation(directions)
    dataset.ImagePositionPatient = [decimal(value) for value in layout.place.corners(layout.shape, index)[0]]
    dataset.ImageOrientationPatient = [decimal(value) for value in directions.T.ravel()]  # row, then column
    dataset.PixelSpacing = [decimal(j), decimal(i)]  # between rows, between columns
    dataset.SliceThickness, dataset.SpacingBetweenSlices = decimal(layout.thickness), decimal(k)
    dataset.Rows, dataset.Columns = layout.shape[1], layout.shape[2]
    images = layout.images_for(index)
    if images and layout.source is not None:
        dataset.SourceImageSequence = [_source_image(each, layout.same_frame) for each in images]
        dataset.ReferencedSeriesSequence = [_referenced_series(images, layout.source.header.SeriesInstanceUID)]
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


def take_over(dataset: Dataset, source: Dataset, keywords: Iterable[str]) -> None:
    """Copy attributes that the source has, text as text, so that it is written in the new character set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd value of the source stays what it is
        for keyword in keywords:
            if keyword in source:
                dataset.add(_copied(source[keyword]))


def series_description(description: Description) -> str:
    """`SYNTHETIC CT head-mr-ct 0.2.0`, at most 64 characters."""
    modality = {"PT": "PET", "RGB": "color"}.get(description.modality, description.modality)
    return f"{SYNTHETIC} {modality} {description.model} {description.version}"[: LONGEST["LO"]].strip()


def _copied(element: DataElement) -> DataElement:
    from pydicom.dataelem import DataElement

    if element.VR == "SQ":
        items = []
        for item in element.value:
            items.append(empty_dataset())
            for part in item:
                items[-1].add(_copied(part))
        return DataElement(element.tag, "SQ", items)
    value = element.value
    if element.VR in ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "CS", "DA", "TM", "DT", "AS", "UI"):
        value = [str(each) for each in value] if element.VM > 1 else str(value or "")
    return DataElement(element.tag, element.VR, value)


def _complete_deidentification(dataset: Dataset) -> None:
    """An identity that was removed has to name the method, which not every source does."""
    for keyword in ("DeidentificationMethod", "DeidentificationMethodCodeSequence"):
        if keyword in dataset and not dataset.get(keyword):
            del dataset[keyword]
    if dataset.get("PatientIdentityRemoved") == "YES" and not (
        "DeidentificationMethod" in dataset or "DeidentificationMethodCodeSequence" in dataset
    ):
        dataset.DeidentificationMethod = "Not stated by the source"


def _new_study(dataset: Dataset, patient: dict[str, str], new_uid: NewUid, now: datetime.datetime) -> None:
    dataset.StudyInstanceUID = new_uid()
    dataset.PatientName = patient.get("name") or "Anonymous"
    # Never one id for all: a database would take everything without an id for one patient.
    dataset.PatientID = patient.get("id") or "SYNTHGAN-" + dataset.StudyInstanceUID[-12:].strip(".")
    dataset.StudyDescription = patient.get("study") or "SynthGAN"
    dataset.StudyDate, dataset.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.StudyID = "1"


def _series(
    dataset: Dataset, description: Description, source: Dataset | None, new_uid: NewUid, now: datetime.datetime
) -> None:
    number = source.get("SeriesNumber") if source is not None else None
    dataset.SeriesInstanceUID = new_uid()
    dataset.SeriesNumber = (int(number) if number else 0) + SERIES_OFFSET
    dataset.SeriesDescription = series_description(description)
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.Modality = {"RGB": "OT"}.get(description.modality, description.modality)
    if "PatientPosition" not in dataset:
        dataset.PatientPosition = None
    if source is not None:
        take_over(dataset, source, ("AcquisitionDate", "AcquisitionTime"))


def _equipment(dataset: Dataset, description: Description, source: Dataset | None, now: datetime.datetime) -> None:
    """The program as manufacturer; scanner and program as contributors (DICOM PS3.3 C.7.5.1, C.12.1.1.5)."""
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = description.model[: LONGEST["LO"]]
    dataset.SoftwareVersions = [description.software, f"{description.model} {description.version}"[: LONGEST["LO"]]]
    own = empty_dataset()
    own.PurposeOfReferenceCodeSequence = [code("109100", "DCM", "Synthesizing Equipment")]
    own.Manufacturer, own.ManufacturerModelName = dataset.Manufacturer, dataset.ManufacturerModelName
    own.SoftwareVersions = dataset.SoftwareVersions
    own.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    own.ContributionDescription = description.derivation[: LONGEST["ST"]]
    contributors = [own]
    if source is not None and source.get("Manufacturer"):
        scanner = empty_dataset()
        take_over(scanner, source, [each for each in EQUIPMENT if source.get(each)])
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
    burned = description.burned_in or (source is not None and source.get("BurnedInAnnotation") == "YES")
    dataset.BurnedInAnnotation = "YES" if burned else "NO"
    dataset.LossyImageCompression = "00"
    if source is not None and source.get("LossyImageCompression") == "01":
        take_over(dataset, source, LOSSY)
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


def _source_image(image: SourceImage, same_frame: bool) -> Dataset:
    item = _reference(image)
    item.PurposeOfReferenceCodeSequence = [code("121322", "DCM", "Source image for image processing operation")]
    item.SpatialLocationsPreserved = "YES" if same_frame else "NO"
    return item


def _referenced_series(images: Sequence[SourceImage], series_uid: str) -> Dataset:
    item = empty_dataset()
    item.SeriesInstanceUID = series_uid
    files = {image.sop_instance: image for image in images}  # a file of several frames is listed once
    item.ReferencedInstanceSequence = [_reference(each, with_frame=False) for each in files.values()]
    return item


def _reference(image: SourceImage, with_frame: bool = True) -> Dataset:
    item = empty_dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.sop_class, image.sop_instance
    if with_frame and image.frame is not None:
        item.ReferencedFrameNumber = image.frame
    return item
