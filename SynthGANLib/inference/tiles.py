"""Tiles out of a volume, and predicted tiles blended back into one.

The weight of a tile is a product of three one-dimensional profiles, and the tiles lie on a separable grid,
so the sum of all weights at a voxel is a product of three one-dimensional sums. The profiles are
divided by these sums beforehand: every voxel's weights then add up to one, and no volume of counts is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from SynthGANLib.errors import ModelError
from SynthGANLib.image.grid import reflected
from SynthGANLib.inference.plan import AxisTiles, Plan, Triple
from SynthGANLib.inference.progress import Reporter

Array = npt.NDArray[Any]
Forward = Callable[[Tensor], Tensor]
"""(B, C, z, y, x) on the CPU -> (B, C_out, z, y, x), anywhere; normalised units."""

PROFILE_WIDTH = 0.125
"""Standard deviation of the blending profile as a share of the tile's extent."""


def profile(extent: int) -> npt.NDArray[np.float64]:
    """Gaussian blending weights along an axis: `extent` values, symmetric, all above zero."""
    centre = (extent - 1) / 2.0
    distance = (np.arange(extent) - centre) / (PROFILE_WIDTH * extent)
    return np.asarray(np.exp(-0.5 * distance**2))


def axis_weights(axis: AxisTiles) -> list[npt.NDArray[np.float32]]:
    """One float32 profile of `axis.extent` values per tile; at each voxel the profiles add up to one."""
    single = profile(axis.extent)
    first = axis.starts[0]
    total = np.zeros(axis.starts[-1] + axis.extent - first)
    for start in axis.starts:
        total[start - first : start - first + axis.extent] += single
    sums = [total[start - first : start - first + axis.extent] for start in axis.starts]
    return [(single / own).astype(np.float32) for own in sums]


def crop(array: Array, start: Triple, extent: Triple, neighbours: int = 0) -> Array:
    """A tile of `extent` (z, y, x) voxels of `array` (z, y, x[, c]) from `start`; a view where possible.

    Outside the array it is mirrored. `neighbours` further slices on both sides along the first axis are
    taken with it; there the edge slice is repeated, as a neighbour seen twice from both sides would
    make a network believe that anatomy turns round.
    """
    if neighbours:
        wanted = np.arange(start[0] - neighbours, start[0] + extent[0] + neighbours)
        array = array[np.clip(wanted, 0, array.shape[0] - 1)]
        start = (0, start[1], start[2])
        extent = (len(wanted), extent[1], extent[2])
    spans = list(zip(start, extent, array.shape, strict=False))
    outside = [axis for axis, (first, size, length) in enumerate(spans) if first < 0 or first + size > length]
    tile = array[
        tuple(slice(None) if axis in outside else slice(span[0], span[0] + span[1]) for axis, span in enumerate(spans))
    ]
    for axis in outside:
        tile = np.take(tile, reflected(start[axis], extent[axis], array.shape[axis]), axis=axis)
    return tile


@dataclass(frozen=True)
class Tile:
    """One tile of a plan: where it begins, the part of the volume it covers, and its weights there."""

    start: Triple
    extent: Triple
    window: tuple[slice, slice, slice]
    inside: tuple[slice, slice, slice]
    weights: tuple[Array, Array, Array]

    def weight(self) -> Tensor:
        """The blending weights (z, y, x) over `window`, float32."""
        z, y, x = (torch.from_numpy(profile) for profile in self.weights)
        return z[:, None, None] * (y[:, None] * x)  # (z,1,1) * (y,x) -> (z,y,x)


def tiles_of(plan: Plan) -> Iterable[Tile]:
    """Every tile of the plan, x fastest."""
    profiles = [axis_weights(axis) for axis in plan.axes]
    for place in plan.places():
        starts, windows, insides, weights = [], [], [], []
        for axis, index, profile_list in zip(plan.axes, place, profiles, strict=True):
            start = axis.starts[index]
            low, high = max(0, start), min(axis.length, start + axis.extent)
            starts.append(start)
            windows.append(slice(low, high))
            insides.append(slice(low - start, high - start))
            weights.append(profile_list[index][low - start : high - start])
        yield Tile(
            (starts[0], starts[1], starts[2]),
            plan.tile,
            (windows[0], windows[1], windows[2]),
            (insides[0], insides[1], insides[2]),
            (weights[0], weights[1], weights[2]),
        )


@dataclass(frozen=True)
class Task:
    """What is predicted from what.

    `source`: (z, y, x) or (z, y, x, C) in the input's unit; only ever read.
    `prepare`: turns a crop of it into float32 network input, value by value.
    `mask`: (z, y, x) booleans, tiles without any are not computed; None computes all.
    `background`: value, in the network's units, of what is not computed.
    `channels`: of the network's output. `neighbours`: slices on each side that the network sees.
    """

    source: Array
    prepare: Callable[[Array], Array]
    mask: Array | None
    background: float
    channels: int
    neighbours: int = 0


def predict_tiles(
    task: Task,
    plan: Plan,
    forward: Forward,
    out: npt.NDArray[np.float32],
    reporter: Reporter,
    advance: Callable[[float], None],
) -> int:
    """Predict every tile of `plan` and blend them into `out` (channels, z, y, x), which is overwritten.

    Returns the number of tiles computed. `advance` is told the share done after each batch; `reporter`
    is asked for cancel before each tile.

    Raises:
        CancelledError: between two tiles.
        ModelError: the network's output has another shape, or is not finite.
        Whatever `forward` raises.
    """
    if any(axis.covered != (0, axis.length) for axis in plan.axes):
        out[...] = task.background
    out[(slice(None), *(slice(*axis.covered) for axis in plan.axes))] = 0.0
    blended = torch.from_numpy(out)
    busy: list[Tile] = []
    for tile in tiles_of(plan):
        if task.mask is None or task.mask[tile.window].any():
            busy.append(tile)
        elif task.background != 0.0:
            blended[(slice(None), *tile.window)].add_(tile.weight(), alpha=task.background)
    extent = (plan.tile[0] + 2 * task.neighbours, plan.tile[1], plan.tile[2])
    colours = task.source.shape[3] if task.source.ndim == 4 else 1
    # One buffer for all batches: the network gets a copy of the crop, never the caller's volume.
    buffer = torch.empty((min(plan.batch, max(1, len(busy))), colours, *extent), dtype=torch.float32)
    with torch.inference_mode():
        for first in range(0, len(busy), plan.batch):
            group = busy[first : first + plan.batch]
            for slot, tile in enumerate(group):
                reporter.poll()
                _fill(buffer[slot], task, tile)
            _blend(blended, group, _checked(forward(buffer[: len(group)]), task, plan, len(group)))
            advance((first + len(group)) / len(busy))
    return len(busy)


def _fill(slot: Tensor, task: Task, tile: Tile) -> None:
    """Write the prepared crop of a tile into its place (C, z, y, x) of the batch."""
    values = task.prepare(crop(task.source, tile.start, tile.extent, task.neighbours))
    # (z, y, x, C) or (z, y, x) -> (C, z, y, x)
    slot.numpy()[...] = np.moveaxis(values, -1, 0) if values.ndim == 4 else values[None]


def _blend(blended: Tensor, group: list[Tile], predicted: Tensor) -> None:
    """Add each prediction times its weight; `predicted` (B, C, z, y, x) is only read."""
    for tile, values in zip(group, predicted, strict=True):
        view = blended[(slice(None), *tile.window)]
        view.addcmul_(values[(slice(None), *tile.inside)], tile.weight())


def _checked(predicted: Tensor, task: Task, plan: Plan, count: int) -> Tensor:
    wanted = (count, task.channels, *plan.tile)
    if tuple(predicted.shape) != wanted:
        raise ModelError(
            f"The network returned a tensor of shape {tuple(predicted.shape)}, and the model card promises {wanted}.",
            next_step="Report this to the author of the model.",
        )
    predicted = predicted.to(device="cpu", dtype=torch.float32)
    # A sum is one pass without copies and shows every NaN and infinity; only if it does not end well is each
    # value looked at, as large values alone may also overflow it.
    if not math.isfinite(float(predicted.sum())) and not bool(torch.isfinite(predicted).all()):
        raise ModelError(
            "The network returned values that are not finite (NaN or infinity).",
            next_step="Check the input's intensities, or report this to the author of the model.",
        )
    return predicted
