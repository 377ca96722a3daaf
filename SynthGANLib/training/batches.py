"""Batches on their way to the device; the next one is made while the present step is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

from SynthGANLib.errors import InputError
from SynthGANLib.regimes.base import Batch
from SynthGANLib.training.state import laid_out


class Feed(Protocol):
    """What the loop asks of the data."""

    @property
    def normalisers(self) -> Mapping[str, Mapping[str, Any]]:
        """ "source" and "target" -> fields of a normaliser of `SynthGANLib.image.intensity`."""

    @property
    def validation(self) -> Sequence[Any]:
        """Cases kept out of training, each with volumes `source`, `target` and a mask."""

    def batch(self, step: int) -> Batch:
        """The batch of one step on the CPU, decided by seed, step and process alone; called from another thread."""

    def describe(self) -> Mapping[str, Any]:
        """What the data is and how it was split, as plain values; the same in a resumed run."""


class Batches:
    """The batches of consecutive steps; a single thread makes the next one. Close by `with`."""

    def __init__(self, feed: Feed, needs: Sequence[str], steps: int, device: torch.device) -> None:
        self._feed, self._needs, self._steps, self._device = feed, tuple(needs), steps, device
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[Batch]] | None = None

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, step: int) -> dict[str, Tensor]:
        """The batch of `step` on the device, in the order in memory that suits it.

        Raises:
            InputError: the data lacks a key that the regime needs.
        """
        if self._next is not None and self._next[0] == step:
            made = self._next[1].result()
        else:
            made = self._make(step)
        self._next = (step + 1, self._pool.submit(self._make, step + 1)) if step + 1 < self._steps else None
        missing = [name for name in self._needs if name not in made]
        if missing:
            raise InputError(
                f"The data gives no '{missing[0]}', which this recipe is trained with (it gives {', '.join(made)}).",
                next_step="Use a data list of the kind that the recipe asks for.",
            )
        return {name: laid_out(tensor.to(self._device, non_blocking=True)) for name, tensor in made.items()}

    def _make(self, step: int) -> Batch:
        made = self._feed.batch(step)
        if self._device.type != "cuda":
            return made
        return {name: tensor.pin_memory() for name, tensor in made.items()}  # copied while the device computes
