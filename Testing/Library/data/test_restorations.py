"""Restorations from clean images alone: the recipe makes the sources, from the data list to the model folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_cases import call
from list_cases import head, save, setup, write_list
from torch import Generator

from SynthGANLib.data.datalist import read_datalist
from SynthGANLib.data.degradations import DEGRADATIONS, degradation_of, in_words
from SynthGANLib.data.feed import Feed
from SynthGANLib.data.patches import NO_AUGMENT
from SynthGANLib.errors import InputError
from SynthGANLib.image.intensity import normaliser_from_json
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.model.model import Model
from SynthGANLib.networks.cascade import Inpainter
from SynthGANLib.phantom.degrade import low_dose, marked, truncate_kspace
from SynthGANLib.recipes.overrides import apply
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.training.export_run import draft_card
from SynthGANLib.training.validate import HoleValidator, validator_for

RESTORING = {
    "medgan-motion": "motion",
    "medgan-denoise": "low_dose",
    "low-dose-pet": "low_dose",
    "super-resolution": "truncate_kspace",
}
SHAPE = (18, 36, 34)
QUICK = ("--tiny", "--device", "cpu", "--workers", 0, "--log-every", 1, "--set", "steps=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clean MR and PET images; `mr.json` and `pet.json` list them as targets, `both.json` as pairs."""
    place = tmp_path_factory.mktemp("clean")
    entries: dict[str, list[dict[str, Any]]] = {"mr": [], "pet": []}
    for number in range(4):
        mr, ct = head(number, SHAPE)
        body = save((ct > -500).astype(np.uint8), place / f"s{number}_mask.nii.gz", "label")
        for kind, array, unit in (("mr", mr, "1"), ("pet", mr / 100, "SUVbw")):
            target = save(array, place / f"s{number}_{kind}.nii.gz", unit)
            entries[kind].append({"subject": f"s{number}", "target": target, "mask": body})
    sides = {"mr": {"modality": "MR", "unit": "1"}, "pet": {"modality": "PT", "unit": "SUVbw"}}
    for kind, cases in entries.items():
        fields = {"kind": "unconditional", "source": None, "target": sides[kind], "validation": cases[3:]}
        write_list(place, cases[:3], **fields).rename(place / f"{kind}.json")
    pairs = [{**pet, "source": mr["target"]} for mr, pet in zip(entries["mr"], entries["pet"], strict=True)]
    write_list(place, pairs[:3], target=sides["pet"], validation=pairs[3:]).rename(place / "both.json")
    return place


def feed_of(folder: Path, name: str, listed: str, **more: Any) -> Feed:
    data = read_datalist(folder / f"{listed}.json")
    more = {"seed": 5, "needs": "paired", **more}
    return Feed(data, replace(RECIPES[name].tiny(), batch=2), augment=NO_AUGMENT, **more)


# How sources are made


@pytest.mark.parametrize(("name", "kind"), RESTORING.items())
def test_a_recipe_makes_its_sources_from_clean_images(folder: Path, name: str, kind: str) -> None:
    listed = "mr" if kind in ("motion", "truncate_kspace") else "pet"
    feed, again = (feed_of(folder, name, listed) for _ in range(2))
    first, second = feed.batch(0), again.batch(0)
    assert torch.equal(first["source"], second["source"])
    assert not torch.equal(first["source"], first["target"])
    assert feed.describe()["degradation"]["kind"] == kind
    assert feed.origin == f"The sources are made of the targets by {in_words(feed.describe()['degradation'])}."
    json.dumps(feed.describe(), allow_nan=False)


def test_a_case_is_always_degraded_alike_and_no_two_alike(folder: Path) -> None:
    """By seed and case: validation cases too, however often and in whatever order they are read."""
    feed, again, other = (feed_of(folder, "medgan-motion", "mr", seed=seed) for seed in (5, 5, 6))
    (one,), (two,), (three,) = feed.validation, again.validation, other.validation
    again.batch(3)
    assert one.source is not None
    assert two.source is not None
    assert three.source is not None
    assert np.array_equal(one.source.array, two.source.array)
    assert not np.array_equal(one.source.array, three.source.array)
    read = [feed._load(case, ("source", "target"), number) for number, case in enumerate(feed.data.training)]
    lost = [loaded.source.array - loaded.target.array for loaded in read]  # type: ignore[union-attr]
    assert min(float(np.abs(part).max()) for part in lost) > 0
    seeds = [feed._load(feed.data.training[0], ("source", "target"), n).source.array for n in (0, 1)]  # type: ignore[union-attr]
    assert not np.array_equal(*seeds)


def test_arguments_reach_the_degradation(folder: Path) -> None:
    volume = Volume(head(0, SHAPE)[0], np.diag([2.0, 2.0, 2.0, 1.0]))
    found = degradation_of({"kind": "low_dose", "fraction": 0.5, "counts": 20, "smooth_mm": 3.0})
    assert found is not None
    wanted = low_dose(volume, Generator().manual_seed(9), fraction=0.5, counts=20.0, smooth_mm=3.0)
    assert np.array_equal(found(volume, 9).array, wanted.array)
    blurred = degradation_of({"kind": "truncate_kspace", "factors": [1, 1, 4]})
    assert blurred is not None
    assert np.array_equal(blurred(volume, 0).array, truncate_kspace(volume, factors=(1, 1, 4)).array)
    assert degradation_of({}) is None
    assert degradation_of({"kind": "none", "fraction": 0.5}) is None
    assert in_words({"kind": "x", "smooth_mm": 2.0, "factors": [1.0, 2.5]}) == "x (smooth mm 2, factors 1 x 2.5)"


@pytest.mark.parametrize(
    ("fields", "said", "hint"),
    [
        ({"kind": "lowdose"}, "There is no degradation 'lowdose'", "motion, low_dose, truncate_kspace or none"),
        ({"counts": 20}, "There is no degradation '{'counts': 20}'", "Set corrupt.kind to"),
        ("motion", "There is no degradation 'motion'", "Set corrupt.kind to"),  # type: ignore[list-item]
        ({"kind": "low_dose", "cuonts": 1}, "There is no setting 'cuonts'", "Did you mean 'counts'?"),
        ({"kind": "low_dose", "counts": "many"}, "'counts' must be a number", ""),
        ({"kind": "low_dose", "fraction": 2.0}, "A dose fraction lies in (0, 1]", ""),
        ({"kind": "truncate_kspace", "factors": [1, 2]}, "must be 3 values", ""),
        ({"kind": "motion", "axis": "z"}, "must be one of x, y", ""),
    ],
)
def test_a_wrong_degradation_is_refused_before_anything_is_read(
    folder: Path, fields: dict[str, Any], said: str, hint: str
) -> None:
    data = read_datalist(folder / "pet.json")
    with pytest.raises(InputError) as caught:
        Feed(data, setup(2, (16, 16), corrupt=fields), seed=0, needs="paired")
    assert said in str(caught.value)
    assert hint in caught.value.next_step
    assert caught.value.next_step


def test_sources_of_the_list_are_used_where_it_has_them(folder: Path) -> None:
    feed = feed_of(folder, "medgan-denoise", "both")
    assert feed.origin == "The sources are those of the data list; low_dose is not used."
    assert feed.describe()["degradation"] == {}
    (case,) = feed.validation
    assert case.source is not None
    assert np.allclose(case.source.array, head(3, SHAPE)[0], atol=1e-3)
    assert feed_of(folder, "pix2pix", "both").origin == ""
    with pytest.raises(InputError, match="is unconditional, and 'the recipe' needs paired"):
        feed_of(folder, "pix2pix", "pet")


def test_any_paired_recipe_can_be_made_a_restoration(folder: Path) -> None:
    chosen = apply(RECIPES["pix2pix"].tiny(), {"corrupt.kind": "truncate_kspace", "corrupt.factors": "1,1,4"})
    whole = apply(chosen, {"corrupt": '{"kind": "motion", "states": 2}'})
    data = read_datalist(folder / "mr.json")
    assert Feed(data, chosen, seed=0, needs="paired").degradation == {
        "kind": "truncate_kspace", "factors": (1.0, 1.0, 4.0),
    }  # fmt: skip
    assert Feed(data, whole, seed=0, needs="paired").degradation["states"] == 2
    off = apply(RECIPES["medgan-motion"].tiny(), {"corrupt.kind": "none"})
    with pytest.raises(InputError, match="needs paired data"):
        Feed(data, off, seed=0, needs="paired")


def test_every_degradation_has_a_recipe_and_every_restoring_recipe_one() -> None:
    assert {name: dict(entry.degradation)["kind"] for name, entry in RECIPES.items() if entry.degradation} == RESTORING
    assert set(RESTORING.values()) == set(DEGRADATIONS)


def test_the_guide_names_every_degradation_with_its_defaults() -> None:
    text = (Path(__file__).resolve().parents[3] / "Docs" / "training.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    for kind, made in DEGRADATIONS.items():
        for name, value in made().to_json().items():
            shown = ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else value
            shown = f"{shown:g}" if isinstance(shown, float) else shown
            assert name == "kind" or f"`{name}` {shown}" in rows[kind], name
    for name, kind in RESTORING.items():
        assert name in rows[kind]


# From the command line to the model folder


@pytest.mark.parametrize("name", RESTORING)
def test_clean_images_are_enough_to_train_validate_and_export(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    listed = "pet" if RESTORING[name] == "low_dose" else "mr"
    more = ("corrupt.counts=20",) if listed == "pet" else ()
    run = tmp_path / "run"
    code, _, err = call(capsys, "train", name, "--data", folder / f"{listed}.json", "--out", run, *QUICK, *more)
    assert code == 0, err
    assert err.count("The sources are made of the targets by") == 1
    assert "validation after step 2: MAE" in err
    code, _, err = call(capsys, "export", run, "--out", tmp_path / "model")
    assert code == 0, err
    card = Model.load(tmp_path / "model").card
    assert (card.source.modality, card.source.unit) == (card.target.modality, card.target.unit)
    assert f"The sources were made of the targets by {RESTORING[name]} (" in card.description
    assert card.training["data"]["degradation"]["kind"] == RESTORING[name]
    if listed == "pet":
        assert card.training["data"]["degradation"]["counts"] == 20.0
        assert card.training["settings"]["corrupt.counts"] == "20"


def test_the_list_of_recipes_says_who_makes_sources(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "recipes", "--find", "medgan")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "paired or targets" in rows["medgan-denoise"]
    assert "or targets" not in rows["medgan-pet-ct"]


# Inpainting


def test_inpainting_is_validated_in_fixed_holes_and_its_export_fills_the_users(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    code, _, err = call(capsys, "train", "inpainting", "--data", folder / "pet.json", "--out", run, *QUICK)
    assert code == 0, err
    assert "over 1 volume (suv, mask: holes, PSNR and SSIM of values clipped to 0 to 20" in err
    assert call(capsys, "export", run, "--out", model)[0] == 0
    exported = Model.load(model)
    card = exported.card
    assert (card.method.name, card.source.channels, card.target.channels) == ("Inpainter", 2, 1)
    assert "1 where it is to be made up, 0 elsewhere" in card.description
    assert "inside a hole" in card.metrics["protocol"]

    image = Volume(head(3, SHAPE)[0] / 100, np.diag([2.0, 2.0, 2.0, 1.0]), "SUVbw")
    hole = np.zeros(SHAPE, bool)
    hole[4:9, 10:20, 12:20] = True
    filled = synthesize(marked(image, hole), exported, device="cpu")
    clipped = np.clip(image.array, 0, 20)
    assert np.allclose(filled.array[~hole], clipped[~hole], atol=1e-4)
    assert not np.allclose(filled.array[hole], clipped[hole], atol=0.1)
    spoilt = image.with_array(np.where(hole, 7.0, image.array).astype(np.float32))
    again = synthesize(marked(spoilt, hole), exported, device="cpu")
    assert np.array_equal(again.array[hole], filled.array[hole]), "it looked at what is missing"

    feed = feed_of(folder, "inpainting", "pet", seed=0, needs="unconditional")
    validator = HoleValidator(card, feed.validation, 12)
    network = exported.network
    assert isinstance(network, Inpainter)
    report = validator({"forward": network.stage}, torch.device("cpu"))
    assert report.metrics["MAE"] == pytest.approx(card.metrics["MAE"], rel=1e-4)


@pytest.mark.parametrize("unit", ["pet", "mr"])
def test_zero_and_one_mark_the_hole_whatever_the_unit(folder: Path, unit: str) -> None:
    feed = feed_of(folder, "inpainting", unit, needs="unconditional")
    card = draft_card(RECIPES["inpainting"], RECIPES["inpainting"].tiny(), feed.describe())
    threshold = card.method.arguments["threshold"]
    below, above = normaliser_from_json(card.normalisers["source"]).apply(np.array([0.0, 1.0]))
    assert below < threshold < above


def test_the_holes_of_a_validation_are_fixed_and_lie_in_the_body(folder: Path) -> None:
    recipe = RECIPES["inpainting"]
    feed = feed_of(folder, "inpainting", "mr", needs="unconditional")
    card = draft_card(recipe, recipe.tiny(), feed.describe())
    made = validator_for(card, feed.validation, 3, 12)
    assert isinstance(made, HoleValidator)
    (case,) = feed.validation
    hole = made.hole(case, 0)
    assert np.array_equal(hole, HoleValidator(card, feed.validation, 12, 3).hole(case, 0))
    assert not np.array_equal(hole, HoleValidator(card, feed.validation, 12, 4).hole(case, 0))
    body = np.asarray(case.target_body)
    with_body = body.any((1, 2))
    assert np.array_equal(hole.sum((1, 2)), 144 * with_body)  # a square of 12 on every slice that shows the body
    assert hole[body].sum() > 0.7 * hole.sum()
    plain = replace(case, target=case.target, target_body=None)
    assert made.hole(plain, 0).sum() == 144 * SHAPE[0]
    solid = HoleValidator(replace(card, spatial=replace(card.spatial, dims=3, axis=None)), [case], 5).hole(case, 0)
    assert int(solid.sum()) == 125


def test_marked_images_keep_their_values() -> None:
    image = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4), "HU")
    hole = np.zeros((2, 3, 4), bool)
    hole[0, 1] = True
    both = marked(image, hole)
    assert both.unit == "HU"
    assert np.array_equal(both.array[..., 0], image.array)
    assert np.array_equal(both.array[..., 1], hole.astype(np.float32))
    colour = marked(Volume(np.zeros((2, 3, 4, 3), np.uint8), np.eye(4), "RGB"), hole)
    assert (colour.unit, colour.channels, colour.array.dtype) == ("1", 4, np.float32)
    with pytest.raises(InputError, match="does not lie on an image"):
        marked(image, hole[:1])
