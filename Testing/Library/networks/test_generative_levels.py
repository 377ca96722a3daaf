"""Networks that work level by level: progressive growing, and the Laplacian pyramid."""

from __future__ import annotations

import pytest
import torch
from network_battery import count as parameters
from torch.nn import functional as F

from SynthGANLib.errors import ModelError
from SynthGANLib.networks.progressive import (
    EqualConv,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    minibatch_deviation,
    pixel_norm,
)
from SynthGANLib.networks.pyramid import PyramidGenerator, halve, laplacian_pyramid, reconstruct
from SynthGANLib.networks.registry import build

GROWING = {"size": 16, "code": 6, "base": 32, "cap": 8}


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- progressive growing


@pytest.mark.parametrize(
    ("size", "channels", "generator", "critic"),
    [
        (64, 1, 22_485_765, 22_493_441),
        (256, 5, 23_049_315, 23_057_345),
        (512, 4, 23_074_656, 23_082_753),
        (1024, 3, 23_079_115, 23_087_249),
    ],
)
def test_progressive_counts(size, channels, generator, critic):
    assert parameters("ProgressiveGenerator", {"size": size, "out_channels": channels}) == generator
    assert parameters("ProgressiveDiscriminator", {"size": size, "in_channels": channels}) == critic


@pytest.mark.parametrize(("dims", "size"), [(2, 16), (3, [8, 16, 8])])
def test_fading_in_is_exact(dims, size):
    torch.manual_seed(0)
    network = ProgressiveGenerator(dims, 2, size, 6, 32, 8)
    z = torch.randn(3, 6, generator=dice())
    with torch.no_grad():
        for level in range(1, network.top + 1):
            before, after = network(z, level - 1), network(z, level)
            assert after.shape[2:] == network.extents(level)
            doubled = F.interpolate(before, scale_factor=2, mode="nearest")
            assert torch.equal(network(z, level, 0.0), doubled)
            assert torch.equal(network(z, level, 1.0), after)
            torch.testing.assert_close(network(z, level, 0.25), 0.75 * doubled + 0.25 * after)
        assert torch.equal(network(z), network(z, network.top))


@pytest.mark.parametrize(("dims", "size"), [(2, 16), (3, [8, 16, 8])])
def test_fading_in_of_the_critic_is_exact(dims, size):
    torch.manual_seed(0)
    critic = ProgressiveDiscriminator(dims, 2, size, 32, 8)
    pool = F.avg_pool2d if dims == 2 else F.avg_pool3d
    with torch.no_grad():
        for level in range(1, critic.top + 1):
            x = torch.randn(4, 2, *critic.extents(level), generator=dice())
            assert critic(x, level).shape == (4, 1)
            assert torch.equal(critic(x, level, 0.0), critic(pool(x, 2), level - 1))
            assert torch.equal(critic(x, level, 1.0), critic(x, level))
            assert not torch.allclose(critic(x, level, 0.5), critic(x, level))


def test_levels_and_extents_that_are_not_there_are_refused():
    generator, critic = ProgressiveGenerator(**GROWING), ProgressiveDiscriminator(size=16, base=32, cap=8)
    with pytest.raises(ValueError, match="levels 0 to 2, not 3"):
        generator(torch.zeros(1, 6), 3)
    with pytest.raises(ValueError, match=r"images of \(8, 8\), not \(16, 16\)"):
        critic(torch.zeros(1, 1, 16, 16), 1)
    with pytest.raises(ModelError, match="doubled"):
        build("ProgressiveGenerator", {"size": 48})


def test_pixel_norm_gives_unit_mean_square():
    x = 30 * torch.randn(2, 16, 3, 4, 5, generator=dice())
    torch.testing.assert_close(pixel_norm(x).square().mean(1), torch.ones(2, 3, 4, 5))
    torch.testing.assert_close(pixel_norm(7 * x), pixel_norm(x))
    assert pixel_norm(x.half()).dtype == torch.half


def test_minibatch_deviation_is_zero_for_identical_samples_only():
    same = torch.randn(1, 3, 4, 4, generator=dice()).repeat(8, 1, 1, 1).requires_grad_(True)
    out = minibatch_deviation(same)
    assert out.shape == (8, 4, 4, 4)
    assert torch.equal(out[:, 3], torch.zeros(8, 4, 4))
    out.sum().backward()
    assert bool(torch.isfinite(same.grad).all())
    assert float(minibatch_deviation(same[:1])[:, 3].detach().abs().max()) == 0


def test_minibatch_deviation_is_the_mean_deviation_of_its_group():
    x = torch.randn(8, 3, 4, 4, generator=dice())
    out = minibatch_deviation(x)[:, 3]
    for first in (0, 1):  # groups of four: every second sample
        expected = x[first::2].std(0, correction=0).mean()
        torch.testing.assert_close(out[first::2], expected.expand(4, 4, 4), atol=2e-4, rtol=0)
    assert minibatch_deviation(x[:6])[:, 3, 0, 0].unique().numel() == 2  # two groups of three


def test_equalised_layers_keep_the_scale():
    """He's gain: after a leaky ReLU the mean square of the output is that of the input, whatever the width."""
    for width in (8, 128):
        layer = EqualConv(2, width, 256, 3)
        assert float(layer.weight.detach().std()) == pytest.approx(1.0, abs=0.1)
        with torch.no_grad():
            y = F.leaky_relu(layer(torch.randn(4, width, 12, 12, generator=dice())), 0.2)[..., 1:-1, 1:-1]
        assert float(y.square().mean()) == pytest.approx(1.04, abs=0.2)


# --- pyramids


@pytest.mark.parametrize("extents", [(32, 32), (37, 5), (1, 9), (9, 16, 7)])
def test_laplacian_pyramid_is_exact(extents):
    x = torch.randn(2, 3, *extents, generator=dice())
    parts = laplacian_pyramid(x, 3)
    images = reconstruct(parts)
    assert len(parts) == len(images) == 4
    assert float((images[-1] - x).abs().max()) < 1e-6
    small = x
    for image in reversed(images):
        torch.testing.assert_close(image, small, atol=1e-6, rtol=0)
        small = halve(small)
    assert parts[0].shape[2:] == tuple(-(-n // 8) for n in extents)


def test_residuals_of_a_smooth_image_are_small():
    ramp = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
    assert float(laplacian_pyramid(ramp, 1)[1][..., 2:-2].abs().max()) < 1e-6


def pyramid(size=16, coarsest=4, **more):
    torch.manual_seed(0)
    arguments = {"size": size, "code": 5, "coarsest": coarsest, "base": 2, "widths": [3], "start": 2} | more
    return PyramidGenerator(2, 1, **arguments)


def test_a_level_is_trained_without_the_others():
    network = pyramid()
    network.residual(2, network.enlarge(torch.randn(2, 1, 8, 8), 2), dice()).square().mean().backward()
    touched = {name.rsplit(".layers", 1)[0] for name, p in network.named_parameters() if p.grad is not None}
    assert touched == {"levels.1"}


def test_the_levels_are_trained_together_through_the_pyramid():
    network = pyramid()
    network(torch.randn(2, 5, generator=dice()), dice()).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_images_of_a_pyramid_are_its_sum():
    network = pyramid().eval()
    z = torch.randn(2, 5, generator=dice())
    with torch.no_grad():
        images = network.images(z, dice(3))
        assert [image.shape[-1] for image in images] == [4, 8, 16]
        rng = dice(3)
        for level in (1, 2):
            enlarged = network.enlarge(images[level - 1], level)
            torch.testing.assert_close(images[level], enlarged + network.residual(level, enlarged, rng))
        assert not torch.equal(images[-1], network(z, dice(4)))


def test_a_code_means_one_image():
    network = pyramid().eval()
    z = torch.randn(3, 5, generator=dice())
    with torch.no_grad():
        together = network(z)
        torch.testing.assert_close(network(z[1:2]), together[1:2])
        assert torch.equal(network(z), together)
        assert not torch.allclose(network(z + 1e-3), together, atol=1e-3)  # other noise maps


def test_pyramid_of_the_published_size():
    with torch.no_grad():
        image = PyramidGenerator(out_channels=3, base=2, widths=[2, 4, 2]).eval()(torch.randn(1, 100))
    assert image.shape == (1, 3, 256, 256)
