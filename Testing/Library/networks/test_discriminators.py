"""Discriminators: counts, what a logit sees, which head sees what."""

from __future__ import annotations

import sys
from typing import ClassVar

import pytest
import torch
from network_battery import (
    Battery,
    Case,
    receptive_field,
)
from network_battery import count as parameters

from SynthGANLib.errors import ModelError
from SynthGANLib.networks.dual_head import DualHeadDiscriminator
from SynthGANLib.networks.image_discriminators import ImageDiscriminator, PyramidDiscriminator
from SynthGANLib.networks.patch_discriminators import PatchDiscriminator
from SynthGANLib.networks.registry import DISCRIMINATORS, build


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int):
    return lambda count, rng: (torch.randn(count, *shape, generator=rng),)


def labelled(count, rng):
    return torch.randn(count, 1, 16, 16, generator=rng), torch.arange(count) % 3


def levels(count, rng):
    return ([torch.randn(count, 1, n, n, generator=rng) for n in (8, 16)],)


CASES = {
    "patch": Case("PatchDiscriminator", {"base": 2, "layers": 2}, coupled=True, make=images(1, 16, 16), needs="monai"),
    "patch-3d": Case(
        "PatchDiscriminator",
        {"dims": 3, "in_channels": 2, "base": 2, "layers": 1, "norm": "instance"},
        make=images(2, 8, 9, 6),
        needs="monai",
    ),
    "patch-plain": Case(
        "PatchDiscriminator", {"base": 2, "layers": 3, "norm": "none"}, make=images(1, 24, 25), needs="monai"
    ),
    "pixel": Case("PatchDiscriminator", {"base": 2, "layers": 0, "norm": "batch"}, coupled=True, make=images(1, 5, 1)),
    "scales": Case("MultiScaleDiscriminator", {"base": 2, "scales": 2, "layers": 2}, make=images(1, 9, 12)),
    "pan": Case("PanDiscriminator", {"base": 2}, make=images(1, 24, 26, 25)),
    "costa": Case("CostaDiscriminator", {"base": 2}, make=images(4, 17, 16)),
    "image": Case("ImageDiscriminator", {"size": 16, "base": 2}, coupled=True, make=images(1, 16, 16)),
    "critic": Case("ImageDiscriminator", {"size": 16, "base": 2, "norm": "layer"}, make=images(1, 16, 16)),
    "critic-3d": Case(
        "ImageDiscriminator", {"dims": 3, "size": [12, 8, 9], "base": 2, "norm": "none"}, make=images(1, 12, 8, 9)
    ),
    "image-labels": Case(
        "ImageDiscriminator", {"size": 16, "base": 2, "norm": "instance", "classes": 3}, make=labelled
    ),
    "mlp": Case("MlpDiscriminator", {"shape": [2, 4, 5], "widths": [6, 7], "dropout": 0.0}, make=images(2, 4, 5)),
    "level": Case("LevelDiscriminator", {"size": 16, "in_channels": 2, "widths": [3, 4]}, make=images(2, 16, 16)),
    "pyramid": Case(
        "PyramidDiscriminator",
        {"size": 16, "coarsest": 8, "base": 2, "widths": [3], "conditional": False},
        coupled=True,
        make=levels,
    ),
    "nie": Case(
        "NieDiscriminator", {"widths": [2, 3, 4, 5], "dense": [6, 5]}, coupled=True, make=images(1, 16, 16, 16)
    ),
    "super-resolution": Case("SuperResolutionCritic", {"size": 16, "base": 2, "dense": 5}, make=images(1, 16, 16, 16)),
    "dual": Case("DualHeadDiscriminator", {"base": 2, "layers": 1}, make=images(1, 12, 14)),
    "autoregressive": Case("AutoregressiveDiscriminator", {"size": 16, "base": 2, "hidden": 5}, make=images(1, 16, 16)),
    "autoregressive-channel": Case(
        "AutoregressiveDiscriminator", {"size": 16, "base": 2, "hidden": 5, "order": "channel"}, make=images(1, 16, 16)
    ),
    "code": Case("CodeDiscriminator", {"code": 3, "width": 4}, make=images(3)),
    "growing": Case("ProgressiveDiscriminator", {"size": 8, "base": 32, "cap": 8}, coupled=True, make=images(1, 8, 8)),
}


class TestDiscriminators(Battery):
    CASES = CASES
    WITHOUT: ClassVar = {
        "test_samples_of_a_batch_are_independent": frozenset({"pyramid", "growing"}),
        # the dual head's other head is trained by pairs, the growing one's other levels at their turn: see below
        "test_every_parameter_learns": frozenset({"dual", "growing"}),
    }


def test_every_discriminator_is_in_the_battery():
    assert {case.name for case in CASES.values()} == set(DISCRIMINATORS)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("ImageDiscriminator", {}, 2_763_520),
        ("ImageDiscriminator", {"size": 128}, 11_162_368),
        ("MultiScaleDiscriminator", {}, 8_265_027),
        ("MultiScaleDiscriminator", {"in_channels": 3}, 8_271_171),
        ("PanDiscriminator", {}, 698_033),
        ("PanDiscriminator", {"base": 32}, 2_772_321),
        ("NieDiscriminator", {}, 2_278_401),
        ("SuperResolutionCritic", {}, 31_155_777),
        ("DualHeadDiscriminator", {}, 11_162_626),
    ],
)
def test_counts(name, arguments, expected):
    assert parameters(name, arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"in_channels": 6}, 2_768_705),
        ({"in_channels": 3, "norm": "instance"}, 2_764_737),
        ({"norm": "instance"}, 2_762_689),
        ({"in_channels": 2}, 2_764_609),
        ({"in_channels": 2, "layers": 1}, 135_489),
    ],
)
def test_counts_of_patch_discriminators(arguments, expected):
    pytest.importorskip("monai")
    assert parameters("PatchDiscriminator", arguments) == expected


# --- patches


@pytest.mark.parametrize(("layers", "expected"), [(0, 1), (1, 16), (2, 34), (3, 70)])
@pytest.mark.parametrize("dims", [2, 3])
def test_receptive_field_of_a_patch(layers, expected, dims):
    if layers:
        pytest.importorskip("monai")
    torch.manual_seed(0)
    network = PatchDiscriminator(dims, 1, 1, layers, "none").double()
    # a long axis and short others: the field of an axis does not depend on the rest
    extents = [96, *[3 * 2**layers] * (dims - 1)]
    assert receptive_field(lambda x: network(x.double())[-1], 1, extents)[0] == expected


def test_features_of_a_patch_discriminator_end_with_its_logits():
    pytest.importorskip("monai")
    features = PatchDiscriminator(2, 3, 4, 3, "instance")(torch.randn(2, 3, 256, 256, generator=dice()))
    shapes = [tuple(f.shape) for f in features]
    assert shapes == [(2, 4, 128, 128), (2, 8, 64, 64), (2, 16, 32, 32), (2, 32, 31, 31), (2, 1, 30, 30)]
    assert float(features[-1].detach().min()) < 0  # a logit, not a probability


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_images_too_small_for_a_patch_are_named(layers):
    pytest.importorskip("monai")
    network = PatchDiscriminator(2, 1, 2, layers)
    least = 3 * 2**layers
    assert network(torch.zeros(1, 1, least, least + 1))[-1].shape[2:] == (1, 1)
    with pytest.raises(ValueError, match=rf"\({least}, {least - 1}\) are too small .* {layers} layers"):
        network(torch.zeros(1, 1, least, least - 1))


def test_arguments_that_make_no_patch_discriminator_are_refused():
    for arguments in ({"norm": "layer"}, {"layers": 6}, {"layers": -1}, {"dims": 1}):
        with pytest.raises(ModelError, match=r"norm|layers|dimensions"):
            build("PatchDiscriminator", arguments)


def test_without_monai_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets.patchgan_discriminator", None)
    with pytest.raises(ModelError, match="needs MONAI") as caught:
        build("PatchDiscriminator", {})
    assert "pip install monai" in caught.value.next_step
    build("PatchDiscriminator", {"layers": 0})


def test_scales_are_those_of_the_paper():
    logits = build("MultiScaleDiscriminator", {"base": 2})(torch.zeros(1, 1, 256, 256))
    assert [tuple(part.shape[2:]) for part in logits] == [(16, 16), (8, 8), (4, 4)]
    with pytest.raises(ValueError, match="at least 16"):
        build("MultiScaleDiscriminator", {"base": 2})(torch.zeros(1, 1, 56, 56))


def test_the_coarse_scale_sees_more():
    network = build("MultiScaleDiscriminator", {"base": 1, "layers": 2, "scales": 2}).double()
    fields = [receptive_field(lambda x, i=i: network(x.double())[i], 1, [64, 64])[0] for i in (0, 1)]
    assert fields == [10, 21]  # 2 * 10 halved voxels, each a mean of three


def test_maps_of_the_fundus_and_pet_discriminators():
    assert build("CostaDiscriminator", {"base": 2})(torch.zeros(1, 4, 256, 256)).shape == (1, 1, 16, 16)
    assert build("PanDiscriminator", {"base": 1})(torch.zeros(1, 1, 48, 40, 32)).shape == (1, 1, 4, 3, 2)
    with pytest.raises(ValueError, match="too small"):
        build("PanDiscriminator", {"base": 1})(torch.zeros(1, 1, 16, 40, 40))


# --- images


def test_dcgan_discriminator_has_no_biases_and_no_norm_in_its_first_layer():
    network = ImageDiscriminator()
    parts = list(network.trunk)
    assert isinstance(parts[1], torch.nn.LeakyReLU)
    assert [type(part).__name__ for part in parts[2:5]] == ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    biased = [part for part in network.modules() if getattr(part, "bias", None) is not None]
    assert {type(part).__name__ for part in biased} == {"BatchNorm2d"}
    assert len(biased) == 3


@pytest.mark.parametrize("size", [8, 28, 32, 56, 37, [48, 64]])
def test_image_discriminator_takes_its_size_and_no_other(size):
    extents = size if isinstance(size, list) else [size, size]
    network = ImageDiscriminator(size=size, base=1).eval()
    assert network(torch.zeros(2, 1, *extents)).shape == (2, 1)
    with pytest.raises(ValueError, match="judges images of"):
        network(torch.zeros(2, 1, extents[0] + 1, extents[1]))


@pytest.mark.parametrize("name", ["ImageDiscriminator", "MlpDiscriminator"])
def test_only_the_label_changes_the_verdict(name):
    torch.manual_seed(0)
    arguments = {"size": 16, "base": 2} if name == "ImageDiscriminator" else {"shape": [1, 16, 16]}
    network = build(name, {**arguments, "classes": 2}).eval()
    x = torch.randn(1, 1, 16, 16, generator=dice()).repeat(3, 1, 1, 1)
    with torch.no_grad():
        logits = network(x, torch.tensor([0, 1, 0]))
    assert float((logits[0] - logits[1]).abs()) > 1e-4
    assert float(logits[0] - logits[2]) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="takes a class label"):
        network(x)


def test_sizes_too_small_are_refused():
    for name, arguments in (
        ("ImageDiscriminator", {"size": 7}),
        ("LevelDiscriminator", {"size": 4}),
        ("NieDiscriminator", {"size": 7}),
        ("SuperResolutionCritic", {"size": 24}),
    ):
        with pytest.raises(ModelError, match=r"too small|divisible by 16"):
            build(name, arguments)


def test_a_critic_passes_second_derivatives_to_its_weights():
    torch.manual_seed(0)
    critic = ImageDiscriminator(size=16, base=2, norm="layer")
    x = torch.randn(2, 1, 16, 16, generator=dice()).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    (slope.flatten(1).norm(dim=1) - 1).square().mean().backward()
    assert all(bool(p.grad.abs().sum() > 0) for n, p in critic.named_parameters() if n.endswith("weight"))


def test_levels_of_a_pyramid_are_judged_apart():
    network = PyramidDiscriminator(2, 1, 16, 8, 2, [3])
    enlarged = torch.randn(2, 1, 16, 16, generator=dice())
    network.judge(1, torch.randn(2, 1, 16, 16, generator=dice()), enlarged).sum().backward()
    touched = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert touched == {"1"}
    assert network.judge(0, torch.zeros(2, 1, 8, 8)).shape == (2, 1)


# --- two heads


def dual() -> DualHeadDiscriminator:
    torch.manual_seed(0)
    return DualHeadDiscriminator(base=2, layers=1)


def with_gradient(network) -> set[str]:
    return {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}


def test_both_heads_reach_the_trunk_and_not_each_other():
    x = torch.randn(2, 1, 16, 16, generator=dice())
    network = dual()
    network.unpaired(x).sum().backward()
    assert with_gradient(network) == {"unpaired_head", "trunk", "unpaired_tail"}
    trunk = [p.grad.clone() for p in network.trunk.parameters()]
    network.paired(x, -x).sum().backward()
    assert with_gradient(network) == {"unpaired_head", "trunk", "unpaired_tail", "paired_head", "paired_tail"}
    assert not any(torch.equal(a, p.grad) for a, p in zip(trunk, network.trunk.parameters(), strict=True) if a.any())


def test_both_heads_run_through_the_same_trunk_object():
    network, seen = dual(), []
    network.trunk.register_forward_hook(lambda module, inputs, output: seen.append(module))
    x = torch.randn(1, 1, 16, 16, generator=dice())
    network.unpaired(x)
    network.paired(x, x)
    assert seen == [network.trunk] * 2


def test_the_number_of_channels_chooses_the_head():
    network = dual().eval()
    x, source = torch.randn(2, 1, 1, 16, 16, generator=dice())
    with torch.no_grad():
        assert torch.equal(network(x), network.unpaired(x))
        assert torch.equal(network(torch.cat([source, x], 1)), network.paired(source, x))
        assert not torch.allclose(network.paired(source, x), network.paired(x, source))
    with pytest.raises(ValueError, match="1 or 2 channels"):
        network(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="at least 12"):
        network(torch.zeros(1, 1, 16, 11))
