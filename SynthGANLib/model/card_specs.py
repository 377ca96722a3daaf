"""The parts of a model card; each checks itself and names a wrong field by its dotted path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from SynthGANLib.image.volume import UNITS
from SynthGANLib.model.card_checks import (
    check_arguments,
    check_choice,
    check_flag,
    check_line,
    check_numbers,
    check_pattern,
    check_texts,
    check_whole,
    check_wholes,
    number,
    refuse,
)

AXES = ("axial", "coronal", "sagittal", "all")
STORAGE = ("float32", "float16", "bfloat16")
WEIGHTS = "weights.safetensors"
VECTOR = "vector.safetensors"
README = "README.md"
CARD = "model.json"

_MODALITY = re.compile(r"[A-Z][A-Z0-9]{1,15}")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SourceSpec:
    """What goes in: modality code (``MR``, ``CT``, ``PT``, ...), pulse sequences in words, unit, channels."""

    modality: str
    unit: str
    sequences: tuple[str, ...] = ()
    channels: int = 1

    def __post_init__(self) -> None:
        check_pattern(self.modality, _MODALITY, "source.modality", "a code in capitals such as MR, CT or PT")
        check_choice(self.unit, UNITS, "source.unit")
        check_texts(self, "sequences", "source.sequences", 64)
        check_whole(self.channels, "source.channels", 1, 64)
        _check_colour(self.unit, self.channels, "source")


@dataclass(frozen=True)
class TargetSpec:
    """What comes out: modality, unit, channels, the background value and the range the values are clipped to.

    ``display`` names a display preset of the viewer ("" for none), e.g. ``CT-Bone``.
    """

    modality: str
    unit: str
    background: float
    range: tuple[float, float]
    channels: int = 1
    display: str = ""

    def __post_init__(self) -> None:
        check_pattern(self.modality, _MODALITY, "target.modality", "a code in capitals such as MR, CT or PT")
        check_choice(self.unit, UNITS, "target.unit")
        check_whole(self.channels, "target.channels", 1, 64)
        check_line(self.display, "target.display", 64)
        check_numbers(self, "range", "target.range", 2, "two numbers (low, high)")
        low, high = self.range
        if low >= high:
            refuse("target.range", "two numbers with low < high", list(self.range))
        number(self, "background", "target.background", low, high)
        _check_colour(self.unit, self.channels, "target")


@dataclass(frozen=True)
class MethodSpec:
    """How: ``kind`` "network" (a ``name`` in SynthGANLib.networks) or "classical" (SynthGANLib.classical).

    ``arguments`` are the constructor's (or the method's) keyword arguments: plain JSON scalars and lists.
    ``storage`` is the precision the weights are stored in; they are computed with in float32.
    """

    kind: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    storage: str = "float32"

    def __post_init__(self) -> None:
        check_choice(self.kind, ("network", "classical"), "method.kind")
        check_pattern(self.name, _IDENTIFIER, "method.name", "a name of letters, digits and underscores")
        check_choice(self.storage, STORAGE, "method.storage")
        check_arguments(self, "arguments", "method.arguments")


@dataclass(frozen=True)
class SpatialSpec:
    """The grid the model works on and the tiles it takes.

    Attributes:
        dims: 3 (volumes) or 2 (slices).
        orientation: letters the i, j, k axes increase towards, e.g. "LPS".
        spacing: mm along (x, y, z) of that orientation; None keeps the input's own spacing on that axis.
        axis: 2D only: the plane of the slices, or "all": predicted in all three planes and fused by ``fuse``.
        fuse: "median" or "mean"; used for axis "all" only.
        neighbours: 2D only: slices on each side given as further channels (2.5D).
        multiple: extents of a tile (3D) or slice (2D) are divisible by this.
        tile_min, tile_max: allowed tile extents (z, y, x); for 2D (1, rows, columns) of a slice.
        tile_fixed: True: ``tile_max`` is the only extent allowed (and ``tile_min`` equals it).
        overlap: part of a tile shared with its neighbour, 0 to 0.9.
        margin: voxels of context kept around the body when the volume is cropped to it.
    """

    dims: int
    tile_min: tuple[int, int, int]
    tile_max: tuple[int, int, int]
    orientation: str = "LPS"
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    axis: str | None = None
    fuse: str = "median"
    neighbours: int = 0
    multiple: int = 1
    tile_fixed: bool = False
    overlap: float = 0.25
    margin: int = 0

    def __post_init__(self) -> None:
        if self.dims not in (2, 3) or isinstance(self.dims, bool):
            refuse("spatial.dims", "2 or 3", self.dims)
        _check_orientation(self.orientation)
        check_numbers(self, "spacing", "spatial.spacing", 3, "three numbers (x, y, z) in mm or null", (0.01, 100.0))
        check_choice(self.fuse, ("median", "mean"), "spatial.fuse")
        check_flag(self.tile_fixed, "spatial.tile_fixed")
        check_whole(self.multiple, "spatial.multiple", 1, 1024)
        check_whole(self.margin, "spatial.margin", 0, 1024)
        number(self, "overlap", "spatial.overlap", 0.0, 0.9)
        self._check_axis()
        self._check_tiles()

    def _check_axis(self) -> None:
        check_whole(self.neighbours, "spatial.neighbours", 0, 16)
        if self.dims == 2:
            check_choice(self.axis, AXES, "spatial.axis")
        elif self.axis is not None:
            refuse("spatial.axis", "null for a 3D model", self.axis)
        elif self.neighbours:
            refuse("spatial.neighbours", "0 for a 3D model", self.neighbours)

    def _check_tiles(self) -> None:
        for name in ("tile_min", "tile_max"):
            check_wholes(self, name, f"spatial.{name}", 3, "three whole numbers (z, y, x)", 1, 4096)
            extents: tuple[int, ...] = getattr(self, name)
            if self.dims == 2 and extents[0] != 1:
                refuse(f"spatial.{name}", "(1, rows, columns) for a 2D model", list(extents))
            free = extents[1:] if self.dims == 2 else extents
            if any(extent % self.multiple for extent in free):
                refuse(f"spatial.{name}", f"divisible by spatial.multiple = {self.multiple}", list(extents))
        if any(low > high for low, high in zip(self.tile_min, self.tile_max, strict=True)):
            refuse("spatial.tile_min", f"at most spatial.tile_max = {list(self.tile_max)}", list(self.tile_min))
        if self.tile_fixed and self.tile_min != self.tile_max:
            refuse("spatial.tile_min", "equal to spatial.tile_max where tile_fixed is true", list(self.tile_min))


@dataclass(frozen=True)
class VectorSpec:
    """The test vector: the largest absolute difference allowed, in the network's normalised units.

    `tolerance_float16` is that of a computation in float16, which a CUDA device may then use; None forbids it.
    """

    tolerance: float
    tolerance_float16: float | None = None

    def __post_init__(self) -> None:
        number(self, "tolerance", "vector.tolerance", 0.0, 1.0)
        if self.tolerance_float16 is not None:
            number(self, "tolerance_float16", "vector.tolerance_float16", 0.0, 1.0)


@dataclass(frozen=True)
class FileSpec:
    """SHA-256 (64 lower-case hexadecimal digits) and size in bytes of one file of the folder."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        check_pattern(self.sha256, SHA256, "files.sha256", "64 lower-case hexadecimal digits")
        check_whole(self.bytes, "files.bytes", 0, 2**40)


def _check_orientation(letters: Any) -> None:
    pairs = ({"L", "R"}, {"A", "P"}, {"S", "I"})
    if not isinstance(letters, str) or len(letters) != 3 or any(len(pair & set(letters)) != 1 for pair in pairs):
        refuse("spatial.orientation", "three letters, one of each pair L/R, A/P, S/I, such as LPS", letters)


def _check_colour(unit: str, channels: int, where: str) -> None:
    if unit == "RGB" and channels != 3:
        refuse(f"{where}.channels", "3 for unit RGB", channels)
