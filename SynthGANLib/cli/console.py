"""What the command line shows people: a progress bar or sparse lines, and the table of models."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from SynthGANLib.model.card_text import direction
from SynthGANLib.model.catalogue import Entry
from SynthGANLib.progress_line import ProgressLine, duration, say

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


class Bar(ProgressLine):
    """Shows the events of a job."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._next = 0.0

    def show(self, event: Mapping[str, Any]) -> None:
        """Take a ``stage``, ``progress``, ``warning`` or ``memory`` event."""
        if event["event"] == "progress":
            self._progress(event)
        elif event["event"] in ("warning", "memory"):
            self.say(f"{event['event']}: {event['message']}")

    def _progress(self, event: Mapping[str, Any]) -> None:
        stage, fraction, left = event["stage"], float(event["fraction"]), event["seconds_left"]
        text = f"{fraction:4.0%} {STAGES.get(stage, stage)}"
        if left is not None and left >= 1:
            text += f", {duration(left)} left"
        if self.terminal or fraction >= self._next:
            self._next = (int(fraction / _STEP + 1e-9) + 1) * _STEP
            self.line(text, fraction)


class LogHandler(logging.Handler):
    """Prints what the library logs on standard error: "warning: ...", and what is no warning as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        say(f"{level}{record.getMessage()}", sys.stderr)


def show_log() -> None:
    """Print the library's log from now on; only once."""
    log = logging.getLogger("synthgan")
    if not any(isinstance(handler, LogHandler) for handler in log.handlers):
        log.addHandler(LogHandler())
        log.setLevel(logging.INFO)
        log.propagate = False


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
