"""What workers of a cluster do in tests beside computing: they leave word of every attempt, wait, and die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from SynthGANLib.batch.case import Outcome, Settings
from SynthGANLib.batch.inputs import BatchCase
from SynthGANLib.batch.ray import work_there
from SynthGANLib.errors import InputError


def note(settings: Settings, line: str) -> None:
    """Append a line to the log beside the output folder; whole, whoever writes at the same time."""
    with (settings.out.parent / "attempts.log").open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


def noted(settings: Settings, case: BatchCase, part: Path, threads: int) -> Outcome:
    note(settings, f"begun {case.name}")
    outcome = work_there(settings, case, part, threads)
    note(settings, f"computed {case.name}")
    return outcome


def waits_before(settings: Settings, case: BatchCase, part: Path, threads: int) -> Outcome:
    """The first attempt at p2 waits for its end before it computes anything."""
    if case.name == "p2":
        _wait_once(settings)
    return noted(settings, case, part, threads)


def waits_after(settings: Settings, case: BatchCase, part: Path, threads: int) -> Outcome:
    """The first attempt at p2 waits for its end when all is computed and nothing told."""
    outcome = noted(settings, case, part, threads)
    if case.name == "p2":
        _wait_once(settings)
    return outcome


def dies(settings: Settings, case: BatchCase, part: Path, threads: int) -> Outcome:
    """Every attempt at p2 ends with its process."""
    if case.name == "p2":
        note(settings, "begun p2")
        os.kill(os.getpid(), signal.SIGKILL)
    return noted(settings, case, part, threads)


def refuses(settings: Settings, case: BatchCase, part: Path, threads: int) -> Outcome:
    """A machine that cannot take part."""
    raise InputError("This machine lacks the disk.", next_step="Mount it.")


def _wait_once(settings: Settings) -> None:
    """Write the process's number where the test looks for it, and wait to be killed."""
    try:
        handle = os.open(settings.out.parent / "victim", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.write(handle, f"{os.getpid()}\n".encode())
    os.close(handle)
    time.sleep(300)
    raise AssertionError("nobody killed the worker")
