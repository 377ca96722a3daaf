"""What a run is, written into its folder at its start: enough to build its networks again and to export them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from SynthGANLib.decoding import Origin, decode
from SynthGANLib.errors import InputError
from SynthGANLib.files import write_json
from SynthGANLib.recipes.base import Recipe, Setup
from SynthGANLib.recipes.overrides import apply

NAME = "run.json"
FORMAT = 1
SPATIAL, AUGMENT = "spatial.", "augment."
"""Beginnings of the settings that belong to the data, not to the setup."""


@dataclass(frozen=True)
class Record:
    """The content of `run.json`.

    Attributes:
        recipe, size: which setup. settings: what was set beyond it, by dotted names, as text.
        data: what the feed says of itself. data_list: its file.
        seed, amp, warm_up, processes: what else decides the weights. versions: of what the numbers depend on.
    """

    recipe: str
    size: Literal["canonical", "tiny"]
    settings: Mapping[str, str]
    data: Mapping[str, Any]
    data_list: str
    seed: int
    amp: str
    warm_up: int = 0
    processes: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def setup(self, recipe: Recipe) -> Setup:
        """The recipe's setup at this run's size, with this run's settings."""
        return setup_of(recipe, self.size, self.settings)


def setup_of(recipe: Recipe, size: str, settings: Mapping[str, str]) -> Setup:
    """A recipe's setup with settings; those that belong to the data are passed over."""
    mine = {name: text for name, text in settings.items() if not name.startswith((SPATIAL, AUGMENT))}
    return apply(recipe.tiny() if size == "tiny" else recipe.canonical(), mine)


def part_of(settings: Mapping[str, str], beginning: str) -> dict[str, str]:
    """The settings whose names begin so, without that beginning."""
    return {name.removeprefix(beginning): text for name, text in settings.items() if name.startswith(beginning)}


def write_record(run: Path, record: Record) -> None:
    """Write `run.json`; NotWrittenError if the disk refuses."""
    write_json(run / NAME, asdict(record))


def read_record(run: Path) -> Record:
    """The record of a run.

    Raises:
        InputError: there is none, it cannot be read, or it is of another format.
    """
    path = run / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"'{run}' is no training run: its {NAME} cannot be read ({error.strerror}).",
            next_step="Give the folder that 'synthgan train' wrote.",
        ) from error
    except ValueError as error:
        raise InputError(f"'{path}' is damaged ({error}).", next_step="Get the run again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"'{path}' is not of format {FORMAT}.", next_step="Use the version that wrote it.")
    return decode(Record, content, Origin(f"'{path}'"))
