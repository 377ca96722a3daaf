"""May a result be written there, in that format? Asked before anything is computed, and again before it is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Grid
from SynthGANLib.io.formats import PICTURES, WRITABLE, suffix_of
from SynthGANLib.io.integrity import check_name


def check_output(output: Path, inputs: Mapping[str, str | None], force: bool) -> None:
    """Refuse an output that could not be written, or that is one of the `inputs` (path by what it is).

    Raises:
        InputError: saying which, and what to choose instead.
    """
    check_name(output)
    if suffix_of(output) not in WRITABLE:
        raise InputError(
            f"'{output.name}' names no kind of file that can be written.", next_step=f"Use {', '.join(WRITABLE)}."
        )
    if not output.parent.is_dir():
        raise InputError(
            f"The folder '{output.parent}' for the output does not exist.",
            next_step="Create it or choose another.",
        )
    folder = Path(os.path.realpath(output)).parent  # a link stays a link, its target is written
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise InputError(
            f"The folder '{folder}' for the output may not be written to.",
            next_step="Choose another, or change its permissions.",
        )
    try:
        output.lstat()
    except FileNotFoundError:
        return
    if output.is_dir():
        raise InputError(f"The output '{output}' is a folder.", next_step="Give the name of a file.")
    for name, path in inputs.items():
        if path is not None and _same_file(output, path):
            raise InputError(f"The output '{output}' is the {name} itself.", next_step="Choose another name.")
    if not force:
        raise InputError(
            f"The output '{output}' exists already.",
            next_step="Choose another name, or allow replacing it (in the shell: --force).",
        )


def check_kind(output: Path, unit: str, grid: Grid) -> None:
    """Refuse a format that cannot hold a result in `unit` on `grid` (InputError)."""
    suffix = suffix_of(output)
    if 0 in grid.shape:
        raise InputError("The volume has no voxels to write.", next_step="Choose another volume.")
    if suffix in PICTURES and (unit != "RGB" or grid.shape[0] != 1):
        raise InputError(
            f"'{output.name}' can hold one color slice only, not {grid.shape[0]} slices in {unit}.",
            next_step="Use .nrrd, .mha or .nii.gz.",
        )
    if suffix in (".nii", ".nii.gz") and not grid.orthogonal:
        raise InputError(
            f"'{output.name}' would hold sheared axes (tilted gantry), which many programs misread in NIfTI.",
            next_step="Use .nrrd or .mha, which keep the place exactly.",
        )


def _same_file(output: Path, other: str) -> bool:
    try:
        return os.path.samefile(output, other)
    except OSError:  # the other does not exist, which is told later by its own name
        return False
