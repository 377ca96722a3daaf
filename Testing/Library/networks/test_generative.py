"""Generators from codes: counts, shapes, labels, vessel trees, and the sampler around them."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_battery import Battery, Case, ImageBattery
from network_battery import count as parameters
from torch.nn import functional as F

from SynthGANLib.errors import ModelError
from SynthGANLib.networks.noise import MlpGenerator, NoiseDecoder
from SynthGANLib.networks.registry import GENERATIVE, build
from SynthGANLib.networks.sampler import Sampler, cells_of, code_from_image
from SynthGANLib.networks.vessel import RetinaSynthesis, VesselAutoencoder
from SynthGANLib.training.schedule import initialise


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes(length: int):
    return lambda count, rng: (torch.randn(count, length, generator=rng),)


DCGAN = {"dims": 2, "size": 16, "code": 5, "base": 4}
GROWING = {"size": 16, "code": 6, "base": 32, "cap": 8}
RETINA = {
    "autoencoder": {"name": "VesselAutoencoder", "arguments": {"code": 4, "size": 32, "base": 2}},
    "renderer": {"name": "CostaUNet", "arguments": {"base": 2, "downs": 4, "norm": "batch"}},
}
FROM_CODES = {
    "dcgan": Case("NoiseDecoder", DCGAN, low=-1, high=1, coupled=True, make=codes(5)),
    "dcgan-3d": Case(
        "NoiseDecoder",
        {"dims": 3, "size": [12, 8, 8], "start": 2, "code": 5, "base": 2, "output": "sigmoid"},
        dims=3,
        low=0,
        high=1,
        coupled=True,
        make=codes(5),
    ),
    "dcgan-labels": Case(
        "NoiseDecoder",
        {**DCGAN, "classes": 3},
        coupled=True,
        make=lambda count, rng: (torch.randn(count, 5, generator=rng), torch.arange(count) % 3),
    ),
    "mlp": Case("MlpGenerator", {"shape": [2, 6, 5], "code": 5, "widths": [8, 9]}, low=-1, high=1, make=codes(5)),
    "growing": Case("ProgressiveGenerator", GROWING, make=codes(6)),
    "pyramid": Case(
        "PyramidGenerator",
        {"size": 16, "coarsest": 8, "code": 5, "base": 4, "widths": [4]},
        coupled=True,
        make=codes(5),
    ),
    "retina": Case("RetinaSynthesis", RETINA, low=-1, high=1, coupled=True, make=codes(4)),
}
FROM_IMAGES = {
    "sampler": Case(
        "Sampler", {"generator": {"name": "NoiseDecoder", "arguments": DCGAN}, "code": 5}, low=-1, high=1, coupled=True
    ),
    "sampler-3d": Case(
        "Sampler",
        {"generator": {"name": "MlpGenerator", "arguments": {"shape": [2, 4, 4, 4], "code": 5}}, "code": 5},
        outputs=2,
        dims=3,
        extent=8,
    ),
    "sampler-level": Case(
        "Sampler", {"generator": {"name": "ProgressiveGenerator", "arguments": GROWING}, "code": 6, "level": 1}
    ),
    "sampler-retina": Case(
        "Sampler", {"generator": {"name": "RetinaSynthesis", "arguments": RETINA}, "code": 4}, outputs=4, coupled=True
    ),
}
ALL = FROM_CODES | FROM_IMAGES


LEARN = frozenset({"dcgan", "dcgan-3d", "dcgan-labels", "mlp", "pyramid"})


class TestFromCodes(Battery):
    CASES = FROM_CODES
    WITHOUT: ClassVar = {"test_every_parameter_learns": frozenset(FROM_CODES) - LEARN}


class TestFromImages(ImageBattery):
    CASES = FROM_IMAGES
    test_every_parameter_learns = None  # a sampler only wraps a generator


def test_every_level_of_a_growing_generator_learns():
    """The images of levels that are not shown have no part in a loss."""
    case = FROM_CODES["growing"]
    network = case.build()
    sum(network(case.batch(2)[0], level).square().mean() for level in range(3)).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())


def test_every_generator_is_in_the_battery():
    covered = {case.name for case in ALL.values()} | {"DualGlow", "VesselAutoencoder"}
    assert set(GENERATIVE) <= covered


# --- DCGAN and the fully connected one


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, 3_574_656), ({"size": 128}, 12_784_512)],
)
def test_dcgan_counts(arguments, expected):
    assert parameters("NoiseDecoder", arguments) == expected


@pytest.mark.parametrize(
    ("size", "start"), [(32, 4), (64, 4), (128, 4), (256, 4), (56, 7), (28, 7), ([24, 32], 3), ([16, 24, 8], 2)]
)
def test_dcgan_shapes(size, start):
    dims = len(size) if isinstance(size, list) else 2
    network = NoiseDecoder(dims, 2, size, code=3, base=1, start=start).eval()
    extents = size if isinstance(size, list) else [size] * 2
    assert network(torch.randn(1, 3)).shape == (1, 2, *extents)
    assert network(torch.randn(1, 3, *[1] * dims)).shape == (1, 2, *extents)


def test_dcgan_has_no_biases_but_those_of_its_norms():
    network = NoiseDecoder()
    biased = [name for name, part in network.named_modules() if getattr(part, "bias", None) is not None]
    norms = [name for name, part in network.named_modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert biased == norms
    assert len(norms) == 4


def test_dcgan_is_continuous_in_its_code():
    """Steps along a line between two codes shrink in proportion to their length."""
    torch.manual_seed(0)
    network = NoiseDecoder(**{**DCGAN, "size": 32}).train()
    initialise(network, "dcgan", dice())
    network(torch.randn(64, 5, generator=dice(1)))  # running statistics
    network.eval()
    a, b = torch.randn(2, 5, generator=dice(2))
    with torch.no_grad():
        jumps = []
        for steps in (16, 64):
            line = torch.linspace(0, 1, steps + 1)[:, None]
            images = network(a + line * (b - a))
            jumps.append(float((images[1:] - images[:-1]).abs().max()))
    assert jumps[0] > 0
    assert jumps[1] < 0.35 * jumps[0]


@pytest.mark.parametrize("kind", [NoiseDecoder, MlpGenerator])
def test_labels_change_the_image_and_bad_ones_are_refused(kind):
    torch.manual_seed(0)
    arguments = DCGAN if kind is NoiseDecoder else {"shape": [1, 8, 8], "code": 5}
    network = kind(**arguments, classes=3).eval()
    z = torch.randn(1, 5, generator=dice()).repeat(3, 1)
    with torch.no_grad():
        images = network(z, torch.tensor([0, 1, 1]))
    assert not torch.allclose(images[0], images[1])
    assert torch.allclose(images[1], images[2])
    with pytest.raises(ValueError, match="takes a class label"):
        network(z)
    with pytest.raises(ValueError, match="between 0 and 2"):
        network(z, torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match="need 3 labels"):
        network(z, torch.tensor([0]))
    with pytest.raises(ValueError, match="takes no class label"):
        kind(**arguments)(z, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="5 numbers, not 6"):
        network(torch.randn(1, 6), torch.tensor([0]))


def test_sizes_that_do_not_double_are_refused():
    for arguments in ({"size": 60}, {"size": [64, 60]}, {"size": 4}, {"size": [64, 64, 64]}, {"size": 0}):
        with pytest.raises(ModelError, match=r"doubled|doubles|size"):
            build("NoiseDecoder", arguments)


# --- vessels


def test_vessel_masks_and_codes():
    torch.manual_seed(0)
    network = VesselAutoencoder(size=32, base=2)
    mask = (torch.rand(2, 1, 32, 32, generator=dice()) > 0.8).float()
    mean, log_variance = network.encode(mask)
    assert mean.shape == log_variance.shape == (2, 16)
    assert network(mask).shape == mask.shape
    drawn = torch.stack([network.draw_code(mean, log_variance, dice(i)) for i in range(400)]).detach()
    torch.testing.assert_close(drawn.mean(0), mean.detach(), atol=0.3, rtol=0)
    torch.testing.assert_close(drawn.var(0), log_variance.exp().detach(), atol=0.05, rtol=0.3)
    with pytest.raises(ValueError, match="32 x 32"):
        network.encode(mask[..., 1:])


def test_vessel_autoencoder_of_the_published_size():
    with torch.no_grad():
        network = VesselAutoencoder(base=1).eval()
        logits = network.decode(torch.randn(1, 16))
    assert logits.shape == (1, 1, 256, 256)
    ups = sum(isinstance(part, torch.nn.Upsample) for part in network.decoder)
    convolutions = sum(isinstance(part, torch.nn.Conv2d) for part in network.decoder)
    assert (ups, convolutions) == (8, 8 + 4 + 1)  # a second one at 32, 64, 128 and 256, and the last


def test_vessel_autoencoder_learns_from_one_mask_and_every_parameter_does():
    torch.manual_seed(0)
    network = VesselAutoencoder(4, 16, 2).train()
    mask = (torch.rand(1, 1, 16, 16, generator=dice()) > 0.8).float()
    mean, log_variance = network.encode(mask)
    logits = network.decode(network.draw_code(mean, log_variance, dice()))
    F.binary_cross_entropy_with_logits(logits, mask).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_a_code_gives_a_mask_and_a_photograph():
    torch.manual_seed(0)
    network = RetinaSynthesis(**RETINA).eval()
    z = torch.randn(2, 4, generator=dice()).requires_grad_(True)
    mask, image = network.both(z)
    assert mask.shape == (2, 1, 32, 32)
    assert image.shape == (2, 3, 32, 32)
    assert 0 <= mask.min().item() < mask.max().item() <= 1
    assert -1 <= image.min().item() < image.max().item() <= 1
    torch.testing.assert_close(network(z), torch.cat([2 * mask - 1, image], 1))
    image.square().mean().backward()
    assert bool(z.grad.abs().sum() > 0)  # end to end
    assert all(p.grad is not None for p in network.autoencoder.decoder.parameters())


# --- sampler


@pytest.mark.parametrize(
    ("extents", "count"), [((37, 53), 100), ((64, 64), 16), ((11, 13), 100), ((9, 10, 11), 100), ((1, 1, 40), 7)]
)
def test_noise_images_give_standard_normal_codes(extents, count):
    images = 3000
    found = code_from_image(torch.randn(images, 1, *extents, generator=dice()), count)
    assert found.shape == (images, count)
    spread = 5 / images**0.5
    assert float(found.mean(0).abs().max()) < spread
    assert float((found.var(0) - 1).abs().max()) < 1.5 * spread
    off_diagonal = torch.corrcoef(found.T) - torch.eye(count)
    assert float(off_diagonal.abs().max()) < 1.2 * spread  # count squared numbers are looked at
    assert float((found.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("extents", [(1, 1), (3, 5), (2, 1, 3), (7, 9), (512, 3)])
def test_any_image_is_a_seed(extents):
    for image in (torch.full((1, 2, *extents), 40.0), torch.linspace(-1e3, 1e3, 2 * 7)[3].expand(1, 2, *extents)):
        found = code_from_image(image, 100)
        assert found.shape == (1, 100)
        assert bool(torch.isfinite(found).all())
        assert float(found.square().mean().sqrt()) < 1.43
    assert torch.equal(code_from_image(torch.zeros(1, 1, *extents), 4), torch.zeros(1, 4))


def test_cells_are_many_enough_and_nearly_cubes():
    assert cells_of((256, 256), 100) == (10, 10)
    assert cells_of((256, 128), 100) == (15, 7)
    assert cells_of((1, 8), 100) == (1, 8)


def test_sampler_is_the_generator_of_the_code():
    torch.manual_seed(0)
    network = Sampler({"name": "NoiseDecoder", "arguments": {**DCGAN, "classes": 2}}, 5, label=1).eval()
    x = torch.randn(2, 3, 16, 16, generator=dice())
    with torch.no_grad():
        expected = network.generator(code_from_image(x, 5), torch.tensor([1, 1]))
        assert torch.equal(network(x), expected)
        assert torch.equal(network(x), network(x))
        assert not torch.allclose(network(x[:1]), network(x[1:]))
        odd = network(x[..., :13, :9])
    assert odd.shape == (2, 1, 13, 9)
