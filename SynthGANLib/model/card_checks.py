"""Checks of single values of a model card; each refusal names the field by its dotted path."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from SynthGANLib.errors import ModelError
from SynthGANLib.strict_json import JsonError, check_plain

FILE_TYPES = (".safetensors", ".md", ".txt", ".csv", ".png", ".jpg")
MAX_ARGUMENT = 4096
"""Largest whole number among the arguments of a network: no layer is wider, no network deeper than that."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ARGUMENT_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def refuse(where: str, rule: str, value: Any) -> NoReturn:
    """Raise the ModelError for a field that must be ``rule``."""
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    raise ModelError(
        f"Field '{where}' must be {rule}, not {shown}.",
        next_step="Correct model.json or get the model again.",
    )


def check_line(value: Any, where: str, limit: int, *, empty: bool = True) -> None:
    """Text of at most ``limit`` characters on one line."""
    check_text(value, where, limit, empty=empty)
    if len(value.splitlines()) > 1:
        refuse(where, "text on one line", value)


def check_text(value: Any, where: str, limit: int, *, empty: bool = True) -> None:
    """Text of at most ``limit`` characters."""
    if not isinstance(value, str):
        refuse(where, "text", value)
    if len(value) > limit:
        refuse(where, f"text of at most {limit} characters", value)
    if not empty and not value.strip():
        refuse(where, "text that is not empty", value)
    _check_plain(value, where)


def check_texts(owner: Any, name: str, where: str, limit: int) -> None:
    """A sequence of short texts; kept as a tuple."""
    values = getattr(owner, name)
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) > 64:
        refuse(where, "a list of texts", values)
    for index, value in enumerate(values):
        check_line(value, f"{where}[{index}]", limit, empty=False)
    object.__setattr__(owner, name, tuple(values))


def check_pattern(value: Any, pattern: re.Pattern[str], where: str, rule: str) -> None:
    """Text that matches ``pattern`` as a whole."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        refuse(where, rule, value)


def check_choice(value: Any, choices: Sequence[str], where: str) -> None:
    """One of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        refuse(where, "one of " + ", ".join(repr(choice) for choice in choices), value)


def check_flag(value: Any, where: str) -> None:
    """True or False, nothing that merely looks so."""
    if not isinstance(value, bool):
        refuse(where, "true or false", value)


def check_whole(value: Any, where: str, low: int, high: int) -> None:
    """A whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        refuse(where, f"a whole number from {low} to {high}", value)


def check_wholes(owner: Any, name: str, where: str, count: int, rule: str, low: int, high: int) -> None:
    """``count`` whole numbers; kept as a tuple."""
    values = getattr(owner, name)
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count:
        refuse(where, rule, values)
    for index, value in enumerate(values):
        check_whole(value, f"{where}[{index}]", low, high)
    object.__setattr__(owner, name, tuple(values))


def number(owner: Any, name: str, where: str, low: float, high: float) -> None:
    """A finite number from ``low`` to ``high``; kept as a float."""
    object.__setattr__(owner, name, _as_number(getattr(owner, name), where, low, high))


def check_numbers(
    owner: Any, name: str, where: str, count: int, rule: str, bounds: tuple[float, float] | None = None
) -> None:
    """``count`` finite numbers, kept as a tuple of floats; with ``bounds``, within these or None."""
    values = getattr(owner, name)
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count:
        refuse(where, rule, values)
    low, high = bounds or (-1e9, 1e9)
    numbers = tuple(
        None if value is None and bounds else _as_number(value, f"{where}[{index}]", low, high)
        for index, value in enumerate(values)
    )
    object.__setattr__(owner, name, numbers)


def _as_number(value: Any, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        refuse(where, f"a number from {low:g} to {high:g}", value)
    if not math.isfinite(value):
        refuse(where, "a finite number", value)
    return float(value)


def check_plain_mapping(owner: Any, name: str, where: str) -> None:
    """An object of plain, finite, bounded JSON values; kept as a copy, with lists as JSON has them."""
    value = getattr(owner, name)
    if not isinstance(value, Mapping):
        refuse(where, "an object", value)
    _check_plain(value, where)
    object.__setattr__(owner, name, _plain_copy(value))


def check_arguments(owner: Any, name: str, where: str) -> None:
    """At most 64 keyword arguments: scalars, lists or objects (eight levels) of at most 64; no huge numbers."""
    arguments = getattr(owner, name)
    if not isinstance(arguments, Mapping) or len(arguments) > 64:
        refuse(where, "an object of at most 64 arguments", arguments)
    for key, value in arguments.items():
        check_pattern(key, _ARGUMENT_NAME, where, "an object whose keys are lower-case Python names")
        _check_argument(value, f"{where}.{key}", depth=8)
    object.__setattr__(owner, name, _plain_copy(arguments))


def _plain_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_copy(item) for item in value]
    return value


def _check_argument(value: Any, where: str, depth: int) -> None:
    if isinstance(value, (list, tuple)) and depth:
        if len(value) > 64:
            refuse(where, "a list of at most 64 values", value)
        for index, item in enumerate(value):
            _check_argument(item, f"{where}[{index}]", depth - 1)
    elif isinstance(value, Mapping) and depth:
        if len(value) > 64:
            refuse(where, "an object of at most 64 values", value)
        for key, item in value.items():
            check_pattern(key, _ARGUMENT_NAME, where, "an object whose keys are lower-case Python names")
            _check_argument(item, f"{where}.{key}", depth - 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        limit = MAX_ARGUMENT if isinstance(value, int) else 1e9
        if not abs(value) <= limit:
            refuse(where, f"a number from -{limit:g} to {limit:g}", value)
    elif isinstance(value, str):
        check_text(value, where, 200)
    elif value is not None and not isinstance(value, bool):
        refuse(where, "a number, text, true, false, null, or a list or object of these", value)


def check_file_name(name: Any, where: str) -> None:
    """A plain name inside the folder: no path, no hidden file, no device name, one of the known types."""
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or _WINDOWS_DEVICES.fullmatch(name):
        refuse(where, "made of plain file names without folders (letters, digits, '.', '_', '-')", name)
    if not name.endswith(FILE_TYPES):
        refuse(where, "made of files of the types " + ", ".join(FILE_TYPES), name)


def _check_plain(value: Any, where: str) -> None:
    try:
        check_plain(value, where)
    except JsonError as problem:
        raise ModelError(f"Field {problem}.", next_step="Correct model.json or get the model again.") from None
