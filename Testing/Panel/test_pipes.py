"""What a child says is read in the main thread, whole, without waiting, however it is said."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from panelCases import addVolume, waitUntil

from SynthGANPanel import task
from SynthGANPanel.runs import pipes


@pytest.fixture
def pipe():
    """A LineReader and a function that puts bytes into its pipe (None: the end)."""
    reading, writing = os.pipe()
    reader = pipes.LineReader(os.fdopen(reading, "rb", buffering=0))
    ends = [writing]

    def say(content):
        if content is None:
            os.close(ends.pop())
        else:
            assert os.write(writing, content) == len(content)

    yield reader, say
    reader.close()
    for end in ends:
        os.close(end)


def test_nothing_said_is_not_waited_for(pipe):
    reader, _say = pipe
    assert reader.lines() == []  # reading would wait for ever
    assert not reader.ended


def test_lines_come_whole_and_once(pipe):
    reader, say = pipe
    say(b"one\r\n\ntw")
    assert reader.lines() == ["one", ""]
    say(b"o\nthree")
    assert reader.lines() == ["two"]
    assert reader.lines() == []
    say(None)
    assert reader.lines() == ["three"]
    assert reader.ended
    assert reader.lines() == []


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_letter_of_several_bytes_may_come_in_two_pieces(pipe, cut):
    reader, say = pipe
    letters = "ř€𝛾\n".encode()
    say(letters[:cut])
    before = reader.lines()
    say(letters[cut:])
    assert before + reader.lines() == ["ř€𝛾"]


def test_broken_letters_are_replaced(pipe):
    reader, say = pipe
    say(b"a\xff\xc5b\n")
    assert reader.lines() == ["a\ufffd\ufffdb"]
    say(b"\xc5")
    say(None)
    assert reader.lines() == ["\ufffd"]


def test_who_talks_without_end_is_read_in_portions():
    command = [sys.executable, "-c", "import os\nwhile True: os.write(1, b'x' * 65536)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        reader = pipes.LineReader(child.stdout)
        said = 0
        while said < 2 * pipes.MOST_PER_READ:
            pieces = reader.lines()
            assert all(set(piece) == {"x"} and len(piece) <= pipes.LONGEST_LINE for piece in pieces)
            said += sum(len(piece) for piece in pieces)
        child.kill()


def test_a_run_uses_no_thread(panel, scene, worker, monkeypatch):
    """A collection of garbage in a thread would destroy widgets and nodes there, and the application with them."""
    monkeypatch.setattr(task, "STEP_SECONDS", 0.0)  # as if the disk were slow: the writing takes many polls
    volume = addVolume(np.arange(64 * 256 * 256, dtype=np.int16).reshape(64, 256, 256), "large")
    worker("good")
    threads = set()
    run = panel.logic.synthesize(
        volume, model="tissue-mr-ct", wait=False,
        progressCallback=lambda fraction, text: threads.update(threading.enumerate()),
    )  # fmt: skip
    polls = 0
    while run._process is None:
        run.poll()
        threads.update(threading.enumerate())
        polls += 1
    waitUntil(lambda: not run.running)
    assert run.state == "done", run.error
    assert polls > 1
    assert threads == {threading.main_thread()}
