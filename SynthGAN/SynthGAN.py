from __future__ import annotations

import sys

import slicer
import vtk
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.util import VTKObservationMixin

from SynthGANPanel import environment, settings
from SynthGANPanel.framework import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
    translate,
)
from SynthGANPanel.i18n import _
from SynthGANPanel.parameters import Device, SynthGANParameterNode
from SynthGANPanel.resultMethods import ResultMethods
from SynthGANPanel.runs import request, sequences, synthesis
from SynthGANPanel.sections import modelView
from SynthGANPanel.sections.sharedState import SharedState


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
        # Additional initialization step after application startup is complete
        slicer.app.connect("startupCompleted()", settings.registerPage)
        slicer.app.connect("startupCompleted()", settings.startAnnotation)


class SynthGANWidget(SharedState, ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: its sections from top to bottom, and what they share."""

    def __init__(self, parent=None) -> None:
        """Called when the user opens the module the first time and the widget is initialized."""
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)  # needed for parameter node observation
        self.logic = None
        self.models = {}  # entries of the catalogue by id
        self.sections = []
        self._parameterNode = None

    def setup(self) -> None:
        """Called when the user opens the module the first time and the widget is initialized."""
        from SynthGANPanel.sections.all import SECTIONS  # here, not above: Slicer imports this file at every start

        ScriptedLoadableModuleWidget.setup(self)
        self.logic = SynthGANLogic()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SynthGAN.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.sections = [section(self) for section in SECTIONS]
        for section in self.sections:
            section.build(uiWidget.layout())
        uiWidget.layout().addStretch(1)
        self.ui = slicer.util.childWidgetVariables(uiWidget)

        # These connections ensure that we update parameter node when scene is closed
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        layoutNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if layoutNode is not None:
            self.addObserver(layoutNode, vtk.vtkCommand.ModifiedEvent, self.refresh)

        # Make sure parameter node is initialized (needed for module reload)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes or the module is reloaded, and the module widget is destroyed."""
        for section in self.sections:
            section.cleanup()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        # Make sure parameter node exists and observed
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user opens a different module; a synthesis under way continues."""
        self.setParameterNode(None)

    def onReload(self) -> None:
        """Reload the helpers and the library too, not only this file."""
        for name in list(sys.modules):
            if name.split(".")[0] in ("SynthGANPanel", "SynthGANLib"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """Called just before the scene is closed."""
        for section in self.sections:
            section.sceneCloses()
        # Parameter node will be reset, do not use it anymore
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        """Called just after the scene is closed."""
        # If this module is shown while the scene is closed then recreate a new parameter node immediately
        if self.entered:
            self.initializeParameterNode()
            for section in self.sections:
                section.sceneClosed()
            self.refresh()

    def onSceneEndImport(self, caller, event) -> None:
        """Called when a scene was loaded: it may have brought choices, which arrive without being announced."""
        if self.entered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Ensure parameter node exists and observed."""
        settings.applyModelFolder()
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, inputParameterNode: SynthGANParameterNode | None) -> None:
        """
        Set and observe parameter node.
        Observation is needed because when the parameter node is changed then the GUI must be updated immediately.
        """
        if self._parameterNode:
            for section in self.sections:
                section.unbind(self._parameterNode)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.refresh)
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self.reloadModels()
            # Note: in the .ui files, a Qt dynamic property called "SlicerParameterName" is set on each
            # ui element that needs connection.
            for section in self.sections:
                section.bind(self._parameterNode)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.refresh)
            self.refresh()

    def reloadModels(self) -> None:
        """Look into the catalogue's folders again."""
        self.models = {} if environment.slicerTooOld() else modelView.catalogueById(self.logic.models())


class SynthGANLogic(ResultMethods, ScriptedLoadableModuleLogic):
    """Synthesis without a user interface, for other modules, scripts and the Python console."""

    def getParameterNode(self):
        node = super().getParameterNode()
        new = not node.GetParameterCount()
        parameters = SynthGANParameterNode(node)
        if new:
            settings.setDefaults(parameters)
        return parameters

    def models(self):
        """
        The models that can be used: a list of entries with id, version, title, source, target, anatomy and path.
        Folders that had to be refused are listed as well, with the reason in `error`.
        """
        environment.useLibrary()
        from SynthGANLib.model.catalogue import Catalogue

        return Catalogue().models()

    def synthesize(
        self,
        inputVolume: vtkMRMLScalarVolumeNode | None,
        model: str = synthesis.DEFAULT_MODEL,
        mask: vtkMRMLLabelMapVolumeNode | vtkMRMLSegmentationNode | None = None,
        device: str = "auto",
        outputVolume: vtkMRMLScalarVolumeNode | None = None,
        memoryLimitGb: float = 0.0,
        wait: bool = True,
        progressCallback=None,
        completedCallback=None,
        maskSegment: str = "",
        roi: vtkMRMLMarkupsROINode | None = None,
        acceptUnfit: bool = False,
        seed: int = 0,
    ):
        """
        Synthesize another modality from a volume, in a process of its own.
        Can be used without GUI widget.
        :param inputVolume: volume to synthesize from; None for a model that makes images from nothing
        :param model: id of a model (see `models`), `id@version` or the path of a model folder
        :param mask: optional volume (not zero where the body is) or segmentation
        :param device: "auto", "cpu", "cuda", "cuda:1" or "mps"
        :param outputVolume: volume to write the result to; a new one is created if None
        :param memoryLimitGb: memory the synthesis may take; 0 is as much as is free
        :param wait: if True then return when done; Slicer stays responsive meanwhile
        :param progressCallback: called with the fraction done (0 to 1) and a line of text
        :param completedCallback: called with the run when it has ended in whatever way
        :param maskSegment: id of the segment of a segmentation; all of them together if empty
        :param roi: synthesize only this region; the result has the voxels of the input inside it
        :param acceptUnfit: use a volume whose stated modality differs from the one the model takes
        :param seed: draws the image of a model that makes images from nothing
        :return: the result volume if `wait`, else the run, which has `state`, `error`, `resultNode` and `cancel()`
        :raises SynthesisError: with the cause and what to do; the scene is then as it was
        """
        return synthesis.synthesize(
            inputVolume,
            model,
            wait,
            maskNode=mask,
            maskSegment=maskSegment,
            roiNode=roi,
            acceptUnfit=acceptUnfit,
            seed=seed,
            device=device,
            outputNode=outputVolume,
            memoryLimitGb=memoryLimitGb,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )

    def synthesizeSequence(
        self,
        inputVolume: vtkMRMLScalarVolumeNode,
        model: str = synthesis.DEFAULT_MODEL,
        wait: bool = True,
        progressCallback=None,
        completedCallback=None,
        **choices,
    ):
        """
        Synthesize every frame of the sequence that a volume shows; all or nothing.
        :param inputVolume: volume of a sequence browser
        :param choices: as of `synthesize`: mask, maskSegment, roi, device, memoryLimitGb, acceptUnfit
        :return: the volume that shows the new sequence in the same browser if `wait`, else the run
        :raises SynthesisError: with the cause and what to do; the scene is then as it was
        """
        run = sequences.SequenceSynthesis(
            inputVolume, model, progressCallback, completedCallback, **request.fromConsole(choices)
        )
        run.start()
        return run.wait() if wait else run

    def latestResult(self, inputVolume):
        """The newest result volume that was made from the given one, None if there is none."""
        return synthesis.latestResult(inputVolume)


class SynthGANTest(ScriptedLoadableModuleTest):
    """
    Self test, run by Slicer with --testing or from the module's Reload and Test menu.
    What is tested stands in SynthGANPanel/selftest.py.
    """

    MINIMUM_TEST_COUNT = 12
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
        from SynthGANPanel import selftest  # only here: users open the module, few test it

        self.cases = selftest
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
        self.cases.bundledModelsWork(self, SynthGANLogic())

    def test_parametersAreKept(self):
        self.cases.parametersAreKept(self, SynthGANLogic(), Device.CPU)

    def test_resultLiesOnInput(self):
        self.cases.resultLiesOnInput(self, SynthGANLogic())

    def test_chosenOutputIsFilled(self):
        self.cases.chosenOutputIsFilled(self, SynthGANLogic())

    def test_cancelChangesNothing(self):
        self.cases.cancelChangesNothing(self, SynthGANLogic())

    def test_failureChangesNothing(self):
        self.cases.failureChangesNothing(self, SynthGANLogic())

    def test_checksTellBeforeApply(self):
        self.cases.checksTellBeforeApply(self, SynthGANLogic())

    def test_regionLiesOnInput(self):
        self.cases.regionLiesOnInput(self, SynthGANLogic())

    def test_wholeSequenceIsSynthesized(self):
        self.cases.wholeSequenceIsSynthesized(self, SynthGANLogic())

    def test_resultIsMeasuredAndExported(self):
        self.cases.resultIsMeasuredAndExported(self, SynthGANLogic())

    def test_devicesCompute(self):
        self.cases.devicesCompute(self)

    def test_sideBySideAndBack(self):
        self.cases.sideBySideAndBack(self)
