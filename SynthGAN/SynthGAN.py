from __future__ import annotations

import sys

import slicer
import vtk
from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode
from slicer.util import VTKObservationMixin

from SynthGANPanel import compare, environment, modelView, nodes, selftest, synthesis, wording
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.framework import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
    translate,
)
from SynthGANPanel.i18n import _
from SynthGANPanel.parameters import Device, SynthGANParameterNode


class SynthGAN(ScriptedLoadableModule):
    """Synthesize one imaging modality from another."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("SynthGAN")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        self.parent.dependencies = []
        self.parent.contributors = ["SynthGAN developers"]
        self.parent.helpText = _("""
Turns a volume of one modality into another, for example a head MR into a synthetic CT. The result lies exactly on
the input and is in physical units. For research only: not a medical device.
See more information in the <a href="https://github.com/SynthGAN/SlicerSynthGAN#readme">module documentation</a>.
""")
        self.parent.acknowledgementText = _("""
The choice of methods follows a review of GAN-based cross-modality synthesis of medical images; each model's card
names its sources.
""")


class SynthGANWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: choices on top, then one button, one progress bar, one status line."""

    def __init__(self, parent=None) -> None:
        """Called when the user opens the module the first time and the widget is initialized."""
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)  # needed for parameter node observation
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._models = {}  # entries of the catalogue by id
        self._shownModel = None
        self._run = None
        self._chosen = None  # input and model when the last run was started
        self._outcome = ""  # how it ended

    def setup(self) -> None:
        """Called when the user opens the module the first time and the widget is initialized."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SynthGAN.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = SynthGANLogic()

        # These connections ensure that we update parameter node when scene is closed
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        layoutNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if layoutNode is not None:
            self.addObserver(layoutNode, vtk.vtkCommand.ModifiedEvent, self._updateCompareButton)

        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelSelected)
        self.ui.installButton.connect("clicked(bool)", self.onInstallButton)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.compareButton.connect("clicked(bool)", self.onCompareButton)

        # Make sure parameter node is initialized (needed for module reload)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes or the module is reloaded, and the module widget is destroyed."""
        if self._run is not None:
            self._run.stop(_("The synthesis was cancelled because the module was closed."))
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        # Make sure parameter node exists and observed
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user opens a different module; a synthesis under way goes on."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateGui)
            self._parameterNode = None

    def onReload(self) -> None:
        """Reload the helpers and the library too, not only this file."""
        for name in list(sys.modules):
            if name.split(".")[0] in ("SynthGANPanel", "SynthGANLib"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """Called just before the scene is closed."""
        self._outcome = ""
        if self._run is not None:
            self._run.stop(_("The synthesis was cancelled because the scene was closed."))
        # Parameter node will be reset, do not use it anymore
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        """Called just after the scene is closed."""
        # If this module is shown while the scene is closed then recreate a new parameter node immediately
        if self.parent.isEntered:
            self.initializeParameterNode()
            self._chosen = self._choices()
            self._updateGui()

    def onSceneEndImport(self, caller, event) -> None:
        """Called when a scene was loaded: it may have brought choices, which arrive without being announced."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Ensure parameter node exists and observed."""
        self.setParameterNode(self.logic.getParameterNode())
        # Select what is likely meant to save a few clicks for the user
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = nodes.firstVolume(slicer.mrmlScene)
        if not self._parameterNode.modelId:
            self._parameterNode.modelId = modelView.defaultModel(self._models, synthesis.DEFAULT_MODEL)

    def setParameterNode(self, inputParameterNode: SynthGANParameterNode | None) -> None:
        """
        Set and observe parameter node.
        Observation is needed because when the parameter node is changed then the GUI must be updated immediately.
        """
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateGui)
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self._models = {} if environment.slicerTooOld() else modelView.catalogueById(self.logic.models())
            # Note: in the .ui file, a Qt dynamic property called "SlicerParameterName" is set on each
            # ui element that needs connection.
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateGui)
            self._updateGui()

    def onModelSelected(self, index) -> None:
        """The models differ from machine to machine, so this selector is not bound but kept equal by hand."""
        modelId = self.ui.modelSelector.itemData(index)
        if self._parameterNode and modelId:
            self._parameterNode.modelId = modelId

    def onApplyButton(self) -> None:
        """Run processing, or cancel it, when user clicks "Apply" button."""
        if self._run is not None:
            self._run.cancel()
            self._updateGui()
            return
        self._chosen, self._outcome = self._choices(), ""
        self.ui.logTextEdit.clear()
        parameters = self._parameterNode
        try:
            self._run = self.logic.synthesize(
                parameters.inputVolume,
                model=parameters.modelId,
                mask=parameters.maskVolume,
                device=parameters.device.value,
                outputVolume=parameters.outputVolume,
                memoryLimitGb=parameters.memoryLimitGb,
                wait=False,
                progressCallback=self._onProgress,
                completedCallback=self._onCompleted,
            )
        except SynthesisError as error:
            self._showFailure(error)
        self._updateGui()

    def onInstallButton(self) -> None:
        """Install what is missing; the text beside the button names it and its size."""
        self._chosen = self._choices()
        self.ui.statusLabel.text = _("Installing, which may take several minutes...")
        slicer.app.processEvents()
        try:
            with slicer.util.WaitCursor():
                environment.install()
            self._outcome = _("The packages are installed.")
        except SynthesisError as error:
            self._showFailure(error)
        self._updateGui()

    def onCompareButton(self) -> None:
        """Show input and result side by side, or go back to the layout that was there before."""
        if compare.isShown(slicer.mrmlScene):
            compare.restore(slicer.mrmlScene)
        else:
            compare.show(self._parameterNode.inputVolume, self._result())
        self._updateCompareButton()

    def _onProgress(self, fraction, text) -> None:
        self.ui.progressBar.value = int(100 * (fraction or 0))
        self.ui.statusLabel.text = text

    def _onCompleted(self, run) -> None:
        self._run = None
        if run.error is not None:
            self._showFailure(run.error)
        else:
            self._outcome = wording.afterSuccess(run)
            self.ui.logTextEdit.plainText = "\n".join(run.log)
            if self.parent.isEntered and self._parameterNode and self._parameterNode.sideBySide:
                compare.show(run.inputNode, run.resultNode)
        self._updateGui()

    def _showFailure(self, error) -> None:
        self._outcome = str(error)
        self.ui.logTextEdit.plainText = "\n".join(error.log)
        self.ui.detailsCollapsibleButton.collapsed = error.kind == "cancelled" or not error.log

    def _choices(self):
        parameters = self._parameterNode
        return (parameters.inputVolume, parameters.modelId) if parameters else None

    def _updateGui(self, caller=None, event=None) -> None:
        if not self._parameterNode:
            return
        parameters, running = self._parameterNode, self._run is not None
        modelView.fill(self.ui.modelSelector, self._models, parameters.modelId)
        entry = self._models.get(parameters.modelId)
        if entry is not self._shownModel:  # else a reader would lose the place
            self._shownModel = entry
            self.ui.modelCardBrowser.setMarkdown(modelView.cardMarkdown(entry))
        for choices in ("inputsContents", "modelSelector", "outputContents", "advancedContents"):
            getattr(self.ui, choices).enabled = not running
        missing = environment.missingPackages()
        self.ui.installContents.visible = bool(missing) and not environment.slicerTooOld()
        self.ui.installLabel.text = wording.askToInstall(missing, environment.downloadSize(missing))
        obstacle = self._obstacle(missing)
        if running:
            self.ui.applyButton.text = _("Cancel")
            self.ui.applyButton.toolTip = _("Stop the synthesis; nothing in the scene changes")
            self.ui.applyButton.enabled = not self._run.cancelling
        else:
            self.ui.applyButton.text = _("Apply")
            self.ui.applyButton.toolTip = obstacle or _("Synthesize the chosen modality from the input volume")
            self.ui.applyButton.enabled = not obstacle
            self.ui.progressBar.value = 0
            # How the last run ended is told until another input or model is chosen
            told = self._outcome if self._chosen == self._choices() else ""
            self.ui.statusLabel.text = told or obstacle or _("Ready.")
        self.ui.progressBar.visible = running
        self._updateCompareButton()

    def _obstacle(self, missing) -> str:
        """Why the synthesis cannot be started with the present choices, "" if it can."""
        if environment.slicerTooOld():
            return environment.slicerTooOld()
        if missing:
            return _("Install the missing packages first.")
        if not self._parameterNode.inputVolume:
            return _("Choose an input volume.")
        return modelView.obstacle(self._models, self._parameterNode.modelId)

    def _result(self):
        """The newest result for the chosen input."""
        return self.logic.latestResult(self._parameterNode.inputVolume) if self._parameterNode else None

    def _updateCompareButton(self, caller=None, event=None) -> None:
        shown = compare.isShown(slicer.mrmlScene)
        self.ui.compareButton.text = _("Back to the former layout") if shown else _("Show side by side")
        self.ui.compareButton.enabled = shown or self._result() is not None


class SynthGANLogic(ScriptedLoadableModuleLogic):
    """Synthesis without a user interface, for other modules, scripts and the Python console."""

    def getParameterNode(self):
        return SynthGANParameterNode(super().getParameterNode())

    def models(self):
        """
        The models that can be used: a list of entries with id, version, title, source, target, anatomy and path.
        Folders that had to be refused are listed as well, with the reason in `error`.
        """
        environment.useLibrary()
        from SynthGANLib.catalogue import Catalogue

        return Catalogue().models()

    def synthesize(
        self,
        inputVolume: vtkMRMLScalarVolumeNode,
        model: str = synthesis.DEFAULT_MODEL,
        mask: vtkMRMLLabelMapVolumeNode | None = None,
        device: str = "auto",
        outputVolume: vtkMRMLScalarVolumeNode | None = None,
        memoryLimitGb: float = 0.0,
        wait: bool = True,
        progressCallback=None,
        completedCallback=None,
    ):
        """
        Synthesize another modality from a volume, in a process of its own.
        Can be used without GUI widget.
        :param inputVolume: volume to synthesize from
        :param model: id of a model (see `models`), `id@version` or the path of a model folder
        :param mask: optional volume, not zero where the body is
        :param device: "auto", "cpu", "cuda", "cuda:1" or "mps"
        :param outputVolume: volume to write the result to; a new one is created if None
        :param memoryLimitGb: memory the synthesis may take; 0 is as much as is free
        :param wait: if True then return when done; Slicer stays responsive meanwhile
        :param progressCallback: called with the fraction done (0 to 1) and a line of text
        :param completedCallback: called with the run when it has ended in whatever way
        :return: the result volume if `wait`, else the run, which has `state`, `error`, `resultNode` and `cancel()`
        :raises SynthesisError: with the cause and what to do; the scene is then as it was
        """
        return synthesis.synthesize(
            inputVolume,
            model,
            wait,
            maskNode=mask,
            device=device,
            outputNode=outputVolume,
            memoryLimitGb=memoryLimitGb,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )

    def latestResult(self, inputVolume):
        """The newest result volume that was made from the given one, None if there is none."""
        return synthesis.latestResult(inputVolume)


class SynthGANTest(ScriptedLoadableModuleTest):
    """
    Self test, run by Slicer with --testing or from the module's Reload and Test menu.
    What is tested stands in SynthGANPanel/selftest.py.
    """

    MINIMUM_TEST_COUNT = 7
    completedTests = 0

    @classmethod
    def setUpClass(cls):
        cls.completedTests = 0

    @classmethod
    def tearDownClass(cls):
        # A run without tests would count as a success otherwise
        if cls.completedTests < cls.MINIMUM_TEST_COUNT:
            raise AssertionError(f"Only {cls.completedTests} of {cls.MINIMUM_TEST_COUNT} tests were completed.")

    def setUp(self):
        """Do whatever is needed to reset the state - typically a scene clear will be enough."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all tests, as `unittest` would."""
        type(self).setUpClass()
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            getattr(self, name)()
            self.tearDown()
        type(self).tearDownClass()

    def tearDown(self):
        type(self).completedTests += 1

    def test_bundledModelsWork(self):
        selftest.bundledModelsWork(self, SynthGANLogic())

    def test_parametersAreKept(self):
        selftest.parametersAreKept(self, SynthGANLogic(), Device.CPU)

    def test_resultLiesOnInput(self):
        selftest.resultLiesOnInput(self, SynthGANLogic())

    def test_chosenOutputIsFilled(self):
        selftest.chosenOutputIsFilled(self, SynthGANLogic())

    def test_cancelChangesNothing(self):
        selftest.cancelChangesNothing(self, SynthGANLogic())

    def test_failureChangesNothing(self):
        selftest.failureChangesNothing(self, SynthGANLogic())

    def test_sideBySideAndBack(self):
        selftest.sideBySideAndBack(self)
