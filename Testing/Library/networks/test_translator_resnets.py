"""Residual translators: halves, checkerboards, floors, and what the domains of UNIT share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_battery import on_meta
from torch import nn
from torch.nn import functional as F

from SynthGANLib.networks.blocks import margin_crop
from SynthGANLib.networks.resnet import PanResNet, ResNetTranslator
from SynthGANLib.networks.unit import ReverseUnit, UnitTranslator


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def jumpiness(image: torch.Tensor) -> float:
    """Share of the spectral energy (without the mean) at the Nyquist frequency of either axis."""
    energy = torch.fft.fft2(image - image.mean()).abs().square()
    half = [extent // 2 for extent in image.shape[-2:]]
    both = energy[..., half[0], :].sum() + energy[..., :, half[1]].sum() - energy[..., half[0], half[1]].sum()
    return float(both) / float(energy.sum())


# residual translators


def test_halves_make_the_whole():
    network = ResNetTranslator(base=4, blocks=2)
    x = torch.randn(1, 1, 16, 12)
    h = network.encode(x)
    assert h.shape == (1, 16, 4, 3)
    assert torch.equal(network.decode(h), network(x))


def test_residual_blocks_start_from_what_they_are_given():
    network = ResNetTranslator(base=4, blocks=1)
    nn.init.zeros_(network.blocks[0].body[3].conv.weight)
    nn.init.zeros_(network.blocks[0].body[3].conv.bias)
    h = torch.randn(1, 16, 5, 6)
    assert torch.equal(network.blocks(h), h)


def test_resizing_leaves_no_checkerboard():
    """A flat latent gives a flat image through resizing, and a pattern of period two through transposing."""
    flat = torch.randn(1, 16, 1, 1).expand(1, 16, 8, 8).contiguous()
    smooth = F.interpolate(torch.randn(1, 16, 3, 3), size=(8, 8), mode="bilinear", align_corners=True)
    ratios = {"resize": [], "transposed": []}
    for up, found in ratios.items():
        for seed in range(5):
            torch.manual_seed(seed)
            network = ResNetTranslator(base=4, up=up, blocks=0, norm="none", output="linear")
            with torch.no_grad():
                image = margin_crop(network.decode(flat), 8)  # the border is not what is asked about
                assert float(image.std()) < 1e-6 if up == "resize" else float(image.std()) > 1e-3
                found.append(jumpiness(margin_crop(network.decode(smooth), 8)))
    assert np.median(ratios["transposed"]) > 3 * np.median(ratios["resize"])


def test_pan_stays_above_air_and_rectifies_after_adding():
    network = PanResNet(dims=2, base=4)
    nn.init.constant_(network.decoder[-2].conv.bias, -3.0)
    y = network(3 * torch.randn(1, 1, 20, 20)).detach()
    assert float(y.min()) == -1
    assert float(network.blocks[0](-10 * torch.ones(1, 16, 4, 4)).detach().min()) == 0
    with torch.no_grad():
        assert torch.allclose(network.decoder[-1](torch.tensor([-9.0, -2.0, 0.0, 4.0])), torch.tensor([-1.0, -1, 0, 2]))


# UNIT


def test_unit_latent_has_a_quarter_of_the_extent():
    network, image = on_meta(UnitTranslator, 1, 1, 64, 48)
    assert network.encode_a(image).shape == (1, 256, 16, 12)
    assert network.decode_b(network.encode_a(image)).shape == image.shape


def test_unit_way_back_is_made_of_the_same_weights():
    unit = UnitTranslator(channels=[1, 3], base=4, blocks=2, share=1).eval()
    back = ReverseUnit.of(unit)
    twin = ReverseUnit(channels=[1, 3], base=4, blocks=2, share=1).eval()
    twin.load_state_dict(unit.state_dict())
    b = torch.randn(1, 3, 8, 12)
    with torch.no_grad():
        assert torch.equal(unit(b[:, :1]), unit.decode_b(unit.encode_a(b[:, :1])))
        assert torch.equal(back(b), unit.decode_a(unit.encode_b(b)))
        assert torch.equal(back(b), twin(b))
        assert torch.equal(unit(b[:, :1]), unit(b[:, :1]))
    assert {id(p) for p in back.parameters()} == {id(p) for p in unit.parameters()}
    assert not back.training


def test_shared_blocks_learn_from_both_domains():
    unit = UnitTranslator(base=4, blocks=3, share=2)
    shared = [*unit.shared_encoder.parameters(), *unit.shared_decoder.parameters()]
    x = torch.randn(1, 1, 8, 8)
    for within in (lambda: unit.decode_a(unit.encode_a(x)), lambda: unit.decode_b(unit.encode_b(x))):
        unit.zero_grad()
        within().square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in shared)
        assert all(float(p.grad.abs().sum()) > 0 for p in shared if p.ndim > 1)
    assert unit.encoder_a[0].conv.weight.grad is None  # the last was b's own
    assert len(unit.shared_encoder) == len(unit.shared_decoder) == 2


def test_sharing_saves_each_block_once():
    def size(share: int) -> int:
        return sum(p.numel() for p in UnitTranslator(base=4, blocks=3, share=share).parameters())

    block = 2 * (16 * 16 * 9 + 16)
    assert size(0) - size(1) == 2 * block
    assert size(0) - size(3) == 6 * block


@pytest.mark.parametrize("direction", ["aa", "ab", "ba", "bb"])
def test_every_way_through_unit_reaches_its_weights(direction):
    unit = UnitTranslator(base=4, blocks=1)
    h = getattr(unit, f"encode_{direction[0]}")(torch.randn(1, 1, 8, 8))
    getattr(unit, f"decode_{direction[1]}")(h).square().sum().backward()
    learnt = {name.split(".")[0] for name, p in unit.named_parameters() if p.grad is not None}
    assert learnt == {f"encoder_{direction[0]}", f"decoder_{direction[1]}"}
