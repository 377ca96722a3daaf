"""What views carry and what goes on by itself: the word SYNTHETIC, the patch around the mouse, crosshair and line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from SynthGANPanel.comparison import annotation, compare, reveal
from SynthGANPanel.comparison.live import Computation, LiveComparison
from SynthGANPanel.comparison.modes import Against, CompareMode
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.scene import temporaryNodes, views
from Testing.Mrml.compare_cases import add, layout, synthetic, values

__all__ = ["layout"]  # a fixture


@pytest.fixture
def pair(scene: Any, layout: Any) -> tuple[Any, Any]:
    return add(scene, values(1), "mr", "MR"), synthetic(add(scene, values(2), "fake", "HU"))


class Windows:
    """The views of an application, without a screen: renderers by view, and how often each was rendered anew."""

    def __init__(self) -> None:
        self.renderers = {("vtkMRMLSliceNode", view): vtk.vtkRenderer() for view in ("Red", "Green", "Yellow")}
        self.renderers["vtkMRMLViewNode", "1"] = vtk.vtkRenderer()
        self.rendered: dict[Any, int] = {}

    def __call__(self) -> dict[Any, Any]:
        return {view: (renderer, self._render(view)) for view, renderer in self.renderers.items()}

    def _render(self, view: Any) -> Any:
        def render() -> None:
            self.rendered[view] = self.rendered.get(view, 0) + 1

        return render

    def texts(self) -> dict[str, list[str]]:
        """What is written in which view."""
        return {
            name: [actor.GetInput() for actor in renderer.GetViewProps()]
            for (_class, name), renderer in self.renderers.items()
            if renderer.GetViewProps().GetNumberOfItems()
        }


@pytest.fixture
def windows(scene: Any, layout: Any) -> Iterator[Windows]:
    there = Windows()
    annotator = annotation.Annotator(scene, there)
    annotator.update()
    yield there
    annotator.cleanup()
    assert not there.texts()


def test_synthetic_is_written_where_one_is_shown(scene: Any, pair: Any, windows: Windows) -> None:
    source, result = pair
    red = views.compositeNode(scene, "Red")
    red.SetBackgroundVolumeID(source.GetID())
    assert windows.texts() == {}
    for setter in (red.SetBackgroundVolumeID, red.SetForegroundVolumeID):
        red.SetForegroundOpacity(0.5)
        setter(result.GetID())
        assert windows.texts() == {"Red": ["SYNTHETIC"]}
        setter(None)
        assert windows.texts() == {}
    assert windows.rendered["vtkMRMLSliceNode", "Red"] == 4


def test_annotation_follows_opacity(scene: Any, pair: Any, windows: Windows) -> None:
    source, result = pair
    compare.show(source, result, None, compare.Choices(CompareMode.FADE, fade=0.5))
    assert windows.texts() == {"Red": ["SYNTHETIC"]}
    compare.setFade(scene, 0.0)
    assert windows.texts() == {}
    compare.setFade(scene, 0.01)
    assert windows.texts() == {"Red": ["SYNTHETIC"]}


@pytest.mark.parametrize(
    ("mode", "where"),
    [
        (CompareMode.SIDE_BY_SIDE, {"Yellow"}),
        (CompareMode.REVEAL, {"Red"}),  # its layer has no opacity, yet the mouse brings it up
        (CompareMode.CHECKERBOARD, {"Red"}),
        (CompareMode.PROFILE, {"Green", "Yellow"}),
    ],
)
def test_every_mode_is_annotated(scene: Any, pair: Any, windows: Windows, mode: CompareMode, where: set[str]) -> None:
    compare.show(*pair, None, compare.Choices(mode))
    assert set(windows.texts()) == where
    compare.restore(scene)
    assert windows.texts() == {}


def test_difference_is_annotated_even_when_kept(scene: Any, pair: Any, windows: Windows) -> None:
    reference = add(scene, values(3), "ct", "HU")
    compare.show(*pair, reference, compare.Choices(CompareMode.DIFFERENCE))
    assert set(windows.texts()) == {"Green", "Yellow"}
    kept = compare.keepDifference(scene)
    compare.restore(scene)
    views.compositeNode(scene, "Red").SetBackgroundVolumeID(kept.GetID())
    assert set(windows.texts()) == {"Red"}


def test_annotation_in_space(scene: Any, pair: Any, windows: Windows) -> None:
    views.findOrMake(scene, "vtkMRMLViewNode", "1")
    views.compositeNode(scene, "Red").SetBackgroundVolumeID(pair[1].GetID())
    assert set(windows.texts()) == {"Red"}
    views.sliceNode(scene, "Red").SetSliceVisible(True)
    assert set(windows.texts()) == {"Red", "1"}
    views.compositeNode(scene, "Red").SetBackgroundVolumeID(None)
    assert windows.texts() == {}


def test_annotation_of_a_volume_that_becomes_synthetic_while_shown(scene: Any, layout: Any, windows: Windows) -> None:
    output = add(scene, values(1), "chosen output")
    views.compositeNode(scene, "Red").SetBackgroundVolumeID(output.GetID())
    assert windows.texts() == {}
    output.SetAttribute("SynthGAN.ModelId", "any")
    assert windows.texts() == {"Red": ["SYNTHETIC"]}
    scene.RemoveNode(output)
    assert windows.texts() == {}


def test_annotation_moves_to_new_views(scene: Any, pair: Any, windows: Windows) -> None:
    views.compositeNode(scene, "Red").SetBackgroundVolumeID(pair[1].GetID())
    old = windows.renderers["vtkMRMLSliceNode", "Red"]
    windows.renderers["vtkMRMLSliceNode", "Red"] = vtk.vtkRenderer()
    views.compositeNode(scene, "Red").Modified()
    assert windows.texts() == {"Red": ["SYNTHETIC"]}
    assert old.GetViewProps().GetNumberOfItems() == 0


def test_annotation_after_the_scene_was_closed(scene: Any, pair: Any, windows: Windows) -> None:
    views.compositeNode(scene, "Red").SetBackgroundVolumeID(pair[1].GetID())
    scene.Clear(False)
    assert windows.texts() == {}
    result = synthetic(add(scene, values(2), "fake"))
    views.compositeNode(scene, "Green").SetBackgroundVolumeID(result.GetID())
    assert set(windows.texts()) == {"Green"}


def test_text_lies_in_the_upper_right_corner() -> None:
    actor = annotation.makeActor()
    renderer = vtk.vtkRenderer()
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetSize(400, 300)
    window.AddRenderer(renderer)
    corner = actor.GetPositionCoordinate().GetComputedDoubleViewportValue(renderer)
    np.testing.assert_allclose(corner, (0.98 * 400, 0.98 * 300), atol=2)
    style = actor.GetTextProperty()
    assert (style.GetJustificationAsString(), style.GetVerticalJustificationAsString()) == ("Right", "Top")


def test_without_windows_there_is_no_mouse() -> None:
    assert reveal.start(100) is None


def test_crosshair_goes_with_the_mouse_only_while_comparing(scene: Any, pair: Any) -> None:
    live = LiveComparison(scene)
    crosshair = views.findOrMake(scene, "vtkMRMLCrosshairNode", "default")
    crosshair.SetCrosshairRAS(0, 0, 0)
    live.show(*pair)
    crosshair.SetCursorPositionRAS((1.0, 2.0, 3.0))
    assert tuple(crosshair.GetCrosshairRAS()) == (1, 2, 3)
    crosshair.SetCursorPositionInvalid()
    assert tuple(crosshair.GetCrosshairRAS()) == (1, 2, 3)
    live.end()
    assert tuple(crosshair.GetCrosshairRAS()) == (0, 0, 0)
    crosshair.SetCursorPositionRAS((4.0, 5.0, 6.0))
    assert tuple(crosshair.GetCrosshairRAS()) == (0, 0, 0)
    live.show(*pair, None, compare.Choices(crosshair=False))
    crosshair.SetCursorPositionRAS((4.0, 5.0, 6.0))
    assert tuple(crosshair.GetCrosshairRAS()) == (0, 0, 0)
    live.end()


def test_profile_follows_its_line(scene: Any, pair: Any) -> None:
    live = LiveComparison(scene)
    live.show(*pair, None, compare.Choices(CompareMode.PROFILE))
    table = temporaryNodes.find(scene, "profile", "vtkMRMLTableNode")
    line = compare.current(scene).line
    lengths = [table.GetTable().GetValueByName(table.GetNumberOfRows() - 1, "Distance").ToDouble()]
    line.SetNthControlPointPositionWorld(1, *np.add(line.GetNthControlPointPositionWorld(0), (3, 0, 4)))
    lengths.append(table.GetTable().GetValueByName(table.GetNumberOfRows() - 1, "Distance").ToDouble())
    assert lengths[1] == pytest.approx(5.0)
    assert lengths[0] != pytest.approx(5.0)
    for node in pair:
        scene.RemoveNode(node)
    line.SetNthControlPointPositionWorld(1, 0, 0, 0)  # nothing to sample, nothing to stumble over
    live.end()
    assert not temporaryNodes.nodes(scene)


def test_checkerboard_follows_the_windows(scene: Any, pair: Any) -> None:
    live = LiveComparison(scene)
    live.show(*pair, None, compare.Choices(CompareMode.CHECKERBOARD, Against.SOURCE, cellMm=3.0))
    board = temporaryNodes.find(scene, "checkerboard", "vtkMRMLVectorVolumeNode")
    before = slicer.util.arrayFromVolume(board).copy()
    display = pair[1].GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(5000, 6000)  # all of it becomes black
    after = slicer.util.arrayFromVolume(board)
    assert temporaryNodes.find(scene, "checkerboard", "vtkMRMLVectorVolumeNode") is board
    changed = np.any(before != after, axis=-1)
    assert 0.3 < changed.mean() < 0.7
    assert (after[changed] == 0).all()
    live.end()


def test_blinking_shows_one_and_the_other(scene: Any, pair: Any) -> None:
    live = LiveComparison(scene)
    live.show(*pair, None, compare.Choices(CompareMode.BLINK))
    seen = []
    for _ in range(4):
        live.tick()
        seen.append(compare.fade(scene))
    assert seen == [1.0, 0.0, 1.0, 0.0]
    live.end()
    opacity = compare.fade(scene)
    live.tick()
    assert compare.fade(scene) == opacity


def test_another_layout_by_the_user_ends_it(scene: Any, layout: Any, pair: Any) -> None:
    live = LiveComparison(scene)
    live.show(*pair, None, compare.Choices(CompareMode.CHECKERBOARD))
    live.show(*pair, None, compare.Choices(CompareMode.FADE))
    assert compare.isShown(scene)  # a change of layout by the comparison itself is none by the user
    layout.SetViewArrangement(layout.SlicerLayoutConventionalView)
    assert not compare.isLeft(scene)
    assert not temporaryNodes.nodes(scene)
    assert layout.GetViewArrangement() == layout.SlicerLayoutConventionalView


def test_names_for_the_console() -> None:
    choices = compare.choicesFor("checkerboard", "reference", cellMm=7.0)
    assert (choices.mode, choices.against, choices.cellMm) == (CompareMode.CHECKERBOARD, Against.REFERENCE, 7.0)
    for names in (("flicker", "source"), ("fade", "nothing")):
        with pytest.raises(SynthesisError, match="Choose from 'sideBySide', 'fade'"):
            compare.choicesFor(*names)


def test_a_computation_reports_its_failure(scene: Any) -> None:
    told: list[Any] = []

    def fails() -> Iterator[float]:
        yield 0.5
        raise SynthesisError("No.")

    computation = Computation(fails(), lambda fraction, text: told.append(fraction), told.append)
    computation.start()
    with pytest.raises(SynthesisError, match="No"):
        computation.wait()
    assert told == [0.0, 0.5, computation]
    assert (computation.state, computation.running) == ("failed", False)


def test_a_comparison_that_fails_is_told_or_raised(scene: Any, pair: Any) -> None:
    live = LiveComparison(scene)
    source, result = pair
    told: list[Any] = []
    choices = compare.Choices(CompareMode.FADE, Against.REFERENCE)  # of which there is none
    live.begin(source, result, None, choices, failed=lambda error: told.append(str(error)))
    assert told == ["Choose a reference to compare with, or compare with the source."]
    with pytest.raises(SynthesisError, match="Choose a reference"):
        live.begin(source, result, None, choices)
    assert not live.isWorking
    assert not compare.isShown(scene)
    live.begin(source, result, None, compare.Choices(CompareMode.FADE), done=lambda: told.append("done"))
    assert told[1:] == ["done"]
    live.end()


@pytest.mark.parametrize(("view", "letter", "channel"), [("Red", "R", 0), ("Green", "G", 1), ("Red+", "R+", None)])
def test_view_made_without_windows_looks_as_in_the_application(
    scene: Any, tmp_path: Path, view: str, letter: str, channel: int | None
) -> None:
    """A scene that is saved without the application is opened in it: its views keep name, letter and color."""
    node = views.sliceNode(scene, view)
    assert (node.GetName(), node.GetLayoutName(), node.GetLayoutLabel()) == (view, view, letter)
    color = np.array(node.GetLayoutColor())
    assert channel is None or color.argmax() == channel
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(False)
    assert scene.ReadFromMRB(path, True, None)
    again = views.find(scene, "vtkMRMLSliceNode", view)
    assert (again.GetName(), again.GetLayoutLabel()) == (view, letter)
    np.testing.assert_allclose(again.GetLayoutColor(), color, atol=1e-5)


@pytest.mark.parametrize("now", [(256, 256), (500, 250), (100, 400), (300, 310)])
def test_field_of_view_of_a_window_of_another_shape(scene: Any, now: tuple[int, int]) -> None:
    """Pixels stay square, and the way back is exact; what was not square before keeps its own proportion."""
    red = views.sliceNode(scene, "Red")
    red.SetDimensions(400, 200, 1)
    red.SetFieldOfView(300, 150, 1)
    state = {**views.viewState(scene, "Red"), "background": None, "foreground": None, "label": None}
    red.SetDimensions(*now, 1)
    red.SetFieldOfView(7, 7, 1)
    views.putBack(scene, "Red", state)
    x, y, depth = red.GetFieldOfView()
    assert x / now[0] == pytest.approx(y / now[1])
    assert depth == 1
    assert x in (300, pytest.approx(150 * now[0] / now[1]))
    np.testing.assert_allclose(views.resized([x, y, depth], now, (400, 200, 1)), [300, 150, 1])
    views.putBack(scene, "Red", {key: value for key, value in state.items() if key != "dimensions"})
    assert red.GetFieldOfView() == (300, 150, 1)
