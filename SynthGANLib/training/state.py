"""Everything a run consists of between two steps: what a checkpoint holds and a resumed run takes up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from SynthGANLib.recipes.base import Setup
from SynthGANLib.regimes.base import Regime
from SynthGANLib.training.ema import Average
from SynthGANLib.training.schedule import build_optimisers, initialise

Content = dict[str, Any]


@dataclass
class State:
    """Networks, optimisers, averages and random numbers of a run.

    Attributes:
        step: steps finished, which is the number of the next one.
        rng: the generator, on the CPU, of every explicit random number; differs between processes.
        best: validation metric and step of the best networks so far.
        pending: a validation was due when the run was stopped, and is made up for when it is taken up.
    """

    regime: Regime
    optimisers: dict[str, Optimizer]
    scalers: dict[str, GradScaler]
    average: Average | None
    rng: Generator
    device: torch.device
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    pending: bool = False

    @classmethod
    def begin(cls, setup: Setup, *, seed: int, rank: int, device: torch.device, amp: str) -> State:
        """Networks as they are before the first step.

        First weights come from `seed` alone, so all processes begin alike; what is drawn afterwards (noise by `rng`,
        dropout by PyTorch's global generator) differs by `rank`. Sets the global generator's seed.
        """
        torch.manual_seed(seed)
        networks, regime = built(setup)
        trained = {id(p) for group in regime.groups for p in regime.parameters_of(group)}
        for number, network in enumerate(networks.values()):
            if any(id(p) in trained for p in network.parameters()):  # features that are only looked through stay
                initialise(network, setup.initialise, Generator().manual_seed(_mixed(seed, number, 1)))
        regime = regime.to(device)
        for parameter in regime.parameters():
            parameter.data = laid_out(parameter.data)
        torch.manual_seed(_mixed(seed, rank, 2))
        return cls(
            regime=regime.train(),
            optimisers=build_optimisers(regime, setup),
            scalers={name: GradScaler(device.type, enabled=amp == "fp16") for name in regime.groups},
            average=Average(regime, setup.ema) if setup.ema else None,
            rng=Generator().manual_seed(_mixed(seed, rank, 3)),
            device=device,
        )

    def shared(self) -> Content:
        """What is the same in every process, and this process's own part (`own`)."""
        return {
            "step": self.step,
            "regime": dict(self.regime.state_dict()),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
            "average": self.average.state_dict() if self.average else None,
            "best": self.best,
            "pending": self.pending,
            **self.own(),
        }

    def own(self) -> Content:
        """What differs between processes: buffers, pools and counters of the regime, and all random numbers."""
        parameters = {name for name, _ in self.regime.named_parameters()}
        kept = {name: value for name, value in self.regime.state_dict().items() if name not in parameters}
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {"own": kept, "draw": self.rng.get_state(), "global": torch.get_rng_state(), "cuda": cuda}

    def restore(self, shared: Content, own: Content) -> None:
        """Take up what `shared` and `own` gave (from this process's file; in the first process they are one)."""
        self.regime.load_state_dict({**shared["regime"], **own["own"]})
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(shared["optimisers"][name])
        for name, scaler in self.scalers.items():
            scaler.load_state_dict(shared["scalers"][name])
        if self.average is not None:
            self.average.load_state_dict(shared["average"])
        self.step, self.best = int(shared["step"]), dict(shared["best"])
        self.pending = bool(shared.get("pending", False))  # older checkpoints do not say
        self.rng.set_state(own["draw"])
        torch.set_rng_state(own["global"])
        if own["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], self.device)


def built(setup: Setup) -> tuple[dict[str, nn.Module], Regime]:
    """The setup's networks, freshly built, by their names there; and the regime over them."""
    networks = {name: net.build() for name, net in setup.networks.items()}
    return networks, setup.over(networks)


def laid_out(tensor: torch.Tensor) -> torch.Tensor:
    """Images and kernels (4 or 5 axes) with the channels innermost in memory where that is faster; others as they are.

    On CUDA that is what tensor cores want. On a CPU (AVX2, one thread) a training step of 3D CycleGAN took 1.1 s so
    and 1.8 s in the usual order, one of 2D pix2pix 2.6 s and 1.7 s: there only volumes are rearranged.
    """
    if tensor.ndim == 5:
        return tensor.contiguous(memory_format=torch.channels_last_3d)
    if tensor.ndim == 4 and tensor.device.type != "cpu":
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _mixed(seed: int, number: int, purpose: int) -> int:
    """A seed of 63 bits for one purpose in one process: neighbours share nothing (Weyl steps and a finaliser)."""
    value = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + purpose * 0x8CB92BA72F3D8DD7) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return (value ^ (value >> 31)) >> 1
