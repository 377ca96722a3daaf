"""The walk-through of CONTRIBUTING.md, executed: a new regime and recipe train, resume, export and run."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from list_cases import subjects, write_list

from SynthGANLib.data.datalist import read_datalist
from SynthGANLib.data.feed import Feed
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.model.model import Model
from SynthGANLib.recipes.base import Recipe
from SynthGANLib.training.engine import train
from SynthGANLib.training.export_run import export
from SynthGANLib.training.record import Record, write_record

TEXT = (Path(__file__).resolve().parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEPS = {"steps": "4"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Recipe:
    """The recipe of the text's code, put into one module as its two blocks say."""
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    path = tmp_path_factory.mktemp("new") / "relativistic.py"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("relativistic", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "relativistic", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    assert isinstance(module.RECIPE, Recipe)
    return module.RECIPE


def test_new_recipe_trains_resumes_exports_and_runs(recipe, tmp_path):
    from SynthGANLib.recipes.overrides import apply

    data = read_datalist(write_list(tmp_path, subjects(tmp_path, 2)))
    setup = apply(recipe.tiny(), STEPS)
    states = {}
    for name, stops in (("whole", (4,)), ("parts", (2, 4))):
        out = tmp_path / name
        for stop in stops:
            feed = Feed(data, setup, seed=1, needs=recipe.data)
            about = Record(recipe.name, "tiny", STEPS, feed.describe(), "list.json", 1, "none")
            begun = lambda out=out, about=about: write_record(out, about)  # noqa: E731
            stopped = _until(feed, stop)
            try:
                train(setup, stopped, out, seed=1, resume=stop == 4 and len(stops) > 1, save_every=2, begun=begun)
            except Stopped:
                assert stop == 2
        states[name] = torch.load(out / "checkpoints" / "step-00000004.pt", weights_only=True)
    assert _equal(states["whole"]["regime"], states["parts"]["regime"])

    export(tmp_path / "parts", tmp_path / "model", recipe=recipe, id="relativistic")
    source = read_volume(tmp_path / "s0_mr.nii.gz")
    result = synthesize(source, Model.load(tmp_path / "model"))
    assert result.grid.same_as(source.grid)
    assert result.unit == "HU"
    assert np.isfinite(result.array).all()


def test_equal_images_have_no_margin(recipe):
    regime = recipe.tiny().build().eval()
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert float(regime.margin(image, image).abs().max()) == 0.0


class Stopped(Exception):
    """The machine went away."""


def _until(feed, stop):
    """The feed, which fails when the batch of step `stop` is asked for, where the run is longer."""
    if stop < int(STEPS["steps"]):
        given = feed.batch

        def batch(step):
            if step >= stop:
                raise Stopped
            return given(step)

        feed.batch = batch
    return feed


def _equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b
