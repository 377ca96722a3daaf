"""A regime is read on a few screens and a recipe at one glance."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import SynthGANLib
from SynthGANLib.recipes.registry import RECIPES

LIBRARY = Path(SynthGANLib.__file__).parent
REGIME_LINES = 200
RECIPE_LINES = 15
"""Of the body below its docstring; a variant of another recipe may have one."""


def setups(module: Path) -> dict[str, ast.FunctionDef]:
    """The functions of a module that make a `Setup`, by name."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in functions if isinstance(node.returns, ast.Name) and node.returns.id == "Setup"}


def lines_below_docstring(function: ast.FunctionDef) -> int:
    """Lines from the first statement after the docstring to the last one's end."""
    first = function.body[0]
    assert isinstance(first, ast.Expr), f"{function.name} has no docstring"
    assert isinstance(first.value, ast.Constant), f"{function.name} has no docstring"
    return (function.end_lineno or 0) - function.body[1].lineno + 1


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


@pytest.mark.parametrize("entry", RECIPES.values(), ids=lambda entry: entry.name)
def test_a_recipe_is_short(entry):
    module = LIBRARY / "recipes" / f"{entry.setup.__module__.rpartition('.')[2]}.py"
    assert 1 <= lines_below_docstring(setups(module)[entry.setup.__name__]) <= RECIPE_LINES


def test_what_recipes_share_is_short_too():
    found = {name: node for module in (LIBRARY / "recipes").glob("*.py") for name, node in setups(module).items()}
    assert len(found) > 30
    assert {name: count for name, node in found.items() if (count := lines_below_docstring(node)) > RECIPE_LINES} == {}
