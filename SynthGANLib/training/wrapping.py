"""The networks of a run as a model folder can hold them: by name and arguments, and from image to image."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from SynthGANLib.errors import InputError
from SynthGANLib.image.intensity import normaliser_from_json
from SynthGANLib.networks.cascade import Cascade, Inpainter
from SynthGANLib.networks.sampler import Sampler
from SynthGANLib.recipes.base import Net, Setup
from SynthGANLib.regimes.base import Regime

HOLE = 0.5
"""In an inpainting model's last channel: above it, before normalisation, the image is made up."""


def exported(
    setup: Setup,
    networks: Mapping[str, nn.Module],
    regime: Regime,
    data: Mapping[str, Any],
    *,
    label: int | None = None,
) -> dict[str, tuple[Net, nn.Module]]:
    """The networks that a user of `regime` runs now, by direction, with what builds them anew.

    Where a regime was trained on one kind of images, a generator from codes becomes a Sampler, and any other network,
    which fills holes, an Inpainter. A generator with classes makes one Sampler for each, "class-0" and so on, or with
    `label` one of that class alone, "forward".

    Args:
        data: what `Feed.describe` says of the data.

    Raises:
        InputError: no such class; or a network that cannot be built from the setup's.
    """
    found: dict[str, tuple[Net, nn.Module]] = {}
    for direction, network in regime.usable().items():
        net = net_of(setup, networks, network)
        if "source" in data["sides"] or net.name in ("Sampler", "Inpainter"):
            found[direction] = net, network
        elif not isinstance(getattr(network, "code", None), int):
            found[direction] = as_inpainter(net, network, data["normalisers"]["target"])
        else:
            classes = _classes(net, label)
            for one in classes:
                name = direction if label is not None or one is None else f"class-{one}"
                found[name] = as_sampler(net, network, one)
    if label is not None and not any(net.arguments.get("label") == label for net, _ in found.values()):
        raise InputError(f"The networks make no classes, so there is no class {label}.", next_step="Leave --label out.")
    return found


def _classes(net: Net, label: int | None) -> list[int | None]:
    """The classes to export; [None] for a generator that has none."""
    count = int(net.arguments.get("classes", 0))
    if label is None or not count:
        return [*range(count)] if count else [None]
    if not 0 <= label < count:
        raise InputError(
            f"The generator makes the classes 0 to {count - 1}, not {label}.", next_step="Choose one of these."
        )
    return [label]


def as_sampler(net: Net, generator: nn.Module, label: int | None = None) -> tuple[Net, nn.Module]:
    """A generator from codes as a network from an image of noise, over the same weights."""
    sampler = Sampler.over(generator, int(getattr(generator, "code")), label=label)  # noqa: B009  # not in nn.Module
    return Net("Sampler", {"generator": _plain(net), **sampler.arguments()}), sampler


def as_inpainter(net: Net, network: nn.Module, scale: Mapping[str, Any]) -> tuple[Net, nn.Module]:
    """A network that fills holes as one from an image and its hole, over the same weights.

    `scale`: fields of the normaliser of both, by which the hole's 0 and 1 become network numbers.
    """
    threshold = float(normaliser_from_json(scale).apply(np.full(1, HOLE, np.float32))[0])
    return Net("Inpainter", {"stage": _plain(net), "threshold": threshold}), Inpainter.over(network, threshold)


def net_of(setup: Setup, networks: Mapping[str, nn.Module], network: nn.Module) -> Net:
    """Name and arguments that build `network` anew.

    It is one of the setup's `networks`; or the first stages of one that is a cascade; or a Sampler of such a one; or a
    network of another name over the same weights, with the same arguments (UNIT backward); or one whose
    arguments are networks of the setup, by their names there.

    Raises:
        InputError: none of these.
    """
    for name, own in networks.items():
        if own is network:
            return setup.networks[name]
        if isinstance(own, Cascade) and isinstance(network, Cascade) and _begins(own, network):
            arguments = setup.networks[name].arguments
            return Net("Cascade", {**arguments, "stages": arguments["stages"][: len(network.stages)]})
    if isinstance(network, Sampler):
        return Net("Sampler", {"generator": _plain(net_of(setup, networks, network.generator)), **network.arguments()})
    return _rebuilt(setup, networks, network)


def _rebuilt(setup: Setup, networks: Mapping[str, nn.Module], network: nn.Module) -> Net:
    from SynthGANLib.networks.registry import NETWORKS, constructor

    kind = type(network).__name__
    if kind in NETWORKS:
        wanted = inspect.signature(constructor(kind)).parameters
        if wanted and set(wanted) <= set(setup.networks):
            return Net(kind, {name: _plain(setup.networks[name]) for name in wanted})
        weights = {id(parameter) for parameter in network.parameters()}
        for name, own in networks.items():
            if weights == {id(parameter) for parameter in own.parameters()}:
                return Net(kind, setup.networks[name].arguments)
    raise InputError(f"The exported network '{kind}' cannot be built from the setup's networks.")


def _begins(whole: Cascade, part: Cascade) -> bool:
    """Whether `part` is the first stages of `whole`."""
    return all(a is b for a, b in zip(whole.stages, part.stages, strict=False))


def _plain(net: Net) -> dict[str, Any]:
    return {"name": net.name, "arguments": dict(net.arguments)}
