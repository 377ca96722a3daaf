"""What the parts of the command line share: the choices of a synthesis, amounts of memory, JSON on standard output."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from SynthGANLib.inference.choices import Choices

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "K": 2**10,
    "M": 2**20,
    "G": 2**30,
    "T": 2**40,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}


def add_choices(command: argparse.ArgumentParser) -> None:
    """Add the options that every command with a synthesis has; `choices_of` reads them."""
    command.add_argument("--model", required=True, metavar="ID", help="id of a model (see 'synthgan models') or folder")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0 or mps (default: %(default)s)")
    command.add_argument("--memory", type=memory_size, metavar="SIZE", help="memory to use at most, such as 4GiB")
    command.add_argument("--frame", type=whole_number, metavar="N", help="which frame of a 4D file, counted from 0")
    command.add_argument("--unit", metavar="UNIT", help="unit of the input where the file does not say: HU, SUVbw, 1")
    command.add_argument(
        "--accept-unfit", action="store_true", help="use an input that states another modality; a warning says so"
    )


def choices_of(options: argparse.Namespace) -> Choices:
    """The choices of a parsed command."""
    return Choices(
        model=options.model,
        mask=getattr(options, "mask", None),
        device=options.device,
        memory=options.memory,
        series=getattr(options, "series", None),
        frame=options.frame,
        input_unit=options.unit,
        accept_unfit=options.accept_unfit,
    )


def memory_size(text: str) -> int:
    """Bytes of an amount such as ``4GiB``; ArgumentTypeError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in _UNITS or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory such as 4GiB or 800MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def whole_number(text: str) -> int:
    """A whole number from 0; ArgumentTypeError for anything else."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def count_of(text: str) -> int:
    """A whole number from 1; ArgumentTypeError for anything else."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def print_json(value: Any) -> None:
    """Print one JSON value; NaN and infinity are refused (ValueError)."""
    print(json.dumps(value, indent=2, allow_nan=False))
