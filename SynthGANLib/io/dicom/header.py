"""The header of a DICOM file, nested sequences included, read by pydicom.

GDCM (through SimpleITK) decodes the pixels but does not hand out sequences, and those hold the geometry of multiframe
files and the dose of PET. Of the elements up to the pixels only those in `TAGS` are kept, as raw bytes: pydicom warns
of values that break the standard or corrects them, while here a number that cannot be read is one that is absent.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from SynthGANLib.errors import InputError

if TYPE_CHECKING:
    import pydicom

UNDEFINED = 0xFFFFFFFF
# Elements with the pixels; the header ends here.
PIXELS = {0x7FE00008: "float", 0x7FE00009: "double", 0x7FE00010: "integer"}
# Elements that the readers of series, stacks and uptake ask for, outside of sequences.
TAGS = [
    0x00080005, 0x00080008, 0x00080016, 0x00080021, 0x00080022, 0x00080031, 0x00080032, 0x00080060, 0x0008103E,
    0x00101030, 0x00180020, 0x00180050, 0x00180080, 0x00180081, 0x00180082, 0x00180088, 0x00181030, 0x00181164,
    0x0020000D, 0x0020000E, 0x00200011, 0x00200012, 0x00200013, 0x00200032, 0x00200037, 0x00200100, 0x00280004,
    0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280051, 0x00281052, 0x00281053, 0x00281054, 0x00540016,
    0x00541001, 0x00541006, 0x00541102, 0x52009229, 0x52009230, 0x70531000,
]  # fmt: skip
_DEFLATED = "1.2.840.10008.1.2.1.99"
_CHARACTER_SETS = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk", "ISO_IR 13": "shift_jis"}


class _MalformedError(Exception):
    """Not DICOM, or cut off before the pixels."""


@dataclass
class Dataset:
    """Elements by tag number ``0xGGGGEEEE``, decoded on request by type; without ``content`` it is empty."""

    content: pydicom.Dataset | None = None

    def __contains__(self, tag: int) -> bool:
        return self.content is not None and tag in self.content

    def _raw(self, tag: int) -> bytes | None:
        """The bytes of a value, None if absent."""
        if self.content is None or tag not in self.content:
            return None
        value: Any = self.content.get_item(tag).value
        if isinstance(value, bytes):
            return value
        texts = [value] if isinstance(value, str) else value or ()  # the character set, which pydicom decodes at once
        return "\\".join(map(str, texts)).encode()

    @property
    def _order(self) -> str:
        """Byte-order mark for struct."""
        return ">" if self.content is not None and self.content.original_encoding[1] is False else "<"

    def text(self, tag: int, default: str = "") -> str:
        """Text without padding, in the file's character set."""
        raw = self._raw(tag)
        if raw is None:
            return default
        name = (self._raw(0x00080005) or b"").decode("ascii", "replace").replace("\0", "").strip()
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
        value = self._unpacked(tag, "H")
        return None if value is None else int(value)

    def long(self, tag: int) -> int | None:
        """A 32-bit unsigned value, None if absent."""
        value = self._unpacked(tag, "I")
        return None if value is None else int(value)

    def double(self, tag: int) -> float | None:
        """A 64-bit floating-point value, None if absent."""
        return self._unpacked(tag, "d")

    def _unpacked(self, tag: int, code: str) -> float | None:
        raw, size = self._raw(tag) or b"", struct.calcsize("<" + code)
        if len(raw) < size:
            return None
        value: float = struct.unpack(self._order + code, raw[:size])[0]
        return value

    def items(self, tag: int) -> list[Dataset]:
        """The items of a sequence; empty if absent.

        Raises:
            InputError: the sequence is damaged.
        """
        if self.content is None or tag not in self.content:
            return []
        try:
            with _strict():
                return [Dataset(item) for item in self.content[tag].value or ()]
        except Exception as error:  # damaged bytes can make the parser fail in any way
            raise InputError(
                f"The DICOM sequence {tag:08X} is damaged.", next_step="Export the series again."
            ) from error

    def first(self, *tags: int) -> Dataset:
        """The first item of nested sequences, an empty dataset if one is absent."""
        dataset = self
        for tag in tags:
            items = dataset.items(tag)
            dataset = items[0] if items else Dataset()
        return dataset


@dataclass
class Header(Dataset):
    """A file's elements, transfer syntax and what pixels follow them."""

    path: Path = Path()
    transfer_syntax: str = ""
    pixels: str = ""  # "integer", "float", "double" or "" for a file without pixels
    photometric_offset: int = 0  # of the value of (0028,0004) in the file; 0 if the file is deflated


def read_header(path: Path) -> Header | None:
    """The header of a DICOM file, None if the file is something else.

    Raises:
        InputError: DICOM, but cut off or damaged; or the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return _parse(file, path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.", next_step="Check the permissions.") from error


def _parse(file: BinaryIO, path: Path) -> Header | None:
    start = file.read(140)
    has_preamble = start[128:132] == b"DICM"
    if len(start) < 140 or not (has_preamble or start[:2] in (b"\x02\x00", b"\x08\x00")):
        return None
    file.seek(0)
    try:
        header = _parse_file(file, path)
    except OSError:
        raise
    except Exception as error:  # damaged bytes can make the parser fail in any way
        if not has_preamble:
            return None
        raise InputError(
            f"The DICOM file '{path}' is cut off or damaged.", next_step="Copy or export it again."
        ) from error
    if not has_preamble and 0x00080016 not in header and 0x0020000D not in header:
        return None  # the first bytes looked like DICOM by chance
    return header


def _parse_file(file: BinaryIO, path: Path) -> Header:
    from pydicom.filereader import read_partial

    stop: list[tuple[int, int]] = []  # tag and, with the head, length of the element with the pixels

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in PIXELS:
            stop[:] = [(int(tag), length if length == UNDEFINED else length + (8 if vr is None else 12))]
            return True
        return False

    size = os.fstat(file.fileno()).st_size
    with _strict():
        content = read_partial(file, stop_when=at_pixels, specific_tags=TAGS, force=True)
        meta = content.file_meta
        # Preamble and the element with the length of the rest of the meta information take 144 bytes.
        end = 144 + int(meta.get("FileMetaInformationGroupLength") or 0) if content.preamble else 0
        if end > size or _cut_off(meta) or _cut_off(content):
            raise _MalformedError
        syntax = str(meta.get("TransferSyntaxUID", "")).strip("\0 ")
    header = Header(content, path=path, transfer_syntax=syntax, pixels=PIXELS[stop[0][0]] if stop else "")
    if syntax == _DEFLATED:
        return header
    if 0x00280004 in content:
        header.photometric_offset = getattr(content.get_item(0x00280004), "value_tell", 0)
    end = file.tell()  # at the head of the element with the pixels
    if stop and stop[0][1] != UNDEFINED:
        end += stop[0][1]
    if end > size:
        raise _MalformedError
    return header


def _cut_off(content: pydicom.Dataset) -> bool:
    """True if the value of an element is shorter than its length says."""
    for tag in content.keys():  # noqa: SIM118  # iterating over the dataset decodes every element
        element = content.get_item(tag)
        if isinstance(element.value, bytes) and len(element.value) < getattr(element, "length", 0) != UNDEFINED:
            return True
    return False


@contextmanager
def _strict() -> Iterator[None]:
    """pydicom warns of elements that end with the file and leaves them out; this makes an error of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".* in file ")
        yield
