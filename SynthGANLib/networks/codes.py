"""What networks that start from a code share: extents, class labels beside a code or an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def extents_of(dims: int, size: int | Sequence[int]) -> tuple[int, ...]:
    """Extents ([z,] y, x) from one number or from one for each axis; ValueError unless there are `dims`, all >= 1."""
    extents = (size,) * dims if isinstance(size, int) else tuple(size)
    if len(extents) != dims or min(extents) < 1:
        raise ValueError(f"a size is one number or {dims} numbers, all at least 1, not {size}")
    return extents


def halvings(extents: Sequence[int], smallest: int) -> int:
    """How often `extents` must be halved until the least of them is `smallest`; ValueError where that cannot be."""
    steps = max(min(extents) // smallest, 1).bit_length() - 1
    if min(extents) != smallest << steps or any(n % (1 << steps) for n in extents):
        raise ValueError(f"extents {tuple(extents)} are not {smallest} (the least) doubled a whole number of times")
    return steps


def one_hot(label: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """(B,) int64 labels -> (B, classes) in the type of `like`; no columns where there are no classes.

    ValueError where a label is missing, superfluous, out of range or not one a sample.
    """
    count = like.shape[0]
    if (label is None) == (classes > 0):
        raise ValueError("this network takes a class label" if classes else "this network takes no class label")
    if label is None:
        return like.new_zeros(count, 0)
    if label.shape != (count,):
        raise ValueError(f"{count} samples need {count} labels, not labels of shape {tuple(label.shape)}")
    if bool(((label < 0) | (label >= classes)).any()):
        raise ValueError(f"labels lie between 0 and {classes - 1}, not {label.tolist()}")
    return F.one_hot(label, classes).to(like)


def code_with_label(z: Tensor, code: int, label: Tensor | None, classes: int) -> Tensor:
    """Codes (B, code[, 1, ..]) and labels (B,) -> (B, code + classes)."""
    flat = z.flatten(1)
    if flat.shape[1] != code:
        raise ValueError(f"a code of this network has {code} numbers, not {flat.shape[1]}")
    return torch.cat([flat, one_hot(label, classes, flat)], 1)


def image_with_label(x: Tensor, label: Tensor | None, classes: int) -> Tensor:
    """Images (B, C, ...) and labels (B,) -> (B, C + classes, ...): every class is a map of zeros or ones."""
    columns = one_hot(label, classes, x)
    maps = columns.reshape(*columns.shape, *([1] * (x.ndim - 2))).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, maps], 1)


def at_columns(values: Tensor, dims: int) -> Tensor:
    """(B, C) -> (B, C, 1, 1[, 1])."""
    return values.reshape(*values.shape, *([1] * dims))
