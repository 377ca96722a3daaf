"""Plain stacks of convolutions: the voxel-wise CNN, the pool-free FCN and the generator of the context-aware GAN.

Sources: Li et al., MICCAI 2014; Nie et al., DLMIA 2016; Nie et al., MICCAI 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from SynthGANLib.networks.blocks import conv, output_activation, pad_to_multiple, reflect_pad, replicate_pad
from SynthGANLib.networks.blocks import norm as make_norm

_PADDERS = {"reflect": reflect_pad, "replicate": replicate_pad}
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def li2014_layers(out_channels: int = 1) -> list[list[Any]]:
    """Two hidden layers of 7-cubed kernels: a 15-cubed patch gives a 3-cubed one; 37,761 parameters in 3D."""
    return [[7, 10], [7, 10], [1, out_channels]]


def nie2016_layers(out_channels: int = 1) -> list[list[Any]]:
    """The pool-free FCN, 32-cubed to 24-cubed; 2,166,289 parameters in 3D with batch norm."""
    return [
        [5, 48, "valid"],
        [3, 96, "same"],
        [3, 128, "same"],
        [5, 96, "valid"],
        [3, 48, "same"],
        [3, 32, "same"],
        [3, out_channels, "same"],
    ]


def nie2017_layers(out_channels: int = 1) -> list[list[Any]]:
    """The context-aware GAN's generator, 32-cubed to 16-cubed; 1,877,665 parameters in 3D with batch norm."""
    return [
        [9, 32, "valid"],
        *[[3, 32, "same"]] * 3,
        [9, 64, "valid"],
        *[[3, 64, "same"]] * 2,
        [3, 32, "same"],
        [3, out_channels, "same"],
    ]


def nie2017_slice_layers(out_channels: int = 1) -> list[list[Any]]:
    """Its 2.5D version, five slices of 64 x 64 to one of 48 x 48; 1,993,473 parameters with batch norm."""
    valid = [[7, 128], [5, 128], [3, 256], [3, 256], [3, 128]]
    return valid + [[3, channels, "same"] for channels in (128, 128, 64, out_channels)]


PRESETS: dict[str, Callable[[int], list[list[Any]]]] = {
    "li2014": li2014_layers,
    "nie2016": nie2016_layers,
    "nie2017": nie2017_layers,
    "nie2017_slice": nie2017_slice_layers,
}


class ConvStack(nn.Module):
    """Convolutions one after the other, with norm and activation after all but the last.

    `layers` lists [kernel, channels] or [kernel, channels, "valid" | "same"] ("valid" where left out; kernels odd;
    the last entry's channels equal `out_channels`), or names one of `PRESETS`. `padding` is how `forward` makes up
    for what the valid convolutions lose.

    `valid`: (B, in_channels, [z,] y, x) -> (B, out_channels, ...), `margin` voxels less on every side.
    `forward`: the same net on the image padded by `margin`, so extents stay; any extent >= 1. Where every layer is
    valid, the inside of `forward` equals `valid` of each patch exactly.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        layers: str | Sequence[Sequence[Any]] = "li2014",
        norm: str = "none",
        output: str = "linear",
        activation: str = "relu",
        padding: str = "reflect",
    ) -> None:
        super().__init__()
        table = _checked(layers, out_channels)
        if activation not in _ACTIVATIONS:
            raise ValueError(f"an activation is 'relu' or 'sigmoid', not '{activation}'")
        if padding not in _PADDERS:
            raise ValueError(f"a padding is 'reflect' or 'replicate', not '{padding}'")
        self.margin = sum(kernel // 2 for kernel, _, mode in table if mode == "valid")
        self.padding, self.least = padding, 2 if norm == "instance" else 1
        stack: list[nn.Module] = []
        in_width = in_channels
        for index, (kernel, channels, mode) in enumerate(table):
            stack.append(conv(dims)(in_width, channels, kernel, padding=kernel // 2 if mode == "same" else 0))
            if index < len(table) - 1:
                stack += [make_norm(dims, norm, channels), _ACTIVATIONS[activation]()]
            in_width = channels
        self.stack = nn.Sequential(*stack, output_activation(output))

    def valid(self, x: Tensor) -> Tensor:
        """The bare net: every extent loses 2 * `margin` voxels; ValueError where none would be left."""
        if min(x.shape[2:]) <= 2 * self.margin:
            raise ValueError(f"extents {tuple(x.shape[2:])} must exceed twice the margin of {self.margin} voxels")
        return cast(Tensor, self.stack(x))

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, 1, minimum=self.least, mode=self.padding)
        return self.valid(_PADDERS[self.padding](x, [(self.margin, self.margin)] * (x.ndim - 2)))[crop]


def _checked(layers: str | Sequence[Sequence[Any]], out_channels: int) -> list[tuple[int, int, str]]:
    if isinstance(layers, str):
        if layers not in PRESETS:
            raise ValueError(f"layers is a list or one of {', '.join(PRESETS)}, not '{layers}'")
        layers = PRESETS[layers](out_channels)
    table: list[tuple[int, int, str]] = []
    for layer in layers:
        kernel, channels, mode = (*layer, "valid")[:3]
        if kernel < 1 or kernel % 2 == 0 or mode not in ("valid", "same"):
            raise ValueError(f"a layer is [odd kernel, channels, 'valid' or 'same'], not {list(layer)}")
        table.append((kernel, channels, mode))
    if not table or table[-1][1] != out_channels:
        raise ValueError(f"the last layer must have out_channels = {out_channels} channels")
    return table
