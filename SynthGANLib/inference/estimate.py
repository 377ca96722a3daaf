"""How long a synthesis will take and how much memory, told before its start from the runs that this machine has done.

The child process records every run that succeeds: sizes, seconds, memory, no image and no name of a file. Nothing here
needs torch, so that the panel can ask at every change of a choice.

Time: what loading the model took, and one rate for each voxel that the network computes, tiles' overlaps included; both
are medians of the earlier runs. Memory on the CPU: the arrays that exist together, plus what earlier runs
took beyond them.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from SynthGANLib.decoding import Count, Origin, Range, decode
from SynthGANLib.errors import InputError
from SynthGANLib.image.geometry import conformed_grid
from SynthGANLib.image.grid import Grid, stack_axes
from SynthGANLib.inference.plan import COMFORT_ON_CPU, LARGEST_BATCH, plan_tiles, tile_rules
from SynthGANLib.model.card import Card
from SynthGANLib.model.catalogue import data_folder
from SynthGANLib.strict_json import JsonError, parse_json

FILE = "measured_runs.json"
VERSION = 1
KEPT = 5
"""Runs remembered for one model on one device; the newest replace the oldest."""
MOST = 300
"""Runs remembered in all."""

BASE_ON_CPU = 400 * 2**20
"""Bytes of the process with torch and a model, before anything was measured."""

METHOD_BYTES = 50
"""Bytes that a classical method takes per voxel beside the images, as measured for the one by tissue classes."""


Seconds = Annotated[float, Range(0)]


@dataclass(frozen=True)
class Run:
    """One synthesis that was done here.

    Attributes:
        model: the digest of the weights, or id and version of a method without any. machine: see `this_machine`.
        device: what it ran on. asked: the device that was asked for, for example "auto". threads: of the CPU.
        date: day, ISO 8601.
        source, conformed: extents (z, y, x) of the volume and of what the model was given.
        computed: voxels that the network computes for the whole volume, overlaps included.
        start, seconds: time in seconds to load the model, and of the whole run.
        tile_cost: bytes that a voxel of a tile takes, None for a method. budget: bytes that a batch may take.
        peak: largest memory in bytes, None where the system does not tell.
    """

    model: str
    machine: str
    device: str
    asked: str
    threads: Count
    date: str
    source: tuple[Count, Count, Count]
    conformed: tuple[Count, Count, Count]
    computed: Count
    start: Seconds
    seconds: Seconds
    tile_cost: Seconds | None = None
    budget: int | None = None
    peak: int | None = None


@dataclass(frozen=True)
class Estimate:
    """What a synthesis is expected to take.

    Attributes:
        seconds: None before the model has run here on that device.
        bytes: memory of the process on the CPU, of the device on a GPU; None where nothing can be said.
        tiles: how many, all of them with something in it; None before the model has run here, 0 for a method.
        basis: "measured here 2026-11-22" or "not yet measured on this machine".
        runs: how many earlier runs it rests on.
    """

    seconds: float | None
    bytes: int | None
    tiles: int | None
    basis: str
    runs: int


def estimate_run(
    card: Card, grid: Grid, device: str = "auto", *, memory: int | None = None, folder: Path | None = None
) -> Estimate:
    """What it takes to synthesize a whole volume on `grid` by a model.

    Args:
        card: of the model.
        grid: of the source; shape and spacing are what counts.
        device: as it will be asked for; "auto" stands for the one that it stood for the last time.
        memory: limit in bytes, None for none.
        folder: where runs are recorded; the user's own by default.

    Raises:
        InputError: the model's spacing would make the volume larger than any memory.
        MemoryExhaustedError: the limit is less than the smallest tile takes.
    """
    conformed = conformed_grid(grid, orientation=card.spatial.orientation, spacing=card.spatial.spacing)
    runs = _alike(runs_of(card, folder), device)
    last = dataclasses.replace(runs[-1], budget=max((run.budget or 0 for run in runs), default=0)) if runs else None
    place = last.device if last else device
    tiles, computed, tile_bytes = _work(card, conformed, place, last, memory)
    on_cpu = place == "cpu" or (last is None and device == "auto")
    if not runs:
        known = on_cpu and card.method.kind == "network"
        size = BASE_ON_CPU + arrays(card, grid, conformed, COMFORT_ON_CPU) if known else None
        return Estimate(None, size, None, "not yet measured on this machine", 0)
    start, rate = _pace(runs)
    size = _memory(card, grid, conformed, runs, tile_bytes)
    return Estimate(start + rate * computed, size, tiles, f"measured here {runs[-1].date}", len(runs))


def arrays(card: Card, source: Grid, conformed: Grid, tile_bytes: int) -> int:
    """Most bytes of image data at once: source, what the model is given, masks, result; tiles or the way back."""
    channels, colours = card.target.channels, card.source.channels
    held = 4 * colours * source.voxels + (4 * channels + 2) * conformed.voxels
    return held + max(4 * colours * conformed.voxels + tile_bytes, 4 * channels * source.voxels)


def run_of(
    card: Card, grid: Grid, asked: str, facts: Mapping[str, Any], *, threads: int, start: float, seconds: float
) -> Run:
    """The record of a synthesis that has succeeded; `facts` is its result's meta."""
    conformed = conformed_grid(grid, orientation=card.spatial.orientation, spacing=card.spatial.spacing)
    run = Run(
        model=_model(card),
        machine=this_machine(),
        device=str(facts["device"]),
        asked=asked,
        threads=threads,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        source=grid.shape,
        conformed=conformed.shape,
        computed=conformed.voxels,
        start=round(start, 3),
        seconds=round(seconds, 3),
        tile_cost=facts.get("tile_cost"),
        budget=facts.get("tile_budget"),
        peak=facts.get("peak_memory"),
    )
    return dataclasses.replace(run, computed=_work(card, conformed, run.device, run, None)[1])


def remember(run: Run, folder: Path | None = None) -> str:
    """Add a run to the record; returns "" or a sentence about what went wrong, which never harms the run itself.

    The file is replaced whole. Of two processes that write at the same moment one run may be lost.
    """
    path = _file(folder)
    known, remark = read_runs(folder)
    mine = [each for each in known if _key(each) == _key(run)]
    others = [each for each in known if _key(each) != _key(run)]
    kept = [*others, *mine[-(KEPT - 1) :], run][-MOST:]
    content = {"version": VERSION, "runs": [dataclasses.asdict(each) for each in kept]}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        return f"How long the run took could not be recorded in '{path}' ({error.strerror})."
    return remark


def runs_of(card: Card, folder: Path | None = None) -> list[Run]:
    """The recorded runs of a model on this machine, on whatever device, oldest first."""
    return [run for run in read_runs(folder)[0] if (run.model, run.machine) == (_model(card), this_machine())]


def read_runs(folder: Path | None = None) -> tuple[list[Run], str]:
    """The recorded runs, oldest first, and "" or a sentence saying that the record was damaged and is begun anew."""
    path = _file(folder)
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise ValueError("version")
        return [_run_of(each) for each in content["runs"]], ""
    except FileNotFoundError:
        return [], ""
    except (OSError, JsonError, InputError, ValueError, KeyError, TypeError):
        return [], f"The record of earlier runs '{path}' cannot be understood; it is begun anew."


def _run_of(content: Mapping[str, Any]) -> Run:
    """A recorded run; fields that another version wrote are passed over. InputError for anything that is none."""
    known = {item.name for item in dataclasses.fields(Run)}
    return decode(Run, {name: value for name, value in dict(content).items() if name in known}, Origin("the record"))


def this_machine() -> str:
    """A name for this computer that does not give away its own: runs on a shared home folder are told apart by it."""
    text = f"{platform.node()}|{platform.machine()}|{os.cpu_count()}"
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def _alike(runs: list[Run], device: str) -> list[Run]:
    """Those of the runs that were on the device, and with the threads, of the newest that fits."""
    fitting = [run for run in runs if device in (run.asked, run.device)]
    return [run for run in fitting if (run.device, run.threads) == (fitting[-1].device, fitting[-1].threads)]


def _key(run: Run) -> tuple[str, str, str, str, int]:
    return run.model, run.machine, run.device, run.asked, run.threads


def _pace(runs: list[Run]) -> tuple[float, float]:
    """Seconds at the start and seconds per computed voxel: medians, so that one run on a busy machine counts little."""
    rate = statistics.median(max(0.0, run.seconds - run.start) / run.computed for run in runs)
    return statistics.median(run.start for run in runs), rate


def _work(card: Card, conformed: Grid, device: str, run: Run | None, memory: int | None) -> tuple[int | None, int, int]:
    """Tiles, voxels computed and bytes of a batch for the whole volume, by what a run told of the network."""
    if card.method.kind != "network":
        return 0, conformed.voxels, METHOD_BYTES * conformed.voxels
    if run is None or run.tile_cost is None or not run.budget:
        return None, conformed.voxels, 0
    spatial = card.spatial
    axes = stack_axes(spatial.axis or "axial", spatial.orientation) if spatial.dims == 2 else (0,)
    budget = run.budget
    if memory is not None:
        result = 4 * card.target.channels * len(axes) * conformed.voxels if device == "cpu" else 0
        budget = max(0, memory - result)
    plans = [
        plan_tiles(
            _stacked(conformed.shape, axis),
            tile_rules(spatial),
            bytes_per_voxel=run.tile_cost,
            budget=budget,
            largest_batch=LARGEST_BATCH["cpu" if device == "cpu" else "gpu", spatial.dims],
            device=device,
        )
        for axis in axes
    ]
    tiles, computed = sum(plan.count for plan in plans), sum(plan.computed for plan in plans)
    return tiles, computed, max(plan.tile_bytes for plan in plans)


def _stacked(shape: tuple[int, int, int], axis: int) -> tuple[int, ...]:
    """Extents (z, y, x) as (slice, row, column) with the slices across `axis`; axis 0 changes nothing."""
    return (shape[axis], *(extent for place, extent in enumerate(shape) if place != axis))


def _memory(card: Card, source: Grid, conformed: Grid, runs: list[Run], tile_bytes: int) -> int | None:
    known = [run for run in runs if run.peak is not None]
    if not known:
        return None
    if runs[-1].device != "cpu":  # there only the weights and one batch of tiles are held
        return max(run.peak or 0 for run in known)
    bases = []
    for run in known:
        then = Grid(run.source, source.affine), Grid(run.conformed, conformed.affine)
        bases.append((run.peak or 0) - arrays(card, *then, _work(card, then[1], "cpu", run, None)[2]))
    # Loading a model has a peak of its own, which small volumes stay below: it is never less than that.
    return max(min(run.peak or 0 for run in known), math.ceil(min(bases)) + arrays(card, source, conformed, tile_bytes))


def _model(card: Card) -> str:
    return card.weights_sha256 or f"{card.id}@{card.version}"


def _file(folder: Path | None) -> Path:
    return (folder.parent if folder else data_folder()) / FILE
