"""Runs of the fitted recipes: the data list is read, the model is fitted at once, and its folder lies in the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SynthGANLib.errors import InputError
from SynthGANLib.model import Model
from SynthGANLib.recipes.base import FittedRecipe
from SynthGANLib.training.cases import load_case
from SynthGANLib.training.datalist import read_datalist
from SynthGANLib.training.files import write_json
from SynthGANLib.training.fit_classical import Case, Options, Report, fit
from SynthGANLib.training.overrides import apply

NAME = "fit.json"
MODEL = "model"


def fit_recipe(
    recipe: FittedRecipe, data: str | Path, out: str | Path, settings: Mapping[str, str], seed: int
) -> Report:
    """Fit `recipe` to the training cases of the data list and write `out`/model.

    `settings` are fields of `Options` as text, e.g. {"spacing": "2"}.

    Raises:
        InputError: a faulty list or case, an unknown setting, or a run that is there already.
        UnfitInputError, ModelError, CancelledError: as in `fit`.
    """
    out = Path(out)
    if (out / MODEL).exists():
        raise InputError(f"'{out}' holds a fitted model already.", next_step="Choose another folder for the run.")
    chosen = apply(Options(seed=seed, **recipe.options), dict(settings))
    listed = read_datalist(data)
    listed.require(recipe.name, recipe.data)
    cases = []
    for entry in listed.training:
        loaded = load_case(entry, listed)
        assert loaded.source is not None  # a paired list has both sides
        assert loaded.target is not None
        assert loaded.source_body is not None
        cases.append(Case(loaded.source, loaded.target, loaded.source_body))
    out.mkdir(parents=True, exist_ok=True)
    report = fit(recipe.method, cases, out / MODEL, options=chosen)
    facts = {"recipe": recipe.name, "options": dataclasses.asdict(chosen), "cases": len(cases)}
    write_json(out / NAME, {**facts, "facts": dict(report.facts)})
    return report


def is_fitted(run: str | Path) -> bool:
    """Whether `run` is the folder of a fitted recipe."""
    return (Path(run) / NAME).is_file()


def export_fitted(run: str | Path, out: str | Path, *, force: bool = False, **words: Any) -> dict[str, Path]:
    """Copy the fitted model to `out`, with other `words` (id, title, anatomy, licence) on its card.

    Raises:
        ModelError: the run's model is damaged, or `out` exists or cannot be written.
    """
    model = Model.load(Path(run) / MODEL)
    model.card = dataclasses.replace(model.card, **words)
    model.save(out, force=force)
    return {"forward": Path(out)}
