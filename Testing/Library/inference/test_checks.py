"""The checks before a run: each line, its level, and that the run itself refuses the same."""

from dataclasses import replace

import numpy as np
import pytest
from model_folders import network_card

from SynthGANLib.errors import UnfitInputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.fitness import Facts, check_fit, check_input


@pytest.fixture
def card():
    """A 3D model from MR, T1 or FLAIR, on 1 mm, at least 32 voxels a side."""
    base = network_card()
    source = replace(base.source, modality="MR", unit="1", sequences=("T1", "FLAIR"), channels=1)
    spatial = replace(
        base.spatial, dims=3, axis=None, spacing=(1.0, 1.0, 1.0), multiple=1, tile_fixed=False,
        tile_min=(32, 32, 32), tile_max=(64, 64, 64),
    )  # fmt: skip
    return replace(base, source=source, spatial=spatial)


@pytest.fixture
def facts():
    """A T1 head of 180 x 220 x 190 mm."""
    return Facts((190, 220, 180), np.eye(4), 1, "1", "MR", "T1", 0.0, 900.0)


def levels(facts, card):
    return {check.subject: check.level for check in check_input(facts, card)}


def test_a_fitting_image_is_all_green(facts, card):
    assert set(levels(facts, card)) == {
        "channels", "modality", "unit", "values", "sequence", "spacing", "field of view", "orientation",
    }  # fmt: skip
    assert {check.level for check in check_input(facts, card)} == {"good"}


@pytest.mark.parametrize(
    ("change", "subject", "level"),
    [
        ({"channels": 3}, "channels", "unfit"),
        ({"modality": "CT"}, "modality", "unfit"),
        ({"modality": ""}, "modality", "doubtful"),
        ({"unit": "HU"}, "unit", "unfit"),
        ({"lowest": 5.0, "highest": 5.0}, "values", "unfit"),
        ({"modality": "", "lowest": -1000.0}, "values", "doubtful"),
        ({"sequence": "T2"}, "sequence", "doubtful"),
        ({"affine": np.diag([1.0, 1.0, 5.0, 1.0])}, "spacing", "doubtful"),
        ({"shape": (10, 220, 180)}, "field of view", "doubtful"),
    ],
)
def test_one_thing_wrong_changes_one_line(facts, card, change, subject, level):
    found = levels(replace(facts, **change), card)
    assert found[subject] == level
    others = {name: value for name, value in found.items() if name not in (subject, "modality")}
    assert set(others.values()) == {"good"}


def test_units_of_the_source_are_judged(facts, card):
    ct = replace(card, source=replace(card.source, modality="CT", unit="HU", sequences=()))
    no_air = replace(facts, modality="CT", unit="HU", sequence="", lowest=-50.0, highest=1500.0)
    assert levels(no_air, ct)["values"] == "doubtful"
    assert levels(replace(no_air, lowest=-1000.0), ct)["values"] == "good"
    assert levels(replace(no_air, unit="1"), ct)["unit"] == "doubtful"
    pet = replace(card, source=replace(card.source, modality="PT", unit="SUVbw", sequences=()))
    counts = replace(facts, modality="PT", unit="SUVbw", sequence="", highest=30000.0)
    assert levels(counts, pet)["values"] == "doubtful"


def test_an_oblique_grid_and_a_thin_slab_are_measured_along_the_patient(facts, card):
    turned = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)  # k runs left-right
    thin = replace(facts, shape=(10, 220, 190), affine=turned)
    line = next(check for check in check_input(thin, card) if check.subject == "field of view")
    assert "10 mm left-right" in line.text


def test_the_run_refuses_and_accepts_the_same(card):
    array = np.arange(40**3, dtype=np.float32).reshape(40, 40, 40)
    labelled = Volume(array, np.eye(4), "1", {"modality": "CT"})
    with pytest.raises(UnfitInputError, match="The volume is CT"):
        check_fit(labelled, card)
    assert any("The volume is CT" in sentence for sentence in check_fit(labelled, card, accept_unfit=True))
    with pytest.raises(UnfitInputError, match="in HU"):
        check_fit(Volume(array, np.eye(4), "HU"), card, accept_unfit=True)
    with pytest.raises(UnfitInputError, match="nothing to synthesize"):
        check_fit(Volume(np.zeros_like(array), np.eye(4)), card, accept_unfit=True)


def test_what_only_concerns_the_choice_is_not_repeated_by_the_run(card):
    volume = Volume(np.arange(40**3, dtype=np.float32).reshape(40, 40, 40), np.eye(4))
    assert [check.subject for check in check_input(Facts.of(volume), card) if check.level == "doubtful"] == ["modality"]
    assert check_fit(volume, card) == []
