"""The fitted recipes from the command line: data list in, run with a model, model folder out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_cases import call
from list_cases import MR, subjects, write_list

from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.model.model import Model
from SynthGANLib.recipes.registry import FITTED

QUICK = {
    "gaussian-mixture": ["components=4", "samples=4000"],
    "ridge": ["samples=4000"],
    **{name: ["deformable=none"] for name in FITTED if name.startswith("atlas")},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return write_list(folder, subjects(folder, 2))


@pytest.fixture(scope="module")
def echoes(tmp_path_factory):
    """The same list with two echoes as the channels of each source."""
    folder = tmp_path_factory.mktemp("echoes")
    entries = subjects(folder, 2)
    for entry in entries:
        first = read_volume(folder / entry["source"])
        late = np.where(first.array > np.median(first.array), 0.9, 0.3) * first.array
        name = entry["source"].replace("_mr", "_late")
        write_volume(first.with_array(late.astype(np.float32)), folder / name)
        entry["source"] = [entry["source"], name]
    return write_list(folder, entries, source={**MR, "channels": 2})


@pytest.mark.parametrize("name", FITTED)
def test_fitted_recipe_ends_in_a_model_that_runs(name, data, echoes, tmp_path, capsys):
    data = echoes if name == "tissue-echoes" else data
    settings = ["--set", *QUICK[name]] if name in QUICK else []
    code, out, error = call(capsys, "train", name, "--data", data, "--out", tmp_path / "run", *settings, "--json")
    assert code == 0, error
    assert json.loads(out)["recipe"] == name
    record = json.loads((tmp_path / "run" / "fit.json").read_text())
    assert record["cases"] == 2
    code, out, error = call(capsys, "export", tmp_path / "run", "--out", tmp_path / "m", "--id", "my-model", "--json")
    assert code == 0, error
    model = Model.load(tmp_path / "m")
    assert model.card.id == "my-model"
    source, truth = (read_volume(data.parent / f"s1_{side}.nii.gz") for side in ("mr", "ct"))
    if name == "tissue-echoes":
        late = read_volume(data.parent / "s1_late.nii.gz")
        source = source.with_array(np.stack([source.array, late.array], axis=-1))
    body = read_volume(data.parent / "s1_mask.nii.gz").array > 0
    found = synthesize(source, model, mask=body)
    assert found.unit == "HU"
    assert found.grid.same_as(source.grid)
    if not name.startswith("tissue"):  # which looks for the anatomy of a head, and these are drawn shells
        error_of = np.abs(found.array - truth.array)[body].mean()
        assert error_of < 0.7 * np.abs(40.0 - truth.array[body]).mean()


def test_a_run_is_not_fitted_over(data, tmp_path, capsys):
    run = ("train", "ridge", "--data", data, "--out", tmp_path / "run", "--set", "samples=2000")
    assert call(capsys, *run)[0] == 0
    code, _, error = call(capsys, *run)
    assert code == 2
    assert "fitted model already" in error


def test_unknown_option_of_a_fit_is_named(data, tmp_path, capsys):
    code, _, error = call(capsys, "train", "ridge", "--data", data, "--out", tmp_path / "r", "--set", "degrees=2")
    assert code == 2
    assert "degree" in error
    assert not (tmp_path / "r").exists()
