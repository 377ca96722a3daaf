"""DUAL-GLOW: exact inverse, exact likelihood, initialisation by data, and what its sampling promises."""

from __future__ import annotations

import math

import pytest
import torch
from network_battery import Case, ImageBattery
from network_battery import count as parameters
from torch.distributions import Normal

from SynthGANLib.networks.glow import ActNorm, Coupling, Flow, InvertibleConv, normal_log_density
from SynthGANLib.networks.glow_relation import DualGlow

SMALL = {"depths": [2, 1], "width": 6}
CASES = {
    "3d": Case("DualGlow", {"dims": 3, **SMALL}, dims=3, extent=8, coupled=True),
    "2d, channels differ": Case(
        "DualGlow",
        {"dims": 2, "in_channels": 2, "relation_layers": 2, "relation_width": 4, **SMALL},
        inputs=2,
        coupled=True,
    ),
}


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stirred(module: torch.nn.Module, amount: float = 0.1, seed: int = 0) -> torch.nn.Module:
    """`module` with every parameter moved, so that nothing is zero or the identity any more."""
    rng = dice(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += amount * torch.randn(parameter.shape, generator=rng)
    return module.eval()


def flow(dims: int = 3, depths=(1, 2), width: int = 8, channels: int = 1, **more) -> Flow:
    torch.manual_seed(0)
    return Flow(dims, channels, list(depths), width, **more)


# --- counts and shapes


def test_counts_of_the_published_size():
    assert parameters("DualGlow", {"depths": [4, 4], "width": 64}) == 1_075_344
    with torch.device("meta"):
        network = DualGlow()
    assert sum(p.numel() for p in network.source_flow.parameters()) == 72_530_616
    assert sum(p.numel() for p in network.target_flow.parameters()) == 72_530_616
    assert sum(p.numel() for p in network.relations.parameters()) == 33_314_000
    assert sum(p.numel() for p in network.parameters()) == 178_375_232


def test_latents_of_the_published_size():
    with torch.device("meta"):
        shapes = DualGlow().source_flow.latent_shapes([48, 64, 48])
    assert shapes == [(4, 24, 32, 24), (16, 12, 16, 12), (64, 6, 8, 6), (512, 3, 4, 3)]
    assert sum(math.prod(shape) for shape in shapes) == 48 * 64 * 48


def test_latents_have_the_promised_shapes():
    network = flow(2, (1, 1, 1), channels=3)
    latents, logdet = network(torch.randn(2, 3, 8, 16))
    assert [tuple(z.shape[1:]) for z in latents] == network.latent_shapes([8, 16])
    assert logdet.shape == (2,)


class TestGlow(ImageBattery):
    CASES = CASES
    test_every_parameter_learns = None  # of the likelihood they do: see below
    test_samples_of_a_batch_are_independent = None  # actnorm starts from the whole batch


def test_refusals():
    with pytest.raises(ValueError, match="divisible by 4"):
        flow()(torch.zeros(1, 1, 8, 8, 6))
    with pytest.raises(ValueError, match="at least one step"):
        flow(depths=())
    with pytest.raises(ValueError, match="at least one layer"):
        DualGlow(**SMALL, relation_layers=0)


# --- inverse


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("dims", [2, 3])
def test_inverse_is_exact(dims, dtype, bound):
    network = stirred(flow(dims, (1, 4, 8, 4), 8), 0.02).to(dtype)
    x = torch.rand(2, 1, *[16, 32, 16][:dims], generator=dice(), dtype=dtype) - 0.5
    with torch.no_grad():
        latents, _ = network(x)
        assert float((network.inverse(latents) - x).abs().max()) < bound
    assert not torch.allclose(latents[0].flatten()[:8], x.flatten()[:8], atol=1e-2)  # it did something


def test_inverse_after_initialisation_by_data_and_a_checkpoint(tmp_path):
    x = 3 + 5 * torch.randn(2, 1, 8, 8, 8, generator=dice())
    network = stirred(flow().train(), 0.05).train()
    network(x)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    twin = flow().train()
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with torch.no_grad():
        latents, _ = network(x)
        assert float((twin.inverse(latents) - x).abs().max()) < 1e-4


def test_inverse_ignores_mixed_precision():
    network = stirred(flow(2))
    with torch.no_grad():
        latents, _ = network(torch.randn(1, 1, 8, 8, generator=dice()))
        plain = network.inverse(latents)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(network.inverse(latents), plain)
            assert network.inverse(latents).dtype == torch.float32


def test_one_by_one_convolution_starts_orthogonal_and_knows_its_determinant():
    torch.manual_seed(0)
    layer = InvertibleConv(6)
    assert torch.allclose(layer.weight @ layer.weight.T, torch.eye(6), atol=1e-6)
    assert abs(layer.log_determinant().item()) < 1e-6
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([2.0, 0.5, -4.0, 1.0, 1.0, 1e-30])))
    assert layer.log_determinant().dtype == torch.float64
    assert layer.log_determinant().item() == pytest.approx(math.log(4e-30), rel=1e-6)


def test_determinants_are_there_to_be_watched():
    network = flow(depths=(2, 3))
    assert network.log_determinants().shape == (5,)
    assert float(network.log_determinants().abs().max()) < 1e-5
    with torch.no_grad():
        network.levels[1][2].mix.weight[0] *= 1e-6
    assert float(network.log_determinants().min()) == pytest.approx(math.log(1e-6), rel=1e-4)


# --- likelihood


@pytest.mark.parametrize("dims", [2, 3])
def test_log_determinant_is_that_of_the_jacobian(dims):
    network = stirred(flow(dims, (2, 1), 5), 0.2).double()
    x = torch.randn(1, 1, *[4] * dims, generator=dice(), dtype=torch.float64)

    def flat(values):
        return torch.cat([z.flatten() for z in network(values.reshape(x.shape))[0]])

    jacobian = torch.autograd.functional.jacobian(flat, x.flatten())
    expected = torch.linalg.slogdet(jacobian)[1]
    assert abs(float(expected)) > 0.1
    assert network(x)[1].item() == pytest.approx(float(expected), abs=1e-8)


def test_pure_scaling_is_a_gaussian():
    """Mixing by the identity, couplings that scale by 1: z = (x + shift) scale, so x is normal."""
    network = DualGlow(dims=2, depths=[1], width=4, bins=256).double().eval()
    scale, shift = 1.7, 0.3
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, InvertibleConv):
                part.weight.copy_(torch.eye(4))
            if isinstance(part, Coupling):
                part.last.bias[1::2] = 50.0  # sigmoid(52) is 1
        for one in (network.source_flow, network.target_flow):
            norm = one.levels[0][0].norm
            norm.logs.fill_(math.log(scale) / 3)
            norm.shift.fill_(shift)
        for weight in network.relations.parameters():
            weight.zero_()
    x = torch.randn(3, 1, 4, 6, generator=dice(), dtype=torch.float64)
    expected = Normal(-shift, 1 / scale).log_prob(x / 2).flatten(1).sum(1)  # of the halved image
    latents, logdet = network.source_flow(x / 2)
    found = logdet + sum(normal_log_density(z) for z in latents)
    torch.testing.assert_close(found, expected)
    bits = 8 - expected / (24 * math.log(2))
    for one in network.log_likelihood(x, x):
        torch.testing.assert_close(one, bits)


def test_coupling_starts_as_a_constant_scaling():
    coupling = Coupling(3, 8, 6)
    x = torch.randn(2, 8, 3, 4, 5, generator=dice())
    y, logdet = coupling.eval()(x)
    gate = torch.sigmoid(torch.tensor(2.0))
    assert torch.equal(y[:, :4], x[:, :4])
    torch.testing.assert_close(y[:, 4:], gate * x[:, 4:])
    torch.testing.assert_close(logdet, (4 * 60 * gate.log()).expand(2))


def test_dequantisation_adds_less_than_one_grey_level():
    network = DualGlow(dims=2, depths=[1], width=4, bins=4)
    added = 2 * network._prepared(torch.zeros(1, 1, 32, 32), dice())
    assert 0 <= float(added.min()) < 0.01
    assert 0.49 < float(added.max()) < 0.5  # four levels on [-1, 1]
    assert torch.equal(network._prepared(torch.ones(1, 1, 4, 4), None), torch.full((1, 1, 4, 4), 0.5))


def test_likelihood_grows_with_training_and_the_source_tells_about_the_target():
    torch.manual_seed(0)
    network = DualGlow(dims=2, depths=[2], width=8).train()
    optimiser = torch.optim.Adamax(network.parameters(), 1e-2)
    rng = dice()

    def pairs():
        level = torch.rand(16, 1, 1, 1, generator=rng) * 1.6 - 0.8
        source = (level + 0.05 * torch.randn(16, 1, 4, 4, generator=rng)).clamp(-1, 1)
        return source, -level.expand(-1, -1, 4, 4).clone()

    network.log_likelihood(*pairs(), rng)  # initialisation
    test = pairs()
    network.eval()
    start = network.log_likelihood(*test, dice(1))[0].mean().item()
    network.train()
    for _ in range(70):
        optimiser.zero_grad()
        target, source = network.log_likelihood(*pairs(), rng)
        (target.mean() + 0.001 * source.mean()).backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        assert network.log_likelihood(*test, dice(1))[0].mean().item() < start - 1
        wrong = test[0].flip(0), test[1]
        assert network.log_likelihood(*wrong)[0].mean() > network.log_likelihood(*test)[0].mean()


def test_every_parameter_of_the_likelihood_learns():
    network = stirred(DualGlow(dims=2, depths=[1, 1], width=6)).train()
    x = torch.randn(2, 1, 8, 8, generator=dice())
    sum(bits.mean() for bits in network.log_likelihood(x, -x, dice())).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_recomputation_gives_the_same_gradients():
    x = torch.randn(2, 1, 8, 8, generator=dice())
    gradients = []
    for recompute in (False, True):
        network = stirred(flow(2, recompute=recompute)).train()
        latents, logdet = network(x)
        (logdet.sum() + sum(z.square().sum() for z in latents)).backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


# --- initialisation by data


def test_actnorm_is_set_by_the_first_training_batch_only():
    layer = ActNorm(3)
    x = torch.tensor([1.0, -2.0, 5.0]).reshape(1, 3, 1, 1) + 4 * torch.randn(2, 3, 5, 6, generator=dice())
    assert torch.equal(layer.eval()(x)[0], x)
    assert not bool(layer.initialised)
    y, logdet = layer.train()(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((0, 2, 3), correction=0), torch.ones(3))
    assert logdet.item() == pytest.approx(30 * 3 * layer.logs.sum().item(), rel=1e-5)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer(100 * x)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_initialisation_is_part_of_the_state():
    layer, twin = ActNorm(2).train(), ActNorm(2).train()
    layer(torch.randn(4, 2, 3, 3, generator=dice()))
    twin.load_state_dict(layer.state_dict())
    twin(50 + torch.randn(4, 2, 3, 3, generator=dice(1)))
    assert torch.equal(twin.shift, layer.shift)


def test_constant_channels_and_single_values_do_not_blow_up():
    for x in (torch.full((2, 3, 4, 4), 7.0), torch.full((1, 3, 1, 1), 7.0)):
        layer = ActNorm(3).train()
        y, logdet = layer(x)
        assert float(y.abs().max()) < 1e-3
        assert bool(torch.isfinite(logdet))


# --- sampling


def test_temperature_zero_is_deterministic_and_above_it_is_not():
    network = stirred(DualGlow(dims=2, **SMALL))
    x = torch.randn(1, 1, 8, 8, generator=dice())
    with torch.no_grad():
        assert torch.equal(network(x), network.sample(x, 0.0, dice(5)))
        assert torch.equal(network.sample(x, 0.7, dice(5)), network.sample(x, 0.7, dice(5)))
        assert not torch.allclose(network.sample(x, 0.7, dice(5)), network.sample(x, 0.7, dice(6)))
        near, far = (float((network.sample(x, t, dice(5)) - network(x)).abs().mean()) for t in (0.01, 0.5))
    assert 0 < near < far
    with pytest.raises(ValueError, match="random generator"):
        network.sample(x, 0.5)


def test_the_sample_at_zero_has_the_mean_latents():
    network = stirred(DualGlow(dims=3, depths=[1, 1], width=6)).double()
    x = torch.randn(2, 1, 4, 8, 4, generator=dice(), dtype=torch.float64)
    with torch.no_grad():
        means = network.means(network.source_flow(x / 2)[0])
        found, _ = network.target_flow(network(x) / 2)
    for z, mean in zip(found, means, strict=True):
        torch.testing.assert_close(z, mean)
