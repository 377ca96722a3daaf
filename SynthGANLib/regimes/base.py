"""What a training regime is: networks, who is updated when, and the terms of each update's loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

Batch = Mapping[str, Tensor]
"""What the data gives for one step, all (B, C, [z,] y, x) and float32 unless said otherwise.

"source", "target": in the networks' normalised units; paired voxel by voxel, unrelated in an unpaired batch.
"source_unpaired", "target_unpaired": the unrelated images of a mixed batch. "mask": 1 in the body. "weight": voxel
weights. "label": (B,) int64 class. "fold": (B,) int64, the part of the subjects that all images of the batch are of.
Regimes name the keys they need in `needs`.
"""

Outputs = dict[str, Tensor]
"""Tensors one step computes once and its turns share, e.g. "fake"."""

Terms = dict[str, Tensor]
"""Weighted scalar terms of one update's loss, float32, by name; their sum is minimized."""


class Regime(nn.Module, ABC):
    """Networks as attributes, and how they are trained.

    The loop of `SynthGANLib.training` does, for every step: `forward(batch, rng)` once; then for every name in
    `turns(step)`, in order: gradients on for the networks of `groups[name]` only, `loss(name, outputs, batch, rng)`
    part by part, each with its backward, one step of that group's optimiser, `after(name)`. A turn never appears twice
    in a step. Every random number comes from `rng`. State beside the networks' (pools, counters) lives in buffers or in
    `get_extra_state`/`set_extra_state` as tensors and plain values, so that a checkpoint holds it.
    """

    groups: Mapping[str, tuple[str, ...]]
    """Optimiser group -> attribute names of the networks it updates. A network belongs to one group."""

    needs: tuple[str, ...]
    """Keys the batch must have."""

    step: int
    """The step in progress, set by the loop before `forward`; schedules inside a regime read it."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def turns(self, step: int) -> tuple[str, ...]:
        """Names of the groups updated in `step`, in order; all of them by default."""
        return tuple(self.groups)

    @abstractmethod
    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        """The forward pass the turns share, with gradients."""

    @abstractmethod
    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        """Yields the loss of one turn in parts that share no computation.

        The loop backpropagates each part, and frees what it was computed from, before it asks for the next. The loss is
        the sum of all terms; each name occurs once. Uses `outputs`, which `forward` has returned (detached for a
        discriminator), and may add to it what later turns of the step need.
        """

    def after(self, turn: str) -> None:
        """What follows the optimiser's step of `turn`, e.g. weight clipping; called without gradients."""

    @abstractmethod
    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        """The method's output for validation and pictures, (B, C, ...); called in evaluation mode, no gradients."""

    @abstractmethod
    def exported(self) -> Mapping[str, nn.Module]:
        """The networks a user runs, by direction: "forward" (source to target) and, where there is one, "backward".

        "sample" and "sample-source" are `Sampler`s that make a target and a source from noise. Each takes
        (B, C_in, ...) and returns (B, C_out, ...) on the same extents.
        """

    def usable(self) -> Mapping[str, nn.Module]:
        """`exported` without what is not trained yet: what is validated now, and exported from here."""
        return self.exported()

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """Further numbers worth a curve, e.g. the critic's distance estimate; none by default."""
        return {}

    def networks(self, turn: str) -> list[nn.Module]:
        """The modules that `turn` updates."""
        return [getattr(self, name) for name in self.groups[turn]]

    def parameters_of(self, turn: str) -> list[nn.Parameter]:
        """Trainable parameters that `turn` updates, in a fixed order, each once."""
        found = {id(p): p for network in self.networks(turn) for p in network.parameters()}
        return list(found.values())


def noise(shape: tuple[int, ...], like: Tensor, rng: Generator) -> Tensor:
    """Standard normal numbers of `shape` on the device of `like`, drawn on the CPU so that devices agree."""
    return torch.randn(shape, generator=rng).to(like.device)


def sum_of(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms of one update."""
    total: Any = sum(terms.values())
    return torch.as_tensor(total)
