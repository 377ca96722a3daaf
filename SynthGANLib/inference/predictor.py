"""A network over a whole volume: plan, run, and step down when memory runs out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from SynthGANLib.errors import MemoryExhaustedError, ModelError
from SynthGANLib.image.grid import stack_axes
from SynthGANLib.inference.convolutions import FastConvolutions
from SynthGANLib.inference.memory import (
    free_bytes,
    in_mib,
    is_out_of_memory,
    measure_bytes_per_voxel,
    release,
    tile_budget,
)
from SynthGANLib.inference.plan import FP32, LARGEST_BATCH, Plan, Region, plan_tiles, smallest_tile, tile_rules
from SynthGANLib.inference.precision import compute
from SynthGANLib.inference.progress import Reporter
from SynthGANLib.inference.slices import FUSIONS, as_slice_batch, as_stack
from SynthGANLib.inference.tiles import Array, Task, predict_tiles
from SynthGANLib.model.card import SpatialSpec

PROBE_EXTENT = 16
"""Voxels along each axis of the input that the network's memory is measured with."""


@dataclass
class _Ladder:
    """How far the run has stepped down so far; later planes of the same volume start from here."""

    device: torch.device
    largest_batch: int
    precision: str
    most_bytes: int | None = None


class Predictor:
    """Runs a network over volumes. Use it as a context: it gives the network back as it was, where it was.

    `network` takes (B, C, z, y, x), or (B, C * (2 * neighbours + 1), y, x) for a two-dimensional model; it is
    called in evaluation mode without gradients. `memory` limits in bytes what a prediction takes on the
    device: the result and the tiles on the CPU, the weights and the tiles on a GPU. `precision` is that of the
    first `device`; a run that has to go on on the CPU goes on in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        spatial: SpatialSpec,
        *,
        channels: tuple[int, int],
        device: torch.device,
        reporter: Reporter,
        memory: int | None = None,
        precision: str = FP32,
    ) -> None:
        self.plans: list[Plan] = []
        self.tiles = 0
        self._network = network
        self._spatial = spatial
        self._channels = channels
        self._reporter = reporter
        self._memory = memory
        self._ladder = _Ladder(device, _largest_batch(device, spatial.dims), precision)
        self._bytes_per_voxel: float | None = None
        first = next(itertools.chain(network.parameters(), network.buffers()), None)
        self._home = first.device if first is not None else torch.device("cpu")
        self._training = network.training

    @property
    def device(self) -> torch.device:
        """Where the network runs now; the CPU after a GPU's memory ran out."""
        return self._ladder.device

    def __enter__(self) -> Predictor:
        self._network.eval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._network.to(self._home)
        self._network.train(self._training)

    def predict(self, task: Task) -> npt.NDArray[np.float32]:
        """Predict `task.source` (z, y, x[, C]); returns (channels, z, y, x) in the network's units.

        Raises:
            CancelledError, ModelError: as in `predict_tiles`.
            MemoryExhaustedError: after smaller batches, smaller tiles and the CPU.
        """
        spatial = self._spatial
        shape = task.source.shape[:3]
        if spatial.dims == 3:
            out = np.empty((task.channels, *shape), dtype=np.float32)
            self._run(task, out, (0.0, 1.0), arrays=1)
            return out
        axes = stack_axes(spatial.axis or "axial", spatial.orientation)
        results = []
        for number, axis in enumerate(axes):
            out = np.empty((task.channels, *shape), dtype=np.float32)
            stack = replace(
                task,
                source=as_stack(task.source, axis),
                mask=None if task.mask is None else as_stack(task.mask, axis),
                neighbours=spatial.neighbours,
            )
            # (C, z, y, x) -> (C, slice, row, column): a view, so the result is written in place.
            share = (number / len(axes), (number + 1) / len(axes))
            self._run(stack, _stacked(out, axis), share, arrays=len(axes))
            results.append(out)
        return results[0] if len(results) == 1 else FUSIONS[spatial.fuse](results)

    def _run(self, task: Task, out: npt.NDArray[np.float32], share: tuple[float, float], *, arrays: int) -> None:
        """One pass over one stack or volume, repeated with less until it fits."""
        low, high = share

        def advance(done: float) -> None:
            self._reporter.advance(low + done * (high - low))

        while True:
            plan = self._plan(task, arrays * out.nbytes)
            try:
                self._network.to(self.device)
                self.tiles += predict_tiles(task, plan, self._forward, out, self._reporter, advance)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                self.plans.append(plan)
                return
            # Outside the handler: the error's traceback held the tensors that have to go.
            release(self.device)
            self._step_down(plan)
            self._reporter.restart(low)

    def _forward(self, tiles: Tensor) -> Tensor:
        network = self._network if self._spatial.dims == 3 else as_slice_batch(self._network)
        with FastConvolutions():
            return compute(network, tiles.to(self.device), self._ladder.precision)

    def _plan(self, task: Task, reserved_on_cpu: int) -> Plan:
        """The plan for the device, or for the CPU where a GPU has no room for even the smallest tile."""
        try:
            return self._plan_here(task, reserved_on_cpu)
        except MemoryExhaustedError as error:
            if self.device.type == "cpu" or self._memory is not None:
                raise
            self._move_to_cpu(str(error).rstrip("."))
        return self._plan_here(task, reserved_on_cpu)

    def _plan_here(self, task: Task, reserved_on_cpu: int) -> Plan:
        rules = tile_rules(self._spatial)
        shape = task.source.shape[:3]
        region = _region(task.mask, shape, self._spatial.margin)
        sizes = [high - low for low, high in region]
        cost = self._cost(smallest_tile(sizes, rules), task.neighbours)
        budget = self._ladder.most_bytes
        if budget is None:
            budget = tile_budget(
                self.device,
                asked=self._memory,
                reserved=reserved_on_cpu if self.device.type == "cpu" else self._weights_bytes(),
                smallest=math.ceil(math.prod(smallest_tile(sizes, rules)) * cost),
            )
        return plan_tiles(
            shape,
            rules,
            bytes_per_voxel=cost,
            budget=budget,
            region=region,
            largest_batch=self._ladder.largest_batch,
            device=str(self.device),
            precision=self._ladder.precision,
        )

    def _cost(self, tile: tuple[int, int, int], neighbours: int) -> float:
        """Bytes per voxel, measured once: on a small input, or on a `tile` where the network needs that."""
        if self._bytes_per_voxel is None:
            colours = self._channels[0] * (2 * neighbours + 1)
            multiple = self._spatial.multiple
            # Two voxels at the coarsest level, as statistics over a single one do not exist.
            small = max(2, -(-PROBE_EXTENT // multiple)) * multiple
            unused = 3 - self._spatial.dims
            probe, whole = ([min(small, extent) for extent in tile[unused:]], tile[unused:])
            try:
                cost = measure_bytes_per_voxel(self._network, (1, colours, *probe))
            except ModelError:
                cost = measure_bytes_per_voxel(self._network, (1, colours, *whole))
            self._bytes_per_voxel = cost
        return self._bytes_per_voxel

    def _weights_bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self._network.state_dict().values())

    def _step_down(self, plan: Plan) -> None:
        """Smaller batch, else smaller tiles, else the CPU; each is told to the user."""
        ladder = self._ladder
        where = f"Memory ran out on {self.device} with {plan.batch} x {_extents(plan.tile)} voxels"
        smaller = None if plan.batch > 1 else self._smaller(plan)
        if plan.batch > 1:
            ladder.largest_batch = plan.batch // 2
            fewer = "one tile" if ladder.largest_batch == 1 else f"{ladder.largest_batch} tiles"
            self._reporter.remark("memory", f"{where}; going on with {fewer} at a time.")
        elif smaller is not None:
            ladder.most_bytes = smaller.tile_bytes
            self._reporter.remark("memory", f"{where}; going on with {_extents(smaller.tile)}.")
        elif self.device.type != "cpu":
            self._move_to_cpu(f"{where}, the smallest the model allows")
        else:
            free = free_bytes(self.device)
            known = "" if free is None else f" ({in_mib(free)} MiB are free)"
            raise MemoryExhaustedError(
                f"{where}, the smallest the model allows{known}.",
                next_step="Close other programs, crop the volume or choose a smaller model.",
            )

    def _move_to_cpu(self, reason: str) -> None:
        cpu = torch.device("cpu")
        self._ladder = _Ladder(cpu, _largest_batch(cpu, self._spatial.dims), FP32)
        self._reporter.remark("memory", f"{reason}; going on more slowly on the CPU.")

    def _smaller(self, plan: Plan) -> Plan | None:
        """The same volume in tiles of half the size, or the smallest; None where it has those already."""
        rules = tile_rules(self._spatial)
        smallest = math.prod(smallest_tile([high - low for low, high in plan.region], rules))
        voxels = math.prod(plan.tile)
        if smallest >= voxels:
            return None
        return plan_tiles(
            plan.shape,
            rules,
            bytes_per_voxel=plan.bytes_per_voxel,
            budget=math.ceil(max(voxels // 2, smallest) * plan.bytes_per_voxel),
            region=plan.region,
        )


def _largest_batch(device: torch.device, dims: int) -> int:
    return LARGEST_BATCH["cpu" if device.type == "cpu" else "gpu", dims]


def _region(mask: Array | None, shape: Sequence[int], margin: int) -> Region:
    """Box around the mask with `margin` voxels, within the volume; all of it where nothing is marked."""
    whole = ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    if mask is None:
        return whole
    region = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if used.size == 0:
            return whole
        region.append((max(0, int(used[0]) - margin), min(shape[axis], int(used[-1]) + 1 + margin)))
    return region[0], region[1], region[2]


def _stacked(out: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    """(C, z, y, x) seen as (C, slice, row, column)."""
    return np.moveaxis(as_stack(np.moveaxis(out, 0, -1), axis), -1, 0)


def _extents(tile: tuple[int, int, int]) -> str:
    return " x ".join(str(extent) for extent in tile)
