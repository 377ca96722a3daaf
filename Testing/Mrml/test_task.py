"""A task: every way to its end leaves the right state, tells it once, and tidies up."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Generator
from typing import Any

import pytest


@pytest.fixture
def make(headless: Any) -> Callable[..., Any]:
    """A function that makes a task of a generator; it notes in `notes` what happens to it."""
    from SynthGANPanel.task import Task

    class Noted(Task):
        CANCELLED = "It was cancelled."

        def __init__(self, steps: Callable[[Any], Generator[Any, None, Any]], **callbacks: Any) -> None:
            self.notes: list[Any] = []
            self._given = steps
            super().__init__(
                callbacks.get("progress", lambda fraction, text: self.notes.append(fraction)),
                lambda task: self.notes.append(task.state),
            )

        def _begin(self) -> None:
            if self._given is None:
                raise MemoryError

        def _work(self) -> Generator[Any, None, Any]:
            return self._given(self)

        def _cleanUp(self) -> None:
            self.notes.append("clean")

    return Noted


def two(task: Any) -> Generator[Any, None, str]:
    yield 0.5
    yield None
    return "outcome"


def test_done(make: Any) -> None:
    task = make(two)
    assert (task.state, task.running) == ("new", False)
    task.start()
    assert task.running
    assert task.wait() == "outcome"
    assert task.notes == [0.0, 0.5, "clean", 1.0, "done"]
    assert (task.state, task.error, task.fraction) == ("done", None, 1.0)
    task.cancel()
    assert task.poll()
    assert task.state == "done"


def test_cancelled_between_steps(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from SynthGANPanel import task as module

    monkeypatch.setattr(module, "STEP_SECONDS", 0.0)
    task = make(two)
    task.start()
    assert not task.poll()
    task.cancel()
    assert task.notes == [0.0, 0.5, "clean", "cancelled"]
    with pytest.raises(module.SynthesisError, match="It was cancelled") as caught:
        task.wait()
    assert caught.value.kind == "cancelled"


def test_ended_by_its_own_callback(make: Any) -> None:
    task = make(two, progress=lambda fraction, text: fraction and task.stop("Enough."))
    task.start()
    assert task.poll()
    assert (task.state, str(task.error), task.notes) == ("cancelled", "Enough.", ["clean", "cancelled"])


def test_stopped_within_a_step(make: Any) -> None:
    """A step cannot be broken off from within: it ends first, and what it completed counts."""

    def stops(task: Any) -> Generator[Any, None, str]:
        yield 0.5
        task.stop()
        return "stored"

    task = make(stops)
    task.start()
    assert task.wait() == "stored"
    assert task.state == "done"


def test_a_defect_and_an_interrupt(make: Any) -> None:
    from SynthGANPanel.failure import SynthesisError

    def raising(error: BaseException) -> Callable[[Any], Generator[Any, None, None]]:
        def steps(task: Any) -> Generator[Any, None, None]:
            yield 0.5
            raise error

        return steps

    defect = make(raising(ValueError("odd")))
    defect.start()
    with pytest.raises(SynthesisError, match="ValueError: odd") as caught:
        defect.wait()
    assert isinstance(caught.value.__cause__, ValueError)
    assert defect.notes == [0.0, 0.5, "clean", "failed"]
    interrupted = make(raising(KeyboardInterrupt()))
    interrupted.start()
    with pytest.raises(KeyboardInterrupt):
        interrupted.wait()
    assert interrupted.notes == [0.0, 0.5, "clean", "failed"]


def test_a_start_that_fails(make: Any) -> None:
    task = make(None)
    with pytest.raises(RuntimeError, match="not enough memory"):
        task.start()
    assert (task.state, task.notes) == ("new", ["clean"])


def test_all_are_ended_at_the_end_of_the_application(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from SynthGANPanel import task as module

    registered: list[Any] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", registered.remove)
    tasks = [make(two), make(two)]
    for task in tasks:
        task.start()
    assert registered == [module.stopAll]
    module.stopAll("Goodbye.")
    assert [(task.state, str(task.error)) for task in tasks] == [("cancelled", "Goodbye.")] * 2
    assert registered == []
