"""SynthGAN's library: a volume goes in, one with the same place and another unit comes out.

Names below are loaded on first use, so that ``import SynthGANLib`` costs nothing and loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from SynthGANLib.lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from SynthGANLib.errors import (
        CancelledError,
        InputError,
        MemoryExhaustedError,
        ModelError,
        SynthGANError,
        UnfitInputError,
    )
    from SynthGANLib.image.volume import Volume
    from SynthGANLib.inference.pipeline import synthesize
    from SynthGANLib.inference.progress import Progress
    from SynthGANLib.io.volumes import read_volume, write_volume
    from SynthGANLib.model.card import Card
    from SynthGANLib.model.catalogue import Catalogue, Entry
    from SynthGANLib.model.model import Model

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


__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "errors": "CancelledError InputError MemoryExhaustedError ModelError SynthGANError UnfitInputError",
        "image.volume": "Volume",
        "inference.pipeline": "synthesize",
        "inference.progress": "Progress",
        "io.volumes": "read_volume write_volume",
        "model.card": "Card",
        "model.catalogue": "Catalogue Entry",
        "model.model": "Model",
    },
)
