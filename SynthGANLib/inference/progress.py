"""How a run tells its user where it stands, and how the user stops it.

Nothing here needs torch, so that a caller may hold progress records without loading it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from SynthGANLib.errors import CancelledError


@dataclass(frozen=True)
class Progress:
    """One report of a run.

    `stage` is a word for what is being done ("check", "conform", "mask", "predict", "restore", "done"), or
    "memory" and "warning" for a remark that `message` holds. `fraction` is the share of the whole run
    that is done (0 to 1, never falling), `seconds_left` the time still expected, None while unknown.
    """

    stage: str
    fraction: float
    seconds_left: float | None = None
    message: str = ""


class Reporter:
    """Turns the steps of a run into `Progress` records and asks the caller whether to go on.

    A run is cut into stages by `enter(stage, until)`: the stage reaches from the present fraction to
    `until`. Fractions never fall, even where a step has to start again with smaller tiles.
    """

    def __init__(
        self,
        progress: Callable[[Progress], None] | None = None,
        cancel: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._cancel = cancel
        self._clock = clock
        self._stage = "check"
        self._fraction = 0.0
        self._lower = 0.0
        self._upper = 0.0
        self._started = clock()
        self._begun = 0.0
        self._messages: list[tuple[str, str]] = []

    @property
    def remarks(self) -> tuple[str, ...]:
        """Every remark made so far, "memory" and "warning" alike, in order."""
        return tuple(message for _, message in self._messages)

    def cancelled(self) -> bool:
        """Whether the caller wants the run to end."""
        return self._cancel is not None and bool(self._cancel())

    def poll(self) -> None:
        """Ask the caller whether to go on.

        Raises:
            CancelledError: the caller's `cancel` returned true.
        """
        if self.cancelled():
            raise CancelledError(
                f"The run was cancelled during the stage '{self._stage}'; nothing was changed.",
                next_step="Start it again when wanted.",
            )

    def enter(self, stage: str, until: float) -> None:
        """Begin a stage that ends at the fraction `until` of the whole run; polls for cancel."""
        self.poll()
        self._stage = stage
        self._lower = self._fraction = max(self._fraction, self._upper)
        self._upper = max(self._lower, min(until, 1.0))
        self.restart(0.0)
        self._emit(None)

    def advance(self, share: float) -> None:
        """Report that `share` (0 to 1) of the present stage is done.

        The time left is the present stage's own: the others are short beside it.
        """
        share = min(max(share, 0.0), 1.0)
        elapsed = self._clock() - self._started
        fresh = share - self._begun
        left = elapsed * (1.0 - share) / fresh if fresh > 0.0 else None
        self._fraction = max(self._fraction, self._lower + share * (self._upper - self._lower))
        self._emit(left)

    def restart(self, share: float) -> None:
        """Forget the pace so far: the stage's work goes on from `share` with other tiles."""
        self._started = self._clock()
        self._begun = share

    def remark(self, kind: str, message: str) -> None:
        """Report a "memory" step or a "warning"; it is kept for the result's provenance."""
        self._messages.append((kind, message))
        if self._progress is not None:
            self._progress(Progress(kind, self._fraction, None, message))

    def finish(self) -> None:
        """Report the end: fraction 1, nothing left."""
        self._stage, self._fraction = "done", 1.0
        self._emit(0.0)

    def _emit(self, seconds_left: float | None) -> None:
        if self._progress is not None:
            self._progress(Progress(self._stage, self._fraction, seconds_left))
