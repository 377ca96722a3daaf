"""The faster convolution gives what the plain one gives, and is used only where it may be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from SynthGANLib.inference import convolutions
from SynthGANLib.inference.convolutions import FastConvolutions, _suits
from SynthGANLib.networks.registry import build

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch has no oneDNN here")


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
        {"kernel_size": (1, 3, 5), "padding": (0, 1, 2), "dilation": (1, 2, 1)},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 1},
    ],
)
def test_layers_agree_with_the_plain_convolution(settings: dict) -> None:
    torch.manual_seed(1)
    layer = nn.Conv3d(4, 6, **settings)
    exact = copy.deepcopy(layer).double()
    for batch in (1, 2):
        image = tensor(batch, 4, 11, 12, 13)
        with torch.no_grad(), FastConvolutions():
            fast, reference = layer(image), exact(image.double())
        torch.testing.assert_close(fast, reference.float(), rtol=1e-5, atol=1e-5)


@needs_onednn
@pytest.mark.parametrize("name", ["UNet", "MixtureUNet"])
def test_networks_agree_and_convolutions_are_taken_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    network = build(name, {"widths": [4, 8]}).eval()
    image = tensor(1, 1, 16, 20, 24)
    taken = []
    monkeypatch.setattr(convolutions, "_suits", lambda *call: taken.append(_suits(*call)) or taken[-1])
    with torch.inference_mode():
        plain = network(image)
        with FastConvolutions():
            fast = network(image)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    convs = [layer for layer in network.modules() if isinstance(layer, nn.Conv3d)]
    assert len(taken) == len(convs)
    assert sum(taken) == sum(max(layer.kernel_size) > 1 for layer in convs) > 0


@needs_onednn
def test_only_what_suits_is_taken_over() -> None:
    ones = (1, 1, 1)
    with torch.no_grad():
        assert _suits(tensor(1, 2, 8, 8, 8), tensor(3, 2, 3, 3, 3), None, ones, ones, ones, 1)
        assert not _suits(tensor(2, 2, 8, 8, 8), tensor(3, 2, 3, 3, 3), None, ones, ones, ones, 1)
        assert not _suits(tensor(1, 2, 8, 8, 8), tensor(3, 2, 1, 1, 1), None, ones, ones, ones, 1)
        assert not _suits(tensor(1, 2, 8, 8, 8), tensor(3, 2, 3, 3, 3), None, ones, "same", ones, 1)
        double = tensor(1, 2, 8, 8, 8).double()
        assert not _suits(double, tensor(3, 2, 3, 3, 3).double(), None, ones, ones, ones, 1)
        meta = tensor(1, 2, 8, 8, 8).to("meta")
        assert not _suits(meta, tensor(3, 2, 3, 3, 3), None, ones, ones, ones, 1)
    assert not _suits(tensor(1, 2, 8, 8, 8), tensor(3, 2, 3, 3, 3), None, ones, ones, ones, 1)


def test_training_within_the_context_still_gets_gradients() -> None:
    layer = nn.Conv3d(1, 2, 3)
    with FastConvolutions():
        layer(tensor(1, 1, 6, 6, 6)).sum().backward()
    assert layer.weight.grad is not None
    assert float(layer.weight.grad.abs().max()) > 0
