"""The run: where the result goes, on what it is computed, Apply and Cancel, the queue, progress, and how it ended."""

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs import deviceCheck, estimation, runQueue, sequences, studies, wording
from SynthGANPanel.runs.request import Request
from SynthGANPanel.runs.sequences import SequenceSynthesis
from SynthGANPanel.runs.synthesis import Synthesis
from SynthGANPanel.sections.base import Section


class RunSection(Section):
    """Output, advanced choices, one button, the queue, one progress bar, one status line, details."""

    uiFile = "Run"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self.queue = runQueue.RunQueue(self._onProgress, self._onEnded, panel.refresh)
        self._chosen = None  # input and model when the last outcome was shown
        self._outcome = ""  # how the last run ended
        self._left = []  # volumes of a study that were left out, shown above the details of its runs

    @property
    def run(self):
        """The run under way, None while there is none."""
        return self.queue.current

    def setup(self):
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.queueButton.connect("clicked(bool)", self.onQueueButton)
        self.ui.studyButton.connect("clicked(bool)", self.onStudyButton)
        self.ui.clearQueueButton.connect("clicked(bool)", self.onClearQueueButton)
        self.ui.copyLogButton.connect("clicked(bool)", self.onCopyLogButton)
        self.ui.advancedCollapsibleButton.connect("toggled(bool)", self.onAdvancedOpened)

    def cleanup(self):
        self.queue.stop(_("The synthesis was cancelled because the module was closed."))

    def sceneCloses(self):
        """The scene is about to be closed: every run ends, and the last outcome is cleared."""
        self._outcome = ""
        self.queue.stop(_("The synthesis was cancelled because the scene was closed."))

    def sceneClosed(self):
        """The scene was closed: the outcome of the run is shown beside the new choices."""
        self._chosen = self._choices()

    def tell(self, text):
        """Show a line until another input or model is chosen."""
        self._chosen, self._outcome = self._choices(), text
        self.ui.statusLabel.text = text

    def fail(self, error):
        """Show what went wrong, its cause and next step, and the process's last lines."""
        self.tell(str(error))
        self._showLog([error.cause, error.nextStep, *error.log])
        self.ui.detailsCollapsibleButton.collapsed = error.kind == "cancelled"

    def onApplyButton(self):
        """Run processing, or cancel it, when user clicks "Apply" button."""
        if self.run is not None:
            self.queue.cancel()
            self.panel.refresh()
        else:
            self._chosen, self._outcome, self._left = self._choices(), "", []
            self.ui.logTextEdit.clear()
            self._add(self._requested())

    def onQueueButton(self):
        """Run the present choices too, after what is under way."""
        self._add(self._requested())

    def onStudyButton(self):
        """Run every volume of the study that the model can take; name the others."""
        source, card = self.panel.source(), self.panel.model().card
        fitting, others = studies.fitting(source, card)
        self._left = [_("'{name}' is left out: {reason}").format(name=name, reason=reason) for name, reason in others]
        self._showLog([])
        self.ui.detailsCollapsibleButton.collapsed = not self._left
        for node in fitting:
            self._add(self._requested(node, everyOne=True))

    def onClearQueueButton(self):
        """Remove the waiting runs."""
        self.queue.clear()
        self.panel.refresh()

    def onCopyLogButton(self):
        """Put message and details on the clipboard."""
        import qt

        text = "\n".join([self.ui.statusLabel.text, "", self.ui.logTextEdit.plainText])
        qt.QApplication.clipboard().setText(text)

    def onAdvancedOpened(self, opened):
        """Check the devices when the section is opened for the first time."""
        if opened and self.panel.devices() is None:
            self.panel.checkDevices()

    def update(self):
        running, parameters = self.run is not None, self.panel.parameters
        if self._chosen is None:  # a run ended while the module was left: the outcome belongs to the present choices
            self._chosen = self._choices()
        obstacle = self.panel.obstacle()
        if running:
            self.ui.applyButton.text = _("Cancel")
            self.ui.applyButton.toolTip = _("Stop the synthesis; nothing in the scene changes")
            self.ui.applyButton.enabled = not self.run.cancelling
        else:
            self.ui.applyButton.text = _("Apply")
            self.ui.applyButton.toolTip = obstacle or _("Synthesize the chosen modality from the input volume")
            self.ui.applyButton.enabled = not obstacle
            self.ui.progressBar.value = 0
            # The last outcome is shown until another input or model is chosen
            told = self._outcome if self._chosen == self._choices() else ""
            self.ui.statusLabel.text = told or obstacle or _("Ready.")
        self.ui.progressBar.visible = running
        self.ui.queueButton.visible = running
        self.ui.queueButton.enabled = not obstacle
        source = self.panel.source()
        others = len(studies.volumesOf(source)) if source else 0
        self.ui.studyButton.visible = others > 1
        self.ui.studyButton.enabled = not obstacle
        self.ui.studyButton.toolTip = _("Every volume of the study that fits the model, each into a new volume")
        self.ui.studyButton.text = _("Whole study ({count} volumes)").format(count=others)
        self._showQueue()
        frames = self._frames()
        self.ui.wholeSequenceCheckBox.visible = frames > 1
        # All frames go into a new sequence
        self.ui.outputSelector.enabled = not (parameters.wholeSequence and frames > 1)
        self.ui.wholeSequenceCheckBox.text = _("Whole sequence ({count} frames)").format(count=frames)
        found = self.panel.devices()
        self.ui.devicesLabel.text = "\n".join(deviceCheck.describe(found)) if found else ""
        entry = self.panel.model()
        text = estimation.describe(
            source, entry.card if entry else None, parameters.device.value, parameters.memoryLimitGb,
            roiNode=parameters.roi, frames=frames if parameters.wholeSequence else 1,
        )  # fmt: skip
        self.ui.estimateLabel.text = text
        self.ui.estimateLabel.visible = bool(text) and not running

    def _add(self, make):
        """Queue a run; an error at its start is shown."""
        try:
            self.queue.add(make)
        except SynthesisError as error:
            self.panel.fail(error)
        self.panel.refresh()

    def _requested(self, node=None, everyOne=False):
        """What makes a run of the present choices, which are taken now: they may change while it waits.

        :param node: another input than the chosen one; `everyOne`: one of several, each to a volume of its own
        """
        parameters = self.panel.parameters
        source = None if self.panel.needsNoInput() else node or parameters.inputVolume
        model = parameters.modelId
        choices = {
            "maskNode": parameters.maskVolume if node in (None, parameters.inputVolume) else None,
            "maskSegment": parameters.maskSegment,
            "roiNode": parameters.roi,
            "device": parameters.device.value,
            "memoryLimitGb": parameters.memoryLimitGb,
            "acceptUnfit": parameters.acceptUnfit,
            "seed": parameters.seed,
        }
        if not everyOne and parameters.wholeSequence and self._frames() > 1:
            return lambda progress, completed: SequenceSynthesis(source, model, progress, completed, **choices)
        output = None if everyOne else parameters.outputVolume
        request = Request(source, model, outputNode=output, **choices)
        return lambda progress, completed: Synthesis(request, progress, completed)

    def _frames(self):
        sequence = sequences.sequenceOf(self.panel.source())[1]
        return sequence.GetNumberOfDataNodes() if sequence is not None else 0

    def _showQueue(self):
        several = len(self.queue.runs) > 1
        self.ui.queueLabel.visible = several
        self.ui.queueLabel.text = "\n".join(runQueue.describe(run) for run in self.queue.runs) if several else ""
        self.ui.clearQueueButton.visible = bool(self.queue.waiting)

    def _onProgress(self, fraction, text):
        self.ui.progressBar.value = int(100 * (fraction or 0))
        self.ui.statusLabel.text = text

    def _onEnded(self, run):
        if run.error is not None:
            self.fail(run.error)
        else:
            self._outcome = wording.afterSuccess(run)
            self._showLog(run.log)
        self.panel.ended(run)

    def _showLog(self, lines):
        self.ui.logTextEdit.plainText = "\n".join(filter(None, [*self._left, *lines]))

    def _choices(self):
        parameters = self.panel.parameters
        return (parameters.inputVolume, parameters.modelId) if parameters else None
