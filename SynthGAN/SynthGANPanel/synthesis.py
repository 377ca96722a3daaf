"""One synthesis, from the input node to the result node.

A run moves through: inputs checked and written to a private folder, child process at work, result read and verified,
node stored. Until the last step the scene is only read; a run that fails or is cancelled leaves it as it was.
"""

import atexit
import hashlib
import shutil
import time
import weakref

import numpy as np
import slicer

from SynthGANPanel import environment, nodes, raster
from SynthGANPanel.failure import SynthesisError, fromLibrary
from SynthGANPanel.i18n import _
from SynthGANPanel.jobs import WorkerProcess
from SynthGANPanel.wording import afterExit, describeProgress

POLL_MILLISECONDS = 100
GEOMETRY_TOLERANCE_MM = 1e-4
DEFAULT_MODEL = "head-mr-ct"

_running = weakref.WeakSet()


class Synthesis:
    """One run. Create it, `start()` it, then let time pass: by itself where Qt runs, by `poll()` or `wait()` elsewhere.

    :ivar state: "new", "running", "done", "failed" or "cancelled"
    :ivar resultNode: the result once `state` is "done"
    :ivar error: the SynthesisError once `state` is "failed" or "cancelled"
    :ivar warnings: what the library remarked, in order
    :ivar fraction: 0 to 1, None while unknown
    :ivar text: where the run stands, one line for people
    :ivar seconds: how long it took, once `state` is "done"
    :ivar folder: the private folder with the volumes on their way; gone when the run has ended
    """

    def __init__(
        self,
        inputNode,
        model,
        maskNode=None,
        device="auto",
        outputNode=None,
        memoryLimitGb=0.0,
        progressCallback=None,
        completedCallback=None,
    ):
        self.inputNode = inputNode
        self.maskNode = maskNode
        self.outputNode = outputNode
        self.model = model
        self.device = device
        self.memoryLimitGb = memoryLimitGb
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
        self._card = None
        self._grid = None
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
        """Check the inputs, write them to a private folder and start the child process.

        :raises SynthesisError: one sentence about what is wrong with an input, the model or the installation
        """
        self._started = time.monotonic()
        self._check()
        try:
            self.folder = environment.privateFolder()
            self._process = WorkerProcess(
                environment.workerCommand(), self._job(), environment.workerEnvironment(), self.folder
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
            reason = self._lostNodes()
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

    def _check(self):
        nodes.checkInput(self.inputNode)
        environment.useLibrary()
        missing = environment.missingPackages()
        if missing:
            raise SynthesisError(
                _("SynthGAN needs {names}, which Slicer does not have yet.").format(names=" and ".join(missing)),
                _("Press Install in the SynthGAN module."),
                "package",
            )
        self._card = findCard(self.model)
        nodes.checkOutput(self.outputNode, self.inputNode, self.maskNode, colors=self._card.target.channels > 1)

    def _job(self):
        """The job for the worker, with the volumes written to the private folder."""
        from SynthGANLib.errors import SynthGANError

        paths = {"input": self.folder / "input.nrrd", "mask": None}
        try:
            volume = nodes.volumeFromNode(self.inputNode)
            self._grid = volume.grid
            raster.write(volume, paths["input"])
            if self.maskNode is not None:
                paths["mask"] = self.folder / "mask.nrrd"
                raster.write(nodes.maskFromNode(self.maskNode, self.inputNode), paths["mask"])
        except SynthGANError as error:
            raise fromLibrary(error) from error
        return {
            "job": "synthesize",
            "input": str(paths["input"]),
            "input_unit": nodes.unitOf(self.inputNode),
            "output": str(self.folder / "output.nrrd"),
            "model": self.model,
            "mask": str(paths["mask"]) if paths["mask"] else None,
            "device": self.device,
            "memory": round(self.memoryLimitGb * 2**30) or None,
            "models": [],
            "force": False,
        }

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
        array = self._verifiedArray()
        present = nodes.volumeFromNode(self.inputNode).grid
        if present.shape != self._grid.shape or not np.array_equal(present.affine, self._grid.affine):
            raise SynthesisError(
                _("The input volume was moved or cut while the synthesis was running."), _("Start it again.")
            )
        record = nodes.provenance(self.inputNode, self.maskNode, self._card, self._done)
        self.resultNode = nodes.storeResult(self.inputNode, self.outputNode, array, self._card, record)

    def _verifiedArray(self):
        """The voxels of the result file, after its hash, grid and values were compared with what they must be."""
        from SynthGANLib.errors import SynthGANError
        from SynthGANLib.volume import read_volume

        path = self.folder / "output.nrrd"
        try:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != self._done.get("output_sha256"):
                raise self._unverified(_("its checksum is not the one reported"))
            volume = read_volume(path, unit=self._card.target.unit)
        except OSError as error:
            raise self._unverified(_("its file cannot be read")) from error
        except SynthGANError as error:
            raise self._unverified(str(error).rstrip(".")) from error
        if volume.shape != self._grid.shape:
            raise self._unverified(_("it has another number of voxels than the input"))
        if not np.allclose(volume.affine, self._grid.affine, rtol=0, atol=GEOMETRY_TOLERANCE_MM):
            raise self._unverified(_("it does not lie on the input"))
        if (volume.array.ndim == 4) != (self._card.target.channels > 1):
            raise self._unverified(_("it has another number of channels than the model's card says"))
        if not np.isfinite(volume.array).all():
            raise self._unverified(_("it holds values that are no numbers"))
        return volume.array

    def _unverified(self, reason):
        return SynthesisError(
            _("The result was refused because {reason}.").format(reason=reason),
            _("Try again, and report the details if it happens again."),
            "result",
            self.log,
        )

    def _lostNodes(self):
        """Why the run makes no sense any more, "" while it does."""
        if self.inputNode.GetScene() is None:
            return _("The synthesis was cancelled because the input volume was removed.")
        if self.outputNode is not None and self.outputNode.GetScene() is None:
            return _("The synthesis was cancelled because the output volume was removed.")
        return ""

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


def findCard(model):
    """The card of a model given by id, `id@version` or path.

    :raises SynthesisError: if there is none or it is refused
    """
    environment.useLibrary()
    from SynthGANLib.catalogue import Catalogue, read_entry
    from SynthGANLib.errors import SynthGANError

    try:
        entry = read_entry(Catalogue().find(model))
    except SynthGANError as error:
        raise fromLibrary(error) from error
    if entry.card is None:
        raise SynthesisError(entry.error, _("Get the model again, or remove the folder."), "model")
    return entry.card


def synthesize(inputNode, model=DEFAULT_MODEL, wait=True, **choices):
    """Start a synthesis and, by default, wait for it. Works with and without Qt.

    :param choices: those of :class:`Synthesis`
    :return: the result node if `wait`, else the running :class:`Synthesis`
    :raises SynthesisError: if it cannot start, or, when waiting, if it failed or was cancelled
    """
    run = Synthesis(inputNode, model, **choices)
    run.start()
    return run.wait() if wait else run


def latestResult(inputNode):
    """The newest volume of the scene that was synthesized from `inputNode`, None if there is none."""
    if inputNode is None or inputNode.GetScene() is None:
        return None
    results = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", inputNode.GetScene())
        if node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "InputNodeID") == inputNode.GetID()
    ]
    # Of results of one second the one that was added last, hence the reversed order.
    dated = [(node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "Date") or "", node) for node in reversed(results)]
    return max(dated, key=lambda pair: pair[0], default=("", None))[1]


def stopAll(reason=None):
    """End every run of this process now; none is left behind."""
    for run in list(_running):
        run.stop(reason)
