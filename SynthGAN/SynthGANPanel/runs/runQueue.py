"""Several runs, one after another: each is checked when it starts, and one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from SynthGANPanel.failure import SynthesisError, asSynthesisError
from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from SynthGANPanel.runs.sequences import SequenceSynthesis
    from SynthGANPanel.runs.synthesis import Synthesis

    Run = Synthesis | SequenceSynthesis


class RunQueue:
    """Runs in the order they were added; the first that waits is started when the previous one has ended.

    :ivar runs: all runs since the queue was last empty, ended ones too; see :class:`task.Task`
    :ivar current: the run under way, None while none is
    """

    def __init__(
        self,
        progressCallback: Callable[[float, str], Any] | None,
        endedCallback: Callable[[Any], Any],
        startedCallback: Callable[[], Any],
    ) -> None:
        """
        :param progressCallback: called with the fraction of the current run and a line of text
        :param endedCallback: called with each run when it has ended, before the next begins
        :param startedCallback: called when a run that waited has begun
        """
        self.runs: list[Run] = []
        self.current: Run | None = None
        self._progressCallback = progressCallback
        self._endedCallback = endedCallback
        self._startedCallback = startedCallback

    @property
    def waiting(self) -> list[Run]:
        """The runs that have not begun."""
        return [run for run in self.runs if run.state == "new"]

    def add(self, make: Callable[..., Run]) -> Run:
        """Add a run, and start it if none is under way.

        :param make: called with a progress and a completed callback, returns the run
        :raises SynthesisError: if it starts at once and cannot
        """
        if self.current is None and not self.waiting:
            self.runs = []
        run = make(self._progressCallback, self._onCompleted)
        self.runs.append(run)
        if self.current is None:
            self._start(run)
        return run

    def cancel(self) -> None:
        """Cancel the run under way; the waiting ones follow."""
        if self.current is not None:
            self.current.cancel()

    def clear(self) -> None:
        """Remove the runs that wait."""
        self.runs = [run for run in self.runs if run.state != "new"]

    def stop(self, reason: str | None = None) -> None:
        """Remove the waiting runs and end the present one before returning."""
        self.clear()
        if self.current is not None:
            self.current.stop(reason)
            self.current = None

    def _start(self, run: Run) -> None:
        self.current = run
        try:
            run.start()
        except BaseException as error:  # whatever it was, nothing is under way now
            self.current = None
            run.state, run.error = "failed", asSynthesisError(error)
            if not isinstance(error, Exception):
                raise
            raise run.error from (None if run.error is error else error)

    def _onCompleted(self, run: Run) -> None:
        self.current = None
        self._endedCallback(run)
        while self.current is None and self.waiting:
            following = self.waiting[0]
            try:
                self._start(following)
                self._startedCallback()
            except SynthesisError:  # reported as the end of this run; the next one starts
                self._endedCallback(following)


def describe(run: Run) -> str:
    """One line for a list: how a run stands."""
    states = {
        "new": _("{label}: waiting"),
        "running": _("{label}: running"),
        "done": _("{label}: done"),
        "failed": _("{label}: failed"),
        "cancelled": _("{label}: cancelled"),
    }
    line = states[run.state].format(label=run.label)
    return f"{line} ({run.error})" if run.state == "failed" else line
