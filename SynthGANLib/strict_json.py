"""Strict JSON: what a model folder or a job may say, and nothing else.

The standard parser silently keeps the last of two equal keys and accepts ``NaN``; a file that means one
thing to one reader and another to the next is refused here instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 12
MAX_NODES = 20_000
MAX_TEXT = 20_000


class JsonError(ValueError):
    """The text is not the strict JSON asked for; the message is one clause without a full stop."""


def parse_json(text: str | bytes, *, max_nodes: int = MAX_NODES) -> Any:
    """Parse UTF-8 JSON; duplicate keys, NaN, Infinity, overflowing numbers and deep nesting are refused.

    Raises:
        JsonError: with the reason, and the line where the parser knows it.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant, parse_float=_finite_float)
    except UnicodeDecodeError as error:
        raise JsonError(f"it is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"it is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    except JsonError:
        raise
    except ValueError:  # an integer of thousands of digits
        raise JsonError("it holds a number with too many digits") from None
    check_plain(value, "", max_nodes=max_nodes)
    return value


def check_plain(value: Any, where: str, *, max_nodes: int = MAX_NODES) -> None:
    """Raise JsonError unless ``value`` is plain, finite, bounded JSON; ``where`` is its dotted path."""
    nodes = 0
    stack: list[tuple[Any, str, int]] = [(value, where, 0)]
    while stack:
        item, path, depth = stack.pop()
        nodes += 1
        if nodes > max_nodes:
            raise JsonError(f"{where or 'it'} holds more than {max_nodes} values")
        if depth > MAX_DEPTH:
            raise JsonError(f"{path} is nested deeper than {MAX_DEPTH} levels")
        if isinstance(item, Mapping):
            for key, child in item.items():
                if not isinstance(key, str):
                    raise JsonError(f"{path or 'it'} has the key {key!r}, which is not text")
                if (reason := _unfit_text(key)) is not None:
                    raise JsonError(f"{path or 'it'} has the key {key[:80]!a}, which {reason}")
                stack.append((child, f"{path}.{key}" if path else key, depth + 1))
        elif isinstance(item, (list, tuple)):
            stack.extend((child, f"{path}[{index}]", depth + 1) for index, child in enumerate(item))
        else:
            _check_scalar(item, path or "it")


def _check_scalar(item: Any, path: str) -> None:
    if item is None or isinstance(item, bool):
        return
    if isinstance(item, int):
        if abs(item) >= 2**63:
            raise JsonError(f"{path} is a whole number beyond 64 bits")
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise JsonError(f"{path} is {item}, which is not a finite number")
    elif isinstance(item, str):
        if (reason := _unfit_text(item)) is not None:
            raise JsonError(f"{path} {reason}")
    else:
        raise JsonError(f"{path} is a {type(item).__name__}, which JSON cannot hold")


def _unfit_text(text: str) -> str | None:
    """What makes a text unfit, as a clause; None where nothing does."""
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        return "holds half a surrogate pair, which is not text"
    if any((ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160 for letter in text):
        return "holds control characters"  # they could rewrite a terminal they are shown on
    return None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise JsonError(f"the key '{key}' appears twice in one object")
        result[key] = value
    return result


def _no_constant(name: str) -> Any:
    raise JsonError(f"it holds {name}, which is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError(f"it holds the number {text[:40]}, which is beyond double precision")
    return value
