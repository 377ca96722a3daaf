"""How good a result is: measured in the child process, kept as a table and plots beside the result.

With a reference (a real image of the same modality, on any grid and under any linear transform): the library's
metrics, per tissue. Without one: what can be measured all the same, labeled as no measure of accuracy.
"""

import json

import numpy as np

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError, fromLibrary
from SynthGANPanel.i18n import _
from SynthGANPanel.quality import plots as qualityPlots
from SynthGANPanel.quality import table as qualityTable
from SynthGANPanel.quality.nodes import QualityNodes
from SynthGANPanel.runs.childRun import ChildRun
from SynthGANPanel.runs.wording import describeProgress, withPercent
from SynthGANPanel.scene import masks, nodes

AUTO = "auto"


class Measurement(ChildRun):
    """One measurement; see :class:`task.Task` for its life; its `outcome` is the table node.

    :ivar resultNode: what is measured. referenceNode: what it is compared with, or None
    :ivar sourceNode: what the result was made from, None where that is unknown or gone
    :ivar tableNode: the numbers, once `state` is "done"
    """

    def __init__(self, resultNode, referenceNode=None, maskNode=None, maskSegment="", protocol=AUTO, **callbacks):
        ChildRun.__init__(self, **callbacks)
        self.CANCELLED = _("The measurement was cancelled.")
        self.resultNode = resultNode
        self.referenceNode = referenceNode
        self.sourceNode = None
        self.maskNode = maskNode
        self.maskSegment = maskSegment
        self.protocol = protocol
        self.tableNode = None
        self._remarks = []
        self._before = None

    def _check(self):
        _checkImage(self.resultNode, _("No result is selected to measure."))
        if self.referenceNode is not None:
            if self.referenceNode is self.resultNode:
                raise SynthesisError(
                    _("'{name}' would be compared with itself.").format(name=self.resultNode.GetName()),
                    _("Choose a real image as the reference."),
                )
            _checkImage(self.referenceNode, "")
            if not _linearlyRelated(self.referenceNode, self.resultNode):
                raise SynthesisError(
                    _("The reference '{name}' and the result are related by a transform that is not linear.").format(
                        name=self.referenceNode.GetName()
                    ),
                    _("Harden the transform, or put both under the same transform."),
                )
        self.sourceNode = self._findSource()
        if self.referenceNode is not None and self.referenceNode is self.sourceNode:
            self._remarks.append(_("The reference is the volume that the result was made from."))

    def _findSource(self):
        """The volume that the result was made from; None, and a remark, where it cannot be used."""
        node = nodes.sourceOf(self.resultNode)
        if node is None:
            return None
        if not _linearlyRelated(node, self.resultNode):
            self._remarks.append(
                _("The source was left out: a transform that is not linear lies between it and the result.")
            )
            return None
        return node

    def _prepare(self, folder):
        from SynthGANLib.errors import SynthGANError

        images = {"result": self.resultNode, "reference": self.referenceNode, "source": self.sourceNode}
        images = {name: node for name, node in images.items() if node is not None}
        try:
            volumes = {name: _volumeIn(node, self.resultNode) for name, node in images.items()}
            if self.maskNode is not None:
                volumes["mask"] = masks.maskFromNode(self.maskNode, self.resultNode, self.maskSegment)
        except SynthGANError as error:
            raise fromLibrary(error) from error
        self._before = self._state()
        paths = {name: folder / f"{name}.nrrd" for name in volumes}
        job = {
            "job": "measure",
            **{name: str(path) for name, path in paths.items()},
            **{f"{name}_unit": nodes.unitOf(node) for name, node in images.items()},
            "protocol": self.protocol,
        }
        return job, [(volume, paths[name]) for name, volume in volumes.items()]

    def _state(self):
        """What must not change while it is measured: voxels and places."""
        watched = [node for node in (self.resultNode, self.referenceNode, self.sourceNode) if node is not None]
        places = [(nodes.toLocal(node, self.resultNode) @ nodes.ijkToRAS(node)).tolist() for node in watched]
        return [node.GetImageData() and node.GetImageData().GetMTime() for node in watched], places

    def _lostNodes(self):
        for node, name in ((self.resultNode, _("result")), (self.referenceNode, _("reference"))):
            if node is not None and node.GetScene() is None:
                return _("The measurement was cancelled because the {name} was removed.").format(name=name)
        return ""

    def _describe(self, event):
        stages = {
            "start": _("Starting"),
            "cancel": _("Cancelling"),
            "align": _("Resampling the reference"),
            "measure": _("Measuring"),
            "tissues": _("Measuring tissues"),
            "agreement": _("Measuring agreement"),
            "indicators": _("Comparing with the source"),
            "histograms": _("Counting values"),
            "done": _("Done"),
        }
        text = stages.get(event.get("stage"))
        return describeProgress(event) if text is None else withPercent(text, event)

    def _store(self, done):
        try:
            unchanged = self._before == self._state()
        except SynthesisError:  # a transform that is not linear was added
            unchanged = False
        if not unchanged:
            raise SynthesisError(
                _("An image was changed or moved while it was measured."), _("Measure again."), "result"
            )
        found = {**done, "remarks": [*self._remarks, *done["remarks"]]}
        with QualityNodes(self.resultNode) as made:
            self.tableNode = qualityTable.fill(made, found, self._names(), self._record(found))
            qualityPlots.fill(made, found, self._names())
        return self.tableNode

    def _names(self):
        """What images and mask are called in table and plots."""
        named = {"result": self.resultNode, "reference": self.referenceNode, "source": self.sourceNode}
        names = {name: node.GetName() for name, node in named.items() if node is not None}
        if self.maskNode is not None:
            segment = dict(masks.segments(self.maskNode)).get(self.maskSegment)
            names["mask"] = self.maskNode.GetName() + (f" ({segment})" if segment else "")
        return names

    def _record(self, found):
        """Where the numbers come from, as attributes of the table and as node references."""
        prefix = nodes.ATTRIBUTE_PREFIX
        named = {"Reference": self.referenceNode, "Source": self.sourceNode, "Mask": self.maskNode}
        record = {"ResultNodeID": self.resultNode.GetID(), "ResultName": self.resultNode.GetName()}
        for name, node in named.items():
            record[name + "NodeID"] = node.GetID() if node is not None else ""
            record[name + "Name"] = node.GetName() if node is not None else "none"
        for name in ("ModelId", "ModelVersion", "WeightsSHA256", "ResultSHA256"):
            record[name] = self.resultNode.GetAttribute(prefix + name) or "unknown"
        return {
            **record,
            "MaskUsed": self._names().get("mask", found["mask"]),
            "Protocol": found["protocol"] or "none",
            "Interpolation": found["interpolation"] or "none",
            "VoxelsCompared": str(found["compared"]),
            "VoxelsOutsideReference": str(found["excluded"]),
            "Remarks": json.dumps(found["remarks"]),
            "Versions": json.dumps(found.get("versions", {}), sort_keys=True),
        }


def measure(resultNode, wait=True, **choices):
    """Measure a result and, by default, wait for it. Works with and without Qt.

    :param choices: those of :class:`Measurement`
    :return: the table node if `wait`, else the running :class:`Measurement`
    :raises SynthesisError: if it cannot start, or, when waiting, if it failed or was cancelled
    """
    run = Measurement(resultNode, **choices)
    run.start()
    return run.wait() if wait else run


def _checkImage(node, absent):
    if node is None:
        raise SynthesisError(absent, _("Choose one, or synthesize one first."))
    if node.GetClassName() not in nodes.IMAGE_CLASSES:
        raise SynthesisError(
            _("'{name}' is not a scalar or color volume.").format(name=node.GetName()), _("Choose another volume.")
        )
    nodes.checkInput(node)


def _linearlyRelated(node, other):
    """Whether a matrix leads from the coordinates of one node to those of the other."""
    return nodes.between(node.GetParentTransformNode(), other.GetParentTransformNode()) is not None


def _volumeIn(node, resultNode):
    """The library's volume of a node, placed in the coordinates of the result."""
    from SynthGANLib.image.volume import Volume

    environment.useLibrary()
    volume = nodes.volumeFromNode(node)
    local = nodes.toLocal(node, resultNode)
    if np.array_equal(local, np.eye(4)):
        return volume
    return Volume(volume.array, nodes.RAS_TO_LPS @ local @ nodes.ijkToRAS(node), volume.unit)
