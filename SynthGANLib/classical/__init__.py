"""Classical synthesis: methods without learned weights, called by the name in a model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.classical.tissue import tissue_ct

METHODS: Mapping[str, Callable[..., NDArray[np.float32]]] = {"tissue": tissue_ct}
"""name -> method(volume, mask, *, progress, cancel, **arguments) -> array (z,y,x) float32 in the target's unit."""

__all__ = ["METHODS", "tissue_ct"]


def argument_names(name: str) -> tuple[str, ...]:
    """Names of the arguments a card may give to a method; KeyError for an unknown method."""
    import inspect

    skip = {"volume", "mask", "progress", "cancel"}
    parameters: Mapping[str, Any] = inspect.signature(METHODS[name]).parameters
    return tuple(p for p in parameters if p not in skip)
