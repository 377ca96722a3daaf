"""The look at all data before a first step: what cannot be trained on is refused, doubtful pairs are told."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TextIO

from SynthGANLib.data.faults import Progress
from SynthGANLib.data.pairs import PairReport
from SynthGANLib.errors import InputError, SynthGANError
from SynthGANLib.files import write_json
from SynthGANLib.progress_line import ProgressLine
from SynthGANLib.signals import stop_on_signals
from SynthGANLib.training.distributed import World

PAIRS = "pairs.json"
_LOG = logging.getLogger("synthgan")


class Counter(ProgressLine):
    """Lines such as "checking case 3 of 40": none in the first seconds, and without a terminal one now and then."""

    QUIET, SELDOM = 2.0, 10.0
    """Seconds before the first line, and between lines where there is no terminal."""

    def __init__(self, stream: TextIO, what: str) -> None:
        super().__init__(stream)
        self._what = what
        self._due = time.monotonic() + self.QUIET

    def show(self, done: int, total: int) -> None:
        """`done` of `total` are finished."""
        now = time.monotonic()
        if now < self._due or done == total:
            return
        self.line(f"{self._what} {done + 1} of {total}")
        if not self.terminal:
            self._due = now + self.SELDOM


class Checked(Protocol):
    """Data that can be looked at as a whole (`Feed`)."""

    def check(self, progress: Progress | None = None, cancel: Callable[[], None] | None = None) -> PairReport | None:
        """See `Feed.check`."""


def checked(feed: Checked, world: World) -> PairReport | None:
    """Look at all cases, in the first process only, and tell of pairs that stand out; all processes end if it refuses.

    Raises:
        InputError: cases that cannot be trained on.
        CancelledError: Ctrl-C or SIGTERM.
    """
    report, problem = None, None
    if world.first:
        try:
            report = _looked_at(feed, sys.stderr)
        except SynthGANError as error:
            problem = error
    if not world.every(problem is None):
        raise problem or InputError("The first process refuses the data.", next_step="See what it says.")
    return report


def _looked_at(feed: Checked, stream: TextIO) -> PairReport | None:
    with stop_on_signals() as stop, Counter(stream, "checking case") as counter:
        report = feed.check(
            counter.show, lambda: stop.refuse("The check of the data was stopped; nothing was written.")
        )
        stop.refuse("The training was stopped before its first step; nothing was written.")
    if report is not None:
        tell(report)
    return report


def tell(report: PairReport) -> None:
    """Log one line for each reason to look at a pair, and one on the remarks of the reading."""
    for result in report.outliers:
        for reason in result.suspect:
            _LOG.warning("%s: %s", result.case, reason)
    remarked = [result for result in report.results if result.notes]
    if remarked:
        some = f"{len(remarked)} of {len(report.results)} pairs"
        first = f"{remarked[0].case}: {remarked[0].notes[0]}"
        _LOG.info("Remarks on %s, such as %s All are in %s.", some, first, PAIRS)


def write_pairs(run: Path, report: PairReport) -> None:
    """Write what was found of the pairs into the run; NotWrittenError if the disk refuses."""
    write_json(run / PAIRS, report.to_json())
