"""Losses on edges and local structure. Images are (B, C, [z,] y, x).

Sources: gradient difference: Mathieu et al. 2016, Nie et al. 2017; gradient consistency: Hiasa et al. 2018; structural
similarity: Wang et al. 2004.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from SynthGANLib.losses.precision import in_float32

WINDOW = 7
"""Extent of the uniform window of the structural similarity."""

_MEAN = {2: F.avg_pool2d, 3: F.avg_pool3d}
_LEAST_VARIANCE = 1e-12


def _checked(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(f"the two images are {tuple(x.shape)} and {tuple(y.shape)}")
    if x.ndim - 2 not in _MEAN:
        raise ValueError(f"an image batch is (B, C, [z,] y, x), not {tuple(x.shape)}")


def _axes(x: Tensor) -> list[int]:
    """Spatial axes that have neighbours to compare."""
    return [axis for axis in range(2, x.ndim) if x.shape[axis] > 1]


@in_float32
def gradient_difference(pred: Tensor, target: Tensor, power: float = 2) -> Tensor:
    """Sum over the axes of the mean of (abs(gradient of target) - abs(gradient of pred)) ** power, power >= 1.

    Gradients are differences of neighbours. Magnitudes are compared, so an edge of the opposite sign is no difference,
    nor is a constant shift. ValueError for different shapes.
    """
    _checked(pred, target)
    total = pred.sum() * 0  # keeps the graph where no axis has neighbours
    for axis in _axes(pred):
        apart = target.diff(dim=axis).abs() - pred.diff(dim=axis).abs()
        total = total + (apart.square() if power == 2 else apart.abs() ** power).mean()
    return total


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Correlation over each sample's values, (B, ...) -> (B,); 0 where one is constant."""
    x, y = x.flatten(1), y.flatten(1)
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    spread = [v.square().mean(1).clamp_min(_LEAST_VARIANCE).sqrt() for v in (x, y)]
    return (x * y).mean(1) / (spread[0] * spread[1])


@in_float32
def gradient_consistency(x: Tensor, y: Tensor) -> Tensor:
    """Mean over the axes and the batch of the correlation of the two images' gradients, in [-1, 1].

    1 for y = a x + b with a > 0, -1 with a < 0; 0 where no axis has neighbours or an image is constant. The loss term
    is 1 minus this. ValueError for different shapes.
    """
    _checked(x, y)
    found = [_correlation(x.diff(dim=axis), y.diff(dim=axis)) for axis in _axes(x)]
    return torch.stack(found).mean() if found else (x.sum() + y.sum()) * 0


@in_float32
def ssim_loss(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    """1 minus the structural similarity, mean over batch, channels and the places where the window fits.

    Uniform window of 7 (the largest odd extent that fits along a shorter axis), sample covariance, K1 0.01, K2 0.03.
    `data_range` is the width of the intensities' range in the tensors' units, 2 for [-1, 1]; it never comes from the
    images. ValueError for different shapes or a range that is not positive.
    """
    _checked(pred, target)
    if not data_range > 0:
        raise ValueError(f"a range of intensities is wider than 0, not {data_range}")
    window = [min(WINDOW, n - 1 + n % 2) for n in pred.shape[2:]]  # odd and no longer than the axis
    mean = _MEAN[pred.ndim - 2]
    count = 1
    for w in window:
        count *= w
    sample = count / max(count - 1, 1)
    x, y = mean(pred, window, 1), mean(target, window, 1)
    xx = sample * (mean(pred * pred, window, 1) - x * x)
    yy = sample * (mean(target * target, window, 1) - y * y)
    xy = sample * (mean(pred * target, window, 1) - x * y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * x * y + c1) / (x * x + y * y + c1)
    return 1 - (luminance * (2 * xy + c2) / (xx + yy + c2)).mean()
