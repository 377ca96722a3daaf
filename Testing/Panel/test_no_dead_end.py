"""Whatever happens, the panel can be used again, what went wrong stays told, and results keep their inputs."""

import numpy as np
import pytest
import slicer
from panelCases import addVolume, waitUntil

from SynthGANLib.model.catalogue import Catalogue, user_folder
from SynthGANPanel.comparison import compare
from SynthGANPanel.quality import plots as qualityPlots
from SynthGANPanel.runs import estimation, synthesis
from SynthGANPanel.scene import masks, nodes, regions


@pytest.fixture
def ready(panel, head):
    """The panel with an input and a model chosen."""
    panel.parameters.inputVolume = head
    panel.parameters.modelId = "tissue-mr-ct"
    return panel


def memoryRunsOut(*arguments, **names):
    raise MemoryError


def defect(*arguments, **names):
    raise KeyError("what nobody foresaw")


def idle(panel):
    waitUntil(lambda: panel.ui.applyButton.text == "Apply")


@pytest.mark.parametrize("fault", [memoryRunsOut, defect])
def test_a_run_that_cannot_start_leaves_nothing_under_way(ready, worker, monkeypatch, fault):
    worker("good")
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "body")
    slicer.util.updateVolumeFromArray(mask, np.ones((6, 7, 8), np.uint8))
    ready.parameters.maskVolume = mask
    with monkeypatch.context() as patch:
        patch.setattr(masks, "maskFromNode", fault)
        ready.ui.applyButton.click()
    assert not ready.running
    assert ready.ui.applyButton.text == "Apply"
    said = "not enough memory" if fault is memoryRunsOut else "(KeyError: 'what nobody foresaw')"
    assert said in ready.ui.statusLabel.text
    assert ("Traceback" in ready.ui.logTextEdit.plainText) is (fault is defect)
    ready.parameters.maskVolume = None
    ready.ui.applyButton.click()
    idle(ready)
    assert ready.result() is not None


@pytest.mark.parametrize("fault", [memoryRunsOut, defect])
def test_a_result_that_cannot_be_stored_ends_the_run_and_the_next_has_its_turn(ready, worker, monkeypatch, fault):
    other = addVolume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), "other")
    worker("good")
    store, calls = nodes.storeResult, []

    def once(*arguments):
        calls.append(1)
        return fault() if len(calls) == 1 else store(*arguments)

    monkeypatch.setattr(nodes, "storeResult", once)
    ready.ui.applyButton.click()
    ready.parameters.inputVolume = other
    ready.ui.queueButton.click()
    waitUntil(lambda: not ready.running)
    states = [run.state for run in ready.section("Run").queue.runs]
    assert states == ["failed", "done"]
    first, second = ready.ui.queueLabel.text.splitlines()
    assert "failed (" in first, "why it failed is told after the next run, too"
    assert second.endswith("done")


def test_what_went_wrong_while_another_module_was_open_is_told_on_return(ready, worker):
    worker("refuse")
    ready.ui.applyButton.click()
    ready.parent.exit()
    waitUntil(lambda: not ready.running)
    ready.parent.enter()
    assert "The volume is constant" in ready.ui.statusLabel.text
    assert "Choose another volume." in ready.ui.logTextEdit.plainText
    assert not ready.ui.detailsCollapsibleButton.collapsed


def test_the_layout_from_before_the_comparison_returns_from_table_and_plot(ready, worker, scene):
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode") or scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    worker("good")
    ready.ui.applyButton.click()
    idle(ready)
    assert compare.isShown(scene)
    qualityPlots.show(scene.AddNewNodeByClass("vtkMRMLTableNode", "numbers"), None)
    assert not compare.isShown(scene)
    qualityPlots.restore(scene)
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView


def test_results_keep_their_inputs_when_scenes_are_merged(panel, scene, tmp_path, worker):
    worker("good")
    panel.logic.synthesize(addVolume(np.arange(336, dtype=np.int16).reshape(6, 7, 8), "first"), model="tissue-mr-ct")
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(False)
    stranger = addVolume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), "stranger")  # with the id of the first
    assert scene.ReadFromMRB(path, False, None)
    assert panel.logic.latestResult(stranger) is None
    first = slicer.util.getNode("first")
    result = panel.logic.latestResult(first)
    assert result.GetName() == "first synthetic CT (tissue-mr-ct)"
    assert nodes.sourceOf(result) is first
    scene.RemoveNode(first)
    assert nodes.sourceOf(result) is None
    assert synthesis.latestResult(stranger) is None


def test_an_installed_model_is_replaced_on_request(panel, monkeypatch):
    source, asked = str(Catalogue().find("tissue-mr-ct")), []

    def install(answer):
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **options: asked.append(text) or answer)
        panel.ui.installSourceEdit.text = source
        panel.ui.installModelButton.click()
        waitUntil(lambda: panel.ui.installModelButton.text == "Install model")
        return panel.ui.managerLabel.text

    assert install(False).startswith("Installed 'tissue-mr-ct'")
    assert not asked
    mark = user_folder() / "tissue-mr-ct" / "README.md"
    mark.write_text("changed", encoding="utf-8")
    assert "exists already" in install(False)
    assert mark.read_text(encoding="utf-8") == "changed"
    assert install(True).startswith("Installed 'tissue-mr-ct'")
    assert mark.read_text(encoding="utf-8") != "changed"
    assert len(asked) == 2


def test_the_estimate_is_of_the_region_and_of_all_frames(head, monkeypatch):
    from SynthGANLib.inference import estimate

    asked = []

    def seconds(card, grid, device, memory=None):
        asked.append(grid)
        return estimate.Estimate(seconds=100.0, bytes=None, tiles=None, basis="on 2026-01-02", runs=1)

    monkeypatch.setattr(estimate, "estimate_run", seconds)
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "part")
    regions.fitRoi(roi, head)
    roi.SetSize(*(np.array(roi.GetSize()) / 2))
    card = Catalogue().find("tissue-mr-ct")
    whole = estimation.describe(head, card)
    several = estimation.describe(head, card, roiNode=roi, frames=6)
    assert "2 min" in whole
    assert "10 min" in several
    assert asked[0].shape == (6, 7, 8)
    assert np.prod(asked[1].shape) < np.prod(asked[0].shape)


def test_controls_of_reveal_and_crosshair_are_followed(ready, worker, monkeypatch):
    worker("good")
    live, patches = ready.section("Compare").live, []
    monkeypatch.setattr(live, "setPatch", patches.append)
    ready.ui.comparePatchSlider.value = 90
    assert patches[-1] == 90
    before = ready.parameters.compareCrosshair
    ready.ui.compareCrosshairCheckBox.click()
    assert ready.parameters.compareCrosshair is not before


def test_the_model_leads_back_to_its_result(ready, worker, head):
    worker("good")
    made = {model: ready.logic.synthesize(head, model=model) for model in ("head-mr-ct", "tissue-mr-ct")}
    for model in ("head-mr-ct", "tissue-mr-ct", "head-mr-ct"):
        ready.parameters.modelId = model
        assert ready.result() is made[model]
        assert ready.ui.measuredNameLabel.text == made[model].GetName()
    slicer.mrmlScene.RemoveNode(made["head-mr-ct"])
    assert ready.result() is made["tissue-mr-ct"], "better the other model's than none"
