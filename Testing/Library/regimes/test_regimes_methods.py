"""What is particular to each paired and unpaired regime: its losses in closed form, its schedule, who sees what."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from regime_cases import (
    CASES,
    MEDGAN,
    Constant,
    Judge,
    Loop,
    Translator,
    all_terms,
    drawn,
    images,
    pair,
    stages,
    two_domains,
)
from torch import Tensor, nn

from SynthGANLib.errors import InputError
from SynthGANLib.networks.conv_stack import ConvStack
from SynthGANLib.networks.patch_discriminators import PatchDiscriminator
from SynthGANLib.networks.strided_unet import StridedUNet
from SynthGANLib.networks.unit import UnitTranslator
from SynthGANLib.regimes import cascade, cycle, paired, supervised, unit
from SynthGANLib.regimes.base import Batch, Outputs, Regime
from SynthGANLib.regimes.pool import ReplayPool
from SynthGANLib.regimes.wasserstein import CriticSchedule


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in terms.items()}


def one(regime: Regime, turn: str, batch: Batch, step: int = 0) -> tuple[Outputs, dict[str, Tensor]]:
    regime.step = step
    outputs = regime.forward(batch, drawn(0))
    return outputs, all_terms(regime, turn, outputs, batch, drawn(1))


def gradient(network: nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in network.parameters() if p.grad is not None)


# the pool of generated images


def test_pool_hands_out_old_images_half_of_the_time_and_only_such_as_it_was_given() -> None:
    pool, rng = ReplayPool(50), drawn(0)
    given: set[float] = set()
    old = 0
    for number in range(4000):
        fresh = torch.full((1, 1, 2, 2), float(number))
        given.add(float(number))
        back = pool(fresh, rng)
        assert back.shape == fresh.shape
        assert float(back[0, 0, 0, 0]) in given
        if number < 50:
            assert torch.equal(back, fresh)
        else:
            old += int(not torch.equal(back, fresh))
        assert len(pool.images) == min(number + 1, 50)
    assert abs(old / 3950 - 0.5) < 0.03  # 3.7 standard deviations


def test_pool_gives_an_old_image_up_and_keeps_no_gradients() -> None:
    pool, rng = ReplayPool(4), drawn(0)
    old: list[float] = []
    for number in range(0, 400, 2):
        fresh = torch.tensor([number, number + 1.0], requires_grad=True).reshape(2, 1, 1, 1)
        back = pool(fresh, rng)
        assert not back.requires_grad
        old += [v for v, new in zip(back.flatten().tolist(), fresh.flatten().tolist(), strict=True) if v != new]
    assert len(old) == len(set(old)), "given twice"
    assert max(old) > 350, "only those that filled it"


def test_pool_of_no_size_hands_back_and_a_saved_pool_goes_on_alike() -> None:
    fresh = torch.rand(3, 1, 2, 2)
    assert torch.equal(ReplayPool(0)(fresh, drawn(0)), fresh)
    with pytest.raises(ValueError, match="0 images or more"):
        ReplayPool(-1)
    pool = ReplayPool(4)
    for number in range(5):
        pool(torch.full((2, 1, 2, 2), float(number)), drawn(number))
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    again = ReplayPool(4)
    again.load_state_dict(torch.load(file, weights_only=True))
    for number in range(5):
        assert torch.equal(pool(fresh, drawn(number)), again(fresh, drawn(number)))


# supervised


def test_voxels_that_count() -> None:
    target = torch.zeros(1, 1, 4, 4)
    target[..., 0, 0] = 1.0
    fake = torch.zeros_like(target)  # wrong in one voxel of sixteen
    weights = supervised.PixelWeights(l1=2.0, voxels="all")
    plain = values(supervised.pixel_terms(weights, fake, target, {}))
    assert plain["l1"] == pytest.approx(2 / 16)
    bright = supervised.PixelWeights(l1=2.0, voxels="bright", bright=0.5)
    assert values(supervised.pixel_terms(bright, fake, target, {}))["l1"] == pytest.approx(1.0)  # as much as the rest
    mask = torch.zeros_like(target)
    mask[..., :2] = 1
    masked = supervised.PixelWeights(l1=2.0, voxels="mask")
    assert values(supervised.pixel_terms(masked, fake, target, {"mask": mask}))["l1"] == pytest.approx(2 / 8)
    with pytest.raises(InputError, match="'weight'"):
        supervised.pixel_terms(supervised.PixelWeights(l1=1.0, voxels="weight"), fake, target, {})
    regime = supervised.Supervised({"generator": Translator()}, supervised.SupervisedConfig(voxels="mask"))
    assert regime.needs == ("source", "target", "mask")
    with pytest.raises(ValueError, match="at least one"):
        supervised.Supervised({"generator": Translator()}, supervised.SupervisedConfig(l1=0.0))


def test_valid_convolutions_are_compared_with_the_middle() -> None:
    net = ConvStack(dims=2, layers=[[5, 3], [3, 1]])
    regime = supervised.Supervised({"generator": net}, supervised.SupervisedConfig(voxels="mask"))
    batch = images(drawn(0), "source", "target", extent=12)
    batch["mask"] = (images(drawn(1), "mask", extent=12)["mask"] > 0).float()
    outputs, terms = one(regime, "generator", batch)
    assert outputs["fake"].shape == (2, 1, 6, 6)
    assert torch.equal(outputs["fake"], net.valid(batch["source"]))
    apart = (outputs["fake"] - batch["target"][..., 3:9, 3:9]).abs()[batch["mask"][..., 3:9, 3:9] > 0].mean()
    assert float(terms["l1"].detach()) == pytest.approx(float(apart.detach()), rel=1e-5)
    assert regime.predict(batch, drawn(0)).shape == batch["target"].shape


def test_every_tentative_image_and_every_band_has_its_term() -> None:
    batch = images(drawn(0), "source", "target")
    deep = CASES["deep"].made(0)
    outputs, terms = one(deep, "generator", batch)
    assert set(terms) == {"l2", "tentative_1_l2"}
    assert float(terms["tentative_1_l2"].detach()) == pytest.approx(
        float((outputs["tentative_1"] - batch["target"]).square().mean().detach())
    )
    bands = CASES["bands"].made(0)
    outputs, terms = one(bands, "generator", batch)
    low = supervised.blurred(batch["target"], 2.0)
    assert float(terms["low"].detach()) == pytest.approx(float((outputs["low"] - low).abs().mean().detach()), rel=1e-5)
    high = (outputs["high"] - (batch["target"] - low)).abs().mean()
    assert float(terms["high"].detach()) == pytest.approx(float(high.detach()), rel=1e-5)
    assert torch.equal(outputs["fake"], outputs["low"] + outputs["high"])


def test_blurring_keeps_constants_and_gives_a_gaussian() -> None:
    assert torch.allclose(supervised.blurred(torch.full((1, 1, 5, 7, 3), 3.0), 2.0), torch.tensor(3.0))
    dot = torch.zeros(1, 1, 41, 41)
    dot[..., 20, 20] = 1
    soft = supervised.blurred(dot, 2.0)
    axis = torch.arange(41.0) - 20
    variance = float((soft.sum((0, 1, 2)) * axis.square()).sum())
    assert float(soft.sum()) == pytest.approx(1, abs=1e-5)
    assert variance == pytest.approx(4, rel=0.05)  # cut at three sigma
    assert torch.allclose(soft, soft.transpose(2, 3), atol=1e-8)


# paired


def test_paired_losses_of_an_undecided_discriminator() -> None:
    batch = images(drawn(0), "source", "target")
    nets = {"generator": Translator(), "discriminator": Constant(0.0)}
    regime = paired.PairedAdversarial(nets, paired.PairedConfig(l1=0.0))
    assert float(one(regime, "discriminator", batch)[1]["discriminator"].detach()) == pytest.approx(
        math.log(2), abs=1e-6
    )
    assert float(one(regime, "generator", batch)[1]["adversarial"].detach()) == pytest.approx(math.log(2), abs=1e-6)


def test_discriminator_sees_both_images_or_the_target_alone() -> None:
    batch = images(drawn(0), "source", "target")
    for conditional, channels in ((True, 2), (False, 1)):
        nets = pair(channels)
        regime = paired.PairedAdversarial(nets, paired.PairedConfig(conditional=conditional))
        outputs, _ = one(regime, "discriminator", batch)
        judge = nets["discriminator"]
        assert isinstance(judge, Judge)
        real, fake = judge.shown
        assert torch.equal(real[:, -1:], batch["target"])
        assert torch.equal(fake[:, -1:], outputs["fake"])
        assert real.shape[1] == channels
        if conditional:
            assert torch.equal(real[:, :1], batch["source"])
            assert torch.equal(fake[:, :1], batch["source"])


def test_a_small_valid_generator_is_judged_on_its_middle() -> None:
    nets = {"generator": ConvStack(dims=2, layers=[[5, 3], [5, 1]]), "discriminator": Judge(2)}
    batch = images(drawn(0), "source", "target", extent=16)
    regime = paired.PairedAdversarial(nets, paired.PairedConfig(gdl=1.0))
    one(regime, "discriminator", batch)
    real = nets["discriminator"].shown[0]  # type: ignore[union-attr, index]
    assert torch.equal(real, torch.cat([batch["source"], batch["target"]], 1)[..., 4:12, 4:12])
    assert set(one(regime, "generator", batch)[1]) == {"l1", "gdl", "adversarial"}


def test_without_adversary_pix2pix_is_regression() -> None:
    nets = pair()
    batch = images(drawn(0), "source", "target")
    game = paired.PairedAdversarial(nets, paired.PairedConfig(adversarial=0.0, l1=3.0))
    plain = supervised.Supervised(nets, supervised.SupervisedConfig(l1=3.0))
    assert game.turns(0) == ("generator",)
    assert values(one(game, "generator", batch)[1]) == values(one(plain, "generator", batch)[1])


def test_medgan_takes_three_generator_steps_to_one_of_the_discriminator() -> None:
    loop = Loop(CASES["medgan"].made(0))
    loop.run(CASES["medgan"], 12, drawn(1), drawn(2))
    assert loop.turns.count("generator") == 12
    assert loop.turns.count("discriminator") == 4
    assert loop.turns[:5] == ["discriminator", "generator", "generator", "generator", "discriminator"]


def test_perceptual_term_is_zero_for_the_target_and_leaves_the_discriminator_alone() -> None:
    batch = images(drawn(0), "source", "target")
    judge = Judge(2)
    same = batch["target"].clone().requires_grad_(True)
    weights = paired.AdversarialWeights(feature=20.0)
    terms = paired.generator_terms(weights, judge, batch["source"], batch["target"], same)
    assert float(terms["feature"].detach()) == 0
    other = batch["source"].clone().requires_grad_(True)
    terms = paired.generator_terms(weights, judge, batch["source"], batch["target"], other)
    wanted = judge(torch.cat([batch["source"], batch["target"]], 1))
    found = judge(torch.cat([batch["source"], other], 1))
    layers = (other - batch["target"]).abs().mean() + (found[0] - wanted[0]).abs().mean()
    assert float(terms["feature"].detach()) == pytest.approx(20 * float(layers.detach()), rel=1e-5)
    loop = Loop(CASES["medgan"].made(0))
    loop.take(batch, drawn(0))
    assert set(loop.terms["generator"]) == {"adversarial", "feature", "style", "content"}
    assert MEDGAN.generator_turns == 3


def test_super_resolution_schedule() -> None:
    config = paired.PairedConfig(pretrain=5, critic_pretrain=3, schedule=CriticSchedule(7, 207, 0, 500))
    regime = paired.PairedAdversarial(pair(), config)
    assert [regime.turns(step) for step in range(8)] == [("generator",)] * 5 + [("discriminator",)] * 3
    first = [len(regime.turns(8 + step)) for step in range(207 + 70)]
    assert first == [1] * 206 + [2] + ([1] * 6 + [2]) * 10
    with pytest.raises(ValueError, match="several"):
        paired.PairedConfig(generator_turns=3, schedule=CriticSchedule())
    batch = images(drawn(0), "source", "target")
    assert set(one(regime, "generator", batch, step=4)[1]) == {"l1"}
    assert set(one(regime, "generator", batch, step=214)[1]) == {"l1", "adversarial"}


def test_clipped_discriminator_stays_within_its_limit() -> None:
    nets = pair(1)
    config = paired.PairedConfig(mode="wgan", conditional=False, clip=0.01)
    loop = Loop(paired.PairedAdversarial(nets, config), 1e-2)
    loop.run(CASES["pix2pix"], 3, drawn(0), drawn(1))
    assert max(float(p.detach().abs().max()) for p in nets["discriminator"].parameters()) <= 0.01
    assert max(float(p.detach().abs().max()) for p in nets["generator"].parameters()) > 0.01


@pytest.mark.parametrize("layers", [0, 1])
def test_with_the_networks_of_the_library(layers: int) -> None:
    nets = {
        "generator": StridedUNet(dims=2, downs=3, base=2, cap=4),
        "discriminator": PatchDiscriminator(dims=2, in_channels=2, base=2, layers=layers, norm="instance"),
    }
    loop = Loop(paired.PairedAdversarial(nets, paired.PairedConfig(feature=20.0)))
    for seed in range(2):
        loop.take(images(drawn(seed), "source", "target", extent=16), drawn(0))
    assert all(math.isfinite(term) for terms in loop.terms.values() for term in terms.values())
    assert set(loop.regime.watch({})) == {"real_accuracy", "fake_accuracy"}


# cascades


def test_earlier_stages_stay_bit_for_bit_also_their_statistics() -> None:
    case = CASES["cascade"]  # two steps of regression, then the second stage with its game
    loop = Loop(case.made(0))
    data, rng = drawn(1), drawn(2)
    loop.run(case, 2, data, rng)
    assert loop.turns == ["generator", "generator"]
    first = loop.regime.generator.stages[0]  # type: ignore[union-attr, index]
    second = loop.regime.generator.stages[1]  # type: ignore[union-attr, index]
    before = {name: value.clone() for name, value in first.state_dict().items()}
    untouched = {name: value.clone() for name, value in second.state_dict().items()}
    assert any("running_mean" in name for name in before)
    fresh = CASES["cascade"].made(0)
    assert all(torch.equal(v, untouched[n]) for n, v in fresh.generator.stages[1].state_dict().items())
    loop.run(case, 4, data, rng)
    assert loop.turns[2:] == ["discriminator", "generator"] * 4
    assert all(torch.equal(value, before[name]) for name, value in first.state_dict().items())
    assert not all(torch.equal(value, untouched[name]) for name, value in second.state_dict().items())


def test_the_second_stage_is_given_source_and_estimate_and_judged_beside_the_source() -> None:
    regime = CASES["cascade"].made(0)
    assert isinstance(regime, cascade.StagedCascade)
    batch = images(drawn(0), "source", "target")
    regime.step = 5
    stage, given = regime.generator.stages[1], regime.estimate(batch["source"])
    assert given.shape[1] == 2
    first = regime.generator.stages[0].eval()(batch["source"])
    assert torch.equal(given, torch.cat([batch["source"], first], 1))
    assert not given.requires_grad
    regime.train()
    outputs, _ = one(regime, "discriminator", batch, step=5)
    judge: Any = regime.judge(1)
    assert torch.equal(judge.shown[1], torch.cat([batch["source"][..., 2:6, 2:6], outputs["fake"]], 1))  # valid stages
    regime.eval()
    for step, expected in ((0, first), (5, stage(given))):
        regime.step = step
        assert torch.allclose(regime.predict(batch, drawn(0)), expected)


def test_boundaries_of_the_stages() -> None:
    plain = paired.AdversarialWeights(l1=1.0, adversarial=0.0)
    config = cascade.CascadeConfig((plain, plain, plain), (0.25, 0.5), 8)
    assert [config.stage(step) for step in range(8)] == [0, 0, 1, 1, 2, 2, 2, 2]
    for boundaries in ((0.5,), (0.5, 0.25), (0.0, 0.5), (0.5, 1.0)):
        with pytest.raises(ValueError, match="rising fractions"):
            cascade.CascadeConfig((plain, plain, plain), boundaries, 8)
    with pytest.raises(ValueError, match="2 stages of networks, 3 of training"):
        cascade.StagedCascade({"generator": stages(1, 2)}, config)


def test_names_of_the_domains_in_the_exported_networks() -> None:
    nets = two_domains()
    regime = cycle.Cycle(nets, cycle.CycleConfig())
    assert regime.exported() == {"forward": nets["generator_ab"], "backward": nets["generator_ba"]}
    coded = unit.Unit({"generator": UnitTranslator(base=2, blocks=1)} | two_domains(), unit.UnitConfig())
    batch = images(drawn(0), "source")["source"]
    whole = coded.generator
    back = coded.exported()["backward"]
    assert torch.equal(back(batch), whole.decode_a(whole.encode_b(batch)))
