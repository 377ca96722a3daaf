"""Everything a child process can do wrong: the user is told in words, and nothing in the scene changes."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import slicer
from panelCases import addVolume, isAlive, nodeState, waitUntil

from SynthGANPanel import environment, selftest
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.runs import request
from SynthGANPanel.runs import workerProcess as jobs
from SynthGANPanel.scene import nodes

FAULTS = {
    "refuse": "The volume is constant: every voxel is 0. Choose another volume.",
    "crash": "The process crashed (exit code -11).",
    "killed": "most likely because memory ran out",
    "exitCode": "The process crashed (exit code 5).",
    "silent": "The process ended without a result.",
    "wrongHash": "its checksum is not the one reported",
    "wrongGrid": "it does not lie on the input",
    "wrongShape": "it has another number of voxels than the input",
    "notFinite": "it holds values that are not finite",
    "noFile": "its file cannot be read",
}


@pytest.fixture
def ready(panel, head):
    """The panel with everything chosen."""
    panel._parameterNode.inputVolume = head
    panel._parameterNode.modelId = "tissue-mr-ct"
    return panel


@pytest.mark.parametrize("mode", FAULTS)
def test_fault_is_told_and_changes_nothing(ready, worker, mode):
    worker(mode)
    before = nodeState(slicer.mrmlScene)
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert FAULTS[mode] in ready.ui.statusLabel.text
    assert nodeState(slicer.mrmlScene) == before
    assert ready.ui.applyButton.enabled


def test_last_words_of_a_crash_are_shown(ready, worker):
    worker("crash")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert "Segmentation fault, they said" in ready.ui.logTextEdit.plainText
    assert not ready.ui.detailsCollapsibleButton.collapsed


@pytest.mark.parametrize("mode", ["garbage", "flood"])
def test_stray_output_does_no_harm(ready, worker, head, mode):
    worker(mode)
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert ready.ui.statusLabel.text.startswith("Created ")
    assert "not json" in ready.ui.logTextEdit.plainText
    assert ready.logic.latestResult(head) is not None


@pytest.mark.parametrize("mode", ["hang", "deaf"])
def test_worker_that_does_not_listen_is_ended(ready, worker, monkeypatch, mode):
    monkeypatch.setattr(jobs, "TERMINATE_AFTER_SECONDS", 0.3)
    monkeypatch.setattr(jobs, "KILL_AFTER_SECONDS", 0.6)
    note = worker(mode)
    ready.ui.applyButton.click()
    waitUntil(note.exists)
    pid = readNote(note)["pid"]
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert ready.ui.statusLabel.text == "The synthesis was cancelled."
    assert not isAlive(pid)


def test_pipes_held_by_a_grandchild_do_not_block(ready, worker):
    note = worker("orphan")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert "crashed (exit code 9)" in ready.ui.statusLabel.text
    waitUntil(lambda: not isAlive(readNote(note)["child"]))


def test_python_that_is_not_there_is_told(ready, monkeypatch):
    monkeypatch.setattr(environment, "workerCommand", lambda: ["/no/such/PythonSlicer"])
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert "could not be started with '/no/such/PythonSlicer'" in ready.ui.statusLabel.text
    assert ready.ui.applyButton.text == "Apply"


def test_job_that_cannot_be_told_ends_the_run(ready, worker, app, monkeypatch):
    """A defect of ours: told once, as the end of the run, instead of at every look at it."""
    note = worker("good")
    prepare = request.Request.prepare

    def unfit(self, folder):
        job, volumes = prepare(self, folder)
        return {**job, "device": object()}, volumes

    monkeypatch.setattr(request.Request, "prepare", unfit)
    before = nodeState(slicer.mrmlScene)
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert "Something that should not happen ended this task (TypeError" in ready.ui.statusLabel.text
    assert not note.exists()
    assert not list(Path(app.temporaryPath).iterdir())
    assert nodeState(slicer.mrmlScene) == before


def test_full_disk_is_told(ready, worker, monkeypatch):
    from SynthGANPanel.runs import raster

    def full(array, affine):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(raster, "nrrdHeader", full)
    worker("good")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert "No space left on device" in ready.ui.statusLabel.text
    assert "Free some space" in ready.ui.statusLabel.text


def test_private_folder_is_always_removed(ready, worker, app):
    for mode in ("good", "crash", "wrongHash"):
        worker(mode)
        ready.ui.applyButton.click()
        waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert not list(Path(app.temporaryPath).iterdir())


def test_worker_runs_in_its_private_folder(ready, worker, app):
    note = worker("good")
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    said = readNote(note)
    assert said["cwd"].startswith(app.temporaryPath)
    assert "Lékař" in said["job"]["input"]


def test_result_that_does_not_fit_in_memory_leaves_the_output(ready, worker, monkeypatch):
    output = addVolume(np.full((2, 2, 2), 7, np.int16), "mine")
    ready._parameterNode.outputVolume = output

    def tooLarge(array):
        raise MemoryError

    monkeypatch.setattr(nodes, "_imageOf", tooLarge)
    worker("good")
    before = nodeState(slicer.mrmlScene)
    ready.ui.applyButton.click()
    waitUntil(lambda: ready.ui.applyButton.text == "Apply")
    assert "not enough memory" in ready.ui.statusLabel.text
    assert nodeState(slicer.mrmlScene) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda node: node.SetAndObserveImageData(None), "'head' holds no voxels."),
        (lambda node: node.SetSpacing(1, 0, 1), "cannot be inverted"),
        (lambda node: slicer.mrmlScene.RemoveNode(node), "No input volume is selected."),
    ],
)
def test_broken_inputs_are_named(ready, head, change, told):
    logic = ready.logic
    change(head)
    with pytest.raises(SynthesisError) as refusal:
        logic.synthesize(ready._parameterNode.inputVolume, model="tissue-mr-ct")
    assert told in str(refusal.value)


def test_masks_that_cannot_serve_are_named(ready, worker, head):
    worker("good")
    mask = selftest.addVolume(np.zeros((6, 7, 8), np.uint8), np.eye(4), "nothing")
    with pytest.raises(SynthesisError, match="The mask 'nothing' is empty"):
        ready.logic.synthesize(head, model="tissue-mr-ct", mask=mask)
    slicer.util.updateVolumeFromArray(mask, np.ones((6, 7, 8), np.uint8))
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "warp")
    mask.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(SynthesisError, match="not linear"):
        ready.logic.synthesize(head, model="tissue-mr-ct", mask=mask)


def readNote(path):
    """The fake worker's note, once it is complete."""
    until = time.monotonic() + 5
    while True:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            assert time.monotonic() < until
            time.sleep(0.02)
