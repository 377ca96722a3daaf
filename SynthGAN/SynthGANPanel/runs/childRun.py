"""A task in the child process, from its nodes to what it leaves in the scene, without ever blocking the caller."""

import abc
import atexit
import shutil
import time
import weakref

import slicer

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError, asSynthesisError
from SynthGANPanel.runs import raster
from SynthGANPanel.runs.wording import afterExit, describeProgress
from SynthGANPanel.runs.workerProcess import WorkerProcess

POLL_MILLISECONDS = 100
WRITE_SECONDS = 0.05
"""Of each time between two polls, while volumes are written."""

_running = weakref.WeakSet()


class ChildRun(abc.ABC):
    """Base of a run. Create it, `start()` it, then let time pass: by itself where Qt runs, by `poll()` or `wait()`
    elsewhere. A subclass says what is done by the five hooks at the end, and in `CANCELLED` what a cancel is called.

    Volumes are written to a private folder piece by piece, then the child process works, then `_store` puts the outcome
    into the scene; until then the scene is only read. No thread is used (`pipes` says why).

    :ivar state: "new", "running", "done", "failed" or "cancelled"
    :ivar error: the SynthesisError once `state` is "failed" or "cancelled"
    :ivar fraction: 0 to 1. text: where the run stands, one line for people
    :ivar seconds: how long it took, once `state` is "done"
    :ivar folder: the private folder; gone when the run has ended
    """

    CANCELLED = ""

    def __init__(self, progressCallback=None, completedCallback=None):
        self.state = "new"
        self.error = None
        self.fraction = 0.0
        self.text = ""
        self.seconds = 0.0
        self.folder = None
        self._progressCallback = progressCallback
        self._completedCallback = completedCallback
        self._job = None
        self._writing = None
        self._writingError = None
        self._process = None
        self._timer = None
        self._started = 0.0
        self._done = None
        self._workerError = None
        self._cancelReason = None
        self._polling = False

    @property
    def running(self):
        """Whether the run is under way."""
        return self.state == "running"

    @property
    def cancelling(self):
        """Whether the run was asked to end and has not answered yet."""
        return self.running and self._cancelReason is not None

    @property
    def log(self):
        """The last lines of the child process."""
        return list(self._process.log) if self._process is not None else []

    def start(self):
        """Check what can be checked beforehand, and begin.

        :raises SynthesisError: one sentence about what is wrong
        """
        self._started = time.monotonic()
        self._check()
        try:
            self.folder = environment.privateFolder()
            self._job, volumes = self._prepare(self.folder)
            self._writing = (piece for volume, path in volumes for piece in raster.pieces(volume, path))
        except BaseException as error:  # whatever ends the start, an interrupt too, must not leave the folder behind
            self._cleanUp()
            if isinstance(error, MemoryError):
                raise asSynthesisError(error) from error
            raise
        self.state = "running"
        if not _running:
            atexit.register(stopAll)  # for an end of the application that closes no module
        _running.add(self)
        self._report(0.0, self._describe({"stage": "start"}))
        self._startTimer()

    def poll(self, timeout=0.0):
        """Take in what happened, waiting up to `timeout` seconds for it.

        :return: True when the run has ended
        """
        if not self.running or self._polling:
            return not self.running
        self._polling = True  # a callback may run the event loop, and with it this very method
        try:
            reason = self._lostNodes()
            if reason:
                self.cancel(reason)
            if self._process is None:
                self._launch(timeout)
            else:
                self._listen(timeout)
        finally:
            self._polling = False
        return not self.running

    def cancel(self, reason=None):
        """Ask the run to end; it answers within seconds, and the scene stays as it was."""
        if self.running and self._cancelReason is None:
            self._cancelReason = reason or self.CANCELLED
            if self._process is not None:
                self._process.cancel()
            self._report(self.fraction, self._describe({"stage": "cancel"}))

    def stop(self, reason=None):
        """End the run before returning: for closing the scene, reloading the module, quitting."""
        if not self.running:
            return
        self._cancelReason = self._cancelReason or reason or self.CANCELLED
        if self._process is not None:
            self._process.stop()
        self._finish()

    def wait(self):
        """Wait for the end; the application stays alive meanwhile.

        :raises SynthesisError: if the run failed or was cancelled
        """
        app = getattr(slicer, "app", None)
        while not self.poll(timeout=0.05):
            if app is not None:
                app.processEvents()
        if self.error is not None:
            raise self.error

    # Hooks

    def _check(self):  # noqa: B027  # a hook that may stay empty
        """Refuse what cannot work, by a SynthesisError."""

    @abc.abstractmethod
    def _prepare(self, folder):
        """The job for the worker, and the volumes it needs as pairs (library volume, path); nothing is written yet."""

    @abc.abstractmethod
    def _store(self, done):
        """Put what the worker's closing event tells into the scene; a SynthesisError refuses it."""

    def _lostNodes(self):
        """Why the run makes no sense any more, "" while it does."""
        return ""

    def _describe(self, event):
        """One line for a `stage` or `progress` event; the stages "start" and "cancel" are this class's own."""
        return describeProgress(event)

    # The way of a run

    def _launch(self, timeout):
        """Go on writing; start the process once everything is written."""
        if self._cancelReason is not None or not self._write(max(timeout, WRITE_SECONDS)):
            if self._cancelReason is not None or self._writingError is not None:
                self._finish()
            return
        try:
            self._process = WorkerProcess(
                environment.workerCommand(), self._job, environment.workerEnvironment(), self.folder
            )
        except Exception as error:  # a defect, too: what was not told here would be tried again at every poll
            self._writingError = asSynthesisError(error)
            self._finish()

    def _write(self, seconds):
        """Write for about so long; returns whether everything is written."""
        deadline = time.monotonic() + seconds
        try:
            for _piece in self._writing:
                if time.monotonic() >= deadline:
                    return False
        except Exception as error:
            self._writingError = asSynthesisError(error)
            return False
        return True

    def _listen(self, timeout):
        for event in self._process.poll(timeout):
            if self.running:  # a callback may have stopped the run
                self._take(event)
        if self.running and not self._process.running:
            self._finish()

    def _take(self, event):
        kind = event["event"]
        if kind in ("stage", "progress"):
            fraction = event.get("fraction")
            if isinstance(fraction, (int, float)) and 0 <= fraction <= 1:
                self.fraction = fraction
            if self._cancelReason is None:
                self._report(self.fraction, self._describe(event))
        elif kind == "done":
            self._done = event
        elif kind == "error":
            self._workerError = event

    def _finish(self):
        """Decide how the run ended. Success takes exit code 0, a closing event and an outcome that can be stored."""
        state = "failed"
        try:
            if self._cancelReason is not None:
                state, self.error = "cancelled", SynthesisError(self._cancelReason, kind="cancelled", log=self.log)
            elif self._writingError is not None:
                raise self._writingError
            elif self._process.exitCode == 0 and self._done is not None:
                self._store(self._done)
                self.seconds = time.monotonic() - self._started
                state = "done"
                self._report(1.0, self._describe({"stage": "done"}))
            else:
                self.error = afterExit(self._process.exitCode, self._workerError, self.log)
        except Exception as error:
            # A defect, too, is told as the end of this run: whoever waits for the end would wait for ever.
            self.error = asSynthesisError(error, self.log)
            self.error.__cause__ = None if self.error is error else error
        finally:
            self.state = state
            self._cleanUp()
        if self._completedCallback is not None:
            self._completedCallback(self)

    def _report(self, fraction, text):
        self.fraction, self.text = fraction, text
        if self._progressCallback is not None:
            self._progressCallback(fraction, text)

    def _startTimer(self):
        try:
            import qt
        except ImportError:
            return  # no event loop here: whoever started the run calls poll() or wait()
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self.poll)
        self._timer.start()

    def _cleanUp(self):
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        _running.discard(self)
        if not _running:
            atexit.unregister(stopAll)
        if self._writing is not None:
            self._writing.close()
        if self.folder is not None:
            # Windows may hold a file for a moment after the process has gone; Slicer empties its folder at exit.
            shutil.rmtree(self.folder, ignore_errors=True)


def stopAll(reason=None):
    """End every run of this process now; none is left behind."""
    for run in list(_running):
        run.stop(reason)
