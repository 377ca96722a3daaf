"""A piece of work in small steps, so that the application stays usable and the user can end it at any moment."""

from __future__ import annotations

import abc
import atexit
import inspect
import time
import weakref
from collections.abc import Callable, Generator
from typing import Any, Optional

import slicer

from SynthGANPanel.failure import SynthesisError, asSynthesisError
from SynthGANPanel.timer import Timer

STEP_SECONDS = 0.05
"""The application continues after this time; a single step may take somewhat longer."""
WAIT_SECONDS = 0.05
LOOK_SECONDS = 0.01
"""How often a caller that waits looks whether something came."""

Steps = Generator[Optional[float], None, Any]  # noqa: UP045  # Python 3.9 cannot evaluate `float | None`
"""Yields the fraction done, or None where there is nothing to do until something outside has happened; returns the
outcome."""

_running: weakref.WeakSet[Task] = weakref.WeakSet()


class Task(abc.ABC):
    """Base of all work that takes time. Create a task and `start()` it; where Qt runs, its timer then does the work.
    Elsewhere, or to wait for the end, call `poll()` or `wait()`. No thread is used (`runs.pipes` says why).

    A subclass does the work in `_work`, checks beforehand what can be checked in `_begin`, tidies up in `_cleanUp`,
    and gives `CANCELLED`, the sentence of the error after a cancel.

    :ivar state: "new", "running", "done", "failed" or "cancelled"
    :ivar error: the SynthesisError once `state` is "failed" or "cancelled"
    :ivar fraction: 0 to 1. text: the present stage, one line for people
    :ivar outcome: what the work returned, once `state` is "done"
    :ivar seconds: how long it took, once `state` is "done"
    """

    CANCELLED = ""
    INTERVAL_MILLISECONDS = 0
    """Between two polls by the timer."""

    def __init__(
        self,
        progressCallback: Callable[[float, str], Any] | None = None,
        completedCallback: Callable[[Any], Any] | None = None,
    ) -> None:
        """
        :param progressCallback: called with fraction and text when one of them has changed
        :param completedCallback: called with the task when it has ended in whatever way
        """
        self.state = "new"
        self.error: SynthesisError | None = None
        self.fraction = 0.0
        self.text = ""
        self.outcome: Any = None
        self.seconds = 0.0
        self._progressCallback = progressCallback
        self._completedCallback = completedCallback
        self._cancelReason: str | None = None
        self._steps: Steps | None = None
        self._timer: Timer | None = None
        self._started = 0.0
        self._reported: tuple[float, str] | None = None
        self._polling = False

    @property
    def running(self) -> bool:
        """Whether the task is under way."""
        return self.state == "running"

    @property
    def cancelling(self) -> bool:
        """Whether the task was asked to end and has not ended yet."""
        return self.running and self._cancelReason is not None

    @property
    def log(self) -> list[str]:
        """The last lines that the work wrote, for the details of an error."""
        return []

    @property
    def hasEventLoop(self) -> bool:
        """Whether the work is done by itself."""
        return self._timer is not None and self._timer.hasEventLoop

    def start(self, hasTimer: bool = True) -> None:
        """Check what can be checked beforehand, and begin.

        :param hasTimer: False where another task polls this one
        :raises SynthesisError: one sentence about what is wrong; nothing was changed
        """
        self._started = time.monotonic()
        try:
            self._begin()
        except BaseException as error:  # whatever ends the start, an interrupt too, must leave nothing behind
            self._cleanUp()
            if isinstance(error, MemoryError):
                raise asSynthesisError(error) from error
            raise
        self._steps = self._work()
        self.state = "running"
        if not _running:
            atexit.register(stopAll)  # for an end of the application that closes no module
        _running.add(self)
        if hasTimer:
            self._timer = Timer(self.INTERVAL_MILLISECONDS, self.poll, isRepeated=True)
        self._report()
        if self._timer is not None and self.running:  # a callback may have ended the task
            self._timer.start()

    def poll(self, timeout: float = 0.0) -> bool:
        """Work for about `STEP_SECONDS`; where the work has to wait, wait up to `timeout` seconds.

        :return: True when the task has ended
        """
        if not self.running or self._polling:
            return not self.running
        self._polling = True  # a callback may run the event loop, and with it this very method
        try:
            begun = time.monotonic()
            while self.running:
                isIdle = not self._advance()
                if time.monotonic() - begun >= (timeout if isIdle else STEP_SECONDS):
                    break
                if isIdle and self.running:
                    time.sleep(LOOK_SECONDS)
        finally:
            self._polling = False
        return not self.running

    def cancel(self, reason: str | None = None) -> None:
        """End the task; nothing is changed by what was done until now."""
        self.stop(reason)

    def stop(self, reason: str | None = None) -> None:
        """End the task before returning: for closing the scene, reloading the module, quitting."""
        if not self.running or self._steps is None:
            return
        self._cancelReason = self._cancelReason or reason or self.CANCELLED
        if inspect.getgeneratorstate(self._steps) != inspect.GEN_RUNNING:  # else the present step ends first
            self._steps.close()
            self._end("cancelled", self._cancelled())

    def wait(self) -> Any:
        """Wait for the end; the application stays alive meanwhile.

        :return: the outcome
        :raises SynthesisError: if the task failed or was cancelled
        """
        app = getattr(slicer, "app", None)
        while not self.poll(WAIT_SECONDS):
            if app is not None:
                app.processEvents()
        if self.error is not None:
            raise self.error
        return self.outcome

    # Hooks

    def _begin(self) -> None:  # noqa: B027  # a hook that may stay empty
        """Refuse what cannot work by a SynthesisError, and prepare the rest."""

    @abc.abstractmethod
    def _work(self) -> Steps:
        """A generator that does the work; `close` may end it at any yield."""

    def _cleanUp(self) -> None:  # noqa: B027  # a hook that may stay empty
        """Remove what must not outlive the task, whatever its end."""

    def _asError(self, error: BaseException) -> SynthesisError:
        """The error of the task for what the work raised."""
        return asSynthesisError(error, self.log)

    # The way of a task

    def _cancelled(self) -> SynthesisError:
        return SynthesisError(self._cancelReason or self.CANCELLED, kind="cancelled", log=self.log)

    def _advance(self) -> bool:
        """Do one step; False where there was nothing to do."""
        assert self._steps is not None  # since the task is running
        try:
            fraction = next(self._steps)
        except StopIteration as end:
            self.outcome, self.fraction = end.value, 1.0
            self._end("done")
            return True
        except BaseException as error:
            # A defect, too, is reported as the end of this task: whoever waits for the end would wait for ever.
            told = self._asError(error)
            if told is not error:
                told.__cause__ = error
            self._end("failed" if self._cancelReason is None else "cancelled", told)
            if not isinstance(error, Exception):  # an interrupt
                raise
            return True
        if fraction is not None:
            self.fraction = fraction
        self._report()
        return fraction is not None

    def _end(self, state: str, error: SynthesisError | None = None) -> None:
        self.error = error
        try:
            if self._timer is not None:
                self._timer.stop()
                self._timer = None
            _running.discard(self)
            if not _running:
                atexit.unregister(stopAll)
            self._cleanUp()
        finally:
            self.seconds = time.monotonic() - self._started
            self.state = state
        try:
            if state == "done":
                self._report()
        finally:
            if self._completedCallback is not None:
                self._completedCallback(self)

    def _report(self) -> None:
        now = (self.fraction, self.text)
        if self._progressCallback is not None and now != self._reported:
            self._reported = now
            self._progressCallback(*now)


def stopAll(reason: str | None = None) -> None:
    """End every task of this process now; none is left behind."""
    for task in list(_running):
        task.stop(reason)
