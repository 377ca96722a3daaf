"""The training loop: one function that reads from top to bottom, for every regime alike."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from SynthGANLib.errors import InputError
from SynthGANLib.files import NotWrittenError, write_whole
from SynthGANLib.inference.devices import resolve_device
from SynthGANLib.recipes.base import Setup
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, sum_of
from SynthGANLib.signals import stop_on_signals
from SynthGANLib.training import checkpoint
from SynthGANLib.training.batches import Batches, Feed
from SynthGANLib.training.distributed import World
from SynthGANLib.training.guard import DiscriminatorWatch, first_bad_gradient, not_finite, save_failing_batch
from SynthGANLib.training.log import Reports
from SynthGANLib.training.schedule import set_rates
from SynthGANLib.training.state import State
from SynthGANLib.training.validate import Validator

Amp = Literal["none", "bf16", "fp16"]
_PRECISIONS: Mapping[str, torch.dtype] = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LOG = logging.getLogger("synthgan")
_LEAST_SCALE = 2.0**-10
"""fp16 gradients that overflow at this loss scale overflow at any: the numbers themselves have gone."""

BEST = "best.pt"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: steps finished, best validation (empty without), exit code (130, 143 if stopped by a signal)."""

    steps: int
    best: Mapping[str, float]
    exit_code: int


def train(
    setup: Setup,
    feed: Feed,
    out: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    amp: Amp = "none",
    validator: Validator | None = None,
    validate_every: int = 1000,
    save_every: int = 1000,
    log_every: int = 50,
    full_disk: Literal["continue", "stop"] = "continue",
    tensorboard: bool = False,
    world: World | None = None,
    begun: Callable[[], None] | None = None,
    until: int | None = None,
) -> Outcome:
    """Train `setup` on `feed` and leave checkpoints, the best weights and the log in `out`.

    A run is decided by setup, data, seed, precision and number of processes: stopped anywhere and resumed it ends, on
    the CPU, in the same bits as one that ran through. CUDA chooses its kernels anew and agrees to rounding only.

    Args:
        resume: take up the newest checkpoint in `out` that can be read (the beginning, if there is none yet).
        device: for a single process; `world` (from `distributed.joined`) brings its own.
        amp: arithmetic of the forward pass; weights, losses and optimisers stay in float32.
        validator: measures the networks every `validate_every` steps and at the end, in the first process only; None
            for no validation.
        full_disk: go on without the checkpoint that could not be written, or stop (InputError); at the end it stops.
        begun: called in the first process once nothing stands against a new run, before its first step.
        until: end after this many steps of the run, with a checkpoint, as a signal would; None for the whole run.

    Raises:
        InputError: `out` holds a run and `resume` is false, or one with other settings; the disk refuses; the data
            does not fit the recipe.
        NotFiniteError: a loss or gradient became NaN or infinite; the batch is kept in `nonfinite/`.
    """
    out = Path(out)
    world = world or World(0, 1, resolve_device(device))
    check_run(setup, out, amp, resume, world)
    state = State.begin(setup, seed=seed, rank=world.rank, device=world.device, amp=amp)
    world.share(state.regime)
    regime, rng = state.regime, state.rng
    about = checkpoint.plain(
        {
            "setup": checkpoint.fingerprint(setup),
            "run": {"seed": seed, "amp": amp, "processes": world.size},
            "data": feed.describe(),
        }
    )
    begin = checkpoint.newest(out, world.size, _LOG.warning) if resume and world.first else None
    begin = world.broadcast_int(-1 if begin is None else begin)
    if begin >= 0:
        checkpoint.take_up(out, begin, state, about, rank=world.rank)
    elif begun is not None and world.first:
        begun()
    saved = state.step if begin >= 0 else None
    watch = DiscriminatorWatch()
    end = setup.steps if until is None else min(until, setup.steps)

    with (
        Reports(out, setup.steps, start=state.step, quiet=not world.first, tensorboard=tensorboard) as reports,
        Batches(feed, regime.needs, end, world.device) as batches,
        stop_on_signals() as stop,
        _fast_convolutions(),
    ):
        if begin >= 0 and world.any(state.pending and validator is not None):
            _catch_up(out, state, validator, reports)
            _save(out, state, about, world, reports, must=full_disk == "stop" or state.step == setup.steps)

        while state.step < end:
            step = regime.step = state.step
            factor = set_rates(state.optimisers, setup, step, setup.warm_up)
            batch = batches.take(step)
            turns = regime.turns(step)

            only(regime, turns)
            with _autocast(world.device, amp):
                outputs = regime.forward(batch, rng)
            for turn in turns:
                only(regime, (turn,))
                terms = _backward(turn, outputs, batch, state, amp)
                norm = _update(turn, terms, state, setup.clip, world)
                if norm is None:
                    network = nn.ModuleList(regime.networks(turn))
                    facts = {"gradient": first_bad_gradient(network), "checkpoint": saved}
                    kept = save_failing_batch(out, step, world.rank, turn, batch, terms, **facts)
                    raise not_finite(step, turn, terms, saved, kept)
                with torch.no_grad():
                    regime.after(turn)
                reports.collect({f"{turn}/{name}": value for name, value in {**terms, "norm": norm}.items()})
            if state.average is not None:
                state.average.update()
            state.step = step + 1

            last = state.step == setup.steps
            stopping = world.any(stop.asked) or (state.step == end and not last)
            if last or state.step % log_every == 0:
                watched = _watched(regime, outputs)
                reports.scalars(state.step, {**watched, "rate": factor})
                reports.warn(state.step, watch.update(state.step, watched))
            del outputs, batch
            due = validator is not None and world.first and (last or state.step % validate_every == 0)
            state.pending = due and stopping
            if validator is not None and due and not stopping:
                _validate(out, state, validator, reports)  # the others wait where they next need this process
            if last or stopping or state.step % save_every == 0:
                must = full_disk == "stop" or last or stopping
                saved = state.step if _save(out, state, about, world, reports, must=must) else saved
            if stopping:
                place = ", before its validation" if state.pending else ", the last" if last else ""
                rest = "; continue with --resume" if state.pending or not last else ""
                reports.warn(state.step, f"Stopped after step {state.step}{place}{rest}.")
                break
        return Outcome(state.step, state.best, stop.exit_code)


def only(regime: Regime, turns: Sequence[str]) -> None:
    """Gradients on for the parameters of these groups, off for all others."""
    regime.requires_grad_(False)
    for turn in turns:
        for parameter in regime.parameters_of(turn):
            parameter.requires_grad_(True)


def _backward(turn: str, outputs: Outputs, batch: Batch, state: State, amp: str) -> Terms:
    """Backpropagate the parts of a turn's loss one after another; its terms without gradients.

    What a part was computed from is freed before the next begins.
    """
    parts = state.regime.loss(turn, outputs, batch, state.rng)
    state.optimisers[turn].zero_grad(set_to_none=True)
    done: Terms = {}
    while True:
        with _autocast(state.device, amp):
            part = next(parts, None)
        if part is None:
            return done
        state.scalers[turn].scale(sum_of(part)).backward()  # type: ignore[no-untyped-call]
        done |= {name: term.detach() for name, term in part.items()}
        del part


def _update(turn: str, terms: Terms, state: State, clip: float, world: World) -> Tensor | None:
    """One step of a turn's optimiser; returns the gradient's norm, None if it or the loss is not finite.

    In fp16 a gradient may overflow by the scale of its loss: then the step is left out and the scale halved.
    """
    optimiser, scaler = state.optimisers[turn], state.scalers[turn]
    gradients = [p.grad for p in state.regime.parameters_of(turn) if p.grad is not None]
    loss = sum_of(terms).clone()
    world.average([*gradients, loss])
    scaler.unscale_(optimiser)
    norm = _norm(gradients, loss)
    finite = [math.isfinite(number) for number in torch.stack([loss, norm]).tolist()]  # the step's only wait
    if not all(finite) and not (finite[0] and scaler.is_enabled() and scaler.get_scale() > _LEAST_SCALE):
        return None
    if clip and gradients:
        torch._foreach_mul_(gradients, torch.clamp(clip / (norm + 1e-6), max=1.0))
    scaler.step(optimiser)
    scaler.update()
    optimiser.zero_grad(set_to_none=True)
    return norm


def _norm(gradients: list[Tensor], like: Tensor) -> Tensor:
    """Euclidean norm of all gradients together."""
    if not gradients:
        return torch.zeros_like(like)
    norms: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # noqa: SLF001
    return norms


def _watched(regime: Regime, outputs: Outputs) -> dict[str, float]:
    with torch.no_grad():
        return dict(regime.watch(outputs))


def _validate(out: Path, state: State, validator: Validator, reports: Reports) -> None:
    """Measure the networks that would be exported now; keep the weights if they are the best so far.

    Nothing here touches the training: copies are measured, and random numbers are put back.
    """
    averaged = state.average.instead_of if state.average is not None else contextlib.nullcontext
    cuda = [state.device] if state.device.type == "cuda" else []
    with averaged():
        copies = {direction: copy.deepcopy(network).eval() for direction, network in state.regime.usable().items()}
    with torch.random.fork_rng(devices=cuda):
        report = validator(copies, state.device)
    reports.validation(state.step, report.metrics, report.text, report.pictures)
    if not math.isfinite(report.score) or report.score >= state.best.get("score", math.inf):
        return
    best = {**report.metrics, "score": report.score, "step": float(state.step)}
    with averaged():
        content = {"format": checkpoint.FORMAT, "best": best, "regime": dict(state.regime.state_dict())}
        try:
            write_whole(out / BEST, lambda part: torch.save(content, part))
        except NotWrittenError as error:
            reports.warn(state.step, f"{error} The best weights before these are kept.")
            return
    state.best = best


def _catch_up(out: Path, state: State, validator: Validator | None, reports: Reports) -> None:
    """The validation that was due when the run was stopped; only the first process has a validator."""
    if validator is not None:
        _validate(out, state, validator, reports)
    state.pending = False


def _save(out: Path, state: State, about: Mapping[str, object], world: World, reports: Reports, *, must: bool) -> bool:
    """Save a checkpoint and say whether a disk refused; where it `must` be, that is raised (NotWrittenError)."""
    try:
        checkpoint.save(out, state, about, rank=world.rank, agree=world.every)
    except NotWrittenError as error:
        if must:
            raise
        reports.warn(state.step, f"{error} The training goes on; the checkpoint before it is kept.")
        return False
    return True


def check_run(setup: Setup, out: Path, amp: str, resume: bool, world: World) -> None:
    """Refuse what could only fail later (InputError); `train` does so itself, before anything else."""
    if amp not in _PRECISIONS:
        raise InputError(f"'{amp}' is no precision.", next_step=f"Choose {', '.join(_PRECISIONS)}.")
    if amp == "fp16" and world.device.type != "cuda":
        raise InputError(f"The device '{world.device}' does not compute in fp16.", next_step="Choose bf16 or none.")
    if setup.steps < 1:
        raise InputError(f"A run of {setup.steps} steps trains nothing.", next_step="Set 'steps' to 1 or more.")
    if setup.warm_up < 0:
        raise InputError(f"A warm-up of {setup.warm_up} steps is none.", next_step="Set 'warm_up' to 0 or more.")
    if not resume and checkpoint.steps_of(out):
        raise InputError(
            f"The folder '{out}' holds a run already.", next_step="Continue it with --resume, or choose another folder."
        )


def _autocast(device: torch.device, amp: str) -> torch.autocast:
    """A fresh context each time: casts of weights kept inside it would be stale after an optimiser's step."""
    return torch.autocast(device.type, _PRECISIONS[amp], enabled=amp != "none")


@contextlib.contextmanager
def _fast_convolutions() -> Iterator[None]:
    """On CUDA the fastest kernel for each of the few sizes of a run, with TF32; no effect elsewhere."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        yield
