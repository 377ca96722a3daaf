"""Discriminators with a map of logits, one for every patch of the image.

Sources: Isola et al., CVPR 2017 (PatchGAN, pixel GAN); Liu et al., NeurIPS 2017 (UNIT: several scales); Pan et al.,
MICCAI 2018; Costa et al., IEEE TMI 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from SynthGANLib.errors import ModelError
from SynthGANLib.networks.blocks import check_dims, conv, norm

_SLOPE = 0.2
_NORMS = {"batch": "BATCH", "instance": "INSTANCE", "none": None}


class PatchDiscriminator(nn.Module):
    """PatchGAN: (B, in_channels, [z,] y, x) -> features of every layer, the last of them logits (B, 1, ...).

    A logit sees 16, 34 or 70 voxels along every axis for 1, 2 or 3 `layers`, and one voxel for 0 (pixel GAN).

    Raises:
        ModelError: MONAI, whose patch discriminator this is, is not installed (not needed for 0 layers).
        ValueError: in the call, where the image is too small to give a logit.
    """

    def __init__(
        self, dims: int = 2, in_channels: int = 1, base: int = 64, layers: int = 3, norm: str = "batch"
    ) -> None:
        super().__init__()
        check_dims(dims)
        if norm not in _NORMS:
            raise ValueError(f"a patch discriminator's norm is 'batch', 'instance' or 'none', not '{norm}'")
        if not 0 <= layers <= 5:
            raise ValueError(f"a patch discriminator has 0 to 5 layers, not {layers}")
        self.layers = layers
        if layers:
            self.net: nn.Module = _monai_patch_discriminator(dims, in_channels, base, layers, norm)
        else:
            self.net = _PixelDiscriminator(dims, in_channels, base, norm)

    def forward(self, x: Tensor) -> list[Tensor]:
        least = 3 * 2**self.layers if self.layers else 1
        if min(x.shape[2:]) < least:
            raise ValueError(
                f"images of {tuple(x.shape[2:])} are too small for a patch discriminator of {self.layers} layers:"
                f" every extent must be at least {least}"
            )
        return cast(list[Tensor], self.net(x))


def _monai_patch_discriminator(dims: int, in_channels: int, base: int, layers: int, norm_name: str) -> nn.Module:
    try:
        # here, for only training needs it and it takes seconds to load
        from monai.networks.nets.patchgan_discriminator import PatchDiscriminator as Patches
    except ImportError as error:
        raise ModelError(
            f"this model needs MONAI, which cannot be imported ({error})", next_step="pip install monai"
        ) from error
    # batch norm has a shift of its own; instance norm without gain and shift leaves the bias to the convolution
    return Patches(
        spatial_dims=dims,
        channels=base,
        in_channels=in_channels,
        num_layers_d=layers,
        norm=cast(str, _NORMS[norm_name]),  # None is no norm, which the annotation there lacks
        bias=norm_name != "batch",
    )


class _PixelDiscriminator(nn.Module):
    """Three 1x1 convolutions: every voxel is judged alone."""

    def __init__(self, dims: int, in_channels: int, base: int, norm_name: str) -> None:
        super().__init__()
        bias = norm_name != "batch"
        self.parts = nn.ModuleList(
            [
                nn.Sequential(conv(dims)(in_channels, base, 1), nn.LeakyReLU(_SLOPE)),
                nn.Sequential(
                    conv(dims)(base, 2 * base, 1, bias=bias),
                    norm(dims, norm_name, 2 * base, affine=norm_name == "batch"),
                    nn.LeakyReLU(_SLOPE),
                ),
                conv(dims)(2 * base, 1, 1),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for part in self.parts:
            x = part(x)
            features.append(x)
        return features


class _StridedLogits(nn.Module):
    """Strided convolutions with leaky ReLU, then one to a map of logits: what the last three classes consist of."""

    def __init__(self, layers: Sequence[nn.Module], last: nn.Module, least: int) -> None:
        super().__init__()
        self.layers, self.last, self.least = nn.Sequential(*layers), last, least

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < self.least:
            raise ValueError(
                f"images of {tuple(x.shape[2:])} are too small: every extent must be at least {self.least}"
            )
        return cast(Tensor, self.last(self.layers(x)))


class MultiScaleDiscriminator(nn.Module):
    """UNIT's: one discriminator without norm for the image and one for each of `scales` - 1 halvings of it.

    (B, in_channels, ...) -> list of logits (B, 1, ...), fine to coarse, each 2 ** `layers` smaller than its image.
    """

    def __init__(self, dims: int = 2, in_channels: int = 1, scales: int = 3, base: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.scales = nn.ModuleList()
        for _ in range(scales):
            widths = [in_channels, *(base << i for i in range(layers))]
            parts: list[nn.Module] = []
            for a, b in pairwise(widths):
                parts += [conv(dims)(a, b, 4, 2, 1), nn.LeakyReLU(_SLOPE, inplace=True)]
            self.scales.append(_StridedLogits(parts, conv(dims)(widths[-1], 1, 1), 2**layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        logits: list[Tensor] = []
        for i, scale in enumerate(self.scales):
            if i:
                pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
                x = pool(x, 3, 2, 1, count_include_pad=False)
            logits.append(scale(x))
        return logits


class PanDiscriminator(_StridedLogits):
    """Pan's: four convolutions of kernel 4, three of them strided, instance norm with gain and shift, then logits.

    (B, in_channels, ...) -> (B, 1, ...).
    """

    def __init__(self, dims: int = 3, in_channels: int = 1, base: int = 16) -> None:
        check_dims(dims)
        parts: list[nn.Module] = [conv(dims)(in_channels, base, 4, 2, 1), nn.LeakyReLU(_SLOPE, inplace=True)]
        for a, b, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            parts += [
                conv(dims)(a * base, b * base, 4, stride, 1),
                norm(dims, "instance", b * base),
                nn.LeakyReLU(_SLOPE, inplace=True),
            ]
        super().__init__(parts, conv(dims)(8 * base, 1, 4, 1, 1), 24)


class CostaDiscriminator(_StridedLogits):
    """Costa's: four strided convolutions of kernel 3 without norm, the last to logits: (B, C, ...) -> (B, 1, ...)."""

    def __init__(self, dims: int = 2, in_channels: int = 4, base: int = 32) -> None:
        check_dims(dims)
        parts: list[nn.Module] = []
        for a, b in pairwise([in_channels, base, 2 * base, 4 * base]):
            parts += [conv(dims)(a, b, 3, 2, 1), nn.LeakyReLU(_SLOPE, inplace=True)]
        super().__init__(parts, conv(dims)(4 * base, 1, 3, 2, 1), 1)
