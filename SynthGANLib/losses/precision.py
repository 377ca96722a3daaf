"""Losses compute in float32 even where autocast runs the networks in half precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def _widened(value: Any) -> Any:
    """Half precision tensors, also inside lists and tuples, as float32; everything else, float64 too, as it is."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, (list, tuple)):
        return [_widened(entry) for entry in value]
    return value


def _device_type(values: Sequence[Any]) -> str:
    """The kind of device of the first tensor in `values` or in a list in it; "cpu" where autocast knows of none."""
    for value in values:
        first = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(first, Tensor):
            kind = first.device.type
            return kind if torch.amp.is_autocast_available(kind) else "cpu"  # the meta device has no autocast
    return "cpu"


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with autocast off and its half precision tensors raised to float32; float64 stays float64."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast(_device_type((*args, *kwargs.values())), enabled=False):
            return function(*_widened(args), **{name: _widened(value) for name, value in kwargs.items()})

    return wrapper
