"""Settings by dotted names: `--set steps=500 config.l1=50 networks.generator.arguments.base=32 spatial.axis=coronal`.

`apply` takes texts, as the command line gives them; `replace_values` takes values, as a recipe's tiny size does.

Read from the dataclasses themselves by introspection. A parser library (jsonargparse) would need each recipe's whole
tree of types up front, with the regime's config, which is of another class in every recipe, as a subclass of a common
one, and would build what is built already; here the values that are there tell the types, and a recipe stays a value.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from SynthGANLib.errors import InputError

T = TypeVar("T")
Convert = Callable[[Any, Any, Any, str], Any]
"""(new value, old value, declared type, dotted name) -> what is set."""


def parse(settings: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts by name; InputError for one without "=", or the same name twice."""
    found: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise InputError(f"'{setting}' is no setting.", next_step="Write NAME=VALUE, such as steps=500.")
        if name.strip() in found:
            raise InputError(f"'{name.strip()}' is set twice.", next_step="Set it once.")
        found[name.strip()] = value.strip()
    return found


def apply(value: T, settings: Mapping[str, str]) -> T:
    """A copy of a dataclass with the fields of these dotted names set, each by the type the dataclass gives it.

    Mappings are addressed by key; a key that a mapping of dataclasses lacks begins as a copy of its "*".

    Raises:
        InputError: no such field (with the nearest one), a value of another type, or one that the class refuses.
    """
    for name, text in settings.items():
        value = _set(value, name.split("."), text, name, Any, _converted)
    return value


def replace_values(value: T, settings: Mapping[str, Any]) -> T:
    """As `apply`, with values that are set as they are, without a conversion.

    Raises:
        InputError: no such field (with the nearest one), or a value that the class refuses.
    """
    for name, new in settings.items():
        value = _set(value, name.split("."), new, name, Any, _as_given)
    return value


def _as_given(new: Any, old: Any, declared: Any, whole: str) -> Any:
    return new


def _set(value: Any, names: Sequence[str], new: Any, whole: str, declared: Any, convert: Convert) -> Any:
    """`value` with what `names` leads to set to `new`, converted; `whole` is the dotted name for messages."""
    if not names:
        return convert(new, value, declared, whole)
    name, rest = names[0], names[1:]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        fields = [field.name for field in dataclasses.fields(value) if not callable(getattr(value, field.name))]
        _require(name, fields, whole)
        changed = _set(getattr(value, name), rest, new, whole, hints[name], convert)
        try:
            return dataclasses.replace(value, **{name: changed})
        except ValueError as error:  # a config may refuse a combination of its fields
            raise InputError(f"The setting {whole}={new} is refused: {error}.", next_step="Change it.") from error
    if isinstance(value, Mapping):
        inner = get_args(declared)[1] if len(get_args(declared)) == 2 else Any
        if name not in value and "*" in value:
            return {**value, name: _set(value["*"], rest, new, whole, inner, convert)}
        if name not in value and inner is not Any:
            _require(name, list(value), whole)
        if name not in value and rest:
            _require(name, list(value), whole)
        return {**value, name: _set(value.get(name), rest, new, whole, inner, convert)}
    raise InputError(
        f"'{whole}' leads nowhere: '{whole.rsplit('.', len(names))[0]}' has no parts.", next_step="Leave out the rest."
    )


def _require(name: str, known: Sequence[str], whole: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(known)}."
    where = whole if whole == name else f"{name}' in '{whole}"
    raise InputError(f"There is no setting '{where}'.", next_step=hint)


def _converted(text: str, old: Any, declared: Any, whole: str) -> Any:
    """The text as a value of the declared type, or, where that says nothing, of the old value's kind."""
    untold = declared is Any or declared is None
    if untold:
        declared = type(old) if isinstance(old, bool | int | float | str) else Any
    if isinstance(old, Mapping) and not isinstance(declared, type) and get_origin(declared) is not None:
        declared = Any
    parsed = _plain(text)
    if declared is str and untold and isinstance(parsed, list | dict):
        declared = Any  # such as the fields of a normaliser in place of its name
    if "," in text and isinstance(parsed, str) and not _is_text(declared):
        parsed = [_plain(part) for part in text.split(",")]
    fits, value = _fit(parsed, declared, text)
    if not fits:
        raise InputError(
            f"'{whole}' must be {_words(declared)}, not '{text}'.", next_step=f"It is {json.dumps(_shown(old))} now."
        )
    return value


def _fit(parsed: Any, declared: Any, text: str) -> tuple[bool, Any]:
    """Whether a parsed value is of the declared type, and it as that type."""
    origin, inner = get_origin(declared), get_args(declared)
    if declared is Any:
        return True, parsed
    if origin is Literal:
        return text in inner, text
    if origin in (Union, types.UnionType):
        tries = [_fit(parsed, option, text) for option in inner]
        return next((found for found in tries if found[0]), (False, None))
    if declared in (type(None), None):
        return parsed is None or text == "none", None
    if declared is bool:
        return isinstance(parsed, bool), parsed
    if declared is int:
        return isinstance(parsed, int) and not isinstance(parsed, bool), parsed
    if declared is float:
        number = isinstance(parsed, int | float) and not isinstance(parsed, bool)
        return number, float(parsed) if number else None
    if declared is str:
        return True, text
    if origin is tuple or declared is tuple:
        return _fit_tuple(parsed, inner)
    if isinstance(declared, type) and issubclass(declared, list | dict):
        return isinstance(parsed, declared), parsed
    return False, None


def _fit_tuple(parsed: Any, inner: tuple[Any, ...]) -> tuple[bool, Any]:
    values = parsed if isinstance(parsed, list) else [parsed]
    if not inner:
        return True, tuple(values)
    kinds = [inner[0]] * len(values) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
    if len(kinds) != len(values):
        return False, None
    found = [_fit(value, kind, str(value)) for value, kind in zip(values, kinds, strict=True)]
    return all(fits for fits, _ in found), tuple(value for _, value in found)


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.strip()


def _is_text(declared: Any) -> bool:
    return declared is str or get_origin(declared) is Literal


def _words(declared: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if get_origin(declared) is Literal:
        return "one of " + ", ".join(str(option) for option in get_args(declared))
    if get_origin(declared) is tuple:
        inner = get_args(declared)
        many = len(inner) == 2 and inner[1] is Ellipsis
        word = {int: "whole numbers", float: "numbers"}.get(inner[0], "values")
        return f"{word} with commas between" if many else f"{len(inner)} values with commas between"
    if get_origin(declared) in (Union, types.UnionType):
        return " or ".join(_words(option) for option in get_args(declared))
    if declared in (type(None), None):
        return "none"
    return names.get(declared, "one of its parts (a dotted name)")


def _shown(old: Any) -> Any:
    return old if isinstance(old, str | int | float | bool | list | tuple) or old is None else "..."
