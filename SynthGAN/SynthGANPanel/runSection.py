"""The run: where the result goes, on what it is computed, Apply and Cancel, progress, and how it ended."""

import slicer

from SynthGANPanel import compare, wording
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.section import Section


class RunSection(Section):
    """Output, advanced choices, one button, one progress bar, one status line, details."""

    uiFile = "Run"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self.run = None
        self._chosen = None  # input and model when the last outcome was told
        self._outcome = ""  # how the last run ended

    def setup(self):
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.compareButton.connect("clicked(bool)", self.onCompareButton)

    def cleanup(self):
        if self.run is not None:
            self.run.stop(_("The synthesis was cancelled because the module was closed."))

    def sceneCloses(self):
        """The scene is about to be closed: no run survives it, and nothing of before is told any more."""
        self._outcome = ""
        if self.run is not None:
            self.run.stop(_("The synthesis was cancelled because the scene was closed."))

    def sceneClosed(self):
        """The scene was closed: how the run ended is told beside the new choices."""
        self._chosen = self._choices()

    def tell(self, text):
        """Show a line until another input or model is chosen."""
        self._chosen, self._outcome = self._choices(), text
        self.ui.statusLabel.text = text

    def fail(self, error):
        """Show what went wrong, its cause and next step, and the process's last words."""
        self.tell(str(error))
        self._showLog(error.log)
        self.ui.detailsCollapsibleButton.collapsed = error.kind == "cancelled" or not error.log

    def onApplyButton(self):
        """Run processing, or cancel it, when user clicks "Apply" button."""
        if self.run is not None:
            self.run.cancel()
            self.panel.refresh()
            return
        self._chosen, self._outcome = self._choices(), ""
        self.ui.logTextEdit.clear()
        parameters = self.panel.parameters
        try:
            self.run = self.panel.logic.synthesize(
                None if self.panel.needsNoInput() else parameters.inputVolume,
                model=parameters.modelId,
                mask=parameters.maskVolume,
                maskSegment=parameters.maskSegment,
                roi=parameters.roi,
                acceptUnfit=parameters.acceptUnfit,
                seed=parameters.seed,
                device=parameters.device.value,
                outputVolume=parameters.outputVolume,
                memoryLimitGb=parameters.memoryLimitGb,
                wait=False,
                progressCallback=self._onProgress,
                completedCallback=self._onCompleted,
            )
        except SynthesisError as error:
            self.panel.fail(error)
        self.panel.refresh()

    def onCompareButton(self):
        """Show input and result side by side, or go back to the layout that was there before."""
        source = self.panel.source()
        if compare.isShown(slicer.mrmlScene):
            compare.restore(slicer.mrmlScene)
        else:
            compare.show(source, self.panel.result())
        self.panel.refresh()

    def update(self):
        running = self.run is not None
        for choices in ("outputContents", "advancedContents"):
            getattr(self.ui, choices).enabled = not running
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
            # How the last run ended is told until another input or model is chosen
            told = self._outcome if self._chosen == self._choices() else ""
            self.ui.statusLabel.text = told or obstacle or _("Ready.")
        self.ui.progressBar.visible = running
        shown = compare.isShown(slicer.mrmlScene)
        self.ui.compareButton.text = _("Back to the former layout") if shown else _("Show side by side")
        self.ui.compareButton.enabled = shown or (self.panel.result() is not None and not self.panel.needsNoInput())

    def _onProgress(self, fraction, text):
        self.ui.progressBar.value = int(100 * (fraction or 0))
        self.ui.statusLabel.text = text

    def _onCompleted(self, run):
        self.run = None
        if run.error is not None:
            self.fail(run.error)
        else:
            self._outcome = wording.afterSuccess(run)
            self._showLog(run.log)
            wanted = self.panel.entered and self.panel.parameters and self.panel.parameters.sideBySide
            if wanted and run.inputNode is not None:
                compare.show(run.inputNode, run.resultNode)
        self.panel.ended(run)

    def _showLog(self, lines):
        self.ui.logTextEdit.plainText = "\n".join(lines)

    def _choices(self):
        parameters = self.panel.parameters
        return (parameters.inputVolume, parameters.modelId) if parameters else None
