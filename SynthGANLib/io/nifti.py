"""What the NIfTI reader keeps to itself: files cut off, NIfTI-2, and the place of a single slice.

ITK fills the missing part of a file that was cut off with zeros, makes zeros of NaN and infinite values, reports a
full disk to nobody, and reads a volume of one slice as a flat image without its place. The header fields are those of
nifti1.h.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Affine

Flags = NDArray[np.bool_]
_BLOCK = 16 * 1024 * 1024
# Lengths of the header in mm, by the code of their unit; without a code they are mm.
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class NiftiHeader:
    """The version, the size the file must have when unpacked, and the place of its voxels.

    `start` is the byte of the first voxel, `floats` the type of its values where they are floating point numbers.
    """

    version: int
    bytes: int
    affine: Affine | None  # index to LPS mm; None if the header says no place
    start: int = 352
    floats: str | None = None


def is_nifti(path: Path) -> bool:
    """True for the names ``.nii`` and ``.nii.gz``."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti_header(path: Path) -> NiftiHeader:
    """The header of a NIfTI file.

    Raises:
        InputError: no NIfTI file, or too short for its header.
    """
    try:
        with _open(path) as file:
            head = file.read(348)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path) from error
    if len(head) < 348:
        raise _damaged(path)
    for order in ("<", ">"):
        size = struct.unpack(order + "i", head[:4])[0]
        if size == 540:
            return NiftiHeader(2, 0, None)
        if size == 348:
            return _version_1(head, order, path)
    raise _damaged(path)


def check_whole(path: Path, header: NiftiHeader) -> Flags | None:
    """Flags of the voxels, in the file's order, that are NaN or infinite; None where there are none.

    Raises:
        InputError: the file does not hold all the voxels its header promises, or its checksum is wrong.
    """
    found, any_bad = 0, False
    flags: list[NDArray[np.uint8]] = []  # eight voxels a byte: a volume may have hundreds of millions
    try:
        with _open(path) as file:
            found += len(file.read(header.start))
            while block := file.read(_BLOCK):
                found += len(block)
                if header.floats is not None:
                    whole = len(block) - len(block) % np.dtype(header.floats).itemsize
                    bad = ~np.isfinite(np.frombuffer(block[:whole], header.floats))
                    any_bad = any_bad or bool(bad.any())
                    flags.append(np.packbits(bad))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path) from error
    if found < header.bytes:
        raise _damaged(path)
    return np.unpackbits(np.concatenate(flags)).view(np.bool_) if any_bad else None


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _damaged(path: Path) -> InputError:
    return InputError(
        f"'{path.name}' cannot be read: the file is damaged, cut off or of another kind.",
        next_step="Copy or export it again.",
    )


def _version_1(head: bytes, order: str, path: Path) -> NiftiHeader:
    dimensions = struct.unpack(order + "8h", head[40:56])
    extents = dimensions[1 : 1 + max(0, min(7, dimensions[0]))]
    if min(extents[:3], default=1) < 1:
        raise _damaged(path)  # the reader would take 1 instead
    voxels = math.prod(max(1, extent) for extent in extents)
    bits = struct.unpack(order + "h", head[72:74])[0]
    offset = struct.unpack(order + "f", head[108:112])[0]
    start = int(offset) if math.isfinite(offset) and offset > 0 else 352
    code = struct.unpack(order + "h", head[70:72])[0]
    floats = {16: f"{order}f4", 64: f"{order}f8"}.get(code)
    return NiftiHeader(1, start + voxels * bits // 8, _affine(head, order), start, floats)


def _affine(head: bytes, order: str) -> Affine | None:
    """The sform, else the qform, turned from RAS to LPS."""
    qform, sform = struct.unpack(order + "hh", head[252:256])
    affine = np.eye(4)
    if sform > 0:
        affine[:3] = np.reshape(struct.unpack(order + "12f", head[280:328]), (3, 4))
    elif qform > 0:
        handedness, *spacing = struct.unpack(order + "4f", head[76:92])
        b, c, d, *origin = struct.unpack(order + "6f", head[256:280])
        affine[:3, :3] = _rotation(b, c, d) * spacing
        affine[:3, 2] *= -1.0 if handedness < 0 else 1.0
        affine[:3, 3] = origin
    else:
        return None
    affine[:3] *= _MILLIMETRES.get(head[123] & 7, 1.0)
    return _RAS_TO_LPS @ affine


def _rotation(b: float, c: float, d: float) -> Affine:
    """The rotation matrix of the unit quaternion whose imaginary parts are given."""
    a = math.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    imaginary = np.array([b, c, d])
    cross = np.array([[0.0, -d, c], [d, 0.0, -b], [-c, b, 0.0]])
    rotation: Affine = (a * a - imaginary @ imaginary) * np.eye(3) + 2 * np.outer(imaginary, imaginary) + 2 * a * cross
    return rotation
