"""How good the result is: with a reference or without, one button, the main numbers, table and plots."""

import slicer

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.quality import plots as qualityPlots
from SynthGANPanel.quality import table as qualityTable
from SynthGANPanel.sections.base import Section


class QualitySection(Section):
    """Reference, mask, Measure and Cancel, and what was measured.

    `ui.evidenceContents` is an empty place at the end, for evidence that is no number.
    """

    uiFile = "Quality"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self.run = None
        self._outcome = ""  # how the last measurement ended
        self._measured = None  # the result it was about
        self._shown = None  # table and time of the numbers shown

    def setup(self):
        self.ui.measureButton.connect("clicked(bool)", self.onMeasureButton)
        self.ui.plotButton.connect("clicked(bool)", self.onPlotButton)
        self.ui.plotSelector.connect("activated(int)", self.onPlotSelected)

    def cleanup(self):
        if self.run is not None:
            self.run.stop(_("The measurement was cancelled because the module was closed."))

    def sceneCloses(self):
        if self.run is not None:
            self.run.stop(_("The measurement was cancelled because the scene was closed."))
        self._outcome, self._measured = "", None

    def onMeasureButton(self):
        """Measure, or cancel the measurement."""
        if self.run is not None:
            self.run.cancel()
            self.panel.refresh()
            return
        parameters = self.panel.parameters
        self._measured, self._outcome = self.panel.result(), ""
        try:
            self.run = self.panel.logic.measure(
                self._measured,
                referenceVolume=parameters.referenceVolume,
                mask=parameters.qualityMask,
                wait=False,
                progressCallback=self._onProgress,
                completedCallback=self._onCompleted,
            )
        except SynthesisError as error:
            self._outcome = str(error)
        self.panel.refresh()

    def onPlotButton(self):
        """Show table and plot, or go back to the layout that was there before."""
        if qualityPlots.isShown(slicer.mrmlScene):
            qualityPlots.restore(slicer.mrmlScene)
        else:
            self._showPlot()
        self.panel.refresh()

    def onPlotSelected(self, index):
        """While a plot is shown, another choice is shown at once."""
        if qualityPlots.isShown(slicer.mrmlScene):
            self._showPlot()

    def update(self):
        result, running = self.panel.result(), self.run is not None
        table = qualityTable.tableOf(result)
        self.ui.measuredNameLabel.text = result.GetName() if result is not None else _("none yet")
        self.ui.qualityContents.enabled = not running
        self.ui.measureProgressBar.visible = running
        button = self.ui.measureButton
        if running:
            button.text, button.enabled = _("Cancel"), not self.run.cancelling
            button.toolTip = _("Stop measuring; what was measured before stays")
        else:
            button.text, button.enabled = _("Measure"), result is not None
            button.toolTip = self._explanation(result)
            self.ui.measureProgressBar.value = 0
            self.ui.measureStatusLabel.text = self._outcome if self._measured is result else ""
        self.ui.measureStatusLabel.visible = bool(self.ui.measureStatusLabel.text)
        self._showNumbers(table)
        self._fillPlots(result)
        self.ui.qualityBrowser.visible = self.ui.plotContents.visible = table is not None
        shown = qualityPlots.isShown(slicer.mrmlScene)
        self.ui.plotButton.text = _("Back to the former layout") if shown else _("Show table and plot")

    def _explanation(self, result):
        if result is None:
            return _("There is no result for the chosen input volume yet")
        if self.panel.reference() is None:
            return _("Measure what is possible without a reference; this does not measure accuracy")
        return _("Compare the result with the reference")

    def _showNumbers(self, table):
        present = (table.GetID(), table.GetMTime()) if table is not None else None
        if present != self._shown:  # else a reader would lose the place
            self._shown = present
            self.ui.qualityBrowser.setMarkdown(qualityTable.summary(table) if table is not None else "")

    def _fillPlots(self, result):
        selector = self.ui.plotSelector
        items = [kind for kind, _chart in qualityPlots.charts(result)] if result is not None else []
        if [selector.itemData(index) for index in range(selector.count)] == items:
            return
        chosen = selector.itemData(selector.currentIndex)
        wasBlocked = selector.blockSignals(True)  # nobody chose anything
        selector.clear()
        for kind in items:
            selector.addItem(plotName(kind), kind)
        if items:
            selector.currentIndex = items.index(chosen) if chosen in items else 0
        selector.blockSignals(wasBlocked)

    def _showPlot(self):
        result = self.panel.result()
        kind = self.ui.plotSelector.itemData(self.ui.plotSelector.currentIndex)
        chart = dict(qualityPlots.charts(result)).get(kind)
        qualityPlots.show(qualityTable.tableOf(result), chart)

    def _onProgress(self, fraction, text):
        self.ui.measureProgressBar.value = int(100 * fraction)
        self.ui.measureStatusLabel.text = text

    def _onCompleted(self, run):
        self.run = None
        if run.error is not None:
            self._outcome = str(run.error)
            if run.error.log and run.error.kind != "cancelled":
                self.panel.fail(run.error)  # the details show the process's last lines
        self.panel.refresh()


def plotName(kind):
    """The name of a plot in the list."""
    return {
        qualityPlots.HISTOGRAM: _("Histogram"),
        qualityPlots.SOURCE_HISTOGRAM: _("Histogram of the source"),
        qualityPlots.BLAND_ALTMAN: _("Bland-Altman"),
    }[kind]
