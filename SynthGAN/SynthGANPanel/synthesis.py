"""One synthesis, from the input node to the result node.

A run moves through: inputs checked and written to a private folder, child process at work, result read and verified,
node stored. Until the last step the scene is only read; a run that fails or is cancelled leaves it as it was.
"""

import atexit
import shutil
import time
import weakref

import slicer

from SynthGANPanel import environment, nodes, results
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.jobs import WorkerProcess
from SynthGANPanel.request import Request
from SynthGANPanel.wording import afterExit, describeProgress

POLL_MILLISECONDS = 100
DEFAULT_MODEL = "head-mr-ct"

_running = weakref.WeakSet()


class Synthesis:
    """One run. Create it, `start()` it, then let time pass: by itself where Qt runs, by `poll()` or `wait()` elsewhere.

    :ivar request: what is synthesized
    :ivar state: "new", "running", "done", "failed" or "cancelled"
    :ivar resultNode: the result once `state` is "done"
    :ivar error: the SynthesisError once `state` is "failed" or "cancelled"
    :ivar warnings: what the library remarked, in order
    :ivar fraction: 0 to 1, None while unknown
    :ivar text: where the run stands, one line for people
    :ivar seconds: how long it took, once `state` is "done"
    :ivar folder: the private folder with the volumes on their way; gone when the run has ended
    """

    def __init__(self, request, progressCallback=None, completedCallback=None):
        self.request = request
        self.state = "new"
        self.resultNode = None
        self.error = None
        self.warnings = []
        self.fraction = None
        self.text = ""
        self.seconds = 0.0
        self.folder = None
        self._progressCallback = progressCallback
        self._completedCallback = completedCallback
        self._process = None
        self._timer = None
        self._started = 0.0
        self._done = None
        self._workerError = None
        self._cancelReason = None
        self._polling = False

    @property
    def inputNode(self):
        """The input volume, None for a model that starts from nothing."""
        return self.request.inputNode

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
        """Check the inputs, write them to a private folder and start the child process.

        :raises SynthesisError: one sentence about what is wrong with an input, the model or the installation
        """
        self._started = time.monotonic()
        self.request.check()
        try:
            self.folder = environment.privateFolder()
            self._process = WorkerProcess(
                environment.workerCommand(), self.request.job(self.folder), environment.workerEnvironment(), self.folder
            )
        except BaseException:  # whatever ends the start, an interrupt too, must not leave the folder behind
            self._cleanUp()
            raise
        self.state = "running"
        if not _running:
            atexit.register(stopAll)  # for an end of the application that closes no module
        _running.add(self)
        self._report(0.0, _("Starting"))
        self._startTimer()

    def poll(self, timeout=0.0):
        """Take in what the child process said, waiting up to `timeout` seconds for the first word.

        :return: True when the run has ended
        """
        if not self.running or self._polling:
            return not self.running
        self._polling = True  # a callback may run the event loop, and with it this very method
        try:
            reason = self.request.lostNodes()
            if reason:
                self.cancel(reason)
            for event in self._process.poll(timeout):
                if self.running:  # a callback may have stopped the run
                    self._take(event)
            if self.running and not self._process.running:
                self._finish()
        finally:
            self._polling = False
        return not self.running

    def cancel(self, reason=None):
        """Ask the run to end; it answers within seconds, and the scene stays as it was."""
        if self.running and self._cancelReason is None:
            self._cancelReason = reason or _("The synthesis was cancelled.")
            self._process.cancel()
            self._report(self.fraction, _("Cancelling"))

    def stop(self, reason=None):
        """End the run before returning: for closing the scene, reloading the module, quitting."""
        if not self.running:
            return
        self._cancelReason = self._cancelReason or reason or _("The synthesis was cancelled.")
        self._process.stop()
        self._finish()

    def wait(self):
        """Wait for the end; the application stays alive meanwhile.

        :return: the result node
        :raises SynthesisError: if the run failed or was cancelled
        """
        app = getattr(slicer, "app", None)
        while not self.poll(timeout=0.05):
            if app is not None:
                app.processEvents()
        if self.error is not None:
            raise self.error
        return self.resultNode

    def _take(self, event):
        kind = event["event"]
        if kind in ("stage", "progress"):
            fraction = event.get("fraction")
            if isinstance(fraction, (int, float)) and 0 <= fraction <= 1:
                self.fraction = fraction
            if self._cancelReason is None:
                self._report(self.fraction, describeProgress(event))
        elif kind in ("warning", "memory"):
            self.warnings.append(str(event.get("message", "")))
            self._process.log.append(self.warnings[-1])
            self._report(self.fraction, self.warnings[-1])
        elif kind == "done":
            self._done = event
        elif kind == "error":
            self._workerError = event

    def _finish(self):
        """Decide how the run ended. Success takes exit code 0, a closing event and a result that verifies."""
        state = "failed"
        try:
            if self._cancelReason is not None:
                state, self.error = "cancelled", SynthesisError(self._cancelReason, kind="cancelled", log=self.log)
            elif self._process.exitCode == 0 and self._done is not None:
                self._store()
                self.seconds = time.monotonic() - self._started
                state = "done"
                self._report(1.0, _("Done"))
            else:
                self.error = afterExit(self._process.exitCode, self._workerError, self.log)
        except SynthesisError as error:
            self.error = error
        except MemoryError as error:
            self.error = SynthesisError(
                _("There is not enough memory to take the result into Slicer."),
                _("Close other volumes and try again."),
                "memory",
                self.log,
            )
            self.error.__cause__ = error
        finally:
            self.state = state
            self._cleanUp()
        if self._completedCallback is not None:
            self._completedCallback(self)

    def _store(self):
        request = self.request
        array = results.verifiedArray(self.folder / "output.nrrd", self._done, request.card, request.grid, self.log)
        self.resultNode = request.store(array, self._done)

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
        if self.folder is not None:
            # Windows may hold a file for a moment after the process has gone; Slicer empties its folder at exit.
            shutil.rmtree(self.folder, ignore_errors=True)


def synthesize(inputNode, model=DEFAULT_MODEL, wait=True, progressCallback=None, completedCallback=None, **choices):
    """Start a synthesis and, by default, wait for it. Works with and without Qt.

    :param choices: those of :class:`request.Request`
    :return: the result node if `wait`, else the running :class:`Synthesis`
    :raises SynthesisError: if it cannot start, or, when waiting, if it failed or was cancelled
    """
    run = Synthesis(Request(inputNode, model, **choices), progressCallback, completedCallback)
    run.start()
    return run.wait() if wait else run


def latestResult(inputNode):
    """The newest volume of the scene that was synthesized from `inputNode`, None if there is none."""
    if inputNode is None or inputNode.GetScene() is None:
        return None
    return _newest(inputNode.GetScene(), "InputNodeID", inputNode.GetID())


def latestGenerated(scene, modelId):
    """The newest volume of the scene that a model made without an input, None if there is none."""
    return _newest(scene, "ModelId", modelId, "InputName", "none")


def _newest(scene, *attributes):
    """The volume whose attributes (name, value, name, value, ...) are these and whose date is the latest."""
    wanted = list(zip(attributes[::2], attributes[1::2], strict=True))
    results = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
        if all(node.GetAttribute(nodes.ATTRIBUTE_PREFIX + name) == value for name, value in wanted)
    ]
    # Of results of one second the one that was added last, hence the reversed order.
    dated = [(node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "Date") or "", node) for node in reversed(results)]
    return max(dated, key=lambda pair: pair[0], default=("", None))[1]


def stopAll(reason=None):
    """End every run of this process now; none is left behind."""
    for run in list(_running):
        run.stop(reason)
