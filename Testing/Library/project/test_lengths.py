"""A regime is read on a few screens and a recipe at one glance."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import SynthGANLib
from SynthGANLib.recipes.registry import FITTED, RECIPES

LIBRARY = Path(SynthGANLib.__file__).parent
REGIME_LINES = 200
RECIPE_LINES = 75
"""Of the whole declaration, one keyword argument to a line."""
SHARED_LINES = 30
"""Of a setup or of tiny settings that several recipes share."""


def declarations() -> dict[str, ast.Call]:
    """The calls of `Recipe` and `FittedRecipe` in the library, by the recipe's name."""
    found = {}
    for module in (LIBRARY / "recipes").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Recipe"):
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                found[ast.literal_eval(given["name"])] = node
    return found


@pytest.mark.parametrize("module", sorted((LIBRARY / "regimes").glob("*.py")), ids=lambda path: path.stem)
def test_a_regimes_file_is_short(module):
    """One regime to a file, and no file of more than 200 lines."""
    text = module.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= REGIME_LINES
    classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}

    def is_regime(node: ast.ClassDef) -> bool:
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        return "Regime" in bases or any(base in classes and is_regime(classes[base]) for base in bases)

    own = [name for name, node in classes.items() if is_regime(node)]
    roots = [name for name in own if not any(isinstance(b, ast.Name) and b.id in own for b in classes[name].bases)]
    assert len(roots) <= 1, roots  # variants of one regime stand beside it


def test_every_recipe_is_a_declaration_that_is_short():
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in declarations().items()}
    assert set(lengths) == {*RECIPES, *FITTED}
    assert {name: length for name, length in lengths.items() if length > RECIPE_LINES} == {}


def test_what_recipes_share_is_short_too():
    lengths = {}
    for module in (LIBRARY / "recipes").glob("*.py"):
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                lengths[f"{module.stem}.{node.targets[0].id}"] = (node.end_lineno or 0) - node.lineno + 1
    shared = {name: length for name, length in lengths.items() if name.rpartition(".")[2] not in ("RECIPES", "FITTED")}
    assert len(shared) > 10
    assert {name: length for name, length in shared.items() if length > SHARED_LINES} == {}
