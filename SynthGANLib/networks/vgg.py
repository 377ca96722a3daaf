"""The convolutions of VGG16, and the fully convolutional translator built on them.

Sources: Simonyan and Zisserman, ICLR 2015; Long et al., CVPR 2015; for CT to PET: Ben-Cohen et al., EAAI 78 (2019)
186, whose layers are not public: fusing up to stride 4 is theirs, the rest ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from SynthGANLib.networks.blocks import (
    conv,
    conv_chain,
    max_pool,
    output_activation,
    pad_to_multiple,
    resize,
    room_for_norm,
)

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = (2, 2, 3, 3, 3)


class Vgg16(nn.Module):
    """Five blocks of 3-wide convolutions and ReLU with maximum pooling between: 14,714,688 parameters without norm.

    Input (B, in_channels, [z,] y, x), extents at least 16; `forward` returns the five blocks' outputs, finest first,
    at full resolution, 1/2, 1/4, 1/8 and 1/16.
    """

    def __init__(self, dims: int = 2, in_channels: int = 3, widths: Sequence[int] = WIDTHS, norm: str = "none") -> None:
        super().__init__()
        if len(widths) != len(DEPTHS):
            raise ValueError(f"a VGG has {len(DEPTHS)} widths, not {len(widths)}")
        self.blocks = nn.ModuleList(
            conv_chain(dims, [in_width, *[out_width] * count], norm)
            for (in_width, out_width), count in zip(pairwise([in_channels, *widths]), DEPTHS, strict=True)
        )

    def convolutions(self) -> list[nn.Module]:
        """Its convolutions in order."""
        return [part for block in self.blocks for part in cast(nn.Sequential, block) if hasattr(part, "kernel_size")]

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for block in self.blocks:
            x = block(max_pool(x) if features else x)
            features.append(x)
        return features


def load_vgg_weights(convolutions: Sequence[nn.Module], state: Mapping[str, Tensor]) -> None:
    """Put torchvision's VGG weights ("features.0.weight", ...) into `convolutions`, in order.

    Raises ValueError where the file has too few convolutions or one of another shape; nothing is changed then.
    """
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("features.")})
    if len(numbers) < len(convolutions):
        raise ValueError(
            f"the weights hold {len(numbers)} convolutions named features.*, {len(convolutions)} are needed"
        )
    pairs: list[tuple[Tensor, Tensor]] = []
    for number, part in zip(numbers, convolutions, strict=False):  # classifiers and later layers may follow
        for kind in ("weight", "bias"):
            name, own = f"features.{number}.{kind}", cast(Tensor, getattr(part, kind))
            if name not in state or state[name].shape != own.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise ValueError(f"'{name}' should have the shape {tuple(own.shape)}, the weights have {found}")
            pairs.append((own, state[name]))
    with torch.no_grad():
        for own, value in pairs:
            own.copy_(value)


class FcnTranslator(nn.Module):
    """VGG16 without its fully connected layers, scored at strides 16, 8 and 4 and added up, interpolated from 4.

    A single input channel is repeated to three, so that weights of VGG16 fit.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1, padded by mirroring to
    a multiple of 16.
    """

    multiple = 1
    reduction = 16

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = WIDTHS,
        norm: str = "none",
        output: str = "linear",
    ) -> None:
        super().__init__()
        first = 3 if in_channels == 1 else in_channels
        self.repeat = first // in_channels
        self.trunk = Vgg16(dims, first, widths, norm)
        self.scores = nn.ModuleList(conv(dims)(width, out_channels, 1) for width in widths[2:])  # stride 4 first
        self.activation = output_activation(output)

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, self.reduction, minimum=room_for_norm(x, self.reduction))
        features = self.trunk(torch.cat([x] * self.repeat, 1))[2:]
        total = self.scores[-1](features[-1])
        for score, feature in zip(reversed(list(self.scores)[:-1]), reversed(features[:-1]), strict=True):
            total = score(feature) + resize(total, feature.shape[2:])
        return cast(Tensor, self.activation(resize(total, x.shape[2:])))[crop]
