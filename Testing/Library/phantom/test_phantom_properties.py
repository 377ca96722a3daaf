"""What a drawn head must be at every seed and spacing, and the images' statistics against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk

from SynthGANLib.errors import InputError
from SynthGANLib.image.geometry import resample_to
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.anatomy import tissue_codes
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.sequences import Sequence, named, signal
from SynthGANLib.phantom.simulate import simulate_ct, simulate_fdg, simulate_mr
from SynthGANLib.phantom.tissues import (
    AIR,
    ARTERY,
    CANCELLOUS,
    CORTICAL,
    DEEP_GREY,
    EYE,
    FAT,
    GREY,
    SKIN,
    TISSUES,
    WHITE,
)


def uniform(code: int, size: int = 60) -> Volume:
    return Volume(np.full((size, size, size), code, np.uint8), np.eye(4), "label")


@pytest.mark.parametrize(("seed", "spacing"), [(0, 3.0), (1, 2.5), (3, 4.0), (5, 6.0)])
def test_skull_is_closed(seed, spacing):
    """Every way from the brain to the skin leads through bone."""
    codes = draw_head(seed, spacing).array
    soft = (codes != CORTICAL) & (codes != CANCELLOUS)
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(soft.astype(np.uint8))))
    outside = np.unique(parts[codes == SKIN])
    assert not np.isin(parts[codes == DEEP_GREY], outside).any()


@pytest.mark.slow
def test_eyes_are_whole_and_lie_in_front_on_both_sides():
    head = draw_head(1, 2.0)
    z, y, x = np.nonzero(head.array == EYE)
    lps = np.stack([x, y, z], axis=1) * 2.0 + head.affine[:3, 3]
    for side in (lps[:, 0] > 0, lps[:, 0] < 0):
        assert side.sum() * 2.0**3 == pytest.approx(4 / 3 * math.pi * 12**3, rel=0.1)
        assert (lps[side, 1] < -50).all()
        assert abs(abs(lps[side, 0].mean()) - 32) < 1.5


@pytest.mark.slow
def test_frontal_sinus_is_air_between_two_tables():
    head = draw_head(2, 1.5)
    row = head.array[round((14 - head.affine[2, 3]) / 1.5), :, round(-head.affine[0, 3] / 1.5)]  # front to back
    changes = [int(code) for code, before in zip(row[1:], row[:-1], strict=True) if code != before]
    first = changes.index(CORTICAL)
    assert changes[first : first + 3] == [CORTICAL, AIR, CORTICAL]


@pytest.mark.slow
def test_a_seed_is_the_same_head_at_every_spacing():
    fine = draw_head(0, 3.0)
    for spacing in (2.5, 3.5):  # of which the first changes the extents by a rounded voxel
        other = resample_to(draw_head(0, spacing), fine.grid, interpolation="nearest", fill=0).array
        inside = fine.array != AIR
        assert (other[inside] == fine.array[inside]).mean() > 0.75


def test_a_table_may_name_any_label():
    labels = Volume(np.array([[[-1, 0], [7, 10**9]]], np.int64), np.eye(4), "label")
    codes = tissue_codes(labels, {-1: AIR, 0: FAT, 7: GREY, 10**9: WHITE})
    assert codes.array.tolist() == [[[AIR, FAT], [GREY, WHITE]]]
    with pytest.raises(InputError, match=r"label 2\.5"):
        tissue_codes(labels.with_array(np.full((1, 2, 2), 2.5)), {2: FAT})
    with pytest.raises(InputError, match="do not exist: 99"):
        tissue_codes(labels.with_array(np.zeros((1, 2, 2))), {0: 99})


def test_pet_has_the_resolution_it_says():
    """A point's variance is that of the scanner (FWHM 5 mm) and of the reconstruction (sigma 0.4 FWHM).

    Both kernels end where 0.5 % of their weight is left over, which takes 3 % of the variance.
    """
    point = uniform(AIR, 41)
    point.array[20, 20, 20] = GREY
    image = simulate_fdg(point, fwhm_mm=5.0, counts=1e9).array
    for axis in range(3):
        line = image.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.float64)
        variance = (line * (np.arange(41) - 20.0) ** 2).sum() / line.sum()
        assert variance == pytest.approx((5.0 / 2.3548) ** 2 + 2.0**2, rel=0.05)
    assert image.sum() == pytest.approx(TISSUES[GREY].suv, rel=0.01)


def test_shading_and_texture_have_their_spread():
    for bias in (0.0, 0.15):
        image = simulate_mr(uniform(WHITE), "T1", 1, noise=0.0, blur_mm=0.0, bias=bias).array
        assert np.log(image).std() == pytest.approx(math.hypot(bias, 0.04), rel=0.1)
    assert simulate_ct(uniform(FAT), 1, noise=0.0).array.std() == pytest.approx(0.8 * TISSUES[FAT].hu_spread, rel=0.1)
    assert simulate_ct(uniform(AIR), 1, noise=8.0).array.std() == pytest.approx(8.0, rel=0.1)


def test_arteries_are_dark_in_flair():
    halves = uniform(GREY)
    halves.array[30:] = ARTERY
    image = simulate_mr(halves, "FLAIR", 1, noise=0.0, bias=0.0, blur_mm=0.0).array
    expected = [float(signal(named("FLAIR"), t.t1, t.t2, t.pd)) for t in (TISSUES[ARTERY], TISSUES[GREY])]
    assert image[30:].mean() / image[:30].mean() == pytest.approx(0.2 * expected[0] / expected[1], rel=0.05)


@pytest.mark.parametrize("kind", ["se", "ir", "gre", "mprage"])
def test_every_sequence_decays_with_t2(kind):
    early, late = (Sequence(kind, 2300.0, te, 900.0, flip=9.0) for te in (3.0, 43.0))
    ratio = signal(late, 800.0, 80.0, 0.9) / signal(early, 800.0, 80.0, 0.9)
    assert ratio == pytest.approx(math.exp(-40.0 / 80.0))


def test_spoiled_gradient_echo_pulse_by_pulse():
    sequence, t1, m = Sequence("gre", 20.0, 3.0, flip=25.0), 600.0, 1.0
    for _ in range(1000):
        m = 1 + (m * math.cos(math.radians(25.0)) - 1) * math.exp(-20.0 / t1)
    expected = m * math.sin(math.radians(25.0)) * math.exp(-3.0 / 80.0)
    assert signal(sequence, t1, 80.0, 1.0) == pytest.approx(expected, rel=1e-9)
