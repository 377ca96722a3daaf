"""The card of a network that was trained here: what the data says, put in the words of a model folder."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from SynthGANLib.data.scaling import MR_TOP
from SynthGANLib.errors import InputError
from SynthGANLib.image.intensity import normaliser_from_json
from SynthGANLib.image.volume import BACKGROUND
from SynthGANLib.model.card import Card, MethodSpec, SourceSpec, SpatialSpec, TargetSpec, VectorSpec
from SynthGANLib.recipes.base import Net, Setup

TOLERANCE = 1e-3
"""Of the test vector, in normalised units: what kernels of other machines may round differently."""

_DISPLAY = {"HU": "CT_BONE"}
_WIDEST = 1e6
_BOUNDED = ("window", "suv", "rgb")
"""Normalisers that take -1..1 to the whole range of the target."""

NOISE = {"modality": "NOISE", "unit": "1", "channels": 1, "sequence": ""}
"""The source of a network that makes images from nothing: an image of standard normal numbers."""


@dataclass(frozen=True)
class About:
    """What the card says in words; the numbers come from data and setup."""

    id: str
    title: str
    description: str
    anatomy: str = "unspecified"
    licence: str = "Not stated; ask whoever trained this model."
    intended_use: str = "Research. Not for diagnosis, dose calculation or attenuation correction."
    citation: str = ""
    version: str = "0.1.0"
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def make_card(
    about: About, setup: Setup, data: Mapping[str, Any], direction: str, net: Net, network: nn.Module
) -> Card:
    """The card of the network that `setup` exports as `direction`.

    Args:
        data: what `Feed.describe` says; "source" may be missing among its sides: then `net` is a Sampler, which makes
            images from noise, or an Inpainter, whose source is the target with the hole as one more channel.
        direction: "backward" with the sides exchanged; "sample-source" for a Sampler of the source's side; all others
            make the target.
        net: name and arguments that build the network anew. network: it itself, for its `multiple`.

    Raises:
        InputError: the direction "backward" has no source.
        ModelError: the card does not obey its format.
    """
    sides, scales = dict(data["sides"]), dict(data["normalisers"])
    sampled = net.name == "Sampler"
    if "source" not in sides and direction == "backward":
        raise InputError("A model that was trained on one kind of images has no way back.")
    if "source" not in sides:
        sides["source"], scales["source"] = _with_hole(sides["target"]), scales["target"]
    if direction == "backward":
        sides = {"source": sides["target"], "target": sides["source"]}
        scales = {"source": _as_source(scales["target"], sides["source"]), "target": _as_target(scales["source"])}
    if direction == "sample-source":
        sides["target"], scales["target"] = sides["source"], _drawn(sides["source"], scales["source"])
    if sampled:
        sides["source"], scales["source"] = NOISE, {"kind": "zscore"}
    source, target = sides["source"], sides["target"]
    return Card(
        id=about.id,
        version=about.version,
        title=about.title,
        description=about.description,
        anatomy=about.anatomy,
        source=SourceSpec(
            source["modality"],
            source["unit"],
            (source["sequence"],) if source.get("sequence") else (),
            source["channels"],
        ),
        target=_target(target, scales["target"]),
        method=MethodSpec("network", net.name, dict(net.arguments)),
        spatial=_spatial(setup, data["spatial"], getattr(network, "multiple", 1), fixed=sampled),
        licence=about.licence,
        intended_use=about.intended_use,
        normalisers=scales,
        mask="none" if sampled or "source" not in data["sides"] else data["mask"],
        training=about.training,
        metrics=about.metrics,
        citation=about.citation,
        vector=VectorSpec(TOLERANCE),
    )


def identifier(*words: str) -> str:
    """An id of a model from words: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(word for word in words if word).lower()).strip("-")[:64].rstrip("-")


def vector_shape(card: Card, most: int = 2**18) -> tuple[int, ...]:
    """(1, C_in, [z,] y, x) of a test input: the smallest tile, halved along its longest axis while it is large."""
    spatial = card.spatial
    extents = list(spatial.tile_min[-spatial.dims :])
    while math.prod(extents) > most and not spatial.tile_fixed:
        axis = extents.index(max(extents))
        extents[axis] = max(spatial.multiple, extents[axis] // 2 // spatial.multiple * spatial.multiple)
    return 1, card.source.channels * (2 * spatial.neighbours + 1), *extents


def with_metrics(card: Card, metrics: Mapping[str, Any]) -> Card:
    """The card with other measurements."""
    return replace(card, metrics=dict(metrics))


def _with_hole(side: Mapping[str, Any]) -> dict[str, Any]:
    """Images like the target's with one more channel: 1 where there is a hole, 0 elsewhere."""
    unit = "1" if side["unit"] == "RGB" else side["unit"]
    return {**side, "unit": unit, "channels": side["channels"] + 1}


def _target(side: Mapping[str, Any], scale: Mapping[str, Any]) -> TargetSpec:
    """What comes out, within what the normaliser can express."""
    label = side["unit"] == "label"
    continuous = label and scale["kind"] != "labels"  # the way back to a drawing: how much of it is there
    unit = "1" if continuous else side["unit"]
    if scale["kind"] in _BOUNDED:
        low, high = (float(v) for v in normaliser_from_json(scale).invert(np.array([-1.0, 1.0], np.float32)))
    else:
        low, high = (0.0, 255.0) if label else (-_WIDEST, _WIDEST)
    background = min(max(BACKGROUND.get(unit, 0.0), low), high)
    return TargetSpec(side["modality"], unit, background, (low, high), side["channels"], _DISPLAY.get(unit, ""))


def _spatial(setup: Setup, grid: Mapping[str, Any], multiple: int, *, fixed: bool) -> SpatialSpec:
    """Tiles from the extents trained on to twice these; exactly these for a network whose images have one size."""
    least = tuple(-(-extent // multiple) * multiple for extent in setup.patch)
    most = least if fixed else tuple(min(2 * extent, 4096 // multiple * multiple) for extent in least)
    flat = setup.dims == 2
    low, high = ((1, *least), (1, *most)) if flat else (least, most)
    return SpatialSpec(
        dims=setup.dims,
        tile_min=(low[0], low[1], low[2]),
        tile_max=(high[0], high[1], high[2]),
        orientation=grid["orientation"],
        spacing=tuple(grid["spacing"]),
        axis=grid["axis"] if flat else None,
        neighbours=grid["neighbours"] if flat else 0,
        multiple=multiple,
        tile_fixed=fixed,
        overlap=0.0 if fixed else 0.25,
    )


def _as_source(scale: Mapping[str, Any], side: Mapping[str, Any]) -> dict[str, Any]:
    """A target's normaliser for images that come in: MR in the model's own units was brought there by percentiles."""
    if side["modality"] == "MR" and side["unit"] == "1":
        return {"kind": "percentile"}
    return dict(scale)


def _drawn(side: Mapping[str, Any], scale: Mapping[str, Any]) -> dict[str, Any]:
    """The normaliser of sources made from noise; those of drawings come as how much of it is there, -1 to 1."""
    return {"kind": "window", "low": 0.0, "high": 1.0} if side["unit"] == "label" else _as_target(scale)


def _as_target(scale: Mapping[str, Any]) -> dict[str, Any]:
    """A source's normaliser for images that go out.

    Percentiles of the image to be made are not known: it comes in arbitrary units in which they are 0 and 1000.
    """
    if scale["kind"] == "percentile":
        low, high = scale.get("out_low", -1.0), scale.get("out_high", 1.0)
        if (low, high) == (-1.0, 1.0):
            return {"kind": "window", "low": 0.0, "high": MR_TOP}
        return {"kind": "identity", "scale": (high - low) / MR_TOP, "offset": low}
    return {"kind": "identity"} if scale["kind"] == "zscore" else dict(scale)
