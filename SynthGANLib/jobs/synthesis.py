"""The job "synthesize": one volume from file to file."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANLib.errors import Cancel, InputError
from SynthGANLib.files import sha256_of
from SynthGANLib.inference.provenance import facts_of, versions
from SynthGANLib.io.targets import check_kind, check_output
from SynthGANLib.jobs.events import SHARE_BEFORE, SHARE_PREDICT, Emit, Steps
from SynthGANLib.model.catalogue import Catalogue

if TYPE_CHECKING:
    from SynthGANLib.image.volume import Volume
    from SynthGANLib.model.model import Model

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,2})?")


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        input, output: source file or DICOM folder; result file (its folder exists, it does not, unless
        ``force``).
        model: id, ``id@version`` or folder; ``models``: further folders to look into first.
        mask: label volume on the grid of the input, or None; non-zero is body.
        device: "auto", "cpu", "cuda", "cuda:0", "mps".
        memory: bytes the synthesis may take, or None for what is free.
        series, frame: which DICOM series, which frame of a 4D file.
        input_unit, input_modality, input_sequence: override what the file says or fails to say.
        accept_unfit: use an input whose stated modality is not the model's; it is remarked.

    Raises:
        InputError: for a field of the wrong type, by name.
    """

    input: str
    output: str
    model: str
    mask: str | None = None
    device: str = "auto"
    memory: int | None = None
    models: tuple[str, ...] = ()
    force: bool = False
    input_unit: str | None = None
    series: str | None = None
    frame: int | None = None
    input_modality: str | None = None
    input_sequence: str | None = None
    accept_unfit: bool = False

    def __post_init__(self) -> None:
        for name in ("input", "output", "model"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or "\0" in value:
                raise _wrong(name, "text that is not empty", value)
        for name in ("mask", "input_unit", "series", "input_modality", "input_sequence"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), str):
                raise _wrong(name, "text or null", getattr(self, name))
        for name, low in (("memory", 1), ("frame", 0)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < low):
                raise _wrong(name, f"a whole number from {low} or null", value)
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise _wrong("device", "auto, cpu, cuda, cuda:0 or mps", self.device)
        for name in ("force", "accept_unfit"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, "true or false", getattr(self, name))
        if not isinstance(self.models, (tuple, list)) or not all(isinstance(folder, str) for folder in self.models):
            raise _wrong("models", "a list of folders", self.models)

    @classmethod
    def from_json(cls, content: Any) -> Job:
        """The job of a parsed ``{"job": "synthesize", ...}`` object; InputError names what is wrong."""
        if not isinstance(content, Mapping) or content.get("job") != "synthesize":
            raise InputError(
                'A job is one JSON object with "job": "synthesize".',
                next_step="Send such an object on one line.",
            )
        fields = {name: value for name, value in content.items() if name != "job"}
        known = {item.name: item for item in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise InputError(f"The job has the unknown field '{unknown[0]}'.", next_step="Remove it.")
        missing = [name for name in ("input", "output", "model") if name not in fields]
        if missing:
            raise InputError(f"The job lacks the field '{missing[0]}'.", next_step="Add it.")
        if isinstance(fields.get("models"), list):
            fields["models"] = tuple(fields["models"])
        return cls(**fields)


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
    from SynthGANLib.inference.pipeline import synthesize
    from SynthGANLib.io.volumes import read_volume, write_volume
    from SynthGANLib.model.model import Model

    model = Model.load(folder)
    loaded = time.monotonic() - started
    steps.enter("read", 0.01)
    volume = _labelled(read_volume(source, series=job.series, frame=job.frame, unit=job.input_unit), job)
    check_kind(Path(job.output), model.card.target.unit, volume.grid)
    body = read_volume(mask, unit="label") if mask else None
    steps.enter("check", SHARE_BEFORE)
    result = synthesize(
        volume,
        model,
        mask=body,
        device=job.device,
        memory=job.memory,
        progress=steps.follow,
        cancel=cancel,
        accept_unfit=job.accept_unfit,
    )
    steps.enter("write", SHARE_BEFORE + SHARE_PREDICT)
    write_volume(result, job.output, force=job.force)
    summary = _summary(job, model, result)
    steps.progress("done", 1.0, 0.0)
    seconds = time.monotonic() - started
    pace = _pace(job, model, result, loaded, seconds)
    return {**summary, "seconds": round(seconds, 3), "pace": pace}


def _labelled(volume: Volume, job: Job) -> Volume:
    """The volume with the modality and sequence that the job states, where it states any."""
    stated = {"modality": job.input_modality, "sequence": job.input_sequence}
    known = {name: value for name, value in stated.items() if value is not None}
    return dataclasses.replace(volume, meta={**volume.meta, **known}) if known else volume


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


def _wrong(name: str, rule: str, value: Any) -> InputError:
    return InputError(f"The field '{name}' of the job must be {rule}, not {value!r:.80}.", next_step="Correct it.")
