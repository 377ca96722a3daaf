"""Faster three-dimensional convolutions on the CPU, for one tile at a time.

PyTorch (2.13, `use_mkldnn` in `aten/src/ATen/native/Convolution.cpp`) gives a 3D convolution of a single
image to oneDNN only where channels * z * y exceeds 20,480, and otherwise unfolds the image into a matrix on
one core. That rule is far from the optimum: with oneDNN, strided and sub-pixel U-Nets took 0.3 to 0.7 of the time and
half of the memory for tiles of 64^3 and 96^3. So oneDNN is called directly; the results differ by rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class FastConvolutions(TorchFunctionMode):
    """Within this context `conv3d` of a single float32 image on the CPU is computed by oneDNN, where there is one.

    For inference: no gradients pass. All other calls are left as they are.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.conv3d and not kwargs and len(args) == 7 and _suits(*args):
            image, weight, bias, stride, padding, dilation, groups = args
            return torch.ops.aten.mkldnn_convolution(
                image.contiguous(), weight, bias, padding, stride, dilation, groups
            )
        return func(*args, **(kwargs or {}))


def _suits(
    image: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    """Whether oneDNN may take this call and PyTorch would perhaps not give it to it."""
    return (
        _HAS_ONEDNN
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_grad_enabled()
        and image.device.type == "cpu"
        and image.dtype == weight.dtype == torch.float32
        and image.ndim == 5
        and image.shape[0] == 1
        and max(weight.shape[2:]) > 1
        and all(isinstance(setting, tuple) for setting in (stride, padding, dilation))
    )
