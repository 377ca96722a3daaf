"""The training side of the ``synthgan`` command: train, recipes, export.

Exit codes beside the usual ones: a training that Ctrl-C or SIGTERM ends finishes its step, saves, and exits with 130
or 143; it is continued with ``--resume``. Losses or gradients that are no longer finite end it with 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from SynthGANLib.cli.arguments import count_of, whole_number
from SynthGANLib.errors import CancelledError, InputError


def add_commands(commands: Any) -> None:
    """Add the parsers to the command's subparsers; nothing heavy is imported before one of them runs."""
    command = commands.add_parser("train", allow_abbrev=False, help="train a recipe on a data list")
    command.add_argument("recipe", metavar="RECIPE", help="name of a recipe (see 'synthgan recipes')")
    command.add_argument("--data", required=True, metavar="FILE", help="data list (JSON)")
    command.add_argument("--out", required=True, metavar="FOLDER", help="folder of the run, such as runs/NAME")
    command.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="settings by dotted names: steps=500 config.l1=50 optimisers.generator.rate=1e-4 spatial.axis=coronal",
    )
    command.add_argument("--tiny", action="store_true", help="the size that trains in seconds on a CPU")
    command.add_argument("--resume", action="store_true", help="continue the run in FOLDER")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0 or mps (default: %(default)s)")
    command.add_argument("--amp", choices=("none", "bf16", "fp16"), default="none", help="precision of the networks")
    command.add_argument("--seed", type=whole_number, default=0, metavar="N", help="decides every draw (default: 0)")
    command.add_argument("--warm-up", type=whole_number, metavar="STEPS", help="steps in which the rates rise")
    command.add_argument("--validate-every", type=count_of, default=1000, metavar="STEPS", help="default: %(default)s")
    command.add_argument("--save-every", type=count_of, default=1000, metavar="STEPS", help="default: %(default)s")
    command.add_argument("--log-every", type=count_of, default=50, metavar="STEPS", help="default: %(default)s")
    command.add_argument("--workers", type=whole_number, default=2, metavar="N", help="threads that draw batches ahead")
    command.add_argument(
        "--full-disk", choices=("continue", "stop"), default="continue", help="what to do if a checkpoint fails"
    )
    command.add_argument("--tensorboard", action="store_true", help="also write curves and pictures for TensorBoard")
    command.set_defaults(run=_train)

    command = commands.add_parser("recipes", allow_abbrev=False, help="list the systems that can be trained")
    command.add_argument("--find", default="", metavar="TEXT", help="only those TEXT names or mentions, best first")
    command.add_argument("--long", action="store_true", help="also where it stands in the review, regime and paper")
    command.set_defaults(run=_recipes)

    command = commands.add_parser("export", allow_abbrev=False, help="make a model folder of a training run")
    command.add_argument("training_run", metavar="RUN", help="folder that 'synthgan train' wrote")
    command.add_argument("--out", required=True, metavar="FOLDER", help="model folder to write")
    command.add_argument("--id", default="", help="id of the model (default: recipe and modalities)")
    command.add_argument("--title", default="", help="its title")
    command.add_argument("--anatomy", default="", help="body part, such as head")
    command.add_argument("--licence", default="", help="licence of the weights")
    command.add_argument(
        "--label",
        type=whole_number,
        metavar="CLASS",
        help="only this class (default: a folder for each, OUT-class-0, ...)",
    )
    command.add_argument("--force", action="store_true", help="replace a model folder that is there")
    command.set_defaults(run=_export)


def _train(options: argparse.Namespace) -> int:
    from SynthGANLib.recipes.overrides import parse
    from SynthGANLib.recipes.registry import FITTED
    from SynthGANLib.recipes.registry import recipe as named
    from SynthGANLib.training.distributed import joined

    warm_up = [] if options.warm_up is None else [f"warm_up={options.warm_up}"]
    settings = parse([*options.settings, *warm_up])
    if options.recipe in FITTED:
        return _fit(options, FITTED[options.recipe], settings)
    recipe = named(options.recipe)
    with joined(options.device) as world:
        try:
            code, summary = _run(options, recipe, settings, world)
        except KeyboardInterrupt:
            raise CancelledError(
                "The training was broken off; checkpoints written before are kept.", next_step="Continue with --resume."
            ) from None
        if world.first and options.json:
            print(json.dumps(summary, indent=2))
        elif world.first:
            best = f", best validation {summary['best']['score']:.4g}" if summary["best"] else ""
            print(f"{summary['out']}: {recipe.name}, {summary['steps']} steps{best}")
    return code


def _fit(options: argparse.Namespace, recipe: Any, settings: dict[str, str]) -> int:
    from SynthGANLib.cli.console import Bar
    from SynthGANLib.signals import stop_on_signals
    from SynthGANLib.training.fit_run import fit_recipe
    from SynthGANLib.training.preflight import Counter, tell

    with stop_on_signals() as stop, Counter(sys.stderr, "checking case") as counter, Bar(sys.stderr) as bar:
        report = fit_recipe(
            recipe,
            options.data,
            options.out,
            settings,
            options.seed,
            checking=counter.show,
            tell=tell,
            progress=lambda stage, fraction: bar.show(
                {"event": "progress", "stage": stage, "fraction": fraction, "seconds_left": None}
            ),
            cancel=lambda: stop.refuse("The fit was stopped; nothing was written."),
        )
    if options.json:
        print(json.dumps({"out": options.out, "recipe": recipe.name, "model": str(report.folder)}, indent=2))
    else:
        print(f"{report.folder}: {recipe.name}, fitted")
    return 0


def _run(options: argparse.Namespace, recipe: Any, settings: dict[str, str], world: Any) -> tuple[int, dict[str, Any]]:
    from SynthGANLib.data.cases import Spatial
    from SynthGANLib.data.datalist import read_datalist
    from SynthGANLib.data.feed import Feed
    from SynthGANLib.data.patches import Augment
    from SynthGANLib.inference.provenance import versions
    from SynthGANLib.recipes.overrides import apply
    from SynthGANLib.training.checkpoint import steps_of
    from SynthGANLib.training.engine import check_run, train
    from SynthGANLib.training.export_run import draft_card
    from SynthGANLib.training.preflight import checked, write_pairs
    from SynthGANLib.training.record import AUGMENT, SPATIAL, Record, part_of, setup_of, write_record
    from SynthGANLib.training.validate import validator_for

    out, size = Path(options.out), "tiny" if options.tiny else "canonical"
    setup = setup_of(recipe, size, settings)
    feed = Feed(
        read_datalist(options.data),
        setup,
        seed=options.seed,
        rank=world.rank,
        world=world.size,
        needs=recipe.data,
        spatial=apply(Spatial(), part_of(settings, SPATIAL)),
        augment=apply(Augment(), part_of(settings, AUGMENT)),
        workers=options.workers,
    )
    try:
        if world.first and feed.origin:
            print(feed.origin, file=sys.stderr, flush=True)
        check_run(setup, out, options.amp, options.resume, world)
        pairs = None if options.resume and steps_of(out) else checked(feed, world)
        record = Record(
            recipe=recipe.name,
            size="tiny" if options.tiny else "canonical",
            settings=settings,
            data=feed.describe(),
            data_list=str(Path(options.data).absolute()),
            seed=options.seed,
            amp=options.amp,
            warm_up=setup.warm_up,
            processes=world.size,
            versions=versions(),
        )

        def begun() -> None:
            write_record(out, record)
            if pairs is not None:
                write_pairs(out, pairs)

        validator = None
        if world.first and feed.validation:
            card, hole = draft_card(recipe, setup, record.data), getattr(setup.config, "extent", 0)
            validator = validator_for(card, feed.validation, options.seed, hole)
        outcome = train(
            setup,
            feed,
            out,
            seed=options.seed,
            resume=options.resume,
            amp=options.amp,
            validator=validator,
            validate_every=options.validate_every,
            save_every=options.save_every,
            log_every=options.log_every,
            full_disk=options.full_disk,
            tensorboard=options.tensorboard,
            world=world,
            begun=begun,
        )
    finally:
        feed.close()
    summary = {"out": str(out), "recipe": recipe.name, "steps": outcome.steps, "best": dict(outcome.best)}
    return outcome.exit_code, summary


def _recipes(options: argparse.Namespace) -> int:
    from SynthGANLib.recipes.registry import find

    rows = [_row(recipe) for recipe in find(options.find)]
    if options.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print("\n".join(_with_details(_table(rows), rows) if options.long else _table(rows)))
    else:
        print(f"No recipe mentions '{options.find}'.")
    return 0


def _row(recipe: Any) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "data": recipe.data,
        "dims": recipe.dims,
        "directions": list(recipe.directions),
        "regime": recipe.regime,
        "degradation": dict(getattr(recipe, "degradation", {})),
        "review": recipe.review,
        "table": recipe.table,
        "citation": recipe.citation,
        "certainty": recipe.certainty,
        "aliases": list(recipe.aliases),
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [("RECIPE", "DATA", "DIM", "DIRECTION", "IN THE REVIEW")]
    for row in rows:
        data = f"{row['data']} or targets" if row["degradation"] else row["data"]
        lines.append((row["name"], data, f"{row['dims']}D", ", ".join(row["directions"]), row["review"]))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]).rstrip()
        for line in lines
    ]


def _with_details(table: list[str], rows: list[dict[str, Any]]) -> list[str]:
    """Below each recipe its place in the review, other names, regime, paper, and how certain it is that it is meant."""
    lines = table[:1]
    for line, row in zip(table[1:], rows, strict=True):
        also = f"; also called {', '.join(row['aliases'])}" if row["aliases"] else ""
        lines += [
            line,
            f"    {row['table']}{also}; regime {row['regime']}",
            f"    {row['citation']} (certainty {row['certainty']:g})",
        ]
    return lines


def _export(options: argparse.Namespace) -> int:
    from SynthGANLib.training.export_run import export
    from SynthGANLib.training.fit_run import export_fitted, is_fitted

    words = {name: getattr(options, name) for name in ("id", "title", "anatomy", "licence") if getattr(options, name)}
    if is_fitted(options.training_run):
        if options.label is not None:
            raise InputError("A fitted model has no classes.", next_step="Leave --label out.")
        written = export_fitted(options.training_run, options.out, force=options.force, **words)
    else:
        written = export(options.training_run, options.out, label=options.label, force=options.force, **words)
    if options.json:
        print(json.dumps({direction: str(path) for direction, path in written.items()}, indent=2))
    else:
        for direction, path in written.items():
            print(f"{path}: the model {direction}")
    return 0
