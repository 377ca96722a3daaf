"""The header of a DICOM file, nested sequences included.

GDCM (through SimpleITK) decodes the pixels but does not hand out sequences, and those hold the geometry of
multiframe files and the dose of PET. This reads the data elements up to the pixels and nothing else
(DICOM PS3.5 section 7; PS3.10 section 7 for the file).
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from SynthGANLib.errors import InputError

UNDEFINED = 0xFFFFFFFF
# Elements with the pixels; the header ends here.
PIXELS = {0x7FE00008: "float", 0x7FE00009: "double", 0x7FE00010: "integer"}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VR = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_IMPLICIT, _BIG, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
# Values this long are kept; longer ones (private blobs, lookup tables, thumbnails) are not needed here.
_MAX_PLAIN, _MAX_SEQUENCE, _MAX_DEPTH = 64 * 1024, 64 * 1024 * 1024, 16
_CHARACTER_SETS = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk", "ISO_IR 13": "shift_jis"}


class Encoding(NamedTuple):
    """How elements are stored."""

    explicit: bool
    little: bool

    @property
    def order(self) -> str:
        """Byte-order mark for struct."""
        return "<" if self.little else ">"


class _MalformedError(Exception):
    """Not DICOM, or cut off before the pixels."""


@dataclass
class Dataset:
    """Elements by tag number ``0xGGGGEEEE``; values are raw bytes, decoded on request by type."""

    encoding: Encoding
    values: dict[int, bytes] = field(default_factory=dict)

    def __contains__(self, tag: int) -> bool:
        return tag in self.values

    def text(self, tag: int, default: str = "") -> str:
        """Text without padding, in the file's character set."""
        raw = self.values.get(tag)
        if raw is None:
            return default
        name = self.values.get(0x00080005, b"").decode("ascii", "replace").replace("\0", "").strip()
        codec = _CHARACTER_SETS.get(name.split("\\")[0].strip(), "latin-1")
        return raw.decode(codec, "replace").strip("\0 \n\r\t")

    def floats(self, tag: int) -> tuple[float, ...]:
        """Decimal string(s) as numbers; empty if absent, blank or no finite numbers."""
        try:
            numbers = tuple(float(part) for part in self.text(tag).split("\\") if part.strip())
        except ValueError:
            return ()
        return numbers if all(math.isfinite(number) for number in numbers) else ()

    def number(self, tag: int) -> float | None:
        """The first decimal string as a number, None if absent."""
        numbers = self.floats(tag)
        return numbers[0] if numbers else None

    def short(self, tag: int) -> int | None:
        """A 16-bit unsigned value, None if absent."""
        raw = self.values.get(tag, b"")
        return int(struct.unpack(self.encoding.order + "H", raw[:2])[0]) if len(raw) >= 2 else None

    def double(self, tag: int) -> float | None:
        """A 64-bit floating-point value, None if absent."""
        raw = self.values.get(tag, b"")
        return float(struct.unpack(self.encoding.order + "d", raw[:8])[0]) if len(raw) >= 8 else None

    def items(self, tag: int) -> list[Dataset]:
        """The items of a sequence; empty if absent.

        Raises:
            InputError: the sequence is damaged.
        """
        raw = self.values.get(tag, b"")
        found: list[Dataset] = []
        position = 0
        try:
            while position + 8 <= len(raw):
                item, length = _item_head(raw, position, self.encoding)
                position += 8
                if item == _SEQUENCE_END:
                    break
                dataset = Dataset(self.encoding)
                end = len(raw) if length == UNDEFINED else position + length
                position, _ = _read_elements(raw, position, end, dataset, depth=1)
                found.append(dataset)
        except (_MalformedError, struct.error) as error:
            raise InputError(
                f"The DICOM sequence {tag:08X} is damaged.", next_step="Export the series again."
            ) from error
        return found

    def first(self, *tags: int) -> Dataset:
        """The first item of nested sequences, an empty dataset if one is absent."""
        dataset = self
        for tag in tags:
            items = dataset.items(tag)
            dataset = items[0] if items else Dataset(self.encoding)
        return dataset


@dataclass
class Header(Dataset):
    """A file's elements, transfer syntax and where its pixels start."""

    path: Path = Path()
    transfer_syntax: str = ""
    pixels: str = ""  # "integer", "float", "double" or "" for a file without pixels
    pixel_bytes: tuple[int, int] = (0, 0)  # offset and length in the file; (0, 0) if the file is deflated
    photometric_offset: int = 0  # of the value of (0028,0004) in the file; 0 if unknown


def read_header(path: Path) -> Header | None:
    """The header of a DICOM file, None if the file is something else.

    Raises:
        InputError: DICOM, but cut off or damaged; or the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) < 140:
                return None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(data, path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.", next_step="Check the permissions.") from error


def _parse(data: mmap.mmap, path: Path) -> Header | None:
    has_preamble = data[128:132] == b"DICM"
    if not has_preamble and data[0:2] not in (b"\x02\x00", b"\x08\x00"):
        return None
    try:
        header = _parse_file(data, 132 if has_preamble else 0, path)
    except (_MalformedError, struct.error, zlib.error) as error:
        if not has_preamble:
            return None
        raise InputError(
            f"The DICOM file '{path}' is cut off or damaged.", next_step="Copy or export it again."
        ) from error
    if not has_preamble and 0x00080016 not in header and 0x0020000D not in header:
        return None  # the first bytes looked like DICOM by chance
    return header


def _parse_file(data: mmap.mmap, start: int, path: Path) -> Header:
    meta = Dataset(Encoding(explicit=True, little=True))
    start, _ = _read_elements(data, start, len(data), meta, depth=0, group=0x0002)
    syntax = meta.text(0x00020010)
    header = Header(Encoding(explicit=True, little=True), path=path, transfer_syntax=syntax)
    if not syntax:  # without meta information the standard says implicit little endian; look instead
        header.encoding = Encoding(explicit=data[start + 4 : start + 6].isalpha(), little=True)
    elif syntax == _IMPLICIT:
        header.encoding = Encoding(explicit=False, little=True)
    elif syntax == _BIG:
        header.encoding = Encoding(explicit=True, little=False)
    if syntax == _DEFLATED:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:])
        _, stop = _read_elements(inflated, 0, len(inflated), header, depth=0)
    else:
        _, stop = _read_elements(data, start, len(data), header, depth=0)
    if stop is None:
        return header
    header.pixels = PIXELS[stop.tag]
    if syntax != _DEFLATED:
        header.photometric_offset = stop.photometric
        rest = len(data) - stop.start
        header.pixel_bytes = (stop.start, rest if stop.length == UNDEFINED else stop.length)
        if header.pixel_bytes[1] > rest:
            raise _MalformedError
    return header


class _Stop(NamedTuple):
    """The pixel data element that ends a header."""

    tag: int
    start: int
    length: int
    photometric: int


Buffer = bytes | mmap.mmap


def _read_elements(
    data: Buffer, position: int, end: int, into: Dataset, *, depth: int, group: int | None = None
) -> tuple[int, _Stop | None]:
    """Read elements until ``end``, an item delimiter, the pixels or (if given) the end of ``group``."""
    if depth > _MAX_DEPTH:
        raise _MalformedError
    photometric = 0
    while position + 8 <= end:
        if group is not None and int.from_bytes(data[position : position + 2], "little") != group:
            return position, None
        tag, vr, length, start = _element_head(data, position, into.encoding)
        if tag in (_ITEM_END, _SEQUENCE_END):
            return position + 8, None
        if tag in PIXELS and depth == 0:
            return position, _Stop(tag, start, length, photometric)
        if length == UNDEFINED:
            stop = _skip_items(data, start, end, _inner(into.encoding, vr), depth + 1)
        else:
            stop = start + length
        if stop > end:
            raise _MalformedError
        if tag == 0x00280004:
            photometric = start
        if stop - start <= (_MAX_SEQUENCE if vr in (b"SQ", b"UN", b"") else _MAX_PLAIN):
            into.values[tag] = bytes(data[start:stop])
        position = stop
    return position, None


def _inner(encoding: Encoding, vr: bytes) -> Encoding:
    """A sequence of unknown VR is stored implicit little endian (PS3.5 6.2.2)."""
    return Encoding(explicit=False, little=True) if vr == b"UN" else encoding


def _element_head(data: Buffer, position: int, encoding: Encoding) -> tuple[int, bytes, int, int]:
    """Tag, VR (empty if implicit), length and the offset of the value."""
    group, element = struct.unpack(encoding.order + "HH", data[position : position + 4])
    tag = group << 16 | element
    if not encoding.explicit or group == 0xFFFE:
        return (
            tag,
            b"",
            struct.unpack(encoding.order + "I", data[position + 4 : position + 8])[0],
            position + 8,
        )
    vr = bytes(data[position + 4 : position + 6])
    if not (vr.isalpha() and vr.isupper()):
        raise _MalformedError
    if vr in _LONG_VR:
        length = struct.unpack(encoding.order + "I", data[position + 8 : position + 12])[0]
        return tag, vr, length, position + 12
    return tag, vr, struct.unpack(encoding.order + "H", data[position + 6 : position + 8])[0], position + 8


def _item_head(data: Buffer, position: int, encoding: Encoding) -> tuple[int, int]:
    """Tag and length of an item or delimiter."""
    group, element, length = struct.unpack(encoding.order + "HHI", data[position : position + 8])
    tag = group << 16 | element
    if tag not in (_ITEM, _SEQUENCE_END):
        raise _MalformedError
    return tag, length


def _skip_items(data: Buffer, position: int, end: int, encoding: Encoding, depth: int) -> int:
    """Offset behind the delimiter of a sequence of undefined length."""
    while position + 8 <= end:
        tag, length = _item_head(data, position, encoding)
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if length == UNDEFINED:
            position, _ = _read_elements(data, position, end, Dataset(encoding), depth=depth)
        else:
            position += length
    raise _MalformedError
