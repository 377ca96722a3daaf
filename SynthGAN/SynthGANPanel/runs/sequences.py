"""A whole 4D sequence: every frame synthesized, and the results stored as a sequence that plays with the source."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import slicer

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs.request import Request
from SynthGANPanel.runs.synthesis import Synthesis
from SynthGANPanel.scene import nodes
from SynthGANPanel.task import Task

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array
    from SynthGANLib.model.card import Card
    from SynthGANPanel.runs.workerProcess import Event
    from SynthGANPanel.task import Steps


def sequenceOf(
    volumeNode: slicer.vtkMRMLNode | None,
) -> tuple[slicer.vtkMRMLNode, slicer.vtkMRMLNode] | tuple[None, None]:
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

    def __init__(
        self,
        frameNode: slicer.vtkMRMLVolumeNode,
        proxyNode: slicer.vtkMRMLVolumeNode,
        model: str,
        keep: Callable[[Any], Any],
        **choices: Any,
    ) -> None:
        Request.__init__(self, frameNode, model, **choices)
        self._proxyNode = proxyNode
        self._keep = keep

    @property
    def placedNode(self) -> slicer.vtkMRMLVolumeNode:
        return self._proxyNode

    def lostNodes(self) -> str:
        """A frame belongs to its sequence; only the volume that shows it can be removed."""
        if self._proxyNode.GetScene() is None:
            return _("The synthesis was cancelled because the input volume was removed.")
        return ""

    def store(self, array: Array, done: Event) -> slicer.vtkMRMLVolumeNode:
        record = nodes.provenance(self._proxyNode, self.card, done, self._choices())
        node = nodes.looseResult(array, self.card, record, nodes.RAS_TO_LPS @ self.grid.affine)
        self._keep(node)
        return node


class SequenceSynthesis(Task):
    """One run over all frames; see :class:`task.Task` for its life. Nothing is stored before the last frame.

    :ivar resultNode: the volume that shows the new sequence, once `state` is "done"
    :ivar warnings: warnings of the library on all frames, without repetition
    """

    INTERVAL_MILLISECONDS = Synthesis.INTERVAL_MILLISECONDS

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        model: str,
        progressCallback: Callable[[float, str], Any] | None = None,
        completedCallback: Callable[[Any], Any] | None = None,
        **choices: Any,
    ) -> None:
        super().__init__(progressCallback, completedCallback)
        self.CANCELLED = _("The synthesis was cancelled.")
        nodes.checkIsNode(volumeNode, "inputVolume")
        self.inputNode = volumeNode
        self.model = model
        self.choices = choices
        self.warnings: list[str] = []
        self.resultNode: slicer.vtkMRMLVolumeNode | None = None
        self._browser: Any
        self._sequence: Any
        self._browser, self._sequence = sequenceOf(volumeNode)
        self._results: list[slicer.vtkMRMLVolumeNode] = []
        self._run: Synthesis | None = None  # of the present frame

    @property
    def label(self) -> str:
        """What is made from what, one line for a list."""
        return _("{input} ({count} frames): {model}").format(
            input=self.inputNode.GetName(), count=self._frames, model=self.model
        )

    @property
    def log(self) -> list[str]:
        return self._run.log if self._run is not None else []

    @property
    def _frames(self) -> int:
        return self._sequence.GetNumberOfDataNodes() if self._sequence is not None else 0

    def cancel(self, reason: str | None = None) -> None:
        """Ask the run to end, which takes seconds at most; nothing is stored."""
        if self.running and self._cancelReason is None:
            self._cancelReason = reason or self.CANCELLED
            if self._run is not None:
                self._run.cancel(reason)

    def _begin(self) -> None:
        if self.inputNode is None:
            nodes.checkInput(None)  # raises an error that names the choice
        if self._sequence is None:
            raise SynthesisError(
                _("'{name}' is not a frame of a sequence.").format(name=self.inputNode.GetName()),
                _("Choose the volume of a sequence browser."),
            )
        self._startFrame(0)

    def _work(self) -> Steps:
        for number in range(self._frames):
            run = self._startFrame(number) if number or self._run is None else self._run
            while not run.poll():
                self._tellProgress(number, run)
                yield None
            self.warnings += [warning for warning in run.warnings if warning not in self.warnings]
            if run.error is not None:
                if run.state == "cancelled":  # also because the volume was removed
                    self._cancelReason = run.error.cause
                raise run.error
        return self._store(run.request.card)  # a sequence has one frame at least

    def _cleanUp(self) -> None:
        if self._run is not None:
            self._run.stop(self._cancelReason)

    def _startFrame(self, number: int) -> Synthesis:
        frame = self._sequence.GetNthDataNode(number)
        request = FrameRequest(frame, self.inputNode, self.model, self._results.append, **self.choices)
        run = self._run = Synthesis(request)
        run.start(hasTimer=False)
        self._tellProgress(number, run)
        return run

    def _tellProgress(self, number: int, run: Synthesis) -> None:
        count = max(1, self._frames)
        self.fraction = (number + run.fraction) / count
        self.text = _("Frame {number} of {count}: {text}").format(number=number + 1, count=count, text=run.text)

    def _store(self, card: Card) -> slicer.vtkMRMLVolumeNode:
        """Put the new sequence into the browser of the source, shown by a volume of its own."""
        if self.inputNode.GetScene() is None or self._browser.GetScene() is None:
            raise SynthesisError(_("The sequence was removed while its frames were synthesized."), "")
        scene = self.inputNode.GetScene()
        name = nodes.freeName(scene, nodes.resultName(self.inputNode, card))
        sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        sequence.SetIndexName(self._sequence.GetIndexName())
        sequence.SetIndexUnit(self._sequence.GetIndexUnit())
        for index, result in enumerate(self._results):
            value = self._sequence.GetNthIndexValue(index)
            sequence.SetDataNodeAtValue(result, value)
            nodes.setQuantity(sequence.GetDataNodeAtValue(value), card.target)  # copying a node drops it
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
        return shown
