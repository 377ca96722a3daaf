"""What a method makes of the held-out cases, against the truth and against what needs no method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from SynthGANLib.data.cases import Loaded
from SynthGANLib.data.datalist import DataList
from SynthGANLib.data.feed import Feed
from SynthGANLib.evaluation.metrics import evaluate
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume
from SynthGANLib.training.validate import PROTOCOLS
from Tools.Zoo.tasks import Task

MEASURES = ("MAE", "PSNR", "SSIM")
Make = Callable[[Loaded], Volume]
"""Gives the synthetic target of a case."""


@dataclass(frozen=True, eq=False)
class Cases:
    """The pairs of a task in physical units: what is validated on, and what the constant guess is taken from.

    `feed` knows how either side becomes network numbers.
    """

    task: Task
    feed: Feed
    training: Feed

    @staticmethod
    def of(task: Task, listed: DataList, setup: Any, seed: int) -> Cases:
        """The cases of `task`, whose data list is `listed`; `setup` gives the channels."""
        swapped = replace(listed, validation=listed.training)
        return Cases(task, Feed(listed, setup, seed=seed), Feed(swapped, setup, seed=seed))

    @property
    def held(self) -> tuple[Loaded, ...]:
        """The validation pairs."""
        return self.feed.validation

    def identity(self, case: Loaded) -> Volume:
        """The source itself: its first channel in network numbers, read as if they were the target's."""
        assert case.source is not None
        assert case.target is not None
        numbers = self.feed.scalings["source"].network(case.source, case.source_body)
        first = numbers if numbers.ndim == 3 else numbers[..., 0]
        if case.target.channels > 1:
            first = np.repeat(first[..., np.newaxis], case.target.channels, axis=-1)
        return _as(case.target, self.feed.scalings["target"].normaliser.invert(first))

    def constant(self) -> Make:
        """The mean of all training targets where it is measured, for each channel."""
        sums, count = np.zeros(1), 0
        for case in self.training.validation:
            assert case.target is not None
            values = case.target.array.reshape(-1, case.target.channels)[region_of(case, self.task).reshape(-1)]
            sums, count = sums + values.sum(axis=0, dtype=np.float64), count + len(values)
        mean = sums / count

        def make(case: Loaded) -> Volume:
            assert case.target is not None
            shape = case.target.array.shape
            return _as(case.target, np.broadcast_to(mean if len(shape) == 4 else mean[0], shape))

        return make


def _as(like: Volume, array: Array) -> Volume:
    return like.with_array(np.ascontiguousarray(array, dtype=np.float32))


def region_of(case: Loaded, task: Task) -> Array:
    """Booleans (z, y, x): where a case of `task` is measured."""
    assert case.target is not None
    if task.region:
        assert case.regions is not None
        return case.regions > 0
    return np.ones(case.target.shape, bool) if case.target_body is None else case.target_body


def scores(fake: Volume, real: Volume, region: Array, task: Task) -> dict[str, float]:
    """MAE in the task's unit, PSNR in dB and SSIM, both over the task's fixed range, inside `region`.

    Of several channels the first is measured, the image, but all three of a color picture.
    """
    if real.channels > 1 and real.unit != "RGB":
        fake, real = (volume.with_array(np.ascontiguousarray(volume.array[..., 0])) for volume in (fake, real))
    protocol = PROTOCOLS.get(real.unit, "mr")
    found = evaluate(fake, real, region, protocol, MEASURES, data_range=task.limits)
    return {name: metric.value for name, metric in found.items()}


def judged(make: Make, cases: Cases) -> dict[str, Any]:
    """Means over the held-out cases, and the MAE of each."""
    rows = []
    for case in cases.held:
        assert case.target is not None
        rows.append(scores(make(case), case.target, region_of(case, cases.task), cases.task))
    return {**mean_of(rows), "cases": [row["MAE"] for row in rows]}


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of every number by name."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def preview(path: Path, case: Loaded, fake: Volume, task: Task) -> None:
    """Keep one slice of source, synthetic and real image, (y, x) float32 each, for the pictures."""
    assert case.source is not None
    assert case.target is not None
    areas = region_of(case, task).reshape(case.target.shape[0], -1).sum(axis=1)
    middle = int(np.flatnonzero(areas >= 0.8 * areas.max()).mean()) if areas.any() else 0
    images = {"source": case.source, "fake": fake, "real": case.target}
    planes = {name: _plane(volume.array[middle]) for name, volume in images.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **planes)


def _plane(array: Array) -> Array:
    """(y, x[, c]) -> (y, x) float32, the first channel."""
    first = array if array.ndim == 2 else array[..., 0]
    return np.ascontiguousarray(first, dtype=np.float32)
