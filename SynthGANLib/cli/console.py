"""What the command line shows people: a progress bar or sparse lines, and the table of models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TextIO

from SynthGANLib.cli.arguments import say
from SynthGANLib.model.card_text import direction
from SynthGANLib.model.catalogue import Entry

STAGES = {
    "model": "loading the model",
    "read": "reading the volume",
    "check": "checking the volume",
    "conform": "fitting the grid",
    "mask": "finding the body",
    "predict": "predicting",
    "restore": "back to the input's grid",
    "write": "writing",
    "done": "done",
    "fetch": "fetching",
    "install": "checking and copying",
}

_STEP = 0.1
"""Without a terminal a line is written for each tenth of the way, not for each tile."""


class Bar:
    """Shows progress on a stream: one line rewritten in place on a terminal, else a line now and then."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
        self._width = 0
        self._next = 0.0
        self._stage = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def show(self, event: Mapping[str, Any]) -> None:
        """Take a ``stage``, ``progress``, ``warning`` or ``memory`` event."""
        if event["event"] == "progress":
            self._progress(event)
        elif event["event"] in ("warning", "memory"):
            self._clear()
            self._print(f"{event['event']}: {event['message']}")

    def _progress(self, event: Mapping[str, Any]) -> None:
        stage, fraction, left = event["stage"], float(event["fraction"]), event["seconds_left"]
        text = f"{fraction:4.0%} {STAGES.get(stage, stage)}"
        if left is not None and left >= 1:
            text += f", {duration(left)} left"
        if self._terminal:
            full = round(20 * fraction)
            columns = max(shutil.get_terminal_size().columns - 1, 10)
            text = f"[{'#' * full}{'.' * (20 - full)}] {text}"[:columns]
            self._print(text.ljust(min(self._width, columns)), end="\r")
            self._width = len(text)
        elif fraction >= self._next:
            self._next = (int(fraction / _STEP + 1e-9) + 1) * _STEP
            self._print(text.strip())

    def _clear(self) -> None:
        if self._width:
            self._print(" " * self._width, end="\r")
            self._width = 0

    def _print(self, text: str, end: str = "\n") -> None:
        """Show the text; where nobody can read any more (as after "2>&1 | head") the work goes on without it."""
        if self._stream is not None and not say(text, self._stream, end=end):
            self._stream = None


def models_table(entries: Sequence[Entry]) -> str:
    """One line a model (id, version, direction, anatomy, title); refused folders follow with their reason."""
    rows = [("ID", "VERSION", "DIRECTION", "ANATOMY", "TITLE")]
    rows += [
        (entry.id, entry.version, direction(entry.card), entry.anatomy, entry.title) for entry in entries if entry.card
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    if len(rows) > 1:
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows
        ]
    lines += [f"{entry.error}" for entry in entries if entry.error is not None]
    return "\n".join(lines)


def case_line(number: int, total: int, row: Mapping[str, Any], left: float | None) -> str:
    """One line about a case of a batch: ``[ 3/20] site/p3: done in 12.3 s, 4 min 10 s left``."""
    text = f"[{number:{len(str(total))}}/{total}] {row['case']}: {row['status']}"
    if row["error"]:
        text += f": {row['error']['cause']} {row['error']['next_step']}".rstrip()
    elif row["status"] == "done":
        text += f" in {row['seconds']:.1f} s"
        if row["warnings"]:
            text += f" with {len(row['warnings'])} warning{'s' if len(row['warnings']) > 1 else ''}"
        if left is not None and left >= 1:
            text += f", {duration(left)} left"
    elif row["status"] == "skipped":
        text += ", its result is there"
    return text


def duration(seconds: float) -> str:
    """A time in words: ``12 s``, ``4 min 10 s``, ``3 h 05 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
