"""The child process: JSON lines in, one job, JSON lines out; it ends when the one who started it does.

``python -m SynthGANLib.jobs.worker`` reads the job (see :class:`SynthGANLib.jobs.synthesis.Job`) from one line of
standard input. ``{"job": "ready"}`` is answered with ``{"event": "ready"}`` as soon as torch is loaded, and may come
before the job. A further line ``{"cancel": true}`` or the end of standard input cancels within one tile
(exit code 130). How long a synthesis took is recorded in the user's data folder, see
:mod:`SynthGANLib.inference.estimate`.

Standard output carries JSON lines (ASCII) and nothing else; whatever a library prints goes to standard error.
The exit code is that of the last event: 0, or the error's.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
from typing import Any

from SynthGANLib.errors import InputError, SynthGANError
from SynthGANLib.inference.provenance import versions
from SynthGANLib.jobs.events import Emit, emit_error, emit_missing
from SynthGANLib.jobs.run import run_job
from SynthGANLib.progress_line import say
from SynthGANLib.signals import Stop, stop_on_signals
from SynthGANLib.strict_json import JsonError, parse_json

MAX_LINE = 2**20
POLL_SECONDS = 0.2

_started = time.monotonic()


def main() -> int:
    """Run the worker; returns the exit code."""
    with stop_on_signals(interrupt=False) as stop:
        try:
            emit = _json_channel(stop)
        except OSError:  # no event could be reported, so no job is begun
            say("The worker reports its events on standard output, which is closed.", sys.stderr)
            return InputError.exit_code
        try:
            return _serve(StdinLines(stop), emit, stop)
        except SynthGANError as error:
            return emit_error(emit, error)
        except ImportError as error:  # "ready" needs torch
            return emit_missing(emit, error)


def _serve(lines: StdinLines, emit: Emit, stop: Stop) -> int:
    """Answer "ready" as often as asked, then run one job."""
    answered = False
    while (line := lines.first()) is not None:
        content = _parsed(line)
        if content.get("job") != "ready":
            return run_job(content, _remembering(emit), cancel=stop.is_set)
        emit(_ready())
        answered = True
    if answered:
        return 0
    raise InputError("No job came before the input ended.", next_step="Send one JSON object on one line.")


def _remembering(emit: Emit) -> Emit:
    """The same, but how long a run took is recorded for later estimates before its end is told."""

    def told(event: dict[str, Any]) -> None:
        if event.get("event") == "done" and "pace" in event:
            from SynthGANLib.inference.estimate import Run, remember

            remark = remember(Run(**event["pace"]))
            if remark:
                logging.getLogger("synthgan").warning(remark)
        emit(event)

    return told


class StdinLines:
    """Lines of standard input, read by a thread that never holds a lock of Python's own streams.

    ``select`` does not work on pipes on Windows, and a thread inside ``sys.stdin.read`` makes the
    interpreter fail at its end; a thread in ``os.read`` does neither.
    """

    def __init__(self, stop: Stop, descriptor: int = 0) -> None:
        self._stop = stop
        self._descriptor = descriptor
        self._waiting: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def first(self) -> bytes | None:
        """The next line that holds a job; None at the end."""
        while not self._stop.is_set():
            try:
                return self._waiting.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
        # A cancel or an end that overtook its job: the job is still taken, and answered as cancelled.
        return self._waiting.get() if not self._waiting.empty() else None

    def _read(self) -> None:
        rest = b""
        while chunk := self._chunk():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(bytes.strip, lines):
                self._take(line)
            rest = rest[: MAX_LINE + 1]  # too long is refused later; the sender must not be stuck meanwhile
        if rest.strip():
            self._take(rest)  # a last line without its newline
        self._waiting.put(None)
        self._stop.ask()

    def _chunk(self) -> bytes:
        try:
            return os.read(self._descriptor, 65536)
        except OSError:  # no standard input at all is the same as one that has ended
            return b""

    def _take(self, line: bytes) -> None:
        """Cancel lines act at once, whatever the main thread is doing; the others wait their turn."""
        try:
            content = parse_json(line)
        except JsonError:
            content = None  # told by the main thread, which parses it again
        if isinstance(content, dict) and "cancel" in content:
            if content["cancel"] is True:
                self._stop.ask()
        else:
            self._waiting.put(line)


def _parsed(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise InputError(f"The job is longer than {MAX_LINE} bytes.", next_step="Send a shorter one.")
    try:
        content = parse_json(line)
    except JsonError as problem:
        raise InputError(
            f"The job cannot be understood: {problem}.", next_step="Send one JSON object on one line."
        ) from None
    if not isinstance(content, dict):
        raise InputError("The job is not a JSON object.", next_step="Send one JSON object on one line.")
    return content


def _ready() -> dict[str, Any]:
    import torch

    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    seconds = round(time.monotonic() - _started, 3)
    return {"event": "ready", "seconds": seconds, "devices": devices, "versions": versions()}


def _json_channel(stop: Stop) -> Emit:
    """Keep the real standard output for events; prints of Python and of C libraries go to standard error."""
    if sys.stdout is not None:  # it is None where descriptor 1 was closed, and then `dup` fails
        sys.stdout.flush()
    channel = os.dup(1)
    try:
        os.dup2(2, 1)
    except OSError:  # no standard error: what libraries print is dropped
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    sys.stdout = sys.stderr

    def emit(event: dict[str, Any]) -> None:
        try:
            left = memoryview((json.dumps(event, allow_nan=False) + "\n").encode("ascii"))
            while left:  # a pipe may take only a part
                left = left[os.write(channel, left) :]
        except OSError:  # nobody reads any more: the one who started this is gone, and the run may end
            stop.ask()

    return emit


if __name__ == "__main__":
    sys.exit(main())
