"""The card of a model (``model.json``): what it turns into what, on which grid, how it was made and measured.

Plain frozen dataclasses that check themselves on construction, so a card built in Python and a card read
from a file obey the same rules; every message names the field by its dotted path (``spatial.tile_max``).
The format is described in ``Docs/model_format.md``.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from SynthGANLib.errors import ModelError
from SynthGANLib.model.card_checks import (
    check_choice,
    check_file_name,
    check_flag,
    check_line,
    check_pattern,
    check_plain_mapping,
    check_text,
    check_whole,
    refuse,
)
from SynthGANLib.model.card_specs import (
    CARD,
    README,
    SHA256,
    VECTOR,
    WEIGHTS,
    FileSpec,
    MethodSpec,
    SourceSpec,
    SpatialSpec,
    TargetSpec,
    VectorSpec,
)
from SynthGANLib.strict_json import JsonError, parse_json

__all__ = [
    "CARD",
    "FORMAT_VERSION",
    "METHODS_WITH_TENSORS",
    "README",
    "VECTOR",
    "WEIGHTS",
    "Card",
    "FileSpec",
    "MethodSpec",
    "SourceSpec",
    "SpatialSpec",
    "TargetSpec",
    "VectorSpec",
]

FORMAT_VERSION = 1
METHODS_WITH_TENSORS = frozenset({"atlas"})
"""Classical methods whose model folder holds data for them in `weights.safetensors`."""

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}[a-z0-9]")
_VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})(-[0-9A-Za-z.-]{1,32})?")


@dataclass(frozen=True)
class Card:
    """Everything ``model.json`` says. ``files`` is filled in when the model is saved.

    Raises:
        ModelError: on construction, naming the field that is wrong.
    """

    id: str
    version: str
    title: str
    description: str
    anatomy: str
    source: SourceSpec
    target: TargetSpec
    method: MethodSpec
    spatial: SpatialSpec
    licence: str
    intended_use: str
    normalisers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mask: str = "body"
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    citation: str = ""
    research_only: bool = True
    vector: VectorSpec | None = None
    files: Mapping[str, FileSpec] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _check_version(self.format_version)
        check_pattern(self.id, _ID, "id", "2 to 64 lower-case letters, digits and hyphens")
        check_pattern(self.version, _VERSION, "version", "three numbers such as 1.0.0")
        check_line(self.title, "title", 200, empty=False)
        check_line(self.anatomy, "anatomy", 64, empty=False)
        for name, limit in _TEXTS.items():
            check_text(getattr(self, name), name, limit, empty=name == "citation")
        for name, kind in _PARTS.items():
            if not isinstance(getattr(self, name), kind):
                refuse(name, f"a {kind.__name__}", getattr(self, name))
        check_choice(self.mask, ("body", "none"), "mask")
        check_flag(self.research_only, "research_only")
        check_plain_mapping(self, "training", "training")
        check_plain_mapping(self, "metrics", "metrics")
        if self.metrics and not isinstance(self.metrics.get("protocol"), str):
            refuse(
                "metrics.protocol",
                "text that says how the numbers were measured",
                self.metrics.get("protocol"),
            )
        self._check_kind()
        self._check_files()

    def _check_kind(self) -> None:
        """A network has normalisers on both sides and a test vector; a classical method has neither."""
        check_plain_mapping(self, "normalisers", "normalisers")
        network = self.method.kind == "network"
        wanted = {"source", "target"} if network else set()
        if set(self.normalisers) != wanted:
            rule = "an object with exactly 'source' and 'target'" if network else "empty for a classical method"
            refuse("normalisers", rule, sorted(self.normalisers))
        for side in sorted(wanted):
            content = self.normalisers[side]
            if not isinstance(content, Mapping) or not isinstance(content.get("kind"), str):
                refuse(f"normalisers.{side}.kind", "the name of a normaliser", content)
        if network and not isinstance(self.vector, VectorSpec):
            refuse("vector", "an object with 'tolerance' (a network has a test vector)", self.vector)
        if not network and self.vector is not None:
            refuse("vector", "null for a classical method", self.vector)

    def _check_files(self) -> None:
        if not isinstance(self.files, Mapping) or len(self.files) > 64:
            refuse("files", "an object of at most 64 files", self.files)
        seen: set[str] = set()
        for name, spec in self.files.items():
            check_file_name(name, "files")
            if name.lower() in seen:
                refuse("files", "free of names that differ only in case", name)
            seen.add(name.lower())
            if not isinstance(spec, FileSpec):
                refuse(f"files['{name}']", "an object with 'sha256' and 'bytes'", spec)
        if self.method.kind == "classical":
            useless = {VECTOR} if self.has_tensors else {WEIGHTS, VECTOR}
            if useless & set(self.files):
                names = "vector" if self.has_tensors else "weights and vector"
                refuse("files", f"without {names} for the classical method '{self.method.name}'", sorted(self.files))

    @property
    def required_files(self) -> tuple[str, ...]:
        """Names of the files the folder must hold beside ``model.json``."""
        if self.method.kind == "network":
            return WEIGHTS, VECTOR, README
        return (WEIGHTS, README) if self.has_tensors else (README,)

    @property
    def has_tensors(self) -> bool:
        """Whether this is a classical method that works with tensors of its folder."""
        return self.method.kind == "classical" and self.method.name in METHODS_WITH_TENSORS

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the stored weights; "" for a method without any or a model not saved yet."""
        spec = self.files.get(WEIGHTS)
        return spec.sha256 if spec else ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON objects, in the order of the fields, ``format_version`` first."""
        content = dataclasses.asdict(self)
        plain: dict[str, Any] = json.loads(json.dumps({"format_version": content.pop("format_version"), **content}))
        return plain

    def dumps(self) -> str:
        """The text of ``model.json``."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: Any) -> Card:
        """The card from parsed JSON; unknown, missing and wrong fields are refused by name (ModelError)."""
        if isinstance(content, Mapping):  # told first: a newer format may well have other fields
            _check_version(content.get("format_version"))
        fields = _fields_of(cls, content, "")
        for name, kind in _PARTS.items():
            fields[name] = kind(**_fields_of(kind, fields[name], name))
        if fields.get("vector") is not None:
            fields["vector"] = VectorSpec(**_fields_of(VectorSpec, fields["vector"], "vector"))
        files = fields.get("files", {})
        if not isinstance(files, Mapping):
            refuse("files", "an object", files)
        for name in files:
            check_file_name(name, "files")
        fields["files"] = {name: _file_spec(name, value) for name, value in files.items()}
        return cls(**fields)

    @classmethod
    def loads(cls, text: str | bytes) -> Card:
        """The card from the text of ``model.json``; ModelError on anything but strict JSON of this format."""
        try:
            content = parse_json(text)
        except JsonError as problem:
            raise ModelError(f"model.json cannot be used: {problem}.", next_step="Get the model again.") from None
        return cls.from_json(content)


_TEXTS = {"description": 4000, "licence": 4000, "intended_use": 4000, "citation": 4000}
_PARTS: dict[str, type] = {
    "source": SourceSpec, "target": TargetSpec, "method": MethodSpec, "spatial": SpatialSpec,
}  # fmt: skip


def _check_version(version: Any) -> None:
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ModelError(
            f"Field 'format_version' must be {FORMAT_VERSION}, the only one this release reads, not {version!r:.80}.",
            next_step="Update SynthGAN, or get the model in this format.",
        )


def _fields_of(cls: type, content: Any, where: str) -> dict[str, Any]:
    """The arguments of dataclass ``cls`` in ``content``: no unknown field, none missing, lists as tuples."""
    if not isinstance(content, Mapping):
        refuse(where or "model.json", "a JSON object", content)
    fields = {item.name: item for item in dataclasses.fields(cls)}
    prefix = f"{where}." if where else ""
    for name in content:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"; did the author mean '{prefix}{near[0]}'?" if near else "."
            raise ModelError(
                f"Field '{prefix}{name}' is not known in format version {FORMAT_VERSION}{hint}",
                next_step="Remove the field from model.json or update SynthGAN.",
            )
    for name, item in fields.items():
        default = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
        if name not in content and not default:
            raise ModelError(
                f"Field '{prefix}{name}' is missing.",
                next_step="Add the field to model.json or get the model again.",
            )
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _file_spec(name: str, content: Any) -> FileSpec:
    where = f"files['{name}']"
    fields = _fields_of(FileSpec, content, where)
    check_pattern(fields["sha256"], SHA256, f"{where}.sha256", "64 lower-case hexadecimal digits")
    check_whole(fields["bytes"], f"{where}.bytes", 0, 2**40)
    return FileSpec(**fields)
