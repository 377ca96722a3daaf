"""What a batch works on: the cases of a data list, or the volumes of a folder.

A data list is JSON in the form that training reads (Decathlon, MONAI), or a plain list of its entries:

    {"training": [{"subject": "p1", "source": "mr.nii.gz", "mask": "body.nii.gz"}, ...],
     "validation": [...], "test": ["imagesTs/p9.nii.gz", ...]}

An entry has "source" or "image" (a file or a DICOM folder), and may have "mask", "name" or "subject" (what the
result is called), "series" and "frame"; everything else in it is passed over. "keys" renames fields, as in
training. Paths are relative to the JSON's folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from SynthGANLib.batch.record import is_output
from SynthGANLib.data.datalist import SECTIONS, ListFile
from SynthGANLib.errors import InputError
from SynthGANLib.io.dicom import series as dicom
from SynthGANLib.io.formats import PICTURES, READABLE, suffix_of

_SOURCES = ("source", "image")
# What Windows allows in no file name, and control characters nowhere.
_FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f\x7f]')


@dataclass(frozen=True)
class BatchCase:
    """One volume to synthesize.

    Attributes:
        name: of its result below the output folder, without suffix; folders are parted by "/".
        input: file or DICOM folder; mask: label volume of the body, or None.
        series, frame, unit: as in :func:`SynthGANLib.io.volumes.read_volume`.
    """

    name: str
    input: Path
    mask: Path | None = None
    series: str | None = None
    frame: int | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Found:
    """The cases, and sentences about what was passed over."""

    cases: tuple[BatchCase, ...]
    notes: tuple[str, ...] = ()


def find_cases(
    data: str | Path, *, out: Path, colour: bool, sections: Sequence[str] = (), frame: int | None = None
) -> Found:
    """The cases of a data list (a ``.json`` file) or a folder.

    Args:
        data: the list or the folder.
        out: where results go; what lies in it is no input of a folder.
        color: whether the model takes color images; only then are the pictures of a folder inputs.
        sections: some of SECTIONS; empty means all that the list has.
        frame: for every case that names none itself.

    Raises:
        InputError: there is nothing to do, or the list is broken, in one sentence.
    """
    place = Path(data)
    if place.is_dir():
        if sections:
            raise InputError(
                f"'{place}' is a folder, and only a data list has sections.", next_step="Leave --section out."
            )
        found = _in_folder(place, out, colour)
    elif not place.exists():
        raise InputError(f"There is no file or folder '{place}'.", next_step="Check the path.")
    elif place.suffix.lower() == ".json":
        found = _in_list(place, sections)
    else:
        raise InputError(
            f"'{place}' is neither a folder nor a data list (.json).",
            next_step="Give the folder of the volumes; for one volume there is 'synthgan synthesize'.",
        )
    if not found.cases:
        raise InputError(f"'{place}' holds no volume to synthesize.", next_step="Check what lies in it.")
    if frame is None:
        return found
    return replace(found, cases=tuple(replace(c, frame=frame) if c.frame is None else c for c in found.cases))


# A folder


def _in_folder(folder: Path, out: Path, colour: bool) -> Found:
    skip = Path(os.path.realpath(out))
    if skip == Path(os.path.realpath(folder)):
        raise InputError(f"The output folder is the input folder '{folder}' itself.", next_step="Choose another.")
    cases: list[BatchCase] = []
    studies: list[Path] = []
    pictures = results = 0
    for directory, names in _walk(folder, skip):
        slices = False
        for path in (directory / name for name in names):
            suffix = suffix_of(path)
            if suffix == ".dcm" or (suffix not in READABLE and dicom.is_dicom(path)):
                slices = True
            elif suffix in PICTURES and not colour:
                pictures += 1
            elif is_output(path):
                results += 1
            elif suffix in READABLE:
                name = path.relative_to(folder).as_posix()
                cases.append(BatchCase(name[: -len(suffix)], path))
        # A series may go on in subfolders: the topmost folder with slices speaks for all below it.
        if slices and not any(directory.is_relative_to(study) for study in studies):
            studies.append(directory)
            cases += _series_cases(directory, folder)
    notes = []
    if pictures:
        notes.append(f"{_counted(pictures, 'picture')} passed over: the model takes no color images.")
    if results:
        notes.append(f"{_counted(results, 'result')} of former runs passed over.")
    return Found(tuple(sorted(cases, key=lambda case: case.name)), tuple(notes))


def _walk(folder: Path, skip: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders and the names of their files, sorted, nothing hidden; links are followed, every folder once."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"The folder '{error.filename}' cannot be read: {error.strerror}.", next_step="Check its permissions."
        ) from error

    seen = {Path(os.path.realpath(folder)), skip}
    for directory, subfolders, names in os.walk(folder, onerror=refuse, followlinks=True):
        fresh = []
        for name in sorted(subfolders):
            real = Path(os.path.realpath(os.path.join(directory, name)))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                fresh.append(name)
        subfolders[:] = fresh
        yield Path(directory), sorted(name for name in names if not name.startswith(".") and name != "DICOMDIR")


def _series_cases(study: Path, folder: Path) -> list[BatchCase]:
    """A case for every image series in `study` and below, called by its folder."""
    try:
        found = dicom.list_series(study)
    except InputError:  # a damaged file: this one case will fail and say so, the others are not kept from running
        return [BatchCase(_folder_name(study, folder), study)]
    places = [Path(os.path.commonpath([path.parent for path in series.files])) for series in found]
    cases = []
    for series, place in zip(found, places, strict=True):
        name = _folder_name(place, folder)
        if places.count(place) > 1:
            number = series.number.strip() if series.number.strip().isdigit() else "series"
            name = f"{name}/{number}-{series.uid[-12:]}"
        cases.append(BatchCase(name, place, series=series.uid))
    return cases


def _folder_name(place: Path, folder: Path) -> str:
    relative = place.relative_to(folder).as_posix()
    return Path(os.path.abspath(folder)).name or "series" if relative == "." else relative


# A data list


def _in_list(path: Path, sections: Sequence[str]) -> Found:
    file = ListFile.of(path)
    data, keys = file.data, file.keys()
    if isinstance(data, dict):
        wanted = [part for section in sections or SECTIONS for part in (section, f"{section}_source")]
        parts = {name: data[name] for name in wanted if name in data}
        missing = [section for section in sections if section not in data and f"{section}_source" not in data]
        if missing or not parts:
            raise file.refuse("", f"it has no section '{missing[0] if missing else SECTIONS[0]}'", "Check --section.")
    elif isinstance(data, list):
        if sections:
            raise file.refuse("", "it is a plain list without sections", "Leave --section out.")
        parts = {"": data}
    else:
        raise file.refuse("", "it must be a JSON object or a list of cases")
    cases: list[BatchCase] = []
    without = 0
    for section, entries in parts.items():
        if not isinstance(entries, list):
            raise file.refuse(section, "it must be a list of cases")
        for number, entry in enumerate(entries):
            case = _case(file, f"{section}[{number}]", entry, keys)
            if case is None:
                without += 1
            else:
                cases.append(case)
    notes = [f"{_counted(without, 'case')} passed over that have a target only."] if without else []
    return Found(tuple(cases), tuple(notes))


def _case(file: ListFile, where: str, entry: Any, keys: Mapping[str, str]) -> BatchCase | None:
    """The case of one entry; None for one that has only a target."""
    if isinstance(entry, str):  # how the Decathlon lists its test images
        entry = {keys.get("source", "source"): entry}
    if not isinstance(entry, dict):
        raise file.refuse(where, "a case is an object with 'source' or 'image'")
    given = [entry[name] for name in (keys.get("source", "source"), *_SOURCES) if name in entry]
    if not given:
        if keys.get("target", "target") in entry:
            return None
        raise file.refuse(where, "it has neither 'source' nor 'image'")
    source = given[0]
    if isinstance(source, list):
        if len(source) != 1:
            raise file.refuse(where, f"it has {len(source)} sources, and a batch takes one file a case")
        source = source[0]
    mask = entry.get(keys.get("mask", "mask"))
    series, frame = entry.get("series"), entry.get("frame")
    if series is not None and not isinstance(series, str):
        raise file.refuse(f"{where}.series", f"it must be text, not {series!r:.80}")
    if frame is not None and (type(frame) is not int or frame < 0):
        raise file.refuse(f"{where}.frame", f"it must be a whole number from 0, not {frame!r:.80}")
    place = file.resolve(source, f"{where}.source")
    name = entry.get("name", entry.get(keys.get("subject", "subject")))
    return BatchCase(
        name=_listed_name(file, where, name) if name is not None else _path_name(file.path, place),
        input=place,
        mask=None if mask is None else file.resolve(mask, f"{where}.mask"),
        series=series,
        frame=frame,
    )


def _path_name(path: Path, place: Path) -> str:
    """The path of the input below the list's folder, else its bare name, without suffix."""
    suffix = suffix_of(place)
    name = place.relative_to(path.parent).as_posix() if place.is_relative_to(path.parent) else place.name
    return name[: -len(suffix)] if suffix in READABLE else name


def _listed_name(file: ListFile, where: str, name: Any) -> str:
    """A name that stays below the output folder wherever it is written."""
    if not isinstance(name, str) or not name.strip():
        raise file.refuse(where, f"'name' must be text, not {name!r:.80}")
    parts = PurePosixPath(name).parts
    bad = _FORBIDDEN.search(name) or name.startswith("/") or name.endswith(("/", " ", "."))
    if bad or any(part.startswith(".") for part in parts):
        raise file.refuse(where, f"the name {name!r:.80} cannot be that of a file", "Choose a plain name.")
    return "/".join(parts)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
