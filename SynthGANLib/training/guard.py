"""Two watches over a run: numbers that are not finite, and a discriminator that has won."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from SynthGANLib.errors import SynthGANError
from SynthGANLib.files import NotWrittenError, write_json, write_whole


class NotFiniteError(SynthGANError):
    """A loss or a gradient became NaN or infinite; nothing after the last checkpoint is kept."""

    exit_code = 1
    kind = "training"


def save_failing_batch(
    run: Path, step: int, rank: int, turn: str, batch: Mapping[str, Tensor], terms: Mapping[str, Tensor], **more: Any
) -> str:
    """Write the batch (`.safetensors`) and what was computed from it (`.json`) to `nonfinite/`.

    Returns a clause on where it lies, or on why it could not be kept: a disk that refuses must not hide what happened.
    """
    path = run / "nonfinite" / f"step-{step:08d}.rank{rank}.safetensors"
    kept = {name: value.detach().cpu().contiguous() for name, value in batch.items()}
    try:
        write_whole(path, lambda part: _write_tensors(kept, part))
    except NotWrittenError as error:
        return f"the batch could not be kept: {str(error).rstrip('.')}"
    facts = {
        "step": step,
        "turn": turn,
        "terms": {name: _number(value) for name, value in terms.items()},
        "batch": {name: _extremes(value) for name, value in kept.items()},
        **more,
    }
    with contextlib.suppress(NotWrittenError):  # the batch, from which it can be computed again, is there
        write_json(path.with_suffix(".json"), facts)
    return f"the batch is kept in '{path}'"


def _write_tensors(kept: Mapping[str, Tensor], part: Path) -> None:
    try:
        save_file(dict(kept), str(part))
    except SafetensorError as error:  # so it reports a full disk
        raise OSError(str(error)) from error


def first_bad_gradient(network: nn.Module) -> str | None:
    """Name of the first parameter of `network` whose gradient is not finite."""
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return None


def not_finite(step: int, turn: str, terms: Mapping[str, Tensor], saved: int | None, kept: str) -> Exception:
    """The error of a run whose numbers have left the finite ones: one sentence, and what to do.

    `saved`: the last checkpoint's step. `kept`: what `save_failing_batch` returned.
    """
    bad = [name for name, value in terms.items() if not bool(torch.isfinite(value).all())]
    what = f"the loss term '{bad[0]}'" if bad else "a gradient"
    back = f"continue from the checkpoint of step {saved}" if saved is not None else "start again"
    return NotFiniteError(
        f"In step {step} {what} of the turn '{turn}' became NaN or infinite; {kept}.",
        next_step=f"Look at that batch (a constant image?), then {back}, with a lower rate, clipping or amp none.",
    )


class DiscriminatorWatch:
    """Notices a discriminator that tells real from fake nearly always and for long: its gradient teaches no more.

    `update` takes shares of logits on the right side: "real_accuracy" and "fake_accuracy" (`Regime.watch`).
    """

    LIMIT = 0.98
    LONG = 2000
    """Steps for which both accuracies are above the limit before a warning is due; it is repeated as seldom."""

    def __init__(self) -> None:
        self.since: int | None = None

    def update(self, step: int, watched: Mapping[str, float]) -> str | None:
        """The warning due at this step, as a sentence, or None."""
        real, fake = watched.get("real_accuracy"), watched.get("fake_accuracy")
        if real is None or fake is None or min(real, fake) < self.LIMIT:
            self.since = None
            return None
        if self.since is None:
            self.since = step
        if step - self.since < self.LONG:
            return None
        begun, self.since = self.since, step
        return (
            f"Since step {begun} the discriminator tells real from fake at least {self.LIMIT:.0%} of the time: the "
            "generator learns little from it. A lower rate for the discriminator or more weight on the pixel loss "
            "may help."
        )


def _number(value: Tensor) -> float | str:
    """JSON has no NaN: what is not finite is kept as text."""
    number = float(value.detach().float().mean())
    return number if abs(number) < float("inf") else str(number)


def _extremes(value: Tensor) -> dict[str, Any]:
    if value.numel() == 0:
        return {"shape": list(value.shape)}
    low, high = value.amin(), value.amax()
    return {"shape": list(value.shape), "low": _number(low), "high": _number(high)}
