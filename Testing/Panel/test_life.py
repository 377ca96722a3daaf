"""What may happen while a synthesis runs: scene closed, input deleted, module left, reloaded, application closed."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slicer
from panelCases import isAlive, waitUntil

from SynthGANPanel import task

HERE = Path(__file__).resolve().parent


@pytest.fixture
def running(panel, head, worker):
    """The panel with a slow run under way, and the process id of its worker."""
    note = worker("slow")
    panel._parameterNode.inputVolume = head
    panel._parameterNode.modelId = "tissue-mr-ct"
    panel.ui.applyButton.click()
    waitUntil(lambda: panel.ui.progressBar.value > 0)
    return panel, json.loads(note.read_text())["pid"]


def test_closing_the_scene_ends_the_run(running, app):
    panel, pid = running
    slicer.mrmlScene.Clear(False)
    assert not isAlive(pid)
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.statusLabel.text == "The synthesis was cancelled because the scene was closed."
    assert not list(Path(app.temporaryPath).iterdir())
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_closing_the_scene_from_a_callback_ends_the_run_once(panel, head, worker):
    worker("good")
    ended = []

    def close(fraction, text):
        if fraction:
            task.stopAll("enough")
            slicer.mrmlScene.Clear(False)

    run = panel.logic.synthesize(
        head, model="tissue-mr-ct", wait=False, progressCallback=close, completedCallback=ended.append
    )
    waitUntil(lambda: not run.running)
    assert ended == [run]
    assert (run.state, str(run.error)) == ("cancelled", "enough")


def test_deleting_the_input_ends_the_run(running, head):
    panel, pid = running
    slicer.mrmlScene.RemoveNode(head)
    waitUntil(lambda: panel.ui.applyButton.text == "Apply")
    assert not isAlive(pid)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_deleting_the_chosen_output_ends_the_run(panel, head, worker):
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    worker("slow")
    run = panel.logic.synthesize(head, model="tissue-mr-ct", outputVolume=output, wait=False)
    slicer.mrmlScene.RemoveNode(output)
    waitUntil(lambda: not run.running)
    assert "because the output volume was removed" in str(run.error)


def test_leaving_the_module_lets_the_run_end(panel, head, worker, app):
    widget = app.moduleManager().module("SynthGAN").widgetRepresentation()
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    note = worker("good")
    panel._parameterNode.inputVolume = head
    panel.ui.applyButton.click()
    widget.exit()
    waitUntil(lambda: panel.logic.latestResult(head) is not None)
    assert not isAlive(json.loads(note.read_text())["pid"])
    # The user is somewhere else now: nothing switches under their hands.
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    widget.enter()
    assert panel.ui.statusLabel.text.startswith("Created ")
    assert panel.ui.applyButton.text == "Apply"


@pytest.fixture
def modulesPutBack():
    """Puts the Python modules back that a reload replaces, since the other tests hold on to them."""
    names = [name for name in sys.modules if name.split(".")[0] in ("SynthGAN", "SynthGANPanel", "SynthGANLib")]
    kept = {name: sys.modules[name] for name in names}
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("SynthGANPanel", "SynthGANLib")]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.mark.usefixtures("modulesPutBack")
def test_reloading_the_module_ends_the_run(running, head):
    panel, pid = running
    panel.onReload()
    assert not isAlive(pid)
    fresh = slicer.modules.SynthGANWidget
    assert fresh is not panel
    assert fresh.ui.inputSelector.currentNode() is head
    assert sys.modules["SynthGANPanel.runs.synthesis"] is fresh.logic.synthesize.__globals__["synthesis"]


def test_closing_the_application_ends_the_run(running, app):
    _panel, pid = running
    app.moduleManager().module("SynthGAN").close()
    assert not isAlive(pid)
    assert not list(Path(app.temporaryPath).iterdir())


def test_end_of_the_application_without_goodbye_ends_the_worker(tmp_path):
    """A crash of Slicer closes the pipe, and the worker ends by itself."""
    note = tmp_path / "job.json"
    script = f"""
import os, sys, time
sys.path[:0] = {[str(HERE), str(HERE.parent.parent), str(HERE.parent.parent / "SynthGAN")]!r}
from SynthGANPanel.runs.workerProcess import WorkerProcess
command = [sys.executable, {str(HERE / "fakeWorker.py")!r}, "slow", {str(note)!r}]
process = WorkerProcess(command, {{"input": ""}}, dict(os.environ), {str(tmp_path)!r})
while not os.path.exists({str(note)!r}) or not process.poll():
    time.sleep(0.02)
os._exit(3)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 3
    pid = json.loads(note.read_text())["pid"]
    until = time.monotonic() + 10
    while isAlive(pid):
        assert time.monotonic() < until, "the worker lives on without its parent"
        time.sleep(0.05)


def test_two_runs_at_once_do_not_mix(panel, head, worker):
    worker("good")
    first = panel.logic.synthesize(head, model="tissue-mr-ct", wait=False)
    second = panel.logic.synthesize(head, model="tissue-mr-ct", wait=False)
    assert {first.wait().GetName(), second.wait().GetName()} == {
        "head synthetic CT (tissue-mr-ct)",
        "head synthetic CT (tissue-mr-ct)_1",
    }
