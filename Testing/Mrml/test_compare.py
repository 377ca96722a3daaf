"""Comparing in Slicer's views: what each mode shows, and that one step back leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from SynthGANPanel.comparison import compare
from SynthGANPanel.comparison.modes import Against, CompareMode
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.scene import temporaryNodes, views, windows
from Testing.Mrml.compare_cases import add, everything, layout, synthetic, values

__all__ = ["layout"]  # a fixture
FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
MODES = tuple(CompareMode)


@pytest.fixture
def trio(scene: Any, layout: Any) -> tuple[Any, Any, Any]:
    """Source MR, synthetic CT and real CT; another volume is what the views show at first."""
    other = add(scene, values(9), "other")
    source, result = add(scene, values(1), "mr", "MR"), synthetic(add(scene, values(2), "fake", "HU"))
    reference = add(scene, values(3), "ct", "HU")
    for number, view in enumerate(("Red", "Green", "Yellow")):
        composite = views.compositeNode(scene, view)
        composite.SetBackgroundVolumeID((other, source, other)[number].GetID())
        composite.SetForegroundVolumeID(reference.GetID())
        composite.SetForegroundOpacity(0.25 + number / 8)
        composite.SetLabelOpacity(0.5)
        composite.SetCompositing(composite.Add)
        views.sliceNode(scene, view).SetSliceOffset(3.5 + number)
        views.sliceNode(scene, view).SetFieldOfView(100 + number, 120, 1)
    for number, view in enumerate(("Red", "Green", "Yellow")):  # the user had them linked, each with its own
        composite = views.compositeNode(scene, view)
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(number == 1)
    crosshair = views.findOrMake(scene, "vtkMRMLCrosshairNode", "default")
    crosshair.SetCrosshairMode(crosshair.ShowHashmarks)
    crosshair.SetCrosshairBehavior(crosshair.CenteredJumpSlice)
    crosshair.SetCrosshairRAS(1, 2, 3)
    return source, result, reference


def layers(scene: Any, view: str) -> tuple[Any, Any]:
    composite = views.compositeNode(scene, view)
    return tuple(
        scene.GetNodeByID(each) if each else None
        for each in (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
    )


@pytest.mark.parametrize("withReference", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_back(scene: Any, layout: Any, trio: Any, mode: CompareMode, withReference: bool) -> None:
    source, result, reference = trio
    before = everything(scene)
    if mode is CompareMode.DIFFERENCE and not withReference:
        with pytest.raises(SynthesisError, match="common unit"):
            compare.show(source, result, None, compare.Choices(mode))
        assert everything(scene) == before
        return
    assert compare.show(source, result, reference if withReference else None, compare.Choices(mode))
    assert compare.isShown(scene)
    shown = compare.current(scene)
    assert (shown.mode, shown.source, shown.result) == (mode, source, result)
    assert shown.reference is (reference if withReference else None)
    assert everything(scene)["layout"] != before["layout"]
    crosshair = views.findOrMake(scene, "vtkMRMLCrosshairNode", "default")
    assert crosshair.GetCrosshairMode() == crosshair.ShowBasic
    compare.restore(scene)
    assert not compare.isShown(scene)
    assert compare.current(scene) is None
    assert everything(scene) == before


def test_all_modes_in_a_row_and_one_step_back(scene: Any, trio: Any) -> None:
    before = everything(scene)
    for mode in (*MODES, *reversed(MODES)):
        assert compare.show(*trio, compare.Choices(mode))
        kinds = {temporaryNodes.kindOf(node) for node in temporaryNodes.nodes(scene)}
        assert kinds <= {mode.value}, "what another mode made is still there"
    compare.restore(scene)
    assert everything(scene) == before


def test_side_by_side_of_two_and_three(scene: Any, layout: Any, trio: Any) -> None:
    source, result, reference = trio
    compare.show(source, result)
    assert layout.GetViewArrangement() == layout.SlicerLayoutSideBySideView
    assert [layers(scene, view) for view in ("Red", "Yellow")] == [(source, None), (result, None)]
    compare.show(source, result, reference)
    assert layout.GetViewArrangement() == layout.SlicerLayoutThreeOverThreeView
    for row in ("", "+"):
        shown = [layers(scene, view + row) for view in compare.COLUMNS]
        assert shown == [(source, None), (result, None), (reference, None)]
        planes = [views.plane(views.sliceNode(scene, view + row)) for view in compare.COLUMNS]
        np.testing.assert_array_equal(planes[0], planes[1])
        np.testing.assert_array_equal(planes[0], planes[2])
    normals = [views.plane(views.sliceNode(scene, view))[:3, 2] for view in ("Red", "Red+")]
    assert abs(normals[0] @ normals[1]) < 1e-6  # the second row cuts across the first
    for view in compare.VIEWS:
        assert views.compositeNode(scene, view).GetHotLinkedControl()
        assert views.sliceNode(scene, view).GetViewGroup() == compare.VIEW_GROUP


def test_views_lie_along_the_voxels(scene: Any, trio: Any) -> None:
    compare.show(*trio)
    axes = slicer.util.arrayFromVTKMatrix(views.sliceNode(scene, "Red").GetSliceToRAS())[:3, :3]
    directions = np.zeros((3, 3))
    trio[0].GetIJKToRASDirections(directions)
    np.testing.assert_allclose(np.sort(np.abs(axes.T @ directions), axis=0)[:2], 0, atol=1e-6)


def test_plane_is_kept_from_mode_to_mode(scene: Any, trio: Any) -> None:
    compare.show(*trio)
    red = views.sliceNode(scene, "Red")
    red.SetSliceOffset(red.GetSliceOffset() + 2.0)
    chosen = views.plane(red).copy()
    for mode in (CompareMode.FADE, CompareMode.DIFFERENCE, CompareMode.SIDE_BY_SIDE):
        compare.show(*trio, compare.Choices(mode))
        for view in ("Red", "Green", "Yellow") if mode is not CompareMode.FADE else ("Red",):
            np.testing.assert_array_equal(views.plane(views.sliceNode(scene, view)), chosen)


@pytest.mark.parametrize("against", Against)
def test_layered_modes(scene: Any, layout: Any, trio: Any, against: Against) -> None:
    source, result, reference = trio
    other = source if against is Against.SOURCE else reference
    for mode, opacity in ((CompareMode.FADE, 0.7), (CompareMode.REVEAL, 0.0), (CompareMode.BLINK, 0.0)):
        compare.show(*trio, compare.Choices(mode, against, fade=0.7))
        assert layout.GetViewArrangement() == layout.SlicerLayoutOneUpRedSliceView
        assert layers(scene, "Red") == (other, result)
        composite = views.compositeNode(scene, "Red")
        assert composite.GetForegroundOpacity() == opacity
        assert composite.GetCompositing() == composite.Alpha
    compare.setFade(scene, 0.1)
    assert compare.fade(scene) == 0.1
    compare.show(*trio, compare.Choices(CompareMode.CHECKERBOARD, against))
    board, foreground = layers(scene, "Red")
    assert temporaryNodes.kindOf(board) == "checkerboard"
    assert board.GetName() == f"Checkerboard of {other.GetName()} and fake"
    assert foreground is None


def test_reference_that_is_missing_is_asked_for(scene: Any, trio: Any) -> None:
    source, result, _reference = trio
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    before = everything(scene)
    with pytest.raises(SynthesisError, match="Choose a reference"):
        compare.show(source, result, None, compare.Choices(CompareMode.FADE, Against.REFERENCE))
    with pytest.raises(SynthesisError, match="'empty' holds no voxels"):
        compare.show(source, result, empty)
    assert everything(scene) == before


def test_difference_shows_real_synthetic_and_map(scene: Any, trio: Any) -> None:
    source, result, reference = trio
    compare.show(*trio, compare.Choices(CompareMode.DIFFERENCE, differenceRange=300.0))
    shown = [layers(scene, view)[0] for view in compare.COLUMNS]
    assert shown[:2] == [reference, result]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(shown[2]), values(2) - values(3))
    assert shown[2].GetDisplayNode().GetWindow() / 2 == 300.0
    legend = temporaryNodes.find(scene, "difference", "vtkMRMLColorLegendDisplayNode")
    assert legend.GetMTime() > views.compositeNode(scene, "Yellow").GetMTime()  # else Slicer does not draw it
    compare.show(source, result, source, compare.Choices(CompareMode.SIDE_BY_SIDE))
    assert [layers(scene, view)[0] for view in compare.COLUMNS] == [source, result, source]
    assert not temporaryNodes.nodes(scene)


def test_kept_difference_stays(scene: Any, trio: Any) -> None:
    before = everything(scene)
    compare.show(*trio, compare.Choices(CompareMode.DIFFERENCE))
    kept = compare.keepDifference(scene)
    compare.show(*trio, compare.Choices(CompareMode.FADE))
    compare.restore(scene)
    assert scene.IsNodePresent(kept)
    assert scene.IsNodePresent(kept.GetDisplayNode().GetColorNode())
    after = everything(scene)
    assert {**after, "nodes": before["nodes"]} == before
    assert compare.keepDifference(scene) is None


def test_line_of_the_user_is_used_and_stays(scene: Any, trio: Any) -> None:
    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "mine")
    line.AddControlPointWorld(0, 0, 0)
    line.AddControlPointWorld(4, 4, 4)
    before = everything(scene)
    compare.show(*trio, compare.Choices(CompareMode.PROFILE))
    assert compare.current(scene).line is not line
    compare.show(*trio, compare.Choices(CompareMode.PROFILE, line=line))
    assert compare.current(scene).line is line
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsLineNode") == 1
    plotView = views.plotViewNode(scene, "PlotView1")
    assert plotView.GetPlotChartNode().GetNumberOfPlotSeriesNodes() == 3
    compare.restore(scene)
    assert plotView.GetPlotChartNodeID() is None
    assert everything(scene) == before


def test_chart_of_the_user_returns(scene: Any, trio: Any) -> None:
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "mine")
    plotView = views.plotViewNode(scene, "PlotView1")
    plotView.SetPlotChartNodeID(chart.GetID())
    compare.show(*trio, compare.Choices(CompareMode.PROFILE))
    assert plotView.GetPlotChartNode() is not chart
    compare.restore(scene)
    assert plotView.GetPlotChartNode() is chart


def test_windows_of_real_volumes_return_that_of_the_synthetic_stays(scene: Any, trio: Any) -> None:
    reference = trio[2]
    displays = [node.GetDisplayNode() for node in trio]
    for display in displays[1:]:
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(123.0, 45.0)
    compare.show(*trio)
    for node in trio:
        compare.keepWindow(scene, node)
        windows.apply(node, "range")
        compare.keepWindow(scene, node)  # the first counts
        windows.apply(node, "percentiles")
    compare.restore(scene)
    assert displays[0].GetAutoWindowLevel()
    assert (displays[2].GetWindow(), displays[2].GetLevel()) == (123.0, 45.0)
    assert displays[1].GetWindow() != 123.0
    assert reference.GetDisplayNode() is displays[2]


@pytest.mark.parametrize("mode", MODES)
def test_volumes_removed_meanwhile(scene: Any, trio: Any, mode: CompareMode) -> None:
    before = everything(scene)
    compare.show(*trio, compare.Choices(mode))
    for node in trio:
        scene.RemoveNode(node)
    assert (compare.current(scene).source, compare.current(scene).result) == (None, None)
    for node in temporaryNodes.nodes(scene)[::2]:
        scene.RemoveNode(node)
    compare.restore(scene)
    after = everything(scene)
    assert not temporaryNodes.nodes(scene)
    assert (after["layout"], after["crosshair"]) == (before["layout"], before["crosshair"])
    for view in ("Red", "Yellow"):
        assert after["views"][view]["background"] == before["views"][view]["background"]
        assert after["views"][view]["foreground"] is None  # it showed the removed reference


def test_each_view_keeps_its_own_volume_when_another_is_removed(scene: Any, trio: Any) -> None:
    compare.show(*trio)
    scene.RemoveNode(next(node for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode", scene) if node not in trio))
    assert [layers(scene, view)[0] for view in compare.COLUMNS] == list(trio)


def test_another_layout_by_the_user_stays(scene: Any, layout: Any, trio: Any) -> None:
    before = everything(scene)
    compare.show(*trio, compare.Choices(CompareMode.CHECKERBOARD))
    layout.SetViewArrangement(layout.SlicerLayoutConventionalView)
    assert not compare.isShown(scene)
    assert compare.isLeft(scene)
    assert compare.current(scene) is None
    compare.restore(scene)
    assert not compare.isLeft(scene)
    assert everything(scene) == {**before, "layout": layout.SlicerLayoutConventionalView}


def test_comparing_again_after_another_layout_keeps_the_first_way_back(scene: Any, layout: Any, trio: Any) -> None:
    before = everything(scene)
    compare.show(*trio)
    layout.SetViewArrangement(layout.SlicerLayoutConventionalView)
    compare.show(*trio, compare.Choices(CompareMode.FADE))
    compare.restore(scene)
    assert everything(scene) == {**before, "layout": layout.SlicerLayoutConventionalView}


@pytest.mark.parametrize("mode", [CompareMode.SIDE_BY_SIDE, CompareMode.DIFFERENCE, CompareMode.PROFILE])
def test_saved_and_loaded_while_comparing(
    scene: Any, layout: Any, trio: Any, mode: CompareMode, tmp_path: Path
) -> None:
    before = everything(scene)
    compare.show(*trio, compare.Choices(mode))
    bundle = str(tmp_path / "scène.mrb")
    assert scene.WriteToMRB(bundle)
    scene.Clear(False)
    assert compare.current(scene) is None
    assert scene.ReadFromMRB(bundle, True, None)
    shown = compare.current(scene)
    assert shown.mode is mode
    assert [shown.source.GetName(), shown.result.GetName(), shown.reference.GetName()] == ["mr", "fake", "ct"]
    compare.restore(scene)
    after = everything(scene)
    assert (after["layout"], after["crosshair"]) == (before["layout"], before["crosshair"])
    assert not temporaryNodes.nodes(scene)
    for view, state in before["views"].items():
        loaded = after["views"][view]
        names = [scene.GetNodeByID(loaded[layer]).GetName() for layer in ("background", "foreground")]
        assert names == ["mr" if view == "Green" else "other", "ct"]
        for key in ("foregroundOpacity", "compositing", "linked", "group"):
            assert loaded[key] == pytest.approx(state[key]), (view, key)
        np.testing.assert_allclose(loaded["plane"], state["plane"], atol=1e-4)


def test_imported_into_a_scene_whose_ids_are_taken(scene: Any, layout: Any, trio: Any, tmp_path: Path) -> None:
    compare.show(*trio)
    bundle = str(tmp_path / "one.mrb")
    assert scene.WriteToMRB(bundle)
    scene.Clear(False)
    add(scene, values(5), "stranger")  # takes the id of the first volume
    assert scene.ReadFromMRB(bundle, False, None)
    assert compare.current(scene).source.GetName() == "mr"
    compare.restore(scene)
    assert layers(scene, "Red")[0].GetName() == "other"


def test_closing_the_scene_ends_it(scene: Any, layout: Any, trio: Any) -> None:
    compare.show(*trio, compare.Choices(CompareMode.DIFFERENCE))
    scene.Clear(False)
    assert compare.current(scene) is None
    compare.restore(scene)  # nothing to do, nothing to stumble over
    assert not temporaryNodes.nodes(scene)


def test_scene_without_layout_is_left_alone(scene: Any) -> None:
    source, result = add(scene, values(1), "a", "HU"), add(scene, values(2), "b", "HU")
    before = {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}
    for mode in MODES:
        assert not compare.show(source, result, None, compare.Choices(mode))
    compare.restore(scene)
    assert {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())} == before


def test_stopping_half_way_changes_nothing(scene: Any, trio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("SynthGANPanel.scene.resampling.VOXELS_AT_ONCE", 100)
    before = everything(scene)
    for mode in (CompareMode.CHECKERBOARD, CompareMode.DIFFERENCE):
        steps = compare.steps(*trio, compare.Choices(mode))
        assert 0 < next(steps) < 1
        steps.close()
        assert everything(scene) == before
