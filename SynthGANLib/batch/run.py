"""Many cases with one model, on one machine or several: each done once, what is done is kept, what fails is told.

A case is computed into a hidden folder below the output folder and put in its place by renaming, first its record,
then the volume; both are done by the process that holds the lock of the output folder and by no other. So a batch
that is killed at any moment leaves whole results only, and starting it again does the rest.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANLib.batch.case import Outcome, Settings, collected, disk_refused, load_model, perform
from SynthGANLib.batch.inputs import BatchCase
from SynthGANLib.batch.lock import held
from SynthGANLib.batch.record import check_summaries, read_own, record_path, write_summaries
from SynthGANLib.errors import Cancel, CancelledError, InputError, SynthGANError
from SynthGANLib.inference.provenance import versions

if TYPE_CHECKING:
    from SynthGANLib.model.model import Model

SOME_FAILED = 5
"""Exit code of a batch that came to its end with failed cases."""

PARTS = ".synthgan-batch.part"
"""The hidden folder below the output folder that holds what is not finished."""


@dataclass(frozen=True)
class Batch:
    """A checked set of cases with their settings, from :func:`plan_batch`."""

    settings: Settings
    cases: tuple[BatchCase, ...]


Execute = Callable[[Batch, Path, Cancel], Generator[Outcome, None, None]]
"""Takes a batch, the folder for parts and what asks for cancelling; yields the outcome of every case, as they come.

Raises CancelledError when asked to stop, and any other SynthGANError for what no case is to blame for."""
Tell = Callable[[Outcome, int, float | None], None]
"""Told each outcome, how many there are so far, and the seconds that the rest will take, None while unknown."""


def plan_batch(settings: Settings, cases: Sequence[BatchCase]) -> Batch:
    """Check everything that can be known before anything is computed.

    Raises:
        InputError: two cases have one output, an output is an input, or the output folder is no place for a batch.
    """
    out = settings.out
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"The output folder '{out}' is a file.", next_step="Choose another name.")
    taken: dict[str, BatchCase] = {}
    inputs = {os.path.realpath(path): path for case in cases for path in (case.input, case.mask) if path is not None}
    for case in cases:
        if not _is_text(case.name) or not _is_text(str(case.input)):
            raise InputError(
                f"The path {os.fspath(case.input)!a} holds control characters or is no text.", next_step="Rename it."
            )
        # Folders are carried to disks that do not tell capitals apart: there one result would replace the other.
        key = unicodedata.normalize("NFC", case.name).casefold()
        other = taken.setdefault(key, case)
        if other is not case:
            raise InputError(
                f"'{other.input}' and '{case.input}' would both be written to '{settings.output(case)}'.",
                next_step="Rename one of them, or give the cases of a data list different names by 'name'.",
            )
        output = os.path.realpath(settings.output(case))
        if output in inputs:
            raise InputError(
                f"The output of the case '{case.name}' would be the input '{inputs[output]}' itself.",
                next_step="Choose another output folder.",
            )
    check_summaries(out)
    return Batch(settings, tuple(cases))


def run_batch(
    batch: Batch,
    tell: Tell,
    *,
    execute: Execute | None = None,
    cancel: Cancel = lambda: False,
    note: Callable[[str], None] = lambda sentence: None,
) -> tuple[int, dict[str, Any]]:
    """Run a batch to its end; returns the exit code (0, 5 or 130) and the content of ``summary.json``.

    Args:
        tell: told each outcome, after its result is in its place.
        execute: who computes; this process if left out.
        note: told sentences about the run as a whole.

    Raises:
        InputError, ModelError: the batch as a whole cannot run; what was done before is kept and summarized.
    """
    started = time.monotonic()
    outcomes: dict[str, Outcome] = {}
    error: SynthGANError | None = None
    settings = batch.settings
    with _output_folder(settings.out), held(settings.out, note):
        parts = _fresh_parts(settings.out)
        try:
            with contextlib.closing((execute or on_this_machine)(batch, parts, cancel)) as coming:
                for outcome in _published(coming, settings):
                    outcomes[outcome.case.name] = outcome
                    elapsed = time.monotonic() - started
                    tell(outcome, len(outcomes), _seconds_left(outcomes, len(batch.cases), elapsed))
        except KeyboardInterrupt:  # a second Ctrl-C
            error = CancelledError("The batch was cancelled.")
        except SynthGANError as problem:
            error = problem
        finally:
            shutil.rmtree(parts, ignore_errors=True)  # what cannot be removed now is removed by the next run
        summary = _summary(batch, outcomes, error, time.monotonic() - started)
        if outcomes:
            write_summaries(settings.out, summary)
    if error is not None and not isinstance(error, CancelledError):
        raise error
    failed = summary["counts"]["failed"]
    return (CancelledError.exit_code if error else SOME_FAILED if failed else 0), summary


def on_this_machine(batch: Batch, parts: Path, cancel: Cancel) -> Generator[Outcome, None, None]:
    """Compute one case after the other; the model is loaded once, when the first case needs it."""
    loaded: list[Model] = []

    def load() -> Model:
        if not loaded:
            loaded.append(load_model(batch.settings))
        return loaded[0]

    for number, case in enumerate(batch.cases):
        if cancel():
            raise CancelledError("The batch was cancelled.")
        yield perform(case, batch.settings, load, parts / str(number), cancel)


# Putting results in their places


def _published(outcomes: Iterable[Outcome], settings: Settings) -> Iterator[Outcome]:
    """The outcomes, each after its result was put in its place; the first of a case counts, further ones do not."""
    seen: set[str] = set()
    for outcome in outcomes:
        if outcome.case.name in seen:
            continue
        seen.add(outcome.case.name)
        yield collected(outcome.case, functools.partial(_publish, outcome, settings))


def _publish(outcome: Outcome, settings: Settings) -> Outcome:
    """Rename record and volume from the part into place, the record first: a volume without one is nobody's."""
    part = outcome.part
    if part is None:
        return outcome
    output = settings.output(outcome.case)
    output.parent.mkdir(parents=True, exist_ok=True)
    if outcome.aside and output.exists():
        os.replace(output, output.with_name(outcome.aside))
    elif os.path.lexists(output) and read_own(record_path(output)) is None:
        raise InputError(f"'{output}' appeared while it was being computed.", next_step="Move it, and start again.")
    os.replace(part / "record.json", record_path(output))
    os.replace(part / ("volume" + settings.suffix), output)
    shutil.rmtree(part, ignore_errors=True)
    return replace(outcome, part=None)


@contextlib.contextmanager
def _output_folder(out: Path) -> Iterator[None]:
    """Make the folder; one that was made here and holds nothing at the end is removed again."""
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_refused(error) from error
    try:
        yield
    finally:
        if made:
            with contextlib.suppress(OSError):  # it is not empty, as it should be
                out.rmdir()


def _fresh_parts(out: Path) -> Path:
    """An empty folder for parts; what a killed run has left there goes."""
    parts = out / PARTS
    try:
        if parts.exists():
            shutil.rmtree(parts)
        parts.mkdir()
    except OSError as error:
        raise disk_refused(error) from error
    return parts


# Telling


def _seconds_left(outcomes: Mapping[str, Outcome], total: int, elapsed: float) -> float | None:
    """By the pace of the cases so far; None before one was computed."""
    computed = sum(outcome.status != "skipped" for outcome in outcomes.values())
    return elapsed / computed * (total - len(outcomes)) if computed else None


def _summary(
    batch: Batch, outcomes: Mapping[str, Outcome], error: SynthGANError | None, seconds: float
) -> dict[str, Any]:
    """The content of ``summary.json``, cases in their own order."""
    settings = batch.settings
    rows = [outcomes.get(case.name, Outcome(case, "not run")).row(settings) for case in batch.cases]
    statuses = [row["status"] for row in rows]
    return {
        "out": str(settings.out.absolute()),
        "model": settings.identity,
        "version": settings.version,
        "weights_sha256": settings.weights_sha256,
        "cancelled": isinstance(error, CancelledError),
        "counts": {name: statuses.count(name) for name in ("done", "skipped", "failed", "not run")},
        "seconds": round(seconds, 3),
        "versions": versions(),
        "cases": rows,
    }


def _is_text(text: str) -> bool:
    return all(ord(letter) >= 32 and ord(letter) != 127 and not 0xD800 <= ord(letter) < 0xE000 for letter in text)
