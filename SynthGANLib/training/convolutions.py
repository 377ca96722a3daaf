"""Faster two-dimensional convolutions for training on the CPU in float32, with their gradients.

PyTorch has oneDNN compute them directly. Three kinds are computed otherwise here, by the same sums in another order:

* 3 x 3 with stride 1 in many channels: in tiles by Winograd's minimal filtering F(4 x 4, 3 x 3), with a quarter of the
  multiplications (Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016);
* wide kernels from or to one channel: as one product of matrices, for oneDNN leaves its vectors mostly empty;
* transposed ones on small images or to one channel: likewise, for oneDNN spends its time rearranging the weights.

Results and gradients differ from PyTorch's by rounding. Every way can be differentiated as often as PyTorch's own.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

TILE, PATCH = 4, 6
"""Extents of a tile of the result, and of the patch of the image that it is computed from."""
LEAST_CHANNELS, LEAST_TILES = 96, 200
"""Below these the transforms of tiles and of weights cost more than the multiplications they spare."""
SMALL = 256
"""Pixels of a batch up to which a transposed convolution is a product of matrices."""
STRIP_BYTES = 8 * 2**20
"""Size of each of the tiles' three intermediate results: they are worked on in strips of rows."""


def _both_axes(rows: list[list[int]], divisor: int = 1) -> Tensor:
    """The transform of two axes by one matrix each, as a matrix (rows ** 2, columns ** 2)."""
    matrix = torch.tensor(rows, dtype=torch.float64) / divisor
    return torch.kron(matrix, matrix)


# The transforms of Lavin and Gray, section 4.3: of patches, of filters, and of the products back to tiles.
_OF_PATCHES = _both_axes([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                          [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])  # fmt: skip
_OF_FILTERS = _both_axes([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], 24)
_TO_TILES = _both_axes([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


class _Tiled(torch.autograd.Function):
    """Convolution of (N, C, y, x) by (C_out, C, 3, 3) without padding; y - 2 and x - 2 are multiples of 4."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)  # as they came: copies would be constants to a second derivative
        output = image.new_empty(len(image), len(weight), image.shape[2] - 2, image.shape[3] - 2)
        blocks, filters, to_tiles = _blocks(output), _filters(weight), _TO_TILES.to(image)
        for rows, (one, two, _) in _strips(image, weight):
            patches = _patches(image, rows, one, two)
            count = patches.shape[2]
            product = torch.bmm(filters, patches, out=_taken(one, PATCH**2, len(weight), count))
            tiles = torch.mm(to_tiles, product.flatten(1), out=_taken(two, TILE**2, len(weight) * count))
            blocks[:, :, rows] = _spread(tiles, TILE, output, rows)
        return output

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients are to be differentiated: PyTorch's own can be
            pair, mask = (1, 1), [*ctx.needs_input_grad, False]
            own = torch.ops.aten.convolution_backward
            grown, learnt, _ = own(slope, image, weight, None, pair, (0, 0), pair, False, (0, 0), 1, mask)
            return grown, learnt
        with torch.autocast("cpu", enabled=False):
            return _gradients(image, weight, slope.contiguous(), *ctx.needs_input_grad)


def _gradients(
    image: Tensor, weight: Tensor, slope: Tensor, of_image: bool, of_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the image and the weight from `slope`, that of the result: the steps' transposes, in reverse."""
    channels, height, width = image.shape[1:]
    filters, of_patches, from_tiles = _filters(weight).transpose(1, 2), _OF_PATCHES.to(image).T, _TO_TILES.to(image).T
    # one more block of tiles than there are: the last patches reach into it by two pixels
    grown = image.new_zeros(len(image), channels, height + 2, width + 2) if of_image else None
    gathered = image.new_zeros(PATCH**2, *weight.shape[:2])
    for rows, (one, two, three) in _strips(image, weight):
        blocks = _blocks(slope)[:, :, rows].permute(3, 5, 1, 0, 2, 4)  # (4, 4, C_out, N, rows, wide)
        tiles = _taken(one, *blocks.shape).copy_(blocks).view(TILE**2, -1)
        product = torch.mm(from_tiles, tiles, out=_taken(two, PATCH**2, tiles.shape[1]))
        product = product.view(PATCH**2, len(weight), -1)
        if of_weight:
            gathered.baddbmm_(product, _patches(image, rows, one, three).transpose(1, 2))
        if grown is not None:
            back = torch.bmm(filters, product, out=_taken(one, PATCH**2, channels, product.shape[2])).flatten(1)
            patches = torch.mm(of_patches, back, out=_taken(three, *back.shape))
            _add(_spread(patches, PATCH, image, rows), _blocks(grown), rows)
    learnt = None
    if of_weight:
        learnt = (_OF_FILTERS.to(image).T @ gathered.flatten(1)).view(3, 3, *weight.shape[:2])
        learnt = learnt.permute(2, 3, 0, 1).contiguous()
    return None if grown is None else grown[:, :, :height, :width].contiguous(), learnt


def _strips(image: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The rows of tiles, as many at a time as fit; and room for three results, the same for all strips."""
    high, wide = image.shape[2] // TILE, image.shape[3] // TILE
    row = PATCH**2 * max(weight.shape[:2]) * len(image) * wide
    step = min(high, max(1, STRIP_BYTES // (row * image.element_size())))
    room = _room(image, 3 * step * row).view(3, -1)
    return ((slice(start, min(start + step, high)), room) for start in range(0, high, step))


_kept = threading.local()


def _room(like: Tensor, numbers: int) -> Tensor:
    """So much memory, the same for all calls of a thread: taken anew each time it would leave holes between images."""
    found: Tensor | None = getattr(_kept, "room", None)
    if found is None or found.dtype != like.dtype or found.numel() < numbers:
        found = _kept.room = torch.empty(numbers, dtype=like.dtype)
    return found[:numbers]


def _taken(room: Tensor, *shape: int) -> Tensor:
    """The beginning of `room` in this shape."""
    return room[: math.prod(shape)].view(shape)


def _blocks(image: Tensor) -> Tensor:
    """(N, C, y, x) -> (N, C, y / 4, 4, x / 4, 4), of the same memory."""
    return image.view(*image.shape[:2], image.shape[2] // TILE, TILE, image.shape[3] // TILE, TILE)


def _spread(flat: Tensor, extent: int, like: Tensor, rows: slice) -> Tensor:
    """(extent ** 2, C * N * rows * wide) -> (N, C, rows, extent, wide, extent), of the same memory."""
    tiles = flat.view(extent, extent, like.shape[1], len(like), rows.stop - rows.start, like.shape[3] // TILE)
    return tiles.permute(3, 2, 4, 0, 5, 1)


def _filters(weight: Tensor) -> Tensor:
    """(C_out, C, 3, 3) -> (36, C_out, C), transformed."""
    flat = weight.permute(2, 3, 0, 1).reshape(9, -1)
    return (_OF_FILTERS.to(weight) @ flat).view(PATCH**2, *weight.shape[:2])


def _patches(image: Tensor, rows: slice, between: Tensor, into: Tensor) -> Tensor:
    """The patches of these rows of tiles, transformed: (36, C, N * rows * wide) in `into`."""
    patches = image.unfold(2, PATCH, TILE).unfold(3, PATCH, TILE)[:, :, rows]  # (N, C, rows, wide, 6, 6)
    patches = patches.permute(4, 5, 1, 0, 2, 3)
    flat = _taken(between, *patches.shape).copy_(patches).view(PATCH**2, -1)
    transformed = torch.mm(_OF_PATCHES.to(image), flat, out=_taken(into, *flat.shape))
    return transformed.view(PATCH**2, image.shape[1], -1)


def _add(patches: Tensor, into: Tensor, rows: slice) -> None:
    """Add (N, C, rows, 6, wide, 6) to blocks (N, C, high + 1, 4, wide + 1, 4), each two pixels into the next."""
    below = slice(rows.start + 1, rows.stop + 1)
    into[:, :, rows, :, :-1] += patches[:, :, :, :TILE, :, :TILE]
    into[:, :, below, :2, :-1] += patches[:, :, :, TILE:, :, :TILE]
    into[:, :, rows, :, 1:, :2] += patches[:, :, :, :TILE, :, TILE:]
    into[:, :, below, :2, 1:, :2] += patches[:, :, :, TILE:, :, TILE:]


def tiled(image: Tensor, weight: Tensor) -> Tensor:
    """`F.conv2d(image, weight)` for kernels of 3 x 3, by tiles of 4 x 4; any extents."""
    height, width = image.shape[2] - 2, image.shape[3] - 2
    if height % TILE or width % TILE:
        image = F.pad(image, (0, -width % TILE, 0, -height % TILE))
    output = cast(Tensor, _Tiled.apply(image, weight))  # type: ignore[no-untyped-call]
    return output[:, :, :height, :width]


def from_one(image: Tensor, weight: Tensor) -> Tensor:
    """`F.conv2d(image, weight)` from few channels, best from one: the kernel's views of the image become channels."""
    height, width = (extent - kernel + 1 for extent, kernel in zip(image.shape[2:], weight.shape[2:], strict=True))
    views = F.unfold(image, weight.shape[2:])  # (N, C * kernel, y * x)
    return (weight.flatten(1) @ views).view(len(image), len(weight), height, width)


def to_one(image: Tensor, weight: Tensor) -> Tensor:
    """`F.conv2d(image, weight)` to few channels, best to one: every pixel's shares in the results around it, summed."""
    height, width = weight.shape[2:]
    # (C_out, C, kernel) -> (C_out * kernel, C), the kernel turned round: what a pixel gives, not what it takes
    matrix = weight.flip(2, 3).flatten(2).transpose(1, 2).flatten(0, 1)
    full = (image.shape[2] + height - 1, image.shape[3] + width - 1)
    shares = F.fold(matrix @ image.flatten(2), full, (height, width))
    return shares[..., height - 1 : image.shape[2], width - 1 : image.shape[3]]


def transposed(image: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> Tensor:
    """`F.conv_transpose2d` with the output padding 0, as one product and a sum."""
    sides = zip(image.shape[2:], stride, padding, weight.shape[2:], strict=True)
    height, width = ((extent - 1) * step - 2 * pad + kernel for extent, step, pad, kernel in sides)
    shares = weight.flatten(1).T @ image.flatten(2)  # (C_out * kernel, C) @ (N, C, y * x)
    return F.fold(shares, (height, width), weight.shape[2:], stride=stride, padding=padding)


class TrainingConvolutions(TorchFunctionMode):
    """Within this context convolution layers take the ways of this module on float32 images on the CPU.

    Layers that pad by themselves, as discriminators' do, are left to PyTorch: where a gradient penalty differentiates
    twice, tiles would be right but no faster, for their second derivative is PyTorch's.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        way, count = _WAYS.get(func, (None, 0))
        if way is not None and not kwargs and len(args) == count and _float_on_cpu(args[0]):  # as layers call it
            result = way(*args)
            if result is not None:
                return result if args[2] is None else result + args[2].view(-1, 1, 1)
        return func(*args, **(kwargs or {}))


def _float_on_cpu(image: Tensor) -> bool:
    plain = image.ndim == 4 and image.device.type == "cpu" and image.dtype == torch.float32
    return plain and not torch.is_autocast_enabled("cpu")


def _convolved(
    image: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor | None:
    """A convolution without its bias; None leaves it to PyTorch."""
    if (stride, padding, dilation, groups) != ((1, 1), (0, 0), (1, 1), 1):
        return None
    out, channels, height, width = weight.shape
    high, wide = image.shape[2] - height + 1, image.shape[3] - width + 1
    if min(high, wide) < 1 or image.shape[1] != channels:
        return None  # PyTorch's message
    if (height, width) == (3, 3):
        tiles = len(image) * high * wide // TILE**2
        return tiled(image, weight) if min(out, channels) >= LEAST_CHANNELS and tiles >= LEAST_TILES else None
    one, many = sorted((out, channels))
    if one != 1 or not 9 < height * width <= 2 * many:  # the views of a still wider kernel take too much memory
        return None
    return from_one(image, weight) if channels == 1 else to_one(image, weight)


def _transposed(
    image: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, more: Any, groups: int, dilation: Any
) -> Tensor | None:
    """A transposed convolution without its bias; None leaves it to PyTorch."""
    channels, out = weight.shape[:2]
    suits = out == 1 < channels or len(image) * image.shape[2] * image.shape[3] <= SMALL
    if not suits or (more, groups, dilation) != ((0, 0), 1, (1, 1)) or image.shape[1] != channels:
        return None
    return transposed(image, weight, stride, padding)


_WAYS: Mapping[Any, tuple[Callable[..., Tensor | None], int]] = {
    F.conv2d: (_convolved, 7),
    F.conv_transpose2d: (_transposed, 8),
}
"""Function -> what may compute it here, and how many arguments a layer gives it."""
