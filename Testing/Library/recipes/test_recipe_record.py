"""Every recipe is what the record says, in both sizes: a setup that changes by mistake is found by name.

The record beside this file holds, for each recipe, the SHA-256 of its canonical and of its tiny setup. After a change
that is meant, renew it and commit it with the change: python Testing/Library/recipes/test_recipe_record.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from SynthGANLib.files import write_json
from SynthGANLib.recipes.base import Recipe, Setup
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.training.checkpoint import fingerprint

RECORD = Path(__file__).with_name("recorded_setups.json")
RENEW = "If the change is meant, run: python Testing/Library/recipes/test_recipe_record.py"


def digest(setup: Setup) -> str:
    """The SHA-256 of the setup as plain values, in JSON with sorted keys."""
    return hashlib.sha256(json.dumps(fingerprint(setup), sort_keys=True).encode()).hexdigest()


def digests(recipe: Recipe) -> list[str]:
    """Of the canonical and of the tiny setup."""
    return [digest(recipe.canonical()), digest(recipe.tiny())]


@pytest.fixture(scope="module")
def record() -> dict[str, list[str]]:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def test_record_names_every_recipe(record):
    missing, gone = sorted(set(RECIPES) - set(record)), sorted(set(record) - set(RECIPES))
    assert (missing, gone) == ([], []), f"Not in the record: {missing}; only there: {gone}. {RENEW}"


@pytest.mark.parametrize("entry", RECIPES.values(), ids=lambda entry: entry.name)
def test_recipe_is_as_recorded(entry, record):
    pairs = zip(("canonical", "tiny"), digests(entry), record.get(entry.name, ["", ""]), strict=True)
    changed = [size for size, found, wanted in pairs if found != wanted]
    assert changed == [], f"The recipe '{entry.name}' has another {' and '.join(changed)} setup. {RENEW}"


@pytest.mark.parametrize("entry", RECIPES.values(), ids=lambda entry: entry.name)
def test_building_the_networks_leaves_the_recipe_as_it_is(entry):
    """All runs of a process share the declaration."""
    before = digests(entry)
    entry.tiny().build()
    assert digests(entry) == before


if __name__ == "__main__":
    write_json(RECORD, {name: digests(entry) for name, entry in RECIPES.items()})
