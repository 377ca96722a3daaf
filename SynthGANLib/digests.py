"""SHA-256 of files, and the checksums that people type."""

from __future__ import annotations

import hashlib
from pathlib import Path

from SynthGANLib.errors import InputError


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
