"""Two-dimensional models: a volume as a stack of slices in one of three planes, and the fusion of three.

A stack is the same array seen with another axis in front, so slices are tiles of one voxel's thickness and
everything in `tiles` applies to them: batches, padding, overlap within the plane, skipping of empty slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[Any]


def as_stack(array: Array, axis: int) -> Array:
    """A view of `array` (z, y, x[, c]) as (slice, row, column[, c]) with the slices across `axis`.

    The other two axes keep their order: with LPS axial slices have rows y and columns x, coronal ones z and x,
    sagittal ones z and y.
    """
    return np.moveaxis(array, axis, 0)


def as_slice_batch(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Let a two-dimensional `network` take tiles (B, C, n, y, x) of n neighbouring slices.

    The slices of one source channel lie side by side: channel c of slice k is number c * n + k of what the
    network sees. Its output (B, C_out, y, x) comes back as (B, C_out, 1, y, x).
    """

    def forward(tiles: Tensor) -> Tensor:
        batch, channels, thickness, rows, columns = tiles.shape
        slices = tiles.reshape(batch, channels * thickness, rows, columns)
        return network(slices).unsqueeze(2)

    return forward


def fuse_mean(predictions: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Mean of predictions of one volume, voxel by voxel; the first array is reused for the result."""
    total = predictions[0]
    for other in predictions[1:]:
        total += other
    total /= len(predictions)
    return total


def fuse_median(predictions: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Median of three predictions, voxel by voxel; the arrays are reused.

    max(min(a, b), min(max(a, b), c)) is the median of a, b, c and needs, slice by slice, no further volume.
    """
    # (C, z, y, x) -> (C * z, y, x)
    first, second, third = (array.reshape(-1, *array.shape[2:]) for array in predictions)
    for a, b, c in zip(first, second, third, strict=True):
        low = np.minimum(a, b)
        np.maximum(a, b, out=b)
        np.minimum(b, c, out=b)
        np.maximum(low, b, out=a)
    return predictions[0]


FUSIONS: dict[str, Callable[[Sequence[npt.NDArray[np.float32]]], npt.NDArray[np.float32]]] = {
    "mean": fuse_mean,
    "median": fuse_median,
}
