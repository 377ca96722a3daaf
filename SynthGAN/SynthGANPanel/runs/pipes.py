"""The output of a child process, read without waiting and without a thread.

A Python thread in the application is dangerous even if it only reads: garbage collection runs in whichever thread
allocates, and the application crashes if another thread than the main one destroys a widget or node.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from typing import IO

LONGEST_LINE = 1 << 20
MOST_PER_READ = 1 << 22
"""A child that writes without end must not block the application."""
_PIECE = 1 << 16


class LineReader:
    """The lines of a pipe as they come, without line ends; a line without end is cut into pieces.

    :param stream: the reading end of a pipe, binary and unbuffered; closed by `close`
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self.ended = False
        if sys.platform != "win32":
            os.set_blocking(stream.fileno(), False)

    def lines(self) -> list[str]:
        """The whole lines that have arrived since the last call; at the end of the pipe also what has no line end."""
        while not self.ended and len(self._rest) < MOST_PER_READ:
            piece = self._piece()
            if piece is None:
                break
            self.ended = not piece
            self._rest += self._decoder.decode(piece, final=self.ended)
        *whole, self._rest = self._rest.split("\n")
        if self._rest and (self.ended or len(self._rest) >= LONGEST_LINE):
            whole.append(self._rest)
            self._rest = ""
        return [part for line in whole for part in _cut(line.removesuffix("\r"))]

    def close(self) -> None:
        """Read no more."""
        self.ended = True
        self._stream.close()

    def _piece(self) -> bytes | None:
        """Available bytes, none at the end of the pipe, None where no bytes are available."""
        descriptor = self._stream.fileno()
        if sys.platform == "win32":
            return _pieceOnWindows(descriptor)
        try:
            return os.read(descriptor, _PIECE)
        except BlockingIOError:
            return None


if sys.platform == "win32":

    def _pieceOnWindows(descriptor: int) -> bytes | None:
        # Windows has no non-blocking read of pipes, but reports how many bytes are available.
        import _winapi
        import msvcrt

        try:
            ready, _left = _winapi.PeekNamedPipe(msvcrt.get_osfhandle(descriptor), 0)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EBADF) or error.winerror == 109:  # ERROR_BROKEN_PIPE: the end
                return b""
            raise
        return os.read(descriptor, min(ready, _PIECE)) if ready else None


def _cut(line: str) -> list[str]:
    return [line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE)] or [""]
