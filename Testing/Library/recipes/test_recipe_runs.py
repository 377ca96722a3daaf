"""Every recipe through the training loop: stopped and resumed to the last bit, exported, and run on a volume."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator
from training_cases import same

from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.model.model import Model
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.training import checkpoint
from SynthGANLib.training.engine import train
from SynthGANLib.training.export_run import export
from SynthGANLib.training.record import Record, write_record

STEPS = 3
SETTINGS = {"steps": str(STEPS), "ema": "0.9"}


@pytest.fixture(autouse=True)
def one_thread():
    """The number of threads decides the order of sums, and with it the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
        draw, setup = Generator().manual_seed(step), self.setup
        made = {}
        for name, channels in zip(("source", "target"), setup.channels, strict=True):
            for suffix in ("", "_unpaired"):
                made[name + suffix] = torch.rand(setup.batch, channels, *setup.patch, generator=draw) * 2 - 1
        ones = torch.ones(setup.batch, 1, *setup.patch)
        return {**made, "mask": ones, "weight": ones, "label": torch.randint(2, (setup.batch,), generator=draw)}

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


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_resumes_exactly_and_its_export_runs(name, tmp_path):
    recipe = RECIPES[name]
    setup = replace(recipe.tiny(), steps=STEPS, ema=0.9)
    feed = EveryKey(recipe, setup)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(setup, feed, whole, seed=1, device="cpu", save_every=2)
    shutil.copytree(whole, stopped)
    checkpoint.path_of(stopped, STEPS).unlink()
    train(setup, feed, stopped, seed=1, device="cpu", resume=True)
    assert same(checkpoint.load(whole, STEPS), checkpoint.load(stopped, STEPS)) is None

    write_record(stopped, Record(name, "tiny", SETTINGS, feed.describe(), "data.json", 1, "none"))
    folders = export(stopped, tmp_path / "model")
    classes = setup.networks["generator"].arguments.get("classes", 0) if "generator" in setup.networks else 0
    ways = {f"class-{number}" for number in range(classes)}
    assert set(folders) == (ways or set(setup.build().exported()))
    for folder in folders.values():
        model = Model.load(folder)
        channels = model.card.source.channels
        shape = (5, 19, 17) if setup.dims == 2 else (18, 19, 17)
        noise = np.random.default_rng(0).normal(size=shape if channels == 1 else (*shape, channels))
        result = synthesize(Volume(noise.astype(np.float32), np.eye(4)), model, device="cpu")
        assert result.shape == shape
        assert result.channels == model.card.target.channels
        assert np.isfinite(result.array).all()
