"""Runs of the fitted recipes: the data list is read, the model is fitted at once, and its folder lies in the run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from SynthGANLib.data.cases import load_case
from SynthGANLib.data.datalist import Case as Entry
from SynthGANLib.data.datalist import DataList, read_datalist
from SynthGANLib.data.faults import Progress, all_of
from SynthGANLib.data.pairs import Comparison, PairReport
from SynthGANLib.errors import InputError
from SynthGANLib.files import write_json
from SynthGANLib.model.model import Model
from SynthGANLib.recipes.base import FittedRecipe
from SynthGANLib.recipes.overrides import apply
from SynthGANLib.training.fit_classical import Case, Options, Report, fit
from SynthGANLib.training.preflight import write_pairs

NAME = "fit.json"
MODEL = "model"


def fit_recipe(
    recipe: FittedRecipe,
    data: str | Path,
    out: str | Path,
    settings: Mapping[str, str],
    seed: int,
    *,
    checking: Progress | None = None,
    tell: Callable[[PairReport], None] | None = None,
    progress: Callable[[str, float], None] | None = None,
    cancel: Callable[[], None] | None = None,
) -> Report:
    """Fit `recipe` to the training cases of the data list and write `out`/model.

    Args:
        settings: fields of `Options` as text, e.g. {"spacing": "2"}.
        checking: told of each case that is read. tell: what was found of the pairs, before the fit.
        progress: as in `fit`. cancel: called before each case and stage; what it raises ends the run, with nothing
            written.

    Raises:
        InputError: a faulty list, cases that cannot be fitted to (all in one), an unknown setting, or a run that is
            there already.
        UnfitInputError, ModelError: as in `fit`.
    """
    out = Path(out)
    if (out / MODEL).exists():
        raise InputError(f"'{out}' holds a fitted model already.", next_step="Choose another folder for the run.")
    chosen = apply(Options(seed=seed, **recipe.options), dict(settings))
    listed = read_datalist(data)
    listed.require(recipe.name, recipe.data)
    comparison = Comparison()
    jobs = [partial(_case, entry, listed, comparison) for entry in listed.training]
    cases = all_of(jobs, progress=checking, cancel=cancel)
    pairs = comparison.report(listed.name)
    if tell is not None:
        tell(pairs)

    def asked() -> bool:
        if cancel is not None:
            cancel()
        return False

    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        report = fit(recipe.method, cases, out / MODEL, options=chosen, progress=progress, cancel=asked)
    except BaseException:  # whatever ends the fit, a second Ctrl-C as well, leaves no empty folder
        if made:
            with contextlib.suppress(OSError):  # someone else has put something into it
                out.rmdir()
        raise
    write_pairs(out, pairs)
    facts = {"recipe": recipe.name, "options": dataclasses.asdict(chosen), "cases": len(cases)}
    write_json(out / NAME, {**facts, "facts": dict(report.facts)})
    return report


def _case(entry: Entry, listed: DataList, comparison: Comparison) -> Case:
    loaded = comparison(load_case(entry, listed))
    assert loaded.source is not None  # a paired list has both sides
    assert loaded.target is not None
    assert loaded.source_body is not None
    return Case(loaded.source, loaded.target, loaded.source_body)


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
