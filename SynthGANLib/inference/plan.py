"""Which tiles a volume is cut into: extents, places, batch and precision for the memory at hand.

The tiles lie on a grid that is separable over the three axes. Along an axis they are spaced evenly
(the idea of nnU-Net, Isensee et al. 2021): the last tile ends where the volume ends, so no window is
pushed back onto its neighbour and computed twice. The extent along each axis is free within what the
model card allows; the planner takes the combination that computes the fewest voxels within the budget.

Nothing here needs torch, so that a run can be estimated without loading it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from SynthGANLib.errors import MemoryExhaustedError, ModelError
from SynthGANLib.model.card_specs import SpatialSpec

Triple = tuple[int, int, int]
Region = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

NEGLIGIBLE = 0.03
"""Plans within this share of the fewest computed voxels count as equal; the one with most context wins."""

MOST_COMBINATIONS = 500_000
"""Tile shapes that are compared one by one. A card without a multiple would allow a hundred million for a large
volume; then along each axis only the extents are compared that save a tile."""

FP32, FP16 = "fp32", "fp16"
"""Precisions of a prediction. Values are physical, so the second is for models whose card allows it."""

MIB = 1024.0**2

COMFORT_ON_CPU = 3 * 2**28
"""Memory in bytes that a batch takes on the CPU unless more is asked for or needed.

A constant, not a share of what is free: the same volume is then cut into the same tiles on every machine
and in every door (panel, command line), so results agree. Larger tiles gain little beyond this.
"""

LARGEST_BATCH = {("cpu", 3): 1, ("cpu", 2): 8, ("gpu", 3): 4, ("gpu", 2): 32}
"""Most tiles at a time by device and dimensions. On the CPU a volume's tile keeps all cores busy alone, while
slices in a batch share the rearrangement of the weights."""


@dataclass(frozen=True)
class TileRules:
    """The tile shapes that a model may be given, in voxels as (z, y, x).

    `multiple`: each extent is divisible by it. `smallest` and `largest` bound the extents.
    `fixed`: only `largest` is allowed. `overlap`: least share (0 to 0.9) of an extent that two
    neighbouring tiles have in common, per axis.

    Raises:
        ModelError: the rules contradict themselves.
    """

    multiple: Triple
    smallest: Triple
    largest: Triple
    fixed: bool = False
    overlap: tuple[float, float, float] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        for axis, name in enumerate("zyx"):
            multiple, low, high = self.multiple[axis], self.smallest[axis], self.largest[axis]
            if multiple < 1 or not 1 <= low <= high or high // multiple * multiple < low:
                raise ModelError(
                    f"The card allows no tile extent along {name}: {low} to {high} in steps of {multiple}.",
                    next_step="Correct tile_min, tile_max and multiple in the model card.",
                )
            if not 0.0 <= self.overlap[axis] <= 0.9:
                raise ModelError(
                    f"The tile overlap along {name} is {self.overlap[axis]}, which is not within 0 to 0.9.",
                    next_step="Correct overlap in the model card.",
                )

    def extents(self, axis: int, length: int) -> list[int]:
        """Extents worth trying along an axis on which `length` voxels have to be covered, ascending."""
        multiple = self.multiple[axis]
        high = self.largest[axis] // multiple * multiple
        if self.fixed:
            return [high]
        low = -(-self.smallest[axis] // multiple) * multiple
        # An extent beyond the volume only computes padding, so the shortest covering one is the last.
        high = min(high, max(low, -(-length // multiple) * multiple))
        return list(range(low, high + 1, multiple))


def tile_rules(spatial: SpatialSpec) -> TileRules:
    """The tile shapes that a model card allows; a two-dimensional model has tiles one voxel thick."""
    if spatial.dims == 3:
        return TileRules(
            (spatial.multiple,) * 3,
            spatial.tile_min,
            spatial.tile_max,
            spatial.tile_fixed,
            (spatial.overlap,) * 3,
        )
    return TileRules(
        (1, spatial.multiple, spatial.multiple),
        (1, *spatial.tile_min[1:]),
        (1, *spatial.tile_max[1:]),
        spatial.tile_fixed,
        (0.0, spatial.overlap, spatial.overlap),
    )


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one axis of a volume with `length` voxels: all `extent` long, beginning at `starts`.

    A start may be negative and an end may lie beyond `length` where the volume is shorter than a tile:
    the crop is padded there.
    """

    length: int
    extent: int
    starts: tuple[int, ...]

    @property
    def covered(self) -> tuple[int, int]:
        """First voxel covered and one after the last, within the volume."""
        return max(0, self.starts[0]), min(self.length, self.starts[-1] + self.extent)

    @property
    def computed(self) -> int:
        """Voxels computed along this axis, overlaps and padding included."""
        return len(self.starts) * self.extent


def stride(extent: int, overlap: float) -> int:
    """Longest step between two tiles that keeps `overlap` of their extent in common (at least 1 voxel)."""
    return max(1, extent - math.ceil(extent * overlap - 1e-9))


def count_tiles(region: int, extent: int, overlap: float) -> int:
    """Tiles of `extent` needed to cover `region` voxels with at least `overlap`."""
    return 1 if extent >= region else -(-(region - extent) // stride(extent, overlap)) + 1


def place_tiles(length: int, region: tuple[int, int], extent: int, overlap: float) -> AxisTiles:
    """Evenly spaced tiles that cover `region` (first, one after last) of an axis of `length` voxels."""
    low, high = region
    size = high - low
    if extent >= length:
        return AxisTiles(length, extent, (-((extent - length) // 2),))
    if extent >= size:
        # Real neighbours are better context than padding, so the tile is moved inside the volume.
        start = low - (extent - size) // 2
        return AxisTiles(length, extent, (min(max(start, 0), length - extent),))
    count = count_tiles(size, extent, overlap)
    starts = tuple(low + index * (size - extent) // (count - 1) for index in range(count))
    return AxisTiles(length, extent, starts)


@dataclass(frozen=True)
class Plan:
    """How a volume is predicted. Made by `plan_tiles`; `explain()` says why in one sentence."""

    axes: tuple[AxisTiles, AxisTiles, AxisTiles]
    batch: int
    device: str
    bytes_per_voxel: float
    budget: int
    overlap: tuple[float, float, float]
    region: Region
    precision: str = FP32

    @property
    def tile(self) -> Triple:
        """Tile extents (z, y, x) in voxels."""
        return self.axes[0].extent, self.axes[1].extent, self.axes[2].extent

    @property
    def shape(self) -> Triple:
        """Extents (z, y, x) of the volume in voxels."""
        return self.axes[0].length, self.axes[1].length, self.axes[2].length

    @property
    def count(self) -> int:
        """Number of tiles, those without body included."""
        return math.prod(len(axis.starts) for axis in self.axes)

    @property
    def computed(self) -> int:
        """Voxels that all tiles together compute."""
        return math.prod(axis.computed for axis in self.axes)

    @property
    def redundancy(self) -> float:
        """Computed voxels per voxel that had to be computed."""
        return self.computed / math.prod(high - low for low, high in self.region)

    @property
    def tile_bytes(self) -> int:
        """Memory one batch is expected to take, in bytes."""
        return round(self.batch * math.prod(self.tile) * self.bytes_per_voxel)

    def places(self) -> Iterator[Triple]:
        """Position of every tile in the grid, as (z, y, x) indices into `axes[...].starts`."""
        z, y, x = (range(len(axis.starts)) for axis in self.axes)
        return itertools.product(z, y, x)

    def explain(self) -> str:
        """One sentence for the user: the tiles, the price of their overlap, the memory."""
        tile = " x ".join(str(extent) for extent in self.tile)
        tiles = "1 tile" if self.count == 1 else f"{self.count} tiles"
        if self.count > 1:
            shared = f"at least {100 * max(self.overlap):.0f} % overlap, "
        else:
            shared = ""
        return (
            f"{tiles} of {tile} voxels (z, y, x; {shared}{self.redundancy:.2f} voxels computed per voxel "
            f"wanted), {self.batch} at a time in {self.precision} on {self.device}, "
            f"expected to take {self.tile_bytes / MIB:.0f} MiB of the {self.budget / MIB:.0f} MiB allowed."
        )


def plan_tiles(
    shape: Sequence[int],
    rules: TileRules,
    *,
    bytes_per_voxel: float,
    budget: int,
    region: Region | None = None,
    largest_batch: int = 1,
    device: str = "cpu",
    precision: str = FP32,
) -> Plan:
    """Plan the tiles of a volume of `shape` (z, y, x) voxels.

    `region` is the box ((first, one after last) per axis) that has to be predicted, the whole volume
    when None. `bytes_per_voxel` is the memory one voxel of a tile takes while the network runs,
    `budget` the memory in bytes that one batch may take. `precision` is told, not chosen here; in float16 the
    memory, which is that of float32, is an upper bound.

    Raises:
        MemoryExhaustedError: even the smallest tile allowed does not fit the budget.
    """
    z, y, x = (int(length) for length in shape)
    box = region or ((0, z), (0, y), (0, x))
    sizes = [high - low for low, high in box]
    tile = _cheapest_tile(sizes, rules, budget / bytes_per_voxel)
    if tile is None:
        smallest = smallest_tile(sizes, rules)
        raise MemoryExhaustedError(
            f"The smallest tile of this model, {smallest[0]} x {smallest[1]} x {smallest[2]} voxels, takes "
            f"about {math.prod(smallest) * bytes_per_voxel / MIB:.0f} MiB on {device}, more than the "
            f"{budget / MIB:.0f} MiB allowed.",
            next_step="Allow more memory, close other programs or choose a smaller model.",
        )
    axes = [place_tiles((z, y, x)[i], box[i], tile[i], rules.overlap[i]) for i in range(3)]
    plan = Plan(
        axes=(axes[0], axes[1], axes[2]),
        batch=1,
        device=device,
        bytes_per_voxel=bytes_per_voxel,
        budget=int(budget),
        overlap=rules.overlap,
        region=box,
        precision=precision,
    )
    fitting = int(budget // max(1, plan.tile_bytes))
    return replace(plan, batch=max(1, min(fitting, largest_batch, plan.count)))


def smallest_tile(sizes: Sequence[int], rules: TileRules) -> Triple:
    """The smallest tile that the rules allow for a region of `sizes` (z, y, x) voxels."""
    first = [rules.extents(axis, sizes[axis])[0] for axis in range(3)]
    return first[0], first[1], first[2]


def _cheapest_tile(sizes: Sequence[int], rules: TileRules, most_voxels: float) -> Triple | None:
    """Tile with the fewest computed voxels among those of at most `most_voxels`; None where none fits."""
    extents: list[np.ndarray] = []
    computed: list[np.ndarray] = []
    choices = [rules.extents(axis, sizes[axis]) for axis in range(3)]
    if math.prod(map(len, choices)) > MOST_COMBINATIONS:
        choices = [_shortest(choices[axis], sizes[axis], rules.overlap[axis]) for axis in range(3)]
    for axis, choice in enumerate(choices):
        extents.append(np.array(choice, dtype=np.float64))
        counts = [count_tiles(sizes[axis], extent, rules.overlap[axis]) for extent in choice]
        computed.append(extents[axis] * counts)
    # (Nz,1,1) * (Ny,1) * (Nx,) -> (Nz,Ny,Nx): every combination at once.
    voxels = extents[0][:, None, None] * extents[1][:, None] * extents[2]
    cost = computed[0][:, None, None] * computed[1][:, None] * computed[2]
    cost = np.where(voxels <= most_voxels, cost, np.inf)
    best = cost.min()
    if not np.isfinite(best):
        return None
    z, y, x = np.nonzero(cost <= best * (1.0 + NEGLIGIBLE))
    tiles = np.stack([extents[0][z], extents[1][y], extents[2][x]])  # (3, candidates)
    # Most context along the shortest side, then least memory, then the longest rows.
    first = np.lexsort((-tiles[2], tiles.prod(axis=0), -tiles.min(axis=0)))[0]
    return int(tiles[0, first]), int(tiles[1, first]), int(tiles[2, first])


def _shortest(extents: Sequence[int], size: int, overlap: float) -> list[int]:
    """Of ascending `extents` that need equally many tiles the shortest, which computes least in the least memory."""
    counts: dict[int, int] = {}
    for extent in extents:
        counts.setdefault(count_tiles(size, extent, overlap), extent)
    return list(counts.values())
