"""What a ``.safetensors`` file declares, read and checked before any tensor is made; needs numpy only.

The layout (huggingface.co/docs/safetensors): 8 bytes little-endian header length, a JSON header that maps
each name to dtype, shape and byte range, then the data. Everything a file can lie about is checked here:
the length of the header, the number and size of tensors, ranges that overlap, leave gaps or point outside,
bytes after the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from SynthGANLib.strict_json import JsonError, parse_json

MAX_HEADER = 2 * 2**20
HEAD = 8 + MAX_HEADER
"""Bytes from the beginning of a file that hold its header, if it is one that is accepted."""
MAX_TENSORS = 10_000
MAX_ELEMENTS = 2**29
"""Largest number of weights a model may declare (537 million, 2 GiB in float32)."""

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_PICKLE_STARTS = (b"\x80", b"PK\x03\x04", b"\x93NUMPY", b"\x89HDF")


class TensorError(ValueError):
    """A file that is not what it should be; the message is one clause without a full stop."""


@dataclass(frozen=True)
class Declared:
    """One tensor as the header declares it: dtype code, shape and byte range within the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(data: bytes, *, max_elements: int = MAX_ELEMENTS, total: int | None = None) -> dict[str, Declared]:
    """Names and declarations of the tensors in ``data``, the whole content of a safetensors file.

    Where only the beginning was read (`HEAD` bytes hold every header), ``total`` is the size of the file.

    Raises:
        TensorError: if anything in the file contradicts the format or exceeds ``max_elements`` in all.
    """
    if data.startswith(_PICKLE_STARTS) and not _plausible_length(data):
        raise TensorError("is a pickle, archive or array file under another name, not safetensors")
    if not _plausible_length(data):
        raise TensorError("is truncated or not a safetensors file (its header does not fit)")
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = parse_json(data[8:start], max_nodes=20 * MAX_TENSORS)
    except JsonError as problem:
        raise TensorError(f"has a header that cannot be used: {problem}") from None
    if not isinstance(header, dict):
        raise TensorError("has a header that is not a JSON object")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise TensorError(f"declares {len(header)} tensors (at most {MAX_TENSORS} are allowed)")
    declared = {name: _declaration(name, content, start) for name, content in header.items()}
    if sum(math.prod(item.shape) for item in declared.values()) > max_elements:
        raise TensorError(f"declares more than {max_elements} values")
    _check_ranges(declared, start, len(data) if total is None else total)
    return declared


def check_finite(data: bytes, declared: dict[str, Declared]) -> None:
    """Raise TensorError naming the first floating-point tensor that holds NaN or infinity."""
    for name, item in declared.items():
        raw = memoryview(data)[item.begin : item.end]
        if item.dtype == "BF16":  # numpy has no bfloat16: all exponent bits set means NaN or infinity
            bad = bool(np.any((np.frombuffer(raw, "<u2") & 0x7F80) == 0x7F80))
        elif item.dtype in ("F64", "F32", "F16"):
            bad = not bool(np.all(np.isfinite(np.frombuffer(raw, f"<f{_BYTES[item.dtype]}"))))
        else:
            continue
        if bad:
            raise TensorError(f"holds NaN or infinite values in '{name}'")


def _plausible_length(data: bytes) -> bool:
    length = int.from_bytes(data[:8], "little")
    return len(data) >= 10 and 2 <= length <= MAX_HEADER and 8 + length <= len(data) and data[8:9] == b"{"


def _declaration(name: str, content: Any, start: int) -> Declared:
    if not isinstance(content, dict) or set(content) != {"dtype", "shape", "data_offsets"}:
        raise TensorError(f"declares '{name[:80]}' without exactly dtype, shape and data_offsets")
    dtype, shape, offsets = content["dtype"], content["shape"], content["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise TensorError(f"declares '{name[:80]}' with the unknown dtype {str(dtype)[:20]!r}")
    if not _wholes(shape) or len(shape) > 8:
        raise TensorError(f"declares '{name[:80]}' with a shape that is not up to 8 whole numbers")
    if not _wholes(offsets) or len(offsets) != 2:
        raise TensorError(f"declares '{name[:80]}' with offsets that are not two whole numbers")
    begin, end = offsets
    if end - begin != math.prod(shape) * _BYTES[dtype]:
        raise TensorError(f"declares '{name[:80]}' with a size that contradicts its shape")
    return Declared(dtype, tuple(shape), start + begin, start + end)


def _wholes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _check_ranges(declared: dict[str, Declared], start: int, total: int) -> None:
    """The data ranges follow each other without gap or overlap up to the very end of the file."""
    position = start
    for name, item in sorted(declared.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if item.begin != position:
            raise TensorError(f"has a gap or an overlap before '{name[:80]}'")
        position = item.end
    if position != total:
        kind = "is truncated" if position > total else "has bytes after its last tensor"
        raise TensorError(f"{kind} ({position} bytes declared, {total} found)")
