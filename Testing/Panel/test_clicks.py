"""The panel clicked through: choose, Apply, watch, cancel, and what the user then sees and has."""

import json

import numpy as np
import pytest
import slicer
from panelCases import addVolume, nodeState, waitUntil

from SynthGANPanel.comparison import compare
from SynthGANPanel.scene import nodes


@pytest.fixture
def ready(panel, head, app):
    """The panel with an input and a model chosen by hand."""
    panel.ui.inputSelector.choose("head")
    index = [panel.ui.modelSelector.itemData(i) for i in range(panel.ui.modelSelector.count)].index("tissue-mr-ct")
    panel.ui.modelSelector.currentIndex = index
    app.processEvents()
    return panel


def test_nothing_chosen_says_what_to_choose(panel):
    assert not panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == panel.ui.applyButton.toolTip == "Choose an input volume."


def test_first_volume_is_chosen_on_opening(app, scene, head):
    slicer.mrmlScene.RemoveNode(head)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.mrmlScene.AddNode(head)
    module = app.moduleManager().module("SynthGAN")
    widget = module.widgetRepresentation()
    widget.enter()
    assert widget.self().ui.inputSelector.currentNode() is head
    widget.exit()
    module.close()


def test_selectors_show_what_fits(panel, head):
    scene = slicer.mrmlScene
    scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "fundus")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    scene.AddNewNodeByClass("vtkMRMLModelNode", "surface")
    assert panel.ui.inputSelector.items() == ["head", "fundus"]
    assert panel.ui.maskSelector.items() == ["Found automatically", "labels"]
    assert panel.ui.outputSelector.items() == [
        "Create new volume", "head", "fundus", "Create new Synthetic volume",
    ]  # fmt: skip


def test_apply_makes_a_result(ready, worker, head):
    note = worker("good")
    ready.ui.applyButton.click()
    assert ready.ui.applyButton.text == "Cancel"
    assert ready.ui.progressBar.visible
    assert ready.ui.inputsContents.enabled, "the next run can be chosen meanwhile"
    assert ready.ui.queueButton.visible
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    result = ready.logic.latestResult(head)
    assert result.GetName() == "head synthetic CT (tissue-mr-ct)"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), slicer.util.arrayFromVolume(head) - 1000)
    np.testing.assert_array_equal(nodes.ijkToRAS(result), nodes.ijkToRAS(head))
    assert result.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    assert ready.ui.statusLabel.text.startswith("Created 'head synthetic CT (tissue-mr-ct)' in ")
    assert "The volume states no unit." in ready.ui.statusLabel.text
    assert not ready.ui.progressBar.visible
    assert not ready.ui.queueButton.visible
    job = json.loads(note.read_text())["job"]
    assert (job["model"], job["device"], job["memory"], job["mask"]) == ("tissue-mr-ct", "auto", None, None)


def test_choices_reach_the_worker(ready, worker, head):
    note = worker("good")
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    slicer.util.updateVolumeFromArray(mask, (slicer.util.arrayFromVolume(head) > 100).astype(np.int16))
    ready.ui.maskSelector.choose("brain")
    ready.ui.deviceSelector.currentText = "Processor (CPU)"
    ready.ui.memorySpinBox.value = 2.5
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    job = json.loads(note.read_text())["job"]
    assert job["device"] == "cpu"
    assert job["memory"] == int(2.5 * 2**30)
    assert job["mask"]
    assert ready.logic.latestResult(head).GetAttribute("SynthGAN.Mask") == "brain"


def test_progress_is_told(ready, worker):
    worker("slow")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.progressBar.value >= 20)
    assert ready.ui.statusLabel.text.startswith("Synthesizing: ")
    waitUntil(lambda: "min left" in ready.ui.statusLabel.text or "s left" in ready.ui.statusLabel.text)
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")


def test_cancel_changes_nothing(ready, worker):
    worker("slow")
    before = nodeState(slicer.mrmlScene)
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.progressBar.value > 0)
    ready.ui.applyButton.click()
    assert not ready.ui.applyButton.enabled
    assert ready.ui.statusLabel.text == "Cancelling"
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert ready.ui.statusLabel.text == "The synthesis was cancelled."
    assert ready.ui.applyButton.enabled
    assert nodeState(slicer.mrmlScene) == before


def test_chosen_output_is_written_on_success_only(ready, worker, head):
    output = addVolume(np.full((2, 2, 2), 7, np.int16), "mine")
    ready.ui.outputSelector.choose("mine")
    worker("exitCode")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(output), np.full((2, 2, 2), 7))
    worker("good")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert output.GetName() == "mine"
    np.testing.assert_array_equal(nodes.ijkToRAS(output), nodes.ijkToRAS(head))
    assert ready.logic.latestResult(head) is output


def test_input_as_output_is_refused(ready, head):
    ready.ui.outputSelector.choose("head")
    ready.ui.applyButton.click()
    assert "'head' is an input as well and would be overwritten" in ready.ui.statusLabel.text
    assert ready.ui.applyButton.text == "Apply"


def test_side_by_side_and_back(ready, worker, head):
    scene = slicer.mrmlScene
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    assert not ready.ui.compareButton.enabled
    worker("good")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    assert compare.compositeNode(scene, compare.SOURCE_VIEW).GetBackgroundVolumeID() == head.GetID()
    assert ready.ui.compareButton.text == "Back to the former layout"
    ready.ui.compareButton.click()
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert ready.ui.compareButton.text == "Compare"
    ready.ui.compareButton.click()
    assert compare.isShown(scene)
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    assert ready.ui.compareButton.text == "Compare"


def test_layout_stays_when_not_asked(ready, worker):
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    ready.ui.sideBySideCheckBox.click()
    worker("good")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert ready.ui.compareButton.enabled


def test_console_call_returns_the_node(ready, worker, head):
    worker("good")
    node = slicer.util.getModuleLogic("SynthGAN").synthesize(head, model="tissue-mr-ct")
    assert node is ready.logic.latestResult(head)
    worker("refuse")
    with pytest.raises(RuntimeError, match="constant"):
        slicer.util.getModuleLogic("SynthGAN").synthesize(head, model="tissue-mr-ct")


def test_unknown_model_of_a_scene_is_named(ready):
    ready._parameterNode.modelId = "elsewhere-mr-ct"
    assert ready.ui.modelSelector.currentText == "elsewhere-mr-ct (not installed)"
    assert "'elsewhere-mr-ct' is not installed" in ready.ui.statusLabel.text
    assert not ready.ui.applyButton.enabled


def test_card_of_the_model_is_shown(ready):
    text = ready.ui.modelCardBrowser.toPlainText()
    assert "For research only" in text
    assert "synthgan synthesize" not in text
