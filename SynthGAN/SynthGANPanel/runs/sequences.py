"""A whole 4D sequence: every frame synthesized, and the results stored as a sequence that plays with the source."""

import slicer

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs.request import Request
from SynthGANPanel.runs.synthesis import Synthesis
from SynthGANPanel.scene import nodes
from SynthGANPanel.task import Task


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


class SequenceSynthesis(Task):
    """One run over all frames; see :class:`task.Task` for its life. Nothing is stored before the last frame.

    :ivar resultNode: the volume that shows the new sequence, once `state` is "done"
    :ivar warnings: what the library remarked on all frames, each once
    """

    INTERVAL_MILLISECONDS = Synthesis.INTERVAL_MILLISECONDS

    def __init__(self, volumeNode, model, progressCallback=None, completedCallback=None, **choices):
        super().__init__(progressCallback, completedCallback)
        self.CANCELLED = _("The synthesis was cancelled.")
        nodes.checkIsNode(volumeNode, "inputVolume")
        self.inputNode = volumeNode
        self.model = model
        self.choices = choices
        self.warnings = []
        self.resultNode = None
        self._browser, self._sequence = sequenceOf(volumeNode)
        self._results = []
        self._run = None  # the synthesis of the present frame

    @property
    def label(self):
        """What is made from what, one line for a list."""
        return _("{input} ({count} frames): {model}").format(
            input=self.inputNode.GetName(), count=self._frames, model=self.model
        )

    @property
    def log(self):
        return self._run.log if self._run is not None else []

    @property
    def _frames(self):
        return self._sequence.GetNumberOfDataNodes() if self._sequence is not None else 0

    def cancel(self, reason=None):
        """Ask the run to end, which takes seconds at most; nothing is stored."""
        if self.running and self._cancelReason is None:
            self._cancelReason = reason or self.CANCELLED
            self._run.cancel(reason)

    def _begin(self):
        if self.inputNode is None:
            nodes.checkInput(None)  # says what to choose
        if self._sequence is None:
            raise SynthesisError(
                _("'{name}' is not a frame of a sequence.").format(name=self.inputNode.GetName()),
                _("Choose the volume of a sequence browser."),
            )
        self._startFrame(0)

    def _work(self):
        for number in range(self._frames):
            if number:
                self._startFrame(number)
            run = self._run
            while not run.poll():
                self._tellProgress(number)
                yield None
            self.warnings += [warning for warning in run.warnings if warning not in self.warnings]
            if run.error is not None:
                if run.state == "cancelled":  # also because the volume was removed
                    self._cancelReason = run.error.cause
                raise run.error
        self._store()
        return self.resultNode

    def _cleanUp(self):
        if self._run is not None:
            self._run.stop(self._cancelReason)

    def _startFrame(self, number):
        frame = self._sequence.GetNthDataNode(number)
        request = FrameRequest(frame, self.inputNode, self.model, self._results.append, **self.choices)
        self._run = Synthesis(request)
        self._run.start(hasTimer=False)
        self._tellProgress(number)

    def _tellProgress(self, number):
        count = max(1, self._frames)
        self.fraction = (number + self._run.fraction) / count
        self.text = _("Frame {number} of {count}: {text}").format(number=number + 1, count=count, text=self._run.text)

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
