"""Writes small DICOM files, element by element, so that tests know every byte of what they read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
# Explicit little endian whose sequences and items end in delimiters instead of giving their lengths.
DELIMITED = EXPLICIT + "+"
CT, MR, PT = (f"1.2.840.10008.5.1.4.1.1.{part}" for part in ("2", "4", "128"))
_CLASS = {"CT": CT, "MR": MR, "PT": PT}
_LONG = ("OB", "OW", "SQ", "UN", "UT")
# VR by tag; everything else is text of the kind LO.
_VR = {
    0x00080005: "CS", 0x00080008: "CS", 0x00080016: "UI", 0x00080018: "UI", 0x00080021: "DA", 0x00080022: "DA",
    0x00080031: "TM", 0x00080032: "TM", 0x00080060: "CS", 0x00101030: "DS", 0x00180050: "DS", 0x00180081: "DS",
    0x00181072: "TM", 0x00181074: "DS", 0x00181075: "DS", 0x00181078: "DT", 0x0020000D: "UI", 0x0020000E: "UI",
    0x00200011: "IS", 0x00200012: "IS", 0x00200013: "IS", 0x00200032: "DS", 0x00200037: "DS", 0x00209113: "SQ",
    0x00209116: "SQ", 0x00280002: "US", 0x00280004: "CS", 0x00280008: "IS", 0x00280010: "US", 0x00280011: "US",
    0x00280030: "DS", 0x00280051: "CS", 0x00280100: "US", 0x00280101: "US", 0x00280102: "US", 0x00280103: "US",
    0x00281052: "DS", 0x00281053: "DS", 0x00289110: "SQ", 0x00289145: "SQ", 0x00540016: "SQ", 0x00541001: "CS",
    0x00541102: "CS", 0x52009229: "SQ", 0x52009230: "SQ", 0x7FE00010: "OW",
}  # fmt: skip
Elements = Mapping[int, Any]


@dataclass(frozen=True)
class Slice:
    """One image and what its header says; ``extra`` adds, replaces or (with None) removes elements."""

    pixels: np.ndarray  # (y, x) or (frames, y, x), 16-bit
    position: Sequence[float] | None = (0.0, 0.0, 0.0)
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0)
    spacing: tuple[float, float] = (1.5, 0.75)  # between rows, between columns
    modality: str = "CT"
    series: str = "1.2.3.4"
    number: int = 1
    rescale: tuple[float, float] | None = (1.0, -1024.0)
    photometric: str = "MONOCHROME2"
    bits: int = 16
    extra: Elements = field(default_factory=dict)

    def with_extra(self, extra: Elements) -> Slice:
        """The same slice with further elements."""
        return replace(self, extra={**self.extra, **extra})

    def elements(self) -> dict[int, Any]:
        """All data elements of the file."""
        frames = self.pixels.shape[0] if self.pixels.ndim == 3 else 1
        rows, columns = self.pixels.shape[-2:]
        elements: dict[int, Any] = {
            0x00080005: "ISO_IR 192",
            0x00080008: "ORIGINAL\\PRIMARY",
            0x00080016: _CLASS[self.modality],
            0x00080018: f"{self.series}.{self.number}",
            0x00080060: self.modality,
            0x0008103E: "größer",
            0x00180050: 2.0,
            0x0020000D: "1.2.3",
            0x0020000E: self.series,
            0x00200011: 7,
            0x00200013: self.number,
            0x00280002: 1,
            0x00280004: self.photometric,
            0x00280010: rows,
            0x00280011: columns,
            0x00280030: self.spacing,
            0x00280100: 16,
            0x00280101: self.bits,
            0x00280102: self.bits - 1,
            0x00280103: int(self.pixels.dtype.kind == "i"),
        }
        if self.position is not None:
            elements |= {0x00200032: self.position, 0x00200037: self.orientation}
        if self.rescale is not None:
            elements |= {0x00281053: self.rescale[0], 0x00281052: self.rescale[1]}
        if frames > 1:
            elements[0x00280008] = frames
        elements[0x7FE00010] = self.pixels
        elements |= self.extra
        return {tag: value for tag, value in elements.items() if value is not None}

    def write(self, path: Path, syntax: str = EXPLICIT) -> Path:
        """Write the file in one of the transfer syntaxes that need no codec."""
        named = {0x00020002: _CLASS[self.modality], 0x00020003: "1.2.3", 0x00020010: syntax.rstrip("+")}
        meta = _elements(named, EXPLICIT)
        length = _element(0x00020000, struct.pack("<I", len(meta)), EXPLICIT)
        body = _elements(self.elements(), syntax)
        if syntax == DEFLATED:
            squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            body = squeeze.compress(body) + squeeze.flush()
        path.write_bytes(bytes(128) + b"DICM" + length + meta + body)
        return path


def write_stack(folder: Path, slices: Sequence[Slice], syntax: str = EXPLICIT) -> Path:
    """Write slices as files whose names do not follow their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, entry in enumerate(slices):
        entry.write(folder / f"{(index * 7919) % 1000:03d}-{index}.dcm", syntax)
    return folder


def stack_of(array: np.ndarray, step: Sequence[float] = (0.0, 0.0, 2.5), **header: Any) -> list[Slice]:
    """Slices of a (z, y, x) array, ``step`` mm apart from (-10, 20, 30)."""
    start = np.array([-10.0, 20.0, 30.0])
    return [
        Slice(plane, tuple(start + index * np.asarray(step)), number=index + 1, **header)
        for index, plane in enumerate(array)
    ]


def _elements(elements: Elements, syntax: str) -> bytes:
    return b"".join(_element(tag, _value(tag, elements[tag], syntax), syntax) for tag in sorted(elements))


def _value(tag: int, value: Any, syntax: str) -> bytes:
    order = ">" if syntax == BIG else "<"
    vr = "UI" if tag >> 16 == 2 else _VR.get(tag, "LO")
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray):
        return value.astype(value.dtype.newbyteorder(order)).tobytes()
    if vr == "SQ":
        items = [_elements(item, syntax) for item in value]
        if syntax == DELIMITED:
            start, end = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
            return b"".join(start + item + end for item in items) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        return b"".join(struct.pack(order + "HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if vr == "US":
        return struct.pack(order + "H", value)
    text = value if isinstance(value, str) else "\\".join(f"{part:.10g}" for part in np.atleast_1d(value))
    encoded = text.encode()
    return encoded + (b"\0" if vr == "UI" else b" ") * (len(encoded) % 2)


def _element(tag: int, value: bytes, syntax: str) -> bytes:
    order = ">" if syntax == BIG else "<"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    vr = "UL" if tag == 0x00020000 else "UI" if tag >> 16 == 2 else _VR.get(tag, "LO")
    if syntax == IMPLICIT:
        return head + struct.pack("<I", len(value)) + value
    if vr in _LONG:
        length = 0xFFFFFFFF if vr == "SQ" and syntax == DELIMITED else len(value)
        return head + vr.encode() + b"\0\0" + struct.pack(order + "I", length) + value
    return head + vr.encode() + struct.pack(order + "H", len(value)) + value
