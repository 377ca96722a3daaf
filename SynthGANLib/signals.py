"""Ctrl-C and SIGTERM ask to stop: what is in progress ends in an orderly way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from SynthGANLib.errors import CancelledError

# SIGBREAK, Ctrl-Break, exists on Windows only.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))


class TerminatedError(CancelledError):
    """SIGTERM ended what had not begun to write."""

    exit_code = 143


class Stop:
    """Whether the run was asked to end, and by which signal (0: not asked, or asked by a program)."""

    def __init__(self) -> None:
        self.signal = 0
        self._event = threading.Event()

    @property
    def asked(self) -> bool:
        """Whether the run was asked to end."""
        return self._event.is_set()

    def ask(self, signal_number: int = 0) -> None:
        """End after the step in progress."""
        self.signal = signal_number
        self._event.set()

    def is_set(self) -> bool:
        """The same as `asked`, as a `SynthGANLib.errors.Cancel`."""
        return self.asked

    def wait(self, seconds: float) -> bool:
        """Wait until the run is asked to end, at most so long; whether it was."""
        return self._event.wait(seconds)

    def refuse(self, sentence: str) -> None:
        """Raise CancelledError (TerminatedError after SIGTERM) with this sentence, if the run was asked to end."""
        if self.asked:
            kind = TerminatedError if self.signal == signal.SIGTERM else CancelledError
            raise kind(sentence, next_step="Start it again when wanted.")

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C (SIGINT), 143 after SIGTERM, as shells count them; else 0."""
        return 128 + self.signal if self.signal else 0


@contextlib.contextmanager
def stop_on_signals(*, interrupt: bool = True) -> Iterator[Stop]:
    """The first Ctrl-C or SIGTERM asks to stop; with `interrupt` a second Ctrl-C raises KeyboardInterrupt at once."""
    stop = Stop()
    former: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt and stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.ask(number)

    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
        for number in _SIGNALS:
            former[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
