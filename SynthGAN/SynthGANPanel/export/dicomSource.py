"""The DICOM series that the source of a result was loaded from: its header and the position of each image.

Slicer keeps the instance UIDs of a loaded series with the volume node (attribute DICOM.instanceUIDs) and the files in
its DICOM database. Only headers are read here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Optional

import numpy as np
import slicer

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from SynthGANLib.image.grid import Array
    from SynthGANLib.io.dicom.export import SourceImage

Lookup = Callable[[str], Optional[str]]  # noqa: UP045  # Python 3.9 cannot evaluate `str | None`
"""From an instance UID to the path of its file; None or "" if there is no such file."""
INSTANCE_UIDS = "DICOM.instanceUIDs"
SAME_PLACE = 0.1
"""Part of a voxel by which a node may differ from its files: headers round positions."""
SAME_PLANE = 0.06
"""Distance in mm of slices that count as one: headers often round positions to 0.1 mm."""


class SourceSeries:
    """The source series.

    :ivar header: the first file's header (a pydicom Dataset)
    :ivar images: the library's `SourceImage` for every image
    """

    def __init__(self, header: Dataset, images: Sequence[SourceImage]) -> None:
        self.header = header
        self.images = images
        self._placed = [image for image in images if image.corners is not None]
        self._corners = [image.corners for image in images if image.corners is not None]
        if self._placed:
            self._normal = self._placed[0].normal
            self._along = np.array([corners[0] @ self._normal for corners in self._corners])

    def touching(self, corners: Array) -> list[SourceImage]:
        """The images that a slice with these corners, (4, 3) in LPS mm, meets; between two of them, both.

        Without positions in the header it is every image.
        """
        if not self._placed:
            return list(self.images)
        slices = corners @ self._normal
        low, high = slices.min() - SAME_PLANE, slices.max() + SAME_PLANE
        met = (self._along >= low) & (self._along <= high)
        if not met.any():
            below, above = self._along[self._along < low], self._along[self._along > high]
            nearest = [side for side in (below.max(initial=-np.inf), above.min(initial=np.inf)) if np.isfinite(side)]
            met = np.isin(self._along, nearest)
        return [image for image, isMet in zip(self._placed, met, strict=True) if isMet]

    def liesOn(self, affine: Array, shape: Sequence[int]) -> bool:
        """Whether the corners of every image fall on voxels of a grid: the node was not moved.

        :param affine: 4x4, indices (i, j, k) to LPS mm
        :param shape: (z, y, x)
        """
        if not self._placed:
            return False
        corners = np.concatenate(self._corners)
        index = (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        limits = np.array(shape[::-1]) - 1
        inside = (index > -SAME_PLACE) & (index < limits + SAME_PLACE)
        return bool(inside.all() and (np.abs(index - np.rint(index)) < SAME_PLACE).all())

    def thickness(self, across: Array) -> float | None:
        """The slice thickness in mm that the header gives, if `across` is the direction the slices are stacked in."""
        thickness = self.header.get("SliceThickness")
        parallel = abs(across @ self._normal) > 0.999 * np.linalg.norm(across)
        return float(thickness) if thickness and parallel else None


def databaseLookup() -> Lookup | None:
    """The function that finds the file of an instance UID in Slicer's DICOM database; None without a database."""
    database = getattr(slicer, "dicomDatabase", None)
    return database.fileForInstance if database is not None and database.isOpen else None


def isFromDicom(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a node was loaded from DICOM."""
    return node is not None and bool((node.GetAttribute(INSTANCE_UIDS) or "").split())


def readSource(node: slicer.vtkMRMLNode, lookup: Lookup | None) -> Generator[float, None, SourceSeries]:
    """A generator that reads the headers of the files a node was loaded from, yielding the fraction done.

    :param lookup: function from an instance UID to a path, "" or None if there is no such file
    :return: the :class:`SourceSeries`, as the generator's value
    :raises SynthesisError: if a file is missing or not DICOM
    """
    import pydicom

    uids = node.GetAttribute(INSTANCE_UIDS).split()
    paths = list(filter(None, map(lookup, uids))) if lookup is not None else []
    if len(paths) < len(uids):
        raise _notFound(node, len(uids) - len(paths), len(uids))
    headers: list[Dataset] = []
    images: list[SourceImage] = []
    for number, path in enumerate(paths):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except FileNotFoundError as error:
            raise _notFound(node, 1, len(uids)) from error
        except (OSError, pydicom.errors.InvalidDicomError) as error:
            raise SynthesisError(
                _("The DICOM file '{path}' of the source volume cannot be read.").format(path=path),
                _("Import the series into the DICOM database again."),
            ) from error
        headers.append(header)
        images.extend(_imagesOf(header))
        yield (number + 1) / len(paths)
    return SourceSeries(headers[0], images)


def _notFound(node: slicer.vtkMRMLNode, missing: int, count: int) -> SynthesisError:
    return SynthesisError(
        _("{missing} of {count} DICOM files of the source volume '{name}' are not in the DICOM database.").format(
            missing=missing, count=count, name=node.GetName()
        ),
        _("Import the series into the DICOM database again, or export as a new study."),
    )


def _imagesOf(header: Dataset) -> list[SourceImage]:
    """The images of a file: one, or the frames of a multi-frame file with their functional groups."""
    environment.useLibrary()
    from SynthGANLib.io.dicom.export import SourceImage

    sopClass, sopInstance = str(header.SOPClassUID), str(header.SOPInstanceUID)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        return [SourceImage(sopClass, sopInstance, None, *_placed(header, (header,)))]
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    return [
        SourceImage(sopClass, sopInstance, number, *_placed(header, _measures((own, shared))))
        for number, own in enumerate(groups, start=1)
    ]


def _measures(groups: Iterable[Dataset | None]) -> list[Dataset]:
    """The datasets with position, orientation and spacing of a frame, its own before the shared ones."""
    names = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    return [group[name][0] for group in groups if group is not None for name in names if name in group]


def _placed(header: Dataset, places: Sequence[Dataset]) -> tuple[Array, Array] | tuple[None, None]:
    """Corners, (4, 3) in LPS mm, and unit normal of an image; (None, None) if the header does not place it."""
    found = {}
    for name, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        values = next((place.get(name) for place in places if place.get(name)), None)
        if values is None or len(values) != count:
            return None, None
        found[name] = np.array([float(value) for value in values])
    row, column = found["ImageOrientationPatient"][:3], found["ImageOrientationPatient"][3:]
    across = np.cross(row, column)
    if np.linalg.norm(across) < 0.5:
        return None, None
    betweenRows, betweenColumns = found["PixelSpacing"]
    right = row * betweenColumns * (int(header.Columns) - 1)
    down = column * betweenRows * (int(header.Rows) - 1)
    start = found["ImagePositionPatient"]
    corners = np.array([start, start + right, start + down, start + right + down])
    return corners, across / np.linalg.norm(across)
