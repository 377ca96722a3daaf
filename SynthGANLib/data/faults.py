"""Refusals of cases gathered into one, so that a user hears at once of all that is wrong with a data list."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from SynthGANLib.errors import InputError

SHOWN = 5
"""Faults that are told in full; the rest is counted."""

Progress = Callable[[int, int], None]
"""Told (cases done, cases in all)."""

_T = TypeVar("_T")


class Faults:
    """What is wrong with some of `total` cases."""

    def __init__(self, total: int, noun: str = "cases") -> None:
        self._total, self._noun = total, noun
        self._found: list[InputError] = []

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Keep an InputError that is raised inside, and go on after it."""
        try:
            yield
        except InputError as error:
            self._found.append(error)

    def refuse(self) -> None:
        """Raise all of them as one InputError; nothing happens where none was found."""
        found = self._found
        if not found:
            return
        if len(found) == 1:
            raise found[0]
        named = " ".join(str(fault) for fault in found[:SHOWN])
        more = f" {len(found) - SHOWN} more are not shown." if len(found) > SHOWN else ""
        raise InputError(
            f"{len(found)} of {self._total} {self._noun} cannot be trained on. {named}{more}",
            next_step="Repair these cases, or take them out of the data list.",
        )


def all_of(
    jobs: Sequence[Callable[[], _T]],
    *,
    noun: str = "cases",
    progress: Progress | None = None,
    cancel: Callable[[], None] | None = None,
) -> list[_T]:
    """What the jobs, one a case, return; all are done before their faults are raised as one.

    `cancel` is called before each and may raise.
    """
    faults, results = Faults(len(jobs), noun), []
    for number, job in enumerate(jobs):
        if cancel is not None:
            cancel()
        with faults.gathered():
            results.append(job())
        if progress is not None:
            progress(number + 1, len(jobs))
    faults.refuse()
    return results
