"""Limits on what a model folder may make a network take: modules and weights, and bytes alive at once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

MAX_MODULES = 5_000


class TooBigError(Exception):
    """The constructor went beyond the limit; the message says which."""


@contextmanager
def bounded_construction(max_elements: int) -> Iterator[None]:
    """Within the block, in this thread, modules beyond the limits raise TooBigError.

    Used under ``torch.device("meta")``, where parameters take no memory: only their number is a danger.
    """
    owner = threading.get_ident()
    counts = {"modules": 0, "elements": 0}

    def count_tensor(module: nn.Module, name: str, value: object) -> None:
        if threading.get_ident() == owner and hasattr(value, "numel"):
            counts["elements"] += value.numel()
            if counts["elements"] > max_elements:
                raise TooBigError(f"more than {max_elements} weights")

    def count_module(module: nn.Module, name: str, child: object) -> None:
        if threading.get_ident() == owner:
            counts["modules"] += 1
            if counts["modules"] > MAX_MODULES:
                raise TooBigError(f"more than {MAX_MODULES} layers")

    handles = [
        register_module_parameter_registration_hook(count_tensor),
        register_module_buffer_registration_hook(count_tensor),
        register_module_module_registration_hook(count_module),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


CHANNEL_BLOCK = 16
"""CPU convolutions rearrange image and result into blocks of this many channels, in copies of their own."""


class LiveBytes(TorchFunctionMode):
    """Counts the bytes of tensors that the code inside makes and keeps; `peak` is the most at once.

    During a convolution its rearranged operands count as well. What a compound operation makes and drops
    inside itself is not seen.

    Raises:
        TooBigError: within the block, as soon as more than `most` bytes are alive.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self._most = most
        self.peak = 0
        self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        scratch = _blocked(args[0]) + _blocked(result) if func in _CONVOLUTIONS else 0
        self.peak = max(self.peak, self._now + scratch)
        if self._most is not None and self.peak > self._most:
            raise TooBigError(f"more than {self._most} bytes")
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self._now += storage.nbytes()
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self._now -= self._sizes.pop(key, 0)


_CONVOLUTIONS = (F.conv2d, F.conv3d, F.conv_transpose2d, F.conv_transpose3d)


def _blocked(image: Tensor) -> int:
    """Bytes of a float32 copy of `image` (B, C, ...) with the channels filled up to whole blocks."""
    channels = image.shape[1]
    return image.numel() // channels * (-(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK) * 4
