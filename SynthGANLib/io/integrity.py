"""What the readers of NRRD and MetaImage keep to themselves: lengths that are not mm, damage, names that crash them.

ITK takes every length of a NRRD file for mm, whatever its header says, and goes on with whatever numbers come out of
compressed MetaImage voxels that are damaged. It ends the process where a file's name is no text.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Array

_MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_LONGEST_HEADER = 2**20
_BLOCK = 16 * 1024 * 1024


def check_name(path: str | Path) -> None:
    """InputError for a name that holds bytes of another encoding than the system's."""
    name = os.fspath(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise InputError(
            f"The path '{shown}' holds characters of an unknown encoding.", next_step="Rename the file or folder."
        ) from error


def check_nrrd_lengths(path: Path) -> None:
    """InputError if a NRRD header states its lengths in anything but mm."""
    fields = {}
    with path.open("rb") as file:
        for line in file.read(_LONGEST_HEADER).splitlines():
            if not line.strip():
                break  # the voxels follow
            name, _, value = line.decode("ascii", "replace").partition(":")
            fields[name.strip().lower()] = value
    stated = fields.get("space units") or (fields.get("units") if "spacings" in fields else None)
    others = [unit for unit in re.findall(r'"([^"]*)"', stated or "") if unit.strip().lower() not in _MILLIMETRES]
    if others:
        raise InputError(
            f"The header of '{path.name}' states its lengths in '{others[0]}', and only mm are read.",
            next_step="Convert its spacing and origin to mm.",
        )


def check_metaimage_voxels(path: Path, found: Array) -> None:
    """InputError if the compressed voxels of a MetaImage file are damaged or cut off.

    Args:
        path: the file.
        found: the voxels as ITK has read them. Where their checksum is the one at the end of the file (zlib's, RFC
            1950), nothing is decompressed again.
    """
    with path.open("rb") as file:
        fields, start = _metaimage_header(file.read(_LONGEST_HEADER))
    place = fields.get("elementdatafile", "")
    if fields.get("compresseddata", "").lower() != "true" or "%" in place or place.upper().startswith("LIST"):
        return
    local = place.upper() == "LOCAL"
    voxels = path if local else path.parent / place
    if not voxels.is_file():
        return
    try:
        with voxels.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            if int.from_bytes(file.read(4), "big") == zlib.adler32(np.ascontiguousarray(found).data):
                return
            stream = zlib.decompressobj(47)  # 47: it may be zlib's or gzip's
            file.seek(start if local else 0)
            while not stream.eof and (block := file.read(_BLOCK)):
                while block and not stream.eof:
                    stream.decompress(block, _BLOCK)
                    block = stream.unconsumed_tail
    except zlib.error as error:
        raise _damaged(path) from error
    if not stream.eof:
        raise _damaged(path)


def _metaimage_header(head: bytes) -> tuple[dict[str, str], int]:
    """Fields by name in lower case, and the byte behind the header; ``ElementDataFile`` ends it."""
    fields: dict[str, str] = {}
    position = 0
    for line in head.splitlines(keepends=True):
        position += len(line)
        name, _, value = line.decode("latin-1").partition("=")
        fields[name.strip().lower()] = value.strip()
        if "elementdatafile" in fields:
            break
    return fields, position


def _damaged(path: Path) -> InputError:
    return InputError(
        f"'{path.name}' cannot be read: its compressed voxels are damaged or cut off.",
        next_step="Copy or export it again.",
    )
