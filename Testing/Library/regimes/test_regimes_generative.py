"""Regimes that generate: games in closed form, critics that measure a distance, growth, pyramids, codes, flows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from regime_cases import CASES, Constant, Dense, Judge, Loop, Translator, all_terms, drawn, images
from torch import Tensor, nn

from SynthGANLib.networks.autoregressive import AutoregressiveDiscriminator
from SynthGANLib.networks.glow_relation import DualGlow
from SynthGANLib.networks.noise import MlpGenerator, NoiseDecoder
from SynthGANLib.networks.pyramid import laplacian_pyramid, reconstruct
from SynthGANLib.regimes import autoregressive, flow, noise, progressive, pyramid, retina, wasserstein
from SynthGANLib.regimes.base import Batch, Regime
from SynthGANLib.regimes.wasserstein import EVERY_STEP, CriticSchedule


def terms_of(regime: Regime, turn: str, batch: Batch) -> dict[str, Tensor]:
    return all_terms(regime, turn, regime.forward(batch, drawn(0)), batch, drawn(1))


class Line(nn.Module):
    """z -> scale z + shift: (B, 1) -> (B, 1)."""

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(shift))

    def forward(self, z: Tensor) -> Tensor:
        return self.scale * z + self.shift


def normal(rng: torch.Generator, mean: float, std: float, count: int = 64) -> Batch:
    return {"target": mean + std * torch.randn(count, 1, generator=rng)}


# GAN, DCGAN, conditional GAN


def test_losses_of_an_undecided_discriminator() -> None:
    nets = {"generator": MlpGenerator((1, 8, 8), code=4, widths=[8]), "discriminator": Constant(0.0)}
    regime = noise.Noise(nets, noise.NoiseConfig(code=4))
    batch = images(drawn(0), "target")
    assert float(terms_of(regime, "discriminator", batch)["discriminator"].detach()) == pytest.approx(
        2 * math.log(2), abs=1e-6
    )
    assert float(terms_of(regime, "generator", batch)["adversarial"].detach()) == pytest.approx(math.log(2), abs=1e-6)


def test_a_gan_finds_a_gaussian() -> None:
    torch.manual_seed(0)
    nets = {"generator": Line(), "discriminator": Dense(1, 24)}
    regime = noise.Noise(nets, noise.NoiseConfig(code=1))
    loop, data, rng = Loop(regime, 2e-2, (0.5, 0.9)), drawn(1), drawn(2)
    loop.optimisers["generator"].param_groups[0]["lr"] = 4e-3  # the slower one, so that the two do not circle
    for _ in range(1000):
        loop.take(normal(data, 3.0, 0.5), rng)
    found = regime.predict(normal(data, 3.0, 0.5, 4096), rng).detach()
    assert abs(float(found.mean()) - 3) < 0.2 * 0.5
    assert abs(float(found.std()) - 0.5) < 0.3 * 0.5


def test_classes_are_told_apart() -> None:
    """Brightness is the class; the generator learns it, and exchanging labels exchanges the images."""
    torch.manual_seed(0)
    regime: Any = CASES["labelled"].made(0)
    loop, rng = Loop(regime, 5e-3), drawn(1)
    label = torch.arange(3).repeat(8)
    brightness = (label.float() - 1)[:, None, None, None] * 0.6
    for _ in range(250):
        jitter = 0.05 * torch.randn(24, 1, 8, 8, generator=rng)
        loop.take({"target": brightness + jitter, "label": label}, rng)
    with torch.no_grad():
        z = torch.randn(24, 4, generator=rng)
        means = [float(regime.generator(z, torch.full((24,), c)).mean()) for c in range(3)]
        assert means[0] + 0.2 < means[1] < means[2] - 0.2
        x = brightness[:3].expand(-1, 1, 8, 8)
        right, wrong = (regime.discriminator(x, torch.tensor(classes)) for classes in ([0, 1, 2], [1, 2, 0]))
        assert not torch.equal(right, wrong)


# Wasserstein


def brute(schedule: CriticSchedule, steps: int) -> list[bool]:
    """Which critic steps are followed by the generator's, counted one by one."""
    found: list[bool] = []
    generator = 0
    while len(found) < steps:
        many = generator < schedule.first or (schedule.every and generator % schedule.every == 0)
        found += [False] * ((schedule.many if many else schedule.turns) - 1) + [True]
        generator += 1
    return found[:steps]


@pytest.mark.parametrize(
    "schedule",
    [
        CriticSchedule(),
        CriticSchedule(7, 207, 0, 500),
        CriticSchedule(2, 3, 1, 0),
        CriticSchedule(3, 9, 4, 3),
        EVERY_STEP,
    ],
)
def test_critic_schedule(schedule: CriticSchedule) -> None:
    steps = 9000
    assert [schedule.generates(step) for step in range(steps)] == brute(schedule, steps)


def test_published_critic_schedule() -> None:
    regime = wasserstein.Wasserstein({"generator": Line(), "critic": Dense(1)}, wasserstein.WassersteinConfig(code=1))
    generator = [step for step in range(7600) if "generator" in regime.turns(step)]
    assert all("critic" in regime.turns(step) for step in range(7600))
    gaps = [b - a for a, b in zip([-1, *generator], generator, strict=False)]
    assert gaps[:25] == [100] * 25
    assert set(gaps[25:500]) == {5}
    assert gaps[500] == 100
    with pytest.raises(ValueError, match="one critic step or more"):
        CriticSchedule(turns=0)
    with pytest.raises(ValueError, match="clipped weights or a gradient penalty"):
        wasserstein.WassersteinConfig(clip=0.0, penalty=0.0)


LIMIT = float(torch.tensor(0.1))  # the nearest float32


def test_weights_are_clipped_after_the_critics_step_and_not_the_generators() -> None:
    loop = Loop(CASES["wgan"].made(0), 0.05)
    data, rng = drawn(1), drawn(2)
    regime: Any = loop.regime
    with torch.no_grad():
        next(regime.critic.parameters()).fill_(7.0)
    regime.forward(CASES["wgan"].batch(data), rng)
    assert max(float(p.detach().abs().max()) for p in regime.critic.parameters()) <= LIMIT, "before the first step, too"
    for _ in range(4):
        loop.take(CASES["wgan"].batch(data), rng)
        assert max(float(p.detach().abs().max()) for p in regime.critic.parameters()) <= LIMIT
    assert max(float(p.detach().abs().max()) for p in regime.generator.parameters()) > LIMIT


def critic_of(shift: float, std: float, steps: int, config: wasserstein.WassersteinConfig) -> float:
    """The estimated distance of N((0, 0), std) and N((shift, 0), std) by a critic trained on them alone.

    In the plane, for on a line a critic that falls where it should rise cannot turn round without leaving slope 1.
    """
    torch.manual_seed(0)
    regime = wasserstein.Wasserstein({"generator": Line(std), "critic": Dense(2, 24)}, config)
    loop, data, rng = Loop(regime, 5e-3), drawn(1), drawn(2)
    found = []
    for step in range(steps):
        real = std * torch.randn(64, 2, generator=data) + torch.tensor([shift, 0.0])
        outputs = loop.take({"target": real}, rng)
        if step >= steps - 20:
            found.append(regime.watch(outputs)["distance"])
    assert set(loop.turns) == {"critic"}
    return sum(found) / len(found)


PENALTY = wasserstein.WassersteinConfig(code=2, schedule=CriticSchedule(10_000, 10_000, 0, 0))


def test_the_gap_between_two_points_is_their_distance() -> None:
    assert critic_of(2.0, 0.0, 300, PENALTY) == pytest.approx(2.0 * (1 + 2.0 / 20), rel=0.03)  # slope 1 + d / (2 * 10)
    assert critic_of(1.0, 0.0, 300, PENALTY) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_the_estimate_goes_with_the_true_distance(clip: float) -> None:
    config = (
        PENALTY
        if not clip
        else wasserstein.WassersteinConfig(code=2, clip=clip, penalty=0.0, schedule=PENALTY.schedule)
    )
    true = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0])
    found = torch.tensor([critic_of(float(d), 0.5, 120, config) for d in true])
    assert float(torch.corrcoef(torch.stack([true, found]))[0, 1]) > 0.97


# ARGAN


def smooth(rng: torch.Generator, count: int = 16) -> Batch:
    axis = torch.arange(8.0)
    at = 1.5 + 5 * torch.rand(count, 2, generator=rng)
    y, x = axis[None, :, None] - at[:, :1, None], axis[None, None, :] - at[:, 1:, None]
    return {"target": 2 * torch.exp(-(x.square() + y.square()) / 4)[:, None] - 1}


@pytest.mark.parametrize("order", ["raster", "channel"])
def test_the_energy_of_real_images_falls_below_that_of_generated_ones(order: str) -> None:
    torch.manual_seed(0)
    judge = AutoregressiveDiscriminator(size=8, base=8, hidden=16, order=order)
    nets = {"generator": MlpGenerator((1, 8, 8), code=8, widths=[16]), "discriminator": judge}
    config = autoregressive.AutoregressiveConfig(code=8, pretrain=150)
    regime = autoregressive.Autoregressive(nets, config)
    loop, data, rng = Loop(regime, 2e-3), drawn(1), drawn(2)
    for _ in range(150):
        outputs = loop.take(smooth(data), rng)
    assert set(loop.turns) == {"discriminator"}
    held = smooth(drawn(3), 64)
    with torch.no_grad():
        real, fake = regime.energy(held["target"]), regime.energy(regime.predict(held, rng))
    assert float(real.mean()) < 0.5 * float(fake.mean())
    assert regime.watch(outputs)["gap"] > 0
    assert regime.turns(150) == ("discriminator", "generator")


def test_patches_have_their_say_beside_the_energy() -> None:
    regime = CASES["pargan"].made(0)
    assert regime.groups["discriminator"] == ("discriminator", "patch")
    assert CASES["argan"].made(0).groups["discriminator"] == ("discriminator",)
    assert set(terms_of(regime, "generator", images(drawn(0), "target"))) == {"energy", "patch"}


# progressive growing


def test_growth_by_the_images_seen() -> None:
    config = progressive.ProgressiveConfig(stable=100, fade=50)
    expected = {0: (0, 1.0), 99: (0, 1.0), 100: (1, 0.0), 125: (1, 0.5), 150: (1, 1.0), 249: (1, 1.0), 250: (2, 0.0)}
    assert {seen: config.growth(seen, 2) for seen in expected} == expected
    assert config.growth(10**9, 2) == (2, 1.0)
    assert progressive.ProgressiveConfig(stable=10, fade=0).growth(10, 1) == (1, 1.0)
    regime: Any = CASES["progressive"].made(0)  # level 1 from 2 images on, faded in over 20
    loop, data, rng = Loop(regime), drawn(1), drawn(2)
    seen = []
    for _ in range(14):
        outputs = loop.take(images(data, "target"), rng)
        watched = regime.watch(outputs)
        seen.append((watched["level"], watched["alpha"]))
        assert outputs["fake"].shape == outputs["real"].shape == (2, 1, *[4 * 2 ** int(watched["level"])] * 2)
    assert seen == [(0, 1.0)] + [(1, pytest.approx(k / 10)) for k in range(10)] + [(1, 1.0)] * 3
    assert int(regime.state_dict()["images_seen"]) == 28


def test_real_images_are_faded_in_as_generated_ones_are() -> None:
    image = images(drawn(0), "target", extent=16)["target"]
    full = progressive.reduced(image, (8, 8), 1.0)
    assert torch.allclose(full, nn.functional.avg_pool2d(image, 2))
    coarse = progressive.reduced(image, (8, 8), 0.0)
    assert torch.allclose(coarse, nn.functional.avg_pool2d(image, 4).repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.allclose(progressive.reduced(image, (8, 8), 0.25), 0.75 * coarse + 0.25 * full)
    assert torch.equal(progressive.reduced(image, (16, 16), 1.0), image)


def test_terms_of_the_growing_critic() -> None:
    terms = terms_of(CASES["progressive"].made(0), "critic", images(drawn(0), "target"))
    assert set(terms) == {"critic", "penalty", "drift"}
    assert float(terms["drift"].detach()) >= 0


# pyramids


def _touched(regime: Any, term: Tensor) -> set[str]:
    """The generator's levels that a term has gradients for: "coarse", "levels.0", ..."""
    named = list(regime.generator.named_parameters())
    slopes = torch.autograd.grad(term, [p for _, p in named], retain_graph=True, allow_unused=True)
    reached = [n for (n, _), g in zip(named, slopes, strict=True) if g is not None and g.abs().sum() > 0]
    return {name.split(".layers")[0] for name in reached}


def test_levels_learn_apart_in_lapgan_and_together_in_ddgan() -> None:
    batch = images(drawn(0), "target", extent=16)
    apart, joint = (CASES[name].made(0) for name in ("lapgan", "ddgan"))
    terms = terms_of(apart, "generator", batch)
    assert _touched(apart, terms["adversarial_0"]) == {"coarse"}
    assert _touched(apart, terms["adversarial_1"]) == {"levels.0"}
    terms = terms_of(joint, "generator", batch)
    assert _touched(joint, terms["adversarial_0"]) == {"coarse"}
    assert _touched(joint, terms["adversarial_1"]) == {"coarse", "levels.0"}
    judged = terms_of(apart, "discriminator", batch)
    assert set(judged) == {"discriminator_0", "discriminator_1"}


def test_real_sides_of_the_pyramids() -> None:
    batch = images(drawn(0), "target", extent=16)
    parts = laplacian_pyramid(batch["target"], 1)
    apart = CASES["lapgan"].made(0).forward(batch, drawn(0))
    assert torch.equal(apart["real_0"], parts[0])
    assert torch.equal(apart["real_1"][:, :1], parts[1])
    assert torch.allclose(apart["real_1"].sum(1, keepdim=True), batch["target"], atol=1e-6)  # residual + enlarged
    assert torch.equal(apart["fake_1"][:, 1:], apart["real_1"][:, 1:])
    joint = CASES["ddgan"].made(0).forward(batch, drawn(0))
    assert all(torch.equal(joint[f"real_{i}"], image) for i, image in enumerate(reconstruct(parts)))
    nets: Any = {"generator": CASES["lapgan"].made(0).generator, "discriminator": _OneLevel()}
    with pytest.raises(ValueError, match="makes 2 levels, the discriminator judges 1"):
        pyramid.Pyramid(nets, pyramid.PyramidConfig(code=4))


class _OneLevel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([Judge()])


# retina


def test_the_photograph_teaches_the_autoencoder() -> None:
    case = CASES["retina"]
    regime: Any = case.made(0)
    batch = case.batch(drawn(1))
    outputs = regime.forward(batch, drawn(0))
    terms = all_terms(regime, "generator", outputs, batch, drawn(1))
    encoder = next(regime.autoencoder.encoder.parameters())
    (slope,) = torch.autograd.grad(terms["l1"], encoder, retain_graph=True)
    assert float(slope.abs().sum()) > 0
    logits, mask = outputs["mask_logits"], batch["source"]
    cross = -(mask * torch.sigmoid(logits).log() + (1 - mask) * torch.sigmoid(-logits).log()).mean()
    assert float(terms["vessels"].detach()) == pytest.approx(100 * float(cross.detach()), rel=1e-4)
    assert torch.equal(outputs["mask"], torch.sigmoid(logits))
    assert torch.isfinite(retina.cross_entropy(torch.tensor([500.0]), torch.tensor([0.0])))
    all_terms(regime, "discriminator", outputs, batch, drawn(1))
    real, fake = regime.discriminator.shown[-2:]
    assert torch.equal(real, torch.cat([batch["source"], batch["target"]], 1))
    assert torch.equal(fake, torch.cat([outputs["mask"], outputs["fake"]], 1))


class _Codes(nn.Module):
    """An autoencoder whose codes lie wherever its two numbers put them."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor([2.0, math.log(0.04)]))  # mean, log-variance
        self.out = nn.Conv2d(1, 1, 1)

    def encode(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.place[0].expand(mask.shape[0], 1), self.place[1].expand(mask.shape[0], 1)

    def draw_code(self, mean: Tensor, log_variance: Tensor, rng: torch.Generator) -> Tensor:
        return mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=rng)

    def decode(self, z: Tensor) -> Tensor:
        return self.out(z[:, :, None, None].expand(-1, -1, 2, 2))


def test_the_code_game_makes_codes_standard_normal() -> None:
    torch.manual_seed(0)
    judges = {"discriminator": Constant(0.0), "code_discriminator": Dense(1, 24)}
    nets = {"autoencoder": _Codes(), "renderer": Translator(1, 3, 2)} | judges
    regime = retina.Retina(nets, retina.RetinaConfig(vessels=0, l1=0, adversarial=0))
    loop, rng = Loop(regime, 1e-2), drawn(2)
    batch = {"source": torch.ones(64, 1, 2, 2), "target": torch.zeros(64, 3, 2, 2)}
    for _ in range(450):
        loop.take(batch, rng)
    mean, log_variance = nets["autoencoder"].place.tolist()  # type: ignore[union-attr, operator]
    assert abs(mean) < 0.2
    assert math.exp(0.5 * log_variance) == pytest.approx(1, abs=0.3)


# flows


def test_bits_of_the_flow_are_weighted_and_fall() -> None:
    torch.manual_seed(0)
    regime = flow.Flow({"generator": DualGlow(dims=2, depths=(1, 1), width=4)}, flow.FlowConfig())
    loop, data, rng = Loop(regime, 2e-3), drawn(1), drawn(2)

    def batch() -> Batch:
        source = smooth(data, 8)["target"]
        return {"source": 0.5 * source, "target": -0.5 * source}

    first = loop.take(batch(), rng)
    assert loop.terms["generator"]["source_bits"] == pytest.approx(
        0.001 * float(first["source_bits"].detach().mean()), rel=1e-5
    )
    before = loop.terms["generator"]["target_bits"]
    for _ in range(60):
        outputs = loop.take(batch(), rng)
    assert loop.terms["generator"]["target_bits"] < before - 0.3
    assert regime.watch(outputs)["least_logdet"] == pytest.approx(0, abs=0.5)  # orthogonal at the start


def test_decoders_of_the_library_are_trained_as_gans() -> None:
    torch.manual_seed(0)
    nets = {"generator": NoiseDecoder(size=8, code=4, base=2), "discriminator": Judge()}
    loop = Loop(noise.Noise(nets, noise.NoiseConfig(code=4)))
    loop.take(images(drawn(0), "target", count=4), drawn(1))
    assert loop.regime.predict(images(drawn(0), "target", count=4), drawn(1)).shape == (4, 1, 8, 8)
