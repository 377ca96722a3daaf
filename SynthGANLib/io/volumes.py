"""Reading and writing image files; complete or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from SynthGANLib.errors import InputError, MemoryExhaustedError, SynthGANError
from SynthGANLib.image.grid import Affine, Array, checked_affine
from SynthGANLib.image.volume import UNITS, Volume, sitk_affine
from SynthGANLib.io import nifti
from SynthGANLib.io.formats import PICTURES, READABLE, suffix_of
from SynthGANLib.io.integrity import check_metaimage_voxels, check_name, check_nrrd_lengths
from SynthGANLib.io.targets import check_kind, check_output

# Key under which NRRD, MetaImage and (in its description) NIfTI carry the unit.
_UNIT_KEY = "SynthGAN.unit"
# A fast level: floats hardly shrink further, and writing takes several times longer at the usual one.
_COMPRESSION = 1
_TAIL = 12


def read_volume(
    path: str | Path, *, series: str | None = None, frame: int | None = None, unit: str | None = None
) -> Volume:
    """Read NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, a DICOM file or a folder of DICOM slices.

    Scalars come as float32, colors as uint8 (z, y, x, 3); with ``unit="label"`` whole numbers keep
    their integer type. The unit of a DICOM CT is ``HU``, of a DICOM PET ``SUVbw`` where the
    header permits the conversion, of a color image ``RGB``, else ``1`` unless given.

    Args:
        path: file or folder.
        series: SeriesInstanceUID, or its unique beginning or end, for a folder with several series.
        frame: index of one time point, echo or volume of a 4D image.
        unit: overrides the unit guessed.

    Raises:
        InputError: nothing readable there, several series or frames to choose from, or a
            geometry that no affine can place (gaps, variable distances, mixed orientations).
    """
    path = Path(path)
    if unit is not None and unit not in UNITS:
        raise InputError(f"'{unit}' is no unit.", next_step=f"Choose one of {', '.join(UNITS)}.")
    check_name(path)
    if not path.exists():
        raise InputError(f"There is no file or folder '{path}'.", next_step="Check the path.")
    if not os.access(path, os.R_OK):
        raise InputError(f"'{path}' may not be read by you.", next_step="Check its permissions.")
    try:
        return _read(path, series, frame, unit)
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be read: {error.strerror or error}.", next_step="Check the disk and permissions."
        ) from error
    except MemoryError as error:
        raise MemoryExhaustedError(
            f"'{path.name}' does not fit into memory.", next_step="Close other programs or crop the volume."
        ) from error


def _read(path: Path, series: str | None, frame: int | None, unit: str | None) -> Volume:
    from SynthGANLib.io.dicom import series as dicom

    if path.is_dir():
        return dicom.read_folder(path, series=series, frame=frame, unit=unit)
    if series is not None:
        raise InputError(f"'{path}' is a file; a series is chosen in a folder only.", next_step="Leave the series out.")
    suffix = suffix_of(path)
    if suffix == ".dcm" or (suffix not in READABLE and dicom.is_dicom(path)):
        return dicom.read_file(path, frame=frame, unit=unit)
    if suffix not in READABLE:
        raise InputError(
            f"'{path.name}' is of no kind that can be read.",
            next_step=f"Convert it to one of {', '.join(READABLE)} or a DICOM folder.",
        )
    return _read_image(path, suffix, frame, unit)


def _read_image(path: Path, suffix: str, frame: int | None, unit: str | None) -> Volume:
    import SimpleITK as sitk

    header = _nifti_header(path) if nifti.is_nifti(path) else None
    if suffix in (".nrrd", ".nhdr"):
        check_nrrd_lengths(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    if suffix in (".mha", ".mhd"):
        reader.SetImageIO("MetaImageIO")  # by the file's name it is found for suffixes in lower case only
    try:
        reader.ReadImageInformation()
        _select_frame(reader, path, frame)
        if header is not None and not _itk_reads(header, suffix):
            size = reader.GetSize()
            reader.SetExtractIndex([0] * len(size))  # one voxel: ITK gives the place only
            reader.SetExtractSize([1] * min(3, len(size)) + [0] * (len(size) - 3))
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, suffix, str(error)) from error
    unit = unit or _stored_unit(image)
    if suffix in (".mha", ".mhd"):
        check_metaimage_voxels(path, sitk.GetArrayViewFromImage(image))
    elif header is not None and header.dtype is None:
        nifti.check_whole(path, header)
    if header is not None and header.dtype is not None and not _proved(path, header, image):
        array = _nifti_values(path, header, frame or 0, unit)
    else:
        array, unit = _values(image, path, unit)
    affine = _affine_of(image, path)
    warnings: tuple[str, ...] = ()
    if image.GetDimension() == 2 and header is not None and header.affine is not None:
        affine = header.affine
    elif suffix in PICTURES:
        warnings = ("A picture has no place in the patient, and its pixel spacing may be wrong.",)
    elif image.GetDimension() == 2:
        warnings = ("The image is two-dimensional; a slice thickness of 1 mm was assumed.",)
    meta = {"modality": "", "sequence": "", "description": path.name, "warnings": warnings}
    return Volume(array, affine, unit, meta)


def _affine_of(image: Any, path: Path) -> Affine:
    """The image's place; InputError with the file's name if it is none."""
    try:
        return checked_affine(sitk_affine(image))
    except InputError as error:
        raise _impossible_axes(path) from error


def _nifti_header(path: Path) -> nifti.NiftiHeader:
    """The header of a NIfTI file; InputError for NIfTI-2 and files cut off."""
    header = nifti.read_nifti_header(path)
    if header.version == 2:
        raise InputError(f"'{path.name}' is NIfTI-2, which is not read.", next_step="Convert it to NIfTI-1 or NRRD.")
    return header


def _itk_reads(header: nifti.NiftiHeader, suffix: str) -> bool:
    """True for a file that only ITK reads, and for one that it reads faster and whose checksum proves what it read."""
    return header.dtype is None or (suffix == ".nii.gz" and header.scale is None and header.frames == 1)


def _proved(path: Path, header: nifti.NiftiHeader, image: Any) -> bool:
    """True if ITK has read all voxels as the file holds them."""
    import SimpleITK as sitk

    return _itk_reads(header, suffix_of(path)) and nifti.proves(path, header, sitk.GetArrayViewFromImage(image))


def _nifti_values(path: Path, header: nifti.NiftiHeader, frame: int, unit: str) -> Array:
    """The voxels (z, y, x) of one frame in the type the unit calls for; NaN where the file holds none or infinity."""
    if unit != "label":
        return nifti.read_voxels(path, header, frame)
    values = nifti.read_voxels(path, header, frame, label=True)
    lost = np.isnan(values)
    if not lost.any():
        return _labels(values, path)
    values[lost] = 0
    return np.where(lost, np.float32(np.nan), _labels(values, path))


def _select_frame(reader: Any, path: Path, frame: int | None) -> None:
    """Make the reader load one frame of a 4D file only."""
    size = reader.GetSize()
    count = size[3] if len(size) == 4 else 1
    if len(size) not in (2, 3, 4):
        raise InputError(f"'{path.name}' has {len(size)} dimensions.", next_step="Convert it to one 3D volume.")
    if frame is None and count > 1:
        raise InputError(
            f"'{path.name}' holds {count} volumes (time points, echoes or directions).",
            next_step=f"Pick one with frame=0 to {count - 1} (in the shell: --frame).",
        )
    if frame is not None and not 0 <= frame < count:
        raise InputError(f"'{path.name}' has no frame {frame}.", next_step=f"Choose one from 0 to {count - 1}.")
    if len(size) == 4:
        reader.SetExtractIndex([0, 0, 0, frame or 0])
        reader.SetExtractSize([*size[:3], 0])


def _values(image: Any, path: Path, unit: str) -> tuple[Array, str]:
    """The voxels, (z, y, x) or (z, y, x, 3), in the type the unit calls for, and the unit."""
    import SimpleITK as sitk

    name = image.GetPixelIDTypeAsString()
    channels = image.GetNumberOfComponentsPerPixel()
    if "complex" in name:
        raise InputError(f"'{path.name}' holds complex numbers.", next_step="Save the magnitude as its own volume.")
    view = sitk.GetArrayViewFromImage(image)
    if image.GetDimension() == 2:
        view = view[np.newaxis]  # (y, x[, c]) -> (1, y, x[, c])
    if channels > 1:
        return _colours(view, path), "RGB"
    if unit == "label":
        return _labels(view, path), unit
    # The view lives as long as the image; this makes the one copy.
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is looked for later
        return np.array(view, np.float32), unit


def _labels(values: Array, path: Path) -> Array:
    """A copy of whole numbers in their integer type; InputError for fractions."""
    if values.dtype.kind != "f":
        return np.array(values)
    whole = np.rint(values)
    if not np.array_equal(whole, values):
        raise InputError(f"'{path.name}' is no label map: it holds fractions.", next_step="Choose a segmentation.")
    return whole.astype(np.int32)


def _colours(view: Array, path: Path) -> Array:
    """(z, y, x, 3) uint8; an alpha channel is dropped if it says opaque everywhere."""
    if view.dtype != np.uint8:
        raise InputError(
            f"'{path.name}' has {view.shape[-1]} channels of {view.dtype}; colors need three of 8 bits.",
            next_step="Save each channel as its own volume, or convert the picture to 8-bit RGB.",
        )
    if view.shape[-1] in (2, 4):
        if view[..., -1].min() < 255:
            raise InputError(f"'{path.name}' has transparent pixels.", next_step="Flatten it to plain RGB.")
        view = view[..., :-1]
    if view.shape[-1] == 1:
        view = np.repeat(view, 3, axis=-1)
    if view.shape[-1] != 3:
        raise InputError(
            f"'{path.name}' has {view.shape[-1]} channels.", next_step="Save each channel as its own volume."
        )
    return np.array(view)


def _stored_unit(image: Any) -> str:
    """The unit that :func:`write` left in the file, else "1"."""
    for key in (_UNIT_KEY, "descrip"):
        if image.HasMetaDataKey(key):
            unit = str(image.GetMetaData(key)).removeprefix(_UNIT_KEY + "=").strip("\0 ")
            if unit in UNITS:
                return unit
    return "1"


def _unreadable(path: Path, suffix: str, cause: str) -> SynthGANError:
    """What the reader's own message means for the user."""
    if "allocat" in cause:
        return MemoryExhaustedError(
            f"'{path.name}' does not fit into memory.", next_step="Close other programs or crop the volume."
        )
    if "orthonormal" in cause or "orthogonal" in cause:
        return _impossible_axes(path)
    return InputError(
        f"'{path.name}' cannot be read as {suffix}: the file is damaged, cut off or of another kind.",
        next_step="Copy or export it again.",
    )


def _impossible_axes(path: Path) -> InputError:
    return InputError(
        f"The header of '{path.name}' has sheared or otherwise impossible axes.",
        next_step="Resample it to right angles, for example by loading and saving it in 3D Slicer.",
    )


def write_volume(volume: Volume, path: str | Path, *, force: bool = False) -> None:
    """Write ``.nii``, ``.nii.gz``, ``.nrrd``, ``.mha``, or one color slice as ``.png`` or ``.tif``.

    HU are rounded to int16, labels keep their integer type, colors are uint8, all else is float32.
    The file appears complete or not at all: it is written beside its place and then renamed.

    Raises:
        InputError: the file exists and ``force`` is false, the format is unknown or cannot hold the volume, the
            folder is missing, or the disk refuses; an older file is then left as it was.
    """
    path = Path(path)
    suffix = suffix_of(path)
    check_output(path, {}, force)
    check_kind(path, volume.unit, volume.grid)
    import SimpleITK as sitk

    stored = Volume(_stored(volume), volume.affine, volume.unit)
    image = stored.to_sitk()
    if suffix in PICTURES:
        image = image[:, :, 0]
    image.SetMetaData("ITK_FileNotes" if suffix.startswith(".nii") else _UNIT_KEY, _note(volume.unit, suffix))
    size = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
    place = Path(os.path.realpath(path))  # a link stays a link, its target is replaced
    try:
        with tempfile.TemporaryDirectory(prefix=".synthgan-", suffix=".part", dir=place.parent) as folder:
            part = Path(folder) / ("volume" + suffix)
            sitk.WriteImage(image, os.fspath(part), useCompression=True, compressionLevel=_COMPRESSION)
            _check_whole(part, size, stored.array)
            if path.exists() and not force:
                raise InputError(f"'{path}' appeared while it was being written.", next_step="Choose another name.")
            os.replace(part, place)
    except (OSError, RuntimeError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
        raise InputError(
            f"'{path}' could not be written: {cause}.",
            next_step="Free some space or choose another folder; nothing was changed.",
        ) from error


def _note(unit: str, suffix: str) -> str:
    return f"{_UNIT_KEY}={unit}" if suffix.startswith(".nii") else unit


def _stored(volume: Volume) -> Array:
    """The array in the type its unit is stored in."""
    array = volume.array
    if array.dtype.kind == "f" and not np.isfinite(array.sum(dtype=np.float64)) and not np.isfinite(array).all():
        raise InputError("The volume holds NaN or infinite values.", next_step="Repair it before writing.")
    if volume.unit == "RGB":
        return _rounded(array, np.uint8)
    if volume.unit == "HU":
        return _rounded(array, np.int16)
    if volume.unit == "label":
        return array if array.dtype.kind in "iub" else _rounded(array, np.int32)
    return array.astype(np.float32, copy=False)


def _rounded(array: Array, dtype: type[np.integer[Any]]) -> Array:
    """Whole numbers within the type's range, converted slice by slice to spare memory."""
    if array.dtype == dtype:
        return array
    limits = np.iinfo(dtype)
    result = np.empty(array.shape, dtype)
    for index, part in enumerate(array):
        result[index] = np.clip(np.rint(part), limits.min, limits.max)
    return result


def _check_whole(part: Path, size: int, stored: Array) -> None:
    """OSError if the disk was full, which some writers do not say; ``size`` is that of the voxels in bytes."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if nifti.is_nifti(part):
        try:
            header = nifti.read_nifti_header(part)  # compares a size that is not compressed with the header's
            if part.name.endswith(".gz") and not nifti.proves(part, header, stored):
                nifti.check_whole(part, header)
        except InputError as error:
            raise full from error
        return
    with part.open("rb") as file:
        file.seek(-min(_TAIL, part.stat().st_size), os.SEEK_END)
        tail = file.read()
    # What is written last: gzip's size of what it holds (RFC 1952) within an NRRD, and a PNG's end mark.
    ends = {".nrrd": (size % 2**32).to_bytes(4, "little"), ".png": b"IEND\xaeB`\x82"}
    if not tail.endswith(ends.get(suffix_of(part), b"")):
        raise full
