"""Networks by name. A model card names one of these and gives its constructor arguments; nothing else is run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from SynthGANLib.classical.regression import REGRESSORS
from SynthGANLib.errors import ModelError
from SynthGANLib.networks.discriminators import DISCRIMINATORS
from SynthGANLib.networks.generative import GENERATIVE
from SynthGANLib.networks.translators import TRANSLATORS
from SynthGANLib.networks.unet import MixtureUNet, UNet


class Identity(nn.Module):
    """Returns a copy of its input: the reference that tiling and geometry are tested with."""

    multiple = 1

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "Identity": Identity,
    "MixtureUNet": MixtureUNet,
    "UNet": UNet,
    **TRANSLATORS,
    **GENERATIVE,
    **DISCRIMINATORS,
    **REGRESSORS,
}


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Construct the network `name` with `arguments`; ModelError names what is unknown or does not fit."""
    try:
        constructor = NETWORKS[name]
    except KeyError:
        known = ", ".join(sorted(NETWORKS))
        raise ModelError(
            f"the model asks for the network '{name}', which this version does not have (known: {known})",
            next_step="Update SynthGAN, or install a model made for this version.",
        ) from None
    unknown = set(arguments) - set(inspect.signature(constructor).parameters)
    if unknown:
        raise ModelError(f"the network '{name}' has no argument named {', '.join(sorted(unknown))}")
    try:
        return constructor(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the network '{name}' cannot be built with the card's arguments: {error}") from error
