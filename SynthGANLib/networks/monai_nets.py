"""Two U-Nets built by MONAI: the residual one for fundus images and the plain 3D one for MR to CT.

Sources: Yu et al., BioMed Eng OnLine 18 (2019) 62; Cicek et al., MICCAI 2016; Fu et al., Medical Physics 46 (2019)
3788; the layers are those of MONAI's DynUNet (Isensee et al., Nature Methods 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from SynthGANLib.errors import ModelError
from SynthGANLib.networks.blocks import check_dims, output_activation, pad_to_multiple, room_for_norm


class _Levels(nn.Module):
    """The layers of MONAI's DynUNet without its second, nested listing of them: every weight has one name.

    Extents divisible by 2 ** (levels - 1).
    """

    def __init__(self, dims: int, in_channels: int, out_channels: int, widths: Sequence[int], residual: bool) -> None:
        super().__init__()
        check_dims(dims)
        if len(widths) < 3:
            raise ValueError(f"this U-Net has at least three widths, not {len(widths)}")
        try:
            from monai.networks.nets.dynunet import DynUNet
        except ImportError as error:
            raise ModelError(
                f"this model needs MONAI, which cannot be imported ({error})", next_step="pip install monai"
            ) from error
        steps = len(widths) - 1
        unet = DynUNet(
            dims,
            in_channels,
            out_channels,
            kernel_size=[3] * (steps + 1),
            strides=[1] + [2] * steps,
            upsample_kernel_size=[2] * steps,
            filters=list(widths),
            res_block=residual,
        )
        self.down = nn.ModuleList([unet.input_block, *unet.downsamples, unet.bottleneck])
        self.up = unet.upsamples  # deepest first, each takes (below, skip)
        self.head = unet.output_block

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = up(x, skip)
        return cast(Tensor, self.head(x))


class ResidualUNet(nn.Module):
    """Strided U-Net of residual units with instance norm: 31,737,283 parameters for RGB to RGB in 2D.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1, padded by mirroring to
    a multiple of 2 ** (len(widths) - 1). ModelError where MONAI is not installed.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        output: str = "tanh",
    ) -> None:
        super().__init__()
        self.reduction = 2 ** (len(widths) - 1)
        self.unet = _Levels(dims, in_channels, out_channels, widths, residual=True)
        self.activation = output_activation(output)

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, self.reduction, minimum=room_for_norm(x, self.reduction))
        return cast(Tensor, self.activation(self.unet(x)))[crop]


class VolumeUNet(nn.Module):
    """Strided U-Net of double convolutions with instance norm: 22,577,793 parameters for one channel to one in 3D.

    Input (B, in_channels, [z,] y, x), output (B, out_channels, [z,] y, x); any extent >= 1, padded by mirroring to
    a multiple of 2 ** (len(widths) - 1). ModelError where MONAI is not installed.
    """

    multiple = 1

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        output: str = "linear",
    ) -> None:
        super().__init__()
        self.reduction = 2 ** (len(widths) - 1)
        self.unet = _Levels(dims, in_channels, out_channels, widths, residual=False)
        self.activation = output_activation(output)

    def forward(self, x: Tensor) -> Tensor:
        x, crop = pad_to_multiple(x, self.reduction, minimum=room_for_norm(x, self.reduction))
        return cast(Tensor, self.activation(self.unet(x)))[crop]
