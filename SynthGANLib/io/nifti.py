"""NIfTI-1 files: their header, their voxels in one pass, and proof that a file is whole.

ITK fills the missing part of a file that was cut off with zeros, makes zeros of NaN and infinite values, reports a
full disk to nobody, and reads a volume of one slice as a flat image without its place. The header fields are those of
nifti1.h.

ITK decompresses about twice as fast as Python does. What it has read is therefore compared with the checksum and the
size at the end of the gzip file (RFC 1952), which takes a twentieth of the time of reading the file. Only files that
this cannot prove, as those with NaN, and files whose values ITK would change, are read here.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Affine, Array, Shape

_BLOCK = 1024 * 1024
# Bytes before the voxels that are kept for the checksum; longer extensions are rare.
_LONGEST_HEADER = 2**20
# Deflate shrinks nothing more than this (zlib.net/zlib_tech.html).
_MOST_DEFLATED = 1032
# Lengths of the header in mm, by the code of their unit; without a code they are mm.
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Data types that are read here, by their code; colors, complex numbers and 64-bit integers are left to ITK.
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}


@dataclass(frozen=True)
class NiftiHeader:
    """What the header of a file says.

    Attributes:
        version: 1 or 2; of NIfTI-2 nothing else is read.
        size: bytes that the file must have when unpacked.
        affine: index to LPS mm; None if the header says no place.
        start: byte of the first voxel.
        dtype: type of the stored values with their byte order; None for a file that only ITK reads.
        scale: slope and intercept; None where the stored values are the values.
        shape: extents (z, y, x) of one frame. frames: how many volumes the file holds.
        head: the bytes before the voxels.
    """

    version: int
    size: int = 0
    affine: Affine | None = None
    start: int = 352
    dtype: np.dtype[Any] | None = None
    scale: tuple[float, float] | None = None
    shape: Shape = (0, 0, 0)
    frames: int = 1
    head: bytes = b""


def is_nifti(path: Path) -> bool:
    """True for the names ``.nii`` and ``.nii.gz``."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti_header(path: Path) -> NiftiHeader:
    """The header of a NIfTI file.

    Raises:
        InputError: no NIfTI file, or too short for its header or for the voxels that it promises.
    """
    try:
        with _open(path) as file:
            head = file.read(352)
            if len(head) < 348:
                raise _damaged(path)
            for order in ("<", ">"):
                size = struct.unpack(order + "i", head[:4])[0]
                if size == 540:
                    return NiftiHeader(2)
                if size == 348:
                    return _version_1(head, file, order, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path) from error
    raise _damaged(path)


def proves(path: Path, header: NiftiHeader, stored: Array) -> bool:
    """True if a ``.nii.gz`` file holds its header and these voxels and nothing else, by the checksum at its end.

    Args:
        path: the file. header: as read from it.
        stored: the voxels as the file stores them, in native byte order.
    """
    with path.open("rb") as file:
        file.seek(-8, io.SEEK_END)
        checksum, size = struct.unpack("<II", file.read(8))
    if len(header.head) != header.start or (header.start + stored.nbytes) % 2**32 != size:
        return False
    if header.dtype is not None and not header.dtype.isnative:
        stored = stored.byteswap()
    return zlib.crc32(np.ascontiguousarray(stored).data, zlib.crc32(header.head)) == int(checksum)


def check_whole(path: Path, header: NiftiHeader) -> None:
    """Unpack a file to its end; InputError if it does not hold all that its header promises or is damaged."""
    found = 0
    try:
        with _open(path) as file:
            while block := file.read(_BLOCK):
                found += len(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path) from error
    if found < header.size:
        raise _damaged(path)


def read_voxels(path: Path, header: NiftiHeader, frame: int, *, label: bool = False) -> Array:
    """One frame, (z, y, x), read and checked to the end of the file in one pass; NaN for NaN and infinite values.

    Args:
        path: the file. header: as read from it, with a `dtype`. frame: which volume of the file.
        label: keep the stored type, float32 for integers that are scaled; otherwise float32.

    Raises:
        InputError: the file does not hold all the voxels its header promises, or its checksum is wrong.
    """
    stored = header.dtype
    assert stored is not None
    exact = np.dtype(np.float32) if header.scale and stored.kind != "f" else stored.newbyteorder("=")
    size = math.prod(header.shape)
    values = np.empty(size, exact if label else np.float32)
    first = header.start + frame * size * stored.itemsize
    position, done, rest = 0, 0, b""
    try:
        with _open(path) as file:
            while block := file.read(_BLOCK):
                wanted = rest + block[max(0, first - position) :] if done < size else b""
                position += len(block)
                count = min(len(wanted) // stored.itemsize, size - done)
                rest = wanted[count * stored.itemsize :]
                _convert(np.frombuffer(wanted, stored, count), header.scale, exact, values[done : done + count])
                done += count
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path) from error
    if position < header.size:
        raise _damaged(path)
    return values.reshape(header.shape)


def _convert(stored: Array, scale: tuple[float, float] | None, exact: np.dtype[Any], into: Array) -> None:
    """Scale as ITK does, in float64 and rounded to the type `exact`; NaN for what is not finite."""
    bad = ~np.isfinite(stored) if stored.dtype.kind == "f" else None
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite, which is looked for later
        if scale is not None:
            stored = (stored.astype(exact).astype(np.float64) * scale[0] + scale[1]).astype(exact)
        into[:] = stored
    if bad is not None and bad.any():
        into[bad] = np.nan


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _damaged(path: Path) -> InputError:
    return InputError(
        f"'{path.name}' cannot be read: the file is damaged, cut off or of another kind.",
        next_step="Copy or export it again.",
    )


def _version_1(head: bytes, file: gzip.GzipFile | io.BufferedReader, order: str, path: Path) -> NiftiHeader:
    dimensions = struct.unpack(order + "8h", head[40:56])
    extents = dimensions[1 : 1 + max(0, min(7, dimensions[0]))]
    if min(extents[:3], default=1) < 1:
        raise _damaged(path)  # the reader would take 1 instead
    voxels = math.prod(max(1, extent) for extent in extents)
    code, bits = struct.unpack(order + "hh", head[70:74])
    offset, slope, intercept = struct.unpack(order + "3f", head[108:120])
    start = int(offset) if math.isfinite(offset) and offset > 0 else 352
    whole = start + voxels * bits // 8
    if whole > path.stat().st_size * (_MOST_DEFLATED if path.name.lower().endswith(".gz") else 1):
        raise _damaged(path)  # before memory is asked for
    plain = head[344:348] == b"n+1\0" and len(extents) in (3, 4) and code in _TYPES and offset >= 352
    dtype = np.dtype(order + _TYPES[code]) if plain else None
    if dtype is not None and dtype.itemsize * 8 != bits:
        dtype = None
    return NiftiHeader(
        version=1,
        size=whole,
        affine=_affine(head, order),
        start=start,
        dtype=dtype,
        scale=_scale(slope, intercept),
        shape=(extents[2], extents[1], extents[0]) if plain else (0, 0, 0),
        frames=max(1, extents[3]) if len(extents) == 4 else 1,
        head=head + file.read(min(start, _LONGEST_HEADER) - len(head)) if start > len(head) else head[:start],
    )


def _scale(slope: float, intercept: float) -> tuple[float, float] | None:
    """Slope and intercept as ITK takes them, None where they change nothing; a slope of zero or NaN counts as 1."""
    slope, intercept = (value if math.isfinite(value) else 0.0 for value in (slope, intercept))
    least = float(np.finfo(np.float64).eps)
    if abs(slope) < least:
        slope = 1.0
    return None if abs(slope - 1.0) < least and abs(intercept) < least else (slope, intercept)


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
