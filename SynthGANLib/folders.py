"""Putting a finished folder in its place: nothing replaced unasked, whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from SynthGANLib.card import CARD
from SynthGANLib.errors import ModelError, ModelExistsError


def check_target(path: Path, *, force: bool) -> None:
    """Raise ModelError unless ``path`` is free, or is a model folder that ``force`` allows to replace."""
    if not os.path.lexists(path):
        if not path.parent.is_dir():
            raise ModelError(
                f"The folder '{path.parent}' for the model does not exist.",
                next_step="Create it or choose another.",
            )
        return
    if not force:
        raise ModelExistsError(f"'{path}' exists already.", next_step="Choose another name, or replace it with force.")
    if path.is_symlink() or not (path / CARD).is_file():
        raise ModelError(
            f"'{path}' is not a model folder and is not replaced.",
            next_step="Choose another name for the model.",
        )


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
