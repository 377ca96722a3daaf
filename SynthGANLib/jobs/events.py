"""Events of a job as JSON objects: stages, progress, warnings, errors."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from SynthGANLib.errors import Cancel, CancelledError, SynthGANError, error_event

if TYPE_CHECKING:
    from SynthGANLib.inference.progress import Progress

Emit = Callable[[dict[str, Any]], None]
"""Takes one event; must not raise."""

SHARE_BEFORE, SHARE_PREDICT = 0.03, 0.94
"""Shares of the progress bar for reading (before) and for the synthesis; the rest is writing."""


def emit_error(emit: Emit, error: SynthGANError) -> int:
    """Tell an error as an event and return its exit code."""
    emit(error_event(error))
    return error.exit_code


def emit_missing(emit: Emit, error: ImportError) -> int:
    """Tell that a package is missing or broken (its trace goes to standard error) and return the exit code."""
    traceback.print_exception(error, file=sys.stderr)
    cause = f"The Python package '{error.name or 'unknown'}' cannot be loaded."
    return emit_problem(emit, "environment", cause, "Install or repair the requirements of SynthGAN.")


def emit_problem(emit: Emit, kind: str, cause: str, next_step: str) -> int:
    emit({"event": "error", "kind": kind, "cause": cause, "next_step": next_step, "exit_code": 1})
    return 1


class Steps:
    """Turns what the synthesis reports into events of the whole job; fractions never fall."""

    def __init__(self, emit: Emit, cancel: Cancel) -> None:
        self._emit = emit
        self._cancel = cancel
        self._stage = ""
        self._fraction = 0.0

    def enter(self, stage: str, fraction: float) -> None:
        """Begin a stage, unless the user has cancelled meanwhile."""
        if self._cancel():
            raise CancelledError("The job was cancelled; nothing was written.", next_step="Start it again when wanted.")
        self.progress(stage, fraction, None)

    def progress(self, stage: str, fraction: float, seconds_left: float | None) -> None:
        if stage != self._stage:
            self._stage = stage
            self._emit({"event": "stage", "stage": stage})
        self._fraction = max(self._fraction, min(fraction, 1.0))
        left = None if seconds_left is None else round(seconds_left, 1)
        self._emit({"event": "progress", "stage": stage, "fraction": round(self._fraction, 4), "seconds_left": left})

    def follow(self, report: Progress) -> None:
        """One report of the synthesis."""
        if report.stage in ("memory", "warning"):
            self._emit({"event": report.stage, "message": report.message})
        elif report.stage != "done":  # the job is not done before its file is written
            self.progress(report.stage, SHARE_BEFORE + SHARE_PREDICT * report.fraction, report.seconds_left)
