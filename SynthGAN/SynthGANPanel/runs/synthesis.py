"""One synthesis, from the input node to the result node.

A run moves through: inputs checked, written to a private folder, child process at work, result read and verified,
node stored. Until the last step the scene is only read, so a run that fails or is cancelled does not change it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from SynthGANPanel.i18n import _
from SynthGANPanel.runs import verification
from SynthGANPanel.runs.childRun import ChildRun
from SynthGANPanel.runs.request import Request
from SynthGANPanel.runs.wording import describeProgress
from SynthGANPanel.scene import nodes

if TYPE_CHECKING:
    from SynthGANPanel.runs.childRun import Prepared
    from SynthGANPanel.runs.workerProcess import Event

DEFAULT_MODEL = "head-mr-ct"


class Synthesis(ChildRun):
    """One run; see :class:`task.Task` for its life.

    :ivar request: what is synthesized
    :ivar resultNode: the result once `state` is "done"
    :ivar warnings: warnings of the library, in order
    """

    def __init__(
        self,
        request: Request,
        progressCallback: Callable[[float, str], Any] | None = None,
        completedCallback: Callable[[Any], Any] | None = None,
    ) -> None:
        ChildRun.__init__(self, progressCallback, completedCallback)
        self.CANCELLED = _("The synthesis was cancelled.")
        self.request = request
        self.resultNode: slicer.vtkMRMLVolumeNode | None = None
        self.warnings: list[str] = []

    @property
    def inputNode(self) -> slicer.vtkMRMLVolumeNode | None:
        """The input volume, None for a model that needs no input."""
        return self.request.inputNode

    @property
    def label(self) -> str:
        """What is made from what, one line for a list."""
        return self.request.label

    def _check(self) -> None:
        self.request.check()

    def _prepare(self, folder: Path) -> Prepared:
        return self.request.prepare(folder)

    def _store(self, done: Event) -> slicer.vtkMRMLVolumeNode:
        assert self.folder is not None  # which holds the result
        request = self.request
        array = verification.verifiedArray(self.folder / "output.nrrd", done, request.card, request.grid, self.log)
        self.resultNode = request.store(array, done)
        return self.resultNode

    def _lostNodes(self) -> str:
        return self.request.lostNodes()

    def _describe(self, event: Event) -> str:
        own = {"start": _("Starting"), "cancel": _("Cancelling"), "done": _("Done")}
        if event.get("event") is None and event.get("stage") in own:
            return own[event["stage"]]
        return describeProgress(event)

    def _take(self, event: Event) -> None:
        if event["event"] in ("warning", "memory"):
            self.warnings.append(str(event.get("message", "")))
            assert self._process is not None  # which sent the event
            self._process.log.append(self.warnings[-1])
            self.text = self.warnings[-1]
        else:
            ChildRun._take(self, event)  # noqa: SLF001


def synthesize(
    inputNode: slicer.vtkMRMLVolumeNode | None,
    model: str = DEFAULT_MODEL,
    wait: bool = True,
    progressCallback: Callable[[float, str], Any] | None = None,
    completedCallback: Callable[[Any], Any] | None = None,
    **choices: Any,
) -> Any:
    """Start a synthesis and, by default, wait for it. Works with and without Qt.

    :param choices: those of :class:`request.Request`
    :return: the result node if `wait`, else the running :class:`Synthesis`
    :raises SynthesisError: if it cannot start, or, when waiting, if it failed or was cancelled
    """
    run = Synthesis(Request(inputNode, model, **choices), progressCallback, completedCallback)
    run.start()
    return run.wait() if wait else run


def latestResult(
    inputNode: slicer.vtkMRMLVolumeNode | None, modelId: str | None = None
) -> slicer.vtkMRMLVolumeNode | None:
    """The newest volume of the scene that was synthesized from `inputNode` (by this model), None if there is none."""
    if inputNode is None or inputNode.GetScene() is None:
        return None
    wanted, attribute = modelId, nodes.ATTRIBUTE_PREFIX + "ModelId"
    return _newest(
        inputNode.GetScene(),
        lambda node: wanted in (None, node.GetAttribute(attribute)) and nodes.sourceOf(node) is inputNode,
    )


def latestGenerated(scene: slicer.vtkMRMLScene, modelId: str) -> slicer.vtkMRMLVolumeNode | None:
    """The newest volume of the scene that a model made without an input, None if there is none."""
    wanted = {nodes.ATTRIBUTE_PREFIX + "ModelId": modelId, nodes.ATTRIBUTE_PREFIX + "InputName": "none"}
    return _newest(scene, lambda node: all(node.GetAttribute(name) == value for name, value in wanted.items()))


def _newest(scene: slicer.vtkMRMLScene, isWanted: Callable[[Any], bool]) -> slicer.vtkMRMLVolumeNode | None:
    """The volume of the latest date among the wanted ones."""
    found = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene) if isWanted(node)]
    # Of results of one second the one that was added last, hence the reversed order.
    dated = [(node.GetAttribute(nodes.ATTRIBUTE_PREFIX + "Date") or "", node) for node in reversed(found)]
    return max(dated, key=lambda pair: pair[0], default=("", None))[1]
