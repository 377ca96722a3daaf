"""The Inputs section clicked through: checks before Apply, segments, regions, models that need no input."""

import dataclasses
import json

import numpy as np
import pytest
import slicer
from panelCases import addVolume, waitUntil

from SynthGANPanel.scene import nodes


@pytest.fixture
def ready(panel, head):
    """The panel with the input and the tissue model chosen."""
    panel._parameterNode.inputVolume = head
    panel._parameterNode.modelId = "tissue-mr-ct"
    return panel


def mark(node, unit):
    """Say what the node's voxels are."""
    for code, setter in zip(nodes.QUANTITIES[unit], (node.SetVoxelValueQuantity, node.SetVoxelValueUnits), strict=True):
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(*code)
        setter(entry)


def test_checks_are_shown_in_colors(ready, head):
    text = ready.ui.checksLabel.text
    assert ready.ui.checksLabel.visible
    assert "does not say its modality" in text
    assert text.index("#d98200") < text.index("#2e8b57"), "what is doubtful comes first"
    mark(head, "MR")
    ready.refresh()
    assert "does not say its modality" not in ready.ui.checksLabel.text


def test_unfit_input_is_refused_until_accepted(ready, head, worker):
    note = worker("good")
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*nodes.QUANTITIES["HU"][0])
    head.SetVoxelValueQuantity(entry)
    ready.refresh()
    assert not ready.ui.applyButton.enabled
    assert ready.ui.statusLabel.text.startswith("The volume is CT, and the model 'tissue-mr-ct' takes MR.")
    assert "#c62828" in ready.ui.checksLabel.text
    ready.ui.acceptUnfitCheckBox.click()
    assert ready.ui.applyButton.enabled
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    job = json.loads(note.read_text())["job"]
    assert (job["accept_unfit"], job["input_modality"]) == (True, "CT")
    # Another volume has to be accepted anew.
    other = addVolume(np.arange(27, dtype=np.int16).reshape(3, 3, 3), "other")
    ready._parameterNode.inputVolume = other
    assert not ready._parameterNode.acceptUnfit


def test_wrong_unit_cannot_be_accepted(ready, head):
    mark(head, "HU")
    ready.refresh()
    assert not ready.ui.applyButton.enabled
    assert not ready.ui.acceptUnfitCheckBox.visible
    assert "in HU" in ready.ui.checksLabel.text


def test_constant_volume_is_told_before_apply(ready):
    ready._parameterNode.inputVolume = addVolume(np.full((3, 4, 5), 7, np.int16), "flat")
    assert not ready.ui.applyButton.enabled
    assert "Every voxel of the volume is 7" in ready.ui.statusLabel.text


def test_changed_voxels_are_looked_at_again(ready, head):
    slicer.util.updateVolumeFromArray(head, np.full((6, 7, 8), 3, np.int16))
    ready.refresh()
    assert "Every voxel of the volume is 3" in ready.ui.checksLabel.text


def test_segment_is_chosen_and_reaches_the_worker(ready, head, worker):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "parts")
    for name in ("brain", "skull"):
        image = slicer.vtkOrientedImageData()
        image.SetExtent(1, 4, 1, 4, 1, 4)
        image.AllocateScalars(3, 1)
        image.GetPointData().GetScalars().Fill(1)
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation("Binary labelmap", image)
        segmentation.GetSegmentation().AddSegment(segment, name)
    assert not ready.ui.segmentSelector.visible
    ready.ui.maskSelector.choose("parts")
    assert ready.ui.segmentSelector.visible
    selector = ready.ui.segmentSelector
    assert [selector.itemText(i) for i in range(selector.count)] == ["All segments", "brain", "skull"]
    selector.currentIndex = 2
    assert ready._parameterNode.maskSegment == "skull"
    note = worker("good")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert json.loads(note.read_text())["job"]["mask"]
    assert ready.result().GetAttribute("SynthGAN.Mask") == "parts (skull)"


def test_new_region_is_the_whole_volume_and_cuts_when_drawn(ready, head, worker):
    from SynthGANPanel.scene import regions

    ready.ui.roiSelector.choose("Create new Region")
    roi = ready._parameterNode.roi
    assert regions.voxelsInRoi(roi, head) == regions.wholeVolume(head)
    sizes = np.array(roi.GetSize())
    roi.SetSize(*(sizes / [1, 1, 2]))
    worker("good")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    result = slicer.util.arrayFromVolume(ready.result())
    np.testing.assert_array_equal(result, slicer.util.arrayFromVolume(head)[1:5] - 1000)


@pytest.fixture
def generator(ready, monkeypatch):
    """The chosen model's card says that it makes images from nothing."""
    entry = ready.models["tissue-mr-ct"]
    card = dataclasses.replace(entry.card, source=dataclasses.replace(entry.card.source, modality="NOISE"))
    ready.models["tissue-mr-ct"] = dataclasses.replace(entry, card=card)
    from SynthGANPanel.runs import request

    monkeypatch.setattr(request, "findCard", lambda model: card)
    ready.refresh()
    return ready


def test_model_that_needs_no_input_asks_for_none(generator, worker):
    for name in ("inputSelector", "maskSelector", "roiSelector", "checksLabel"):
        assert not getattr(generator.ui, name).visible
    assert generator.ui.seedSpinBox.visible
    generator._parameterNode.inputVolume = None
    assert generator.ui.applyButton.enabled
    generator.ui.seedSpinBox.value = 7
    note = worker("good")
    generator.ui.applyButton.click()
    waitUntil(lambda: generator.ui.applyButton.text == "Apply")
    result = generator.result()
    assert result.GetName() == "synthetic CT (tissue-mr-ct)"
    assert result.GetAttribute("SynthGAN.Seed") == "7"
    assert json.loads(note.read_text())["job"]["input_modality"] == "NOISE"
    first = slicer.util.arrayFromVolume(result)
    again = slicer.util.arrayFromVolume(generator.logic.synthesize(None, model="tissue-mr-ct", seed=7))
    other = slicer.util.arrayFromVolume(generator.logic.synthesize(None, model="tissue-mr-ct", seed=8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
