"""The job "measure": how good a result is, from files to numbers; the same for the panel and its console call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANLib.decoding import Filled, Origin, check_fields, decode
from SynthGANLib.errors import InputError

if TYPE_CHECKING:
    from SynthGANLib.image.volume import Volume

JOB = Origin("the job")
MEASURE = "measure"
"""The job's name."""


@dataclass(frozen=True)
class MeasureJob:
    """What to measure.

    Attributes:
        result: file of the synthetic image. reference, source, mask: files, or None; see
            :func:`SynthGANLib.evaluation.assessment.assess`.
        result_unit, reference_unit, source_unit: units, None where nothing states one.
        protocol: "auto" or a name of ``SynthGANLib.evaluation.metrics.PROTOCOLS``.

    Raises:
        InputError: for a field that is not text, by name.
    """

    result: Filled
    reference: Filled | None = None
    source: Filled | None = None
    mask: Filled | None = None
    result_unit: Filled | None = None
    reference_unit: Filled | None = None
    source_unit: Filled | None = None
    protocol: Filled = "auto"

    def __post_init__(self) -> None:
        check_fields(self, JOB)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MeasureJob:
        """The job of a parsed ``{"job": "measure", ...}`` object; InputError names what is wrong."""
        return decode(cls, {name: value for name, value in content.items() if name != "job"}, JOB)


def run_measurement(job: MeasureJob, enter: Callable[[str, float], None]) -> dict[str, Any]:
    """Measure, and return what an assessment tells, ready for ``json.dumps``.

    `enter` is told each stage and the share that is done by then; what it raises ends the run. Needs no torch.
    """
    from SynthGANLib.evaluation.assessment import assess, settle_units

    enter("read", 0.0)
    result = _read(job.result, job.result_unit)
    reference = None if job.reference is None else _read(job.reference, job.reference_unit)
    remarks: list[str] = []
    if reference is not None:
        stated = _stated(result, job.result_unit), _stated(reference, job.reference_unit)
        unit, remarks = settle_units(*stated)
        result = dataclasses.replace(result, unit=stated[0] or unit)
        reference = dataclasses.replace(reference, unit=stated[1] or unit)
    found = assess(
        result,
        reference,
        source=None if job.source is None else _read(job.source, job.source_unit),
        mask=None if job.mask is None else _read(job.mask, "label"),
        protocol=job.protocol,
        enter=enter,
    )
    return dataclasses.replace(found, remarks=(*remarks, *found.remarks)).to_json()


def _read(path: str, unit: str | None) -> Volume:
    from SynthGANLib.io.volumes import read_volume

    if not Path(path).exists():
        raise InputError(f"There is no file or folder '{path}'.", next_step="Check the name.")
    return read_volume(path, unit=unit)


def _stated(volume: Volume, asked: str | None) -> str | None:
    """The unit that the job or the file states; "1" is also what a file without a unit is read as."""
    return asked or (volume.unit if volume.unit != "1" else None)
