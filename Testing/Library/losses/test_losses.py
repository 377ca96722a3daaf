"""Losses of adversaries, critics and codes against closed forms; every loss in float32 inside autocast."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from SynthGANLib import losses
from SynthGANLib.losses.adversarial import LABELLED, MODES


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


# ---- adversarial


@pytest.mark.parametrize(
    ("mode", "level", "critic", "generator"),
    [
        ("vanilla", 0.0, 2 * math.log(2), math.log(2)),  # a logit of 0 is D = 0.5
        ("lsgan", 0.5, 0.25, 0.25),
        ("lsgan_abs", 0.5, 0.25, 0.5),
        ("wgan", 0.5, 0.0, -0.5),
        ("hinge", 0.0, 2.0, 0.0),
    ],
)
def test_an_undecided_discriminator(mode, level, critic, generator):
    logits = torch.full((2, 1, 3, 3), level)
    assert losses.discriminator_loss(logits, logits, mode).item() == pytest.approx(critic, abs=1e-6)
    assert losses.generator_loss(logits, mode).item() == pytest.approx(generator, abs=1e-6)


def test_adversarial_losses_equal_their_formulas():
    real, fake = image(4, 1, seed=1) * 3, image(4, 1, seed=2) * 3
    r, f = real.numpy().astype(float), fake.numpy().astype(float)
    s = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    expected = {
        "vanilla": (np.mean(-np.log(s(r))) + np.mean(-np.log(1 - s(f))), np.mean(-np.log(s(f)))),
        "lsgan": ((np.mean((r - 1) ** 2) + np.mean(f**2)) / 2, np.mean((f - 1) ** 2)),
        "lsgan_abs": ((np.mean((r - 1) ** 2) + np.mean(f**2)) / 2, np.mean(np.abs(f - 1))),
        "wgan": (f.mean() - r.mean(), -f.mean()),
        "hinge": (np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(), -f.mean()),
    }
    assert set(expected) == set(MODES)
    for mode, (critic, generator) in expected.items():
        assert losses.discriminator_loss(real, fake, mode).item() == pytest.approx(critic, rel=1e-5)
        assert losses.generator_loss(fake, mode).item() == pytest.approx(generator, rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_the_two_players_pull_a_fake_logit_apart(mode):
    fake = torch.tensor([0.3], requires_grad=True)
    (down,) = torch.autograd.grad(losses.discriminator_loss(torch.zeros(1), fake, mode), fake)
    (up,) = torch.autograd.grad(losses.generator_loss(fake, mode), fake)
    assert down > 0 > up


def test_vanilla_survives_extreme_logits_with_a_gradient():
    fake = torch.tensor([-200.0], requires_grad=True)
    loss = losses.generator_loss(fake, "vanilla")
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert fake.grad.item() == pytest.approx(-1)  # the saturating form would give 0


def test_scales_count_equally_whatever_their_size():
    small, large = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 8, 8), 2.0)
    assert losses.generator_loss([small, large], "lsgan").item() == pytest.approx((1 + 1) / 2)
    alone = [losses.discriminator_loss(x, -x, "hinge").item() for x in (small, large)]
    both = losses.discriminator_loss([small, large], [-small, -large], "hinge")
    assert both.item() == pytest.approx(sum(alone) / 2)


def test_a_soft_label_is_the_optimum_of_the_real_side():
    for mode, best in (("vanilla", math.log(0.9 / 0.1)), ("lsgan", 0.9)):
        real = torch.full((1, 1), best, requires_grad=True)
        losses.discriminator_loss(real, torch.zeros(1, 1), mode, real_label=0.9).backward()
        assert real.grad.abs().item() < 1e-6
    assert set(LABELLED) == {"vanilla", "lsgan", "lsgan_abs"}


def test_adversarial_mistakes_are_named():
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="'ralsgan'"):
        losses.generator_loss(x, "ralsgan")
    with pytest.raises(ValueError, match=r"soften to 0\.9"):
        losses.discriminator_loss(x, x, "wgan", real_label=0.9)
    with pytest.raises(ValueError, match="2 scales of logits for real images, 1 for"):
        losses.discriminator_loss([x, x], [x], "lsgan")
    with pytest.raises(ValueError, match="no logits"):
        losses.generator_loss([], "lsgan")


# ---- penalty


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (2, 1, 3, 4, 5), (4, 7)])
def test_the_penalty_of_a_linear_critic_is_exact(shape):
    critic = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape[1:]), 1)).double()
    real, fake = image(*shape, seed=1).double(), image(*shape, seed=2).double()
    norm = torch.linalg.vector_norm(critic[1].weight).item()
    assert losses.gradient_penalty(critic, real, fake, seeded()).item() == pytest.approx((norm - 1) ** 2, rel=1e-12)
    two = losses.gradient_penalty(critic, real, fake, seeded(), target=2.0)
    assert two.item() == pytest.approx((norm - 2) ** 2, rel=1e-12)


def test_the_penalty_trains_the_critic_and_not_the_generator():
    generator, critic = nn.Linear(3, 6), nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    real = image(5, 6).requires_grad_()
    losses.gradient_penalty(critic, real, generator(image(5, 3, seed=1)), seeded()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (critic[0].weight, critic[2].weight))
    assert all(p.grad is None for p in generator.parameters())
    assert real.grad is None


def test_the_penalty_mixes_each_sample_by_its_own_share():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    losses.gradient_penalty(critic, torch.ones(6, 1, 4, 4), torch.zeros(6, 1, 4, 4), seeded())
    share = seen[0].flatten(1)
    assert torch.equal(share.min(1).values, share.max(1).values)  # one number for a whole image
    assert len(set(share[:, 0].tolist())) == 6
    assert share.min() >= 0
    assert share.max() < 1


def test_the_penalty_norm_runs_over_all_but_the_batch():
    # the gradient of every entry is 1, so the norm is the root of the number of entries
    found = losses.gradient_penalty(lambda x: x.flatten(1).sum(1), image(2, 2, 3, 4), image(2, 2, 3, 4), seeded())
    assert found.item() == pytest.approx((math.sqrt(24) - 1) ** 2, rel=1e-6)


def test_the_penalty_of_a_constant_critic_is_finite():
    critic = nn.Linear(4, 1)
    nn.init.zeros_(critic.weight)
    found = losses.gradient_penalty(critic, image(2, 4), image(2, 4, seed=1), seeded())
    found.backward()
    assert found.item() == 1
    assert torch.isfinite(critic.weight.grad).all()


def test_the_penalty_follows_its_generator_of_numbers():
    critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    found = [losses.gradient_penalty(critic, image(3, 4), image(3, 4, seed=1), seeded(s)).item() for s in (5, 5, 6)]
    assert found[0] == found[1] != found[2]
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(2, 4\)"):
        losses.gradient_penalty(critic, image(3, 4), image(2, 4), seeded())


def test_weights_are_clipped_and_small_ones_kept():
    net = nn.Linear(20, 20)
    before = net.weight.detach().clone()
    losses.clip_weights(net, 0.05)
    assert net.weight.abs().max() <= 0.05
    assert net.bias.abs().max() <= 0.05
    inside = before.abs() < 0.05
    assert inside.any()
    assert torch.equal(net.weight[inside], before[inside])
    assert net.weight.requires_grad
    with pytest.raises(ValueError, match="positive"):
        losses.clip_weights(net, 0)


def test_a_clipped_critic_is_no_steeper_than_its_layers():
    critic = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    losses.clip_weights(critic, 0.01)
    bound = math.prod(torch.linalg.matrix_norm(critic[i].weight, 2).item() for i in (0, 2))
    a, b = image(200, 6), image(200, 6, seed=1)
    slope = (critic(a) - critic(b)).squeeze(1).abs() / torch.linalg.vector_norm(a - b, dim=1)
    assert slope.max().item() <= bound * (1 + 1e-4)


def test_drift_is_the_mean_square():
    assert losses.drift(torch.tensor([[1.0], [-3.0]])).item() == 5


# ---- codes


def test_divergences_equal_their_closed_forms():
    mu, logvar = image(3, 5), image(3, 5, seed=1)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0, 1)).sum(1).mean()
    assert losses.gaussian_kl(mu, logvar).item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.gaussian_kl(torch.zeros(2, 4), torch.zeros(2, 4)).item() == 0
    assert losses.unit_kl(torch.zeros(1, 4, 2, 2)).item() == 0
    assert losses.unit_kl(torch.full((1, 4, 2, 2), -3.0)).item() == 9


def test_bits_per_dimension():
    # eight equally likely values: 3 bits each
    assert losses.bits_per_dim(torch.tensor([-5 * math.log(8)]), 5).item() == pytest.approx(3)
    # a uniform density on [0, 1) of 256 gray levels costs 8 bits
    assert losses.bits_per_dim(torch.zeros(4), 10, bins=256).item() == pytest.approx(8)
    x = image(1, 200_000)
    entropy = 0.5 * math.log2(2 * math.pi * math.e)
    density = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    assert losses.bits_per_dim(density, x.shape[1]).item() == pytest.approx(entropy, abs=0.01)
    with pytest.raises(ValueError, match="positive"):
        losses.bits_per_dim(x, 3, bins=0)


def test_the_margin_pushes_energies_apart_until_it_is_met():
    real, fake = torch.tensor([0.1, 0.3]), torch.tensor([0.05, 0.5], requires_grad=True)
    loss = losses.autoregressive_margin(real, fake, 0.2)
    assert loss.item() == pytest.approx(0.2 + (0.15 + 0) / 2)
    loss.backward()
    assert fake.grad.tolist() == pytest.approx([-0.5, 0])  # the second is beyond the margin already


# ---- precision


BINARY = {
    "discriminator": lambda a, b: losses.discriminator_loss(a, b, "vanilla"),
    "discriminator, scales": lambda a, b: losses.discriminator_loss([a, a], [b, b], "lsgan"),
    "generator": lambda a, b: losses.generator_loss([a], "lsgan_abs"),
    "drift": lambda a, b: losses.drift(a),
    "l1": losses.l1,
    "l2": losses.l2,
    "masked": lambda a, b: losses.masked_l1(a, b, torch.ones_like(a)),
    "weighted": lambda a, b: losses.weighted_l2(pred=a, target=b, weight=torch.ones_like(a)),
    "gradient difference": losses.gradient_difference,
    "gradient consistency": losses.gradient_consistency,
    "ssim": lambda a, b: losses.ssim_loss(a, b, 2.0),
    "features": lambda a, b: losses.feature_matching([a, b], [b, a]),
    "gram": lambda a, b: losses.gram(a).mean(),
    "style": lambda a, b: sum(losses.style_content(lambda x: [x, x * 2], a, b)),
    "unit": lambda a, b: losses.unit_kl(a),
    "kl": losses.gaussian_kl,
    "bits": lambda a, b: losses.bits_per_dim(a.flatten(1).sum(1), 3),
    "margin": lambda a, b: losses.autoregressive_margin(a, b, 0.2),
}


@pytest.mark.parametrize("name", BINARY)
def test_autocast_leaves_losses_in_float32(name):
    a, b = image(2, 3, 9, 9).bfloat16(), image(2, 3, 9, 9, seed=1).bfloat16()
    if name == "bits":
        a, b = a.float(), b.float()  # the sum here is the caller's own
    expected = BINARY[name](a.float(), b.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = BINARY[name](a, b)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_the_penalty_runs_its_critic_in_float32_inside_autocast():
    critic, kinds = nn.Linear(6, 1), []
    critic.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    real, fake = image(3, 6), image(3, 6, seed=1)
    expected = losses.gradient_penalty(critic, real, fake, seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses.gradient_penalty(critic, real, fake, seeded())
    assert kinds == [torch.float32, torch.float32]
    assert torch.equal(found, expected)


def test_losses_have_a_shape_without_memory():
    x = torch.zeros(2, 1, 4, 4, device="meta")
    assert losses.l1(x, x).device.type == "meta"
    assert losses.generator_loss([x, x], "lsgan").shape == ()
