"""Degradations: what they keep, what they take away, and that a generator decides all of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from list_cases import affine, head
from torch import Generator

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.degrade import (
    kept_frequencies,
    landmarks,
    low_dose,
    motion,
    random_squares,
    truncate_kspace,
)


def draw(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def mr() -> np.ndarray:
    return head(1, (3, 48, 41))[0]


EVERY: dict[str, Callable[[object, Generator], object]] = {
    "motion": lambda image, g: motion(image, g),  # type: ignore[type-var]
    "low dose": lambda image, g: low_dose(image, g),  # type: ignore[type-var]
    "truncation": lambda image, g: truncate_kspace(image),  # type: ignore[type-var]
}


@pytest.mark.parametrize("name", EVERY)
def test_volumes_stay_on_their_grid_and_nothing_is_changed(name: str, mr: np.ndarray) -> None:
    clean = Volume(mr, affine(), "1", {"modality": "MR"})
    before = mr.copy()
    result = EVERY[name](clean, draw())
    assert isinstance(result, Volume)
    assert result.grid.same_as(clean.grid)
    assert (result.unit, result.meta, result.array.dtype) == (clean.unit, clean.meta, np.float32)
    assert np.array_equal(mr, before)
    assert not np.array_equal(result.array, mr)
    assert np.array_equal(result.array, EVERY[name](mr, draw()))


@pytest.mark.parametrize("name", ["motion", "low dose"])
def test_the_generator_decides(name: str, mr: np.ndarray) -> None:
    assert not np.array_equal(EVERY[name](mr, draw(1)), EVERY[name](mr, draw(2)))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    EVERY[name](mr, draw())
    assert torch.equal(torch.random.get_rng_state(), before)  # the global generator is not touched


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5, 3), (0, 4, 5)])
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="takes an image"):
        EVERY[name](np.zeros(shape, np.float32), draw())


@pytest.mark.parametrize("still", [{"states": 1}, {"degrees": 0.0, "pixels": 0.0}])
def test_without_motion_nothing_moves(mr: np.ndarray, still: dict[str, float]) -> None:
    assert np.abs(motion(mr, draw(), **still) - mr).max() < 1e-5 * mr.max()  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", ["y", "x"])
def test_motion_smears_along_the_phase_encoding_direction(axis: str) -> None:
    point = np.zeros((1, 64, 64), np.float32)
    point[0, 30:34, 30:34] = 1.0
    smeared = motion(point, draw(3), states=6, degrees=0.0, pixels=6.0, axis=axis)
    ghosts = np.abs(smeared[0] - point[0])
    along, across = (0, 1) if axis == "y" else (1, 0)
    # Shifts move the object by up to 6 px in both directions, the missing coherence goes along the phase encoding.
    assert ghosts.sum(axis=across)[:20].sum() > 3 * ghosts.sum(axis=along)[:20].sum()


def test_motion_keeps_the_image_in_place(mr: np.ndarray) -> None:
    for seed in range(6):
        corrupted = motion(mr, draw(seed), states=4)
        # The complex image keeps its mean exactly, and magnitudes cannot have a smaller one.
        assert 1 - 1e-5 < corrupted.mean() / mr.mean() < 1.25
        scores = {
            shift: float(np.corrcoef(np.roll(corrupted, shift, 1).ravel(), mr.ravel())[0, 1]) for shift in range(-3, 4)
        }
        assert max(scores, key=scores.__getitem__) == 0  # the centre of k-space did not move
        assert scores[0] < 0.9999


def test_all_slices_move_alike(mr: np.ndarray) -> None:
    same = np.repeat(mr[1:2], 3, axis=0)
    moved = motion(same, draw())
    assert np.allclose(moved[0], moved[2], atol=1e-3)


@pytest.mark.parametrize("wrong", [{"states": 0}, {"degrees": -1.0}, {"pixels": -1.0}, {"axis": "z"}])
def test_impossible_motion(mr: np.ndarray, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        motion(mr, draw(), **wrong)  # type: ignore[arg-type]


def test_thinning_keeps_the_mean_and_multiplies_poisson_variance_by_four() -> None:
    counts = torch.poisson(torch.full((64, 64, 64), 60.0), generator=draw(7)).numpy()
    full = counts * 0.05  # some SUV per count
    thin = low_dose(full, draw(), fraction=0.25, counts=60.0)
    assert thin.mean() == pytest.approx(full.mean(), rel=0.002)
    assert thin.var() / full.var() == pytest.approx(4.0, rel=0.03)
    assert thin.min() >= 0


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_thinning_of_a_noiseless_image_follows_the_binomial(fraction: float) -> None:
    full = np.full((48, 48, 48), 2.0, np.float32)
    thin = low_dose(full, draw(), fraction=fraction, counts=50.0)
    assert thin.mean() == pytest.approx(2.0, rel=0.01)
    assert thin.var() == pytest.approx(2.0**2 * (1 - fraction) / fraction / 50.0, rel=0.03)


def test_few_counts_keep_their_mean_by_chance_rounding() -> None:
    thin = low_dose(np.full((64, 64, 64), 3.0, np.float32), draw(), counts=0.3)
    assert thin.mean() == pytest.approx(3.0, rel=0.02)


def test_full_dose_and_negative_voxels_stay(mr: np.ndarray) -> None:
    assert np.array_equal(low_dose(mr, draw(), fraction=1.0), mr)
    mixed = np.array([[[-1.5, 0.0, 4.0]]], np.float32)
    assert low_dose(mixed, draw())[0, 0, :2].tolist() == [-1.5, 0.0]
    assert np.array_equal(low_dose(np.zeros((2, 3, 4)), draw()), np.zeros((2, 3, 4)))


def test_smoothing_is_in_millimetres() -> None:
    point = np.zeros((31, 31, 61), np.float32)
    point[15, 15, 30] = 1000.0
    smooth = low_dose(point, draw(), fraction=1.0, smooth_mm=6.0, spacing=(1.0, 2.0, 2.0))
    assert smooth.sum() == pytest.approx(1000.0, rel=1e-3)
    for axis, step in ((0, 2.0), (1, 2.0), (2, 1.0)):
        line = smooth.sum(axis=tuple(other for other in range(3) if other != axis))
        place = np.arange(len(line)) * step
        mean = (line * place).sum() / line.sum()
        deviation = np.sqrt((line * (place - mean) ** 2).sum() / line.sum())
        assert deviation * 2.3548 == pytest.approx(6.0, rel=0.02)
    volume = Volume(point, np.diag([1.0, 2.0, 2.0, 1.0]), "SUVbw")
    assert np.array_equal(low_dose(volume, draw(), fraction=1.0, smooth_mm=6.0).array, smooth)


@pytest.mark.parametrize("wrong", [{"fraction": 0.0}, {"fraction": 1.1}, {"counts": 0.0}, {"smooth_mm": -1.0}])
def test_impossible_doses(mr: np.ndarray, wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        low_dose(mr, draw(), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 48, 41), (4, 8, 9), (1, 1, 1)])
def test_factor_one_is_the_identity(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    image = rng.normal(100, 30, shape).astype(np.float32)
    assert np.abs(truncate_kspace(image, factors=(1, 1, 1)) - image).max() < 1e-5 * np.abs(image).max()


@pytest.mark.parametrize("factors", [(1.0, 2.0, 2.0), (2.0, 1.0, 3.0), (1.0, 1.5, 4.0)])
@pytest.mark.parametrize("shape", [(6, 48, 41), (5, 32, 32)])
def test_truncation_is_band_limited_and_exact_within_the_band(
    shape: tuple[int, int, int], factors: tuple[float, float, float], rng: np.random.Generator
) -> None:
    image = rng.normal(100, 30, shape).astype(np.float32)
    low = truncate_kspace(image, factors=factors)
    assert low.shape == image.shape
    spectrum, clean = np.fft.fftn(low.astype(np.float64)), np.fft.fftn(image.astype(np.float64))
    inside = np.ones(shape, bool)
    for axis, (extent, factor) in enumerate(zip(shape, factors, strict=True)):
        # The definition again, independently: wave numbers below the reduced Nyquist frequency.
        waves = np.minimum(np.arange(extent), extent - np.arange(extent))
        keep = waves < extent / factor / 2 if factor > 1 else np.ones(extent, bool)
        assert np.array_equal(keep | (waves == 0), kept_frequencies(extent, factor))
        inside &= np.expand_dims(keep | (waves == 0), tuple(other for other in range(3) if other != axis))
    energy = np.abs(spectrum) ** 2
    assert energy[~inside].sum() < 1e-6 * energy.sum()
    assert energy[~inside].sum() < 1e-6 * (np.abs(clean[~inside]) ** 2).sum()
    assert np.abs(spectrum - clean)[inside].max() < 1e-5 * np.abs(clean).max()
    assert low.mean() == pytest.approx(image.mean(), rel=1e-6)
    assert truncate_kspace(low, factors=factors) == pytest.approx(low, abs=1e-3)


@pytest.mark.parametrize("factors", [(0.5, 1, 1), (1, 2)])
def test_impossible_truncation(mr: np.ndarray, factors: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        truncate_kspace(mr, factors=factors)  # type: ignore[arg-type]


def disc(*shape: int, radius: float) -> torch.Tensor:
    places = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    return (sum(place**2 for place in places) < radius**2).float()[None, None]  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(48, 40), (24, 28, 26)])
def test_squares_stay_in_the_body_and_reach_all_of_it(shape: tuple[int, ...]) -> None:
    body = disc(*shape, radius=11.0)
    squares = random_squares(body.expand(80, *body.shape[1:]), 6, draw())
    assert squares.shape == (80, 1, *shape)
    assert set(squares.unique().tolist()) == {0.0, 1.0}
    assert (squares.flatten(1).sum(1) == 6 ** len(shape)).all()
    assert (squares * (1 - body)).sum() == 0
    covered = squares.amax(0)[0] * body[0, 0]
    assert covered.sum() > 0.6 * body.sum()
    assert torch.equal(squares, random_squares(body.expand(80, *body.shape[1:]), 6, draw()))


def test_a_square_that_fits_nowhere_takes_the_most_body() -> None:
    body = torch.zeros(1, 1, 20, 20)
    body[..., 8:11, 8:11] = 1
    (square,) = random_squares(body, (5, 7), draw())
    assert (square * body[0]).sum() == 9
    with pytest.raises(InputError, match="does not fit"):
        random_squares(body, 21, draw())


def test_landmarks_are_channels_in_order_and_binary() -> None:
    masks = [np.zeros((1, 4, 5), np.uint8) for _ in range(3)]
    for number, mask in enumerate(masks):
        mask[0, number, number] = (255, 1, 7)[number]
    vessels, optic_disc, cup = (Volume(mask, np.eye(4), "label") for mask in masks)
    full = landmarks(vessels, optic_disc, cup)
    assert full.array.shape == (1, 4, 5, 3)
    assert (full.unit, full.array.dtype) == ("label", np.uint8)
    for channel in range(3):
        assert np.argwhere(full.array[..., channel]).tolist() == [[0, channel, channel]]
    assert full.array.max() == 1
    without = landmarks(vessels, None, cup)
    assert not without.array[..., 1].any()
    assert np.array_equal(without.array[..., ::2], full.array[..., ::2])
    with pytest.raises(InputError, match="No landmark"):
        landmarks(None)
    with pytest.raises(InputError, match="on one grid"):
        landmarks(vessels, Volume(np.zeros((1, 4, 6), np.uint8), np.eye(4), "label"))
