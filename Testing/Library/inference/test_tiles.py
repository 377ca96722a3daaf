"""Tiles out of a volume and back: exact weights, mirrored borders, skipped air, nothing overwritten."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from inference_cases import noise, run

from SynthGANLib.errors import CancelledError, ModelError
from SynthGANLib.image.grid import reflected
from SynthGANLib.inference.plan import place_tiles
from SynthGANLib.inference.progress import Reporter
from SynthGANLib.inference.tiles import axis_weights, crop, profile, tiles_of

SHAPES = [(17, 23, 31), (8, 8, 8), (5, 40, 3), (1, 30, 30), (1, 1, 1)]


def test_profile_is_symmetric_and_never_zero() -> None:
    for extent in (1, 2, 7, 96, 511):
        weights = profile(extent)
        assert (weights.astype(np.float32) > 0).all()
        np.testing.assert_allclose(weights, weights[::-1], rtol=1e-12)
        assert weights.max() <= 1.0


@pytest.mark.parametrize(
    ("length", "extent", "overlap"), [(100, 24, 0.25), (97, 30, 0.5), (10, 16, 0.25), (64, 9, 0.8)]
)
def test_weights_along_an_axis_add_up_to_one(length: int, extent: int, overlap: float) -> None:
    axis = place_tiles(length, (0, length), extent, overlap)
    total = np.zeros(length + 2 * extent)
    for start, weights in zip(axis.starts, axis_weights(axis), strict=True):
        assert weights.min() > 0
        total[start + extent : start + 2 * extent] += weights
    np.testing.assert_allclose(total[extent : extent + length], 1.0, atol=2e-7)


def test_mirrored_indices_are_those_of_numpy() -> None:
    for length, before, after in itertools.product((1, 2, 3, 10), (0, 1, 5, 23), (0, 1, 7, 31)):
        padded = np.pad(np.arange(length), (before, after), mode="reflect" if length > 1 else "edge")
        np.testing.assert_array_equal(reflected(-before, before + length + after, length), padded)


def test_crop_inside_is_a_view_and_outside_is_mirrored() -> None:
    array = noise((9, 10, 11))
    inside = crop(array, (2, 3, 4), (5, 6, 7))
    assert np.shares_memory(inside, array)
    np.testing.assert_array_equal(inside, array[2:7, 3:9, 4:11])
    outside = crop(array, (-4, 3, 5), (16, 4, 16))
    padded = np.pad(array, ((4, 3), (0, 0), (0, 10)), mode="reflect")
    np.testing.assert_array_equal(outside, padded[:, 3:7, 5:21])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_identity_is_reproduced_to_rounding_everywhere(shape: tuple[int, int, int], batch: int) -> None:
    source = noise(shape, low=-1024, high=3071)
    result, _, plan = run(source, (8, 12, 10), batch=batch)
    np.testing.assert_allclose(result[0], source, rtol=5e-7, atol=0)
    counts = np.zeros(shape, dtype=int)
    for tile in tiles_of(plan):
        counts[tile.window] += 1
    once = counts == 1
    assert counts.min() == 1
    np.testing.assert_array_equal(result[0][once], source[once])  # bit for bit where no tiles meet


def test_blending_equals_a_plain_sum_over_a_count_map() -> None:
    """The textbook way, in float64 with a volume of weights, on predictions that differ from tile to tile."""
    source = noise((20, 22, 24), 3)
    calls = itertools.count(1)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return x * next(calls)

    result, count, plan = run(source, (8, 10, 12), forward, overlap=0.3)
    total, weights = np.zeros(source.shape), np.zeros(source.shape)
    box = np.multiply.outer(np.multiply.outer(profile(8), profile(10)), profile(12))
    places = itertools.product(*(axis.starts for axis in plan.axes))
    for number, (z, y, x) in enumerate(places, start=1):
        window = (slice(z, z + 8), slice(y, y + 10), slice(x, x + 12))
        total[window] += box * source[window] * number
        weights[window] += box
    assert number == count == plan.count
    np.testing.assert_allclose(result[0], total / weights, rtol=2e-5, atol=1e-5)


def test_constant_stays_constant_and_channels_stay_apart() -> None:
    source = noise((15, 16, 17, 2))

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 1], x[:, 0], 0 * x[:, 0] + 7], dim=1)

    result, _, _ = run(source, (8, 8, 8), forward, channels=3)
    np.testing.assert_allclose(result[0], source[..., 1], rtol=5e-7)
    np.testing.assert_allclose(result[1], source[..., 0], rtol=5e-7)
    np.testing.assert_allclose(result[2], 7.0, rtol=5e-7)


@pytest.mark.parametrize("batch", [1, 2])
def test_neither_volume_nor_network_output_is_written(batch: int) -> None:
    """A network that returns its own input, and one that returns the same tensor each time."""
    source = noise((16, 16, 16))
    before = source.copy()
    result, _, _ = run(source, (8, 8, 8), lambda x: x, batch=batch)
    np.testing.assert_array_equal(source, before)
    np.testing.assert_allclose(result[0], source, rtol=5e-7)
    kept = torch.full((batch, 1, 8, 8, 8), 2.0)
    result, _, _ = run(source, (8, 8, 8), lambda x: kept[: len(x)], batch=batch)
    assert bool((kept == 2.0).all())
    np.testing.assert_allclose(result, 2.0, rtol=5e-7)
    run(source, (8, 8, 8), lambda x: x.add_(5.0), batch=batch)
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("background", [0.0, -1.0])
def test_tiles_without_body_are_skipped_and_hold_background(background: float) -> None:
    source = noise((24, 24, 24), 5)
    mask = np.zeros(source.shape, dtype=bool)
    mask[2:6, 3:7, 1:7] = True
    seen: list[int] = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x.clone()

    result, count, plan = run(source, (8, 8, 8), forward, mask=mask, background=background, batch=4)
    assert 0 < count < plan.count
    assert sum(seen) == count
    np.testing.assert_allclose(result[0][mask], source[mask], rtol=5e-7)
    np.testing.assert_allclose(result[0][-8:], background, atol=1e-6)
    empty, count, _ = run(source, (8, 8, 8), forward, mask=np.zeros_like(mask), background=background)
    assert count == 0
    np.testing.assert_allclose(empty, background, atol=1e-6)


def test_broken_networks_are_named() -> None:
    source = noise((8, 8, 8))
    with pytest.raises(ModelError, match=r"shape \(1, 1, 4, 4, 4\).*\(1, 1, 8, 8, 8\)"):
        run(source, (8, 8, 8), lambda x: x[..., ::2, ::2, ::2])
    with pytest.raises(ModelError, match="not finite"):
        run(source, (8, 8, 8), lambda x: x / 0.0)
    huge, _, _ = run(source, (8, 8, 8), lambda x: 0 * x + 3e38)  # finite, though its sum is not
    np.testing.assert_allclose(huge, 3e38, rtol=5e-7)


@pytest.mark.parametrize("batch", [1, 4])
def test_cancel_is_asked_before_every_tile(batch: int) -> None:
    source = noise((16, 16, 16))
    for wanted in (0, 1, 5):
        asked, computed = itertools.count(), []

        def forward(x: torch.Tensor) -> torch.Tensor:
            computed.append(len(x))  # noqa: B023 - used up within this turn of the loop
            return x.clone()

        reporter = Reporter(None, lambda: next(asked) >= wanted)  # noqa: B023
        with pytest.raises(CancelledError):
            run(source, (8, 8, 8), forward, batch=batch, reporter=reporter)
        assert sum(computed) == wanted // batch * batch
