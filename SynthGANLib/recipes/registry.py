"""The systems of the review as short compositions of networks and a regime, found by their names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from SynthGANLib.errors import InputError
from SynthGANLib.recipes import (
    classical,
    cycle,
    fundus,
    generative,
    multiscale,
    paired,
    restoration,
    staged,
    supervised,
)
from SynthGANLib.recipes.base import FittedRecipe, Recipe
from SynthGANLib.recipes.search import ranked

_PARTS = (supervised, paired, staged, cycle, generative, multiscale, fundus, restoration)
RECIPES: Mapping[str, Recipe] = {entry.name: entry for part in _PARTS for entry in part.RECIPES}
"""name -> recipe that is trained."""
FITTED: Mapping[str, FittedRecipe] = {entry.name: entry for entry in classical.FITTED}
"""name -> recipe that is fitted."""


def recipe(name: str) -> Recipe:
    """The trained recipe called `name`; InputError tells the nearest names."""
    if name in RECIPES:
        return RECIPES[name]
    if name in FITTED:
        raise InputError(f"The recipe '{name}' is fitted, not trained.", next_step="Use 'synthgan train' on it.")
    near = difflib.get_close_matches(name.lower(), [*RECIPES, *FITTED], n=3)
    hint = f"Did you mean {', '.join(near)}?" if near else "List them with 'synthgan recipes'."
    raise InputError(f"There is no recipe '{name}'.", next_step=hint)


def find(text: str) -> list[Recipe | FittedRecipe]:
    """Recipes that have every word of `text` in their names, table, citation, data, regime or directions, best first.

    A recipe that is called `text`, by itself or in the review, comes before those that only mention it.
    """
    known: list[Recipe | FittedRecipe] = [*FITTED.values(), *RECIPES.values()]
    return ranked(known, text)
