"""The data list of a training: which files belong to which subject, in the JSON form of MONAI and the Decathlon.

    {"name": "...", "description": "...", "kind": "paired" | "unpaired" | "mixed" | "unconditional",
     "source": {"modality": "MR", "unit": "1", "channels": 1, "sequence": "T1"}, "target": {...},
     "training": [{"subject": "p1", "source": "mr.nii.gz", "target": "ct.nii.gz", "mask": "body.nii.gz"}, ...],
     "validation": [...]}

A case may have "mask", "weight", "regions" (a label map), "label" (a class number) and, instead of one source path,
a list of paths that become channels; for label maps a null in it is a landmark that is missing. Unpaired lists have
cases with one side only, or the sections "training_source", "training_target" and the same for "validation". Instead
of "validation" there may be "validation_fraction" with "seed": the split is then by subject. Paths are relative to
the JSON's folder. "keys" renames fields: {"source": "image", "target": "label"} reads the Decathlon's entries.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import UNITS
from SynthGANLib.io.formats import suffix_of
from SynthGANLib.strict_json import JsonError, parse_json

Kind = Literal["paired", "unpaired", "mixed", "unconditional"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SERVES: Mapping[Kind, tuple[Kind, ...]] = {
    "paired": ("paired",),
    "unpaired": ("unpaired", "paired", "mixed"),
    "mixed": ("mixed", "paired"),
    "unconditional": KINDS,
}
"""What a recipe needs -> the kinds of list that can give it: pairs can be drawn apart, but not the other way."""

_SIDES = ("source", "target")
_SECTIONS = tuple(part + side for part in ("training", "validation") for side in ("", "_source", "_target"))
_TOP = ("name", "description", "kind", *_SIDES, "keys", "validation_fraction", "seed", *_SECTIONS)
# Further fields of a Decathlon's dataset.json; they are ignored where "keys" says that the list is one.
_DECATHLON: tuple[str, ...] = ("reference", "licence", "license", "release", "relase", "tensorImageSize", "modality")
_DECATHLON += ("labels", "numTraining", "numTest", "test")
_FILES = ("mask", "weight", "regions")
_CASE = ("subject", *_SIDES, *_FILES, "label")
_MODALITY = re.compile(r"[A-Z][A-Z0-9]{1,15}")
SECTIONS = ("training", "validation", "test")
"""What a list may hold cases for; a training reads the first two, a batch any."""
_MAX_NODES = 2_000_000


@dataclass(frozen=True)
class Side:
    """What the images of one side are: modality code, unit (one of `volume.UNITS`), channels, pulse sequence."""

    modality: str
    unit: str
    channels: int = 1
    sequence: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for ``json.dumps``."""
        return dict(vars(self))


@dataclass(frozen=True)
class Case:
    """The files of one image or pair; absolute paths, empty tuples and None for what there is not.

    A None in `source` or `target` stands for a missing landmark: a channel of zeros.
    """

    subject: str
    source: tuple[Path | None, ...] = ()
    target: tuple[Path | None, ...] = ()
    mask: Path | None = None
    weight: Path | None = None
    regions: Path | None = None
    label: int | None = None

    @property
    def name(self) -> str:
        """Subject and first file, what messages call the case."""
        first = next(path for path in (*self.source, *self.target) if path is not None)
        return f"{self.subject}: {first.name}"

    @property
    def paired(self) -> bool:
        """True with both sides."""
        return bool(self.source and self.target)

    def files(self) -> Iterator[Path]:
        """Every path of the case."""
        every = (*self.source, *self.target, self.mask, self.weight, self.regions)
        yield from (path for path in every if path is not None)


@dataclass(frozen=True)
class DataList:
    """A checked data list; `source` is None in an unconditional one. `sha256` is that of the JSON file."""

    name: str
    description: str
    kind: Kind
    source: Side | None
    target: Side
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    path: Path
    sha256: str
    split: Mapping[str, float] = field(default_factory=dict)

    def side(self, name: str) -> Side:
        """The description of "source" or "target"; InputError where the list has no such side."""
        found = self.source if name == "source" else self.target
        if found is None:
            raise InputError(f"The data list '{self.name}' has no {name} images.", next_step="Choose another list.")
        return found

    def require(self, recipe: str, needs: Kind) -> None:
        """InputError unless a recipe that needs data of the kind `needs` can be trained on this list."""
        if self.kind not in SERVES[needs]:
            raise InputError(
                f"The data list '{self.name}' is {self.kind}, and '{recipe}' needs {needs} data.",
                next_step=f"Give a list of the kind {' or '.join(SERVES[needs])}, or choose another recipe.",
            )


def read_datalist(path: str | Path, *, readable: Sequence[Path] = ()) -> DataList:
    """Read and check a data list; every file it names exists afterwards.

    Args:
        path: the JSON file.
        readable: folders outside the JSON's own that its paths may lead into.

    Raises:
        InputError: the JSON is missing, broken or says something it may not, with one sentence for what and where.
    """
    file = ListFile.of(path)
    folders = (file.path.parent, *(Path(os.path.abspath(folder)) for folder in readable))
    return _Reader(file, folders).read()


@dataclass(frozen=True)
class ListFile:
    """A data list as parsed JSON, with its absolute path and the SHA-256 of its bytes, for training and for batches."""

    path: Path
    data: Any
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> ListFile:
        """Read and parse; InputError if it is missing or broken."""
        place = Path(os.path.abspath(path))
        try:
            text = place.read_bytes()
        except OSError as error:
            raise InputError(
                f"The data list '{path}' cannot be read: {error.strerror or error}.", next_step="Check the path."
            ) from error
        try:
            data = parse_json(text, max_nodes=_MAX_NODES)
        except JsonError as error:
            raise InputError(
                f"The data list '{place.name}' is refused: {error}.", next_step="Repair the file."
            ) from error
        return cls(place, data, hashlib.sha256(text).hexdigest())

    def refuse(self, where: str, what: str, next_step: str = "Correct the data list.") -> InputError:
        """The error for what is wrong at `where`, a clause without a full stop."""
        place = f", {where}" if where else ""
        return InputError(f"The data list '{self.path.name}'{place}: {what}.", next_step=next_step)

    def keys(self) -> dict[str, str]:
        """Names of our fields -> names of the entries' fields, as "keys" says."""
        keys = self.data.get("keys", {}) if isinstance(self.data, dict) else {}
        if not isinstance(keys, dict) or not all(isinstance(value, str) for value in keys.values()):
            raise self.refuse("keys", f"it maps some of {', '.join(_CASE)} to field names of the cases")
        return keys

    def resolve(self, value: Any, where: str) -> Path:
        """The path that an entry names, relative to the list; lexical, so a link in the folder may lead elsewhere."""
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(where, f"a path is text, not {value!r:.80}")
        return Path(os.path.normpath(self.path.parent / value))


@dataclass(frozen=True)
class _Reader:
    """Turns the JSON into a DataList."""

    file: ListFile
    folders: tuple[Path, ...]

    @property
    def refuse(self) -> Callable[..., InputError]:
        return self.file.refuse

    def read(self) -> DataList:
        data = self.file.data
        if not isinstance(data, dict):
            raise self.refuse("", "it must be a JSON object")
        keys = self.keys()
        self.known(data, (*_TOP, *(_DECATHLON if keys else ())), "")
        kind = data.get("kind")
        if kind not in KINDS:
            raise self.refuse("kind", f"it must be one of {', '.join(KINDS)}, not {kind!r}")
        sides = {name: self.side(data, name) for name in _SIDES if name in data}
        if "target" not in sides:
            raise self.refuse("", "'target' is missing, which says modality and unit of the target images")
        if (kind == "unconditional") == ("source" in sides):
            raise self.refuse("source", f"a list of the kind {kind} {'has none' if 'source' in sides else 'needs it'}")
        training = self.section(data, "training", kind, sides, keys)
        validation = self.section(data, "validation", kind, sides, keys)
        if not training:
            raise self.refuse("training", "there are no cases", "List at least one case to train on.")
        split: dict[str, float] = {}
        if "validation_fraction" in data:
            split = {"validation_fraction": self.fraction(data), "seed": self.whole(data, "seed", 0)}
            training, validation = self.divide(training, split)
        elif "seed" in data:
            raise self.refuse("seed", "it has no meaning without 'validation_fraction'")
        self.check_cases(kind, training, validation)
        return DataList(
            name=self.line(data, "name") or self.file.path.stem,
            description=self.line(data, "description"),
            kind=kind,
            source=sides.get("source"),
            target=sides["target"],
            training=training,
            validation=validation,
            path=self.file.path,
            sha256=self.file.sha256,
            split=split,
        )

    def keys(self) -> dict[str, str]:
        """The other list's field name -> ours."""
        keys = self.file.keys()
        if not set(keys) <= set(_CASE):
            raise self.refuse("keys", f"it maps some of {', '.join(_CASE)} to field names of the cases")
        if len(set(keys.values())) < len(keys):
            raise self.refuse("keys", "two fields have the same name")
        return {theirs: ours for ours, theirs in keys.items()}

    def known(self, data: Mapping[str, Any], names: Sequence[str], where: str) -> None:
        for name in data:
            if name not in names:
                raise self.refuse(where, f"there is no field '{name}'", f"Use only {', '.join(names)}.")

    def side(self, data: Mapping[str, Any], name: str) -> Side:
        side = data[name]
        if not isinstance(side, dict):
            raise self.refuse(name, "it must be an object with modality and unit")
        self.known(side, ("modality", "unit", "channels", "sequence"), name)
        modality, unit = side.get("modality"), side.get("unit")
        if not isinstance(modality, str) or not _MODALITY.fullmatch(modality):
            raise self.refuse(f"{name}.modality", f"it is a code in capitals such as MR, CT or PT, not {modality!r}")
        if unit not in UNITS:
            raise self.refuse(f"{name}.unit", f"it must be one of {', '.join(UNITS)}, not {unit!r}")
        channels = self.whole(side, "channels", 3 if unit == "RGB" else 1)
        if not 1 <= channels <= 64 or (unit == "RGB" and channels != 3):
            raise self.refuse(f"{name}.channels", f"{channels} is not possible in the unit {unit}")
        return Side(modality, unit, channels, self.line(side, "sequence"))

    def line(self, data: Mapping[str, Any], name: str) -> str:
        value = data.get(name, "")
        if not isinstance(value, str):
            raise self.refuse(name, f"it must be text, not {value!r}")
        return value

    def whole(self, data: Mapping[str, Any], name: str, default: int) -> int:
        value = data.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.refuse(name, f"it must be a whole number that is not negative, not {value!r}")
        return value

    def fraction(self, data: Mapping[str, Any]) -> float:
        value = data["validation_fraction"]
        if any(name in data for name in ("validation", "validation_source", "validation_target")):
            raise self.refuse("validation_fraction", "there is a validation section already")
        if not isinstance(value, float) or not 0 < value < 1:
            raise self.refuse("validation_fraction", f"it must lie between 0 and 1, not {value!r}")
        return value

    def section(
        self, data: Mapping[str, Any], name: str, kind: Kind, sides: Mapping[str, Side], keys: Mapping[str, str]
    ) -> tuple[Case, ...]:
        """The cases of "training" or "validation", those of its one-sided sections included."""
        cases: list[Case] = []
        for part, allowed in ((name, _SIDES), (f"{name}_source", _SIDES[:1]), (f"{name}_target", _SIDES[1:])):
            entries = data.get(part, [])
            if not isinstance(entries, list):
                raise self.refuse(part, "it must be a list of cases")
            if part in data and part != name and kind not in ("unpaired", "mixed"):
                raise self.refuse(part, f"a list of the kind {kind} has no one-sided cases")
            for number, entry in enumerate(entries):
                where = f"{part}[{number}]"
                case = self.case(entry, where, sides, keys)
                if any(getattr(case, side) and side not in allowed for side in _SIDES):
                    raise self.refuse(where, f"only a {allowed[0]} belongs here")
                if kind == "paired" and not case.paired:
                    raise self.refuse(
                        where, f"it has no {'target' if case.source else 'source'}, and the list is paired"
                    )
                cases.append(case)
        return tuple(cases)

    def case(self, entry: Any, where: str, sides: Mapping[str, Side], keys: Mapping[str, str]) -> Case:
        if not isinstance(entry, dict):
            raise self.refuse(where, "a case is an object with subject, source and target")
        renamed = {keys.get(name, name): value for name, value in entry.items()}
        self.known(renamed, _CASE, where)
        images = {side: self.images(renamed, side, where, sides) for side in _SIDES if side in renamed}
        if not images:
            raise self.refuse(where, "the case has no image")
        files = {name: self.existing(renamed[name], f"{where}.{name}") for name in _FILES if name in renamed}
        label = self.whole(renamed, "label", 0) if "label" in renamed else None
        subject = renamed.get("subject")
        if subject is None and keys and "subject" not in keys.values():
            # Decathlon entries name no subject: every one is its own, called by its first file.
            first = next(path for paths in images.values() for path in paths if path is not None)
            subject = first.name.removesuffix(suffix_of(first))
        if not isinstance(subject, str) or not subject.strip():
            raise self.refuse(where, "'subject' is missing, which keeps one person's images on one side of the split")
        return Case(
            subject=subject,
            source=images.get("source", ()),
            target=images.get("target", ()),
            mask=files.get("mask"),
            weight=files.get("weight"),
            regions=files.get("regions"),
            label=label,
        )

    def images(
        self, entry: Mapping[str, Any], name: str, where: str, sides: Mapping[str, Side]
    ) -> tuple[Path | None, ...]:
        if name not in sides:
            raise self.refuse(where, f"an unconditional list has no {name}")
        side, value = sides[name], entry[name]
        values = value if isinstance(value, list) else [value]
        wanted = 1 if side.unit == "RGB" else side.channels
        if len(values) != wanted:
            raise self.refuse(
                f"{where}.{name}", f"{len(values)} files were given, and the list says {side.channels} channels"
            )
        if all(item is None for item in values) or (None in values and side.unit != "label"):
            raise self.refuse(f"{where}.{name}", "a path is missing")
        return tuple(None if item is None else self.existing(item, f"{where}.{name}") for item in values)

    def existing(self, value: Any, where: str) -> Path:
        path = self.file.resolve(value, where)
        if not any(path.is_relative_to(folder) for folder in self.folders):
            raise self.refuse(
                where,
                f"'{value}' lies outside the folders that may be read",
                "Move the data list to its data, or allow the folder explicitly.",
            )
        if not path.exists():
            raise self.refuse(where, f"there is no file or folder '{value}'", "Check the path.")
        return path

    def divide(self, cases: tuple[Case, ...], split: Mapping[str, float]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """Whole subjects to validation; which ones depends on their names and the seed only."""
        subjects = sorted({case.subject for case in cases})
        if len(subjects) < 2:
            raise self.refuse("validation_fraction", "a single subject cannot be split")
        count = min(len(subjects) - 1, max(1, round(split["validation_fraction"] * len(subjects))))
        order = np.random.default_rng(int(split["seed"])).permutation(len(subjects))
        held = {subjects[index] for index in order[:count]}
        return tuple(c for c in cases if c.subject not in held), tuple(c for c in cases if c.subject in held)

    def check_cases(self, kind: Kind, training: tuple[Case, ...], validation: tuple[Case, ...]) -> None:
        seen: set[tuple[Any, ...]] = set()
        for case in (*training, *validation):
            if (case.source, case.target) in seen:
                raise self.refuse("", f"the case '{case.name}' is listed twice", "Remove one of the two.")
            seen.add((case.source, case.target))
        shared = sorted({case.subject for case in training} & {case.subject for case in validation})
        if shared:
            names = ", ".join(f"'{name}'" for name in shared[:3]) + (" and others" if len(shared) > 3 else "")
            raise self.refuse("", f"{names} would be both trained on and validated on", "Keep a subject on one side.")
        for side in _SIDES if kind != "unconditional" else _SIDES[1:]:
            if not any(getattr(case, side) for case in training):
                raise self.refuse("training", f"no case has a {side}")
        if kind == "mixed" and not any(case.paired for case in training):
            raise self.refuse("training", "a mixed list needs at least one pair", "Call it unpaired, or add a pair.")
        labelled = sum(case.label is not None for case in training)
        if labelled not in (0, len(training)):
            raise self.refuse("training", f"only {labelled} of {len(training)} cases have a label")
