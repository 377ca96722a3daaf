"""Comparing: reference, way of comparing and its choices, windows, one button there and back."""

import slicer

from SynthGANPanel import settings
from SynthGANPanel.comparison import annotation, compare, difference
from SynthGANPanel.comparison import live as liveComparison
from SynthGANPanel.comparison.modes import LAYERED, CompareMode
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import temporaryNodes, views, windows
from SynthGANPanel.sections.base import Section
from SynthGANPanel.sections.windowSelector import WindowSelector
from SynthGANPanel.timer import Timer

SETTLED_MILLISECONDS = 300
"""A checkerboard with another cell size is made once the slider has come to rest."""
ROWS = {
    "compareWith": LAYERED,
    "compareFade": (CompareMode.FADE,),
    "compareCell": (CompareMode.CHECKERBOARD,),
    "comparePatch": (CompareMode.REVEAL,),
    "compareBlink": (CompareMode.BLINK,),
    "compareRange": (CompareMode.DIFFERENCE,),
    "compareLine": (CompareMode.PROFILE,),
}
"""Rows of the form, by the beginning of their widgets' names, and the modes that they belong to."""
WIDGETS = ("Label", "Selector", "Slider", "Contents")


class CompareSection(Section):
    """What is chosen takes effect at once while volumes are compared; else by the button."""

    uiFile = "Compare"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self.live = None
        self._settled = None
        self._told = ""  # how the last attempt ended
        self._applied = None  # the choices and the reference that what is shown was made by
        self._reference = None
        self._windows = ()

    def setup(self):
        self.live = liveComparison.ofApplication()
        self._settled = Timer(SETTLED_MILLISECONDS, self._compareAgain)
        self.ui.compareButton.connect("clicked(bool)", self.onCompareButton)
        self.ui.compareKeepButton.connect("clicked(bool)", self.onKeepButton)
        self._windows = (
            WindowSelector(self.ui.sourceWindowSelector, self._sourceToWindow),
            WindowSelector(self.ui.resultWindowSelector, self._resultToWindow),
        )
        settings.startAnnotation()

    def cleanup(self):
        self._settled.stop()
        self.live.stop()
        annotation.stop()

    def sceneCloses(self):
        self._settled.stop()
        self.live.end()
        self._told, self._applied = "", None

    def ended(self, run):
        """Compare a new result with its input, if so chosen; one that has none is shown by itself."""
        if run.error is None and self.panel.entered and self.panel.parameters and self.panel.parameters.sideBySide:
            if run.inputNode is not None:
                self._compare(run.inputNode, run.resultNode)
            elif not compare.isShown(slicer.mrmlScene):
                views.showEverywhere(run.resultNode)

    def onCompareButton(self):
        """Compare, or go back to the layout that was there before."""
        self._told = ""
        if self.live.isWorking:
            self.live.stop()
            self.live.follow()
        elif compare.isShown(slicer.mrmlScene):
            self.live.end()
        else:
            self._compare(self.panel.source(), self.panel.result())
        self.panel.refresh()

    def onKeepButton(self):
        """The difference map is the user's from now on."""
        kept = compare.keepDifference(slicer.mrmlScene)
        self._told = _("'{name}' stays in the scene.").format(name=kept.GetName()) if kept is not None else ""
        self.panel.refresh()

    def update(self):
        if not self.panel.parameters:
            return
        for name, modes in ROWS.items():
            self._showRow(name, self.panel.parameters.compareMode in modes)
        for selector in self._windows:
            selector.update()
        self._applyChoices(compare.current(slicer.mrmlScene))
        self._updateButtons(compare.current(slicer.mrmlScene))

    def _updateButtons(self, shown):
        reason = compare.obstacle(self._choices(), self.panel.source(), self.panel.result(), self.panel.reference())
        isBusy, button = self.live.isWorking, self.ui.compareButton
        button.enabled = bool(isBusy or shown or not reason)
        if isBusy:
            button.text, button.toolTip = _("Cancel"), _("Stop; the views stay as they are")
        elif shown:
            button.text = _("Back to the former layout")
            button.toolTip = _("Put back the layout, layers, planes, links and windows from before")
        else:
            button.text = _("Compare")
            button.toolTip = reason or _("Show the synthetic volume with others in linked views; one click leads back")
        self._updateDifference()
        if not isBusy:
            self._tell(self._told or reason)

    def _updateDifference(self):
        result, button = self.panel.result(), self.ui.compareKeepButton
        unit = difference.unitName(windows.unitOf(result))
        self.ui.compareRangeSpinBox.suffix = f" {unit}" if unit else ""
        button.enabled = bool(temporaryNodes.nodes(slicer.mrmlScene, difference.KIND))
        if button.enabled:
            button.toolTip = _("Keep the difference map in the scene when going back to the former layout")
        else:
            button.toolTip = _("There is no difference map yet, or it is already kept.")

    def _tell(self, text):
        self.ui.compareStatusLabel.text = text
        self.ui.compareStatusLabel.visible = bool(text)

    def _choices(self):
        parameters = self.panel.parameters
        return compare.Choices(
            parameters.compareMode,
            parameters.compareWith,
            parameters.compareFade / 100,
            parameters.compareCell,
            parameters.compareRange,
            parameters.compareLine,
            parameters.compareCrosshair,
        )

    def _compare(self, source, result):
        self._applied = self._choices()
        self._reference = self.panel.reference()
        reason = compare.obstacle(self._applied, source, result, self._reference)
        if not reason:
            self.live.begin(
                source, result, self._reference, self._applied, self._onProgress, self._onFailed, self.panel.refresh
            )

    def _compareAgain(self):
        shown = compare.current(slicer.mrmlScene)
        if shown and self.panel.parameters and shown.source is not None and shown.result is not None:
            self._compare(shown.source, shown.result)

    def _applyChoices(self, shown):
        """Let what is shown follow the choices."""
        if shown is None:
            self._applied = None if not self.live.isWorking else self._applied
        elif self._applied is None:
            self._adopt(shown)
        else:
            self._follow(self._applied, self._choices())
        self.live.blinkMilliseconds = 1000 * self.panel.parameters.compareBlink
        self.live.setPatch(int(self.panel.parameters.comparePatch))
        self.live.follow()

    def _adopt(self, shown):
        """Volumes are compared that the Python console or a loaded scene compares: the choices are theirs."""
        parameters = self.panel.parameters
        self._applied = self._choices()._replace(mode=shown.mode, against=shown.against, crosshair=shown.crosshair)
        self._reference = shown.reference or self.panel.reference()
        self.live.choices = self._applied
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.compareMode, parameters.compareWith = shown.mode, shown.against
            parameters.compareCrosshair, parameters.referenceVolume = shown.crosshair, self._reference

    def _follow(self, before, choices):
        self._applied = choices
        if self._reference is not self.panel.reference() or compare.showsOther(before, choices):
            self._told = ""
            self._compareAgain()
        elif choices.mode is CompareMode.FADE and before.fade != choices.fade:
            compare.setFade(slicer.mrmlScene, choices.fade)
        elif choices.mode is CompareMode.CHECKERBOARD and before.cellMm != choices.cellMm:
            self._settled.start()
        elif choices.mode is CompareMode.DIFFERENCE and before.differenceRange != choices.differenceRange:
            volume = temporaryNodes.find(slicer.mrmlScene, difference.KIND, "vtkMRMLScalarVolumeNode")
            if volume is not None:
                difference.setRange(volume, choices.differenceRange)

    def _onProgress(self, fraction, text):
        self._tell(_("Computing: {percent} %").format(percent=int(100 * fraction)))

    def _onFailed(self, error):
        self._told = str(error)
        self.panel.refresh()

    def _showRow(self, name, isShown):
        for kind in WIDGETS:
            widget = getattr(self.ui, name + kind, None)
            if widget is not None:
                widget.visible = isShown

    def _sourceToWindow(self):
        return list(filter(None, [self.panel.source()]))

    def _resultToWindow(self):
        """The synthetic volume, and a reference in its unit, so that the two can be compared."""
        result, reference = self.panel.result(), self.panel.reference()
        isComparable = reference is not None and windows.unitOf(reference) in (None, windows.unitOf(result))
        return list(filter(None, [result, reference if isComparable else None]))
