"""ARGAN's judge: causal predictions, energies that add up, real images below others."""

from __future__ import annotations

import pytest
import torch

from SynthGANLib.networks.autoregressive import AutoregressiveDiscriminator


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def argan(order: str) -> AutoregressiveDiscriminator:
    torch.manual_seed(0)
    return AutoregressiveDiscriminator(size=16, base=4, hidden=8, order=order)


def test_autoregressive_head_count():
    with torch.device("meta"):
        network = AutoregressiveDiscriminator()
    head = [*network.memory.parameters(), *network.readout.parameters()]
    assert sum(p.numel() for p in head) == 2_363_904
    assert network.sequence(torch.empty(2, 1, 32, 32, device="meta")).shape == (2, 16, 512)


@pytest.mark.parametrize(("order", "shape"), [("raster", (16, 8)), ("channel", (8, 16))])
def test_predictions_are_causal(order, shape):
    """Step t's prediction depends on no step from t on, and on one before t, by automatic differentiation."""
    network = argan(order).double()
    sequence = network.sequence(torch.randn(1, 1, 16, 16, generator=dice()).double()).detach()
    assert sequence.shape == (1, *shape)
    sequence.requires_grad_(True)
    predicted = network.predict(sequence)
    for t in range(shape[0]):
        (slope,) = torch.autograd.grad(predicted[0, t].sum(), sequence, retain_graph=True)
        influence = slope[0].abs().sum(1)
        assert torch.equal(influence[t:], torch.zeros_like(influence[t:])), t
        assert t == 0 or float(influence[:t].max()) > 0, t


@pytest.mark.parametrize("order", ["raster", "channel"])
def test_energy_is_the_mean_of_its_steps(order):
    network = argan(order)
    x = torch.randn(3, 1, 16, 16, generator=dice())
    with torch.no_grad():
        torch.testing.assert_close(network.energy(x) * network.steps(x).shape[1], network.steps(x).sum(1))
        assert float(network.steps(x).min()) >= 0
        assert float(network.sequence(x).abs().max()) < 1
        assert torch.equal(network(x), network.energy(x))


def test_the_order_of_the_steps_matters():
    network = argan("raster")
    with torch.no_grad():
        sequence = network.sequence(torch.randn(1, 1, 16, 16, generator=dice()))
        other = sequence[:, torch.randperm(16, generator=dice())]
        energies = [float((q - network.predict(q)).abs().mean()) for q in (sequence, other)]
    assert abs(energies[0] - energies[1]) > 1e-5


def test_the_encoder_learns_through_features_and_predictions():
    network = argan("raster")
    x = torch.randn(2, 1, 16, 16, generator=dice())
    gradients = []
    for keep in (lambda q: q, lambda q: q.detach()):
        network.zero_grad()
        sequence = network.sequence(x)
        (sequence - network.predict(keep(sequence))).abs().mean().backward()
        gradients.append(network.encoder[0].weight.grad.clone())
    assert float((gradients[0] - gradients[1]).abs().max()) > 1e-6


@pytest.mark.parametrize("order", ["raster", "channel"])
def test_real_images_get_less_energy_than_others_once_trained(order):
    network = argan(order)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3, (0.5, 0.999))
    rng = dice()
    axis = torch.arange(16.0)

    def blobs(count):
        y, x = 4 + 8 * torch.rand(2, count, 1, generator=rng)
        return (torch.exp(-((axis - y) ** 2) / 8)[:, :, None] * torch.exp(-((axis - x) ** 2) / 8)[:, None])[:, None]

    def others(count):
        return torch.rand(count, 1, 16, 16, generator=rng)

    for _ in range(60):
        optimiser.zero_grad()
        real, fake = network.energy(blobs(16)), network.energy(others(16))
        (real.mean() + (0.2 - fake).clamp(min=0).mean()).backward()
        optimiser.step()
    with torch.no_grad():
        assert float(network.energy(blobs(32)).mean()) < 0.5 * float(network.energy(others(32)).mean())
