"""Every recipe through the training loop: stopped and resumed to the last bit, exported, and run on a volume."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from recipe_cases import EveryKey
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
    directions = {f"class-{number}" for number in range(classes)}
    assert set(folders) == (directions or set(setup.build().exported()))
    for folder in folders.values():
        model = Model.load(folder)
        channels = model.card.source.channels
        shape = (5, 19, 17) if setup.dims == 2 else (18, 19, 17)
        noise = np.random.default_rng(0).normal(size=shape if channels == 1 else (*shape, channels))
        result = synthesize(Volume(noise.astype(np.float32), np.eye(4)), model, device="cpu")
        assert result.shape == shape
        assert result.channels == model.card.target.channels
        assert np.isfinite(result.array).all()
