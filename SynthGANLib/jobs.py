"""One job from files to files, the same for panel, console and shell: what they share is this function.

A job is a JSON object; what happens is told as JSON events. Both are described at :class:`Job` and
:func:`run_job`.
"""

from __future__ import annotations

import dataclasses
import functools
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANLib.catalogue import Catalogue
from SynthGANLib.digests import sha256_of
from SynthGANLib.errors import CancelledError, InputError, MemoryExhaustedError, SynthGANError, refused_by_system
from SynthGANLib.measure_job import MEASURE, MeasureJob, run_measurement
from SynthGANLib.model_jobs import INSTALL, VERIFY, run_model_job
from SynthGANLib.output_checks import check_kind, check_output
from SynthGANLib.self_check import CHECK, check_devices

if TYPE_CHECKING:
    from SynthGANLib.inference.progress import Progress
    from SynthGANLib.model import Model
    from SynthGANLib.volume import Volume

Emit = Callable[[dict[str, Any]], None]
"""Takes one event; must not raise."""
Cancel = Callable[[], bool]


_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,2})?")
_SHARE_BEFORE, _SHARE_PREDICT = 0.03, 0.94
"""Shares of the progress bar for reading (before) and for the synthesis; the rest is writing."""


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


def run_job(
    job: Mapping[str, Any] | Job,
    emit: Emit,
    *,
    cancel: Cancel | None = None,
    catalogue: Catalogue | None = None,
) -> int:
    """Run a job to its end and return the exit code; never raises for what can be told as an event.

    Events: ``stage`` (stage), ``progress`` (stage, fraction, seconds_left), ``warning`` (message),
    ``memory`` (message), and last either ``done`` (output, output_sha256, model, version, weights_sha256,
    device, seconds, tiles, peak_memory, warnings, plan, versions, pace: a
    :class:`SynthGANLib.estimate.Run` as JSON) or ``error`` (kind, cause, next_step,
    exit_code). What ``done`` holds after a job "measure" is told at
    :meth:`SynthGANLib.evaluation.assess.Assessment.to_json`.
    """
    asked = cancel or (lambda: False)
    try:
        if isinstance(job, Mapping) and job.get("job") == MEASURE:
            emit({"event": "done", **_measured(MeasureJob.from_json(job), emit, asked)})
            return 0
        if isinstance(job, Mapping) and job.get("job") in (INSTALL, VERIFY, CHECK):
            report = functools.partial(_Steps(emit, asked).progress, seconds_left=None)
            if job["job"] == CHECK:
                emit({"event": "done", **check_devices(report)})
            else:
                emit({"event": "done", **run_model_job(job, catalogue or Catalogue(), report, asked)})
            return 0
        parsed = job if isinstance(job, Job) else Job.from_json(job)
        emit({"event": "done", **_run(parsed, emit, asked, catalogue or Catalogue())})
        return 0
    except SynthGANError as error:
        return emit_error(emit, error)
    except MemoryError:
        return emit_error(
            emit,
            MemoryExhaustedError(
                "Memory ran out while the volume was read or written.",
                next_step="Close other programs, crop the volume, or use a machine with more memory.",
            ),
        )
    except ImportError as error:
        return emit_missing(emit, error)
    except OSError as error:  # permissions, names, disks: the machine's, not a defect
        return emit_error(emit, refused_by_system(error))
    except Exception as error:  # anything else is a defect of ours: told as such, with the trace for its report
        traceback.print_exc(file=sys.stderr)
        cause = f"The job failed by an error of the program itself ({type(error).__name__})."
        return _emit_problem(emit, "internal", cause, "Report it together with the log.")


def emit_error(emit: Emit, error: SynthGANError) -> int:
    """Tell an error as an event and return its exit code."""
    emit(error_event(error))
    return error.exit_code


def emit_missing(emit: Emit, error: ImportError) -> int:
    """Tell that a package is missing or broken (its trace goes to standard error) and return the exit code."""
    traceback.print_exception(error, file=sys.stderr)
    cause = f"The Python package '{error.name or 'unknown'}' cannot be loaded."
    return _emit_problem(emit, "environment", cause, "Install or repair the requirements of SynthGAN.")


def error_event(error: SynthGANError) -> dict[str, Any]:
    """The ``error`` event of an error."""
    return {
        "event": "error",
        "kind": error.kind,
        "cause": _sentence(str(error)),
        "next_step": error.next_step,
        "exit_code": error.exit_code,
    }


def _sentence(text: str) -> str:
    """The text on one line, with a capital letter and a full stop: a next step may follow it."""
    line = " ".join(text.split())
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", "!", "?")) else ".") if line else line


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    from SynthGANLib import __version__

    found = {"synthgan": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "SimpleITK", "safetensors"):
        module = sys.modules.get(name)
        version = getattr(module, "__version__", None) if module else None
        try:
            found[name] = str(version or metadata.version(name))
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _run(job: Job, emit: Emit, cancel: Cancel, catalogue: Catalogue) -> dict[str, Any]:
    started = time.monotonic()
    check_output(Path(job.output), {"input": job.input, "mask": job.mask}, job.force)
    source, mask = Path(job.input), Path(job.mask) if job.mask else None
    for path in (source, mask):
        if path is not None and not path.exists():
            raise InputError(f"There is no file or folder '{path}'.", next_step="Check the name.")
    steps = _Steps(emit, cancel)
    folder = catalogue.with_folders(job.models).find(job.model)

    steps.enter("model", 0.0)
    from SynthGANLib.inference.synthesize import synthesize
    from SynthGANLib.model import Model
    from SynthGANLib.volume import read_volume, write_volume

    model = Model.load(folder)
    loaded = time.monotonic() - started
    steps.enter("read", 0.01)
    volume = _labelled(read_volume(source, series=job.series, frame=job.frame, unit=job.input_unit), job)
    check_kind(Path(job.output), model.card, volume)
    body = read_volume(mask, unit="label") if mask else None
    steps.enter("check", _SHARE_BEFORE)
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
    steps.enter("write", _SHARE_BEFORE + _SHARE_PREDICT)
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


def _measured(job: MeasureJob, emit: Emit, cancel: Cancel) -> dict[str, Any]:
    steps = _Steps(emit, cancel)
    found = run_measurement(job, steps.enter)
    steps.progress("done", 1.0, 0.0)
    return {**found, "versions": versions()}


def _pace(job: Job, model: Model, result: Volume, start: float, seconds: float) -> dict[str, Any]:
    """What a later estimate needs to know of this run."""
    import torch

    from SynthGANLib.estimate import run_of

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


def facts_of(result: Volume, asked: str) -> dict[str, Any]:
    """What a result tells of its run; `asked` is the device that was asked for."""
    meta = result.meta
    return {
        "device": str(meta.get("device", asked)),
        "tiles": meta.get("tiles"),
        "peak_memory": meta.get("peak_memory"),
        "warnings": list(meta.get("warnings", ())),
        "plan": meta.get("plan", ""),
    }


class _Steps:
    """Turns what the synthesis reports into events of the whole job; fractions never fall."""

    def __init__(self, emit: Emit, cancel: Cancel) -> None:
        self._emit = emit
        self._cancel = cancel
        self._stage = ""
        self._fraction = 0.0

    def enter(self, stage: str, fraction: float) -> None:
        """Begin a stage, unless the user has cancelled meanwhile."""
        if self._cancel():
            raise CancelledError("The job was cancelled; nothing was written.", next_step="Start it again when wanted.")
        self.progress(stage, fraction, None)

    def progress(self, stage: str, fraction: float, seconds_left: float | None) -> None:
        if stage != self._stage:
            self._stage = stage
            self._emit({"event": "stage", "stage": stage})
        self._fraction = max(self._fraction, min(fraction, 1.0))
        left = None if seconds_left is None else round(seconds_left, 1)
        self._emit({"event": "progress", "stage": stage, "fraction": round(self._fraction, 4), "seconds_left": left})

    def follow(self, report: Progress) -> None:
        """One report of the synthesis."""
        if report.stage in ("memory", "warning"):
            self._emit({"event": report.stage, "message": report.message})
        elif report.stage != "done":  # the job is not done before its file is written
            self.progress(report.stage, _SHARE_BEFORE + _SHARE_PREDICT * report.fraction, report.seconds_left)


def _emit_problem(emit: Emit, kind: str, cause: str, next_step: str) -> int:
    emit({"event": "error", "kind": kind, "cause": cause, "next_step": next_step, "exit_code": 1})
    return 1


def _wrong(name: str, rule: str, value: Any) -> InputError:
    return InputError(f"The field '{name}' of the job must be {rule}, not {value!r:.80}.", next_step="Correct it.")
