"""Several runs: queued, worked on in order, a whole study, a whole sequence; failures do not stop the rest."""

import json

import numpy as np
import pytest
import slicer
from panelCases import addVolume, isAlive, waitUntil

from SynthGANPanel.runs import sequences


@pytest.fixture
def ready(panel, head):
    panel._parameterNode.inputVolume = head
    panel._parameterNode.modelId = "tissue-mr-ct"
    return panel


@pytest.fixture
def other(head):
    """A second volume of the scene."""
    return addVolume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), "other")


def idle(panel):
    waitUntil(lambda: panel.ui.applyButton.text == "Apply" and not panel.sections[3].queue.waiting, 120)


def test_queued_runs_follow_one_another(ready, worker, head, other):
    worker("good")
    ready.ui.applyButton.click()
    ready._parameterNode.inputVolume = other
    ready.ui.queueButton.click()
    assert ready.ui.queueLabel.text == "head: tissue-mr-ct: running\nother: tissue-mr-ct: waiting"
    assert ready.ui.clearQueueButton.visible
    idle(ready)
    assert ready.ui.queueLabel.text == "head: tissue-mr-ct: done\nother: tissue-mr-ct: done"
    for node in (head, other):
        made = slicer.util.arrayFromVolume(ready.logic.latestResult(node))
        np.testing.assert_array_equal(made, slicer.util.arrayFromVolume(node) - 1000)


def test_what_was_chosen_when_queued_is_what_runs(ready, worker, head, other):
    note = worker("good")
    ready.ui.applyButton.click()
    ready._parameterNode.inputVolume = other
    ready._parameterNode.memoryLimitGb = 1.5
    ready.ui.queueButton.click()
    ready._parameterNode.memoryLimitGb = 8.0
    ready._parameterNode.inputVolume = head
    idle(ready)
    assert json.loads(note.read_text())["job"]["memory"] == int(1.5 * 2**30)
    assert ready.logic.latestResult(other) is not None


def test_a_queued_run_that_cannot_start_leaves_the_next_its_turn(ready, worker, head, other):
    worker("good")
    lost = addVolume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), "lost")
    ready.ui.applyButton.click()
    for node in (lost, other):
        ready._parameterNode.inputVolume = node
        ready.ui.queueButton.click()
    lost.SetAndObserveImageData(None)
    idle(ready)
    assert ready.ui.queueLabel.text.splitlines() == [
        "head: tissue-mr-ct: done",
        "lost: tissue-mr-ct: failed ('lost' holds no voxels. Choose another input volume.)",
        "other: tissue-mr-ct: done",
    ]
    assert ready.logic.latestResult(other) is not None


def test_cancel_ends_the_run_and_the_queue_goes_on(ready, worker, head, other):
    worker("slow")
    ready.ui.applyButton.click()
    ready._parameterNode.inputVolume = other
    ready.ui.queueButton.click()
    worker("good")
    ready.ui.applyButton.click()
    idle(ready)
    assert ready.ui.queueLabel.text == "head: tissue-mr-ct: cancelled\nother: tissue-mr-ct: done"
    assert ready.logic.latestResult(head) is None


def test_cleared_queue_runs_no_more(ready, worker, head, other):
    worker("good")
    ready.ui.applyButton.click()
    ready._parameterNode.inputVolume = other
    ready.ui.queueButton.click()
    ready.ui.clearQueueButton.click()
    idle(ready)
    assert ready.logic.latestResult(other) is None
    assert not ready.ui.queueLabel.visible


def test_closing_the_scene_clears_the_queue(ready, worker, head, other):
    note = worker("slow")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.progressBar.value > 0)
    pid = json.loads(note.read_text())["pid"]
    ready.ui.queueButton.click()
    slicer.mrmlScene.Clear(False)
    assert not isAlive(pid)
    assert not ready.running
    assert ready.sections[3].queue.waiting == []


def test_whole_study_is_queued_and_the_unfit_are_named(ready, worker, head, other):
    flat = addVolume(np.full((3, 4, 5), 9, np.int16), "flat")
    ready.refresh()
    assert ready.ui.studyButton.visible
    assert ready.ui.studyButton.text == "Whole study (3 volumes)"
    worker("good")
    ready.ui.studyButton.click()
    assert "'flat' is left out: Every voxel of the volume is 9" in ready.ui.logTextEdit.plainText
    idle(ready)
    assert [ready.logic.latestResult(node) is not None for node in (head, other, flat)] == [True, True, False]


def test_whole_sequence(ready, worker, head):
    worker("good")
    assert not ready.ui.wholeSequenceCheckBox.visible
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "dynamic")
    for frame in range(2):
        slicer.util.updateVolumeFromArray(head, slicer.util.arrayFromVolume(head) + np.int16(frame))
        sequence.SetDataNodeAtValue(head, str(frame))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(head, sequence, False)
    ready.refresh()
    assert ready.ui.wholeSequenceCheckBox.text == "Whole sequence (2 frames)"
    ready.ui.wholeSequenceCheckBox.click()
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.statusLabel.text.startswith("Frame 2 of 2"))
    idle(ready)
    _browser, made = sequences.sequenceOf(ready.result())
    for frame in range(2):
        np.testing.assert_array_equal(
            slicer.util.arrayFromVolume(made.GetNthDataNode(frame)),
            slicer.util.arrayFromVolume(sequence.GetNthDataNode(frame)) - 1000,
        )


def test_devices_are_looked_at_when_somebody_wants_to_choose(ready):
    ready.ui.advancedCollapsibleButton.collapsed = False
    waitUntil(lambda: "GB free" in ready.ui.devicesLabel.text)
    assert ready.ui.devicesLabel.text.startswith("cpu ")
    assert not ready.ui.checkContents.visible, "what works is not made a fuss of"


def test_details_are_copied(ready, worker, app):
    worker("crash")
    ready.ui.applyButton.click()
    idle(ready)
    ready.ui.copyLogButton.click()
    text = app.qt.clipboard().text()
    assert ready.ui.statusLabel.text in text
    assert ready.ui.logTextEdit.plainText in text
