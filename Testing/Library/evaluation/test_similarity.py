"""SSIM and MS-SSIM against scikit-image, the challenges' definitions written out plainly, and closed forms."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from SynthGANLib.evaluation import similarity
from SynthGANLib.evaluation.similarity import ms_ssim, ms_ssim_synthrad2025, ssim

WIDTH = 4095.0
C1, C2 = (0.01 * WIDTH) ** 2, (0.03 * WIDTH) ** 2
MULTI = (ms_ssim, ms_ssim_synthrad2025)


def smooth(shape, seed=0):
    """A random image with structure on several scales, within the range."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    found = sum(s**1.5 * gaussian_filter(rng.normal(0, 400, shape), s) for s in (0.5, 1, 2, 4))
    return np.clip(found + 1200, 0, WIDTH)


def pair(shape, seed=0, noise=150.0):
    x = smooth(shape, seed)
    y = np.clip(0.9 * x + np.random.default_rng(seed + 1).normal(40, noise, shape), 0, WIDTH)
    return x, y


def some(shape, seed=3):
    return np.random.default_rng(seed).random(shape) > 0.5


def looped_ssim(x, y, mask, window):
    """Mean over the mask of SSIM, window by window, in plain numpy."""
    half, found = [w // 2 for w in window], []
    for at in itertools.product(*(range(h, n - h) for h, n in zip(half, x.shape, strict=True))):
        if mask[at]:
            place = tuple(slice(i - h, i + h + 1) for i, h in zip(at, half, strict=True))
            a, b = x[place].ravel(), y[place].ravel()
            (va, ab), (_, vb) = np.cov(a, b)  # sample covariance
            ma, mb = a.mean(), b.mean()
            found.append((2 * ma * mb + C1) * (2 * ab + C2) / ((ma**2 + mb**2 + C1) * (va + vb + C2)))
    return np.mean(found)


def filtered_moments(x, y):
    from scipy.ndimage import uniform_filter

    ratio = 7**x.ndim / (7**x.ndim - 1)
    mx, my = uniform_filter(x, 7), uniform_filter(y, 7)
    return (
        mx,
        my,
        ratio * (uniform_filter(x * x, 7) - mx * mx),
        ratio * (uniform_filter(y * y, 7) - my * my),
        ratio * (uniform_filter(x * y, 7) - mx * my),
    )


def padded(x, y, mask):
    width = [((97 - n) // 2, 97 - n - (97 - n) // 2) if n < 97 else (0, 0) for n in x.shape]
    return [np.pad(v, width, mode="edge") for v in (x, y, mask)]


def synthrad2025(x, y, mask):
    """The masked multi-scale value of the SynthRAD2025 evaluation, from its description, with scipy."""
    from scipy.signal import fftconvolve

    found = 1.0
    x, y, mask = padded(x, y, mask)
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        mx, my, vx, vy, xy = filtered_moments(x, y)
        deviations = np.sqrt(np.maximum(vx, 0)) * np.sqrt(np.maximum(vy, 0))
        luminance = np.maximum((2 * mx * my + C1) / (mx**2 + my**2 + C1), 0)
        contrast = np.maximum((2 * deviations + C2) / (vx + vy + C2), 0)
        structure = np.maximum((xy + C2 / 2) / (deviations + C2 / 2), 0)
        inner = (slice(3, -3),) * x.ndim
        chosen = (luminance**weight * contrast**weight * structure**weight)[inner][mask[inner]]
        found *= np.clip(chosen.mean(), 0, 1)
        box, even = np.ones((2,) * x.ndim) / 2**x.ndim, (slice(None, None, 2),) * x.ndim
        x, y = (fftconvolve(v, box, mode="same")[even] for v in (x, y))
        mask = mask[even]
    return found


def wang2003(x, y, mask):
    """Contrast and structure on each scale, luminance on the last one, with scipy.

    A coarser voxel is the mean of an even one and the next (along every axis), the last one's with itself.
    """
    from scipy.ndimage import uniform_filter

    found = 1.0
    x, y, mask = padded(x, y, mask)
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mx, my, vx, vy, xy = filtered_moments(x, y)
        term = (2 * xy + C2) / (vx + vy + C2)
        if scale == 4:
            term = term * (2 * mx * my + C1) / (mx**2 + my**2 + C1)
        inner = (slice(3, -3),) * x.ndim
        found *= max(term[inner][mask[inner]].mean(), 0) ** weight
        even = (slice(None, None, 2),) * x.ndim
        x, y = (uniform_filter(v, 2, origin=-1, mode="nearest")[even] for v in (x, y))
        mask = mask[even]
    return found


@pytest.mark.parametrize("shape", [(40, 31), (12, 15, 11)])
def test_ssim_equals_scikit_image(shape):
    from skimage.metrics import structural_similarity

    x, y = pair(shape)
    expected, chart = structural_similarity(x, y, data_range=WIDTH, full=True)
    assert ssim(x, y, WIDTH) == pytest.approx(expected, abs=1e-12)
    mask = some(shape)
    inner = (slice(3, -3),) * len(shape)
    assert ssim(x, y, WIDTH, mask) == pytest.approx(chart[inner][mask[inner]].mean(), abs=1e-12)


@pytest.mark.parametrize("shape", [(11, 12, 10), (5, 12, 10), (4, 9, 2)])
def test_ssim_equals_plain_loops_and_shrinks_its_window_to_a_short_axis(shape):
    x, y = pair(shape)
    window = tuple(max(w for w in (1, 3, 5, 7) if w <= n) for n in shape)
    assert similarity.window_of(shape) == window
    mask = some(shape)
    assert ssim(x, y, WIDTH, mask) == pytest.approx(looped_ssim(x, y, mask, window), abs=1e-10)


def test_a_coarser_image_is_the_one_the_challenge_computes():
    from scipy.signal import fftconvolve

    for shape in ((8, 9, 10), (7, 2, 3)):
        x = np.random.default_rng(0).normal(size=shape)
        expected = fftconvolve(x, np.ones((2, 2, 2)) / 8, mode="same")[::2, ::2, ::2]
        assert np.allclose(similarity._halved(x, similarity._means_with_previous), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(100, 98, 97), (20, 101, 70)])
def test_multi_scale_similarity_equals_its_definitions(shape):
    x, y = pair(shape)
    mask = np.zeros(shape, bool)
    mask[2:-2, 10:-12, 8:-9] = True
    mask &= smooth(shape, 5) > 1000
    found = ms_ssim_synthrad2025(x, y, WIDTH, mask)
    assert found == pytest.approx(synthrad2025(x, y, mask), abs=1e-9)
    single = ms_ssim_synthrad2025(x.astype(np.float32), y.astype(np.float32), WIDTH, mask)
    assert single == pytest.approx(found, abs=1e-6)
    assert ms_ssim(x, y, WIDTH, mask) == pytest.approx(wang2003(x, y, mask), abs=1e-9)


def test_multi_scale_similarity_of_planes():
    shape = (130, 97)
    x, y = pair(shape)
    mask = some(shape)
    assert ms_ssim(x, y, WIDTH, mask) == pytest.approx(wang2003(x, y, mask), abs=1e-9)
    assert ms_ssim_synthrad2025(x, y, WIDTH, mask) == pytest.approx(synthrad2025(x, y, mask), abs=1e-9)


@pytest.mark.parametrize("measure", [ssim, *MULTI])
@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (2, 3, 4), (1, 30, 40), (6, 20, 1), (20, 20, 20)])
def test_every_size_has_an_answer(measure, shape):
    x, y = pair(shape, noise=600)
    assert measure(x, x, WIDTH) == pytest.approx(1, abs=1e-12)
    assert 0 <= measure(x, y, WIDTH) < 1
    assert measure(x, y, WIDTH) == pytest.approx(measure(y, x, WIDTH), abs=1e-12)


@pytest.mark.parametrize("measure", [ssim, *MULTI])
def test_a_single_slice_is_a_plane(measure):
    x, y = pair((30, 40))
    flat = measure(x, y, WIDTH)
    for axis in range(3):
        assert measure(np.expand_dims(x, axis), np.expand_dims(y, axis), WIDTH) == flat


def test_similarity_of_constant_images_is_their_luminance():
    a, b = 1000.0, 1600.0
    luminance = (2 * a * b + C1) / (a * a + b * b + C1)
    x, y = np.full((257, 259), a), np.full((257, 259), b)
    assert ssim(x, y, WIDTH) == pytest.approx(luminance, abs=1e-9)
    assert ms_ssim(x, y, WIDTH) == pytest.approx(luminance**0.1333, abs=1e-9)  # on the last scale only
    inside = np.zeros(x.shape, bool)
    inside[160:, 160:] = True  # on no scale near the first voxels, which the challenge averages with zero
    every = 0.0448 + 0.2856 + 0.3001 + 0.2363 + 0.1333
    assert ms_ssim_synthrad2025(x, y, WIDTH, inside) == pytest.approx(luminance**every, abs=1e-9)


def test_similarity_of_shifted_and_scaled_images():
    ramp = np.broadcast_to(20.0 * np.arange(30), (20, 30)).copy()
    means = 20.0 * np.arange(3, 27)
    luminance = (2 * means * (means + 90) + C1) / (means**2 + (means + 90) ** 2 + C1)
    assert ssim(ramp, ramp + 90, WIDTH) == pytest.approx(luminance.mean(), abs=1e-12)
    variance = 4 * 20**2 * 49 / 48  # of seven equal steps in every window, sample covariance
    scaled = (2 * 1.5 * variance + C2) / (3.25 * variance + C2)
    luminance = (3 * means**2 + C1) / (3.25 * means**2 + C1)
    assert ssim(ramp, 1.5 * ramp, WIDTH) == pytest.approx((luminance * scaled).mean(), abs=1e-12)


def test_an_inverted_image_has_no_structure_in_common():
    x = np.random.default_rng(0).choice([0.0, WIDTH], (100, 100))
    assert ssim(x, WIDTH - x, WIDTH) < -0.9
    assert ms_ssim(x, WIDTH - x, WIDTH) == 0
    assert ms_ssim_synthrad2025(x, WIDTH - x, WIDTH) == 0


@pytest.mark.parametrize("measure", [ssim, *MULTI])
def test_more_noise_is_less_similar(measure):
    x, _ = pair((100, 100))
    found = [measure(x, x + np.random.default_rng(9).normal(0, sigma, x.shape), WIDTH) for sigma in (10, 100, 400)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("measure", [ssim, *MULTI])
def test_a_mask_without_a_whole_window_has_no_value(measure):
    x, y = pair((100, 100))
    mask = np.zeros(x.shape, bool)
    assert math.isnan(measure(x, y, WIDTH, mask))
    mask[:3], mask[:, -3:] = True, True  # the border that is left out
    assert math.isnan(measure(x, y, WIDTH, mask))


@pytest.mark.parametrize("measure", [ssim, *MULTI])
def test_far_voxels_outside_the_mask_do_not_count(measure):
    x, y = pair((200, 200))
    mask = np.zeros(x.shape, bool)
    mask[112:, 112:] = True
    spoiled = y.copy()
    spoiled[:4, :4] = 0  # too far for any window, on any scale
    assert measure(x, spoiled, WIDTH, mask) == measure(x, y, WIDTH, mask)
    assert measure(x, spoiled, WIDTH) != measure(x, y, WIDTH)


@pytest.mark.parametrize("measure", [ssim, *MULTI])
def test_slabs_change_nothing_and_the_images_stay_as_they_are(measure, monkeypatch):
    x, y = pair((40, 30, 20))
    before = x.copy(), y.copy()
    mask = some(x.shape)
    whole = measure(x, y, WIDTH, mask)
    for slab in (1, 1500):
        monkeypatch.setattr(similarity, "_SLAB", slab)
        assert measure(x, y, WIDTH, mask) == pytest.approx(whole, abs=1e-12)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


@pytest.mark.parametrize(("measure", "most"), [(ssim, 5), (ms_ssim, 8), (ms_ssim_synthrad2025, 8)])
def test_a_volume_takes_a_few_times_its_own_memory_at_most(measure, most):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, WIDTH, (64, 256, 256)).astype(np.float32)
    tracemalloc.start()
    try:
        measure(x, x[::-1], WIDTH)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most * x.nbytes


def test_shapes_that_differ_are_refused():
    x = np.zeros((9, 9))
    with pytest.raises(ValueError, match="shapes differ"):
        ssim(x, x[:, :-1], 1.0)
    with pytest.raises(ValueError, match="shapes differ"):
        ssim(x, x, 1.0, np.ones((9, 8), bool))
