"""A feed of noise that any recipe can be trained on."""

from __future__ import annotations

import torch
from torch import Generator


class EveryKey:
    """Batches with all that any regime asks for, decided by the step; sides of the channels of the setup."""

    validation = ()

    def __init__(self, recipe, setup):
        self.setup = setup
        source, target = setup.channels
        self.sides = {"target": side("CT", "HU", target)}
        if recipe.data != "unconditional":
            self.sides = {"source": side("MR", "1", source), **self.sides}
        every = {"source": {"kind": "percentile"}, "target": {"kind": "window", "low": -1000.0, "high": 1000.0}}
        self.normalisers = {name: every[name] for name in self.sides}

    def batch(self, step):
        rng, setup = Generator().manual_seed(step), self.setup
        made = {}
        for name, channels in zip(("source", "target"), setup.channels, strict=True):
            for suffix in ("", "_unpaired"):
                made[name + suffix] = torch.rand(setup.batch, channels, *setup.patch, generator=rng) * 2 - 1
        ones = torch.ones(setup.batch, 1, *setup.patch)
        return {**made, "mask": ones, "weight": ones, "label": torch.randint(2, (setup.batch,), generator=rng)}

    def describe(self):
        return {
            "name": "noise",
            "description": "",
            "sides": self.sides,
            "normalisers": self.normalisers,
            "target_units": "HU",
            "mask": "none",
            "training": {"cases": 1},
            "validation": {"cases": 0},
            "spatial": {"orientation": "LPS", "spacing": [None] * 3, "axis": "axial", "neighbours": 0},
        }


def side(modality, unit, channels):
    return {"modality": modality, "unit": unit, "channels": channels, "sequence": ""}
