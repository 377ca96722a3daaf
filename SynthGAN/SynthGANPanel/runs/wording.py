"""Texts of the panel: progress, durations and the ways a child process can end."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from SynthGANPanel.runs.sequences import SequenceSynthesis
    from SynthGANPanel.runs.synthesis import Synthesis
    from SynthGANPanel.runs.workerProcess import Event


def describeProgress(event: Event) -> str:
    """One line for a `stage` or `progress` event of the worker: the stage, percent, time left."""
    text = withPercent(_stage(str(event.get("stage", ""))), event)
    seconds = event.get("seconds_left")
    if isinstance(seconds, (int, float)) and seconds > 0:
        text = _("{progress}, {time} left").format(progress=text, time=describeSeconds(seconds))
    return text


def withPercent(text: str, event: Event) -> str:
    """A text about a stage, followed by the percentage of it that is done, where the event gives one."""
    fraction = event.get("fraction")
    if isinstance(fraction, (int, float)) and 0 < fraction < 1:
        return _("{stage}: {percent} %").format(stage=text, percent=int(100 * fraction))
    return text


def describeSeconds(seconds: float) -> str:
    """A duration in seconds or minutes."""
    if seconds < 60:
        return _("{count} s").format(count=max(1, round(seconds)))
    return _("{count} min").format(count=round(seconds / 60))


def afterSuccess(run: Synthesis | SequenceSynthesis) -> str:
    """One line for a run that is done."""
    assert run.resultNode is not None  # since the run is done
    text = _("Created '{name}' in {time}.").format(name=run.resultNode.GetName(), time=describeSeconds(run.seconds))
    if run.warnings:
        text += " " + _("Warnings: {remark}").format(remark=" ".join(run.warnings))
    return text


def askToInstall(missing: Sequence[str], size: str) -> str:
    """The packages that are missing and their download size; "" if none is."""
    if not missing:
        return ""
    return _("Still to be installed: {names} (download: {size}).").format(names=", ".join(missing), size=size)


def afterExit(exitCode: int | None, event: Event | None, log: Sequence[str]) -> SynthesisError:
    """The error for a child process that ended without a result.

    :param event: the worker's `error` event, None if it sent none
    """
    if event is not None and event.get("cause"):
        return SynthesisError(str(event["cause"]), str(event.get("next_step", "")), str(event.get("kind", "")), log)
    if exitCode == 0:
        cause = _("The process ended without a result.")
    elif exitCode == -getattr(signal, "SIGKILL", 9):
        return SynthesisError(
            _("The system ended the process, most likely because memory ran out."),
            _("Close other programs, or set a memory limit under Advanced."),
            "memory",
            log,
        )
    else:
        cause = _("The process crashed (exit code {code}).").format(code=exitCode)
    return SynthesisError(cause, _("See Details for its last output, and try again."), "process", log)


def _stage(name: str) -> str:
    stages = {
        "model": _("Loading the model"),
        "read": _("Reading the volume"),
        "check": _("Checking the volume"),
        "conform": _("Preparing the volume"),
        "mask": _("Finding the body"),
        "predict": _("Synthesizing"),
        "restore": _("Placing the result"),
        "write": _("Writing the result"),
        "done": _("Finishing"),
    }
    return stages.get(name) or name.capitalize() or _("Working")
