"""A limit on what a network constructor may create, so that absurd arguments end early and without memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

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
