"""The training of the head model: seeded draws, a loss that falls, and exact resumption."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from former_head_training import former_draw, former_losses, former_rate

from SynthGANLib.errors import InputError
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.tissues import CANCELLOUS, CORTICAL, FAT, GREY, HEAD_LABELS, WHITE
from SynthGANLib.training.schedule import rate_factor
from SynthGANLib.training.state import State
from Tools.Models.head_mr_ct import bundle
from Tools.Models.head_mr_ct.feed import HeadFeed, normalise
from Tools.Models.head_mr_ct.heads import load_heads
from Tools.Models.head_mr_ct.randomise import Contrasts, Dice, acquire, blur, draw_pair, tissue_signal
from Tools.Models.head_mr_ct.recipe import Config, cycles
from Tools.Models.head_mr_ct.regime import TissueConfig, between, emphasised
from Tools.Models.head_mr_ct.train import averaged, main, train, train_cycle

SMALL = ((16, 16, 16), (16, 8, 16))
LARGE = ((16, 16, 16), (16, 16, 24))


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
def tiny():
    steps = {"coarse_steps": 3, "steps": 5, "second_steps": 6, "cool_from": 7, "cool_steps": 2, "third_steps": 2}
    return Config(held_out=("head_2",), widths=(4, 8), small=SMALL, large=LARGE, warm_up=1, **steps)


def rate_at(config, step):
    """The learning rate that the run to which a step of the whole training belongs has in it."""
    cycle = [cycle for cycle in cycles(config) if cycle.offset <= step][-1]
    return cycle.setup.optimisers["*"].rate * rate_factor(cycle.setup, step - cycle.offset, cycle.setup.warm_up)


def feed_of(cycle, heads, config):
    return HeadFeed(heads, config.seed, cycle.offset, cycle.boxes)


def steps_of_all(config):
    """(step of the whole training, its cycle, the cycle's own step)."""
    return [(cycle.offset + own, cycle, own) for cycle in cycles(config) for own in range(cycle.setup.steps)]


def test_held_out_heads_stay_out(labels, heads):
    assert [h.name for h in heads] == ["head_1.nii.gz"]
    assert heads[0].codes.shape[0] == pytest.approx(58 * 1.6, abs=2)  # 1.6 mm labels on the 1 mm grid
    with pytest.raises(InputError, match="held-out"):
        load_heads(labels, ("head_9",))
    with pytest.raises(InputError, match="no label map"):
        load_heads(labels / "none", ())


def test_command_says_why_it_does_not_train(labels, tmp_path, capsys):
    assert main(["--labels", str(labels), "--out", str(tmp_path / "run")]) == 2
    assert "error: not every held-out head" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


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


@pytest.mark.parametrize("config", [Config(), Config(steps=100, second_steps=50, third_steps=30, warm_up=7)])
def test_rates_are_those_of_the_former_loop(config):
    chosen = [*range(config.total)][:: max(1, config.total // 500)]
    chosen += [config.steps - 1, config.steps, config.cool_from, config.cool_from + 1, config.restart - 1]
    for step in [*chosen, config.restart, config.total - 1]:
        assert rate_at(config, step) == pytest.approx(former_rate(config, step), rel=1e-12, abs=1e-18), step


def test_bone_counts_more_in_the_first_cycle_only():
    first, second, third = (cycle.setup.config for cycle in cycles(Config(steps=100, second_steps=50)))
    weight = torch.tensor([0.0, 0.2, 1.0, 2.5])  # unseen, outside, soft tissue, bone
    assert torch.equal(emphasised(weight, first, 0), weight)
    torch.testing.assert_close(emphasised(weight, first, 99), weight**0.4)
    for later in (second, third):
        assert torch.equal(emphasised(weight, later, 0), torch.tensor([0.0, 0.2, 1.0, 1.0]))


def test_weights_of_the_losses_move_on_a_line():
    first, second, _ = (cycle.setup.config for cycle in cycles(Config(steps=100)))
    assert between((1.0, 0.2), first, 0) == 1.0
    assert between((1.0, 0.2), first, 40) == pytest.approx(0.6)
    assert between((1.0, 0.2), first, 80) == between((1.0, 0.2), first, 99) == pytest.approx(0.2)
    assert between(second.entropy, second, 0) == first.entropy[1]
    assert between(second.error, second, 0) == first.error[1]


def test_draws_are_those_of_the_former_loop(heads, tiny):
    """In every step of all cycles, whatever was drawn before; first small boxes by twos, then large ones."""
    shapes = []
    for step, cycle, own in reversed(steps_of_all(tiny)):
        batch = feed_of(cycle, heads, tiny).batch(own)
        mr, target, classes, weight = former_draw(heads, tiny, step)
        assert torch.equal(batch["source"], mr), step
        assert torch.equal(batch["target"], target), step
        assert torch.equal(batch["classes"], classes), step
        assert torch.equal(batch["weight"].squeeze(1), weight), step
        shapes.append((len(mr), tuple(mr.shape[2:])))
    assert Counter(number for number, _ in shapes) == {2: 3, 1: tiny.total - 3}
    assert {shape for number, shape in shapes if number == 2} <= set(SMALL)
    assert {shape for number, shape in shapes if number == 1} <= set(LARGE)


def test_losses_are_those_of_the_former_loop(heads, tiny):
    for step, cycle, own in steps_of_all(tiny):
        regime = State.begin(cycle.setup, seed=tiny.seed, rank=0, device=torch.device("cpu"), amp="none").regime
        regime.step, rng = own, torch.Generator()
        batch = feed_of(cycle, heads, tiny).batch(own)
        (terms,) = regime.loss("network", regime.forward(batch, rng), batch, rng)
        entropy, error = former_losses(regime.network, tiny, step, *former_draw(heads, tiny, step))
        assert terms["entropy"].item() == pytest.approx(entropy.item(), rel=1e-6), step
        assert terms["error"].item() == pytest.approx(error.item(), rel=1e-6), step


def test_run_is_adamw_on_the_draws_with_an_average(labels, heads, tiny, tmp_path):
    """The first cycle written out: seeded weights, clipped gradients, AdamW by the former rates, the average's ramp."""
    train(labels, tmp_path, tiny, until=tiny.steps)
    (first, _, _) = cycles(tiny)
    torch.manual_seed(tiny.seed)
    network = first.setup.networks["network"].build()
    torch.nn.init.zeros_(network.trunk.head.bias)
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=1e-4)
    for step in range(tiny.steps):
        optimiser.param_groups[0]["lr"] = former_rate(tiny, step)
        optimiser.zero_grad()
        sum(former_losses(network, tiny, step, *former_draw(heads, tiny, step))).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        keep = min(tiny.ema, (step + 2) / (step + 11))
        for name, value in network.named_parameters():
            average[name].lerp_(value.detach(), 1.0 - keep)
    steps, found = averaged(tmp_path / "cycle1")
    assert steps == tiny.steps
    for name, value in average.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5, msg=name)


def test_spacing_of_a_draw_is_in_the_range_and_scales_the_anatomy(heads):
    """The same box with voxels twice as wide holds more of the head's outline: more of it is air and skin."""
    fine = [float((draw_pair(heads[0], (48,) * 3, seed, (1.0, 1.0)).classes != 0).float().mean()) for seed in range(6)]
    wide = [
        float((draw_pair(heads[0], (48,) * 3, seed, (1.0, 1.0), (2.0, 2.0)).classes != 0).float().mean())
        for seed in range(6)
    ]
    assert np.mean(wide) < np.mean(fine) - 0.05


def same(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_stopped_training_ends_in_the_same_bits(labels, tiny, tmp_path, capsys):
    """Stopped within each cycle and exactly between two; the command says what it does."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert train(labels, whole, tiny) == 0
    for until in (2, tiny.steps, 7, 7, tiny.restart + 1):
        assert train(labels, part, tiny, resume=True, until=until) == 0
        reached = [cycle.offset + averaged(part / cycle.name)[0] for cycle in cycles(tiny) if cycle.offset < until]
        assert reached[-1] == until
    assert train(labels, part, tiny, resume=True) == 0
    assert "continue with --resume" in capsys.readouterr().err
    for cycle in cycles(tiny):
        same(averaged(whole / cycle.name)[1], averaged(part / cycle.name)[1])
    with pytest.raises(InputError, match="holds a run already"):
        train(labels, whole, tiny)
    with pytest.raises(InputError, match="other settings"):
        train(labels, whole, replace(tiny, seed=1), resume=True)


def test_later_cycles_begin_from_the_average(labels, heads, tiny, tmp_path):
    """Whoever has the averaged weights, for the third in float16, ends where the whole training ends."""
    whole = tmp_path / "whole"
    train(labels, whole, tiny)
    _, second, third = cycles(tiny)
    _, exact = averaged(whole / "cycle1")
    train_cycle(second, heads, tmp_path, tiny, exact)
    same(averaged(tmp_path / "cycle2")[1], averaged(whole / "cycle2")[1])
    stored = {name: value.half() for name, value in averaged(whole / "cycle2")[1].items()}
    train_cycle(third, heads, tmp_path, tiny, stored)
    same(averaged(tmp_path / "cycle3")[1], averaged(whole / "cycle3")[1])


def test_model_folder_holds_the_averaged_weights(labels, tmp_path, monkeypatch, tiny):
    run, seen = tmp_path / "run", {}
    train(labels, run, tiny, until=7)

    def caught(card, network, vector):
        seen.update(card=card, network=network)
        return SimpleNamespace(save=lambda *_, **__: None)

    monkeypatch.setattr(bundle.Model, "build", caught)
    bundle.bundle_head(run, tmp_path / "out", None, [])
    same(dict(seen["network"].state_dict()), averaged(run / "cycle2")[1])
    assert seen["card"].training["steps"] == 7
    assert seen["card"].training["hours"] >= 0
    assert seen["card"].method.arguments["widths"] == [4, 8]
    with pytest.raises(InputError, match="no checkpoint"):
        averaged(tmp_path / "none")


def test_hours_do_not_count_pauses(tmp_path):
    times = [0.0, 100.0, 200.0, 86_600.0, 86_700.0]
    lines = [json.dumps({"step": n, "time": time}) for n, time in enumerate(times)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, json.dumps({"step": 5, "event": "x", "message": "y"})]))
    assert bundle.hours([tmp_path, tmp_path]) == pytest.approx(1000 / 3600)


def test_second_cycle_is_cut_short_by_a_line_to_zero():
    config = Config(steps=100, second_steps=100, cool_from=150, cool_steps=20, third_steps=10, warm_up=5)
    assert (config.restart, config.total) == (170, 180)
    rates = [rate_at(config, step) for step in range(150, 170)]
    falls = [earlier - later for earlier, later in pairwise(rates)]
    assert falls == pytest.approx([rates[0] / 20] * 19)
    assert rate_at(config, 170) == pytest.approx(config.third_rate / 5)


def test_loss_falls_on_a_fixed_pair(heads, tiny):
    setup = replace(cycles(tiny)[0].setup, config=TissueConfig((1.0, 1.0), (2.0, 2.0), (1.0, 1.0), 1.0))
    torch.manual_seed(tiny.seed)
    regime, rng = setup.build(), torch.Generator()
    pair = draw_pair(heads[0], (24, 24, 24), 3)
    batch = {"source": pair.mr[None, None], "target": normalise(pair.hu)[None, None]}
    batch |= {"classes": pair.classes[None], "weight": pair.weight[None, None]}
    optimiser = torch.optim.AdamW(regime.parameters(), lr=5e-3)
    seen = []
    for _ in range(60):
        outputs = regime.forward(batch, rng)
        (terms,) = regime.loss("network", outputs, batch, rng)
        seen.append(regime.watch(outputs)["hu"])
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    assert seen[-1] < 0.7 * seen[0]
