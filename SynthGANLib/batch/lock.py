"""One batch at a time in an output folder, by a lock that ends with its process however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from SynthGANLib.errors import InputError

LOCK = ".synthgan-batch.lock"


@contextlib.contextmanager
def held(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of `folder`; on a file system without locks `note` is told so.

    Raises:
        InputError: another process holds it, or the folder takes no file.
    """
    path = folder / LOCK
    try:
        file = _locked(path)
    except BlockingIOError:
        raise InputError(
            f"Another batch is writing into '{folder}'.", next_step="Wait for its end, or choose another output folder."
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT):
            raise InputError(
                f"Nothing can be written to '{folder}': {error.strerror}.",
                next_step="Free some space, correct the permissions or choose another output folder.",
            ) from error
        note(f"The disk of '{folder}' knows no locks: start no second batch into it meanwhile.")
        file = None
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):  # an empty hidden file does no harm
                path.unlink()
            file.close()


def _locked(path: Path) -> IO[bytes]:
    """The file, open and locked; BlockingIOError if another process has it."""
    while True:
        file = path.open("ab")
        try:
            _lock(file)
            # The former holder may have removed the file between our opening and locking it.
            if os.path.lexists(path) and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError:
            file.close()
            raise
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as error:  # what Windows says of a file that is locked
            raise BlockingIOError(errno.EWOULDBLOCK, "locked") from error

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
