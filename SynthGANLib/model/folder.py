"""A model folder as files: which may be there, how large, with which hashes. Loads no torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.errors import ModelError, ModelExistsError
from SynthGANLib.files import move_into_place
from SynthGANLib.model.card import CARD, VECTOR, WEIGHTS, Card
from SynthGANLib.model.safetensors import MAX_ELEMENTS, Stored, TensorError, check_header, read_tensors
from SynthGANLib.strict_json import JsonError, parse_json

MAX_CARD_BYTES = 2**20
MAX_WEIGHTS_BYTES = 4 * 2**30
MAX_VECTOR_BYTES = 16 * 2**20
MAX_VECTOR_ELEMENTS = 2 * 2**20
MAX_OTHER_BYTES = 16 * 2**20
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that file managers leave behind: never read, never copied, no reason to refuse a folder."""

_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1",
}  # fmt: skip

_AGAIN = "Get the model again from its author, or remove the folder."


def refuse_folder(folder: Path, reason: str, next_step: str = _AGAIN) -> ModelError:
    """The ModelError for a folder: one sentence with its path and the reason (a clause, no full stop)."""
    return ModelError(f"Model folder '{folder}' is refused: {reason}.", next_step=next_step)


def read_card(folder: Path) -> Card:
    """The card of ``folder`` after every entry was checked by name, type and size (no hashes yet).

    Raises:
        ModelError: for anything missing, unlisted, linked, oversized or of another size than the card says.
    """
    sizes = _entries(folder)
    if CARD not in sizes:
        raise refuse_folder(folder, f"it has no {CARD}", "Choose the folder that holds model.json.")
    if sizes[CARD] > MAX_CARD_BYTES:
        raise refuse_folder(folder, f"{CARD} is larger than {MAX_CARD_BYTES} bytes")
    try:
        card = Card.from_json(parse_json(_read(folder, CARD, MAX_CARD_BYTES)))
    except JsonError as problem:
        raise refuse_folder(folder, f"{CARD} cannot be used, {problem}") from None
    except ModelError as error:
        sentence = str(error).rstrip(".")
        raise refuse_folder(folder, f"{CARD}: {sentence[:1].lower()}{sentence[1:]}", error.next_step) from None
    for name in card.required_files:
        if name not in card.files:
            raise refuse_folder(folder, f"{CARD} does not list '{name}' in files")
    for name in sorted(set(sizes) - {CARD}):
        if name not in card.files:
            raise refuse_folder(folder, f"it holds '{name}', which {CARD} does not list")
    for name, spec in card.files.items():
        if name not in sizes:
            raise refuse_folder(folder, f"the file '{name}' is missing")
        if spec.bytes > _limit(name):
            raise refuse_folder(folder, f"'{name}' is larger than the {_limit(name)} bytes allowed")
        if sizes[name] != spec.bytes:
            raise refuse_folder(folder, f"'{name}' has {sizes[name]} bytes, not the {spec.bytes} of {CARD}")
    return card


def read_file(folder: Path, card: Card, name: str, *, verify: bool = True) -> bytes:
    """The bytes of a listed file, read once and compared with their SHA-256 (unless ``verify`` is False)."""
    data = _read(folder, name, card.files[name].bytes)
    if verify and hashlib.sha256(data).hexdigest() != card.files[name].sha256:
        raise refuse_folder(folder, f"'{name}' does not have the SHA-256 that {CARD} gives (damaged or changed)")
    return data


def load_tensors(folder: Path, card: Card, name: str, *, verify: bool = True) -> dict[str, Stored]:
    """The checked tensors of the weights or the vector; all values are finite."""
    most = MAX_VECTOR_ELEMENTS if name == VECTOR else MAX_ELEMENTS
    try:
        # First, so that gigabytes that cannot be what they should are neither read nor hashed.
        check_header(folder / name, max_elements=most)
        return read_tensors(read_file(folder, card, name, verify=verify), max_elements=most)
    except TensorError as problem:
        raise refuse_folder(folder, f"'{name}' {problem}") from None
    except OSError as error:
        raise refuse_folder(folder, f"'{name}' cannot be read ({error.strerror})", "Check its permissions.") from None


def arrays_of(folder: Path, name: str, stored: Mapping[str, Stored]) -> dict[str, NDArray[Any]]:
    """The tensors of a checked file as read-only arrays; nothing is copied.

    Raises:
        ModelError: a type that numpy does not have, or that is no number.
    """
    found: dict[str, NDArray[Any]] = {}
    for key, item in stored.items():
        if item.dtype not in _NUMPY:
            raise refuse_folder(
                folder, f"'{name}' stores '{key[:80]}' as {item.dtype}, which no classical method takes"
            )
        found[key] = np.frombuffer(item.data, _NUMPY[item.dtype]).reshape(item.shape)
        found[key].setflags(write=False)
    return found


def check_folder(folder: Path) -> Card:
    """The card after every file was read: entries, sizes, SHA-256, safetensors headers, finite weights.

    What is left for :meth:`SynthGANLib.model.model.Model.load` is to build the network and compare the test vector.
    """
    card = read_card(folder)
    for name in card.files:
        if name.endswith(".safetensors"):
            load_tensors(folder, card, name)
        else:
            read_file(folder, card, name)
    return card


def _limit(name: str) -> int:
    return {WEIGHTS: MAX_WEIGHTS_BYTES, VECTOR: MAX_VECTOR_BYTES}.get(name, MAX_OTHER_BYTES)


def _entries(folder: Path) -> dict[str, int]:
    """Name to size of the regular files; anything else (links, folders, devices) is refused."""
    try:
        if not folder.is_dir():
            raise refuse_folder(folder, "it is not a folder", "Choose the folder that holds model.json.")
        sizes: dict[str, int] = {}
        for entry in folder.iterdir():
            if entry.name in LITTER:
                continue
            status = entry.lstat()
            if stat.S_ISLNK(status.st_mode):
                raise refuse_folder(folder, f"'{entry.name}' is a link, and a model holds plain files only")
            if not stat.S_ISREG(status.st_mode):
                raise refuse_folder(folder, f"'{entry.name}' is not a plain file")
            sizes[entry.name] = status.st_size
            if len(sizes) > 128:
                raise refuse_folder(folder, "it holds more than 128 files")
    except OSError as error:
        raise refuse_folder(folder, f"it cannot be read ({error.strerror})", "Check its permissions.") from None
    return sizes


def _read(folder: Path, name: str, size: int) -> bytes:
    """At most ``size`` + 1 bytes: a file that grows meanwhile is noticed, not followed."""
    try:
        with (folder / name).open("rb") as file:
            data = file.read(size + 1)
    except OSError as error:
        raise refuse_folder(folder, f"'{name}' cannot be read ({error.strerror})", "Check its permissions.") from None
    if len(data) > size:
        raise refuse_folder(folder, f"'{name}' is larger than it was a moment ago")
    return data


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


def write_folder(contents: Mapping[str, bytes], path: Path, *, force: bool, check: Callable[[Path], object]) -> None:
    """Write the files of a model to a hidden sibling of ``path``, let ``check`` read it, and rename it into place.

    Raises:
        ModelError: ``path`` is taken or the disk refuses; whatever ``check`` raises. A former folder is as it was.
    """
    check_target(path, force=force)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir()
        for name, data in contents.items():
            (part / name).write_bytes(data)
        check(part)
        move_into_place(part, path)
    except OSError as error:
        raise ModelError(
            f"Model folder '{path}' cannot be written ({error.strerror}).",
            next_step="Check permissions and free space, or choose another folder.",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)  # gone already where the rename succeeded
