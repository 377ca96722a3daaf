"""A training run becomes a model folder: card, weights and test vector."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from SynthGANLib.data.degradations import in_words
from SynthGANLib.errors import InputError
from SynthGANLib.model.card import Card
from SynthGANLib.model.folder import check_target
from SynthGANLib.model.model import Model
from SynthGANLib.recipes.base import Net, Recipe, Setup
from SynthGANLib.regimes.base import Regime
from SynthGANLib.training import checkpoint
from SynthGANLib.training.cards import About, identifier, make_card, vector_shape, with_metrics
from SynthGANLib.training.engine import BEST
from SynthGANLib.training.record import Record, read_record
from SynthGANLib.training.state import built
from SynthGANLib.training.validate import way_of_measuring
from SynthGANLib.training.wrapping import exported

UNMEASURED = ("backward", "sample", "sample-source")
"""Directions that are not validated; the numbers of "forward" say nothing of them."""

_LOG = logging.getLogger("synthgan")


@dataclass(frozen=True)
class Weights:
    """Where the exported weights come from: "best" with its metrics, or "last"; and the steps trained until then."""

    source: str
    step: int
    metrics: Mapping[str, float]


def export(
    run: str | Path,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    label: int | None = None,
    force: bool = False,
    **words: str,
) -> dict[str, Path]:
    """Write the run's model folder to `out`, and others, where the regime has any, to `out` + "-" + direction.

    The directions are "backward"; "sample" and "sample-source", which make target and source from noise; and "class-0",
    "class-1", ... for each class of a generator with classes. The weights are the best ones by validation, else those
    of the last checkpoint (averaged if the setup averages).

    Args:
        recipe: the run's recipe, if it is not one of `SynthGANLib.recipes`.
        label: only this class, into `out`.
        force: replace model folders that are there.
        words: fields of `About` (id, title, licence, anatomy, ...) in place of the defaults.

    Returns:
        the folders by direction.

    Raises:
        InputError: no run, no weights in it, no such class, or words that a card does not have.
        ModelError: a folder exists, cannot be written, or the network does not keep what its card promises.
    """
    run, out = Path(run), Path(out)
    record = read_record(run)
    if recipe is None:
        from SynthGANLib.recipes.registry import recipe as named

        recipe = named(record.recipe)
    setup = record.setup(recipe)
    networks, regime = built(setup)
    weights = _load(run, regime)
    regime.step = max(0, weights.step - 1)  # what is trained by then is exported
    found = exported(setup, networks, regime, record.data, label=label)
    about = _about(recipe, setup, record, weights, words)
    written = {
        direction: out if direction == "forward" else out.with_name(f"{out.name}-{direction}") for direction in found
    }
    for path in written.values():
        check_target(path, force=force)  # before the first is written
    for direction, (net, network) in found.items():
        card = make_card(_worded(about, direction, net, record), setup, record.data, direction, net, network)
        card = with_metrics(card, {} if direction in UNMEASURED else _measured(record, about.metrics, net, card))
        # a vector like what the normaliser gives: bounded, smooth enough, the same in every export
        given = torch.randn(vector_shape(card), generator=Generator().manual_seed(record.seed)).clamp(-1.0, 1.0)
        Model.build(card, network, given).save(written[direction], force=force)
    return written


def draft_card(recipe: Recipe, setup: Setup, data: Mapping[str, Any]) -> Card:
    """The card of the forward network while it is trained: grid, normalisers and units for its validation."""
    with torch.device("meta"):  # only names, arguments and `multiple` are wanted: no memory for weights
        networks, regime = built(setup)
    net, network = next(iter(exported(setup, networks, regime, data).values()))
    about = About(id=_identifier(recipe, data), title=recipe.name, description=recipe.review or recipe.name)
    return make_card(about, setup, data, "forward", net, network)


def _load(run: Path, regime: Regime) -> Weights:
    """Bring the run's weights into `regime`."""
    if (run / BEST).exists():
        content = checkpoint.read(run / BEST)
        regime.load_state_dict(content["regime"])
        metrics = {name: float(value) for name, value in content["best"].items() if name not in ("step", "score")}
        return Weights("best by validation", int(content["best"]["step"]), metrics)
    step = checkpoint.newest(run, 1, _LOG.warning)
    if step is None:
        raise InputError(f"The run '{run}' has no weights yet.", next_step="Train it until a checkpoint is written.")
    content = checkpoint.load(run, step)
    regime.load_state_dict(content["regime"])
    if content["average"] is not None:
        live = dict(regime.named_parameters())
        for name, value in content["average"]["values"].items():
            live[name].data.copy_(value)
    return Weights("last checkpoint, not chosen by validation", step, {})


def _about(recipe: Recipe, setup: Setup, record: Record, weights: Weights, words: Mapping[str, str]) -> About:
    """What the card says in words, of the recipe, the data, and how the run went."""
    data = record.data
    sides = [data["sides"][name]["modality"] for name in ("source", "target") if name in data["sides"]]
    cases = data["training"]["cases"]
    how = data.get("degradation")
    made = f" The sources were made of the targets by {in_words(how)}." if how else ""
    about = About(
        id=_identifier(recipe, data),
        title=f"{recipe.review or recipe.name}: {' to '.join(sides)}"[:200],
        description=(
            f"{recipe.review or recipe.name}, trained with SynthGAN's recipe '{recipe.name}' on the data list "
            f"'{data['name']}' ({cases} training cases).{made} {data['description']}"
        ).strip()[:4000],
        citation=recipe.citation,
        training={
            "recipe": recipe.name,
            "size": record.size,
            "settings": dict(record.settings),
            "setup": checkpoint.fingerprint(setup),
            "data": dict(data),
            "weights": weights.source,
            "steps": weights.step,
            "seed": record.seed,
            "amp": record.amp,
            "warm_up": record.warm_up,
            "processes": record.processes,
            "versions": dict(record.versions),
        },
        metrics=weights.metrics,
    )
    strangers = sorted(set(words) - {field.name for field in fields(About)} | ({"training", "metrics"} & set(words)))
    if strangers:
        raise InputError(f"A card has no '{strangers[0]}' to be worded.", next_step="Use id, title, licence, anatomy.")
    return replace(about, **dict(words))  # type: ignore[arg-type]  # texts only, by the check above


def _worded(about: About, direction: str, net: Net, record: Record) -> About:
    """The words for one of several folders; its numbers come when its range and units are known."""
    about = replace(about, metrics={})
    if net.name == "Inpainter":
        about = replace(about, description=f"{about.description} {_hole_in_words(record)}"[:4000])
    if direction == "forward":
        return about
    ending = f"-{direction}"
    title = f"{about.title} ({direction.replace('-', ' ')})"
    return replace(about, id=about.id[: 64 - len(ending)] + ending, title=title[:200])


def _hole_in_words(record: Record) -> str:
    """What the source of an inpainting model is."""
    units = record.data["target_units"]
    scaled = f" The image is given in the target's units ({units})." if units.startswith("arbitrary") else ""
    return f"The source has one channel more than the image: 1 where it is to be made up, 0 elsewhere.{scaled}"


def _measured(record: Record, metrics: Mapping[str, float], net: Net, card: Card) -> dict[str, Any]:
    """The validation's numbers with the way they were measured; nothing where none were."""
    if not metrics:
        return {}
    unit = record.data["target_units"]
    if "MAE" in metrics:
        body = "the body" if record.data["mask"] == "body" else "the whole volume, or the case's own mask"
        where = "inside a hole that the validation made" if net.name == "Inpainter" else body
        how = f"{way_of_measuring(card, where)}; MAE and ME in {unit}, PSNR in dB, means over volumes where finite"
    else:
        how = f"Wasserstein distance of intensity histograms ({unit})"
        how += ", means over the classes" if net.arguments.get("label") is not None else ""
    cases = record.data["validation"]["cases"]
    return {"protocol": f"{how}; {cases} validation cases, by which the weights were chosen", **metrics}


def _identifier(recipe: Recipe, data: Mapping[str, Any]) -> str:
    sides = data["sides"]
    return identifier(recipe.name, *(sides[name]["modality"] for name in ("source", "target") if name in sides))
