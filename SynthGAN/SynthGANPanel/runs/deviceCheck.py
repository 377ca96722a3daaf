"""The check of the computing devices: a real kernel on every device, in the child process, and its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANPanel import environment
from SynthGANPanel.i18n import _
from SynthGANPanel.runs.childRun import ChildRun

if TYPE_CHECKING:
    from SynthGANPanel.runs.childRun import Prepared
    from SynthGANPanel.runs.workerProcess import Event


class DeviceCheck(ChildRun):
    """One check. Its `outcome` is the worker's closing event."""

    def __init__(
        self,
        progressCallback: Callable[[float, str], Any] | None = None,
        completedCallback: Callable[[Any], Any] | None = None,
    ) -> None:
        ChildRun.__init__(self, progressCallback, completedCallback)
        self.CANCELLED = _("The check was cancelled.")

    def _check(self) -> None:
        environment.checkPackages(_("The check needs {names}."))

    def _prepare(self, folder: Path) -> Prepared:
        return {"job": "check"}, []

    def _store(self, done: Event) -> Event:
        return done

    def _describe(self, event: Event) -> str:
        return _("Checking the devices")


def describe(outcome: Event) -> list[str]:
    """One line for each device: name, memory, and whether it works or what to do."""
    lines = []
    for entry in outcome.get("devices", []):
        name = " ".join(filter(None, (str(entry["device"]), str(entry["name"]))))
        memory = memoryText(entry)
        if entry["ok"]:
            lines.append(_("{device}: works{memory}.").format(device=name, memory=memory))
        else:
            lines.append(
                _("{device}: does not work. {message} {repair}").format(
                    device=name, message=entry["message"], repair=entry["repair"]
                )
            )
    return lines


def memoryText(entry: Any) -> str:
    """How much memory a device has, as the end of a sentence."""
    free, total = entry.get("free"), entry.get("memory")
    if free and total:
        return _(", {free} of {total} GB free").format(free=_gigabytes(free), total=_gigabytes(total))
    return _(", {free} GB free").format(free=_gigabytes(free)) if free else ""


def report(outcome: Event) -> str:
    """The whole outcome as text for a support request."""
    cuda = outcome.get("cuda") or "without CUDA"
    head = f"{outcome.get('system', '')}; PyTorch {outcome.get('torch', '')} ({cuda})"
    return "\n".join([head, *describe(outcome)])


def _gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f}"
