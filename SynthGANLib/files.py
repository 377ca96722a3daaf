"""Writing files whole or not at all, moving folders into place, and SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from SynthGANLib.errors import InputError

PART = ".part"


class NotWrittenError(InputError):
    """A file of a run could not be written: a full disk, a missing permission. What was there is still there."""


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a sibling of `path`, bring it to the disk and rename it into place.

    Raises:
        NotWrittenError: the disk refused; the sibling is removed and a former `path` is as it was.
    """
    part = path.with_name(path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # PyTorch's writer reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):  # what cannot be removed is overwritten by the next attempt
            part.unlink(missing_ok=True)
        raise NotWrittenError(
            f"'{path}' cannot be written ({_reason(error)}).",
            next_step="Free space or correct the permissions, then continue with --resume.",
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole; NotWrittenError if the disk refuses."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda part: _write_text(part, text))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole; NotWrittenError if the disk refuses."""
    write_whole(path, lambda part: _write_text(part, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync_folder(folder: Path) -> None:
    """The rename itself survives a power cut; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text[:160].rstrip(". ")


def move_into_place(part: Path, path: Path) -> None:
    """Rename ``part`` to ``path``; a former folder is set aside first, and put back if that fails."""
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    replaced = os.path.lexists(path)
    if replaced:
        path.rename(old)
    try:
        part.rename(path)
    except OSError:
        if replaced:
            old.rename(path)
        raise
    if replaced:
        shutil.rmtree(old, ignore_errors=True)  # hidden already; what cannot be deleted does no harm


def sha256_of(path: Path) -> str:
    """SHA-256 of one file's bytes, in lower case; OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_digest(text: str) -> str:
    """A SHA-256 in lower case; InputError for anything else."""
    digest = text.strip().lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise InputError(
            f"'{text:.80}' is no SHA-256 checksum.",
            next_step="Copy the 64 hexadecimal digits from the page that offers the file.",
        )
    return digest
