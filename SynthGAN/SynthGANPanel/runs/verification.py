"""The result file of a child process: accepted only after its hash, grid and values were verified."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array, Grid
    from SynthGANLib.model.card import Card
    from SynthGANPanel.runs.workerProcess import Event

GEOMETRY_TOLERANCE_MM = 1e-4


def verifiedArray(path: Path, done: Event, card: Card, grid: Grid, log: Sequence[str]) -> Array:
    """The voxels (z, y, x[, 3]) of a result file.

    :param done: the worker's closing event
    :param card: of the model; `grid`: that the result must have; `log`: the process's last lines, for the error
    :raises SynthesisError: naming what is wrong
    """
    from SynthGANLib.errors import SynthGANError
    from SynthGANLib.files import sha256_of
    from SynthGANLib.io.volumes import read_volume

    def refused(reason: str) -> SynthesisError:
        return SynthesisError(
            _("The result was refused because {reason}.").format(reason=reason),
            _("Try again, and report the details if it happens again."),
            "result",
            log,
        )

    try:
        if sha256_of(path) != done.get("output_sha256"):
            raise refused(_("its checksum is not the one reported"))
        volume = read_volume(path, unit=card.target.unit)
    except OSError as error:
        raise refused(_("its file cannot be read")) from error
    except SynthGANError as error:
        raise refused(str(error).rstrip(".")) from error
    if volume.shape != grid.shape:
        raise refused(_("it has another number of voxels than the input"))
    if not np.allclose(volume.affine, grid.affine, rtol=0, atol=GEOMETRY_TOLERANCE_MM):
        raise refused(_("it does not lie on the input"))
    if (volume.array.ndim == 4) != (card.target.channels > 1):
        raise refused(_("it has another number of channels than the model's card says"))
    if not np.isfinite(volume.array).all():
        raise refused(_("it holds values that are not finite"))
    return volume.array
