"""What comparisons compute: resampling, checkerboard, difference map, line profile and windows, on real nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SynthGANPanel.comparison import checkerboard, difference, profile
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.scene import resampling, windows
from Testing.Mrml.compare_cases import SHAPE, add, oblique, register_legend, translation, values

RAMP = np.array([3.0, -5.0, 7.0])  # per mm of R, A, S


def result_of(steps: Any) -> Any:
    """Exhaust the steps; what they return. What they yield must rise to 1."""
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            assert told == sorted(told)
            assert told[-1] == 1.0
            return end.value


def ramp_at(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A linear function of the world, (k, j, i), on the grid of an IJK-to-RAS matrix."""
    k, j, i = np.indices(shape)
    places = np.stack([i, j, k, np.ones(shape)], axis=-1) @ matrix.T
    return (places[..., :3] @ RAMP).astype(np.float32)


def test_same_grid_gives_the_voxels_themselves(scene: Any) -> None:
    first, second = add(scene, values(1), "first"), add(scene, values(2), "second")
    sampler = resampling.Sampler(first, second)
    assert sampler.isOwnGrid
    assert np.shares_memory(sampler.slab(1, 4), slicer.util.arrayFromVolume(first))
    second.SetAndObserveTransformNodeID(translation(scene, 0, 0, 1).GetID())
    assert not resampling.sameGrid(first, second)


def test_linear_function_survives_resampling(scene: Any) -> None:
    """Linear interpolation is exact for it, whatever the two grids and parent transforms are."""
    fine, coarse = oblique((0.5, 0.6, 0.7), turned=False), oblique((1.1, 0.8, 0.9))
    coarse[:3, 3] = (8.0, -2.0, 13.0)
    move = np.array([1.5, -2.5, 0.5])
    big = add(scene, ramp_at(fine, (40, 40, 40)), "big", matrix=fine)
    grid = add(scene, np.zeros((4, 5, 6), np.int16), "grid", matrix=coarse)
    big.SetAndObserveTransformNodeID(translation(scene, *move).GetID())
    moved = np.eye(4)
    moved[:3, 3] = -move
    sampled = resampling.Sampler(big, grid).slab(0, 4)
    expected = ramp_at(coarse, (4, 5, 6)) - move @ RAMP
    k, j, i = np.indices((4, 5, 6))
    indices = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ (np.linalg.inv(fine) @ moved @ coarse).T
    beyond = np.maximum(-indices, indices - 39)[..., :3].max(axis=-1)  # of the outermost centres, in voxels
    assert 0.2 < np.mean(beyond <= 0) < 1.0  # the grids overlap in part only
    np.testing.assert_allclose(sampled[beyond <= 0], expected[beyond <= 0], atol=2e-3)
    assert np.isfinite(sampled[beyond < 0.49]).all()
    assert np.isnan(sampled[beyond > 0.51]).all()
    parts = [resampling.Sampler(big, grid).slab(k, k + 1) for k in range(4)]
    np.testing.assert_array_equal(np.concatenate(parts), sampled)


def test_bent_transforms_are_followed(scene: Any) -> None:
    """A transform that is not linear, here one that bends by nothing but a shift, must give what the shift gives."""
    big = add(scene, ramp_at(oblique(), (12, 13, 14)), "big")
    grid = add(scene, np.zeros(SHAPE, np.int16), "grid")
    shift = translation(scene, 1.0, 2.0, 0.5)
    big.SetAndObserveTransformNodeID(shift.GetID())
    straight = resampling.Sampler(big, grid).slab(0, 6).copy()
    field = vtk.vtkImageData()
    field.SetDimensions(2, 2, 2)
    field.SetOrigin(-200, -200, -200)
    field.SetSpacing(400, 400, 400)
    field.GetPointData().SetScalars(numpy_to_vtk(np.tile([1.0, 2.0, 0.5], (8, 1))))
    bent = slicer.vtkOrientedGridTransform()
    bent.SetDisplacementGridData(field)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bent")
    node.SetAndObserveTransformToParent(bent)
    assert not node.IsTransformToWorldLinear()
    big.SetAndObserveTransformNodeID(node.GetID())
    followed = resampling.Sampler(big, grid).slab(0, 6)
    assert np.isfinite(straight).mean() > 0.2
    np.testing.assert_allclose(followed, straight, atol=1e-2)


def test_slabs_cover_every_slice_once(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = add(scene, values(), "any")
    monkeypatch.setattr(resampling, "VOXELS_AT_ONCE", 2 * SHAPE[1] * SHAPE[2] + 1)
    assert resampling.slabs(node) == [(0, 2), (2, 4), (4, 6)]


def test_interpolation_of_a_trilinear_function() -> None:
    k, j, i = np.indices((4, 5, 6)).astype(float)
    array = 2 + k - 3 * j + i * j * 0.5 + i * j * k
    places = np.random.default_rng(4).uniform((0, 0, 0), (3, 4, 5), (200, 3))
    z, y, x = places.T
    expected = 2 + z - 3 * y + x * y * 0.5 + x * y * z
    np.testing.assert_allclose(resampling.interpolate(array, places), expected, atol=1e-9)
    edge = np.array([[-0.5, 0, 0], [-0.6, 0, 0], [3.5, 4.5, 5.5], [0, 0, 5.6]])
    np.testing.assert_array_equal(np.isnan(resampling.interpolate(array, edge)), [False, True, False, True])
    assert resampling.interpolate(np.full((1, 1, 1), 7.0), np.zeros((1, 3)))[0] == 7.0


def test_cells_of_the_checkerboard() -> None:
    cells = checkerboard.parity((8, 6, 4), (1.0, 2.0, 3.0), 6.0)
    for k, j, i in np.ndindex(4, 6, 8):
        assert cells[k, j, i] == ((i // 6 + j // 3 + k // 2) % 2 == 0)
    np.testing.assert_array_equal(checkerboard.parity((8, 6, 2), (1.0, 2.0, 3.0), 6.0, 2), cells[2:])
    single = checkerboard.parity((4, 4, 4), (1.0, 2.0, 3.0), 0.1)  # never less than a voxel
    np.testing.assert_array_equal(single, np.indices((4, 4, 4)).sum(axis=0) % 2 == 0)


def test_checkerboard_shows_each_volume_in_its_own_window(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "VOXELS_AT_ONCE", SHAPE[1] * SHAPE[2])  # slice by slice
    mr, ct = add(scene, values(1, 0, 500), "mr"), add(scene, values(2), "ct", "HU")
    for node, (low, high) in ((mr, (100, 300)), (ct, (-200, 600))):
        node.GetDisplayNode().AutoWindowLevelOff()
        node.GetDisplayNode().SetWindowLevelMinMax(low, high)
    ct.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeInvertedGrey")
    board = result_of(checkerboard.steps(mr, ct, 2.6))
    colors = slicer.util.arrayFromVolume(board)
    assert colors.shape == (*SHAPE, 3)
    assert colors.dtype == np.uint8
    isMr = checkerboard.parity(SHAPE[::-1], ct.GetSpacing(), 2.6)
    assert 0.3 < isMr.mean() < 0.7
    grey = np.clip((values(1, 0, 500) - 100) / 200, 0, 1) * 255
    inverted = 255 - np.clip((values(2) + 200) / 800, 0, 1) * 255
    expected = np.where(isMr, grey, inverted)
    np.testing.assert_allclose(colors, np.repeat(expected[..., None], 3, axis=3), atol=2.0)
    assert board.GetTransformNodeID() == ct.GetTransformNodeID()
    assert resampling.sameGrid(board, ct)


def test_checkerboard_has_one_automatic_window_for_all_slabs(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slab that holds little but noise is shown as dark as the views show it."""
    monkeypatch.setattr(resampling, "VOXELS_AT_ONCE", SHAPE[1] * SHAPE[2])  # slice by slice
    array = values(1).astype(np.float32)
    array[0] = array[0] / 1000.0  # a first slice of nearly nothing
    first = add(scene, array, "first")
    first.GetDisplayNode().SetAutoWindowLevel(True)
    window, level = first.GetDisplayNode().GetWindow(), first.GetDisplayNode().GetLevel()
    board = result_of(checkerboard.steps(first, add(scene, values(2), "second"), 1e6))
    grey = slicer.util.arrayFromVolume(board)[..., 0].astype(float)
    expected = np.clip((array - (level - window / 2)) / window, 0, 1) * 255
    np.testing.assert_allclose(grey, expected, atol=1.5)


def test_checkerboard_marks_where_a_volume_ends(scene: Any) -> None:
    small = add(scene, np.full((2, 8, 10), 5, np.int16), "small")  # the first two of six slices
    large = add(scene, np.zeros(SHAPE, np.int16), "large")
    colors = slicer.util.arrayFromVolume(result_of(checkerboard.steps(small, large, 1.1)))
    isSmall = checkerboard.parity(SHAPE[::-1], large.GetSpacing(), 1.1)
    outside = np.all(colors == checkerboard.OUTSIDE_COLOR, axis=-1)
    expected = isSmall & (np.arange(6) > 1)[:, None, None]
    np.testing.assert_array_equal(outside, expected)


def test_checkerboard_of_colours(scene: Any) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (1, 8, 10, 3)).astype(np.uint8)
    first, second = add(scene, photo, "a"), add(scene, 255 - photo, "b")
    colors = slicer.util.arrayFromVolume(result_of(checkerboard.steps(first, second, 3.0)))
    isFirst = checkerboard.parity((10, 8, 1), second.GetSpacing(), 3.0)[..., None]
    expected = np.where(isFirst, photo, 255 - photo)
    np.testing.assert_allclose(colors.astype(int), expected, atol=1)  # the display pipeline rounds


def test_difference_is_synthetic_minus_real(scene: Any) -> None:
    register_legend(scene)
    real, fake = add(scene, values(1), "real", "HU"), add(scene, values(2), "fake", "HU")
    node = result_of(difference.steps(fake, real, 250.0))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), values(2) - values(1))
    assert node.GetName() == "fake minus real"
    assert node.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    assert resampling.sameGrid(node, fake)
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-250.0, 250.0)
    legend = next(
        node.GetNthDisplayNode(i) for i in range(2) if node.GetNthDisplayNode(i).IsA("vtkMRMLColorLegendDisplayNode")
    )
    assert legend.GetTitleText() == "Difference (HU)"
    assert legend.GetVisibility()
    assert legend.GetPrimaryDisplayNode() is display


def test_difference_of_whole_numbers_does_not_wrap(scene: Any) -> None:
    real = add(scene, np.full(SHAPE, 200, np.uint8), "real", "HU")
    fake = add(scene, np.full(SHAPE, 100, np.uint8), "fake", "HU")
    assert (slicer.util.arrayFromVolume(result_of(difference.steps(fake, real))) == -100).all()


def test_colours_of_the_difference(scene: Any) -> None:
    """White at zero, blue below, red above, mirror-like in saturation; nothing where there is no number."""
    array = np.zeros((4, 1, 3), np.float32)
    array[0], array[1], array[2] = -100, 0, 100
    fake = add(scene, array, "fake", "HU")
    real = add(scene, np.zeros((3, 1, 3), np.float32), "real", "HU")  # ends before the last slice
    node = result_of(difference.steps(fake, real, 100.0))
    assert np.isnan(slicer.util.arrayFromVolume(node)[3]).all()
    display = node.GetDisplayNode()
    display.SetInputImageDataConnection(node.GetImageDataConnection())
    producer = display.GetOutputImageDataConnection().GetProducer()
    producer.Update()
    rgba = vtk_to_numpy(producer.GetOutputDataObject(0).GetPointData().GetScalars()).reshape(4, 3, 4)[:, 0]
    below, zero, above, outside = rgba.astype(int)
    assert below[2] > below[0] + 80
    assert above[0] > above[2] + 80
    assert zero[:3].min() > 245
    assert (rgba[:3, 3] == 255).all()
    assert outside[3] == 0


def test_automatic_range_is_round_and_holds_nearly_all() -> None:
    for scale in (0.013, 1.0, 740.0):
        array = np.random.default_rng(0).normal(0, scale, (20, 20, 20)).astype(np.float32)
        array[0, 0, :5] = np.nan
        bound = difference.automaticRange(array)
        assert np.nanmean(np.abs(array) <= bound) >= 0.989
        assert bound <= 5 * np.nanpercentile(np.abs(array), 99)
        assert f"{bound:.0e}"[0] in "125"
    assert difference.automaticRange(np.zeros((2, 2, 2), np.float32)) == 1.0
    assert difference.automaticRange(np.full((2, 2, 2), np.nan, np.float32)) == 1.0


@pytest.mark.parametrize(
    ("source", "reference", "said"),
    [
        ("HU", None, ""),
        (None, None, "no common unit"),
        ("MR", None, "no common unit"),
        ("MR", "HU", ""),
        ("MR", "none", ""),
        ("MR", "SUVbw", "The reference 'reference' is in SUVbw, the synthetic volume in HU."),
    ],
)
def test_when_there_is_a_difference(scene: Any, source: str | None, reference: str | None, said: str) -> None:
    fake = add(scene, values(), "fake", "HU")
    real = None
    if reference is not None:
        real = add(scene, values(), "reference", None if reference == "none" else reference)
    reason = difference.obstacle(fake, add(scene, values(), "source", source), real)
    assert said in reason
    assert bool(said) == bool(reason)


def test_a_volume_removed_meanwhile_is_named(scene: Any) -> None:
    real, fake = add(scene, values(1), "real", "HU"), add(scene, values(2), "fake", "HU")
    for steps in (difference.steps(fake, real), checkerboard.steps(real, fake, 3.0)):
        next(steps)
        count = scene.GetNumberOfNodes()
        display = real.GetDisplayNode()
        scene.RemoveNode(real)
        with pytest.raises(SynthesisError, match="'real' was removed"):
            next(steps)
        assert scene.GetNumberOfNodes() == count - 1
        scene.AddNode(real)
        real.SetAndObserveDisplayNodeID(display.GetID())


def columns_of(scene: Any) -> dict[str, np.ndarray]:
    table = scene.GetFirstNodeByClass("vtkMRMLTableNode").GetTable()
    return {
        table.GetColumnName(index): vtk_to_numpy(table.GetColumn(index)) for index in range(table.GetNumberOfColumns())
    }


def test_profile_samples_the_world(scene: Any) -> None:
    fine, coarse = oblique((0.5, 0.6, 0.7)), oblique((1.1, 0.8, 0.9), turned=False)
    move = np.array([2.0, 0.0, -1.0])
    source = add(scene, ramp_at(fine, (30, 30, 30)), "mr", "MR", fine)
    fake = add(scene, 2 * ramp_at(fine, (30, 30, 30)), "ct", "HU", fine)
    real = add(scene, ramp_at(coarse, (20, 20, 20)), "real", "HU", coarse)
    real.SetAndObserveTransformNodeID(translation(scene, *move).GetID())
    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "line")
    ends = np.array([[12.0, -3.0, 16.0], [16.5, 0.5, 18.5]])
    for end in ends:
        line.AddControlPointWorld(*end)
    chart = profile.update(line, source, fake, real)
    columns = columns_of(scene)
    length = np.linalg.norm(ends[1] - ends[0])
    np.testing.assert_allclose(columns["Distance"], np.linspace(0, length, len(columns["Distance"])), atol=1e-9)
    assert len(columns["Distance"]) == np.ceil(length / 0.5 * 2) + 1
    world = ends[0] + columns["Distance"][:, None] / length * (ends[1] - ends[0])
    wanted = {"Source": world @ RAMP, "Synthetic": 2 * world @ RAMP, "Reference": (world - move) @ RAMP}
    for name, expected in wanted.items():
        inside = np.isfinite(columns[name])
        assert inside.mean() > 0.5, name
        np.testing.assert_allclose(columns[name][inside], expected[inside], atol=1e-2, err_msg=name)
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    assert chart.GetXAxisTitle() == "Distance along the line (mm)"
    assert chart.GetYAxisTitle() == "Value (HU)"
    series = [chart.GetNthPlotSeriesNode(index) for index in range(3)]
    assert [each.GetName() for each in series] == ["mr (scaled to fit)", "ct", "real"]
    assert [each.GetYColumnName() for each in series] == ["Source scaled", "Synthetic", "Reference"]
    assert all(each.GetTableNode() is not None for each in series)


def test_profile_of_one_unit_is_not_scaled_and_follows_the_volumes(scene: Any) -> None:
    low, fake, real = (add(scene, values(seed), name, "HU") for seed, name in ((1, "low"), (2, "fake"), (3, "real")))
    line = profile.defaultLine(fake, oblique())
    assert profile.defaultLine(fake, np.eye(4)) is line
    chart = profile.update(line, low, fake, real)
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    assert "Source scaled" not in columns_of(scene)
    profile.update(line, low, fake, None)
    assert [chart.GetNthPlotSeriesNode(index).GetName() for index in range(chart.GetNumberOfPlotSeriesNodes())] == [
        "low", "fake",
    ]  # fmt: skip
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 2
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1


def test_default_line_crosses_the_middle_in_the_slice_that_is_shown(scene: Any) -> None:
    node = add(scene, values(), "any")
    node.SetAndObserveTransformNodeID(translation(scene, 4, 5, 6).GetID())
    axes = oblique() / np.linalg.norm(oblique(), axis=0)
    middle = np.add((oblique() @ [*(np.array(SHAPE[::-1]) - 1) / 2, 1])[:3], (4, 5, 6))
    plane = np.eye(4)
    plane[:3, :3] = axes[:3, [1, 0, 2]]  # the voxel axis j runs across, k through the slice
    plane[:3, 3] = middle + 3.0 * axes[:3, 2] + 20.0 * axes[:3, 0]
    places = profile.points(profile.defaultLine(node, plane), node)
    np.testing.assert_allclose(places.mean(axis=0), middle + 3.0 * axes[:3, 2], atol=1e-6)
    way = (places[-1] - places[0]) / np.linalg.norm(places[-1] - places[0])
    np.testing.assert_allclose(way, axes[:3, 1], atol=1e-6)


def test_unfinished_line_leaves_the_plot_as_it_is(scene: Any) -> None:
    node = add(scene, values(), "any", "HU")
    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "line")
    line.AddControlPointWorld(0, 0, 0)
    assert profile.update(line, node, node, None).GetNumberOfPlotSeriesNodes() == 0
    assert profile.update(None, node, node, None).GetNumberOfPlotSeriesNodes() == 0


def test_scaling_maps_extremes_onto_extremes() -> None:
    scaled = profile.scaledTo(np.array([2.0, np.nan, 4.0, 3.0]), np.array([10.0, 20.0, np.nan, 12.0]))
    np.testing.assert_array_equal(scaled, [10.0, np.nan, 20.0, 15.0])
    assert np.isnan(profile.scaledTo(np.ones(3), np.arange(3.0))).all()


def test_windows_suit_the_unit(scene: Any) -> None:
    ct, pet, mr = (add(scene, values(), unit, unit) for unit in ("HU", "SUVbw", "MR"))
    offered = {node.GetName(): [key for key, _text in windows.presets(node)] for node in (ct, pet, mr)}
    assert {"CT_BRAIN", "CT_BONE", "CT_LUNG"} < set(offered["HU"])
    assert {"suv5", "suv10"} < set(offered["SUVbw"])
    assert offered["MR"] == ["percentiles", "range", "automatic"]
    assert windows.presets(add(scene, np.zeros((1, 2, 2, 3), np.uint8), "photo")) == []
    assert windows.presets(None) == []
    for node, preset, bounds in (
        (ct, "CT_BRAIN", (0.0, 100.0)),
        (ct, "CT_LUNG", (-1200.0, 200.0)),
        (pet, "suv5", (0.0, 5.0)),
        (mr, "range", (values().min(), values().max())),
        (mr, "percentiles", np.percentile(values(), (1, 99))),
    ):
        windows.apply(node, preset)
        display = node.GetDisplayNode()
        assert not display.GetAutoWindowLevel()
        np.testing.assert_allclose((display.GetWindowLevelMin(), display.GetWindowLevelMax()), bounds, rtol=1e-6)
    windows.apply(ct, "automatic")
    assert ct.GetDisplayNode().GetAutoWindowLevel()
    for preset, text in windows.presets(ct):
        assert text, preset
