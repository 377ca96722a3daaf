"""Every error a user can meet: one sentence for the cause, one for the next step, one exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

Cancel = Callable[[], bool]
"""Asked between two pieces of work; true ends it with CancelledError."""


class SynthGANError(Exception):
    """Base of all errors meant for a user.

    ``str(error)`` is the cause in one sentence, :attr:`next_step` says what to do about it,
    :attr:`exit_code` is the process exit code and :attr:`kind` the name used in JSON messages.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step

    def __reduce__(self) -> tuple[type[SynthGANError], tuple[str], dict[str, str]]:
        # Keeps next_step when an error crosses a process boundary.
        return type(self), (str(self),), {"next_step": self.next_step}


class InputError(SynthGANError):
    """A file, folder or argument that cannot be read or makes no sense."""

    exit_code = 2
    kind = "input"


class ModelError(SynthGANError):
    """A model folder that is refused."""

    exit_code = 2
    kind = "model"


class ModelExistsError(ModelError):
    """A model of that id is there already; it is replaced on request only."""

    kind = "exists"


class UnfitInputError(SynthGANError):
    """A readable volume that does not fit: constant, empty, no body, wrong modality."""

    exit_code = 3
    kind = "unfit"


class MemoryExhaustedError(SynthGANError):
    """Memory ran out even after every fallback."""

    exit_code = 4
    kind = "memory"


class CancelledError(SynthGANError):
    """The user cancelled; nothing was written."""

    exit_code = 130
    kind = "cancelled"


def refused_by_system(error: OSError) -> InputError:
    """What the operating system refused, such as a name too long or a folder without permission, as a sentence."""
    name = str(error.filename or "")
    shown = name if len(name) <= 200 else f"{name[:197]}..."
    what = f"'{shown}' cannot be used" if shown else "The system refused to go on"
    return InputError(
        f"{what} ({error.strerror or type(error).__name__}).",
        next_step="Check its name, its permissions and the disk.",
    )


def error_event(error: SynthGANError) -> dict[str, Any]:
    """The ``error`` event of an error."""
    return {
        "event": "error",
        "kind": error.kind,
        "cause": _sentence(str(error)),
        "next_step": error.next_step,
        "exit_code": error.exit_code,
    }


def _sentence(text: str) -> str:
    """The text on one line, with a capital letter and a full stop: a next step may follow it."""
    line = " ".join(text.split())
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", "!", "?")) else ".") if line else line
