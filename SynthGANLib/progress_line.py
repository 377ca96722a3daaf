"""The one printer of progress: a line rewritten in place on a terminal, else plain lines."""

from __future__ import annotations

import os
import shutil
from types import TracebackType
from typing import Self, TextIO

_BAR = 20


def say(text: str, stream: TextIO | None, *, end: str = "\n") -> bool:
    """Print a remark; false where that is impossible, which is no reason to end the work it is about."""
    try:
        if stream is not None:  # print would take standard output instead
            print(text, end=end, file=stream, flush=True)
    except (OSError, ValueError):  # nobody reads any more, the disk is full, or the stream was closed
        return False
    return stream is not None


def duration(seconds: float) -> str:
    """A time in words: ``12 s``, ``4 min 10 s``, ``3 h 05 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class ProgressLine:
    """Prints progress on a stream; without readers (as after "2>&1 | head") it prints nothing more."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def line(self, text: str, fraction: float | None = None) -> None:
        """Show `text`, on a terminal after a bar of the fraction that is done, in place of the line before."""
        if not self.terminal:
            self._print(text.strip())
            return
        columns = max(shutil.get_terminal_size().columns - 1, 10)
        if fraction is not None:
            full = round(_BAR * fraction)
            text = f"[{'#' * full}{'.' * (_BAR - full)}] {text}"
        text = text[:columns]
        self._print(text.ljust(min(self._width, columns)), end="\r")
        self._width = len(text)

    def say(self, sentence: str) -> None:
        """Print a sentence on a line of its own."""
        self.clear()
        self._print(sentence)

    def clear(self) -> None:
        """Remove the line that would be rewritten."""
        if self._width:
            self._print(" " * self._width, end="\r")
            self._width = 0

    def _print(self, text: str, end: str = "\n") -> None:
        if self._stream is not None and not say(text, self._stream, end=end):
            self._stream = None
