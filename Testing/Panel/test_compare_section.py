"""The Compare section clicked through: every way of comparing, choices that take effect at once, and the way back."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import slicer
from comparePanel import Panel
from panelCases import addVolume, nodeState, waitUntil

from SynthGANPanel.comparison import compare, difference
from SynthGANPanel.comparison.modes import Against, CompareMode
from SynthGANPanel.scene import temporaryNodes, views

ROOT = Path(__file__).resolve().parents[2]
FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
UNITS = {"HU": ("[hnsf'U]", "UCUM", "Hounsfield unit")}


@pytest.fixture
def bare(app, scene):
    scene.GetFirstNodeByClass("vtkMRMLLayoutNode").SetViewArrangement(FOUR_UP)
    panel = Panel(app)
    yield panel
    panel.close()
    compare.restore(scene)


def inUnit(node, unit):
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*UNITS[unit])
    node.SetVoxelValueUnits(entry)
    return node


@pytest.fixture
def pair(bare):
    """The section with a source and its result; `ct` is a volume to choose as reference."""
    array = np.arange(6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8)
    bare.volumes = (addVolume(array, "head"), inUnit(addVolume(array - 200, "head synthetic CT"), "HU"))
    bare.volumes[1].SetAttribute("SynthGAN.ModelId", "any")
    inUnit(addVolume(array[::-1] - 150, "ct"), "HU")
    bare.refresh()
    return bare


def layers(scene, view="Red"):
    composite = views.compositeNode(scene, view)
    ids = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
    return tuple(scene.GetNodeByID(each).GetName() if each else None for each in ids)


def shownWidgets(panel):
    names = ("compareWithSelector", "compareFadeSlider", "compareCellSlider", "comparePatchSlider",
             "compareBlinkSlider", "compareRangeSpinBox", "compareLineSelector")  # fmt: skip
    return {name for name in names if getattr(panel.ui, name).visible}


def test_without_a_result_it_says_so(bare):
    assert not bare.ui.compareButton.enabled
    assert bare.ui.compareStatusLabel.text == bare.ui.compareButton.toolTip
    assert "no synthetic volume" in bare.ui.compareButton.toolTip
    assert not bare.ui.sourceWindowSelector.enabled


def test_there_and_back(pair, scene):
    before = nodeState(scene)
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    pair.ui.compareButton.click()
    assert compare.isShown(scene)
    assert pair.ui.compareButton.text == "Back to the former layout"
    pair.ui.compareButton.click()
    assert not compare.isShown(scene)
    assert layout.GetViewArrangement() == FOUR_UP
    assert pair.ui.compareButton.text == "Compare"
    volumes = {key: value for key, value in before.items() if "Volume" in value[0]}
    assert {key: value for key, value in nodeState(scene).items() if "Volume" in value[0]} == volumes


def test_each_mode_shows_its_own_choices(pair):
    seen = {}
    for mode in CompareMode:
        pair.choose(mode.label())
        assert pair.parameters.compareMode is mode
        seen[mode] = shownWidgets(pair)
    assert seen == {
        CompareMode.SIDE_BY_SIDE: set(),
        CompareMode.FADE: {"compareWithSelector", "compareFadeSlider"},
        CompareMode.CHECKERBOARD: {"compareWithSelector", "compareCellSlider"},
        CompareMode.REVEAL: {"compareWithSelector", "comparePatchSlider"},
        CompareMode.BLINK: {"compareWithSelector", "compareBlinkSlider"},
        CompareMode.DIFFERENCE: {"compareRangeSpinBox"},
        CompareMode.PROFILE: {"compareLineSelector"},
    }


def test_modes_change_while_comparing(pair, scene):
    pair.ui.compareReferenceSelector.choose("ct")
    pair.ui.compareButton.click()
    for mode in CompareMode:
        pair.choose(mode.label())
        waitUntil(lambda mode=mode: compare.current(scene).mode is mode and not pair.section.live.isWorking)
        assert {temporaryNodes.kindOf(node) for node in temporaryNodes.nodes(scene)} <= {mode.value}
    pair.ui.compareButton.click()
    assert not temporaryNodes.nodes(scene)
    assert scene.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement() == FOUR_UP


def test_fade_slider_and_volume_to_compare_with(pair, scene):
    pair.ui.compareReferenceSelector.choose("ct")
    pair.choose("Fade")
    pair.ui.compareButton.click()
    assert layers(scene) == ("head", "head synthetic CT")
    assert compare.fade(scene) == 0.5
    pair.ui.compareFadeSlider.value = 80
    assert compare.fade(scene) == pytest.approx(0.8)
    pair.ui.compareWithSelector.currentText = "Reference"
    assert layers(scene) == ("ct", "head synthetic CT")
    assert compare.fade(scene) == pytest.approx(0.8)
    pair.ui.compareReferenceSelector.setCurrentNode(None)
    assert "Choose a reference" in pair.ui.compareStatusLabel.text
    assert pair.ui.compareButton.text == "Back to the former layout"
    assert layers(scene) == ("ct", "head synthetic CT")  # as long as nothing else is possible


def test_reference_joins_at_once(pair, scene):
    pair.ui.compareButton.click()
    assert layers(scene, "Yellow") == ("head synthetic CT", None)
    pair.ui.compareReferenceSelector.choose("ct")
    assert [layers(scene, view)[0] for view in compare.COLUMNS] == ["head", "head synthetic CT", "ct"]


def test_cell_size_takes_effect_when_it_rests(pair, scene):
    pair.volumes[0].GetDisplayNode().SetAutoWindowLevel(False)
    pair.volumes[0].GetDisplayNode().SetWindowLevelMinMax(1000, 2000)
    pair.choose("Checkerboard")
    pair.ui.compareCellSlider.value = 3
    pair.ui.compareButton.click()
    waitUntil(lambda: compare.isShown(scene))
    board = temporaryNodes.find(scene, "checkerboard", "vtkMRMLVectorVolumeNode")
    before = slicer.util.arrayFromVolume(board).copy()
    pair.ui.compareCellSlider.value = 5
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(board), before)
    waitUntil(lambda: np.any(slicer.util.arrayFromVolume(board) != before))
    assert temporaryNodes.find(scene, "checkerboard", "vtkMRMLVectorVolumeNode") is board


def test_checkerboard_follows_a_window(pair, scene):
    pair.choose("Checkerboard")
    pair.ui.compareButton.click()
    waitUntil(lambda: compare.isShown(scene))
    board = temporaryNodes.find(scene, "checkerboard", "vtkMRMLVectorVolumeNode")
    before = slicer.util.arrayFromVolume(board).copy()
    pair.volumes[0].GetDisplayNode().SetAutoWindowLevel(False)
    pair.volumes[0].GetDisplayNode().SetWindowLevelMinMax(1000, 2000)
    waitUntil(lambda: np.any(slicer.util.arrayFromVolume(board) != before))


def test_long_computation_can_be_cancelled(pair, scene, monkeypatch):
    monkeypatch.setattr("SynthGANPanel.scene.resampling.VOXELS_AT_ONCE", 1)
    monkeypatch.setattr("SynthGANPanel.task.STEP_SECONDS", 0.0)
    pair.choose("Checkerboard")
    pair.ui.compareButton.click()
    assert not compare.isShown(scene)
    assert pair.section.live.isWorking
    assert pair.ui.compareStatusLabel.text.startswith("Computing: ")
    pair.refresh()
    assert pair.ui.compareButton.text == "Cancel"
    pair.ui.compareButton.click()
    assert pair.ui.compareButton.text == "Compare"
    slicer.app.processEvents()
    assert not compare.isShown(scene)
    assert not temporaryNodes.nodes(scene)
    pair.ui.compareButton.click()
    waitUntil(lambda: compare.isShown(scene))


def test_difference_asks_for_a_reference_then_shows_it(pair, scene):
    pair.choose("Difference map")
    assert not pair.ui.compareButton.enabled
    assert "choose a reference" in pair.ui.compareButton.toolTip
    pair.ui.compareReferenceSelector.choose("ct")
    assert pair.ui.compareButton.enabled
    assert not pair.ui.compareKeepButton.enabled
    pair.ui.compareButton.click()
    waitUntil(lambda: compare.isShown(scene))
    shown = temporaryNodes.find(scene, "difference", "vtkMRMLScalarVolumeNode")
    assert shown.GetName() == "head synthetic CT minus ct"
    pair.ui.compareRangeSpinBox.value = 70
    assert shown.GetDisplayNode().GetWindow() / 2 == 70
    pair.ui.compareRangeSpinBox.value = 0
    assert shown.GetDisplayNode().GetWindow() / 2 == difference.automaticRange(slicer.util.arrayFromVolume(shown))
    pair.ui.compareKeepButton.click()
    assert "'head synthetic CT minus ct' stays" in pair.ui.compareStatusLabel.text
    assert not pair.ui.compareKeepButton.enabled
    pair.ui.compareButton.click()
    assert scene.IsNodePresent(shown)


def test_blinking(pair, scene):
    pair.choose("Blink")
    pair.ui.compareBlinkSlider.value = 0.1
    pair.ui.compareButton.click()
    seen = set()

    def bothSeen():
        seen.add(compare.fade(scene))
        return seen == {0.0, 1.0}

    waitUntil(bothSeen)
    assert pair.section.live.isBlinking
    pair.ui.compareButton.click()
    assert not pair.section.live.isBlinking
    pair.ui.compareButton.click()
    assert pair.section.live.isBlinking
    scene.GetFirstNodeByClass("vtkMRMLLayoutNode").SetViewArrangement(FOUR_UP)
    waitUntil(lambda: not pair.section.live.isBlinking)


def test_line_moves_the_plot(pair, scene):
    pair.choose("Line profile")
    pair.ui.compareButton.click()
    table = temporaryNodes.find(scene, "profile", "vtkMRMLTableNode")
    rows = table.GetNumberOfRows()
    line = compare.current(scene).line
    line.SetNthControlPointPositionWorld(1, *np.add(line.GetNthControlPointPositionWorld(0), (0.0, 1.0, 0.0)))
    assert table.GetNumberOfRows() == rows
    waitUntil(lambda: table.GetNumberOfRows() == 4)  # 1 mm in steps of 0.45 mm
    mine = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "mine")
    pair.ui.compareLineSelector.choose("mine")
    assert compare.current(scene).line is mine
    assert not scene.IsNodePresent(line)


def test_windows(pair, scene):
    pair.ui.compareReferenceSelector.choose("ct")
    source, result = pair.volumes
    assert "Brain (50 +/- 50 HU)" not in [
        pair.ui.sourceWindowSelector.itemText(index) for index in range(pair.ui.sourceWindowSelector.count)
    ]
    pair.ui.compareButton.click()
    before = [(node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetAutoWindowLevel()) for node in pair.volumes]
    for selector, text in (("resultWindowSelector", "Brain (50 +/- 50 HU)"), ("sourceWindowSelector", "All values")):
        widget = getattr(pair.ui, selector)
        index = widget.findText(text)
        widget.setCurrentIndex(index)
        widget.activated.emit(index)
    reference = slicer.util.getNode("ct")
    for node in (result, reference):
        assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (100.0, 50.0)
    assert not source.GetDisplayNode().GetAutoWindowLevel()
    pair.ui.compareButton.click()
    assert (source.GetDisplayNode().GetWindow(), source.GetDisplayNode().GetAutoWindowLevel()) == before[0]
    assert reference.GetDisplayNode().GetAutoWindowLevel()
    assert result.GetDisplayNode().GetWindow() == 100.0


def test_another_layout_ends_the_comparison(pair, scene):
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    pair.choose("Checkerboard")
    pair.ui.compareButton.click()
    waitUntil(lambda: compare.isShown(scene))
    layout.SetViewArrangement(layout.SlicerLayoutConventionalView)
    assert pair.ui.compareButton.text == "Compare"
    waitUntil(lambda: not compare.isLeft(scene))
    assert not temporaryNodes.nodes(scene)
    assert layout.GetViewArrangement() == layout.SlicerLayoutConventionalView


def test_comparison_from_elsewhere_is_taken_over(pair, scene):
    reference = slicer.util.getNode("ct")
    compare.show(*pair.volumes, reference, compare.Choices(CompareMode.FADE, Against.REFERENCE, crosshair=False))
    slicer.app.processEvents()
    assert pair.ui.compareModeSelector.currentText == "Fade"
    assert pair.ui.compareWithSelector.currentText == "Reference"
    assert pair.ui.compareReferenceSelector.currentNode() is reference
    assert not pair.ui.compareCrosshairCheckBox.checked
    assert layers(scene) == ("ct", "head synthetic CT")


def test_new_result_is_compared_if_so_chosen(pair, scene):
    run = SimpleNamespace(error=None, inputNode=pair.volumes[0], resultNode=pair.volumes[1])
    pair.choose("Fade")
    for chosen, entered, error in ((False, True, None), (True, False, None), (True, True, RuntimeError())):
        pair.parameters.sideBySide, pair.entered, run.error = chosen, entered, error
        pair.section.ended(run)
        assert not compare.isShown(scene)
    pair.parameters.sideBySide, pair.entered, run.error = True, True, None
    pair.section.ended(run)
    assert compare.current(scene).mode is CompareMode.FADE


def test_closing_the_scene_leads_back(pair, scene):
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    pair.choose("Blink")
    pair.ui.compareButton.click()
    pair.section.sceneCloses()
    assert layout.GetViewArrangement() == FOUR_UP
    assert not pair.section.live.isBlinking


def test_removed_volumes_do_not_trip_it(pair, scene):
    pair.choose("Line profile")
    pair.ui.compareButton.click()
    for node in pair.volumes:
        scene.RemoveNode(node)
    pair.volumes = (None, None)
    pair.refresh()
    for mode in CompareMode:
        pair.choose(mode.label())
        slicer.app.processEvents()
    assert pair.ui.compareButton.text == "Back to the former layout"
    pair.ui.compareButton.click()
    assert not temporaryNodes.nodes(scene)
    assert not pair.ui.compareButton.enabled


def test_picture(pair, tmp_path):
    """Every text fits into a panel of ordinary width."""
    for mode in CompareMode:
        pair.choose(mode.label())
        slicer.app.processEvents()
        assert pair.widget.minimumSizeHint().width() <= 420, mode
        picture = tmp_path / f"{mode.value}.png"
        assert pair.widget.grab().save(str(picture))


def test_reveal_follows_the_mouse_by_slicers_own_module(pair, scene, monkeypatch):
    """Slicer's CompareVolumes draws the patch; where it is disabled, the mode says so and nothing changes."""
    monkeypatch.setattr(slicer.app, "layoutManager", lambda: SimpleNamespace(sliceViewNames=list, threeDViewCount=0))
    pair.choose("Reveal with the mouse")
    assert not pair.ui.compareButton.enabled
    assert "CompareVolumes is missing" in pair.ui.compareStatusLabel.text
    made = []

    class LayerReveal:
        def __init__(self, width, height):
            self.state = (width, height)
            made.append(self)

        def cleanup(self):
            self.state = "gone"

    module = ModuleType("CompareVolumes")
    module.__spec__ = ModuleSpec("CompareVolumes", None)
    module.LayerReveal = LayerReveal
    monkeypatch.setitem(sys.modules, "CompareVolumes", module)
    pair.refresh()
    pair.ui.compareButton.click()
    assert [each.state for each in made] == [(200, 200)]
    pair.ui.comparePatchSlider.value = 90
    assert [each.state for each in made] == ["gone", (90, 90)]
    pair.ui.compareButton.click()
    assert [each.state for each in made] == ["gone", "gone"]
