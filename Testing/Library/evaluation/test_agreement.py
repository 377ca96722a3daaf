"""Result and reference brought together, and what can be said without one: closed forms and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from SynthGANLib.errors import InputError
from SynthGANLib.evaluation import agreement
from SynthGANLib.evaluation.agreement import align, bland_altman, histogram, tissues
from SynthGANLib.evaluation.without_reference import blocks, dice, indicators
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr


@pytest.fixture
def ramp() -> Volume:
    """2 x + 3 y + 5 z mm, which linear interpolation reproduces exactly, on voxels of 2, 1 and 4 mm."""
    z, y, x = np.meshgrid(np.arange(8) * 4.0, np.arange(12), np.arange(10) * 2.0, indexing="ij")
    return Volume((2 * x + 3 * y + 5 * z).astype(np.float32), np.diag([2.0, 1.0, 4.0, 1.0]), "HU")


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    labels = draw_head(3, spacing=5.0)
    return simulate_mr(labels, "T1", 3), simulate_ct(labels, 3)


def test_a_reference_on_its_own_grid_is_not_interpolated(ramp: Volume) -> None:
    found = align(ramp, ramp.grid)
    assert found.interpolation == "none"
    assert found.covered.all()
    np.testing.assert_array_equal(found.volume.array, ramp.array)


def test_another_grid_is_interpolated_linearly_and_what_lies_beyond_is_told(ramp: Volume) -> None:
    affine = np.diag([1.5, 1.0, 2.0, 1.0])
    affine[:3, 3] = (-4.0, 2.0, 5.0)
    grid = Volume(np.zeros((9, 7, 8), np.float32), affine).grid
    found = align(ramp, grid)
    z, y, x = np.meshgrid(np.arange(9) * 2 + 5.0, np.arange(7) + 2.0, np.arange(8) * 1.5 - 4.0, indexing="ij")
    inner = (x >= 0) & (x <= 18) & (z <= 28) & (y <= 11)
    assert found.interpolation == "linear"
    assert inner.any()
    assert not inner.all()
    assert found.covered[inner].all()
    assert not found.covered[x < -1.0].any()  # beyond the border of the outermost voxel
    np.testing.assert_allclose(found.volume.array[inner], (2 * x + 3 * y + 5 * z)[inner], atol=1e-3)
    assert found.volume.array[~found.covered].max() == found.volume.array[found.covered].min()


def test_broken_values_are_not_covered(ramp: Volume) -> None:
    array = ramp.array.copy()
    array[2, 3, 4], array[0, 0, 0] = math.nan, math.inf
    found = align(ramp.with_array(array), ramp.grid)
    assert np.argwhere(~found.covered).tolist() == [[0, 0, 0], [2, 3, 4]]
    assert np.isfinite(found.volume.array).all()


def test_hardly_any_overlap_is_refused(ramp: Volume) -> None:
    for shift, fits in ((9.0, True), (40.0, False)):
        affine = ramp.affine.copy()
        affine[1, 3] = shift
        moved = Volume(ramp.array, affine, "HU")
        if fits:
            assert 0 < np.count_nonzero(align(moved, ramp.grid).covered) < ramp.array.size
        else:
            with pytest.raises(InputError, match=r"covers 0\.0 %") as refusal:
                align(moved, ramp.grid)
            assert "registration" in refusal.value.next_step


def test_tissues_divide_the_mask(pair: tuple[Volume, Volume]) -> None:
    _mr, ct = pair
    mask = ct.array > -900
    parts = tissues(ct, mask)
    assert list(parts) == ["air", "soft tissue", "bone"]
    assert sum(part.astype(int) for part in parts.values()).max() == 1
    assert np.array_equal(np.logical_or.reduce(list(parts.values())), mask)
    uptake = Volume(np.array([[[0.0, 2.4, 2.5, 9.0]]], np.float32), np.eye(4), "SUVbw")
    low, high = tissues(uptake, np.array([[[True, True, True, False]]])).values()
    assert low.tolist() == [[[True, True, False, False]]]
    assert high.tolist() == [[[False, False, True, False]]]
    assert tissues(Volume(ct.array, ct.affine, "1"), mask) == {}


def test_bland_altman_of_a_textbook_case() -> None:
    fake = np.array([1000.0, 1030.0, 1010.0, 1000.0], np.float32)
    real = np.array([1000.0, 1010.0, 1020.0, 990.0], np.float32)
    found = bland_altman(fake, real)
    differences = np.array([0.0, 20.0, -10.0, 10.0])
    assert found.mean == pytest.approx(5.0)
    assert found.deviation == pytest.approx(differences.std(ddof=1))
    assert found.limits == pytest.approx((5 - 1.96 * differences.std(ddof=1), 5 + 1.96 * differences.std(ddof=1)))
    np.testing.assert_allclose(found.points, np.stack([(fake + real) / 2, differences], axis=1))
    assert found.count == 4


def test_bland_altman_over_many_values_equals_numpy_and_repeats_itself() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(3000, 300, (1 << 20) + 7).astype(np.float32)  # more than one block
    fake = real + rng.normal(0.5, 2.0, real.size).astype(np.float32)
    found = bland_altman(fake, real)
    exact = fake.astype(np.float64) - real
    assert found.mean == pytest.approx(exact.mean(), rel=1e-9)
    assert found.deviation == pytest.approx(exact.std(ddof=1), rel=1e-9)
    assert found.points.shape == (agreement.MOST_POINTS, 2)
    assert len(np.unique(found.points[:, 0])) > 4900  # drawn all over, not the first ones again and again
    assert found.points[:, 1].mean() == pytest.approx(found.mean, abs=0.15)
    np.testing.assert_array_equal(found.points, bland_altman(fake, real).points)
    with pytest.raises(InputError, match="at least one"):
        bland_altman(fake[:0], real[:0])


def test_histogram_counts_every_value_once() -> None:
    rng = np.random.default_rng(2)
    values = {"a": rng.normal(0, 1, 300_000).astype(np.float32), "b": np.full(10, 2.0, np.float32)}
    found = histogram(values)
    assert found.percent["a"].sum() == pytest.approx(100)
    assert found.percent["b"].max() == 100
    assert found.centres[found.percent["b"].argmax()] == pytest.approx(2.0, abs=0.06)
    below = found.percent["a"][found.centres < 0].sum()
    assert below == pytest.approx(100 * np.mean(values["a"] < 0), abs=1.5)
    constant = histogram({"a": np.full(5, 7.0, np.float32)})
    assert constant.percent["a"].sum() == pytest.approx(100)
    with pytest.raises(InputError, match="needs values"):
        histogram({"a": np.empty(0, np.float32)})


def test_implausible_values_are_counted() -> None:
    array = np.zeros((2, 5, 5), np.float32)
    array[0, 0, :4] = (-1100, 4000, math.nan, math.inf)
    mask = np.zeros(array.shape, bool)
    mask[0, 0] = True
    for unit, share, inside in (("HU", 8.0, 80.0), ("SUVbw", 6.0, 60.0)):
        volume = Volume(array, np.eye(4), unit)
        whole, masked = indicators(volume)[0], indicators(volume, mask=mask)[0]
        assert (whole.value, whole.voxels) == (pytest.approx(share), 50)
        assert (masked.value, masked.voxels) == (pytest.approx(inside), 5)
    assert math.isnan(indicators(volume, mask=np.zeros(array.shape, bool))[0].value)


def test_a_result_that_lies_on_its_source_shares_more_with_it(pair: tuple[Volume, Volume]) -> None:
    mr, ct = pair
    names = [each.name for each in indicators(ct, mr)]
    assert names == [
        "Implausible values",
        "Outline shared with the source",
        "Information shared with the source",
        "Edges shared with the source",
    ]
    here = {each.name: each.value for each in indicators(ct, mr)}
    moved = {each.name: each.value for each in indicators(ct.with_array(np.roll(ct.array, 3, axis=1)), mr)}
    for name in names[1:]:
        assert here[name] > moved[name] + 0.01, name
    assert here["Outline shared with the source"] > 0.95


def test_an_image_without_body_or_edges_is_told_as_undefined(pair: tuple[Volume, Volume]) -> None:
    mr, _ct = pair
    flat = mr.with_array(np.zeros(mr.shape, np.float32))
    found = {each.name: each for each in indicators(flat, mr)}
    assert math.isnan(found["Outline shared with the source"].value)
    assert "shows no body" in found["Outline shared with the source"].meaning
    assert math.isnan(found["Edges shared with the source"].value)
    assert found["Information shared with the source"].value == 1.0
    with pytest.raises(InputError, match="source"):
        indicators(flat, Volume(np.zeros((2, 3, 4), np.float32), np.eye(4)))


def test_large_images_are_looked_at_in_blocks() -> None:
    array = np.arange(7 * 9 * 11, dtype=np.float32).reshape(7, 9, 11)
    coarse = blocks(array, most=100)
    assert coarse.shape == (2, 3, 3)
    assert coarse[1, 2, 0] == pytest.approx(array[3:6, 6:9, 0:3].mean())
    assert blocks(array) is array
    assert blocks(array[:1], most=30).shape == (1, 4, 5)  # a slice keeps its one layer


def test_dice() -> None:
    first = np.array([1, 1, 1, 0], bool)
    assert dice(first, np.array([0, 1, 1, 1], bool)) == pytest.approx(2 * 2 / 6)
    assert dice(first, first) == 1.0
    assert math.isnan(dice(~(first | True), np.zeros(4, bool)))
