"""How the worker takes its job: lines of a pipe, cut anywhere, and the end of the one who sends."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from SynthGANLib.errors import InputError
from SynthGANLib.jobs.worker import StdinLines, _serve
from SynthGANLib.signals import Stop

PATIENCE = 60
"""Seconds after which a thread counts as stuck; nothing measured, only a way out."""


BAD_JOBS: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"hello\n", "not valid JSON"),
    "no object": (b"[1]\n", "not a JSON object"),
    "NaN": (b'{"job": NaN}\n', "NaN"),
    "twice": (b'{"job": "synthesize", "job": "x"}\n', "twice"),
    "not UTF-8": (b'{"job": "\xff"}\n', "UTF-8"),
    "unknown": (b'{"job": "train"}\n', "synthesize"),
    "a number of folders": (
        b'{"job": "synthesize", "input": "a", "output": "b", "model": "c", "models": 3}\n',
        "models",
    ),
    "a name too long": (
        json.dumps({"job": "synthesize", "input": "x" * 5000, "output": "b.nrrd", "model": "c"}).encode() + b"\n",
        "name",
    ),
    "too long": (b'{"job": "' + b"x" * 2**21 + b'"}\n', "longer than"),
    "none at all": (b"\n\n", "No job"),
}


def _write_and_close(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def test_bad_jobs_are_refused_in_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    """The answers, taken in this process: the same code without the two seconds each process needs."""
    for line, word in BAD_JOBS.values():
        read, write = os.pipe()
        stopped = Stop()
        events: list[dict[str, Any]] = []
        writer = threading.Thread(target=_write_and_close, args=(write, line))
        writer.start()
        try:
            assert _serve(StdinLines(stopped, read), events.append, stopped) == 2
            said = events[-1]["cause"] + events[-1]["next_step"]
        except InputError as error:
            said = str(error)
        writer.join(PATIENCE)
        assert stopped.wait(PATIENCE)  # the reader has seen the end and does not touch the descriptor any more
        os.close(read)
        assert word in said
        assert "\n" not in said
    assert capfd.readouterr().out == ""


def test_lines_survive_any_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe may deliver a line in pieces and several lines at once; a cancel overtakes the rest."""
    text = '{"job": "ready"}\n\n{"job": "x", "name": "頭"}\r\n{"cancel": false}\n{"job": "last"}'.encode()
    dice = np.random.default_rng(0)
    for _ in range(20):
        read, write = os.pipe()
        stopped = Stop()
        lines = StdinLines(stopped, read)
        for piece in np.split(np.frombuffer(text, np.uint8), np.sort(dice.integers(0, len(text), 6))):
            os.write(write, piece.tobytes())
        os.close(write)
        jobs = []
        while (line := lines.first()) is not None:
            jobs.append(json.loads(line)["job"])
        assert jobs == ["ready", "x", "last"]
        assert stopped.is_set()
        os.close(read)
    read, write = os.pipe()
    stopped = Stop()
    lines = StdinLines(stopped, read)
    os.write(write, b'{"job": "a"}\n{"cancel": true}\n')
    assert stopped.wait(PATIENCE)
    assert lines.first() == b'{"job": "a"}'
    os.close(write)
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > 1 and any(t.name == "stdin" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.close(read)
