"""Installing, verifying and deleting models; the child process does what takes time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError, fromLibrary
from SynthGANPanel.i18n import _
from SynthGANPanel.runs.childRun import ChildRun
from SynthGANPanel.runs.wording import withPercent

if TYPE_CHECKING:
    from SynthGANLib.model.card import Card
    from SynthGANLib.model.catalogue import Entry
    from SynthGANPanel.runs.childRun import Prepared
    from SynthGANPanel.runs.workerProcess import Event


class ModelTask(ChildRun):
    """A job on models. Its `outcome` is the worker's closing event.

    :param job: {"job": "install", "source", "sha256", "force"} or {"job": "verify", "model"}
    """

    def __init__(
        self,
        job: Event,
        progressCallback: Callable[[float, str], Any] | None = None,
        completedCallback: Callable[[Any], Any] | None = None,
    ) -> None:
        ChildRun.__init__(self, progressCallback, completedCallback)
        self.CANCELLED = _("Cancelled; no model was changed.")
        self.job = job

    def _check(self) -> None:
        if self.job["job"] == "verify":
            environment.checkPackages(_("Verifying a model needs {names}."))

    def _prepare(self, folder: Path) -> Prepared:
        return self.job, []

    def _store(self, done: Event) -> Event:
        return done

    def _describe(self, event: Event) -> str:
        stages = {
            "start": _("Starting"),
            "cancel": _("Cancelling"),
            "fetch": _("Fetching the model"),
            "install": _("Checking and copying the model"),
            "model": _("Checking the model"),
        }
        return withPercent(stages.get(str(event.get("stage")), _("Working")), event)


def installJob(source: str, sha256: str = "", force: bool = False) -> Event:
    """The job that installs a model from a folder, a zip or an https address.

    :raises SynthesisError: for an address without a checksum
    """
    environment.useLibrary()
    from SynthGANLib.errors import SynthGANError
    from SynthGANLib.files import checked_digest
    from SynthGANLib.model.download import checked_address, is_address

    source, sha256 = source.strip(), sha256.strip()
    if not source:
        raise SynthesisError(_("No model was named."), _("Give a folder, a zip file or an https address."))
    try:
        if is_address(source):
            checked_address(source)
            if not sha256:
                raise SynthesisError(
                    _("An address needs the checksum of its file."),
                    _("Copy the SHA-256 from the page that offers the model."),
                )
        if sha256:
            checked_digest(sha256)
    except SynthGANError as error:
        raise fromLibrary(error) from error
    return {"job": "install", "source": source, "sha256": sha256, "force": force}


def removable(entry: Entry | None) -> bool:
    """Whether a model lies in the user's folder, from which alone models are deleted."""
    environment.useLibrary()
    from SynthGANLib.model.catalogue import user_folder

    return entry is not None and entry.path.parent == user_folder()


def remove(entry: Entry) -> None:
    """Delete a model of the user's folder.

    :raises SynthesisError: for any other model, or if the disk refuses
    """
    environment.useLibrary()
    from SynthGANLib.errors import SynthGANError
    from SynthGANLib.model.catalogue import Catalogue

    try:
        Catalogue().remove(entry.path)
    except SynthGANError as error:
        raise fromLibrary(error) from error


def folderSize(entry: Entry) -> str:
    """The bytes of a model's folder, in words."""
    size = sum(path.stat().st_size for path in entry.path.rglob("*") if path.is_file())
    if size < 1e6:
        return _("{size} kB").format(size=round(size / 1e3))
    return _("{size} MB").format(size=f"{size / 1e6:.1f}")


def termsAcceptedOn(card: Card) -> str:
    """The date on which the user accepted a model's terms on this machine, "" if it was not done."""
    environment.useLibrary()
    from SynthGANLib.model.consent import accepted_on

    return accepted_on(card)


def acceptTerms(card: Card) -> str:
    """Record that the user accepts a model's terms.

    :raises SynthesisError: if the record cannot be written
    """
    environment.useLibrary()
    from SynthGANLib.errors import SynthGANError
    from SynthGANLib.model.consent import accept

    try:
        return accept(card)
    except SynthGANError as error:
        raise fromLibrary(error) from error
