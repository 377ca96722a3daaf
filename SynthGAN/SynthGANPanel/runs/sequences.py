"""A whole 4D sequence: every frame synthesized, and the results stored as a sequence that plays with the source."""

import slicer

from SynthGANPanel.failure import SynthesisError, asSynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs.request import Request
from SynthGANPanel.runs.synthesis import Synthesis
from SynthGANPanel.scene import nodes


def sequenceOf(volumeNode):
    """(browser, sequence) of which the volume shows one frame; (None, None) for any other volume."""
    if volumeNode is None or volumeNode.GetScene() is None:
        return None, None
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", volumeNode.GetScene()):
        sequence = browser.GetSequenceNode(volumeNode)
        if sequence is not None and sequence.GetNumberOfDataNodes() > 0:
            return browser, sequence
    return None, None


class FrameRequest(Request):
    """One frame: taken from the sequence, and kept apart until all frames are done."""

    def __init__(self, frameNode, proxyNode, model, keep, **choices):
        Request.__init__(self, frameNode, model, **choices)
        self._proxyNode = proxyNode
        self._keep = keep

    @property
    def placedNode(self):
        return self._proxyNode

    def lostNodes(self):
        """A frame lives in its sequence; what may go is the volume that shows it."""
        if self._proxyNode.GetScene() is None:
            return _("The synthesis was cancelled because the input volume was removed.")
        return ""

    def store(self, array, done):
        record = nodes.provenance(self._proxyNode, self.card, done, self._choices())
        node = nodes.looseResult(array, self.card, record, nodes.RAS_TO_LPS @ self.grid.affine)
        self._keep(node)
        return node


class SequenceSynthesis:
    """One run over all frames, with the life of a :class:`childRun.ChildRun`; nothing is stored before the last frame.

    :ivar resultNodes: the volume that shows the new sequence, once `state` is "done"
    """

    def __init__(self, volumeNode, model, progressCallback=None, completedCallback=None, **choices):
        nodes.checkIsNode(volumeNode, "inputVolume")
        self.inputNode = volumeNode
        self.model = model
        self.choices = choices
        self.state = "new"
        self.error = None
        self.fraction, self.text, self.seconds = 0.0, "", 0.0
        self.warnings, self.log = [], []
        self.resultNode = None
        self._browser, self._sequence = sequenceOf(volumeNode)
        self._results = []
        self._frame = 0
        self._run = None
        self._progressCallback = progressCallback
        self._completedCallback = completedCallback

    @property
    def label(self):
        """What is made from what, one line for a list."""
        return _("{input} ({count} frames): {model}").format(
            input=self.inputNode.GetName(), count=self._frames, model=self.model
        )

    @property
    def resultNodes(self):
        """The volume that shows the new sequence."""
        return [self.resultNode] if self.resultNode is not None else []

    @property
    def running(self):
        """Whether the run is under way."""
        return self.state == "running"

    @property
    def cancelling(self):
        """Whether the run was asked to end and has not answered yet."""
        return self.running and self._run is not None and self._run.cancelling

    @property
    def _frames(self):
        return self._sequence.GetNumberOfDataNodes() if self._sequence is not None else 0

    def start(self):
        """Begin with the first frame.

        :raises SynthesisError: if the volume shows no sequence or the first frame cannot be used
        """
        if self.inputNode is None:
            nodes.checkInput(None)  # says what to choose
        if self._sequence is None:
            raise SynthesisError(
                _("'{name}' is not a frame of a sequence.").format(name=self.inputNode.GetName()),
                _("Choose the volume of a sequence browser."),
            )
        self.state = "running"
        try:
            self._next()
        except BaseException:
            self.state = "failed"
            raise

    def poll(self, timeout=0.0):
        """Let time pass where no Qt does it; True when the run has ended."""
        if self._run is not None:
            self._run.poll(timeout)
        return not self.running

    def cancel(self, reason=None):
        """Ask the run to end; nothing is stored."""
        if self._run is not None:
            self._run.cancel(reason)

    def stop(self, reason=None):
        """End the run before returning."""
        if self._run is not None:
            self._run.stop(reason)

    def wait(self):
        """Wait for the end.

        :return: the volume that shows the new sequence
        :raises SynthesisError: if a frame failed or the run was cancelled
        """
        app = getattr(slicer, "app", None)
        while not self.poll(timeout=0.05):
            if app is not None:
                app.processEvents()
        if self.error is not None:
            raise self.error
        return self.resultNode

    def _next(self):
        self._frame = len(self._results)
        frame = self._sequence.GetNthDataNode(self._frame)
        request = FrameRequest(frame, self.inputNode, self.model, self._results.append, **self.choices)
        self._run = Synthesis(request, self._onProgress, self._onCompleted)
        self._run.start()

    def _onProgress(self, fraction, text):
        frames = max(1, self._frames)
        self.fraction = (self._frame + (fraction or 0.0)) / frames
        self.text = _("Frame {number} of {count}: {text}").format(number=self._frame + 1, count=frames, text=text)
        if self._progressCallback is not None:
            self._progressCallback(self.fraction, self.text)

    def _onCompleted(self, run):
        self.seconds += run.seconds
        self.log = run.log
        self.warnings += [warning for warning in run.warnings if warning not in self.warnings]
        self.error = run.error
        if self.error is None:
            try:
                if len(self._results) < self._frames:
                    self._next()
                    return
                self._store()
            except Exception as error:
                self.error = asSynthesisError(error, run.log)  # a defect, too, ends the run
        self.state = run.state if run.error is not None else "failed" if self.error is not None else "done"
        self._run = None
        if self._completedCallback is not None:
            self._completedCallback(self)

    def _store(self):
        """Put the new sequence into the browser of the source, shown by a volume of its own."""
        if self.inputNode.GetScene() is None or self._browser.GetScene() is None:
            raise SynthesisError(_("The sequence was removed while its frames were synthesized."), "")
        scene = self.inputNode.GetScene()
        card = self._run.request.card
        name = nodes.freeName(scene, nodes.resultName(self.inputNode, card))
        sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        sequence.SetIndexName(self._sequence.GetIndexName())
        sequence.SetIndexUnit(self._sequence.GetIndexUnit())
        for index, result in enumerate(self._results):
            value = self._sequence.GetNthIndexValue(index)
            sequence.SetDataNodeAtValue(result, value)
            nodes.setQuantity(sequence.GetDataNodeAtValue(value), card.target)  # a copy of a node leaves it out
        shown = scene.AddNewNodeByClass(self._results[0].GetClassName(), sequence.GetName())
        shown.CopyContent(self._results[0])
        shown.SetAndObserveTransformNodeID(self.inputNode.GetTransformNodeID())
        nodes.setSource(shown, self.inputNode)
        for attribute in self._results[0].GetAttributeNames():
            shown.SetAttribute(attribute, self._results[0].GetAttribute(attribute))
        nodes.setQuantity(shown, card.target)
        nodes.showAsTarget(shown, card)
        nodes.placeBeside(self.inputNode, shown)
        self._browser.AddSynchronizedSequenceNode(sequence)
        self._browser.AddProxyNode(shown, sequence, False)
        self.resultNode = shown
