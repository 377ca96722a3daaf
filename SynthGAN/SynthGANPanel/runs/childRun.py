"""A task in the child process, from its nodes to what it leaves in the scene."""

from __future__ import annotations

import abc
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANPanel import environment
from SynthGANPanel.runs import raster
from SynthGANPanel.runs.wording import afterExit, describeProgress
from SynthGANPanel.runs.workerProcess import Event, WorkerProcess
from SynthGANPanel.task import Steps, Task

if TYPE_CHECKING:
    from SynthGANLib.image.volume import Volume

    Prepared = tuple[Event, Iterable[tuple[Volume, Path]]]


class ChildRun(Task):
    """Base of a run. A subclass gives the job and stores the outcome, by the hooks at the end.

    Volumes are written to a private folder piece by piece, then the child process works, then `_store` puts the outcome
    into the scene; until then the scene is only read.

    :ivar folder: the private folder; removed when the run has ended
    """

    INTERVAL_MILLISECONDS = 100

    def __init__(self, *callbacks: Any, **named: Any) -> None:
        """The callbacks are those of :class:`Task`."""
        super().__init__(*callbacks, **named)
        self.folder: Path | None = None
        self._job: Event = {}
        self._volumes: Iterable[tuple[Volume, Path]] = ()
        self._process: WorkerProcess | None = None
        self._done: Event | None = None
        self._workerError: Event | None = None

    @property
    def log(self) -> list[str]:
        """The last lines of the child process."""
        return list(self._process.log) if self._process is not None else []

    def poll(self, timeout: float = 0.0) -> bool:
        """As of a task; a run whose nodes were removed is cancelled."""
        reason = self._lostNodes() if self.running and not self._polling else ""
        if reason:
            self.cancel(reason)
        return super().poll(timeout)

    def cancel(self, reason: str | None = None) -> None:
        """Ask the run to end, which takes seconds at most; the scene stays as it was."""
        if self.running and self._cancelReason is None:
            self._cancelReason = reason or self.CANCELLED
            if self._process is not None:
                self._process.cancel()
            self.text = self._describe({"stage": "cancel"})
            self._report()

    # Hooks

    def _check(self) -> None:  # a hook that may stay empty
        """Refuse what cannot work, by a SynthesisError."""

    @abc.abstractmethod
    def _prepare(self, folder: Path) -> Prepared:
        """The job for the worker, and the volumes it needs as pairs (library volume, path); nothing is written yet."""

    @abc.abstractmethod
    def _store(self, done: Event) -> Any:
        """Store the outcome of the worker's closing event in the scene and return it; a SynthesisError refuses it."""

    def _lostNodes(self) -> str:
        """Why the run is to be cancelled (a node was removed), "" otherwise."""
        return ""

    def _describe(self, event: Event) -> str:
        """One line for a `stage` or `progress` event; this class adds the stages "start", "cancel" and "done"."""
        return describeProgress(event)

    def _take(self, event: Event) -> None:
        """Store the content of an event of the worker."""
        kind = event["event"]
        if kind in ("stage", "progress"):
            fraction = event.get("fraction")
            if isinstance(fraction, (int, float)) and 0 <= fraction <= 1:
                self.fraction = fraction
            if self._cancelReason is None:
                self.text = self._describe(event)
        elif kind == "done":
            self._done = event
        elif kind == "error":
            self._workerError = event

    # The way of a run

    def _begin(self) -> None:
        self._check()
        self.folder = environment.privateFolder()
        self._job, self._volumes = self._prepare(self.folder)
        self.text = self._describe({"stage": "start"})

    def _work(self) -> Steps:
        """Success takes exit code 0, a closing event and an outcome that can be stored."""
        assert self.folder is not None  # made by `_begin`
        for volume, path in self._volumes:
            for _piece in raster.pieces(volume, path):
                yield self.fraction
                self._raiseIfCancelled()
        self._volumes = ()
        self._raiseIfCancelled()
        process = WorkerProcess(environment.workerCommand(), self._job, environment.workerEnvironment(), self.folder)
        self._process = process
        try:
            while process.running:
                events = process.poll()
                for event in events:
                    self._take(event)
                    yield self.fraction
                if not events:
                    yield None
        finally:
            if process.running:
                process.stop()
        self._raiseIfCancelled()
        if process.exitCode != 0 or self._done is None:
            raise afterExit(process.exitCode, self._workerError, self.log)
        outcome = self._store(self._done)
        self.text = self._describe({"stage": "done"})
        return outcome

    def _raiseIfCancelled(self) -> None:
        if self._cancelReason is not None:
            raise self._cancelled()

    def _cleanUp(self) -> None:
        if self.folder is not None:
            # Windows may hold a file for a moment after the process has gone; Slicer empties its folder at exit.
            shutil.rmtree(self.folder, ignore_errors=True)
