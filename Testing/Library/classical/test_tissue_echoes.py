"""Tissue classes of several contrasts: features against closed forms, a phantom's UTE pair turned into HU."""

from __future__ import annotations

import numpy as np
import pytest

from SynthGANLib.classical.tissue import tissue_ct
from SynthGANLib.classical.tissue_echoes import (
    check_contrasts,
    fat_fraction,
    features_of,
    noise_level,
    r2_star,
    tissue_echoes_ct,
)
from SynthGANLib.errors import CancelledError, InputError, UnfitInputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.anatomy import body_of, smooth_field
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.sequences import Sequence, signal
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr
from SynthGANLib.phantom.tissues import AIR, CORTICAL, FAT, GREY, TISSUES, WHITE
from SynthGANLib.recipes.registry import FITTED
from SynthGANLib.training.fit_classical import Case, fit

PAIR, TIMES = ("ute-short", "ute-long"), (0.07, 2.46)
UTE = {"contrasts": PAIR, "echo_times": TIMES}


def ute_pair(head: Volume, seed: int, noise: float = 0.02) -> Volume:
    """Two echoes (z,y,x,2) of a spoiled gradient echo, by the phantom's signal equation, with shading and noise."""
    t1, t2, density = (np.array([getattr(t, name) for t in TISSUES]) for name in ("t1", "t2", "pd"))
    rng = np.random.default_rng(seed)
    shading = np.exp(0.15 * smooth_field(head.shape, head.spacing, 90.0, rng))
    levels = [signal(Sequence("gre", 12.0, te, flip=10.0), t1, t2, density) for te in TIMES]
    channels = []
    for level in levels:
        level[AIR] = 0.0
        image = (level / levels[0].max())[head.array] * shading
        channels.append(
            np.hypot(image + noise * rng.standard_normal(image.shape), noise * rng.standard_normal(image.shape))
        )
    return head.with_array(600 * np.stack(channels, -1).astype(np.float32), unit="1", meta={"modality": "MR"})


@pytest.fixture(scope="module")
def case():
    head = draw_head(seed=6, spacing=4.0)
    return head, ute_pair(head, 6), simulate_ct(head, 6).array, body_of(head.array)


@pytest.fixture(scope="module")
def result(case):
    _, pair, _, body = case
    return tissue_echoes_ct(pair, body, **UTE)


def test_decay_rate_and_fat_fraction_have_their_closed_forms():
    rates = np.array([[[0.0, 0.02, 0.7]]], np.float32)
    short, long = (80.0 * np.exp(-te * rates) for te in TIMES)
    assert np.allclose(r2_star(short, long, TIMES), rates, atol=1e-5)
    assert np.allclose(r2_star(short * 7, long * 7, TIMES), rates, atol=1e-5)
    assert (r2_star(long, short, TIMES) == 0).all(), "a signal that grows has no decay"
    nothing = np.zeros_like(rates)
    assert np.isfinite(r2_star(short, nothing, TIMES)).all()
    assert (r2_star(nothing, nothing, TIMES) == 0).all()
    water, fat = np.array([3.0, 0.0, 0.0]), np.array([1.0, 2.0, 0.0])
    assert np.allclose(fat_fraction(water, fat), [0.25, 1.0, 0.0])


def test_features_follow_the_tissues_and_distrust_noise():
    """Bone decays by 1 - exp(-2.4 R2*); of noise alone neither decay nor brightness is made."""
    rng = np.random.default_rng(2)
    level = np.repeat([0.0, 0.2, 1.0], 4000).reshape(3, 1, 4000)
    rate = np.array([0.0, 1 / 1.5, 0.02])[:, None, None]

    def echo(te):
        clean = 500 * level * np.exp(-te * rate)
        return np.hypot(clean + 5 * rng.standard_normal(clean.shape), 5 * rng.standard_normal(clean.shape))

    channels = {name: echo(te).astype(np.float32) for name, te in zip(PAIR, TIMES, strict=True)}
    body = np.broadcast_to(np.array([False, True, True])[:, None, None], level.shape)
    assert noise_level(channels["ute-short"], body) == pytest.approx(5, rel=0.05)
    found = features_of(channels, body, TIMES)
    air, bone, tissue = found["decay"].mean((1, 2))
    assert bone == pytest.approx((1 - np.exp(-2.4 / 1.5)) * 0.99, abs=0.03)
    assert tissue == pytest.approx(1 - np.exp(-2.4 * 0.02), abs=0.02)
    assert air < 0.25
    dark, dim, bright = np.median(found["ute-short"], (1, 2))
    assert dark < 0.15 < 0.4 < dim < 0.6 < 0.95 < bright


@pytest.mark.slow
def test_bone_and_air_are_found_where_one_contrast_cannot(case, result):
    head, _, truth, body = case
    single = tissue_ct(simulate_mr(head, "T1-SE", 6), body)
    cortical, air = (body & (head.array == code) for code in (CORTICAL, AIR))

    def error(image, where):
        return np.abs(image - truth)[where].mean()

    assert error(result, cortical) < 0.6 * error(single, cortical)  # 0.4 when this was written
    assert error(result, air) < 0.5 * error(single, air)  # 0.2
    assert error(result, body) < 0.7 * error(single, body)  # 0.5
    thick = [(image > 300) & body for image in (result, truth)]
    assert 2 * (thick[0] & thick[1]).sum() / (thick[0].sum() + thick[1].sum()) > 0.75
    for code, centre in ((WHITE, 30), (GREY, 37), (FAT, -95)):
        assert np.median(result[body & (head.array == code)]) == pytest.approx(centre, abs=40)
    assert (result[~body] == -1000).all()
    assert -1000 <= result.min() <= result.max() <= 1000


def test_another_head_and_more_noise_change_little():
    head = draw_head(seed=3, spacing=5.0)
    truth, body = simulate_ct(head, 3).array, body_of(head.array)
    found = tissue_echoes_ct(ute_pair(head, 3, noise=0.03), body, **UTE, bias_correction=False)
    cortical = body & (head.array == CORTICAL)
    assert np.median(found[cortical]) > 600
    assert np.median(found[body & (head.array == AIR)]) < -700
    assert np.abs(found - truth)[body].mean() < 130


@pytest.mark.slow
def test_gain_and_the_order_of_voxels_change_nothing(case, result):
    _, pair, _, body = case
    louder = tissue_echoes_ct(pair.with_array(pair.array * 8.0), body, **UTE)
    assert np.abs(louder - result).mean() < 1.0  # N4 works in floats: not to the last bit
    plain = {**UTE, "bias_correction": False, "smooth_mm": 0.0}
    straight = tissue_echoes_ct(pair, body, **plain)
    order = np.random.default_rng(0).permutation(body.size)
    mixed = tissue_echoes_ct(pair.with_array(pair.array.reshape(-1, 2)[order].reshape(pair.array.shape)),
                             body.reshape(-1)[order].reshape(body.shape), **plain)  # fmt: skip
    assert np.allclose(mixed.reshape(-1), straight.reshape(-1)[order], atol=1e-3)


def test_channels_are_taken_by_name_not_by_place(case):
    _, pair, _, body = case
    plain = {"echo_times": TIMES, "bias_correction": False}
    straight = tissue_echoes_ct(pair, body, contrasts=PAIR, **plain)
    turned = tissue_echoes_ct(pair.with_array(pair.array[..., ::-1]), body, contrasts=PAIR[::-1], **plain)
    assert np.allclose(turned, straight, atol=1e-2)


def test_smoothing_removes_specks():
    """Single voxels of noise in a block of soft tissue are tissue again once the maps are smoothed."""
    rng = np.random.default_rng(1)
    level = np.zeros((24, 24, 24))
    level[4:20, 4:20, 4:20] = 0.6
    level[4:20, 4:20, 4:8] = 1.0
    body = level > 0
    short = 500 * level
    specks = body & (rng.random(level.shape) < 0.01)
    short[specks] = 0.0
    echoes = np.stack([short, 0.95 * short], -1) + rng.random((*level.shape, 2))
    volume = Volume(echoes.astype(np.float32), np.diag([1.0, 1, 1, 1]))
    harsh, smooth = (tissue_echoes_ct(volume, body, **UTE, smooth_mm=mm) for mm in (0.0, 1.0))
    assert np.median(harsh[specks]) < -800
    assert np.median(smooth[specks]) > -250


@pytest.mark.slow
def test_further_contrasts_are_used(case, result):
    """A Dixon pair sharpens fat; T1 and T2 without echoes fall back on anatomy and still keep the brain."""
    head, pair, truth, body = case
    rng = np.random.default_rng(4)
    share = np.where(head.array == FAT, 0.95, 0.0)
    base = simulate_mr(head, "T1-GRE", 6, noise=0.0).array
    dixon = [np.abs(base * part + 12 * rng.standard_normal(base.shape)) for part in (1 - share, share)]
    four = head.with_array(np.concatenate([pair.array, np.stack(dixon, -1)], -1).astype(np.float32), unit="1")
    more = tissue_echoes_ct(four, body, contrasts=(*PAIR, "water", "fat"), echo_times=TIMES)
    fat = body & (head.array == FAT)
    assert np.abs(more - truth)[fat].mean() < np.abs(result - truth)[fat].mean()
    pair_of_contrasts = np.stack([simulate_mr(head, name, 6).array for name in ("T1-SE", "T2")], -1)
    two = tissue_echoes_ct(head.with_array(pair_of_contrasts, unit="1"), body, contrasts=("T1", "T2"))
    brain = np.isin(head.array, (GREY, WHITE))
    assert np.abs(two - truth)[brain].mean() < 40
    assert two[head.array == CORTICAL].mean() > two[brain].mean() + 100


def test_refusals_and_cancel(case):
    head, pair, _, body = case
    one = head.with_array(pair.array[..., 0], unit="1")
    with pytest.raises(UnfitInputError, match="has 1 channel, and this method takes 2: ute-short, ute-long"):
        tissue_echoes_ct(one, body, **UTE)
    with pytest.raises(UnfitInputError, match="No body"):
        tissue_echoes_ct(pair, np.zeros_like(body), **UTE)
    flat = np.where(body, 5.0, 0.0)[..., None] * [1.0, 0.9]
    with pytest.raises(UnfitInputError, match="gray levels"):
        tissue_echoes_ct(pair.with_array(flat), body, **UTE, bias_correction=False)
    with pytest.raises(UnfitInputError, match="blank"):
        tissue_echoes_ct(pair.with_array(pair.array * [0, 1]), body, **UTE, bias_correction=False)
    with pytest.raises(CancelledError):
        tissue_echoes_ct(pair, body, **UTE, cancel=lambda: True)


@pytest.mark.parametrize(
    ("names", "times", "sentence"),
    [
        (("T1",), (), "two or more"),
        (("T1", "T3"), (), "no contrast 'T3'"),
        (("T1", "T1"), (), "twice"),
        (("T1", "ute-long"), (0.1, 2.0), "belong together"),
        (PAIR, (), "rising"),
        (PAIR, (2.0, 0.1), "rising"),
        (("water", "fat"), (), "where bone is"),
    ],
)
def test_useless_contrasts_are_refused(names, times, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        check_contrasts(names, times)
    assert caught.value.next_step


def test_recipe_is_known_and_refuses_one_channel(case, tmp_path):
    recipe = FITTED["tissue-echoes"]
    head, _, truth, body = case
    ct = head.with_array(truth, unit="HU")
    one = Case(simulate_mr(head, "T1-SE", 6), ct, body)
    with pytest.raises(InputError, match="2 channels: ute-short, ute-long"):
        fit(recipe.method, [one], tmp_path / "m", **recipe.options)
    assert not (tmp_path / "m").exists()


def test_fitted_model_runs_through_the_inference(case, result, tmp_path):
    from SynthGANLib.inference.pipeline import synthesize
    from SynthGANLib.model.model import Model

    _, pair, _, body = case
    recipe = FITTED["tissue-echoes"]
    fit(recipe.method, [], tmp_path / "m", **recipe.options)
    model = Model.load(tmp_path / "m")
    assert (model.card.id, model.card.source.channels) == ("tissue-echoes-mr-ct", 2)
    found = synthesize(pair, model, mask=body)
    assert (found.unit, found.shape) == ("HU", pair.shape)
    assert found.grid.same_as(pair.grid)
    assert np.allclose(found.array, result, atol=0.5)
    with pytest.raises(UnfitInputError, match="1 channels"):
        synthesize(pair.with_array(pair.array[..., 0]), model, mask=body)
