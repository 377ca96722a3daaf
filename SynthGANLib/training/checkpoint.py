"""Checkpoints of a run: whole or absent, of tensors and plain values only, and taken up to the last bit.

A checkpoint is `checkpoints/step-<n>.pt` in the run's folder; with several processes each further one adds
`step-<n>.rank<r>.pt` with what is its own (pools, buffers, random numbers), written before the main file, so that
where the main file is, all are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from SynthGANLib.errors import InputError
from SynthGANLib.files import PART, NotWrittenError, write_whole
from SynthGANLib.recipes.base import Setup
from SynthGANLib.training.state import Content, State

FORMAT = 1
KEPT = 2
"""Checkpoints kept: should the last be damaged, the one before is there."""

_NAME = re.compile(r"step-(\d{8,})\.pt")


def folder_of(run: Path) -> Path:
    """Where the checkpoints of a run lie."""
    return run / "checkpoints"


def path_of(run: Path, step: int, rank: int = 0) -> Path:
    """The file of one process's checkpoint after `step` steps."""
    return folder_of(run) / (f"step-{step:08d}.rank{rank}.pt" if rank else f"step-{step:08d}.pt")


def steps_of(run: Path) -> list[int]:
    """Steps of the checkpoints that are there, newest first."""
    names = [_NAME.fullmatch(path.name) for path in folder_of(run).glob("step-*.pt")]
    return sorted((int(match[1]) for match in names if match), reverse=True)


def save(run: Path, state: State, about: Mapping[str, Any], *, rank: int, agree: Callable[[bool], bool]) -> None:
    """Write this process's part of a checkpoint and then remove all but the last two.

    `about` (plain values: fingerprint, split) is what a resumed run must share; `agree` waits for all processes and is
    true if it is given true in all of them.

    Raises:
        NotWrittenError: a disk refused, in all processes alike; the checkpoints before it are as they were.
    """
    problem: NotWrittenError | None = None
    content: Content = {"format": FORMAT, **state.own()} if rank else {}
    if rank:
        problem = _written(path_of(run, state.step, rank), content)
    if agree(problem is None) and rank == 0:
        content = {"format": FORMAT, "about": dict(about), **state.shared()}
        problem = _written(path_of(run, state.step), content)
    if not agree(problem is None):
        with contextlib.suppress(OSError):  # a part without its whole would only take space
            path_of(run, state.step, rank).unlink()
        raise problem or NotWrittenError(
            f"Another process could not write its part of the checkpoint of step {state.step}.",
            next_step="Free space there, then continue with --resume.",
        )
    _remove_old(run, rank)


def load(run: Path, step: int, rank: int = 0) -> Content:
    """The content of one process's file; InputError if it is damaged or of another format."""
    return read(path_of(run, step, rank))


def read(path: Path) -> Content:
    """The content of a file, checked by its CRCs and read without unpickling anything but tensors and plain values.

    Raises:
        InputError: truncated, damaged, not a checkpoint, or of another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        content = torch.load(path, map_location="cpu", weights_only=True) if damaged is None else None
    except Exception as error:  # a damaged archive makes zipfile and PyTorch raise almost anything
        raise InputError(f"The checkpoint '{path}' is damaged ({_one_line(error)}).") from error
    if damaged is not None:
        raise InputError(f"The checkpoint '{path}' is damaged (its checksum differs in '{damaged}').")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"'{path}' is not a checkpoint of format {FORMAT}.", next_step="Train with this version.")
    return content


def newest(run: Path, world: int, warn: Callable[[str], None]) -> int | None:
    """The step of the newest checkpoint whose files, of all `world` processes, can be read; None without any.

    A damaged one is told by `warn` and passed over.

    Raises:
        InputError: there are checkpoints and none can be read.
    """
    steps = steps_of(run)
    for step in steps:
        try:
            for rank in range(world):
                load(run, step, rank)
        except InputError as error:
            warn(f"{error} The one before it is taken.")
        else:
            return step
    if steps:
        raise InputError(
            f"None of the {len(steps)} checkpoints in '{folder_of(run)}' can be read.",
            next_step="Start again in another folder.",
        )
    return None


def take_up(run: Path, step: int, state: State, about: Mapping[str, Any], *, rank: int) -> None:
    """Bring `state` to where the checkpoint of `step` left it.

    Raises:
        InputError: damaged, or of a run with another setup, seed or split (says which field differs).
    """
    shared = load(run, step)
    found = difference(shared["about"], about)
    if found is not None:
        raise InputError(
            f"The run in '{run}' cannot be resumed with other settings: {found}.",
            next_step="Resume with the settings it was started with, or start in another folder.",
        )
    state.restore(shared, load(run, step, rank) if rank else shared)


def fingerprint(setup: Setup) -> dict[str, Any]:
    """The setup as plain values: what must be the same in a resumed run."""
    fields = {field.name: getattr(setup, field.name) for field in dataclasses.fields(setup)}
    config = fields["config"]
    fields["config"] = {"class": type(config).__name__, **_fields(config)}
    regime = fields["regime"]
    fields["regime"] = getattr(regime, "__qualname__", type(regime).__qualname__)
    result: dict[str, Any] = plain(fields)
    return result


def plain(value: Any) -> Any:
    """Dataclasses and mappings as dictionaries, sequences as lists, paths as text; scalars as they are."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in _fields(value).items()}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def difference(there: Any, here: Any, where: str = "") -> str | None:
    """The first field in which two plain values differ, as a clause; None if they are the same."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for name in [*there, *(name for name in here if name not in there)]:
            place = f"{where}.{name}" if where else str(name)
            if name not in here or name not in there:
                return f"'{place}' is only {'there' if name in there else 'here'}"
            found = difference(there[name], here[name], place)
            if found:
                return found
        return None
    if there == here:
        return None
    return f"'{where}' is {json.dumps(there)[:200]} there and {json.dumps(here)[:200]} here"


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)} if value is not None else {}


def _written(path: Path, content: Content) -> NotWrittenError | None:
    try:
        write_whole(path, functools.partial(torch.save, content))
    except NotWrittenError as error:
        return error
    return None


def _remove_old(run: Path, rank: int) -> None:
    """All but the last checkpoints of this process, and what a killed process left half-written."""
    ending = f".rank{rank}.pt" if rank else ".pt"
    mine = sorted(path for path in folder_of(run).glob(f"step-*{ending}") if rank or _NAME.fullmatch(path.name))
    left = [path for path in folder_of(run).glob(f"step-*{ending}{PART}") if rank or ".rank" not in path.name]
    for path in [*mine[:-KEPT], *left]:
        with contextlib.suppress(OSError):  # it costs space, nothing else; the next save tries again
            path.unlink()


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
