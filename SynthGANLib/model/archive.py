"""Unpacking a model from a zip archive: plain names, no links, bounded size, nothing outside the target."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from SynthGANLib.errors import ModelError
from SynthGANLib.model.card import CARD
from SynthGANLib.model.card_checks import check_file_name
from SynthGANLib.model.folder import LITTER, MAX_WEIGHTS_BYTES

MAX_FILES = 256
MAX_TOTAL_BYTES = MAX_WEIGHTS_BYTES + 2**28
MAX_RATIO = 200
"""Weights hardly compress; text does tenfold. What grows more is meant to fill a disk."""

_CHUNK = 2**20


def unpack(archive: Path, folder: Path) -> None:
    """Write the one model in ``archive`` (at its top, or in a single folder) into the new ``folder``.

    Raises:
        ModelError: if the archive is damaged, holds anything but one flat model folder, or grows too large.
        OSError: if ``folder`` cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = _members(content, archive)
            folder.mkdir()
            left = min(MAX_TOTAL_BYTES, max(archive.stat().st_size, 4096) * MAX_RATIO)
            for name, member in members.items():
                left = _extract(content, member, folder / name, left, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise _refuse(archive, f"it is not a readable zip archive ({error})") from None
    except RuntimeError as error:  # what zipfile raises for an encrypted member
        raise _refuse(archive, f"it cannot be unpacked ({error})") from None


def _members(content: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Plain file name to member, after every path in the archive was checked."""
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in content.infolist():
        path = _checked_path(member, archive)
        if path.parts[0] == "__MACOSX" or path.name in LITTER or member.is_dir():
            continue
        if path in found:
            raise _refuse(archive, f"it holds '{path}' twice")
        found[path] = member
        if len(found) > MAX_FILES:
            raise _refuse(archive, f"it holds more than {MAX_FILES} files")
    tops = [path.parent for path in found if path.name == CARD]
    if len(tops) != 1:
        raise _refuse(archive, f"it holds {len(tops)} model.json files, and one is needed")
    stray = [path for path in found if path.parent != tops[0]]
    if stray or len(tops[0].parts) > 1:
        raise _refuse(archive, f"it holds '{(stray or tops)[0]}' beside or below the model folder")
    for path in found:
        if path.name != CARD:
            check_file_name(path.name, f"{archive.name}: files")
    return {path.name: member for path, member in found.items()}


def _checked_path(member: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    name = member.orig_filename  # zipfile itself cuts names at a NUL and rewrites separators
    path = PurePosixPath(name)
    hostile = not name or "\\" in name or ":" in name or "\0" in name or path.is_absolute() or ".." in path.parts
    if hostile or not path.parts:
        raise _refuse(archive, f"it holds the unsafe path {name[:80]!r}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refuse(archive, f"'{name[:80]}' is a link or a device, and a model holds plain files only")
    return path


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int, archive: Path) -> int:
    """Write one member, counting what really comes out; returns how many bytes may still come."""
    with content.open(member) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _refuse(archive, "it unpacks to far more than a model of its size can hold")
            file.write(chunk)
    return left


def _refuse(archive: Path, reason: str) -> ModelError:
    return ModelError(f"Model archive '{archive}' is refused: {reason}.", next_step="Get the model again.")
