"""The average of weights over a run: what is validated and exported where a recipe asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from SynthGANLib.regimes.base import Regime


class Average:
    """Exponential moving average of the parameters of a regime's exported networks.

    After update n (from 1): average <- d average + (1 - d) parameter with d = min(decay, (1 + n) / (10 + n)); the
    ramp lets a short run forget its random start. Buffers (running statistics) are not averaged: inside
    `instead_of` the networks keep their present ones.
    """

    def __init__(self, regime: Regime, decay: float) -> None:
        exported = {id(p) for network in regime.exported().values() for p in network.parameters()}
        self.decay = decay
        self.updates = 0
        self.live = {name: p for name, p in regime.named_parameters() if id(p) in exported}
        self.values = {name: p.detach().clone() for name, p in self.live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages: list[Tensor] = list(self.values.values())
        parameters: list[Tensor] = list(self.live.values())
        torch._foreach_lerp_(averages, parameters, 1.0 - decay)

    @contextlib.contextmanager
    def instead_of(self) -> Iterator[None]:
        """Inside the block the regime's parameters are the averages; its own come back in any case."""
        live = {name: p.data for name, p in self.live.items()}
        for name, parameter in self.live.items():
            parameter.data = self.values[name]
        try:
            yield
        finally:
            for name, parameter in self.live.items():
                parameter.data = live[name]

    def state_dict(self) -> dict[str, object]:
        """Averages by the parameters' names, and the number of updates."""
        return {"updates": self.updates, "values": self.values}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, dict[str, Tensor] | int]) -> None:
        """Take over what `state_dict` gave."""
        updates, values = state["updates"], state["values"]
        assert isinstance(updates, int)
        assert isinstance(values, dict)
        for name, value in self.values.items():
            value.copy_(values[name])
        self.updates = updates
