"""The zoo: every recipe has a compact form that builds, the table tells the truth, and what is missing is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from SynthGANLib.errors import InputError
from SynthGANLib.io.volumes import write_volume
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.tissues import HEAD_LABELS
from SynthGANLib.recipes.registry import FITTED, RECIPES
from SynthGANLib.training.record import setup_of
from Tools.Zoo import generation, heads, zoo
from Tools.Zoo.baselines import noise_of_look, unet_entry, unet_recipe
from Tools.Zoo.compact import ENTRIES, Entry
from Tools.Zoo.material import Collection, Item
from Tools.Zoo.report import recipe_of, report, short
from Tools.Zoo.tasks import COLLECTIONS, TASKS
from Tools.Zoo.words import BELOW, AgainstReal, Compared, reasons

MACHINE = {"cpu": "a processor", "cores": 2, "threads": 1, "device": "cpu", "torch": "2"}


def made(entry: Entry, mae: float = 1.0, frechet: float = 0.1, **more: object) -> dict:
    """A result as a run would have left it."""
    common = {"steps": entry.steps, "batch": 2, "seconds": 20.0, "wall_seconds": 60.0, "parameters": 1234}
    common |= {"machine": MACHINE, "scale": 1.0, "made": "2026-01-02"}
    numbers = {"frechet": frechet, "alike": 0.3, "nearest": 0.1}
    if TASKS[entry.task].generates:
        other = {"noise": {**numbers, "frechet": 0.5}, "real": {**numbers, "frechet": 0.01}}
        return {**common, "metrics": numbers, **other, **more}
    return {**common, "metrics": {"MAE": mae, "PSNR": 20.0, "SSIM": 0.5, "cases": [mae]}, **more}


def everything() -> dict[str, dict]:
    """Results in which every method has an MAE of 1, between the guesses' 3 and 2 and the U-Net's 0.5."""
    results = {}
    for entry in ENTRIES:
        task = TASKS[entry.task]
        results[entry.key] = made(entry)
        if not task.generates:
            baseline = unet_entry(task, recipe_of(entry).dims)
            results[baseline.key] = made(baseline, 0.5)
            results[f"guesses--{task.reference}"] = {"identity": {"MAE": 3.0}, "mean": {"MAE": 2.0}}
    return results


def row_of(text: str, recipe: str, task: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| `{recipe}` |") and f"| {task} |" in line)


def test_every_recipe_has_a_compact_form():
    assert {entry.recipe for entry in ENTRIES} == {*RECIPES, *FITTED}
    keys = [entry.key for entry in ENTRIES]
    assert len(set(keys)) == len(keys)
    assert {entry.task for entry in ENTRIES} <= set(TASKS)
    assert {entry.recipe for entry in ENTRIES if not entry.steps} == set(FITTED)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.recipe in RECIPES], ids=lambda e: e.key)
def test_compact_forms_build_and_fit_their_tasks(entry):
    recipe, task = RECIPES[entry.recipe], TASKS[entry.task]
    setup = setup_of(recipe, "tiny", entry.scaled(0.5))
    assert setup.steps == round(0.5 * entry.steps)
    with torch.device("meta"):
        setup.build()
    targets = 3 if task.target_side["unit"] == "RGB" else len(task.target)
    assert setup.channels[1] == targets
    assert not task.source or setup.channels[0] == len(task.source)
    assert task.kind == recipe.data


@pytest.mark.parametrize("dims", [2, 3])
def test_baseline_takes_the_channels_of_every_task(dims):
    for entry in ENTRIES:
        task = TASKS[entry.task]
        if task.generates or recipe_of(entry).dims != dims:
            continue
        baseline = unet_entry(task, dims)
        setup = setup_of(unet_recipe(dims), "tiny", baseline.settings)
        assert TASKS[baseline.task].kind == "paired"
        arguments = setup.networks["generator"].arguments
        assert (arguments["in_channels"], arguments["out_channels"]) == setup.channels


def test_report_has_every_recipe_and_nothing_below_where_nothing_is():
    text = report(everything(), {}, {})
    for name in (*RECIPES, *FITTED):
        assert f"| `{name}` |" in text
        assert f"- `{name}` (" in text
    assert f"**{BELOW}**" not in text
    assert "not run" not in text
    assert "goes on with them" not in text
    assert "identity, mean |" in row_of(text, "pix2pix", "mr-ct")
    assert "| Isola 2017 |" in row_of(text, "pix2pix", "mr-ct")


def test_report_flags_what_does_not_beat_its_baseline_with_what_was_measured():
    results = everything()
    worse = next(entry for entry in ENTRIES if entry.recipe == "pix2pix")
    accuracy = {"real": 0.97, "fake": 0.99}
    results[worse.key] = made(worse, 2.5, curve=[[1, 5.0], [2, 4.0], [3, 3.5], [4, 2.5]], accuracy=accuracy)
    results["dcgan--small-mr"] = made(next(e for e in ENTRIES if e.recipe == "dcgan"), frechet=0.6)
    text = report(results, {}, {})
    assert f"**{BELOW}** (identity)" in row_of(text, "pix2pix", "mr-ct")
    assert f"**{BELOW}**" in row_of(text, "dcgan", "small-mr")
    assert text.count(f"**{BELOW}**") == 2
    why = next(line for line in text.splitlines() if line.startswith("- `pix2pix` on mr-ct:"))
    assert "1.25 times mean" in why
    assert "fell by 29 %" in why
    assert "97 %" in why


def test_report_says_what_was_not_run_and_what_failed():
    results = everything()
    del results["unit--t1-t2-unpaired"]
    text = report(results, {"unit--t1-t2-unpaired": "InputError: there is no file."}, {})
    assert "not run" in row_of(text, "unit", "t1-t2-unpaired")
    assert f"1 of {len(ENTRIES)} lines were not run yet" in text
    assert "- `unit--t1-t2-unpaired`: InputError: there is no file." in text


def test_verdicts():
    entry = ENTRIES[0]
    baselines = {"identity": 3.0, "mean": 2.0, "U-Net": 0.5}
    assert Compared(made(entry, 0.4), baselines).verdict == "all three"
    equal = Compared(made(entry, 2.0), baselines)  # as good as the mean is not better
    assert equal.below
    assert equal.missed == ["mean", "U-Net"]
    settled = Compared(made(entry, 1.0, curve=[[1, 1.0], [2, 1.0]]), baselines)
    assert not settled.below
    assert any("hardly changed" in sentence for sentence in reasons(entry, recipe_of(entry), settled))
    same = made(Entry("gan", "small-mr", 5))
    same["metrics"]["alike"] = 0.9
    assert "little variety" in AgainstReal(same).verdict


def test_citations_are_shortened():
    assert short("Zhu J-Y et al. Unpaired translation. ICCV 2017") == "Zhu 2017"
    assert short("Emami H, Liu Q. FREA-UNet. arXiv 2012.15397, 2020") == "Emami 2020"


@pytest.mark.parametrize("name", ["mr-ct", "heads-mr-ct", "meat-mr-ct", "vessels-fundus", "small-photographs"])
def test_missing_data_is_told_in_a_sentence(name, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(InputError, match=r"has no '\w+.*'\.$") as caught:
        TASKS[name].read(data, tmp_path / "prepared")
    assert "--data" in caught.value.next_step


def test_collection_that_was_broken_off_is_made_anew(tmp_path):
    calls = []

    def make(data: Path, out: Path):
        calls.append(sorted(path.name for path in out.iterdir()))
        (out / "first").touch()
        yield Item("a", False, {})
        if len(calls) == 1:
            raise KeyboardInterrupt
        yield Item("b", True, {})

    collection = Collection("c", "c", "", True, "", make)
    with pytest.raises(KeyboardInterrupt):
        collection.prepare(tmp_path, tmp_path)
    assert [item.subject for item in collection.prepare(tmp_path, tmp_path)] == ["a", "b"]
    assert collection.prepare(tmp_path, tmp_path)[1].held
    assert calls == [[], []]


def test_only_data_that_may_be_passed_on_is_shown():
    shown = {name for name, collection in COLLECTIONS.items() if collection.shown}
    assert shown == {"heads", "meat", "brainweb"}


def test_distance_of_generated_images_has_its_closed_forms(rng):
    images = rng.random((200, 32, 32, 1)).astype(np.float32)
    found = generation.features(images)
    assert generation.frechet(found, found) == pytest.approx(0.0, abs=1e-9)
    assert generation.frechet(found, found + 0.5) == pytest.approx(0.25 * found.shape[1])
    middle = found.mean(axis=0)
    spread = np.trace(np.cov(found, rowvar=False))  # deviations twice as large: |2s - s|^2 in sum
    assert generation.frechet(found, middle + 2 * (found - middle)) == pytest.approx(spread, rel=1e-6)
    assert generation.nearest(images[:5], images) == pytest.approx(0.0, abs=1e-6)
    assert generation.alike(np.repeat(images[:1], 4, axis=0), 0) == pytest.approx(1.0)
    noise = noise_of_look(images, 500, 3)
    np.testing.assert_allclose(noise.mean(axis=0), images.mean(axis=0), atol=0.1)


@pytest.fixture(scope="module")
def phantom_data(tmp_path_factory):
    """Three drawn heads in the numbers of the real label maps, one of them held out."""
    data = tmp_path_factory.mktemp("phantoms")
    (data / "head_labels").mkdir()
    numbers = {tissue: label for label, tissue in reversed(HEAD_LABELS.items())}
    for name, seed in (("head_01", 1), ("head_02", 2), ("head_05", 3)):
        codes = draw_head(seed, spacing=6.0)
        labels = np.vectorize(lambda code: numbers.get(code, 507))(codes.array).astype(np.uint16)
        write_volume(codes.with_array(labels), data / "head_labels" / f"{name}_labels.nii.gz")
    return data


def test_two_steps_of_a_recipe_from_labels_to_the_table(phantom_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heads, "FINE", 6.0)
    monkeypatch.setattr(heads, "COARSE", 6.0)
    wanted = next(entry for entry in ENTRIES if entry.key == "ucgan--heads-mr-ct")
    # the smallest network there is: what is tested is the way
    small = {**wanted.settings, "networks.generator.arguments.downs": "2", "patch": "16,16,16"}
    monkeypatch.setattr(zoo, "ENTRIES", (replace(wanted, steps=2, settings=small),))
    monkeypatch.setattr("Tools.Zoo.baselines.STEPS", {2: 2, 3: 2})
    runs, docs = tmp_path / "runs", tmp_path / "docs"
    command = ["--data", str(phantom_data), "--runs", str(runs), "--docs", str(docs), "--scale", "1"]

    assert zoo.main([*command, "--only", "ucgan*"]) == 0
    results = {path.name: path for path in (runs / "results").iterdir()}
    assert set(results) == {"ucgan--heads-mr-ct.json", "unet-l1-3d--heads-mr-ct.json", "guesses--heads-mr-ct.json"}
    found = json.loads(results["ucgan--heads-mr-ct.json"].read_text(encoding="utf-8"))
    assert found["steps"] == 2
    # what was exported and run is what was validated at the end of training
    assert found["metrics"]["MAE"] == pytest.approx(found["curve"][-1][1], rel=1e-4)
    row = row_of((docs / "methods.md").read_text(encoding="utf-8"), "ucgan", "heads-mr-ct")
    assert f"| {found['metrics']['MAE']:.0f} HU |" in row
    assert (docs / "pictures" / "heads-mr-ct.png").stat().st_size > 1000

    capsys.readouterr()
    assert zoo.main(command) == 0
    assert "ucgan" not in capsys.readouterr().out  # nothing was left to do

    before = results["ucgan--heads-mr-ct.json"].read_bytes()
    results["ucgan--heads-mr-ct.json"].unlink()
    assert zoo.main([*command, "--report"]) == 0
    assert not results["ucgan--heads-mr-ct.json"].exists()
    assert zoo.main(command) == 0  # goes on from the checkpoint of the last step
    again = json.loads(results["ucgan--heads-mr-ct.json"].read_bytes())
    assert again["metrics"] == json.loads(before)["metrics"]


def test_failures_are_collected_and_end_with_1(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    command = ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs"), "--docs", str(tmp_path / "docs")]
    assert zoo.main([*command, "--only", "pix2pix"]) == 1
    assert "failed: pix2pix--mr-ct: InputError" in capsys.readouterr().err
    assert "## Failed" in (tmp_path / "docs" / "methods.md").read_text(encoding="utf-8")
    assert zoo.main([*command, "--only", "no such recipe"]) == 2
