"""The training of the head model: seeded draws, a loss that falls, and exact resumption."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SynthGANLib.errors import InputError
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.tissues import CANCELLOUS, CORTICAL, FAT, GREY, HEAD_LABELS, WHITE
from Tools.Models.head_mr_ct import train as head_mr_ct
from Tools.Models.head_mr_ct.heads import load_heads
from Tools.Models.head_mr_ct.randomise import Contrasts, Dice, acquire, blur, draw_pair, tissue_signal
from Tools.Models.head_mr_ct.train import Config, Draws, between, build, emphasised, losses, normalise, rate_at, train


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Two drawn heads in the numbers of the published label maps."""
    folder = tmp_path_factory.mktemp("labels")
    back = {tissue: label for label, tissue in reversed(HEAD_LABELS.items())}
    back[1] = back[2] = 507  # fat and muscle are one label there
    for number in (1, 2):
        head = draw_head(seed=number, spacing=4.0)
        numbers = np.vectorize(lambda c: back.get(int(c), 507))(head.array).astype(np.uint16)
        image = head.with_array(numbers).to_sitk()
        image.SetSpacing([1.6] * 3)  # a small head: the labels are the same, the 1 mm grid is quick
        sitk.WriteImage(image, str(folder / f"head_{number}.nii.gz"))
    return folder


@pytest.fixture(scope="module")
def heads(labels):
    return load_heads(labels, ("head_2",))[0]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(head_mr_ct, "SMALL", ((16, 16, 16), (16, 24, 16)))
    monkeypatch.setattr(head_mr_ct, "LARGE", ((24, 24, 24), (16, 32, 24)))
    cycles = {"coarse_steps": 3, "steps": 5, "second_steps": 3, "third_steps": 2}
    return Config(held_out=("head_2",), widths=(2, 3), batch=1, warm_up=1, **cycles)


def test_held_out_heads_stay_out(labels, heads):
    assert [h.name for h in heads] == ["head_1.nii.gz"]
    assert heads[0].codes.shape[0] == pytest.approx(58 * 1.6, abs=2)  # 1.6 mm labels on the 1 mm grid
    with pytest.raises(InputError, match="held-out"):
        load_heads(labels, ("head_9",))
    with pytest.raises(InputError, match="no label map"):
        load_heads(labels / "none", ())


def test_draw_is_decided_by_its_seed(heads):
    one, two, other = (draw_pair(heads[0], (32, 40, 48), s) for s in (5, 5, 6))
    assert torch.equal(one.mr, two.mr)
    assert torch.equal(one.hu, two.hu)
    assert not torch.equal(one.mr, other.mr)
    assert one.mr.shape == one.hu.shape == one.weight.shape == (32, 40, 48)
    assert torch.isfinite(one.mr).all()
    assert float(one.mr.min()) >= 0


def test_classes_agree_with_hu(heads):
    """Far from borders every class has its HU; bone is dark in most draws."""
    darker = 0
    for seed in range(12):
        pair = draw_pair(heads[0], (48, 48, 48), seed)
        for number, low, high in (
            (0, -1100, -800),
            (4, 500, 1500),
        ):  # thin bone is blurred with its neighbours
            found = pair.hu[pair.classes == number]
            if found.numel() > 500:
                assert low < float(found.median()) < high
        bone, soft = (
            pair.mr[(pair.classes == 4) & (pair.weight > 0)],
            pair.mr[(pair.classes == 2) & (pair.weight > 0)],
        )
        darker += int(bone.numel() < 50 or soft.numel() < 50 or float(bone.median()) < float(soft.median()))
    assert darker >= 10
    assert CORTICAL == 4


def test_blur_is_a_gaussian():
    spike = torch.zeros(21, 21, 21)
    spike[10, 10, 10] = 1.0
    soft = blur(spike, 1.5)
    axis = torch.arange(21.0) - 10
    assert float(soft.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float((soft.sum((1, 2)) * axis**2).sum()) == pytest.approx(1.5**2, rel=0.05)
    assert torch.allclose(blur(torch.full((5, 5, 5), 3.0), 0.8), torch.full((5, 5, 5), 3.0))


def test_marrow_and_fat_may_be_brighter_than_their_table(heads):
    """Only these two: what else is seen keeps its contrast, and draws without them are what they were."""
    plain = Contrasts(1.0, ("T2",))
    bright = replace(plain, marrow=2.2, trains=1.0)
    ratios = {CANCELLOUS: [], FAT: []}
    for seed in range(40):
        old, new = (tissue_signal(heads[0].share, Dice(seed), contrasts) for contrasts in (plain, bright))
        assert float(new[GREY] / new[WHITE]) == pytest.approx(float(old[GREY] / old[WHITE]), rel=1e-4)
        for tissue, found in ratios.items():
            found.append(float(new[tissue] / new[WHITE]) / float(old[tissue] / old[WHITE]))
    assert min(ratios[CANCELLOUS]) < 0.9
    assert max(ratios[CANCELLOUS]) > 3.0  # 2.2 times the density, and a T2 of 99 instead of 45 ms
    assert np.median(ratios[FAT]) > 1.3


def test_thick_slices_come_as_often_as_asked():
    """Noise of thick slices is alike along one axis; without them it is white along all three."""
    flat = torch.full((40, 40, 40), 1.0)
    white = [acquire(flat, Dice(seed), 0.0) for seed in range(6)]
    thick = [acquire(flat, Dice(seed), 1.0) for seed in range(6)]
    for images, alike in ((white, False), (thick, True)):
        for image in images:
            noise = image - image.mean()
            neighbours = [float((noise * noise.roll(1, axis)).mean() / noise.square().mean()) for axis in range(3)]
            assert (max(neighbours) > 0.3) is alike


def test_fields_are_standard():
    field = Dice(1).field((60, 60, 60), 6.0)
    assert abs(float(field.mean())) < 0.2
    assert 0.6 < float(field.std()) < 1.4


def test_rate_warms_up_and_falls_to_zero_in_each_cycle():
    config = Config(steps=110, second_steps=60, third_steps=80, warm_up=10)
    assert (config.restart, config.total) == (170, 250)
    cycles = ((config.rate, 0, 110), (config.second_rate, 110, 170), (config.third_rate, 170, 250))
    for rate, begin, end in cycles:
        assert rate_at(config, begin) == pytest.approx(rate / 10)
        assert rate_at(config, begin + 9) == rate_at(config, begin + 10) == pytest.approx(rate)
        middle = begin + 10 + (end - begin - 10) // 2
        assert rate_at(config, middle) == pytest.approx(rate / 2)  # half way down half a cosine
        rates = [rate_at(config, step) for step in range(begin + 10, end)]
        assert all(later < earlier for earlier, later in pairwise(rates))
        assert rates[-1] < 0.002 * rate


def test_bone_counts_more_in_the_first_cycle_only():
    config = Config(steps=100, second_steps=50)
    weight = torch.tensor([0.0, 0.2, 1.0, 2.5])  # unseen, outside, soft tissue, bone
    assert torch.equal(emphasised(weight, config, 0), weight)
    torch.testing.assert_close(emphasised(weight, config, 99), weight**0.4)
    assert torch.equal(emphasised(weight, config, 100), torch.tensor([0.0, 0.2, 1.0, 1.0]))


def test_weights_of_the_losses_move_on_a_line():
    config = Config(steps=100)
    assert between((1.0, 0.2), config, 0) == 1.0
    assert between((1.0, 0.2), config, 40) == pytest.approx(0.6)
    assert between((1.0, 0.2), config, 80) == between((1.0, 0.2), config, 99) == pytest.approx(0.2)


def test_stages_differ_in_voxel_batch_and_box(heads, tiny):
    draws = Draws(heads, tiny)
    shapes = [tuple(draws[step][0].shape) for step in range(len(draws))]
    assert len(shapes) == 10
    assert all(shape[0] == 2 and shape[2:] in head_mr_ct.SMALL for shape in shapes[:3])
    assert all(shape[0] == 1 and shape[2:] in head_mr_ct.LARGE for shape in shapes[3:])


def test_spacing_of_a_draw_is_in_the_range_and_scales_the_anatomy(heads):
    """The same box with voxels twice as wide holds more of the head's outline: more of it is air and skin."""
    fine = [float((draw_pair(heads[0], (48,) * 3, seed, (1.0, 1.0)).classes != 0).float().mean()) for seed in range(6)]
    wide = [
        float((draw_pair(heads[0], (48,) * 3, seed, (1.0, 1.0), (2.0, 2.0)).classes != 0).float().mean())
        for seed in range(6)
    ]
    assert np.mean(wide) < np.mean(fine) - 0.05


class Stopped(Exception):
    """A run that was ended from outside."""


@pytest.mark.slow
def test_interrupted_training_ends_in_the_same_bits(labels, tiny, tmp_path, monkeypatch):
    whole = train(labels, tmp_path / "whole", tiny, workers=0)
    monkeypatch.setattr(head_mr_ct, "SAVE_EVERY", 2)
    original = head_mr_ct.rate_at

    def until_the_seventh(config, step):
        if step == 6:
            raise Stopped
        return original(config, step)

    monkeypatch.setattr(head_mr_ct, "rate_at", until_the_seventh)
    with pytest.raises(Stopped):
        train(labels, tmp_path / "part", tiny, workers=0)
    monkeypatch.setattr(head_mr_ct, "rate_at", original)
    train(labels, tmp_path / "part", tiny, resume=True, workers=0, until=7)
    resumed = train(labels, tmp_path / "part", tiny, resume=True, workers=1)  # who draws the pairs makes no difference
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_second_cycle_is_cut_short_by_a_line_to_zero():
    config = Config(steps=100, second_steps=100, cool_from=150, cool_steps=20, third_steps=10, warm_up=5)
    assert (config.restart, config.total) == (170, 180)
    rates = [rate_at(config, step) for step in range(150, 170)]
    falls = [earlier - later for earlier, later in pairwise(rates)]
    assert falls == pytest.approx([rates[0] / 20] * 19)
    assert rate_at(config, 170) == pytest.approx(config.third_rate / 5)


@pytest.mark.slow
def test_third_cycle_needs_only_the_stored_weights(labels, tiny, tmp_path):
    """Whoever has the averaged weights in float16 ends where the whole run ends."""
    whole = train(labels, tmp_path / "whole", tiny, workers=0)
    train(labels, tmp_path / "two", tiny, workers=0, until=tiny.restart)
    state = torch.load(tmp_path / "two" / "state.pt", weights_only=True)
    stored = {name: value.half().float() for name, value in state["average"].items()}
    assert any(not torch.equal(value, state["network"][name]) for name, value in stored.items())
    fresh = torch.optim.AdamW(build(tiny).parameters(), lr=1.0)
    alone = {"network": stored, "average": stored, "optimiser": fresh.state_dict()}
    alone |= {"step": tiny.restart, "seconds": 0.0}
    (tmp_path / "alone").mkdir()
    torch.save(alone, tmp_path / "alone" / "state.pt")
    ended = train(labels, tmp_path / "alone", tiny, resume=True, workers=0)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, ended.state_dict()[name]), name


def test_loss_falls_on_a_fixed_pair(heads, tiny):
    network = build(replace(tiny, widths=(4, 8)))
    pair = draw_pair(heads[0], (24, 24, 24), 3)
    batch = (pair.mr[None, None], normalise(pair.hu)[None, None], pair.classes[None], pair.weight[None])
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    seen = []
    for _ in range(60):
        entropy, error = losses(network, *batch)
        seen.append(float(error.detach()))
        optimiser.zero_grad()
        (entropy + 2 * error).backward()
        optimiser.step()
    assert seen[-1] < 0.7 * seen[0]
