"""What a batch leaves beside its results: the record of each, and the summary of all. Loads no torch."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from SynthGANLib.errors import InputError
from SynthGANLib.files import sha256_of
from SynthGANLib.io.formats import suffix_of
from SynthGANLib.model.card import Card
from SynthGANLib.strict_json import JsonError, parse_json

MADE_BY = "synthgan batch"
"""The value of "made_by" in every JSON file of a batch: how it knows its own files again."""

SUMMARY, TABLE = "summary.json", "summary.csv"
COLUMNS = ("case", "status", "output", "seconds", "device", "warnings", "error")

_MAX_BYTES = 2**26
_DETACHED = (".mhd", ".nhdr")
# A line of a detached header that names its data, or one of the names listed below it; NRRD and MetaImage.
_DATA = re.compile(r"(?im)^(?:(?:data ?file|elementdatafile)\s*[:=]\s*)?(?P<name>[^:=#]+?)\s*$")


def record_path(output: Path) -> Path:
    """Where the record of an output lies: its name with ``.json`` behind it."""
    return output.with_name(output.name + ".json")


def read_own(path: Path) -> dict[str, Any] | None:
    """The JSON object that a batch wrote to `path`; None if there is none or it is somebody else's."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        content = parse_json(path.read_bytes(), max_nodes=_MAX_BYTES)
    except (OSError, JsonError):
        return None
    return content if isinstance(content, dict) and content.get("made_by") == MADE_BY else None


def is_output(path: Path) -> bool:
    """Whether `path` is a result that a batch has left, by the record beside it."""
    record = read_own(record_path(path))
    return record is not None and record.get("output") == path.name


def model_digest(card: Card) -> str:
    """SHA-256 over everything in a card that decides a result; texts and figures about the model do not."""
    content = card.to_json()
    names = ("id", "version", "source", "target", "method", "spatial", "normalisers", "mask")
    decides = {**{name: content[name] for name in names}, "weights": card.weights_sha256}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def sha256_of_input(path: Path, series: str | None) -> str:
    """SHA-256 of an input: of the file; of names and hashes of all files of a DICOM series or a detached header.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if path.is_dir():
            return _sha256_of_all(_series_files(path, series), path)
        if suffix_of(path) in _DETACHED:
            return _sha256_of_all([path, *_data_files(path)], path.parent)
        return sha256_of(path)
    except FileNotFoundError as error:
        raise InputError(f"There is no file or folder '{path}'.", next_step="Check the path.") from error
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be read: {error.strerror or error}.", next_step="Check the disk and permissions."
        ) from error


def _series_files(folder: Path, series: str | None) -> list[Path]:
    from SynthGANLib.io.dicom.series import list_series

    found = list_series(folder)
    # A series given by number or a part of its UID is chosen by the reader: all files are hashed then.
    chosen = [info for info in found if info.uid == series] or found
    return [path for info in chosen for path in info.files]


def _data_files(header: Path) -> list[Path]:
    """The files that the text of a detached header names, numbered ones (``slice%03d.raw``) included."""
    with header.open("rb") as file:
        text = file.read(2**20).decode("utf-8", "replace")
    found: set[Path] = set()
    for match in _DATA.finditer(text):
        name, *numbers = match["name"].split("%", 1)
        start = header.parent / name
        if numbers:
            found.update(path for path in start.parent.glob("*") if path.name.startswith(Path(name).name))
        else:
            found.add(start)
    return sorted(path for path in found - {header} if _is_file(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a line of the header that can be no name of a file
        return False


def _sha256_of_all(files: Iterable[Path], home: Path) -> str:
    whole = hashlib.sha256()
    for name, path in sorted((os.path.relpath(path, home), path) for path in files):
        whole.update(f"{Path(name).as_posix()}\0{sha256_of(path)}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def to_text(content: Mapping[str, Any]) -> str:
    """JSON text of a record or summary."""
    return json.dumps({"made_by": MADE_BY, **content}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def check_summaries(out: Path) -> None:
    """InputError if `out` holds files by the names of the summaries that are not a batch's."""
    path = out / SUMMARY
    if os.path.lexists(path) and read_own(path) is None:
        raise _taken(path)
    path = out / TABLE
    if os.path.lexists(path):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                first = file.readline(200)
        except OSError:
            first = ""
        if first.strip() != ",".join(COLUMNS):
            raise _taken(path)


def write_summaries(out: Path, content: Mapping[str, Any]) -> None:
    """Write ``summary.json`` and ``summary.csv``, each whole or not at all; `content["cases"]` holds the rows.

    Raises:
        InputError: the disk refuses; former summaries are then left as they were.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in content["cases"]:
        error = " ".join(filter(None, (row["error"]["cause"], row["error"]["next_step"]))) if row["error"] else ""
        seconds = "" if row["seconds"] is None else row["seconds"]
        cells = (row["case"], row["status"], row["output"], seconds, row["device"], " ".join(row["warnings"]), error)
        writer.writerow(cells)
    write_whole(out / TABLE, table.getvalue())
    write_whole(out / SUMMARY, to_text(content))


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text beside `path` and rename it into place; InputError if the disk refuses."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        try:
            part.write_text(text, encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"'{path}' could not be written: {error.strerror or error}.",
            next_step="Free some space or correct the permissions, and start the batch again.",
        ) from error


def _taken(path: Path) -> InputError:
    return InputError(
        f"'{path}' exists and was not made by a batch.", next_step="Move it, or choose another output folder."
    )
