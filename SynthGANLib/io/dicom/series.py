"""DICOM series to volumes: which series, which images, their numbers and unit.

Pixels are decoded by GDCM through SimpleITK; the place of every image comes from its own header.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.dicom.contrast import contrast_of
from SynthGANLib.io.dicom.header import Dataset, Header, read_header
from SynthGANLib.io.dicom.stack import Frame, Stack, frames_of, stack_frames
from SynthGANLib.io.dicom.suv import Uptake, uptake
from SynthGANLib.io.integrity import check_name


@dataclass(frozen=True)
class SeriesInfo:
    """One DICOM series in a folder.

    Attributes:
        uid: SeriesInstanceUID.
        description: SeriesDescription.
        modality: ``MR``, ``CT``, ``PT``, ...
        number: SeriesNumber, empty if absent.
        files: its image files, sorted by name.
        shape: its extents in words, like ``256 x 256 x 35``.
    """

    uid: str
    description: str
    modality: str
    number: str
    files: tuple[Path, ...]
    shape: str

    def __str__(self) -> str:
        number = f"{self.number} " if self.number else ""
        return f"{number}'{self.description}' {self.modality} {self.shape} ({self.uid})"


def is_dicom(path: Path) -> bool:
    """True if the file starts as DICOM files do."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM"


def list_series(folder: str | Path) -> list[SeriesInfo]:
    """The image series in a folder and its subfolders, by number and UID.

    Raises:
        InputError: no such folder, or a DICOM file in it is damaged.
    """
    return [_info(headers) for headers in _series(Path(folder))]


def read_folder(folder: Path, *, series: str | None, frame: int | None, unit: str | None) -> Volume:
    """The one image series in a folder, or the one named.

    Raises:
        InputError: no images, several series and none named, or images that form no volume.
    """
    found = _series(folder)
    if not found:
        raise InputError(
            f"The folder '{folder}' holds no DICOM images.",
            next_step="Choose the folder that holds the slices, or a NIfTI, NRRD or MHA file.",
        )
    return _assemble(_choose(found, series, folder), frame, unit)


def read_file(path: Path, *, frame: int | None, unit: str | None) -> Volume:
    """The image or images of one DICOM file.

    Raises:
        InputError: no DICOM, no pixels, or images that form no volume.
    """
    header = read_header(path)
    if header is None:
        raise InputError(f"'{path}' is no DICOM file.", next_step="Choose a DICOM, NIfTI, NRRD or MHA file.")
    if not header.pixels:
        what = header.text(0x00080060) or "unknown kind"
        raise InputError(f"The DICOM file '{path}' holds no image ({what}).", next_step="Choose an image series.")
    return _assemble([header], frame, unit)


def _series(folder: Path) -> list[list[Header]]:
    """Headers with pixels, grouped by series, ordered by series number, UID and file name."""
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'.", next_step="Check the path.")
    groups: dict[str, list[Header]] = {}
    for path in _files(folder):
        header = read_header(path)
        if header is not None and header.pixels:
            groups.setdefault(header.text(0x0020000E), []).append(header)
    return sorted(groups.values(), key=lambda group: (group[0].number(0x00200011) or 0, group[0].text(0x0020000E)))


def _files(folder: Path) -> Iterable[Path]:
    for directory, subfolders, names in os.walk(folder, onerror=_unreadable):
        subfolders.sort()
        for name in sorted(names):
            if not name.startswith(".") and name != "DICOMDIR":
                yield Path(directory) / name


def _unreadable(error: OSError) -> None:
    raise InputError(
        f"The folder '{error.filename}' cannot be read: {error.strerror}.", next_step="Check its permissions."
    ) from error


def _info(headers: Sequence[Header]) -> SeriesInfo:
    first = headers[0]
    images = sum(int(header.number(0x00280008) or 1) for header in headers)
    return SeriesInfo(
        uid=first.text(0x0020000E),
        description=first.text(0x0008103E),
        modality=first.text(0x00080060),
        number=first.text(0x00200011),
        files=tuple(header.path for header in headers),
        shape=f"{first.short(0x00280011)} x {first.short(0x00280010)} x {images}",
    )


def _choose(found: list[list[Header]], series: str | None, folder: Path) -> list[Header]:
    """The series named by UID, its unique beginning or end, or its number; the only one if none is named."""
    infos = [_info(headers) for headers in found]
    listed = "; ".join(str(info) for info in infos)
    if series is None:
        if len(found) == 1:
            return found[0]
        raise InputError(
            f"The folder '{folder}' holds {len(found)} series: {listed}.",
            next_step="Name one of them by its UID or number as the series.",
        )
    tests: tuple[Callable[[SeriesInfo], bool], ...] = (
        lambda info: info.uid == series,
        lambda info: info.number == series,
        lambda info: info.uid.startswith(series) or info.uid.endswith(series),
    )
    for test in tests:
        matches = [headers for headers, info in zip(found, infos, strict=True) if test(info)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(f"Several series answer to '{series}': {listed}.", next_step="Give the full UID.")
    raise InputError(
        f"No series answers to '{series}' in '{folder}', which holds {listed}.", next_step="Name one of them."
    )


def _assemble(headers: Sequence[Header], frame: int | None, unit: str | None) -> Volume:
    """Read, place and scale the images of one series."""
    first = headers[0]
    image_types = first.text(0x00080008).split("\\")
    if "MOSAIC" in image_types:
        raise InputError(
            f"'{first.path.name}' is a Siemens mosaic, many slices tiled into one image.",
            next_step="Export the series as enhanced DICOM, or convert it to NIfTI.",
        )
    frames = [entry for header in headers for entry in frames_of(header)]
    pixels = _Pixels()
    ordered = stack_frames(frames, frame, pixels.same)
    meaning = _meaning(ordered.frames[0])
    if unit is not None and unit != meaning.unit:
        meaning = Uptake(unit)
    array = _fill(ordered, pixels, as_label=unit == "label")
    if array.ndim == 4:
        meaning = Uptake("RGB")
    if meaning.factor != 1.0:
        array *= np.float32(meaning.factor)
    meta = {
        "modality": first.text(0x00080060),
        "sequence": _contrast(first),
        "description": first.text(0x0008103E),
        "series": first.text(0x0020000E),
        "warnings": ordered.warnings + meaning.warnings,
    }
    return Volume(array, ordered.affine, meaning.unit, meta)


def _contrast(header: Dataset) -> str:
    """The MR contrast, "" for other modalities and where the header does not settle it."""
    if header.text(0x00080060) != "MR":
        return ""
    return contrast_of(
        scanning=header.text(0x00180020),
        echo_ms=header.number(0x00180081),
        repetition_ms=header.number(0x00180080),
        inversion_ms=header.number(0x00180082),
        description=header.text(0x0008103E) or header.text(0x00181030),
    )


def _meaning(frame: Frame) -> Uptake:
    """Unit of the rescaled numbers."""
    modality = frame.header.text(0x00080060)
    if modality == "PT":
        return uptake(frame.header)
    if modality != "CT":
        return Uptake("1")
    if frame.rescale is None:
        return Uptake("1", 1.0, ("The CT has no rescale values in its header, so its numbers are not taken as HU.",))
    if frame.rescale_type not in ("", "HU"):
        what = f"The CT's values are of the type '{frame.rescale_type}', not HU."
        return Uptake("1", 1.0, (what,))
    return Uptake("HU")


def _fill(ordered: Stack, pixels: _Pixels, *, as_label: bool) -> Array:
    """All images in one array: float32 (z, y, x), labels as stored, colors uint8 (z, y, x, 3)."""
    result: Array | None = None
    for number, frame in enumerate(ordered.frames):
        image = pixels.of(frame)  # (y, x[, c])
        if result is None:
            dtype = image.dtype if as_label or image.ndim == 3 else np.dtype(np.float32)
            result = np.empty((len(ordered.frames), *image.shape), dtype)
        if image.shape != result.shape[1:]:
            raise InputError(f"'{frame.header.path.name}' has another size or color type than the rest of its series.")
        result[number] = image
    if result is None:
        raise InputError("The series holds no images.")
    if result.ndim == 4 and (result.dtype != np.uint8 or result.shape[3] != 3):
        raise InputError("The color image does not have three channels of 8 bits.", next_step="Export it as 8-bit RGB.")
    return result


class _Pixels:
    """Decodes images, keeping the last multiframe file at hand."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._images: Array = np.empty(0)
        self._digests: dict[tuple[Path, int], bytes] = {}

    def of(self, frame: Frame) -> Array:
        """The rescaled numbers of one frame, (y, x) or (y, x, c)."""
        if frame.header.path != self._path:
            self._images = _decode(frame.header)
            self._path = frame.header.path
        if frame.index >= len(self._images):
            raise InputError(f"'{frame.header.path.name}' holds fewer frames than its header says.")
        image: Array = self._images[frame.index]
        return image

    def same(self, one: Frame, other: Frame) -> bool:
        """True if both frames hold the same stored numbers, scaled alike."""
        return one.rescale == other.rescale and self._digest(one) == self._digest(other)

    def _digest(self, frame: Frame) -> bytes:
        key = (frame.header.path, frame.index)
        if key not in self._digests:
            self._digests[key] = hashlib.sha256(self.of(frame).tobytes()).digest()
        return self._digests[key]


def _decode(header: Header) -> Array:
    """All frames of a file with rescale applied, (frames, y, x[, c])."""
    if header.pixels != "integer":
        raise InputError(
            f"'{header.path.name}' stores floating-point pixels, which GDCM does not decode.",
            next_step="Convert it to NIfTI or NRRD with a tool that does.",
        )
    frames = frames_of(header)
    if len({frame.rescale for frame in frames}) > 1:
        raise InputError(
            f"The frames of '{header.path.name}' have different rescale values.",
            next_step="Export the series as classic (single-frame) DICOM.",
        )
    if header.text(0x00280004) == "MONOCHROME1":
        return _decode_monochrome1(header)
    return _gdcm(header)


def _decode_monochrome1(header: Header) -> Array:
    """The stored numbers of an image to be displayed inverted.

    GDCM inverts the numbers of MONOCHROME1 (maximum minus value), although the tag speaks of the display only
    and PET or CT values must stay what they are. It is given a copy of the file that says MONOCHROME2.
    """
    offset = header.photometric_offset
    if not offset:
        raise InputError(
            f"'{header.path.name}' is MONOCHROME1 inside a deflated file.",
            next_step="Export the series uncompressed.",
        )
    content = bytearray(header.path.read_bytes())
    content[offset : offset + 11] = b"MONOCHROME2"
    with tempfile.TemporaryDirectory(prefix="synthgan-") as folder:
        copy = Path(folder) / "slice.dcm"
        copy.write_bytes(content)
        return _gdcm(replace(header, path=copy), shown=header.path.name)


def _gdcm(header: Header, shown: str = "") -> Array:
    import SimpleITK as sitk

    check_name(header.path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(os.fspath(header.path))
    try:
        image: Any = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"GDCM cannot decode the pixels of '{shown or header.path.name}' (transfer syntax "
            f"{header.transfer_syntax or 'not named'}).",
            next_step="Export the series uncompressed, or copy it again if it may be damaged.",
        ) from error
    array: Array = sitk.GetArrayFromImage(image)
    return array if image.GetDimension() == 3 else array[np.newaxis]
