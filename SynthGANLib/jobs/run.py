"""One job from files to files, the same for panel, console and shell: what they share is this function.

A job is a JSON object; what happens is told as JSON events. Both are described at
:class:`SynthGANLib.jobs.synthesis.Job` and :func:`run_job`.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from SynthGANLib.errors import Cancel, MemoryExhaustedError, SynthGANError, refused_by_system
from SynthGANLib.inference.provenance import versions
from SynthGANLib.jobs.devices import CHECK, check_devices
from SynthGANLib.jobs.events import Emit, Steps, emit_error, emit_missing, emit_problem
from SynthGANLib.jobs.measurement import MEASURE, MeasureJob, run_measurement
from SynthGANLib.jobs.models import INSTALL, VERIFY, run_model_job
from SynthGANLib.jobs.synthesis import Job, run_synthesis
from SynthGANLib.model.catalogue import Catalogue


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
    :class:`SynthGANLib.inference.estimate.Run` as JSON) or ``error`` (kind, cause, next_step,
    exit_code). What ``done`` holds after a job "measure" is told at
    :meth:`SynthGANLib.evaluation.assessment.Assessment.to_json`.
    """
    asked = cancel or (lambda: False)
    try:
        if isinstance(job, Mapping) and job.get("job") == MEASURE:
            emit({"event": "done", **_measured(MeasureJob.from_json(job), emit, asked)})
            return 0
        if isinstance(job, Mapping) and job.get("job") in (INSTALL, VERIFY, CHECK):
            report = functools.partial(Steps(emit, asked).progress, seconds_left=None)
            if job["job"] == CHECK:
                emit({"event": "done", **check_devices(report)})
            else:
                emit({"event": "done", **run_model_job(job, catalogue or Catalogue(), report, asked)})
            return 0
        parsed = job if isinstance(job, Job) else Job.from_json(job)
        emit({"event": "done", **run_synthesis(parsed, emit, asked, catalogue or Catalogue())})
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
    except Exception as error:  # anything else is a defect of ours: told as such, with the trace for its report  # noqa: BLE001
        traceback.print_exc(file=sys.stderr)
        cause = f"The job failed by an error of the program itself ({type(error).__name__})."
        return emit_problem(emit, "internal", cause, "Report it together with the log.")


def _measured(job: MeasureJob, emit: Emit, cancel: Cancel) -> dict[str, Any]:
    steps = Steps(emit, cancel)
    found = run_measurement(job, steps.enter)
    steps.progress("done", 1.0, 0.0)
    return {**found, "versions": versions()}
