"""Parts the networks share: layers by number of dimensions and by name, padding with its crop, initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import EllipsisType
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Crop: TypeAlias = tuple[EllipsisType | slice, ...]
"""Index that undoes a padding: `padded[crop]`."""

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_BATCH: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE: dict[int, type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]] = {
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}
_OUTPUTS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "linear": nn.Identity, "sigmoid": nn.Sigmoid}


def check_dims(dims: int) -> None:
    """ValueError unless `dims` is 2 or 3."""
    if dims not in _CONV:
        raise ValueError(f"a network has 2 or 3 dimensions, not {dims}")


def conv(dims: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """The convolution class of `dims` dimensions."""
    check_dims(dims)
    return _CONV[dims]


def conv_transpose(dims: int) -> type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]:
    """The transposed convolution class of `dims` dimensions."""
    check_dims(dims)
    return _TRANSPOSED[dims]


def norm(dims: int, name: str, channels: int, *, affine: bool = True) -> nn.Module:
    """Normalisation layer "batch", "instance", "layer" (over channels and voxels of a sample) or "none"."""
    check_dims(dims)
    if name == "batch":
        return _BATCH[dims](channels, affine=affine)
    if name == "instance":
        return _INSTANCE[dims](channels, affine=affine)
    if name == "layer":
        return nn.GroupNorm(1, channels, affine=affine)
    if name == "none":
        return nn.Identity()
    raise ValueError(f"a norm is 'batch', 'instance', 'layer' or 'none', not '{name}'")


def conv_chain(dims: int, channels: Sequence[int], norm_name: str) -> nn.Sequential:
    """Convolution 3 that keeps the extents, norm and ReLU for each pair of neighbouring channel counts."""
    layers: list[nn.Module] = []
    for in_channels, out_channels in pairwise(channels):
        layers += [
            conv(dims)(in_channels, out_channels, 3, padding=1),
            norm(dims, norm_name, out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def output_activation(name: str) -> nn.Module:
    """The last layer of a network by name: "tanh", "linear" or "sigmoid"."""
    if name not in _OUTPUTS:
        raise ValueError(f"an output is 'tanh', 'linear' or 'sigmoid', not '{name}'")
    return _OUTPUTS[name]()


def max_pool(x: Tensor) -> Tensor:
    """Maximum over blocks of 2 along every spatial axis."""
    return F.max_pool2d(x, 2) if x.ndim == 4 else F.max_pool3d(x, 2)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Linear interpolation of (B, C, [z,] y, x) to the spatial extents `size`."""
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return F.interpolate(x, size=list(size), mode=mode, align_corners=False)


def reflect_pad(x: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Pad each spatial axis by (before, after), mirrored at the border voxel; any extent >= 1, any pad >= 0.

    A pad wider than the image goes back and forth; an axis of one voxel is repeated.
    """
    if not any(before or after for before, after in pads):
        return x
    if all(max(pad) < extent for pad, extent in zip(pads, x.shape[2:], strict=True)):
        return F.pad(x, [n for pad in reversed(pads) for n in pad], mode="reflect")
    for axis, (before, after) in enumerate(pads, start=2):
        extent = x.shape[axis]
        place = torch.arange(-before, extent + after, device=x.device)
        period = max(2 * (extent - 1), 1)
        place = place.remainder(period)  # 0 .. period - 1, the second half runs backwards
        x = x.index_select(axis, torch.minimum(place, period - place) if extent > 1 else place)
    return x


def replicate_pad(x: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Pad each spatial axis by (before, after) with its border voxel; any extent >= 1."""
    return F.pad(x, [n for pad in reversed(pads) for n in pad], mode="replicate")


def pad_to_multiple(x: Tensor, multiple: int, *, minimum: int = 1, mode: str = "reflect") -> tuple[Tensor, Crop]:
    """Pad (B, C, [z,] y, x) until every extent is at least `minimum` and divisible by `multiple`.

    Half of it comes before, half after the image, mirrored ("reflect") or repeated ("replicate"); both work for any
    extent >= 1. Returns the padded tensor and the index that takes anything on its grid back: `y[crop]`.
    """
    pads: list[tuple[int, int]] = []
    crop: list[EllipsisType | slice] = [...]
    for extent in x.shape[2:]:
        extra = -(-max(extent, minimum) // multiple) * multiple - extent
        pads.append((extra // 2, extra - extra // 2))
        crop.append(slice(extra // 2, extra // 2 + extent))
    padders = {"reflect": reflect_pad, "replicate": replicate_pad}
    return padders[mode](x, pads), tuple(crop)


def room_for_norm(x: Tensor, multiple: int) -> int:
    """The `minimum` that leaves more than one voxel to normalise over once `x` is reduced by `multiple`."""
    return 2 * multiple if max(x.shape[2:]) <= multiple else 1


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels of every spatial axis."""
    for axis, extent in enumerate(size, start=2):
        x = x.narrow(axis, 0, extent)
    return x


def margin_crop(x: Tensor, margin: int) -> Tensor:
    """`x` without `margin` voxels on both sides of every spatial axis."""
    for axis in range(2, x.ndim):
        x = x.narrow(axis, margin, x.shape[axis] - 2 * margin)
    return x
