"""Networks without a way down and up: exact patches, tentative images, dense joins, stages and holes."""

from __future__ import annotations

import pytest
import torch
from network_battery import captured, on_meta, receptive_field
from torch import nn

from SynthGANLib.networks.blocks import margin_crop
from SynthGANLib.networks.cascade import Cascade, Inpainter
from SynthGANLib.networks.conv_stack import ConvStack
from SynthGANLib.networks.dense_sr import DenseSR
from SynthGANLib.networks.embedding import EmbeddingStack


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# voxel-wise CNN and FCN


@pytest.mark.parametrize(
    ("layers", "before", "after"),
    [("li2014", 15, 3), ("nie2016", 32, 24), ("nie2017", 32, 16)],
)
def test_patch_sizes_of_the_papers(layers, before, after):
    network, patch = on_meta(lambda: ConvStack(layers=layers, norm="batch"), 1, 1, before, before, before)
    assert network.valid(patch).shape[2:] == (after,) * 3
    assert network(patch).shape == patch.shape
    assert network.margin == (before - after) // 2


def test_slice_version_maps_five_slices_of_64_to_one_of_48():
    network, patch = on_meta(lambda: ConvStack(2, 5, layers="nie2017_slice", norm="batch"), 1, 5, 64, 64)
    assert network.valid(patch).shape == (1, 1, 48, 48)


def test_whole_volume_equals_patch_by_patch():
    network = ConvStack()
    volume = torch.randn(1, 1, 17, 16, 18)
    with torch.no_grad():
        whole = network(volume)
        for z, y, x in [(0, 0, 0), (2, 1, 3), (1, 0, 2)]:
            patch = network.valid(volume[..., z : z + 15, y : y + 15, x : x + 15])
            inside = whole[..., z + 6 : z + 9, y + 6 : y + 9, x + 6 : x + 9]
            torch.testing.assert_close(patch, inside, rtol=0, atol=1e-5)
        torch.testing.assert_close(network.valid(volume), margin_crop(whole, 6), rtol=0, atol=1e-5)


def test_voxel_wise_cnn_sees_thirteen_voxels():
    assert receptive_field(ConvStack(2, activation="sigmoid").valid, 1, (21, 21)) == (13, 13)


def test_valid_net_refuses_what_it_would_use_up():
    with pytest.raises(ValueError, match="margin of 6"):
        ConvStack(2).valid(torch.zeros(1, 1, 12, 20))


def test_constant_net_is_constant_up_to_the_border():
    network = ConvStack(2, layers="nie2017", norm="batch", padding="replicate").eval()
    nn.init.zeros_(network.stack[-2].weight)
    nn.init.constant_(network.stack[-2].bias, 0.7)
    assert torch.equal(network(torch.randn(1, 1, 9, 5)), torch.full((1, 1, 9, 5), network.stack[-2].bias.item()))


# DECNN


def test_tentative_images_lead_to_the_last():
    network = EmbeddingStack(width=4, blocks=3, convs=1).eval()
    x = torch.randn(1, 1, 7, 10)
    images = network.tentative(x)
    assert [image.shape for image in images] == [x.shape] * 4
    assert torch.equal(images[-1], network(x))
    changed = network.heads[1][0]
    nn.init.zeros_(changed.weight)
    nn.init.zeros_(changed.bias)
    again = network.tentative(x)
    assert torch.equal(again[0], images[0])
    assert not torch.equal(again[2], images[2])  # the tentative image is fed on


def test_stem_learns_from_each_tentative_image_alone():
    network = EmbeddingStack(width=4, blocks=2)
    for index in range(3):
        network.zero_grad()
        network.tentative(torch.randn(2, 1, 8, 8))[index].square().sum().backward()
        assert float(network.stem[0][0].weight.grad.abs().sum()) > 0
        later = [head for place, head in enumerate(network.heads) if place > index]
        assert all(head[0].weight.grad is None or not head[0].weight.grad.any() for head in later)


def test_without_blocks_it_is_a_plain_cnn():
    network = EmbeddingStack(width=4, blocks=0, norm="none")
    plain = nn.Sequential(*network.stem[0], *network.stem[1], *network.last)
    x = torch.randn(1, 1, 6, 9)
    assert len(network.tentative(x)) == 1
    assert torch.equal(network(x), plain(x))


def test_embedding_widens_the_receptive_field():
    network = EmbeddingStack(width=4, blocks=1, convs=3, norm="none")
    assert receptive_field(network, 1, (25, 25)) == (17, 17)  # 2 + 3 + 1 + 1 + 1 convolutions of 3


# dense super-resolution


def test_dense_network_narrows_everything_so_far():
    network = DenseSR(dims=2)
    assert [part.in_channels for part in network.compress] == [128, 224, 320]
    assert network.head.in_channels == 416
    assert [unit[0].num_features for unit in network.dense[0].units] == [32, 48, 64, 80]
    assert not any(name.endswith("bias") and p.ndim > 1 for name, p in network.named_parameters())
    assert all(part.bias is None for part in network.modules() if isinstance(part, nn.Conv2d))


# cascades

_SMALL = {"name": "StridedUNet", "arguments": {"downs": 2, "base": 4, "dropout": 0.0}}


def stage(in_channels: int, out_channels: int = 1) -> dict:
    layers = [[1, out_channels]]
    arguments = {"dims": 2, "in_channels": in_channels, "out_channels": out_channels, "layers": layers}
    return {"name": "ConvStack", "arguments": arguments}


def test_cascade_of_one_is_its_stage():
    cascade = Cascade([_SMALL])
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(cascade(x), cascade.stages[0](x))


def test_cascade_gives_every_image_on_the_way():
    cascade = Cascade([_SMALL] * 6)
    x = torch.randn(1, 1, 8, 8)
    images = cascade.intermediates(x)
    assert len(images) == 6
    by_hand = x
    for part, image in zip(cascade.stages, images, strict=True):
        by_hand = part(by_hand)
        assert torch.equal(image, by_hand)
    assert torch.equal(cascade(x), by_hand)


@pytest.mark.parametrize(
    ("inputs", "stages", "given"),
    [
        ("prev", [(2, 3), (3, 1), (1, 2)], ["x", "0", "1"]),
        ("source+prev", [(2, 3), (5, 1), (3, 2)], ["x", "x0", "x1"]),
        ("source+all", [(2, 3), (5, 1), (6, 2)], ["x", "x0", "x01"]),
    ],
)
def test_stages_get_what_their_rule_says(inputs, stages, given):
    cascade = Cascade([stage(*channels) for channels in stages], inputs)
    seen = [captured(part) for part in cascade.stages]
    x = torch.randn(1, 2, 4, 5)
    named = {"x": x, **{str(number): image for number, image in enumerate(cascade.intermediates(x))}}
    for inputs_seen, names in zip(seen, given, strict=True):
        assert torch.equal(inputs_seen[0], torch.cat([named[name] for name in names], 1))


@pytest.mark.parametrize(
    ("inputs", "stages", "reason"),
    [
        ("prev", [(2, 3), (4, 1)], "stage 2 of the cascade takes 4 channels and is given 3"),
        ("source+prev", [(2, 3), (5, 1), (1, 1)], "stage 3 of the cascade takes 1 channels and is given 3"),
        ("source+all", [(2, 3), (5, 1), (3, 1)], "stage 3 of the cascade takes 3 channels and is given 6"),
    ],
)
def test_channels_that_do_not_follow_are_named(inputs, stages, reason):
    with pytest.raises(ValueError, match=reason):
        Cascade([stage(*channels) for channels in stages], inputs)


def test_detached_stages_learn_alone():
    for detach in (False, True):
        cascade = Cascade([stage(1), stage(2)], "source+prev", detach)
        cascade(torch.randn(1, 1, 4, 4)).sum().backward()
        assert (cascade.stages[0].stack[0].weight.grad is None) == detach
        assert cascade.stages[1].stack[0].weight.grad is not None


def test_inpainter_touches_the_hole_only_and_does_not_look_into_it():
    network = Inpainter(stage={"name": "StridedUNet", "arguments": {**_SMALL["arguments"], "in_channels": 2}})
    image, hole = torch.randn(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)
    hole[:, :, 4:9, 5:12] = 1
    with torch.no_grad():
        y = network(torch.cat([image, hole], 1))
        other = torch.where(hole > 0, 7.0, image)
        assert torch.equal(y[hole == 0], image[hole == 0])
        assert not torch.equal(y[hole > 0], image[hole > 0])
        assert torch.equal(network(torch.cat([other, hole], 1)), y)
        assert torch.equal(network(torch.cat([image, 0 * hole], 1)), image)
