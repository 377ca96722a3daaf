"""U-Nets: what is joined where, one cell at the bottom, bands, and the weights of VGG."""

from __future__ import annotations

import sys

import pytest
import torch
from network_battery import captured, on_meta
from torch import nn
from torch.nn import functional as F

from SynthGANLib.errors import ModelError
from SynthGANLib.networks.blocks import margin_crop
from SynthGANLib.networks.costa import CostaUNet
from SynthGANLib.networks.frea import FreaUNet
from SynthGANLib.networks.han_unet import HanUNet
from SynthGANLib.networks.monai_nets import ResidualUNet, VolumeUNet
from SynthGANLib.networks.strided_unet import StridedUNet
from SynthGANLib.networks.vgg import FcnTranslator, Vgg16, load_vgg_weights


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# Han's U-Net and its encoder


def test_han_has_27_convolutions():
    with torch.device("meta"):
        network = HanUNet()
    assert sum(isinstance(part, nn.Conv2d) for part in network.modules()) == 27
    assert len(network.encoder_convolutions()) == 13


def test_han_joins_encoder_before_upsampled():
    network = HanUNet(widths=[4, 6], norm="none")
    joined, bottom = captured(network.up[0]), []
    network.bottom.register_forward_hook(lambda *inputs: bottom.append(inputs[2].clone()))
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        network(x)
        encoder = network.down[0](x.repeat(1, 3, 1, 1))
    assert torch.equal(joined[0][:, :4], encoder)
    assert torch.equal(joined[0][:, 4:], F.interpolate(bottom[0], scale_factor=2))


def test_grey_is_rgb_of_three_equal_channels():
    grey, colour = HanUNet(widths=[4, 6]).eval(), HanUNet(in_channels=3, widths=[4, 6]).eval()
    colour.load_state_dict(grey.state_dict())
    x = torch.randn(1, 1, 12, 10)
    assert torch.equal(grey(x), colour(x.repeat(1, 3, 1, 1)))


def torchvision_like(convolutions: list[nn.Module]) -> dict[str, torch.Tensor]:
    """Weights named as torchvision names them: activations and pooling take numbers as well."""
    state = {"classifier.0.weight": torch.zeros(2, 2)}
    for number, part in enumerate(convolutions):
        state[f"features.{3 * number}.weight"] = torch.full_like(part.weight, number + 0.5)
        state[f"features.{3 * number}.bias"] = torch.full_like(part.bias, -number)
    return state


def test_weights_of_vgg16_fill_the_encoders_in_order():
    for network in (HanUNet(widths=[2, 3, 3, 4, 4]), FcnTranslator(widths=[2, 3, 3, 4, 4])):
        parts = network.encoder_convolutions() if isinstance(network, HanUNet) else network.trunk.convolutions()
        load_vgg_weights(parts, torchvision_like(parts))
        assert [float(part.weight.detach().mean()) for part in parts] == [number + 0.5 for number in range(13)]
        assert [float(part.bias.detach().mean()) for part in parts] == [-number for number in range(13)]


def test_weights_of_another_network_change_nothing():
    network = Vgg16(widths=[2, 3, 3, 4, 4])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torchvision_like(network.convolutions())
    state["features.36.weight"] = torch.zeros(7, 7, 3, 3)
    with pytest.raises(ValueError, match=r"features\.36\.weight"):
        load_vgg_weights(network.convolutions(), state)
    with pytest.raises(ValueError, match="13 are needed"):
        load_vgg_weights(network.convolutions(), {"features.0.weight": torch.zeros(2, 3, 3, 3)})
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_vgg16_is_as_large_as_published():
    network, image = on_meta(Vgg16, 1, 3, 64, 48)
    assert sum(p.numel() for p in network.parameters()) == 14_714_688
    assert len(network.convolutions()) == 13
    assert [feature.shape[1:] for feature in network(image)] == [
        (64, 64, 48),
        (128, 32, 24),
        (256, 16, 12),
        (512, 8, 6),
        (512, 4, 3),
    ]


def test_fcn_adds_the_scores_of_three_strides():
    network = FcnTranslator(widths=[2, 2, 3, 3, 3])
    x = torch.randn(1, 1, 32, 32)
    for score in network.scores:
        nn.init.zeros_(score.weight)
        nn.init.zeros_(score.bias)
    for score in network.scores:
        nn.init.constant_(score.bias, 0.25)
    assert torch.allclose(network(x), torch.full((1, 1, 32, 32), 0.75))


# strided U-Nets


def test_pix2pix_reaches_one_cell():
    network, image = on_meta(StridedUNet, 1, 1, 256, 256)
    features = network.encode(image)
    assert [feature.shape[1] for feature in features] == [64, 128, 256, 512, 512, 512, 512, 512]
    assert features[-1].shape[2:] == (1, 1)
    volume, patch = on_meta(lambda: StridedUNet(3, downs=6), 1, 1, 64, 64, 64)
    assert volume.encode(patch)[-1].shape == (1, 512, 1, 1, 1)
    assert volume(patch).shape == patch.shape
    ucgan, brain = on_meta(lambda: StridedUNet(3, downs=4, skips=False), 1, 1, 48, 64, 48)
    assert ucgan.encode(brain)[-1].shape == (1, 512, 3, 4, 3)
    assert ucgan(brain).shape == brain.shape


def test_only_the_last_convolution_has_a_bias():
    network = StridedUNet(downs=4, base=4)
    parts = [part for part in network.modules() if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d))]
    assert [part.bias is not None for part in parts] == [False] * 7 + [True]
    norms = [sum(isinstance(part, nn.InstanceNorm2d) for part in step) for step in (*network.down, *network.up)]
    assert norms == [0, 1, 1, 0, 1, 1, 1, 0]


def test_dropout_follows_the_three_deepest_steps_up():
    def dropped(network):
        return [any(isinstance(part, nn.Dropout) for part in step) for step in network.up]

    assert dropped(StridedUNet(downs=6, base=2)) == [True] * 3 + [False] * 3
    assert dropped(StridedUNet(downs=3, base=2)) == [True, True, False]  # never on the image
    assert not any(dropped(StridedUNet(downs=6, base=2, dropout=0.0)))
    network, x = StridedUNet(downs=4, base=4), torch.randn(1, 1, 16, 16)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_skips_are_joined_before_what_comes_up():
    network = StridedUNet(downs=3, base=4, dropout=0.0)
    joined = [captured(step) for step in network.up]
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        network(x)
        first, second, third = network.encode(x)
        rising = network.up[0](third)
    assert torch.equal(joined[0][0], third)
    assert torch.equal(joined[1][0], torch.cat([second, rising], 1))
    assert torch.equal(joined[2][0][:, :4], first)


@pytest.mark.parametrize(("dims", "kernel"), [(2, 4), (3, 4), (3, 3)])
def test_skips_cost_the_widths_they_join(dims, kernel):
    def size(skips: bool) -> int:
        network = StridedUNet(dims, downs=4, base=4, cap=16, kernel=kernel, skips=skips)
        return sum(p.numel() for p in network.parameters())

    joined = 16 * 8 + 8 * 4 + 4 * 1  # widths 4, 8, 16, 16; the innermost features are no skip
    assert size(True) - size(False) == joined * kernel**dims


def test_odd_extents_are_cropped_on_their_own_level():
    """300 halves to 75, which is odd: the features stay as small as they can, and whole multiples are untouched."""
    network, image = on_meta(lambda: StridedUNet(downs=5), 1, 1, 300, 256)
    assert [tuple(feature.shape[2:]) for feature in network.encode(image)] == [
        (150, 128),
        (75, 64),
        (38, 32),
        (19, 16),
        (10, 8),
    ]
    assert network(image).shape == image.shape


def test_costa_reaches_one_cell_and_norms_its_first_layer():
    network, image = on_meta(CostaUNet, 1, 1, 256, 256)
    assert network(image).shape == (1, 3, 256, 256)
    widths = [step[0].out_channels for step in network.down]
    assert widths == [32, 64, 128, 256, 256, 256, 256]
    assert isinstance(network.down[0][1], nn.InstanceNorm2d)
    inner = captured(network.grow)
    network(image)
    assert inner[0].shape == (1, 256, 1, 1)
    big, fundus = on_meta(lambda: CostaUNet(base=64, downs=8), 1, 1, 512, 512)
    assert big(fundus).shape == (1, 3, 512, 512)


def test_costa_trains_on_a_single_image_with_batch_norm():
    network = CostaUNet(base=2, downs=3, norm="batch").train()
    y = network(torch.randn(1, 1, 16, 16))
    y.mean().backward()
    assert bool(torch.isfinite(y).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters())


# FREA-UNet


def test_bands_add_up_exactly():
    network = FreaUNet(widths=[4, 6, 8, 8]).eval()
    x = torch.randn(2, 1, 19, 33)
    low, high = network.parts(x)
    assert torch.equal(low + high, network(x))


def test_attention_lies_on_its_skips():
    with torch.no_grad():
        low, high = FreaUNet(widths=[4, 6, 8, 8]).gates(torch.randn(2, 1, 32, 48))
    assert low.shape == (2, 1, 8, 12)
    assert high.shape == (2, 1, 32, 48)
    assert all(0 < float(gate.min()) < float(gate.max()) < 1 for gate in (low, high))


def above(image: torch.Tensor, cut: float) -> float:
    """Energy of an image above the spatial frequency `cut` (cycles a voxel) of either axis."""
    energy = torch.fft.fft2(image - image.mean((-2, -1), keepdim=True), norm="ortho").abs().square()
    v, u = (torch.fft.fftfreq(extent).abs() for extent in image.shape[-2:])
    return float(energy[..., torch.maximum(v[:, None], u[None]) > cut].sum())


def test_low_band_is_low():
    low, _ = FreaUNet(widths=[4, 6, 8, 8]).eval().parts(torch.randn(1, 1, 64, 64))
    inside = margin_crop(low.detach(), 8) * torch.outer(torch.hann_window(48), torch.hann_window(48))
    assert above(inside, 0.25) < 0.03 * above(inside, 0.0)


def test_closed_high_gate_removes_the_edges():
    network = FreaUNet(widths=[4, 6, 8, 8]).eval()
    x = (torch.rand(1, 1, 64, 64) > 0.5).float()
    with torch.no_grad():
        _, high = network.parts(x)
        nn.init.constant_(network.high_gate.score.bias, -50.0)
        _, closed = network.parts(x)
    assert above(closed, 0.25) < 0.5 * above(high, 0.25)


# MONAI


@pytest.mark.parametrize(("kind", "residual"), [(ResidualUNet, True), (VolumeUNet, False)])
def test_monai_networks_compute_what_monai_computes(kind, residual):
    nets = pytest.importorskip("monai.networks.nets")
    ours = kind(dims=2, in_channels=2, out_channels=3, widths=[4, 6, 8], output="linear").eval()
    theirs = nets.DynUNet(2, 2, 3, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 6, 8], res_block=residual).eval()
    listed = [p for name, p in theirs.named_parameters()]
    with torch.no_grad():
        for own, other in zip(ours.parameters(), listed, strict=True):
            assert own.shape == other.shape
            other.copy_(own)
        x = torch.randn(1, 2, 16, 12)
        assert torch.equal(ours(x), theirs(x))


def test_missing_monai_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets.dynunet", None)
    with pytest.raises(ModelError, match="needs MONAI") as caught:
        ResidualUNet(widths=[4, 4, 4])
    assert caught.value.next_step == "pip install monai"
