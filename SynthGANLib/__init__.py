"""SynthGAN's library: a volume goes in, one with the same place and another unit comes out.

Names below are loaded on first use, so that ``import SynthGANLib`` costs nothing and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from SynthGANLib.card import Card
    from SynthGANLib.catalogue import Catalogue, Entry
    from SynthGANLib.errors import (
        CancelledError,
        InputError,
        MemoryExhaustedError,
        ModelError,
        SynthGANError,
        UnfitInputError,
    )
    from SynthGANLib.inference.progress import Progress
    from SynthGANLib.inference.synthesize import synthesize
    from SynthGANLib.model import Model
    from SynthGANLib.volume import Volume, read_volume, write_volume

_HOME = {
    "Card": "card",
    "Catalogue": "catalogue",
    "Entry": "catalogue",
    "CancelledError": "errors",
    "InputError": "errors",
    "MemoryExhaustedError": "errors",
    "ModelError": "errors",
    "SynthGANError": "errors",
    "UnfitInputError": "errors",
    "Progress": "inference.progress",
    "synthesize": "inference.synthesize",
    "Model": "model",
    "Volume": "volume",
    "read_volume": "volume",
    "write_volume": "volume",
}

__all__ = [
    "CancelledError",
    "Card",
    "Catalogue",
    "Entry",
    "InputError",
    "MemoryExhaustedError",
    "Model",
    "ModelError",
    "Progress",
    "SynthGANError",
    "UnfitInputError",
    "Volume",
    "__version__",
    "read_volume",
    "synthesize",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
