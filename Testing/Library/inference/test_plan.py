"""The planner: even spacing, asked overlap, fewest computed voxels, memory kept."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from SynthGANLib.errors import MemoryExhaustedError, ModelError
from SynthGANLib.inference.plan import NEGLIGIBLE, TileRules, count_tiles, place_tiles, plan_tiles, stride

FREE = TileRules((8, 8, 8), (32, 32, 32), (256, 256, 256))


def test_spacing_is_even_covers_the_region_and_keeps_the_overlap() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        length = int(rng.integers(1, 300))
        low = int(rng.integers(0, length))
        high = int(rng.integers(low + 1, length + 1))
        extent = int(rng.integers(1, 120))
        overlap = float(rng.uniform(0, 0.9))
        axis = place_tiles(length, (low, high), extent, overlap)
        covered = np.zeros(length, dtype=bool)
        for start in axis.starts:
            covered[max(0, start) : start + extent] = True
        assert covered[low:high].all()
        if extent >= length:
            assert axis.starts == (-((extent - length) // 2),)
            continue
        assert axis.starts[0] >= 0
        assert axis.starts[-1] + extent <= length  # no window hangs over where the volume is long enough
        steps = np.diff(axis.starts)
        if len(steps):
            assert (axis.starts[0], axis.starts[-1] + extent) == (low, high)
            assert np.ptp(steps) <= 1
            assert extent - steps.max() >= math.floor(extent * overlap + 1e-9) or steps.max() == 1


def test_no_fewer_tiles_would_keep_the_overlap() -> None:
    for region, extent, overlap in itertools.product(range(20, 120, 7), range(8, 40, 3), (0.0, 0.25, 0.5)):
        count = count_tiles(region, extent, overlap)
        if count > 1:
            assert (count - 2) * stride(extent, overlap) + extent < region
            assert (count - 1) * stride(extent, overlap) + extent >= region


def test_plan_computes_as_few_voxels_as_an_exhaustive_search() -> None:
    shape, budget = (90, 130, 70), 60_000
    rules = TileRules((8, 4, 16), (16, 20, 16), (96, 80, 64), False, (0.25, 0.4, 0.0))
    plan = plan_tiles(shape, rules, bytes_per_voxel=1.0, budget=budget)
    best = math.inf
    for tile in itertools.product(range(16, 97, 8), range(20, 81, 4), range(16, 65, 16)):
        if math.prod(tile) <= budget:
            counts = []
            for length, extent, overlap in zip(shape, tile, rules.overlap, strict=True):
                count = 1
                step = extent - math.ceil(extent * overlap)
                while extent < length and (count - 1) * step + extent < length:
                    count += 1
                counts.append(count)
            best = min(best, math.prod(counts) * math.prod(tile))
    assert best <= plan.computed <= best * (1 + NEGLIGIBLE)
    assert math.prod(plan.tile) <= budget
    assert all(extent % multiple == 0 for extent, multiple in zip(plan.tile, rules.multiple, strict=True))


def test_a_card_without_a_multiple_is_planned_at_once() -> None:
    """Tens of millions of shapes are allowed: comparing each took gigabytes and most of a minute."""
    rules = TileRules((1, 1, 1), (8, 8, 8), (512, 512, 512))
    tracemalloc.start()
    try:
        large = plan_tiles((400, 512, 512), rules, bytes_per_voxel=400.0, budget=3 * 2**28)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()
    assert large.redundancy < 1.5


def test_comparing_fewer_shapes_computes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = TileRules((1, 1, 1), (5, 8, 3), (60, 50, 70), False, (0.25, 0.4, 0.0))
    for shape, budget in (((70, 90, 50), 20_000), ((33, 61, 120), 4_000), ((9, 100, 100), 900)):
        monkeypatch.setattr("SynthGANLib.inference.plan.MOST_COMBINATIONS", 10**9)
        monkeypatch.setattr("SynthGANLib.inference.plan.NEGLIGIBLE", 0.0)
        all_of_them = plan_tiles(shape, rules, bytes_per_voxel=1.0, budget=budget)
        monkeypatch.setattr("SynthGANLib.inference.plan.MOST_COMBINATIONS", 0)
        assert plan_tiles(shape, rules, bytes_per_voxel=1.0, budget=budget).computed == all_of_them.computed


def test_free_extents_halve_the_work_of_cubes_of_the_same_memory() -> None:
    shape, cube = (180, 256, 256), 96**3
    rules = TileRules((8,) * 3, (96,) * 3, (96,) * 3, True)
    fixed = plan_tiles(shape, rules, bytes_per_voxel=1.0, budget=cube)
    free = plan_tiles(shape, FREE, bytes_per_voxel=1.0, budget=round(cube * 1.34))
    assert fixed.count == 48
    assert fixed.redundancy == pytest.approx(48 * cube / math.prod(shape))
    assert free.redundancy <= 1.5
    assert fixed.computed / free.computed > 2.3


def test_more_memory_never_computes_more() -> None:
    budgets = [2**k for k in range(15, 25)]
    plans = [plan_tiles((100, 150, 200), FREE, bytes_per_voxel=1.0, budget=budget) for budget in budgets]
    computed = [plan.computed for plan in plans]
    assert all(after <= before * (1 + NEGLIGIBLE) for before, after in itertools.pairwise(computed))
    assert plans[-1].count == 1
    assert all(plan.tile_bytes <= budget for plan, budget in zip(plans, budgets, strict=True))


def test_region_in_the_middle_is_covered_with_real_neighbours() -> None:
    region = ((40, 50), (0, 20), (85, 100))
    plan = plan_tiles((100, 100, 100), FREE, bytes_per_voxel=1.0, budget=2**20, region=region)
    assert plan.count == 1
    for axis, (low, high) in zip(plan.axes, region, strict=True):
        first, end = axis.covered
        assert first <= low < high <= end
        assert end - first == axis.extent  # nothing padded, as the volume goes on


def test_batch_fills_the_budget_and_no_more() -> None:
    rules = TileRules((1,) * 3, (10,) * 3, (10,) * 3, True)
    for budget, batch in ((1000, 1), (2999, 2), (4000, 4), (10**9, 6)):
        plan = plan_tiles((40, 40, 40), rules, bytes_per_voxel=1.0, budget=budget, largest_batch=6)
        assert plan.batch == batch
    assert plan_tiles((10, 10, 10), rules, bytes_per_voxel=1.0, budget=10**9, largest_batch=6).batch == 1


def test_too_small_a_budget_is_refused_with_the_figures() -> None:
    words = r"32 x 32 x 32 voxels, takes about 32 MiB .* the 10 MiB"
    with pytest.raises(MemoryExhaustedError, match=words) as caught:
        plan_tiles((64, 64, 64), FREE, bytes_per_voxel=1024.0, budget=10 * 2**20)
    assert caught.value.next_step


def test_volume_smaller_than_the_smallest_tile_is_centred_in_it() -> None:
    plan = plan_tiles((5, 33, 1), FREE, bytes_per_voxel=1.0, budget=2**30)
    assert plan.tile == (32, 40, 32)
    assert [axis.starts for axis in plan.axes] == [(-13,), (-3,), (-15,)]
    assert [axis.covered for axis in plan.axes] == [(0, 5), (0, 33), (0, 1)]


def test_explanation_is_one_sentence_with_the_facts() -> None:
    rules = TileRules((8,) * 3, (96,) * 3, (96,) * 3, True)
    text = plan_tiles((180, 256, 256), rules, bytes_per_voxel=500.0, budget=2**30).explain()
    assert "48 tiles of 96 x 96 x 96 voxels" in text
    assert "at least 25 % overlap" in text
    assert "3.60 voxels computed per voxel" in text
    assert "422 MiB of the 1024 MiB" in text
    assert "on cpu" in text
    assert text.endswith(".")
    single = plan_tiles((32, 32, 32), FREE, bytes_per_voxel=1.0, budget=2**30).explain()
    assert single.startswith("1 tile of 32 x 32 x 32")
    assert "overlap" not in single


@pytest.mark.parametrize(
    "arguments",
    [
        ((8,) * 3, (16,) * 3, (8,) * 3),
        ((8,) * 3, (9,) * 3, (15,) * 3),
        ((0, 1, 1), (1,) * 3, (8,) * 3),
        ((1,) * 3, (1,) * 3, (8,) * 3, False, (0.25, 1.0, 0.25)),
    ],
)
def test_contradictory_rules_are_refused(arguments: tuple) -> None:
    with pytest.raises(ModelError):
        TileRules(*arguments)
