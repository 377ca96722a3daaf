"""One battery for every network: shapes, gradients, sizes it refuses, saved weights, its own `multiple`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from SynthGANLib.errors import ModelError
from SynthGANLib.networks.registry import build, constructor
from SynthGANLib.networks.unet import MixtureUNet, UNet, depth_to_space, space_to_depth

CASES = {
    "unet-3d": ("UNet", {"dims": 3, "widths": [4, 6, 8]}, 3),
    "unet-2d": ("UNet", {"dims": 2, "in_channels": 3, "out_channels": 2, "widths": [4, 6]}, 2),
    "mixture-3d": ("MixtureUNet", {"dims": 3, "values": [-1.0, 0.0, 1.0], "widths": [4, 6]}, 3),
    "mixture-2d": ("MixtureUNet", {"dims": 2, "values": [-1.0, 1.0], "widths": [4, 6, 8]}, 2),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    name, arguments, dims = CASES[request.param]
    torch.manual_seed(0)
    return build(name, arguments), arguments.get("in_channels", 1), arguments.get("out_channels", 1), dims


def test_shape_is_kept_at_uneven_sizes(case):
    network, inputs, outputs, dims = case
    extents = [network.multiple * n for n in (3, 2, 4)][:dims]
    assert network(torch.randn(2, inputs, *extents)).shape == (2, outputs, *extents)


def test_every_parameter_learns(case):
    network, inputs, _, dims = case
    x = torch.randn(1, inputs, *[network.multiple * 2] * dims)
    network(x).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_extent_that_does_not_divide_is_refused(case):
    network, inputs, _, dims = case
    with pytest.raises((ValueError, RuntimeError)):
        network(torch.randn(1, inputs, *[network.multiple * 2 + 1] * dims))


def test_saved_weights_give_the_same_bits(case):
    network, inputs, _, dims = case
    twin = type(network)(**_arguments(network))
    twin.load_state_dict(network.state_dict())
    x = torch.randn(1, inputs, *[network.multiple * 2] * dims)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), twin.eval()(x))


def _arguments(network):
    for name, arguments, _ in CASES.values():
        if isinstance(network, constructor(name)):
            candidate = build(name, arguments)
            if [p.shape for p in candidate.parameters()] == [p.shape for p in network.parameters()]:
                return arguments
    raise AssertionError("the network is none of the cases")


@pytest.mark.parametrize("shape", [(2, 3, 4, 6, 8), (1, 2, 6, 4)])
def test_rearrangement_is_exact_both_ways(shape):
    x = torch.randn(shape)
    y = space_to_depth(x)
    assert y.shape[1] == shape[1] * 2 ** (len(shape) - 2)
    assert torch.equal(depth_to_space(y), x)


def test_rearrangement_keeps_each_block_together():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert space_to_depth(x)[0, :, 0, 0].tolist() == [0.0, 1.0, 4.0, 5.0]


def test_parameter_counts():
    """Counted by hand from the layer table: convolutions without bias, two parameters a normalised channel."""

    def block(a: int, b: int, k: int) -> int:
        return k * a * b + 2 * b

    network = UNet(dims=3, in_channels=1, out_channels=1, widths=(4, 6), convs=1)
    expected = block(1, 4, 27) + block(4, 6, 27) + (6 * 4 + 4) + block(8, 4, 27) + (4 + 1)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_mixture_is_bounded_by_its_values_without_residual():
    torch.manual_seed(1)
    network = MixtureUNet(dims=2, values=[-1.0, 0.5], widths=[4, 6])
    logits = 20 * torch.randn(1, 2, 8, 8)
    value = network.combine(logits, torch.zeros(1, 1, 8, 8))
    assert float(value.min()) >= -1.0
    assert float(value.max()) <= 0.5
    sure = network.combine(torch.tensor([50.0, -50.0]).reshape(1, 2, 1, 1), torch.full((1, 1, 1, 1), 0.25))
    assert float(sure) == pytest.approx(-0.75)


def test_dimensions_other_than_two_and_three_are_refused():
    with pytest.raises(ModelError, match="dimensions"):
        build("UNet", {"dims": 4})


def test_unknown_network_and_argument_are_named():
    with pytest.raises(ModelError, match="Resnet99"):
        build("Resnet99", {})
    with pytest.raises(ModelError, match="depth_of_field"):
        build("UNet", {"depth_of_field": 3})


@pytest.mark.parametrize("dims", [2, 3])
def test_coarsest_level_of_one_voxel_is_left_with_the_offset(dims):
    """The smallest tile a U-Net takes has one voxel at its coarsest level, whose deviation from its mean is zero."""
    torch.manual_seed(1)
    network = UNet(dims, widths=(4, 4, 8)).eval()
    norm = network.down[-1][-2]
    norm.bias.data.uniform_(-1, 1)
    x = torch.randn(2, 1, *[network.multiple] * dims)
    assert network(x).shape == x.shape
    one = torch.randn(2, 8, *[1] * dims)
    expected = norm.bias.detach().reshape(1, 8, *[1] * dims).expand_as(one)
    torch.testing.assert_close(norm(one), expected)
    more = torch.randn(2, 8, *[3] * dims)
    reference = nn.InstanceNorm2d(8, affine=True) if dims == 2 else nn.InstanceNorm3d(8, affine=True)
    reference.load_state_dict(norm.state_dict())
    assert torch.equal(norm(more), reference(more))
