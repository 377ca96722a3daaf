"""The one error that the panel and the Python console see."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from SynthGANLib.errors import SynthGANError


class SynthesisError(RuntimeError):
    """A task that failed or was cancelled; the scene is unchanged.

    `str(error)` is the text that the panel shows: the cause in one sentence, then what to do.

    :ivar cause: what went wrong and where, one sentence
    :ivar nextStep: what to do about it, one sentence or empty
    :ivar kind: "input", "model", "unfit", "memory", "cancelled", "package", "process" or "result"
    :ivar log: the last lines of the child process, for the details
    """

    def __init__(self, cause: str, nextStep: str = "", kind: str = "input", log: Sequence[str] = ()) -> None:
        super().__init__(f"{cause} {nextStep}".strip())
        self.cause = cause
        self.nextStep = nextStep
        self.kind = kind
        self.log = list(log)


def asSynthesisError(error: BaseException, log: Sequence[str] = ()) -> SynthesisError:
    """The panel's error for anything that went wrong: itself, too little memory, or a defect with its trace."""
    if isinstance(error, SynthesisError):
        return error
    if isinstance(error, MemoryError):
        return SynthesisError(
            _("There is not enough memory in Slicer for this task."),
            _("Close other volumes and try again."),
            "memory",
            log,
        )
    return SynthesisError(
        _("Something that should not happen ended this task ({name}: {error}).").format(
            name=type(error).__name__, error=error
        ),
        _("Please report it, with the details below."),
        "process",
        [*log, *traceback.format_exception(error)],
    )


def fromLibrary(error: SynthGANError) -> SynthesisError:
    """The panel's error for one of the library's."""
    return SynthesisError(str(error), error.next_step, error.kind)
