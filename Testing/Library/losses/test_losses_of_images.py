"""Losses between images against closed forms, independent computations and the direction of their gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from SynthGANLib import losses
from SynthGANLib.errors import ModelError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


# ---- voxels


def test_plain_and_masked_errors():
    pred, target = torch.tensor([[[1.0, 2, 3, 9]]]), torch.tensor([[[0.0, 0, 0, 0]]])
    assert losses.l1(pred, target).item() == pytest.approx(15 / 4)
    assert losses.l2(pred, target).item() == pytest.approx((1 + 4 + 9 + 81) / 4)
    mask = torch.tensor([[[1, 5, 1, 0]]])  # a mask is not a weight
    assert losses.masked_l1(pred, target, mask).item() == pytest.approx(2)
    assert losses.weighted_l1(pred, target, mask).item() == pytest.approx((1 + 10 + 3) / 7)
    assert losses.weighted_l2(pred, target, mask).item() == pytest.approx((1 + 20 + 9) / 7)


def test_the_optimum_of_l1_is_the_median_and_of_l2_the_mean():
    target = torch.tensor([0.0, 0, 0, 1, 1]).reshape(1, 1, 5)
    grid = torch.linspace(0, 1, 101)
    best = {f: grid[torch.stack([f(g.expand(1, 1, 5), target) for g in grid]).argmin()] for f in (losses.l1, losses.l2)}
    assert best[losses.l1].item() == pytest.approx(0)
    assert best[losses.l2].item() == pytest.approx(0.4)


def test_a_mask_counts_every_channel_once_and_an_empty_one_nothing():
    pred = image(2, 3, 4, 4).requires_grad_()
    target = image(2, 3, 4, 4, seed=1)
    whole = losses.masked_l1(pred, target, torch.ones(2, 1, 4, 4))
    assert whole.item() == pytest.approx(losses.l1(pred, target).item(), rel=1e-6)
    empty = losses.masked_l1(pred, target, torch.zeros(2, 1, 4, 4))
    empty.backward()
    assert empty.item() == 0
    assert not pred.grad.any()


@pytest.mark.parametrize("loss", [losses.l1, losses.l2])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(1, 1, 4\).*\(1, 4\)"):
        loss(torch.zeros(1, 1, 4), torch.zeros(1, 4))


def test_region_weights_give_every_region_the_same_say():
    labels = torch.zeros(2, 1, 4, 5, dtype=torch.int64)
    labels[0, 0, 0, :2] = 1  # a lesion of two voxels, in the first sample only
    labels[:, 0, 3] = 2
    weight = losses.region_weights(labels, [1, 1, 1])
    assert weight.shape == labels.shape
    assert weight.dtype == torch.float32
    assert weight.flatten(1).mean(1).tolist() == pytest.approx([1, 1])
    sums = [weight[0][labels[0] == r].sum().item() for r in range(3)]
    assert sums == pytest.approx([20 / 3] * 3)
    assert [weight[1][labels[1] == r].sum().item() for r in (0, 2)] == pytest.approx([10, 10])


def test_region_weights_of_equal_regions_reduce_to_l1():
    pred, target = image(2, 1, 4, 6), image(2, 1, 4, 6, seed=1)
    halves = (torch.arange(6) // 3).expand(2, 1, 4, 6)
    plain = losses.l1(pred, target).item()
    assert losses.weighted_l1(pred, target, losses.region_weights(halves, [1, 1])).item() == pytest.approx(plain)
    one = torch.zeros(2, 1, 4, 6, dtype=torch.int64)
    assert losses.weighted_l1(pred, target, losses.region_weights(one, [3, 1])).item() == pytest.approx(plain)


def test_more_emphasis_makes_a_lesions_error_count_more():
    labels = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    labels[..., :2, :2] = 1
    error = (labels == 1).float()
    found = [losses.weighted_l1(error, error * 0, losses.region_weights(labels, [1, e])).item() for e in (0, 1, 3)]
    assert found == pytest.approx([0, 1 / 2, 3 / 4])
    with pytest.raises(ValueError, match="0 to 1, but 1 regions"):
        losses.region_weights(labels, [1])
    with pytest.raises(ValueError, match="0 or more"):
        losses.region_weights(labels, [1, -1])


def test_suv_weights_balance_hot_and_cold():
    suv = torch.full((1, 1, 10, 10), 1.0)
    suv[..., 0, :4] = 8.0
    weight = losses.suv_weights(suv)
    assert weight[0, 0, 0, 0].item() == pytest.approx(96 / 4)
    assert weight[0, 0, 5, 5].item() == 1
    assert losses.suv_weights(suv, cap=10.0).max().item() == 10
    assert losses.suv_weights(suv, threshold=8.0).max().item() == pytest.approx(24)  # the threshold itself is hot
    error = torch.where(suv > 2.5, 3.0, 1.0)  # mean of the two bands' mean squares
    assert losses.weighted_l2(suv + error, suv, weight).item() == pytest.approx((9 + 1) / 2)


def test_suv_weights_with_an_empty_band_reduce_to_mse():
    pred = image(2, 1, 6, 6)
    for level in (0.0, 9.0):
        target = torch.full_like(pred, level)
        weight = losses.suv_weights(target)
        assert torch.equal(weight, torch.ones_like(pred))
        mse = losses.l2(pred, target).item()
        assert losses.weighted_l2(pred, target, weight).item() == pytest.approx(mse, rel=1e-6)


# ---- structure


@pytest.mark.parametrize("shape", [(2, 1, 8, 9), (1, 2, 5, 6, 7)])
def test_gradient_difference_is_blind_to_shift_and_sign(shape):
    x = image(*shape)
    assert losses.gradient_difference(x, x).item() == 0
    assert losses.gradient_difference(x + 3, x).item() == pytest.approx(0, abs=1e-10)
    assert losses.gradient_difference(-x, x).item() == 0
    assert losses.gradient_difference(x, 2 * x).item() > 0


def test_gradient_difference_equals_a_plain_sum():
    a, b = image(1, 1, 3, 4).numpy()[0, 0].astype(float), image(1, 1, 3, 4, seed=1).numpy()[0, 0].astype(float)
    for power in (1, 2, 3):
        expected = sum(
            np.mean(np.abs(np.abs(np.diff(b, axis=axis)) - np.abs(np.diff(a, axis=axis))) ** power) for axis in (0, 1)
        )
        found = losses.gradient_difference(torch.tensor(a)[None, None], torch.tensor(b)[None, None], power)
        assert found.item() == pytest.approx(expected, rel=1e-9)


def test_gradient_difference_of_images_without_neighbours_is_zero():
    x = torch.ones(1, 1, 1, 1, requires_grad=True)
    losses.gradient_difference(x, x * 2).backward()
    row = losses.gradient_difference(torch.zeros(1, 1, 1, 3), torch.tensor([[[[0.0, 1, 2]]]]))
    assert row.item() == 1  # a single row has one axis, not a mean over nothing


@pytest.mark.parametrize("shape", [(2, 1, 8, 9), (1, 2, 5, 6, 7)])
def test_gradient_consistency_of_linear_maps(shape):
    x = image(*shape)
    assert losses.gradient_consistency(x, x).item() == pytest.approx(1, abs=1e-6)
    assert losses.gradient_consistency(x, -x).item() == pytest.approx(-1, abs=1e-6)
    for scale, shift in ((1e-3, 0.0), (2.5, -7.0), (400.0, 1.0)):
        assert losses.gradient_consistency(x, scale * x + shift).item() == pytest.approx(1, abs=1e-5)
    assert abs(losses.gradient_consistency(image(1, 1, 64, 64), image(1, 1, 64, 64, seed=1)).item()) < 0.05


def test_gradient_consistency_equals_the_correlation_of_differences():
    a, b = image(1, 1, 6, 7), image(1, 1, 6, 7, seed=1)
    expected = np.mean(
        [
            np.corrcoef(np.diff(a[0, 0].numpy(), axis=k).ravel(), np.diff(b[0, 0].numpy(), axis=k).ravel())[0, 1]
            for k in (0, 1)
        ]
    )
    assert losses.gradient_consistency(a, b).item() == pytest.approx(expected, abs=1e-6)


def test_gradient_consistency_of_a_constant_image_is_zero_with_a_finite_gradient():
    flat = torch.full((1, 1, 6, 6), 0.3, requires_grad=True)
    found = losses.gradient_consistency(flat, image(1, 1, 6, 6))
    found.backward()
    assert found.item() == 0
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("shape", [(20, 23), (9, 11, 8)])
def test_ssim_loss_equals_scikit_image(shape):
    from skimage.metrics import structural_similarity

    a = image(*shape).double().clamp(-1, 1)
    b = (a + 0.4 * image(*shape, seed=1)).clamp(-1, 1)
    expected = structural_similarity(a.numpy(), b.numpy(), data_range=2.0)
    assert losses.ssim_loss(a[None, None], b[None, None], 2.0).item() == pytest.approx(1 - expected, abs=1e-10)
    single = losses.ssim_loss(a[None, None].float(), b[None, None].float(), 2.0).item()
    assert single == pytest.approx(1 - expected, abs=1e-5)
    colour = losses.ssim_loss(torch.stack([a, a])[None], torch.stack([b, a])[None], 2.0)
    assert colour.item() == pytest.approx((1 - expected) / 2, abs=1e-10)


def test_ssim_loss_is_zero_at_equality_and_answers_for_tiny_images():
    x = image(1, 1, 12, 12)
    assert losses.ssim_loss(x, x, 2.0).item() == pytest.approx(0, abs=1e-6)
    for shape in ((1, 1, 1, 1), (1, 1, 1, 9), (1, 1, 4, 2, 6)):
        y = image(*shape)
        assert losses.ssim_loss(y, y, 2.0).item() == pytest.approx(0, abs=1e-6)
        assert losses.ssim_loss(y, y + 1, 2.0).item() > 1e-3
    with pytest.raises(ValueError, match="wider than 0"):
        losses.ssim_loss(x, x, 0.0)


@pytest.mark.parametrize(
    "loss",
    [losses.gradient_difference, losses.gradient_consistency, lambda a, b: losses.ssim_loss(a, b, 2.0)],
)
def test_structure_gradients_agree_with_finite_differences(loss):
    a, b = image(1, 1, 8, 9).double().requires_grad_(), image(1, 1, 8, 9, seed=1).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, b), (a,))
    with pytest.raises(ValueError, match="two images"):
        loss(a, b[..., :-1])


# ---- features


def test_feature_matching_is_zero_at_equality_and_weighs_layers():
    layers = [image(1, 4, 8, 8), image(1, 8, 4, 4, seed=1)]
    assert losses.feature_matching(layers, layers).item() == 0
    shifted = [layers[0] + 1, layers[1] - 3]
    assert losses.feature_matching(shifted, layers).item() == pytest.approx((1 + 3) / 2, rel=1e-5)
    assert losses.feature_matching(shifted, layers, [5, 1]).item() == pytest.approx(5 + 3, rel=1e-5)
    with pytest.raises(ValueError, match="2 layers of generated features, 1 of real"):
        losses.feature_matching(layers, layers[:1])


def test_feature_matching_reaches_the_generator_and_not_the_discriminator():
    generator, first, second = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3)

    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x):
            hidden = torch.tanh(self.first(x))
            return [hidden, self.second(hidden)]

    net, x = Features(), image(1, 1, 9, 9)
    fake = losses.through_frozen(net, generator(x))
    assert all(torch.equal(a, b) for a, b in zip(fake, net(generator(x)), strict=True))
    losses.feature_matching(fake, net(x)).backward()
    assert generator.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("shape", [(2, 5, 4, 6), (1, 3, 2, 3, 4)])
def test_gram_matrices_forget_where_things_are(shape):
    x = image(*shape)
    flat = x.flatten(2)
    order = torch.randperm(flat.shape[2], generator=seeded())
    moved = flat[:, :, order].reshape(shape)
    found = losses.gram(x)
    assert torch.allclose(found, losses.gram(moved), atol=1e-6)
    assert torch.allclose(found, found.transpose(1, 2))
    expected = np.einsum("bip,bjp->bij", flat.numpy(), flat.numpy()) / (flat.shape[1] * flat.shape[2])
    assert np.allclose(found.numpy(), expected, atol=1e-6)


def test_vgg19_has_its_size_and_is_refused_without_weights():
    with torch.device("meta"):
        net = losses.Vgg19Features(random=torch.Generator())
    assert sum(p.numel() for p in net.parameters()) == 20_024_384
    assert not any(p.requires_grad for p in net.parameters())
    names = [name for name in net.state_dict() if name.endswith("weight")]
    numbers = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]  # as in the usual weight files
    assert names == [f"features.{n}.weight" for n in numbers]
    with pytest.raises(ModelError, match="none were given"):
        losses.Vgg19Features()


@pytest.fixture(scope="module")
def vgg():
    return losses.Vgg19Features(random=seeded(3))


def test_vgg19_features_and_the_style_and_content_of_images(vgg):
    grey = image(2, 1, 16, 20).clamp(-1, 1)
    found = vgg(grey)
    assert [tuple(f.shape) for f in found] == [
        (2, 64, 16, 20), (2, 128, 8, 10), (2, 256, 4, 5), (2, 512, 2, 2), (2, 512, 1, 1),
    ]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(found, vgg(grey.repeat(1, 3, 1, 1)), strict=True))
    style, content = losses.style_content(vgg, grey, grey)
    assert style.item() == content.item() == 0
    fake, real = (grey + 0.1).requires_grad_(), grey.clone().requires_grad_()
    style, content = losses.style_content(vgg, fake, real)
    features = [f.detach() for f in vgg(fake)]
    grams = [((losses.gram(a) - losses.gram(b)) ** 2).sum().item() / 2 for a, b in zip(features, found, strict=True)]
    assert style.item() == pytest.approx(sum(grams) / 5, rel=1e-4)
    means = [((a - b) ** 2).mean().item() for a, b in zip(features, found, strict=True)]
    assert content.item() == pytest.approx(sum(means) / 5, rel=1e-4)
    (style + content).backward()
    assert fake.grad.abs().sum() > 0
    assert real.grad is None


def test_vgg19_takes_volumes_slice_by_slice_and_says_what_it_cannot_take(vgg):
    volume = image(1, 1, 2, 16, 16)
    for whole, alone in zip(vgg(volume), vgg(volume[:, :, 1]), strict=True):
        assert torch.allclose(whole[1], alone[0], rtol=1e-4, atol=1e-4 * alone.abs().max())
    for shape in ((1, 2, 16, 16), (1, 1, 8, 16), (1, 16, 16)):
        with pytest.raises(ValueError, match=r"at least 16 x 16"):
            vgg(torch.zeros(shape))


def test_vgg19_reads_its_weights_or_says_what_is_wrong(tmp_path: Path, vgg):
    tensors = {k: v for k, v in vgg.state_dict().items() if k.startswith("features.")}
    save_file({**tensors, "classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg.safetensors")
    again = losses.Vgg19Features(tmp_path / "vgg.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), vgg.parameters(), strict=True))
    save_file({k: v for k, v in tensors.items() if "28" not in k}, tmp_path / "less.safetensors")
    with pytest.raises(ModelError, match=r"lack the tensor 'features\.28"):
        losses.Vgg19Features(tmp_path / "less.safetensors")
    save_file({**tensors, "features.0.bias": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"shape \(3,\), not \(64,\)"):
        losses.Vgg19Features(tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\x00")
    for name in ("broken.safetensors", "absent.safetensors"):
        with pytest.raises(ModelError, match="cannot be read"):
            losses.Vgg19Features(tmp_path / name)
