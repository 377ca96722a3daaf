"""The Quality section clicked through: with a reference and without, cancelled, refused, and its plots shown."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from panelCases import addVolume, waitUntil

HERE = Path(__file__).resolve().parent


class Panel:
    """As much of the module's widget as the section asks for."""

    def __init__(self, app):
        import qt

        from SynthGANPanel.parameters import SynthGANParameterNode
        from SynthGANPanel.quality import measurement
        from SynthGANPanel.sections.qualitySection import QualitySection

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")
        self.parameters = SynthGANParameterNode(node)
        self.logic = SimpleNamespace(
            measure=lambda result, referenceVolume, mask, **options: measurement.measure(
                result, referenceNode=referenceVolume, maskNode=mask, **options
            )
        )
        self.resultNode = None
        self.failures = []
        self.widget = slicer.qMRMLWidget()
        self.section = QualitySection(self)
        self.section.build(qt.QVBoxLayout(self.widget))
        self.ui = self.section.ui
        self.section.bind(self.parameters)
        node.AddObserver("ModifiedEvent", lambda caller, event: self.refresh())
        self.ui.qualityCollapsibleButton.collapsed = False
        self.widget.resize(420, 700)
        self.widget.show()
        self.refresh()

    def resourcePath(self, name):
        return str(HERE.parents[1] / "SynthGAN" / "Resources" / name)

    def result(self):
        return self.resultNode

    def reference(self):
        return self.parameters.referenceVolume

    def fail(self, error):
        self.failures.append(error)

    def refresh(self):
        self.section.update()

    def measure(self):
        """Click the button and wait for the end."""
        self.ui.measureButton.click()
        waitUntil(lambda: self.section.run is None)

    @property
    def numbers(self):
        return self.ui.qualityBrowser.plainText


@pytest.fixture
def panel(app, scene):
    made = Panel(app)
    yield made
    made.section.cleanup()
    made.section.unbind(made.parameters)
    made.widget.setMRMLScene(None)
    made.widget.close()


@pytest.fixture
def ready(panel):
    """A panel with a result and a volume that may be its reference."""
    array = np.random.default_rng(0).normal(0, 100, (6, 7, 8)).astype(np.float32)
    addVolume(array.copy(), "head CT")
    panel.resultNode = addVolume(array, "head synthetic CT")
    panel.refresh()
    return panel


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """`worker(mode)` puts the fake worker in place of the real one; returns the file it writes its job to."""
    from SynthGANPanel import environment

    def choose(mode):
        note = tmp_path / "job.json"
        command = [sys.executable, str(HERE / "fakeMeasure.py"), mode, str(note)]
        monkeypatch.setattr(environment, "workerCommand", lambda: command)
        return note

    return choose


def test_nothing_to_measure_yet(panel):
    assert not panel.ui.measureButton.enabled
    assert "no result" in panel.ui.measureButton.toolTip
    assert panel.ui.measuredNameLabel.text == "none yet"
    assert not panel.ui.qualityBrowser.visible
    assert not panel.ui.plotContents.visible


def test_without_a_reference_nothing_claims_accuracy(ready, worker):
    note = worker("good")
    assert "does not measure accuracy" in ready.ui.measureButton.toolTip
    ready.measure()
    job = json.loads(note.read_text(encoding="utf-8"))
    assert (job["job"], job["protocol"], "reference" in job) == ("measure", "auto", False)
    assert "nothing here measures accuracy" in ready.numbers
    assert "Implausible values: 0.5 %" in ready.numbers
    assert "Read *this*." in ready.numbers
    items = [ready.ui.plotSelector.itemText(index) for index in range(ready.ui.plotSelector.count)]
    assert items == ["Histogram"]


def test_a_reference_gives_the_numbers_by_tissue(ready, worker):
    note = worker("good")
    ready.ui.qualityReferenceSelector.choose("head CT")
    assert ready.parameters.referenceVolume.GetName() == "head CT"
    ready.measure()
    assert "reference" in json.loads(note.read_text(encoding="utf-8"))
    for words in ("bone", "120.0 HU", "30.2 HU", "SSIM: 0.875", "inf dB", "PCC: undefined", "synthrad2025"):
        assert words in ready.numbers
    assert "no value at 7 voxels" in ready.numbers
    assert ready.ui.plotSelector.count == 2
    assert ready.ui.measureStatusLabel.text == ""


def test_progress_and_cancel(ready, worker):
    worker("slow")
    ready.ui.measureButton.click()
    assert ready.ui.measureButton.text == "Cancel"
    assert ready.ui.measureProgressBar.visible
    assert not ready.ui.qualityReferenceSelector.enabled
    waitUntil(lambda: ready.ui.measureProgressBar.value == 40)
    assert ready.ui.measureStatusLabel.text == "Measuring: 40 %"
    ready.ui.measureButton.click()
    assert not ready.ui.measureButton.enabled
    waitUntil(lambda: ready.section.run is None)
    assert ready.ui.measureButton.text == "Measure"
    assert ready.ui.measureStatusLabel.text == "The measurement was cancelled."
    assert not ready.ui.measureProgressBar.visible
    assert ready.failures == []
    ready.resultNode = addVolume(np.zeros((3, 3, 3), np.float32), "another")
    ready.refresh()
    assert ready.ui.measureStatusLabel.text == ""  # was told of the first result


def test_a_refusal_is_told_here(ready, worker):
    worker("refuse")
    ready.measure()
    assert ready.ui.measureStatusLabel.text == "The reference covers 0.0 % of the result. Align it."
    ready.ui.qualityReferenceSelector.setCurrentNode(ready.resultNode)
    ready.measure()
    assert "compared with itself" in ready.ui.measureStatusLabel.text
    assert not ready.ui.qualityBrowser.visible


def test_a_crash_leaves_its_last_words_in_the_details(ready, worker):
    worker("crash")
    ready.measure()
    assert "process" in ready.ui.measureStatusLabel.text
    assert len(ready.failures) == 1
    assert "Segmentation fault, they said" in ready.failures[0].log


def test_table_and_plot_are_shown_and_the_layout_comes_back(ready, worker):
    worker("good")
    ready.ui.qualityReferenceSelector.choose("head CT")
    ready.measure()
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(layout.SlicerLayoutConventionalView)
    ready.ui.plotButton.click()
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpPlotTableView
    assert ready.ui.plotButton.text == "Back to the former layout"
    plot = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotViewNode")
    table = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableViewNode")
    assert plot.GetPlotChartNode().GetName() == "head synthetic CT histogram"
    assert table.GetTableNode().GetName() == "head synthetic CT quality"
    ready.ui.plotSelector.currentIndex = 1
    ready.ui.plotSelector.activated.emit(1)
    assert plot.GetPlotChartNode().GetName() == "head synthetic CT Bland-Altman"
    ready.ui.plotButton.click()
    assert layout.GetViewArrangement() == layout.SlicerLayoutConventionalView
    ready.ui.plotButton.click()
    layout.SetViewArrangement(layout.SlicerLayoutOneUpRedSliceView)  # the user's own choice in the meantime
    ready.refresh()
    assert ready.ui.plotButton.text == "Show table and plot"


def test_closing_ends_the_measurement(ready, worker):
    worker("slow")
    ready.ui.measureButton.click()
    run = ready.section.run
    ready.section.sceneCloses()
    assert (run.state, ready.section.run) == ("cancelled", None)
    assert not run.folder.exists()


def test_nothing_is_cut_off(ready, worker, app, tmp_path):
    worker("good")
    ready.ui.qualityReferenceSelector.choose("head CT")
    ready.measure()
    for width in (360, 420, 700):
        ready.widget.resize(width, 700)
        app.processEvents()
        for name, child in vars(ready.ui).items():
            if child.isVisible():
                assert child.width >= child.minimumSizeHint().width(), f"{name} is cut off"
                assert child.mapTo(ready.widget, child.rect.topRight()).x() <= width, name
    assert ready.widget.grab().save(str(tmp_path / "quality.png"))
