"""Voxel-wise losses, plain and weighted. Images are (B, C, [z,] y, x); a weight or mask may have one channel.

A weighted loss is the weighted mean, so that a constant weight gives the plain loss whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from SynthGANLib.losses.precision import in_float32

SMALLEST = 1e-12
"""Below this a sum of weights counts as nothing to compare, and the loss is zero."""


def _same(pred: Tensor, target: Tensor) -> None:
    # broadcasting would turn a shape mistake into a plausible number
    if pred.shape != target.shape:
        raise ValueError(f"the output is {tuple(pred.shape)}, its target {tuple(target.shape)}")


def _weighted_mean(error: Tensor, weight: Tensor) -> Tensor:
    weight = weight.to(error).expand_as(error)
    return (weight * error).sum() / weight.sum().clamp_min(SMALLEST)


@in_float32
def l1(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error. ValueError for different shapes."""
    _same(pred, target)
    return (pred - target).abs().mean()


@in_float32
def l2(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error. ValueError for different shapes."""
    _same(pred, target)
    return (pred - target).square().mean()


@in_float32
def masked_l1(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error where `mask` is not 0; 0 where it is empty. ValueError for different shapes."""
    _same(pred, target)
    return _weighted_mean((pred - target).abs(), mask != 0)


@in_float32
def weighted_l1(pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * absolute error over the sum of the weights. ValueError for different shapes."""
    _same(pred, target)
    return _weighted_mean((pred - target).abs(), weight)


@in_float32
def weighted_l2(pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * squared error over the sum of the weights. ValueError for different shapes."""
    _same(pred, target)
    return _weighted_mean((pred - target).square(), weight)


def region_weights(labels: Tensor, emphasis: Sequence[float]) -> Tensor:
    """Weights inversely proportional to each region's size, so that small lesions count (Wei et al. 2018).

    Args:
        labels: (B, 1, ...) whole numbers 0 to len(emphasis) - 1, the region of every voxel.
        emphasis: how much each region counts as a whole; all 1 gives every region the same say.

    Returns:
        float32 of the shape of `labels`, mean 1 in every sample (0 where every region present has emphasis 0).

    ValueError for a label without emphasis or a negative emphasis.
    """
    if any(not e >= 0 for e in emphasis):
        raise ValueError(f"the emphasis of a region is 0 or more, not {list(emphasis)}")
    flat = labels.flatten(1).long()  # B, voxels
    if flat.numel() and (int(flat.min()) < 0 or int(flat.max()) >= len(emphasis)):
        found = f"labels run from {int(flat.min())} to {int(flat.max())}"
        raise ValueError(f"{found}, but {len(emphasis)} regions have an emphasis")
    sizes = torch.stack([(flat == region).sum(1) for region in range(len(emphasis))], 1)  # B, regions
    share = torch.tensor(list(emphasis), dtype=torch.float32, device=labels.device) / sizes.clamp_min(1)  # B, regions
    weight = share.gather(1, flat)
    weight = weight / weight.mean(1, keepdim=True).clamp_min(SMALLEST)
    return weight.reshape(labels.shape)


def suv_weights(target_suv: Tensor, threshold: float = 2.5, cap: float = 100.0) -> Tensor:
    """1 below `threshold`, and N_low / N_high (at most `cap`) from it on, so that hot voxels count.

    After Ben-Cohen et al. 2019, whose abstract names no formula: this one is ours. `target_suv` is (B, 1, ...) in SUV,
    not in a network's units; the counts are each sample's own. All 1 where a sample lies on one side of the threshold.
    Returns float32 of the same shape.
    """
    high = target_suv >= threshold
    hot = high.flatten(1).sum(1)
    cold = high[0].numel() - hot
    ratio = torch.where((hot > 0) & (cold > 0), cold / hot.clamp_min(1), 1.0).clamp_max(cap)
    return torch.where(high, ratio.reshape(-1, *[1] * (high.ndim - 1)), 1.0).float()
