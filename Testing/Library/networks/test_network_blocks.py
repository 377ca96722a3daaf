"""Padding with its crop, norms and outputs by name, initial weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from SynthGANLib.errors import InputError
from SynthGANLib.networks.blocks import (
    conv,
    conv_transpose,
    norm,
    output_activation,
    pad_to_multiple,
    reflect_pad,
    replicate_pad,
)
from SynthGANLib.training.schedule import initialise


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("extents", [(1, 5), (2, 7), (4, 3), (1, 1)])
@pytest.mark.parametrize("pads", [((0, 0), (1, 2)), ((3, 1), (0, 4)), ((11, 9), (6, 13))])
def test_mirrored_padding_is_numpys(extents, pads):
    x = torch.randn(2, 3, *extents)
    widths = [(0, 0), (0, 0), *pads]
    assert np.array_equal(reflect_pad(x, pads).numpy(), np.pad(x.numpy(), widths, mode="reflect"))
    assert np.array_equal(replicate_pad(x, pads).numpy(), np.pad(x.numpy(), widths, mode="edge"))


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("extents", [(1, 1, 1), (5, 8, 13), (16, 2, 8)])
def test_padding_to_a_multiple_is_undone_by_its_crop(extents, mode):
    x = torch.randn(1, 2, *extents)
    padded, crop = pad_to_multiple(x, 8, minimum=9, mode=mode)
    assert padded.shape[2:] == tuple(max(16, -(-extent // 8) * 8) for extent in extents)
    assert torch.equal(padded[crop], x)


def test_padding_leaves_what_fits_alone():
    x = torch.randn(1, 1, 8, 16)
    padded, crop = pad_to_multiple(x, 8)
    assert padded is x
    assert padded[crop].shape == x.shape


@pytest.mark.parametrize(("name", "weight", "gain"), [("dcgan", 0.02, 0.02), ("kaiming", (2 / 800) ** 0.5, 0)])
def test_initial_weights_follow_their_law_and_their_generator(name, weight, gain):
    def network(seed: int) -> nn.Module:
        parts = nn.Sequential(
            nn.Conv2d(32, 64, 5), norm(2, "batch", 64), conv_transpose(2)(64, 32, 4), nn.Linear(90, 9)
        )
        initialise(parts, name, torch.Generator().manual_seed(seed))
        return parts

    first, again, other = network(1), network(1), network(2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first[0].weight, other[0].weight)
    assert all(float(part.bias.detach().abs().max()) == 0 for part in (first[0], first[2], first[3]))
    assert float(first[0].weight.detach().std()) == pytest.approx(weight, rel=0.02)
    assert float(first[1].weight.detach().std()) == pytest.approx(gain, rel=0.3)
    assert float(first[1].weight.detach().mean()) == pytest.approx(1, abs=0.01)


def test_initial_weights_of_an_unknown_law_are_refused():
    with pytest.raises(InputError, match="'xavier' is no initialisation"):
        initialise(nn.Conv2d(1, 1, 1), "xavier", torch.Generator())


def test_names_of_blocks_that_do_not_exist_are_refused():
    for wrong in (
        lambda: conv(4),
        lambda: norm(2, "group", 4),
        lambda: output_activation("relu"),
    ):
        with pytest.raises(ValueError, match="not"):
            wrong()


def test_layer_norm_is_over_channels_and_voxels_of_a_sample():
    y = norm(2, "layer", 6)(5 + 3 * torch.randn(3, 6, 8, 8))
    assert torch.allclose(y.mean((1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(y.var((1, 2, 3), correction=0), torch.ones(3), atol=1e-3)
