"""Dataclasses from JSON objects by their type hints: one reader for jobs, records and data lists.

A hint says what a field may hold: ``str``, ``bool``, ``int``, ``float``, ``None``, ``Literal``, ``tuple``, ``Mapping``,
``Any``, a dataclass, unions of these, and `Range` or `Match` in ``Annotated``. What is wrong becomes one sentence with
the field, the rule and the value.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from SynthGANLib.errors import InputError, SynthGANError

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included; None for no limit."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def words(self) -> str:
        """The limits as the end of a rule."""
        low = "" if self.low is None else f" from {self.low:g}"
        return low if self.high is None else f"{low} to {self.high:g}"


@dataclass(frozen=True)
class Match:
    """Text that a regular expression matches as a whole; `rule` says what that is."""

    pattern: str
    rule: str


Filled = Annotated[str, Match(r"(?s)[^\0]+", "text that is not empty")]
Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]


@dataclass(frozen=True)
class Origin:
    """Where an object comes from, for its error messages: "the job", "run.json"."""

    name: str
    error: type[SynthGANError] = InputError

    def wrong(self, where: str, rule: str, value: Any) -> NoReturn:
        """Raise the error for a field that must be `rule`."""
        raise self.error(
            f"The field '{where}' of {self.name} must be {rule}, not {value!r:.80}.", next_step="Correct it."
        )

    def unknown(self, where: str) -> NoReturn:
        """Raise the error for a field that the class does not have."""
        raise self.error(f"{self._begin} has the unknown field '{where:.80}'.", next_step="Remove it.")

    def missing(self, where: str) -> NoReturn:
        """Raise the error for a field without a default that is not there."""
        raise self.error(f"{self._begin} lacks the field '{where}'.", next_step="Add it.")

    @property
    def _begin(self) -> str:
        return self.name[:1].upper() + self.name[1:] if self.name.startswith("the ") else self.name


def decode(cls: type[T], content: Any, origin: Origin, *, prefix: str = "") -> T:
    """An instance of the dataclass `cls` from a parsed JSON object.

    Args:
        prefix: dotted place of the object within its file, with a dot at the end.

    Raises:
        origin.error: it is no object, a field is unknown, missing or of another type.
    """
    if not isinstance(content, Mapping):
        origin.wrong(prefix.rstrip(".") or "whole", "an object", content)
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]  # dataclasses only
    for name in content:
        if name not in fields:
            origin.unknown(f"{prefix}{name}")
    for name, item in fields.items():
        if name not in content and item.default is item.default_factory is dataclasses.MISSING:
            origin.missing(f"{prefix}{name}")
    hints = get_type_hints(cls, include_extras=True)
    return cls(**{name: convert(value, hints[name], origin, f"{prefix}{name}") for name, value in content.items()})


def check_fields(instance: Any, origin: Origin, *, prefix: str = "") -> None:
    """Check the fields of a frozen dataclass by their hints, for its ``__post_init__``; lists become tuples.

    Raises:
        origin.error: a field is of another type.
    """
    hints = get_type_hints(type(instance), include_extras=True)
    for item in dataclasses.fields(instance):
        value = convert(getattr(instance, item.name), hints[item.name], origin, f"{prefix}{item.name}")
        object.__setattr__(instance, item.name, value)


def convert(value: Any, hint: Any, origin: Origin, where: str) -> Any:
    """`value` as the type of `hint`: lists as tuples, objects as dataclasses, whole numbers as float where asked for.

    Raises:
        origin.error: it is of another type.
    """
    fits, found = _fit(value, hint, origin, where)
    if not fits:
        origin.wrong(where, rule_of(hint), value)
    return found


def _fit(value: Any, hint: Any, origin: Origin, where: str) -> tuple[bool, Any]:
    """Whether a value is of the hinted type, and it as that type; nested fields raise by their own names."""
    kind, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True, value
    if kind is Annotated:
        fits, found = _fit(value, inner[0], origin, where)
        return fits and all(_obeys(found, rule) for rule in inner[1:]), found
    if kind in (Union, types.UnionType):
        # Dataclasses last: they raise by the names of their own fields where the others only do not fit.
        tries = (_fit(value, option, origin, where) for option in sorted(inner, key=dataclasses.is_dataclass))
        return next((found for found in tries if found[0]), (False, value))
    if kind is Literal:
        return any(type(value) is type(option) and value == option for option in inner), value
    if hint is None or hint is type(None):
        return value is None, value
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number, float(value) if number else value
    if hint in (bool, int, str):
        return type(value) is hint, value
    if kind is tuple:
        return _fit_tuple(value, inner, origin, where)
    if kind is not None and issubclass(kind, Mapping):
        return _fit_mapping(value, inner, origin, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return True, value if isinstance(value, hint) else decode(hint, value, origin, prefix=f"{where}.")
    raise TypeError(f"the hint {hint} of '{where}' has no reader")


def _fit_tuple(value: Any, inner: tuple[Any, ...], origin: Origin, where: str) -> tuple[bool, Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False, value
    hints = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
    if len(hints) != len(value):
        return False, value
    found = [_fit(each, hint, origin, f"{where}[{n}]") for n, (each, hint) in enumerate(zip(value, hints, strict=True))]
    return all(fits for fits, _ in found), tuple(each for _, each in found)


def _fit_mapping(value: Any, inner: tuple[Any, ...], origin: Origin, where: str) -> tuple[bool, Any]:
    if not isinstance(value, Mapping):
        return False, value
    return True, {key: convert(each, inner[1], origin, f"{where}.{key}") for key, each in value.items()}


def _obeys(value: Any, rule: Any) -> bool:
    if isinstance(rule, Range):
        return value in rule
    return not isinstance(rule, Match) or re.fullmatch(rule.pattern, value) is not None


def rule_of(hint: Any) -> str:
    """What a value of this type must be, as the end of "it must be"."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        match = next((rule.rule for rule in inner if isinstance(rule, Match)), None)
        limits = next((rule.words() for rule in inner if isinstance(rule, Range)), "")
        return match or rule_of(inner[0]) + limits
    if kind in (Union, types.UnionType):
        return " or ".join(rule_of(option) for option in inner)
    if kind is Literal:
        return "one of " + ", ".join(str(option) for option in inner)
    if kind is tuple and inner[-1] is Ellipsis:
        return {"text": "a list of texts", "a whole number": "a list of whole numbers"}.get(rule_of(inner[0]), "a list")
    if kind is tuple:
        return f"{len(inner)} values, each {rule_of(inner[0])}"
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a number", type(None): "null"}
    return names.get(hint, "an object")
