"""Where the library is, which Python runs it, which packages it needs and how they are installed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import slicer

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _

MINIMUM_SLICER = (5, 12)
"""The first Slicer with `slicer.packaging` and Python 3.12."""
TORCH_REQUIREMENT = ">=2.5"
TORCH = "PyTorch"
PENDING_KEY, WHEELS_KEY = "SynthGAN/InstallationPending", "SynthGAN/WheelFolder"
"""Keys of the application's settings."""
WORKER_MODULE = "SynthGANLib.jobs.worker"


def moduleFolder() -> Path:
    """The folder of `SynthGAN.py`."""
    return Path(__file__).resolve().parent.parent


def libraryFolder() -> Path:
    """The folder that holds `SynthGANLib`: beside the module when installed, one level up in a checkout.

    :raises SynthesisError: if it is in neither place
    """
    for folder in (moduleFolder(), moduleFolder().parent):
        if (folder / "SynthGANLib" / "__init__.py").is_file():
            return folder
    raise SynthesisError(
        _("The folder SynthGANLib is missing beside '{folder}'.").format(folder=moduleFolder()),
        _("Reinstall the SynthGAN extension."),
        "package",
    )


def useLibrary() -> None:
    """Make `import SynthGANLib` work in this process."""
    folder = str(libraryFolder())
    if folder not in sys.path:
        sys.path.append(folder)


def slicerTooOld() -> str:
    """A sentence for a Slicer that lacks what the module needs, "" otherwise."""
    app = getattr(slicer, "app", None)
    if app is None or (app.majorVersion, app.minorVersion) >= MINIMUM_SLICER:
        return ""
    return _("SynthGAN needs Slicer {needed} or later, and this is Slicer {found}: please update Slicer.").format(
        needed="{}.{}".format(*MINIMUM_SLICER), found=app.applicationVersion
    )


def requirementsFile() -> Path:
    """The small packages, one requirement a line; PyTorch is not among them: it comes by its own extension."""
    return moduleFolder() / "Resources" / "requirements.txt"


def missingPackages() -> list[str]:
    """Names of the packages that still have to be installed; nothing is imported or started for that."""
    importlib.invalidate_caches()
    missing = [] if _torchFound() else [TORCH]
    for line in requirementsFile().read_text(encoding="utf-8").splitlines():
        requirement = line.strip()
        if requirement and not requirement.startswith("#") and not _satisfied(requirement):
            missing.append(re.split(r"[^A-Za-z0-9._-]", requirement)[0])
    return missing


def checkPackages(cause: str) -> None:
    """Refuse what needs packages that are missing.

    :param cause: the sentence of the error, with a place {names} for the packages
    :raises SynthesisError: naming them
    """
    missing = missingPackages()
    if missing:
        names = _(" and ").join(missing)
        raise SynthesisError(cause.format(names=names), _("Press Install in the SynthGAN module."), "package")


def downloadSize(missing: Sequence[str]) -> str:
    """What installing the `missing` packages downloads, rounded, in words.

    PyTorch's wheels without CUDA are about 0.2 GB (0.1 GB on macOS), those with it 2 to 4 GB.
    """
    if TORCH not in missing:
        return _("about 1 MB")
    if sys.platform == "darwin":
        return _("about 0.1 GB")
    return _("about 0.2 GB, or up to 4 GB with an NVIDIA GPU")


def install() -> None:
    """Install what is missing: small packages by Slicer's own installer, PyTorch by its extension.

    Only ever called by an explicit click. Blocks until done.

    :raises SynthesisError: if the PyTorch extension is absent or an installation did not succeed
    """
    import slicer.packaging

    requirements = slicer.packaging.load_requirements(requirementsFile())
    offline = wheelFolder()
    extension = None
    if TORCH in missingPackages():
        if offline:  # its extension looks for the right build on the internet; here the user has chosen it
            requirements.append(type(requirements[0])("torch" + TORCH_REQUIREMENT))
        else:
            extension = _torchExtension()
    _remember(PENDING_KEY, "yes")  # an installation may end in a restart before the next line is reached
    try:
        with _pipFrom(offline):
            # The click that led here named what is installed and its size, so nothing is asked again.
            slicer.packaging.pip_ensure(requirements, requester="SynthGAN", prompt_install=False)
        if extension is not None:
            extension.installTorch(torchVersionRequirement=TORCH_REQUIREMENT)
    except (RuntimeError, OSError, ImportError, ValueError, subprocess.SubprocessError) as error:
        # What Slicer's installer, the extension, pip and the disk raise when an installation fails.
        _remember(PENDING_KEY, "")
        raise _installationFailed(error) from error
    missing = missingPackages()
    if missing:
        _remember(PENDING_KEY, "")
        raise _installationFailed(_("still missing: {names}").format(names=", ".join(missing)))
    _remember(PENDING_KEY, "")


def installationPending() -> bool:
    """Whether an installation was begun, here or before a restart, and is not complete."""
    return bool(_remembered(PENDING_KEY))


def wheelFolder() -> str:
    """The folder of wheels that packages are installed from, "" for the internet."""
    return _remembered(WHEELS_KEY)


def setWheelFolder(folder: str | None) -> None:
    """Install from this folder of wheels from now on; "" goes back to the internet."""
    _remember(WHEELS_KEY, str(folder or ""))


@contextlib.contextmanager
def _pipFrom(folder: str) -> Iterator[None]:
    """Let pip install from a folder of wheels without network access; "" changes nothing."""
    wanted = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": Path(folder).as_uri()} if folder else {}
    former = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _remembered(key: str) -> str:
    try:
        import qt
    except ImportError:
        return ""  # settings belong to the application
    return str(qt.QSettings().value(key) or "")


def _remember(key: str, text: str) -> None:
    try:
        import qt
    except ImportError:
        return
    settings = qt.QSettings()
    if text:
        settings.setValue(key, text)
    else:
        settings.remove(key)


def pythonExecutable() -> str:
    """The Python that runs the worker: `PythonSlicer` in the application, this very Python elsewhere."""
    if getattr(slicer, "app", None) is not None:
        found = shutil.which("PythonSlicer")
        if found:
            return found
    return sys.executable


def workerCommand() -> list[str]:
    """Executable and arguments of the child process."""
    return [pythonExecutable(), "-m", WORKER_MODULE]


def workerEnvironment() -> dict[str, str]:
    """Environment of the child: this process's own, the library importable, text in UTF-8 on every platform."""
    environment = dict(os.environ)
    paths = [str(libraryFolder()), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    environment["PYTHONUTF8"] = "1"
    return environment


def privateFolder() -> Path:
    """A new folder that only this user can read, in Slicer's temporary folder."""
    parent = slicer.app.temporaryPath if getattr(slicer, "app", None) is not None else None
    try:
        return Path(tempfile.mkdtemp(prefix="SynthGAN-", dir=parent))
    except OSError as error:
        raise SynthesisError(
            _("No temporary folder can be made in '{folder}' ({reason}).").format(
                folder=parent or tempfile.gettempdir(), reason=error.strerror
            ),
            _("Choose another temporary folder in the application settings."),
        ) from error


def _torchFound() -> bool:
    """Whether a PyTorch is installed, from its metadata, since importing it takes seconds."""
    return importlib.util.find_spec("torch") is not None and _satisfied("torch" + TORCH_REQUIREMENT)


def _satisfied(requirement: str) -> bool:
    try:
        from slicer.packaging import pip_check
    except ImportError:
        # Without the application layer there is no installer either: only the presence of the package is checked.
        name = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
        return importlib.util.find_spec(name) is not None
    return pip_check(requirement)


def _torchExtension() -> Any:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise SynthesisError(
            _("PyTorch is installed by the PyTorch extension, which is not installed."),
            _("Install the extension PyTorch with the Extensions Manager and restart Slicer."),
            "package",
        ) from error
    return PyTorchUtils.PyTorchUtilsLogic()


def _installationFailed(reason: object) -> SynthesisError:
    nextStep = _("Check the internet connection and free disk space, restart Slicer and try again.")
    if wheelFolder():
        nextStep = _("Check that the folder of wheels holds all of them for this Slicer, and the free disk space.")
    return SynthesisError(
        _("The installation did not succeed ({reason}).").format(reason=str(reason).strip().rstrip(".")),
        nextStep,
        "package",
    )
