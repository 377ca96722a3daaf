"""Classical synthesis: methods without a network, called by the name in a model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.classical.atlas import atlas_ct, check_atlases
from SynthGANLib.classical.tissue import tissue_ct
from SynthGANLib.classical.tissue_echoes import tissue_echoes_ct

METHODS: Mapping[str, Callable[..., NDArray[np.float32]]] = {
    "atlas": atlas_ct,
    "tissue": tissue_ct,
    "tissue_echoes": tissue_echoes_ct,
}
"""name -> method(volume, mask, *, progress, cancel, **arguments) -> array (z,y,x) float32 in the target's unit.

A method with the parameter `tensors` is given the arrays of the model folder, one with `warn` a function that takes
sentences for the user.
"""

TENSOR_CHECKS: Mapping[str, Callable[[Mapping[str, NDArray[Any]]], None]] = {"atlas": check_atlases}
"""For each method of `model.card.METHODS_WITH_TENSORS`: raises ValueError, with a clause that follows the name of the
file, for tensors it cannot work with. Called whenever a model is built or loaded."""


def accepted_arguments(name: str, **offered: Any) -> dict[str, Any]:
    """Those of the `offered` extras ("tensors", "warn") that the method `name` has a parameter for."""
    import inspect

    parameters = inspect.signature(METHODS[name]).parameters
    return {key: value for key, value in offered.items() if key in parameters}
