"""One case of a batch: what it is, whether its result is there already, and computing it into a folder of its own."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from SynthGANLib.batch.inputs import BatchCase
from SynthGANLib.batch.record import model_digest, read_own, record_path, sha256_of_input, to_text
from SynthGANLib.errors import Cancel, CancelledError, InputError, MemoryExhaustedError, SynthGANError, error_event
from SynthGANLib.files import sha256_of
from SynthGANLib.inference.choices import Choices
from SynthGANLib.inference.provenance import facts_of, versions
from SynthGANLib.io.targets import check_kind
from SynthGANLib.model.card import Card

if TYPE_CHECKING:
    from SynthGANLib.model.model import Model

Status = Literal["done", "skipped", "failed", "not run"]
Load = Callable[[], "Model"]

# What a record must agree on for its result to be still the right one.
_SAME = ("input_sha256", "mask_sha256", "series", "frame", "unit", "model_digest")


@dataclass(frozen=True)
class Settings:
    """What holds for every case of a batch.

    Attributes:
        model: folder of the model; identity, version, weights_sha256, digest: which one it must be.
        out: output folder; suffix: of its volumes.
        choices: device, memory and what else holds for all cases; a case adds its own mask, series, frame and unit.
        force: compute again what is there and right.
    """

    model: Path
    identity: str
    version: str
    weights_sha256: str
    digest: str
    out: Path
    choices: Choices
    suffix: str = ".nrrd"
    force: bool = False

    @classmethod
    def of(
        cls, model: Path, card: Card, out: Path, choices: Choices, *, suffix: str = ".nrrd", force: bool = False
    ) -> Settings:
        """The settings for a model folder whose card was read."""
        return cls(model, card.id, card.version, card.weights_sha256, model_digest(card), out, choices, suffix, force)

    def output(self, case: BatchCase) -> Path:
        """Where the result of a case goes."""
        return self.out / (case.name + self.suffix)


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        record: of the result, for "done" and "skipped".
        error: kind, cause and next_step, for "failed"; trace: of a defect of the program.
        part: folder with the unpublished result; aside: name under which a former result is kept that was
            changed after it had been made.
    """

    case: BatchCase
    status: Status
    record: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    trace: str = ""
    part: Path | None = None
    aside: str = ""

    def row(self, settings: Settings) -> dict[str, Any]:
        """What the summaries say about the case."""
        made = self.status in ("done", "skipped")
        return {
            "case": self.case.name,
            "status": self.status,
            "input": str(self.case.input),
            "output": str(settings.output(self.case)) if made else "",
            "seconds": self.record.get("seconds"),
            "device": self.record.get("device", ""),
            "warnings": list(self.record.get("warnings", ())),
            "error": dict(self.error) if self.error else None,
        }


def load_model(settings: Settings) -> Model:
    """The model of a batch, after checking that it is the one that was planned and that the device is there.

    Raises:
        ModelError, InputError: the model is refused or another, or the device is not there.
    """
    from SynthGANLib.inference.devices import resolve_device
    from SynthGANLib.model.model import Model

    resolve_device(settings.choices.device)
    model = Model.load(settings.model)
    if model_digest(model.card) != settings.digest:
        raise InputError(
            f"The model in '{settings.model}' is not the one that this batch was started with.",
            next_step="Start the batch again when nobody changes the model.",
        )
    return model


def perform(case: BatchCase, settings: Settings, load: Load, part: Path, cancel: Cancel = lambda: False) -> Outcome:
    """Compute a case into the folder `part`, unless its result is there and right; nothing else is written.

    What is wrong with the case becomes a "failed" outcome.

    Raises:
        CancelledError: `cancel` returned true.
        SynthGANError: `load` raised it; no case is to blame for that.
    """
    started = time.monotonic()
    former = collected(case, lambda: _former(case, settings))
    if former.status != "not run":
        return former
    paused = time.monotonic()
    model = load()
    started += time.monotonic() - paused  # the model is loaded for all cases, not for the one that comes first

    def compute() -> Outcome:
        part.mkdir(parents=True)
        record = _compute(case, settings, model, part, cancel)
        warnings = [*record["warnings"]]
        if former.aside:
            warnings.append(f"The former result had been changed since it was made; it is kept as '{former.aside}'.")
        record = {**former.record, **record, "warnings": warnings, "seconds": round(time.monotonic() - started, 3)}
        (part / "record.json").write_text(to_text(record), encoding="utf-8")
        return replace(former, status="done", record=record, part=part)

    outcome = collected(case, compute)
    if outcome.status == "failed":
        shutil.rmtree(part, ignore_errors=True)
    return outcome


def _former(case: BatchCase, settings: Settings) -> Outcome:
    """What is there already: a "skipped" outcome, or one "not run" whose record says what the case is.

    Raises:
        InputError: something that no batch has made is in the way, or the input cannot be read.
    """
    output = settings.output(case)
    there, record = os.path.lexists(output), read_own(record_path(output))
    foreign = record_path(output) if record is None and os.path.lexists(record_path(output)) else None
    if there and (record is None or not output.is_file()):
        foreign = output
    if foreign:
        raise InputError(
            f"'{foreign}' exists and was not made by a batch.", next_step="Move it, or choose another output folder."
        )
    wanted = {
        "case": case.name,
        "input": str(case.input.absolute()),
        "input_sha256": sha256_of_input(case.input, case.series),
        "mask": str(case.mask.absolute()) if case.mask else None,
        "mask_sha256": sha256_of_input(case.mask, None) if case.mask else None,
        "series": case.series,
        "frame": case.frame,
        "unit": case.unit,
        "model_digest": settings.digest,
    }
    if record is None or not there:
        return Outcome(case, "not run", wanted)
    found = sha256_of(output)
    if found != record.get("output_sha256"):
        name = output.name.removesuffix(settings.suffix)
        return Outcome(case, "not run", wanted, aside=f"{name}.changed-{found[:8]}{settings.suffix}")
    if settings.force or any(record.get(key, "") != wanted[key] for key in _SAME):
        return Outcome(case, "not run", wanted)
    return Outcome(case, "skipped", record)


def _compute(case: BatchCase, settings: Settings, model: Model, part: Path, cancel: Cancel) -> dict[str, Any]:
    """The case's volume in `part`, and the facts of its record that the run decides."""
    from SynthGANLib.io.volumes import write_volume

    output = settings.output(case)
    mask = str(case.mask) if case.mask else None
    choices = replace(settings.choices, mask=mask, series=case.series, frame=case.frame, input_unit=case.unit)
    volume = choices.read(case.input)
    check_kind(output, model.card.target.unit, volume.grid)
    result = choices.synthesize(volume, model, choices.read_mask(), cancel=cancel)
    written = part / ("volume" + settings.suffix)
    write_volume(result, written)
    facts = facts_of(result, choices.device)
    return {
        "output": output.name,
        "output_sha256": sha256_of(written),
        "model": settings.identity,
        "version": settings.version,
        "weights_sha256": settings.weights_sha256,
        # Networks draw nothing; the classical methods draw from this seed, which is 0 unless the card says another.
        "seed": model.card.method.arguments.get("seed", 0),
        **facts,
        "warnings": [" ".join(sentence.split()) for sentence in facts["warnings"]],
        "versions": versions(),
    }


def collected(case: BatchCase, action: Callable[[], Outcome]) -> Outcome:
    """What `action` returns, or a "failed" outcome for what it raises; only CancelledError passes."""
    try:
        return action()
    except CancelledError:
        raise
    except SynthGANError as error:
        return failed(case, error)
    except MemoryError:
        exhausted = MemoryExhaustedError(
            "Memory ran out while the volume was read or written.",
            next_step="Close other programs, crop the volume, or use a machine with more memory.",
        )
        return failed(case, exhausted)
    except OSError as error:
        return failed(case, disk_refused(error))
    except Exception as error:  # a defect of ours in one case: told with its trace, and the others still run  # noqa: BLE001
        problem = SynthGANError(
            f"The case failed by an error of the program itself ({type(error).__name__}).",
            next_step="Report it together with the log.",
        )
        return replace(failed(case, problem), trace=traceback.format_exc())


def failed(case: BatchCase, error: SynthGANError) -> Outcome:
    """The outcome of a case that ended with `error`."""
    event = error_event(error)
    return Outcome(case, "failed", error={name: event[name] for name in ("kind", "cause", "next_step")})


def disk_refused(error: OSError) -> InputError:
    """The sentence for what the operating system refused."""
    where = f"'{error.filename}'" if error.filename else "The result"
    return InputError(
        f"{where} could not be read or written: {error.strerror or error}.",
        next_step="Free some space or correct the permissions, and start the batch again.",
    )
