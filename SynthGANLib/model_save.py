"""Writing a model folder: into a hidden sibling first, checked there, renamed into place last."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import save as tensors_to_bytes

from SynthGANLib.card import CARD, README, VECTOR, WEIGHTS, Card, FileSpec
from SynthGANLib.card_checks import check_file_name
from SynthGANLib.card_text import card_text
from SynthGANLib.errors import ModelError
from SynthGANLib.folders import check_target, move_into_place

if TYPE_CHECKING:
    from SynthGANLib.model import Model


def save_folder(model: Model, path: Path, *, force: bool, attachments: dict[str, Path]) -> Card:
    """Write ``model`` to ``path`` and return its card with the files listed; see ``Model.save``."""
    from SynthGANLib.model import Model as ModelClass

    check_target(path, force=force)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir()
        card = _write(model, part, attachments)
        ModelClass.load(part)
        move_into_place(part, path)
    except OSError as error:
        raise ModelError(
            f"Model folder '{path}' cannot be written ({error.strerror}).",
            next_step="Check permissions and free space, or choose another folder.",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)  # gone already where the rename succeeded
    return card


def _write(model: Model, part: Path, attachments: dict[str, Path]) -> Card:
    contents = dict.fromkeys(_kept(model), b"")
    for name, source in {
        **{name: model.path / name for name in contents if model.path},
        **attachments,
    }.items():
        check_file_name(name, "attachments")
        if name.lower() in {CARD.lower(), README.lower(), WEIGHTS, VECTOR}:
            raise ModelError(f"The attachment '{name}' has the name of a file of the format.", next_step="Rename it.")
        contents[name] = source.read_bytes()
    if model.network is not None and model.vector is not None:
        contents[WEIGHTS] = tensors_to_bytes(model.stored_weights())
        contents[VECTOR] = tensors_to_bytes({"input": model.vector[0], "output": model.vector[1]})
    if model.tensors:
        contents[WEIGHTS] = arrays_to_bytes(dict(model.tensors))
    pictures = sorted(name for name in contents if name.endswith((".png", ".jpg")))
    weights = len(contents.get(WEIGHTS, b""))
    contents[README] = card_text(model.card, pictures=pictures, weights=weights).encode()
    files = {name: FileSpec(hashlib.sha256(data).hexdigest(), len(data)) for name, data in sorted(contents.items())}
    card = dataclasses.replace(model.card, files=files)
    for name, data in {**contents, CARD: card.dumps().encode()}.items():
        (part / name).write_bytes(data)
    return card


def _kept(model: Model) -> list[str]:
    """Attachments of the folder the model came from; they are saved along."""
    if model.path is None:
        return []
    return [name for name in model.card.files if name not in (WEIGHTS, VECTOR, README)]
