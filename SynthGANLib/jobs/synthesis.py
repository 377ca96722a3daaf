"""The job "synthesize": one volume from file to file."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANLib.decoding import Filled, Origin, check_fields, decode
from SynthGANLib.errors import Cancel, InputError
from SynthGANLib.files import sha256_of
from SynthGANLib.inference.choices import Choices
from SynthGANLib.inference.provenance import facts_of, versions
from SynthGANLib.io.targets import check_kind, check_output
from SynthGANLib.jobs.events import SHARE_BEFORE, SHARE_PREDICT, Emit, Steps
from SynthGANLib.model.catalogue import Catalogue

if TYPE_CHECKING:
    from SynthGANLib.image.volume import Volume
    from SynthGANLib.model.model import Model

JOB = Origin("the job")


@dataclass(frozen=True, kw_only=True)
class Job(Choices):
    """One synthesis from file to file.

    Attributes:
        input, output: source file or DICOM folder; result file (its folder exists, it does not, unless
            ``force``). The others: see :class:`SynthGANLib.inference.choices.Choices`.

    Raises:
        InputError: for a field of the wrong type, by name.
    """

    input: Filled
    output: Filled
    force: bool = False

    def __post_init__(self) -> None:
        check_fields(self, JOB)

    @classmethod
    def from_json(cls, content: Any) -> Job:
        """The job of a parsed ``{"job": "synthesize", ...}`` object; InputError names what is wrong."""
        if not isinstance(content, Mapping) or content.get("job") != "synthesize":
            raise InputError(
                'A job is one JSON object with "job": "synthesize".',
                next_step="Send such an object on one line.",
            )
        return decode(cls, {name: value for name, value in content.items() if name != "job"}, JOB)


def run_synthesis(job: Job, emit: Emit, cancel: Cancel, catalogue: Catalogue) -> dict[str, Any]:
    started = time.monotonic()
    check_output(Path(job.output), {"input": job.input, "mask": job.mask}, job.force)
    source, mask = Path(job.input), Path(job.mask) if job.mask else None
    for path in (source, mask):
        if path is not None and not path.exists():
            raise InputError(f"There is no file or folder '{path}'.", next_step="Check the name.")
    steps = Steps(emit, cancel)
    folder = catalogue.with_folders(job.models).find(job.model)

    steps.enter("model", 0.0)
    from SynthGANLib.io.volumes import write_volume
    from SynthGANLib.model.model import Model

    model = Model.load(folder)
    loaded = time.monotonic() - started
    steps.enter("read", 0.01)
    volume = job.read(source)
    check_kind(Path(job.output), model.card.target.unit, volume.grid)
    body = job.read_mask()
    steps.enter("check", SHARE_BEFORE)
    result = job.synthesize(volume, model, body, progress=steps.follow, cancel=cancel)
    steps.enter("write", SHARE_BEFORE + SHARE_PREDICT)
    write_volume(result, job.output, force=job.force)
    summary = _summary(job, model, result)
    steps.progress("done", 1.0, 0.0)
    seconds = time.monotonic() - started
    pace = _pace(job, model, result, loaded, seconds)
    return {**summary, "seconds": round(seconds, 3), "pace": pace}


def _pace(job: Job, model: Model, result: Volume, start: float, seconds: float) -> dict[str, Any]:
    """What a later estimate needs to know of this run."""
    import torch

    from SynthGANLib.inference.estimate import run_of

    threads = torch.get_num_threads()
    run = run_of(model.card, result.grid, job.device, result.meta, threads=threads, start=start, seconds=seconds)
    return dataclasses.asdict(run)


def _summary(job: Job, model: Model, result: Volume) -> dict[str, Any]:
    return {
        "output": str(Path(job.output).absolute()),
        "output_sha256": sha256_of(Path(job.output)),
        "model": model.card.id,
        "version": model.card.version,
        "weights_sha256": model.card.weights_sha256,
        "seconds": 0.0,
        **facts_of(result, job.device),
        "versions": versions(),
    }
