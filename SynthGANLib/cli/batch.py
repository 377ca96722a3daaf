"""The command ``synthgan batch``: many cases with one model, here or on a Ray cluster.

Exit codes beside the usual ones: 5 if the batch came to its end and some cases failed. Ctrl-C and SIGTERM end it with
130 after the summaries were written; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANLib.cli.arguments import add_choices, choices_of, count_of, print_json
from SynthGANLib.cli.console import case_line
from SynthGANLib.errors import InputError
from SynthGANLib.progress_line import say
from SynthGANLib.signals import stop_on_signals

if TYPE_CHECKING:
    from SynthGANLib.batch.run import Batch, Execute

FORMATS = ("nrrd", "nii.gz", "mha", "png")

_DESCRIPTION = """\
Synthesize many volumes with one model. DATA is a folder, searched with its subfolders for volumes and DICOM series,
or a data list (.json) as for training: {"test": [{"source": "mr.nii.gz", "mask": "body.nii.gz", "name": "p1"}, ...]}.
Every result gets a record beside it (NAME.json), and DIR a summary.csv and summary.json. The same command again goes
on where it was interrupted and does again only what failed or changed."""


def add_batch_command(commands: Any) -> None:
    """Add the parser to the command's subparsers; nothing heavy is imported before it runs."""
    command = commands.add_parser(
        "batch", allow_abbrev=False, help="synthesize many volumes with a model", description=_DESCRIPTION
    )
    command.add_argument("data", metavar="DATA", help="folder of volumes, or data list (.json)")
    command.add_argument("--out", required=True, metavar="DIR", help="folder for the results, made if it is not there")
    command.add_argument(
        "--section",
        nargs="+",
        choices=("training", "validation", "test"),
        default=[],
        metavar="NAME",
        help="sections of the data list: training, validation, test (default: all that it has)",
    )
    command.add_argument(
        "--format", choices=FORMATS, help="kind of file to write (default: nrrd; png for models of color images)"
    )
    add_choices(command)
    command.add_argument("--force", action="store_true", help="do again what is done; only a batch's own files go")
    command.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, host:port or ray://host:port, or local to start one on this machine. DATA, "
        "DIR and the model must have the same paths on all its machines",
    )
    command.add_argument(
        "--workers", type=count_of, metavar="N", help="with --ray local: cases at a time on a CPU (default: 2)"
    )
    command.add_argument(
        "--cpus", type=count_of, metavar="N", help="with --ray: CPU cores for a case (default: 4, or what there is)"
    )
    command.set_defaults(run=_batch)


def _batch(options: argparse.Namespace) -> int:
    from SynthGANLib.jobs.events import emit_missing

    if options.ray is None and (options.workers or options.cpus):
        given = "--workers" if options.workers else "--cpus"
        raise InputError(f"{given} has no meaning without --ray.", next_step="Leave it out, or add --ray local.")
    if options.workers and options.ray != "local":
        raise InputError("--workers is for --ray local only.", next_step="Leave it out: the cluster knows its size.")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            code, summary = _run(options)
    except ImportError as error:
        told: list[dict[str, Any]] = []
        code = emit_missing(told.append, error)
        print(f"synthgan: {told[0]['cause']} {told[0]['next_step']}", file=sys.stderr)
        summary = {"error": {name: told[0][name] for name in ("kind", "cause", "next_step", "exit_code")}}
        if options.json:
            print_json(summary)
        return code
    if options.json:
        print_json(summary)
    else:
        counts = ", ".join(f"{count} {status}" for status, count in summary["counts"].items() if count)
        print(f"{summary['out']}: {counts}; summary.csv says more")
    return code


def _run(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    from SynthGANLib.batch.case import Outcome
    from SynthGANLib.batch.run import run_batch

    batch, notes = _planned(options)
    for sentence in notes:
        _say(sentence)
    settings = batch.settings
    total = len(batch.cases)
    _say(f"{total} case{'s' if total > 1 else ''} with {settings.identity} {settings.version} into {settings.out}")

    def tell(outcome: Outcome, number: int, left: float | None) -> None:
        if outcome.trace:
            print(outcome.trace, file=sys.stderr)
        _say(case_line(number, total, outcome.row(settings), left))

    with contextlib.ExitStack() as stack:
        execute: Execute | None = None
        if options.ray is not None:
            from SynthGANLib.batch.ray import joined, on_cluster

            cluster = stack.enter_context(joined(options.ray, settings.choices.device, options.workers, options.cpus))
            _say(cluster.text)
            execute = on_cluster(cluster)
        # After joining: Ray takes SIGTERM for itself.
        stopped = stack.enter_context(stop_on_signals())
        code, summary = run_batch(batch, tell, execute=execute, cancel=stopped.is_set, note=_say)
    if code == 130:
        _say("synthgan: The batch was cancelled; what is done is kept. Start it again to go on.")
    return code, summary


def _planned(options: argparse.Namespace) -> tuple[Batch, tuple[str, ...]]:
    """The checked batch and sentences about what was passed over; loads no torch."""
    from dataclasses import replace

    from SynthGANLib.batch.case import Settings
    from SynthGANLib.batch.inputs import find_cases
    from SynthGANLib.batch.run import plan_batch
    from SynthGANLib.image.volume import UNITS
    from SynthGANLib.model.catalogue import Catalogue
    from SynthGANLib.model.folder import read_card

    if options.unit is not None and options.unit not in UNITS:
        raise InputError(f"'{options.unit}' is no unit.", next_step=f"Choose one of {', '.join(UNITS)}.")
    folder = Catalogue().find(options.model)
    card = read_card(folder)
    out = Path(options.out)
    found = find_cases(
        options.data, out=out, colour=card.source.unit == "RGB", sections=options.section, frame=options.frame
    )
    settings = Settings.of(
        folder.absolute(),
        card,
        out,
        choices_of(options),
        suffix="." + (options.format or ("png" if card.target.unit == "RGB" else "nrrd")),
        force=options.force,
    )
    return plan_batch(settings, [replace(case, unit=options.unit) for case in found.cases]), found.notes


def _say(sentence: str) -> None:
    say(sentence, sys.stderr)
