"""Volumes as raw NRRD files for the child process: the values unchanged, at the speed of the disk.

The library's own writer rounds HU, refuses values that are not finite and compresses, in one call that stalls the
application. These files exist for one run only, and the worker checks the values.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array
    from SynthGANLib.image.volume import Volume

TYPES = {
    "i1": "int8",
    "u1": "uint8",
    "i2": "int16",
    "u2": "uint16",
    "i4": "int32",
    "u4": "uint32",
    "i8": "int64",
    "u8": "uint64",
    "f4": "float",
    "f8": "double",
}
"""NRRD's names of numpy's types."""


PIECE_BYTES = 1 << 22


def write(volume: Volume, path: Path) -> None:
    """Write a library volume: (z, y, x[, c]) with its affine to LPS mm.

    :raises SynthesisError: if the disk refuses or NRRD does not support the voxel type
    """
    for _piece in pieces(volume, path):
        pass


def pieces(volume: Volume, path: Path) -> Generator[None, None, None]:
    """Write a library volume as `write` does, a few slices at each `next`, since a large one takes seconds.

    :raises SynthesisError: as `write`
    """
    array = volume.array.view(np.uint8) if volume.array.dtype == np.bool_ else volume.array
    try:
        with open(path, "wb") as file:
            file.write(nrrdHeader(array, volume.affine))
            slices = max(1, PIECE_BYTES // max(1, array[:1].nbytes))
            for start in range(0, len(array), slices):
                np.ascontiguousarray(array[start : start + slices]).tofile(file)
                yield
    except OSError as error:
        raise SynthesisError(
            _("The volume cannot be written to the temporary folder '{folder}' ({reason}).").format(
                folder=path.parent, reason=error.strerror or error
            ),
            _("Free some space, or choose another temporary folder in the application settings."),
        ) from error


def nrrdHeader(array: Array, affine: Array, encoding: str = "raw", pairs: Iterable[tuple[str, str]] = ()) -> bytes:
    """The header of an NRRD file (version 4) with its voxels attached.

    :param array: (z, y, x[, c]), each voxel with its `c` components beside each other
    :param affine: 4x4, from voxel indices (i, j, k) to LPS mm
    :param encoding: of the voxels, "raw" or "gzip"
    :param pairs: (key, value) texts that readers keep
    :return: bytes
    :raises SynthesisError: if NRRD does not support the voxel type
    """
    kind = array.dtype.str[1:]
    if kind not in TYPES:
        raise SynthesisError(_("Voxels of type {type} are not supported.").format(type=array.dtype))
    perVoxel = {3: "RGB-color ", 4: "RGBA-color "}.get(array.shape[3], "vector ") if array.ndim == 4 else ""
    vectors = ["(" + ",".join(repr(float(value)) for value in affine[:3, column]) + ")" for column in range(4)]
    lines = [
        "NRRD0004",
        f"type: {TYPES[kind]}",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(extent) for extent in reversed(array.shape)),  # fastest first: [c] x y z
        f"space directions: {'none ' if perVoxel else ''}{' '.join(vectors[:3])}",
        f"kinds: {perVoxel}domain domain domain",
        f"endian: {'big' if array.dtype.str[0] == '>' else 'little'}",
        f"encoding: {encoding}",
        f"space origin: {vectors[3]}",
        *(f"{key}:={value}" for key, value in pairs),
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")
