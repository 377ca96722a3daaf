"""What is synthesized from: the input volume, where the body is, which part of it, and how it fits the model."""

import html

import slicer

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs import request
from SynthGANPanel.scene import inputChecks, masks, nodes, regions
from SynthGANPanel.sections.base import Section

COLORS = {"good": "#2e8b57", "doubtful": "#d98200", "unfit": "#c62828"}
MARKS = {"good": "&#10003;", "doubtful": "!", "unfit": "&#10007;"}


class InputSection(Section):
    """Input volume, mask, region, and the checks before Apply."""

    uiFile = "Input"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self._checked = None  # what the present checks are about
        self._checks = []
        self._acceptedFor = None

    def setup(self):
        self.ui.segmentSelector.connect("currentIndexChanged(int)", self.onSegmentSelected)
        self.ui.roiSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onRoiAdded)

    def bind(self, parameters):
        # Select what is likely meant to save a few clicks for the user
        if not parameters.inputVolume:
            parameters.inputVolume = nodes.firstVolume(slicer.mrmlScene)
        Section.bind(self, parameters)

    def obstacle(self):
        if self.panel.needsNoInput():
            return ""
        if not self.panel.source():
            return _("Choose an input volume.")
        for check in self._present():
            if check.level == "unfit" and not (check.overridable and self.panel.parameters.acceptUnfit):
                return f"{check.text} {check.next_step}".strip()
        return ""

    def update(self):
        parameters, generated = self.panel.parameters, self.panel.needsNoInput()
        for name in ("input", "mask", "roi"):
            getattr(self.ui, f"{name}Selector").visible = not generated
            getattr(self.ui, f"{name}Label").visible = not generated
        self._offerLabelMaps()
        self.ui.seedSpinBox.visible = self.ui.seedLabel.visible = generated
        self._showSegments(parameters)
        if self._acceptedFor != (parameters.inputVolume, parameters.modelId):
            self._acceptedFor = (parameters.inputVolume, parameters.modelId)
            parameters.acceptUnfit = False  # was accepted for another volume or model
        checks = self._present()
        self.ui.checksLabel.text = asHtml(checks)
        self.ui.checksLabel.visible = bool(checks)
        unfit = [check for check in checks if check.level == "unfit"]
        self.ui.acceptUnfitCheckBox.visible = bool(unfit) and all(check.overridable for check in unfit)

    def onSegmentSelected(self, index):
        """Segments come and go, so this selector is not bound but kept equal by hand."""
        if self.panel.parameters and index >= 0:
            self.panel.parameters.maskSegment = self.ui.segmentSelector.itemData(index)

    def onRoiAdded(self, roiNode):
        """A new region begins as the whole input, to be drawn smaller."""
        source = self.panel.source()
        if source is not None:
            regions.fitRoi(roiNode, source)

    def _present(self):
        """The checks of the present choices; nothing is looked at twice."""
        source, entry = self.panel.source(), self.panel.model()
        if source is None or entry is None or entry.card is None or request.needsNoInput(entry.card):
            return []
        image = source.GetImageData()
        about = (source.GetID(), source.GetMTime(), image.GetMTime() if image else 0, entry.id, entry.version)
        if about != self._checked:
            self._checked = about
            try:
                self._checks = inputChecks.checks(source, entry.card)
            except SynthesisError as error:
                self._checks = [notAnImage(error)]
        return self._checks

    def _offerLabelMaps(self):
        """A drawing, such as a vessel tree, is a label map as a rule; for an image one is never meant."""
        entry = self.panel.model()
        drawn = entry is not None and entry.card is not None and entry.card.source.modality == "SEG"
        wanted = [*nodes.IMAGE_CLASSES, *(["vtkMRMLLabelMapVolumeNode"] if drawn else [])]
        if list(self.ui.inputSelector.nodeTypes) != wanted:
            self.ui.inputSelector.nodeTypes = wanted

    def _showSegments(self, parameters):
        items = [("", _("All segments")), *masks.segments(parameters.maskVolume)]
        shown = len(items) > 1 and not self.panel.needsNoInput()
        self.ui.segmentSelector.visible = self.ui.segmentLabel.visible = shown
        selector = self.ui.segmentSelector
        wasBlocked = selector.blockSignals(True)  # only a choice by the user may change the parameter
        if [(selector.itemData(i), selector.itemText(i)) for i in range(selector.count)] != items:
            selector.clear()
            for segmentId, name in items:
                selector.addItem(name, segmentId)
        known = [segmentId for segmentId, _name in items]
        selector.currentIndex = known.index(parameters.maskSegment) if parameters.maskSegment in known else 0
        selector.blockSignals(wasBlocked)


def notAnImage(error):
    """The line for an input that cannot be looked at."""
    environment.useLibrary()
    from SynthGANLib.inference.fitness import Check

    return Check("values", "unfit", error.cause, error.nextStep)


def asHtml(checks):
    """The checks as lines of rich text, the grave ones first."""
    grave = sorted(checks, key=lambda check: ("unfit", "doubtful", "good").index(check.level))
    lines = []
    for check in grave:
        text = html.escape(f"{check.text} {check.next_step}".strip())
        lines.append(f'<span style="color:{COLORS[check.level]}"><b>{MARKS[check.level]}</b></span> {text}')
    return "<br>".join(lines)
