"""The jobs "install" and "verify" of the child process: a model from a folder, zip or address; its test vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SynthGANLib.decoding import Origin, decode
from SynthGANLib.errors import InputError, ModelError
from SynthGANLib.files import checked_digest, sha256_of
from SynthGANLib.model.catalogue import Catalogue, expanded
from SynthGANLib.model.download import checked_address, download_file, is_address

INSTALL, VERIFY = "install", "verify"
JOB = Origin("the job")


@dataclass(frozen=True)
class InstallJob:
    """The fields of a job "install"; see `install`."""

    source: str
    sha256: str = ""
    force: bool = False


@dataclass(frozen=True)
class VerifyJob:
    """The fields of a job "verify"; `model`: id or folder."""

    model: str


Report = Callable[[str, float], None]
"""Told each stage and the share that is done by then; what it raises ends the job."""


def install(
    catalogue: Catalogue,
    source: str,
    *,
    sha256: str = "",
    force: bool = False,
    report: Report = lambda stage, fraction: None,
    cancel: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Install the model at `source`, a folder, a zip or an https address, into the user's folder.

    Args:
        sha256: of the zip; required for an address. force: replace a model of the same id.

    Returns: the entry of the catalogue, as JSON values.

    Raises:
        InputError: a checksum is missing or wrong, or the network fails.
        ModelError: the model is refused or there already.
        CancelledError: `cancel` returned true.
    """
    report("fetch", 0.0)
    if not is_address(source):
        if sha256:
            _check_digest(expanded(source), checked_digest(sha256))
        report("install", 0.5)
        return catalogue.install(source, force=force).to_json()
    if not sha256:
        raise InputError(
            f"No checksum was given for '{source}'.",
            next_step="Give the SHA-256 from the page that offers the model: without it nothing proves what arrives.",
        )
    checked_address(source)
    catalogue.user_folder.mkdir(parents=True, exist_ok=True)
    archive = catalogue.user_folder / f".{checked_digest(sha256)[:16]}.zip"

    def tell(done: int, total: int | None) -> None:
        report("fetch", 0.9 * done / total if total else 0.0)

    download_file(source, archive, sha256, progress=tell, cancel=cancel)
    try:
        report("install", 0.9)
        return catalogue.install(archive, force=force).to_json()
    except ModelError as error:  # the hidden copy is none of the user's business: name what they gave
        raise ModelError(str(error).replace(str(archive), source), next_step=error.next_step) from None
    finally:
        archive.unlink(missing_ok=True)


def verify(catalogue: Catalogue, model: str, *, report: Report = lambda stage, fraction: None) -> dict[str, Any]:
    """Check a model's files against their checksums and its test vector against the stored answer.

    Raises:
        ModelError: it is refused, with the reason.
    """
    folder = catalogue.find(model)
    report("model", 0.1)
    from SynthGANLib.model.model import Model

    card = Model.load(folder).card
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return {"model": card.id, "version": card.version, "path": str(folder), "bytes": size}


def run_model_job(
    content: Mapping[str, Any], catalogue: Catalogue, report: Report, cancel: Callable[[], bool]
) -> dict[str, Any]:
    """Run a parsed job "install" (source, sha256, force) or "verify" (model); InputError names a wrong field."""
    fields = {name: value for name, value in content.items() if name != "job"}
    if content.get("job") == VERIFY:
        return verify(catalogue, decode(VerifyJob, fields, JOB).model, report=report)
    job = decode(InstallJob, fields, JOB)
    return install(catalogue, job.source, sha256=job.sha256, force=job.force, report=report, cancel=cancel)


def _check_digest(path: Path, wanted: str) -> None:
    if not path.is_file():
        raise InputError(f"'{path}' is not a file, so it has no checksum.", next_step="Give none, or give the zip.")
    found = sha256_of(path)
    if found != wanted:
        raise InputError(
            f"'{path}' has another checksum ({found[:16]}...) than the one given ({wanted[:16]}...).",
            next_step="Get the file again.",
        )
