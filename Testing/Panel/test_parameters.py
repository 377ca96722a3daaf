"""Choices live in the scene: they survive saving and loading, and the panel shows what the scene says."""

import slicer

from SynthGANPanel.comparison import compare


def parameterNodeOf(panel):
    return panel._parameterNode.parameterNode


def test_every_choice_is_stored(panel, head):
    import SynthGAN

    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    panel.ui.inputSelector.choose("head")
    panel.ui.maskSelector.choose("brain")
    panel.ui.outputSelector.choose("mine")
    panel.ui.deviceSelector.currentText = "NVIDIA GPU (CUDA)"
    panel.ui.memorySpinBox.value = 6.5
    panel.ui.sideBySideCheckBox.click()
    stored = SynthGAN.SynthGANLogic().getParameterNode()
    assert (stored.inputVolume, stored.maskVolume, stored.outputVolume) == (head, mask, output)
    assert stored.device is SynthGAN.Device.CUDA
    assert (stored.memoryLimitGb, stored.sideBySide) == (6.5, False)
    assert stored.modelId


def test_scene_changes_reach_the_panel(panel, head):
    import SynthGAN

    panel._parameterNode.device = SynthGAN.Device.CPU
    panel._parameterNode.sideBySide = False
    panel._parameterNode.inputVolume = head
    assert panel.ui.deviceSelector.currentText == "Processor (CPU)"
    assert not panel.ui.sideBySideCheckBox.checked
    assert panel.ui.inputSelector.currentNode() is head


def test_save_and_reload(panel, head, tmp_path, worker):
    import SynthGAN

    worker("good")
    panel.logic.synthesize(head, model="tissue-mr-ct")
    panel.ui.inputSelector.choose("head")
    panel._parameterNode.modelId = "tissue-mr-ct"
    panel._parameterNode.device = SynthGAN.Device.CPU
    panel._parameterNode.memoryLimitGb = 3.5
    panel._parameterNode.sideBySide = False
    bundle = str(tmp_path / "scène.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear(False)
    assert panel.ui.inputSelector.currentNode() is None
    assert panel.ui.memorySpinBox.value == 0.0
    assert slicer.mrmlScene.ReadFromMRB(bundle, True, None)
    loaded = slicer.util.getNode("head")
    assert panel.ui.inputSelector.currentNode() is loaded
    assert panel.ui.modelSelector.itemData(panel.ui.modelSelector.currentIndex) == "tissue-mr-ct"
    assert panel.ui.deviceSelector.currentText == "Processor (CPU)"
    assert panel.ui.memorySpinBox.value == 3.5
    assert not panel.ui.sideBySideCheckBox.checked
    result = panel.logic.latestResult(loaded)
    assert result.GetName() == "head synthetic CT (tissue-mr-ct)"
    panel.ui.compareButton.click()
    assert compare.compositeNode(slicer.mrmlScene, compare.RESULT_VIEW).GetBackgroundVolumeID() == result.GetID()


def test_leaving_and_entering_binds_once(panel, head, app):
    widget = app.moduleManager().module("SynthGAN").widgetRepresentation()
    for _ in range(3):
        widget.exit()
        widget.enter()
    node = parameterNodeOf(panel)
    calls = []
    tag = node.AddObserver("ModifiedEvent", lambda caller, event: calls.append(event))
    panel.ui.sideBySideCheckBox.click()
    node.RemoveObserver(tag)
    assert len(calls) == 1
