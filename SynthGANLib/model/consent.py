"""That the user has accepted the terms of a model: asked once for each model and licence, kept beside the models."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from pathlib import Path

from SynthGANLib.errors import InputError
from SynthGANLib.model.card import Card
from SynthGANLib.model.catalogue import data_folder
from SynthGANLib.strict_json import JsonError, parse_json


def terms_of(card: Card) -> str:
    """What is accepted: intended use and licence."""
    return f"{card.intended_use}\n\n{card.licence}"


def terms_key(card: Card) -> str:
    """The model's id and a digest of its terms: new terms are asked for again, a new version with the old ones not."""
    return f"{card.id}:{hashlib.sha256(terms_of(card).encode('utf-8')).hexdigest()[:16]}"


def accepted_on(card: Card, folder: Path | None = None) -> str:
    """The date (ISO 8601, UTC) on which the terms were accepted here, "" if they were not."""
    return _read(_file(folder)).get(terms_key(card), "")


def accept(card: Card, folder: Path | None = None) -> str:
    """Record that the user accepts the terms of a model now; returns the date.

    Raises:
        InputError: the record cannot be written.
    """
    path = _file(folder)
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({**_read(path), terms_key(card): date}, indent=1), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"That the terms were accepted cannot be recorded in '{path}' ({error.strerror}).",
            next_step="Check permissions and free space.",
        ) from error
    return date


def _file(folder: Path | None) -> Path:
    return (folder.parent if folder else data_folder()) / "accepted_terms.json"


def _read(path: Path) -> dict[str, str]:
    """What was accepted; a file that is absent or damaged holds nothing, so that the terms are asked for again."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, JsonError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)}
