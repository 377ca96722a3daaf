"""The ``synthgan`` command: synthesize, models, info, install, remove; also `cli_batch` and `cli_train`.

Exit codes: 0 done, 2 bad input or arguments, 3 the input does not fit the model, 4 out of memory after
every fallback, 5 some cases of a batch failed and the others are done, 130 cancelled, 1 anything that is
our own fault. What is wrong is said in one sentence on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from SynthGANLib.cli.arguments import add_choices, choices_of, print_json
from SynthGANLib.cli.batch import add_batch_command
from SynthGANLib.cli.console import Bar, models_table, show_log
from SynthGANLib.cli.train import add_commands
from SynthGANLib.errors import InputError, SynthGANError, error_event, refused_by_system
from SynthGANLib.jobs.models import install
from SynthGANLib.jobs.run import run_job
from SynthGANLib.jobs.synthesis import Job
from SynthGANLib.model.catalogue import Catalogue
from SynthGANLib.progress_line import say
from SynthGANLib.signals import stop_on_signals


class _Parser(argparse.ArgumentParser):
    """Mistakes in the arguments are errors like any other: one sentence, code 2, JSON if asked for."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:].rstrip('.')}.", next_step=f"See '{self.prog} --help'.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; only what was asked for goes to stdout."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    show_log()
    try:
        options = _parser().parse_args(given)
        code = int(options.run(options))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except SynthGANError as error:
        return _tell(error_event(error), as_json)
    except KeyboardInterrupt:
        event = {
            "kind": "cancelled",
            "cause": "Cancelled; nothing was written.",
            "next_step": "",
            "exit_code": 130,
        }
        return _tell(event, as_json)
    except BrokenPipeError:  # the reader of our output has gone (as in "synthgan models | head"): nothing to tell
        sys.stdout = None  # its flush at exit would fail again
        return 0
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:  # of our output, not of a file
            sys.stdout = None
            cause = f"What is to be printed cannot be written: {error.strerror}."
            return _tell(error_event(InputError(cause, next_step="Free some space.")), as_json=False)
        return _tell(error_event(refused_by_system(error)), as_json)


def _parser() -> argparse.ArgumentParser:
    from SynthGANLib import __version__

    parser = _Parser(prog="synthgan", description="Cross-modality synthesis of medical images.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"synthgan {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("synthesize", allow_abbrev=False, help="synthesize a volume with a model")
    command.add_argument("input", metavar="IN", help="NIfTI, NRRD, MHA, PNG or JPEG file, or a folder of DICOM slices")
    command.add_argument("output", metavar="OUT", help="file to write: .nii.gz, .nii, .nrrd, .mha, .png, .tif")
    add_choices(command)
    command.add_argument("--mask", metavar="FILE", help="label volume of the body on the grid of the input")
    command.add_argument("--series", metavar="UID", help="which series of a DICOM folder")
    command.add_argument("--force", action="store_true", help="replace OUT if it exists")
    command.set_defaults(run=_synthesize)

    command = commands.add_parser("models", allow_abbrev=False, help="list the models")
    command.add_argument("--from", dest="source", default="", metavar="MODALITY", help="source modality, such as MR")
    command.add_argument("--to", dest="target", default="", metavar="MODALITY", help="target modality, such as CT")
    command.add_argument("--anatomy", default="", help="body part, such as head")
    command.set_defaults(run=_models)

    command = commands.add_parser("info", allow_abbrev=False, help="show the card of a model")
    command.add_argument("model", metavar="MODEL", help="id or folder")
    command.set_defaults(run=_info)

    command = commands.add_parser(
        "install", allow_abbrev=False, help="check a model and copy it into the user's folder"
    )
    command.add_argument("source", metavar="FOLDER_ZIP_OR_URL", help="model folder, its zip, or an https address of it")
    command.add_argument("--sha256", default="", metavar="SUM", help="checksum of the zip; needed for an address")
    command.add_argument("--force", action="store_true", help="replace a model of the same id")
    command.set_defaults(run=_install)

    command = commands.add_parser("remove", allow_abbrev=False, help="delete a model from the user's folder")
    command.add_argument("model", metavar="MODEL", help="id or folder")
    command.set_defaults(run=_remove)

    add_batch_command(commands)
    add_commands(commands)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print one JSON value on standard output")
    return parser


def _synthesize(options: argparse.Namespace) -> int:
    job = Job(input=options.input, output=options.output, force=options.force, **vars(choices_of(options)))
    last: dict[str, Any] = {}
    with stop_on_signals() as stopped, Bar(sys.stderr) as bar, contextlib.redirect_stdout(sys.stderr):

        def emit(event: dict[str, Any]) -> None:
            if event["event"] in ("done", "error"):
                last.update(event)
            else:
                bar.show(event)

        code = run_job(job, emit, cancel=stopped.is_set)
    if last.pop("event") == "error":
        return _tell(last, options.json)
    if options.json:
        print_json(last)
    else:
        model = f"{last['model']} {last['version']}"
        print(f"{last['output']}: {model} on {last['device']}, {last['seconds']:.1f} s")
    return code


def _models(options: argparse.Namespace) -> int:
    catalogue = Catalogue()
    asked = any((options.source, options.target, options.anatomy))
    if asked:
        entries = catalogue.search(source=options.source, target=options.target, anatomy=options.anatomy)
    else:
        entries = catalogue.models()
    if options.json:
        print_json([entry.to_json() for entry in entries])
    elif entries:
        print(models_table(entries))
    else:
        folders = ", ".join(str(folder) for folder in catalogue.folders)
        print("No model matches." if asked else f"No model was found in {folders}.")
    return 0


def _info(options: argparse.Namespace) -> int:
    from SynthGANLib.model.card import WEIGHTS
    from SynthGANLib.model.card_text import readme_of
    from SynthGANLib.model.folder import read_card

    folder = Catalogue().find(options.model)
    card = read_card(folder)
    if options.json:
        print_json({**card.to_json(), "path": str(folder)})
    else:
        weights = card.files[WEIGHTS].bytes if WEIGHTS in card.files else 0
        print(readme_of(card, weights=weights), end="")
    return 0


def _install(options: argparse.Namespace) -> int:
    with stop_on_signals() as stopped, Bar(sys.stderr) as bar:

        def report(stage: str, fraction: float) -> None:
            bar.show({"event": "progress", "stage": stage, "fraction": fraction, "seconds_left": None})

        entry = install(
            Catalogue(),
            options.source,
            sha256=options.sha256,
            force=options.force,
            report=report,
            cancel=stopped.is_set,
        )
    if options.json:
        print_json(entry)
    else:
        print(f"{entry['id']} {entry['version']} is installed in {entry['path']}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    path = Catalogue().remove(options.model)
    if options.json:
        print_json({"removed": str(path)})
    else:
        print(f"{path} is removed")
    return 0


def _tell(event: dict[str, Any], as_json: bool) -> int:
    code = int(event["exit_code"])
    sentence = " ".join(filter(None, (event["cause"], event["next_step"])))
    say(f"synthgan: {sentence}", sys.stderr)
    if as_json:
        try:
            print_json({"error": {name: event[name] for name in ("kind", "cause", "next_step", "exit_code")}})
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:  # nobody reads it; the exit code still tells
            sys.stdout = None
    return code


if __name__ == "__main__":
    sys.exit(main())
