"""The tensors of a ``.safetensors`` file, within limits; needs numpy and the package ``safetensors`` only.

The package checks the layout (huggingface.co/docs/safetensors): that the header is JSON, that sizes agree with shapes,
that the data of the tensors leave no gap, do not overlap and end with the file. It takes headers of up to 100 MB and
any number of values. Before it sees a file the length of the header is limited here, and before the data are read the
number of tensors and of values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from safetensors import SafetensorError

MAX_HEADER = 2 * 2**20
MAX_TENSORS = 10_000
MAX_ELEMENTS = 2**29
"""Largest number of weights a model may declare (537 million, 2 GiB in float32)."""

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_DTYPES = frozenset({*_FLOATS, "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"})
_PICKLE_STARTS = (b"\x80", b"PK\x03\x04", b"\x93NUMPY", b"\x89HDF")


class TensorError(ValueError):
    """A file that is not what it should be; the message is one clause without a full stop."""


@dataclass(frozen=True)
class Stored:
    """One tensor: dtype code ("F32"), shape and bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytearray


def check_header(path: Path, *, max_elements: int = MAX_ELEMENTS) -> None:
    """Check what a file declares, without reading its data.

    Raises:
        TensorError: it contradicts the format or exceeds ``max_elements`` in all.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        _check_start(file.read(16), path.stat().st_size)
    try:
        with safe_open(path, framework="numpy") as opened:
            views = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # it is no mapping
            _check_limits(((name, view.get_dtype(), view.get_shape()) for name, view in views.items()), max_elements)
    except SafetensorError as error:
        raise _unreadable(error) from None


def read_tensors(data: bytes, *, max_elements: int = MAX_ELEMENTS) -> dict[str, Stored]:
    """The tensors in ``data``, the whole content of a safetensors file, by name; all values are finite.

    Raises:
        TensorError: anything in the file contradicts the format or exceeds ``max_elements`` in all; NaN or infinity.
    """
    from safetensors import SafetensorError, deserialize

    _check_start(data[:16], len(data))
    try:
        unpacked: list[tuple[str, dict[str, Any]]] = deserialize(data)  # type: ignore[no-untyped-call]
        found = {name: Stored(view["dtype"], tuple(view["shape"]), view["data"]) for name, view in unpacked}
    except SafetensorError as error:
        raise _unreadable(error) from None
    _check_limits(((name, item.dtype, item.shape) for name, item in found.items()), max_elements)
    for name, item in found.items():
        if not _finite(item):
            raise TensorError(f"holds NaN or infinite values in '{name[:80]}'")
    return found


def _check_start(start: bytes, size: int) -> None:
    """The length of the header stands first; files of other kinds have no plausible one."""
    length = int.from_bytes(start[:8], "little")
    if len(start) >= 10 and 2 <= length <= min(MAX_HEADER, size - 8) and start[8:9] == b"{":
        return
    if start.startswith(_PICKLE_STARTS):
        raise TensorError("is a pickle, archive or array file under another name, not safetensors")
    raise TensorError("is truncated or not a safetensors file (its header does not fit)")


def _check_limits(declared: Iterable[tuple[str, str, Iterable[int]]], max_elements: int) -> None:
    tensors = elements = 0
    for name, dtype, shape in declared:
        extents = tuple(shape)
        tensors, elements = tensors + 1, elements + math.prod(extents)
        if dtype not in _DTYPES:
            raise TensorError(f"declares '{name[:80]}' with the unknown dtype {dtype[:20]!r}")
        if len(extents) > 8 or max(extents, default=0) >= 2**48:
            raise TensorError(f"declares '{name[:80]}' with a shape that is not up to 8 extents of usual size")
    if tensors > MAX_TENSORS:
        raise TensorError(f"declares {tensors} tensors (at most {MAX_TENSORS} are allowed)")
    if elements > max_elements:
        raise TensorError(f"declares more than {max_elements} values")


def _finite(item: Stored) -> bool:
    if item.dtype == "BF16":  # numpy has no bfloat16: all exponent bits set means NaN or infinity
        return not bool(np.any((np.frombuffer(item.data, "<u2") & 0x7F80) == 0x7F80))
    code = _FLOATS.get(item.dtype)
    return code is None or bool(np.all(np.isfinite(np.frombuffer(item.data, code))))


def _unreadable(error: SafetensorError) -> TensorError:
    if "not fully covered" in str(error):
        return TensorError("is truncated or has bytes after its last tensor")
    words = " ".join(str(error).split()).rpartition("deserializing")[2].partition(": ")[2] or type(error).__name__
    return TensorError(f"cannot be read as safetensors: {words[:200].rstrip('.')}")
