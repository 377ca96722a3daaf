"""What a run says: curves as JSON lines and CSV, pictures and curves in TensorBoard, progress for people.

`log.jsonl` has one object a line ("step" with numbers, or with "event" and "message"); `log.csv` has the columns
step, name, value. A resumed run drops what lies after its checkpoint: those steps come again.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from SynthGANLib.errors import InputError
from SynthGANLib.files import write_text
from SynthGANLib.progress_line import ProgressLine, duration

Picture = NDArray[np.uint8]
"""(rows, columns) gray or (rows, columns, 3) color."""

HEADER = "step,name,value\n"

_LOG = logging.getLogger("synthgan")


class Logger(Protocol):
    """Takes what a run says; implement it for another tracker."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after `step` steps."""

    def event(self, step: int, kind: str, message: str) -> None:
        """A sentence: a warning, a checkpoint that could not be written."""

    def picture(self, step: int, name: str, picture: Picture) -> None:
        """A picture after `step` steps."""

    def close(self) -> None:
        """Nothing more comes."""


class FileLog:
    """`log.jsonl` and `log.csv` in the run's folder; each entry is on the disk before the next step.

    A disk that refuses does not end the run: it is told once on `stream`, and the entry is lost.
    """

    def __init__(self, run: Path, stream: TextIO, *, start: int = 0) -> None:
        self._json, self._csv = run / "log.jsonl", run / "log.csv"
        self._stream = stream
        self._told = False
        run.mkdir(parents=True, exist_ok=True)
        write_text(self._json, _until(self._json, start))
        rows = csv_until(self._csv, start)
        write_text(self._csv, rows)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One JSON line, and one CSV row for each number; what is not finite is null and "nan", "inf"."""
        plain = {name: value if math.isfinite(value) else None for name, value in values.items()}
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([step, name, repr(value)] for name, value in values.items())
        self._append(self._json, json.dumps({"step": step, "time": round(time.time(), 3), **plain}) + "\n")
        self._append(self._csv, text.getvalue())

    def event(self, step: int, kind: str, message: str) -> None:
        """One JSON line."""
        self._append(self._json, json.dumps({"step": step, "event": kind, "message": message}) + "\n")

    def picture(self, step: int, name: str, picture: Picture) -> None:
        """Pictures are for TensorBoard."""

    def close(self) -> None:
        """Every entry is written already."""

    def _append(self, path: Path, text: str) -> None:
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            if not self._told:
                _LOG.warning("'%s' cannot be written (%s).", path, error.strerror)
            self._told = True


class TensorBoardLog:
    """Curves and pictures for TensorBoard, in `tensorboard/` of the run.

    A disk that refuses does not end the run: it is told once on `stream`, and the run goes on without TensorBoard.

    Raises:
        InputError: the package tensorboard is not installed.
    """

    def __init__(self, run: Path, stream: TextIO, *, start: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # its package is needed by nothing else
        except ImportError as error:
            raise InputError(
                "TensorBoard is not installed.", next_step="Install it with: pip install synthgan[train]."
            ) from error
        self._stream = stream
        self._writer: Any = None
        make: Any = SummaryWriter
        with self._guarded():
            self._writer = make(str(run / "tensorboard"), purge_step=start + 1 if start else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point on each curve."""
        with self._guarded():
            for name, value in values.items():
                if self._writer is not None:
                    self._writer.add_scalar(name, value, step)

    def event(self, step: int, kind: str, message: str) -> None:
        """A text."""
        with self._guarded():
            if self._writer is not None:
                self._writer.add_text(kind, message, step)

    def picture(self, step: int, name: str, picture: Picture) -> None:
        """An image."""
        with self._guarded():
            if self._writer is not None:
                self._writer.add_image(name, picture, step, dataformats="HW" if picture.ndim == 2 else "HWC")

    def close(self) -> None:
        """Write what is buffered."""
        with self._guarded():
            if self._writer is not None:
                self._writer.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Give TensorBoard up where the disk refuses; its writer, whose thread has ended, is not closed."""
        try:
            yield
        except OSError as error:
            self._writer = None
            reason = error.strerror or str(error)
            _LOG.warning("Nothing more is written for TensorBoard (%s); the training goes on.", reason)


class StepLine(ProgressLine):
    """Shows how far a training is."""

    def __init__(self, stream: TextIO, steps: int, *, start: int = 0) -> None:
        super().__init__(stream)
        self._steps, self._start = steps, start
        self._begun = time.monotonic()

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """The state after `step` steps."""
        done = step - self._start
        pace = (time.monotonic() - self._begun) / done if done > 0 else 0.0
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        text = f"step {step} of {self._steps}: {numbers}"
        if done > 0:
            text += f"; {_pace(pace)}, {duration(pace * (self._steps - step))} left"
        self.line(text, step / self._steps)


def csv_until(path: Path, step: int) -> str:
    """The header and the complete rows of a CSV log up to `step`."""
    rows = path.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if path.exists() else []
    numbers = [row.partition(",")[0] for row in rows]
    kept = [row for row, number in zip(rows, numbers, strict=True) if number.isdigit() and int(number) <= step]
    return HEADER + "".join(row for row in kept if row.endswith("\n"))


def _until(path: Path, step: int) -> str:
    """The complete lines of a JSON log up to `step`; one that a killed process left half-written is dropped."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int) and entry["step"] <= step:
            kept.append(line + "\n")
    return "".join(kept)


def _pace(seconds: float) -> str:
    return f"{seconds:.2f} s a step" if seconds >= 0.2 else f"{1 / max(seconds, 1e-9):.0f} steps a second"


class Reports:
    """Gathers what the steps say and hands it on to the logs and to people; silent where `quiet`. Close by `with`."""

    def __init__(
        self,
        run: Path,
        steps: int,
        *,
        start: int = 0,
        quiet: bool = False,
        tensorboard: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        stream = stream or sys.stderr
        self._loggers: list[Logger] = [] if quiet else [FileLog(run, stream, start=start)]
        if tensorboard and not quiet:
            self._loggers.append(TensorBoardLog(run, stream, start=start))
        self._line = None if quiet else StepLine(stream, steps, start=start)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Reports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for logger in self._loggers:
            logger.close()
        if self._line is not None:
            self._line.clear()

    def collect(self, values: Mapping[str, Tensor]) -> None:
        """Scalars of one turn, "turn/term"; they stay on the device until they are told."""
        for name, value in values.items():
            known = self._sums.get(name)
            self._sums[name] = value.detach().float() if known is None else known + value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the means of what was collected since the last time, and these values as they are."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        for logger in self._loggers:
            logger.scalars(step, {**means, **values})
        if self._line is not None:
            totals: dict[str, float] = {}
            for name, mean in means.items():
                turn, _, term = name.partition("/")
                totals[turn] = totals.get(turn, 0.0) + (mean if term != "norm" else 0.0)
            self._line.report(step, totals)

    def validation(self, step: int, metrics: Mapping[str, float], text: str, pictures: Mapping[str, Picture]) -> None:
        """What a validation found."""
        for logger in self._loggers:
            logger.scalars(step, {f"validation/{name}": value for name, value in metrics.items()})
            for name, picture in pictures.items():
                logger.picture(step, name, picture)
        if self._line is not None:
            self._line.say(f"validation after step {step}: {text}")

    def warn(self, step: int, sentence: str | None) -> None:
        """Tell a sentence, if there is one."""
        if sentence is None:
            return
        for logger in self._loggers:
            logger.event(step, "warning", sentence)
        if self._line is not None:
            self._line.say(f"warning: {sentence}")
