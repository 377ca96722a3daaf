"""The child process that does the work: one JSON job in, JSON lines out, stopped in every case.

Why not `slicer.util.launchConsoleProcess(..., blocking=False)`: as of Slicer 5.12 it opens no pipe for standard
input (the child inherits Slicer's own, if it has one) and merges standard error into standard output. The worker
takes its job and the cancel request on standard input and, above all, ends when that pipe closes, which the
operating system does even if Slicer crashes. So the process is started here, with a hidden console and one pipe more,
and read by the main thread's timer without waiting (`pipes` explains why not by a thread). `PythonSlicer` is a launcher
whose child does the work; it hands the pipes through, but ending it alone would leave that child: hence the process
group.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs.pipes import LineReader

TERMINATE_AFTER_SECONDS = 3.0
"""A worker reacts to a cancel request within one tile; one that does not do so within this time is terminated. It
writes to its private folder only, so nothing is lost."""
KILL_AFTER_SECONDS = 5.0
LOG_LINES = 500
Event = dict[str, Any]
"""A JSON object that the child process reads or writes."""
CANCEL = b'{"cancel": true}\n'
LOOK_SECONDS = 0.01
"""Interval at which `stop` checks whether the process has ended."""


class WorkerProcess:
    """One child process, read without ever blocking the caller.

    :param command: executable and arguments
    :param job: the JSON object that the worker is given
    :param environment: all environment variables of the child
    :param folder: its working folder; `python -m` imports from there first, so it should hold no modules
    """

    def __init__(self, command: Sequence[str], job: Event, environment: dict[str, str], folder: Path) -> None:
        self.log: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self.exitCode: int | None = None
        self._cancelledAt: float | None = None
        encoded = _encoded(job)  # before the process starts: a job that cannot be encoded starts none
        try:
            self._process = subprocess.Popen(
                [str(part) for part in command], env=environment, cwd=str(folder), **_popenOptions()
            )
        except OSError as error:
            raise SynthesisError(
                _("The synthesis process could not be started with '{program}' ({reason}).").format(
                    program=command[0], reason=error.strerror or error
                ),
                _("Reinstall Slicer or the SynthGAN extension."),
                "process",
            ) from error
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None and stdout is not None and stderr is not None  # since they are pipes  # noqa: PT018
        self._input, self._output, self._errors = stdin, LineReader(stdout), LineReader(stderr)
        self._send(encoded)

    @property
    def running(self) -> bool:
        """False once the exit was reported by `poll`."""
        return self.exitCode is None

    def poll(self) -> list[Event]:
        """Events (JSON objects) that arrived since the last call.

        Sets `exitCode` when the process has ended and all its output was returned.
        """
        self._escalate()
        if not self.running:
            return []
        code = self._process.poll()  # polled first, so that the next read returns all output before the exit
        if code is not None:
            self._kill()  # including processes that the child started
        events, silent = self._read()
        if code is not None and silent:
            self._end(code)
        return events

    def cancel(self) -> None:
        """Ask the worker to stop; `poll` terminates it if it does not."""
        if self._cancelledAt is None and self.running:
            self._cancelledAt = time.monotonic()
            self._send(CANCEL)

    def stop(self) -> None:
        """End the process now, in three seconds at most: for closing the scene, reloading, quitting."""
        self._send(CANCEL)
        self._closeInput()
        for end, patience in ((None, 0.5), (self._terminate, 1.0), (self._kill, 1.5)):
            if end is not None:
                end()
            deadline = time.monotonic() + patience
            while self._process.poll() is None and time.monotonic() < deadline:
                self._read()  # a child that blocks on a full pipe does not read the cancel request
                time.sleep(LOOK_SECONDS)
            if self._process.poll() is not None:
                break
        if self.exitCode is None:
            code = self._process.poll()
            self._end(-signal.SIGTERM if code is None else code)

    def _escalate(self) -> None:
        if self._cancelledAt is None or not self.running:
            return
        waited = time.monotonic() - self._cancelledAt
        if waited > KILL_AFTER_SECONDS:
            self._kill()
        elif waited > TERMINATE_AFTER_SECONDS:
            self._closeInput()
            self._terminate()

    def _send(self, encoded: bytes) -> None:
        # The exit code reports a worker that has already ended.
        with contextlib.suppress(OSError, ValueError):
            self._input.write(encoded)
            self._input.flush()

    def _closeInput(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._input.close()

    def _terminate(self) -> None:
        if sys.platform == "win32":
            self._kill()  # Windows cannot ask a console process to end
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def _kill(self) -> None:
        if sys.platform == "win32":
            if self._process.poll() is None:
                tree = ["taskkill", "/F", "/T", "/PID", str(self._process.pid)]
                subprocess.run(tree, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self) -> tuple[list[Event], bool]:
        """The events that have arrived, and whether there was no output; other lines go to the log."""
        lines, words = self._output.lines(), self._errors.lines()
        self.log.extend(words)
        events = []
        for line in lines:
            event = parseEvent(line)
            if event is None:
                self.log.append(line)
            else:
                events.append(event)
        return events, not lines and not words

    def _end(self, code: int) -> None:
        self.exitCode = code
        self._closeInput()
        self._output.close()
        self._errors.close()


def _encoded(message: Event) -> bytes:
    """A message as the worker reads it: one line of JSON."""
    return json.dumps(message).encode("ascii") + b"\n"


def parseEvent(line: str) -> Event | None:
    """The event in a line of the worker's output, or None where the line is none (a stray print)."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(event, dict) and isinstance(event.get("event"), str):
        return event
    return None


def _popenOptions() -> dict[str, Any]:
    options = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW
    else:
        options["start_new_session"] = True
    return options
