"""Learning rates over a run, optimisers from their specifications, and the first weights of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, nn
from torch.optim import SGD, Adam, Adamax, AdamW, Optimizer, RMSprop

from SynthGANLib.errors import InputError
from SynthGANLib.recipes.base import CutCosine, Optimiser, Setup
from SynthGANLib.regimes.base import Regime

_FUSED = ("cpu", "cuda")
"""Devices with one kernel for a whole optimiser step; elsewhere PyTorch takes its grouped (foreach) steps."""


def constant(progress: float, decay: float) -> float:
    """1 throughout."""
    return 1.0


def linear(progress: float, decay: float) -> float:
    """1 up to the fraction `decay` of the run, then on a straight line to 0 at its end (CycleGAN: `decay` 0.5)."""
    return 1.0 if progress < decay or decay >= 1.0 else (1.0 - progress) / (1.0 - decay)


def cosine(progress: float, decay: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter, ICLR 2017, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def halving(progress: float, decay: float) -> float:
    """Half as much after each fraction `decay` of the run (UNIT: a tenth); 1 throughout where that is 0."""
    # a run of 1,000,000 steps has got to 0.1 + 1e-17 of itself somewhere
    return 0.5 ** math.floor(progress / decay + 1e-9) if decay > 0 else 1.0


SCHEDULES: Mapping[str, Callable[[float, float], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "halving": halving,
}


def rate_factor(setup: Setup, step: int, warm_up: int = 0) -> float:
    """What every learning rate is multiplied with in `step` (0 to `setup.steps` - 1).

    During the first `warm_up` steps the factor rises as (step + 1) / `warm_up`; the schedule runs over the rest.

    Raises:
        InputError: the schedule has no such name.
    """
    schedule = setup.schedule
    if isinstance(schedule, str) and schedule not in SCHEDULES:
        raise InputError(f"'{schedule}' is no schedule.", next_step=f"Choose one of {', '.join(SCHEDULES)}.")
    if step < warm_up:
        return (step + 1) / warm_up
    if isinstance(schedule, CutCosine):
        return _cut(schedule, step, warm_up)
    progress = (step - warm_up) / max(1, setup.steps - warm_up)
    return SCHEDULES[schedule](progress, setup.decay)


def _cut(schedule: CutCosine, step: int, warm_up: int) -> float:
    """The factor of a cosine that is cut short, after the warm-up."""
    held = min(step, schedule.cool_from)
    factor = cosine((held - warm_up) / max(1, schedule.length - warm_up), 0.0)
    return factor * max(0.0, 1.0 - (step - held) / schedule.cool_steps)


def set_rates(optimisers: Mapping[str, Optimizer], setup: Setup, step: int, warm_up: int = 0) -> float:
    """Give every optimiser its learning rate of `step`; returns the common factor."""
    factor = rate_factor(setup, step, warm_up)
    for group, optimiser in optimisers.items():
        for entry in optimiser.param_groups:
            entry["lr"] = specification(setup, group).rate * factor
    return factor


def specification(setup: Setup, group: str) -> Optimiser:
    """The specification of a group's optimiser: its own, or the one named "*".

    Raises:
        InputError: there is neither.
    """
    found = setup.optimisers.get(group, setup.optimisers.get("*"))
    if found is None:
        raise InputError(f"The setup has no optimiser for '{group}'.", next_step="Add one, or one named '*' for all.")
    return found


def build_optimisers(regime: Regime, setup: Setup) -> dict[str, Optimizer]:
    """One optimiser for each group of the regime, over that group's parameters.

    Raises:
        InputError: the specification has an unknown kind, is missing, or belongs to no group.
    """
    strangers = sorted(set(setup.optimisers) - set(regime.groups) - {"*"})
    if strangers:
        known = ", ".join(["*", *regime.groups])
        raise InputError(
            f"The regime has no group '{strangers[0]}' for an optimiser.", next_step=f"Name one of {known}."
        )
    return {name: build_optimiser(specification(setup, name), regime.parameters_of(name)) for name in regime.groups}


def build_optimiser(spec: Optimiser, parameters: list[nn.Parameter]) -> Optimizer:
    """The optimiser of a specification; its step is fused where PyTorch has such a kernel.

    Raises:
        InputError: the kind is unknown.
    """
    fused = all(p.device.type in _FUSED for p in parameters)
    first, second = spec.betas
    rate, decay = spec.rate, spec.weight_decay
    match spec.kind:
        case "adam":
            return Adam(parameters, lr=rate, betas=(first, second), weight_decay=decay, fused=fused)
        case "adamw":
            return AdamW(parameters, lr=rate, betas=(first, second), weight_decay=decay, fused=fused)
        case "adamax":
            return Adamax(parameters, lr=rate, betas=(first, second), weight_decay=decay)
        case "rmsprop":
            return RMSprop(parameters, lr=rate, weight_decay=decay)
        case "sgd":
            return SGD(parameters, lr=rate, momentum=first, weight_decay=decay, fused=fused)
    known = "adam, adamw, adamax, rmsprop, sgd"
    raise InputError(f"'{spec.kind}' is no kind of optimiser.", next_step=f"Choose one of {known}.")


_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)  # noqa: SLF001
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)  # noqa: SLF001


def initialise(network: nn.Module, kind: str, rng: Generator) -> None:
    """Set the first weights of every convolution, linear and normalisation layer in place.

    kind "dcgan": weights from N(0, 0.02), gains from N(1, 0.02), biases 0 (Radford et al., ICLR 2016); "kaiming":
    weights from N(0, sqrt(2 / fan-in)), biases 0 (He et al., ICCV 2015); "default": PyTorch's, left as they are.

    Raises:
        InputError: another kind.
    """
    if kind not in ("dcgan", "kaiming", "default"):
        raise InputError(f"'{kind}' is no initialisation.", next_step="Choose dcgan, kaiming or default.")
    if kind == "default":
        return
    for layer in network.modules():
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if not isinstance(weight, nn.Parameter) or not isinstance(layer, (*_WEIGHTED, *_NORMS)):
            continue
        with torch.no_grad():
            if isinstance(layer, _WEIGHTED) and kind == "dcgan":
                weight.normal_(0.0, 0.02, generator=rng)
            elif isinstance(layer, _WEIGHTED):
                nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=rng)
            elif kind == "dcgan":
                weight.normal_(1.0, 0.02, generator=rng)
            if isinstance(bias, nn.Parameter):
                bias.zero_()
