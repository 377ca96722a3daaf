"""The tissue method: fuzzy clusters against closed forms, and a T1 phantom turned into HU."""

from __future__ import annotations

import numpy as np
import pytest

from SynthGANLib.classical.fuzzy import fuzzy_c_means
from SynthGANLib.classical.tissue import air_pockets, correct_bias, opened, tissue_ct
from SynthGANLib.errors import CancelledError, UnfitInputError
from SynthGANLib.evaluation.metrics import evaluate
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.anatomy import body_of
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr
from SynthGANLib.phantom.tissues import CANCELLOUS, CORTICAL, GREY, WHITE


@pytest.fixture(scope="module")
def t1_head():
    head = draw_head(seed=6, spacing=4.0)
    return head, simulate_mr(head, "T1-SE", 6), simulate_ct(head, 6), body_of(head.array)


@pytest.fixture(scope="module")
def result(t1_head):
    _, mr, _, body = t1_head
    return tissue_ct(mr, body)


def test_memberships_are_a_partition_and_the_objective_falls():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(m, 0.1, 200) for m in (0.0, 1.0, 3.0)])[:, None]
    found = fuzzy_c_means(points, 3, seed=1)
    shares = found.memberships(points)
    assert np.allclose(shares.sum(0), 1.0, atol=1e-6)
    assert shares.min() >= 0
    assert all(b <= a + 1e-9 for a, b in zip(found.objective, found.objective[1:], strict=False))
    assert np.allclose(found.centres[:, 0], [0, 1, 3], atol=0.06)


def test_membership_between_two_centres_has_its_closed_form():
    found = fuzzy_c_means(np.array([[0.0], [0.0], [1.0], [1.0]]), 2, centres=np.array([[0.0], [1.0]]))
    a, b = found.memberships(np.array([[0.25]]))[:, 0]
    assert a / b == pytest.approx((0.75 / 0.25) ** 2, rel=1e-4)  # u ~ 1/d^2 for m = 2


def test_order_and_weights_do_not_matter():
    rng = np.random.default_rng(3)
    points = rng.integers(0, 9, 300).astype(float)[:, None]
    start = np.array([[1.0], [4.0], [8.0]])
    values, counts = np.unique(points, return_counts=True)
    one = fuzzy_c_means(points, 3, centres=start).centres
    two = fuzzy_c_means(points[rng.permutation(300)], 3, centres=start).centres
    weighted = fuzzy_c_means(values[:, None], 3, weights=counts.astype(float), centres=start).centres
    assert np.allclose(one, two, atol=1e-9)
    assert np.allclose(one, weighted, atol=1e-9)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="clusters"):
        fuzzy_c_means(np.zeros((2, 1)), 3)
    with pytest.raises(ValueError, match="fuzziness"):
        fuzzy_c_means(np.zeros((9, 1)), 3, fuzziness=1.0)


def test_ct_beats_the_constant_guess_and_finds_bone(t1_head, result):
    head, mr, ct, body = t1_head
    fake = mr.with_array(result, unit="HU")
    guess = ct.with_array(np.where(body, 40.0, -1000.0).astype(np.float32))
    assert evaluate(fake, ct, body)["MAE"].value < evaluate(guess, ct, body)["MAE"].value
    bone = np.isin(head.array, (CORTICAL, CANCELLOUS))
    brain = np.isin(head.array, (GREY, WHITE))
    assert np.median(result[brain]) == pytest.approx(35.0, abs=30.0)
    assert result[bone].mean() > result[brain].mean() + 150
    assert (result[~body] == -1000).all()
    assert result.min() >= -1000
    assert result.max() <= 1000


def test_gain_changes_nothing(t1_head, result):
    _, mr, _, body = t1_head
    doubled = tissue_ct(mr.with_array(mr.array * 8.0), body)
    assert np.abs(doubled - result).mean() < 1.0  # N4 works in floats: not to the last bit


def test_table_is_the_users(t1_head):
    _, mr, _, body = t1_head
    harder = tissue_ct(mr, body, hu={"bone": 1500.0}, bias_correction=False)
    softer = tissue_ct(mr, body, hu={"bone": 500.0}, bias_correction=False)
    assert harder.max() > softer.max() + 500


@pytest.mark.slow
def test_bias_field_is_removed(t1_head):
    """A known ramp of shading across the head is taken out again."""
    head, _, _, body = t1_head
    clean = simulate_mr(head, "T1-SE", 6, bias=0.0, noise=0.005)
    ramp = np.linspace(0.6, 1.6, head.shape[2], dtype=np.float32)
    flat = correct_bias(clean.array * ramp, body, clean.spacing)
    white = head.array == WHITE
    across = np.broadcast_to(ramp, head.shape)[white]

    def slope(array):
        return abs(float(np.polyfit(across, array[white] / array[white].mean(), 1)[0]))

    assert slope(flat) < 0.4 * slope(clean.array * ramp)


def test_thick_pockets_are_air_and_thin_layers_are_not():
    dark = np.zeros((40, 40, 40), bool)
    dark[5:8] = True  # a layer 3 mm thick
    dark[20:34, 10:30, 10:30] = True  # a pocket 14 mm thick
    air = air_pockets(dark, (1.0, 1.0, 1.0), 5.0)
    assert air[27, 20, 20]
    assert not air[5:8].any()
    assert not opened(dark, (1.0, 1.0, 1.0), 9.0).any()


def test_refusals_and_cancel(t1_head):
    _, mr, _, body = t1_head
    with pytest.raises(UnfitInputError, match="No body"):
        tissue_ct(mr, np.zeros_like(body))
    with pytest.raises(UnfitInputError, match="gray levels"):
        tissue_ct(mr.with_array(np.where(body, 5.0, 0.0).astype(np.float32)), body, bias_correction=False)
    with pytest.raises(CancelledError):
        tissue_ct(mr, body, cancel=lambda: True)


def test_single_slice_is_worked():
    head = draw_head(seed=6, spacing=3.0)
    k = head.shape[0] // 2
    mr = simulate_mr(head, "T1-SE", 6)
    one = Volume(mr.array[k : k + 1], mr.affine, "1")
    out = tissue_ct(one, body_of(head.array)[k : k + 1])
    assert out.shape == one.shape
    assert np.isfinite(out).all()


def test_microscopic_voxels_give_finite_numbers(rng):
    """A header whose lengths are wrong by a thousand."""
    values = (np.hypot(*np.mgrid[-15:15, -14:14])[np.newaxis] < 9) * 300 + rng.normal(50, 20, (1, 30, 28))
    volume = Volume(values.astype(np.float32), np.diag([0.005, 0.006, 0.007, 1.0]))
    assert np.isfinite(tissue_ct(volume, np.ones(volume.shape, bool))).all()
