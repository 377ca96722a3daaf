"""Which models there are: bundled, the user's own, and those of ``SYNTHGAN_MODELS``. Loads no torch."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from SynthGANLib.errors import ModelError
from SynthGANLib.files import move_into_place
from SynthGANLib.model.archive import unpack
from SynthGANLib.model.card import CARD, Card
from SynthGANLib.model.folder import LITTER, check_folder, check_target, read_card

_ALIASES = {"PET": "PT", "MRI": "MR", "FUNDUS": "OP"}


@dataclass(frozen=True)
class Entry:
    """One folder of the catalogue; where ``error`` is set it is refused and only ``path`` is sure."""

    id: str
    version: str
    title: str
    source: str
    target: str
    anatomy: str
    path: Path
    card: Card | None = None
    error: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Plain text values, as ``synthgan models --json`` lists them."""
        names = ("id", "version", "title", "source", "target", "anatomy")
        return {**{name: getattr(self, name) for name in names}, "path": str(self.path), "error": self.error}


class Catalogue:
    """Models in ``folders``, first wins; by default ``SYNTHGAN_MODELS``, the user's folder, the bundled one.

    Nothing is kept between calls: a folder that appears or changes is seen at the next question.
    """

    def __init__(self, folders: Iterable[str | Path] | None = None, *, user: str | Path | None = None) -> None:
        self.user_folder = Path(user) if user is not None else user_folder()
        if folders is None:
            self.folders: tuple[Path, ...] = (*listed_folders(), self.user_folder, *bundled_folders())
        else:
            self.folders = tuple(Path(folder) for folder in folders)

    def with_folders(self, extra: Sequence[str | Path]) -> Catalogue:
        """The same catalogue, looking into ``extra`` first."""
        return Catalogue((*map(Path, extra), *self.folders), user=self.user_folder)

    def models(self) -> list[Entry]:
        """Every model folder, broken ones with their error; of equal id and version the first is kept."""
        entries: list[Entry] = []
        seen: set[tuple[str, str]] = set()
        for folder in dict.fromkeys(self.folders):
            for path in _subfolders(folder):
                entry = read_entry(path)
                if entry.error is None and (entry.id, entry.version) in seen:
                    continue
                if entry.error is None:
                    seen.add((entry.id, entry.version))
                entries.append(entry)
        return sorted(entries, key=lambda entry: (entry.error is not None, entry.id, _version_key(entry.version)))

    def search(self, *, source: str = "", target: str = "", anatomy: str = "", text: str = "") -> list[Entry]:
        """Working models that match every given word; PET and MRI are understood for PT and MR."""
        found = []
        for entry in self.models():
            card = entry.card
            if card is None:
                continue
            words = " ".join(
                (
                    card.id,
                    card.title,
                    card.description,
                    card.anatomy,
                    card.method.name,
                    *card.source.sequences,
                )
            )
            if (
                _code(source) in ("", card.source.modality)
                and _code(target) in ("", card.target.modality)
                and anatomy.lower() in card.anatomy.lower()
                and text.lower() in words.lower()
            ):
                found.append(entry)
        return found

    def find(self, model: str | Path) -> Path:
        """The folder of a model given by id, ``id@version`` or path; of several versions the newest.

        Raises:
            ModelError: with the known ids if there is none, with the reason if it is there but broken.
        """
        text = str(model)
        if not text:
            raise ModelError("No model was named.", next_step=self._known())
        if _is_path(text):
            path = expanded(text)
            if path.name == CARD:
                path = path.parent
            if not _is_folder(path):
                raise ModelError(f"There is no model folder '{path}'.", next_step=self._known())
            return path
        identity, _, version = text.partition("@")
        entries = self.models()
        matches = [entry for entry in entries if entry.id == identity and version in ("", entry.version)]
        working = [entry for entry in matches if entry.error is None]
        if working:
            return max(working, key=lambda entry: _version_key(entry.version)).path
        if matches:
            raise ModelError(str(matches[0].error), next_step="Get the model again, or remove the folder.")
        if _is_folder(Path(text)):  # a folder in the working folder, named without "./"
            return Path(text)
        raise ModelError(f"There is no model '{text}'.", next_step=self._known())

    def install(self, source: str | Path, *, force: bool = False) -> Entry:
        """Copy a model folder or zip archive into the user's folder, checked before it becomes visible.

        Raises:
            ModelError: for an archive or folder that is refused, or a model that is there already.
        """
        source = expanded(source)
        try:
            self.user_folder.mkdir(parents=True, exist_ok=True)
            part = self.user_folder / f".{uuid.uuid4().hex[:8]}.part"
            try:
                card = _copy_checked(source, part)
                target = self.user_folder / card.id
                check_target(target, force=force)
                move_into_place(part, target)
            finally:
                shutil.rmtree(part, ignore_errors=True)  # gone already where the rename succeeded
        except OSError as error:
            raise ModelError(
                f"The model '{source}' cannot be installed into '{self.user_folder}' ({error.strerror}).",
                next_step="Check permissions and free space.",
            ) from error
        return read_entry(target)

    def remove(self, model: str | Path) -> Path:
        """Delete a model of the user's folder, no other (ModelError), and return the folder it had."""
        text = str(model)
        for path in _subfolders(self.user_folder):
            entry = read_entry(path)
            same = _is_path(text) and Path(text).absolute() == path.absolute()
            if same or text in (entry.id, f"{entry.id}@{entry.version}"):
                hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
                try:
                    path.rename(hidden)  # at once invisible; what cannot be deleted stays hidden
                    shutil.rmtree(hidden)
                except OSError as error:
                    raise ModelError(
                        f"The model folder '{path}' cannot be removed ({error.strerror}).",
                        next_step="Close programs that use it and check its permissions.",
                    ) from error
                return path
        raise ModelError(
            f"There is no model '{text}' in the user's folder '{self.user_folder}'.",
            next_step="Bundled models and models in other folders are not removed from here.",
        )

    def _known(self) -> str:
        known = [entry.id for entry in self.models() if entry.error is None]
        if not known:
            return "No model is installed; looked in " + ", ".join(str(folder) for folder in self.folders) + "."
        return "Known models: " + ", ".join(dict.fromkeys(known)) + "."


def read_entry(path: Path) -> Entry:
    """The entry of a folder; a refused folder gives an entry with its error and the folder's name as id."""
    try:
        card = read_card(path)
    except ModelError as error:
        return Entry(path.name, "", path.name, "", "", "", path, None, str(error))
    return Entry(
        card.id,
        card.version,
        card.title,
        card.source.modality,
        card.target.modality,
        card.anatomy,
        path,
        card,
    )


def listed_folders() -> tuple[Path, ...]:
    """Folders of the environment variable ``SYNTHGAN_MODELS``, separated as in ``PATH``."""
    text = os.environ.get("SYNTHGAN_MODELS", "")
    return tuple(expanded(item) for item in text.split(os.pathsep) if item.strip())


def user_folder() -> Path:
    """Where the user's models are kept: ``SYNTHGAN_MODEL_FOLDER`` if that is set, else a folder of `data_folder`."""
    chosen = os.environ.get("SYNTHGAN_MODEL_FOLDER", "").strip()
    return expanded(chosen) if chosen else default_model_folder()


def default_model_folder() -> Path:
    """Where the user's models are kept unless another folder is named."""
    titled = sys.platform in ("win32", "darwin")  # where folders' names begin with a capital
    return data_folder() / ("Models" if titled else "models")


def data_folder() -> Path:
    """Where what SynthGAN remembers of the user is kept: ``SYNTHGAN_HOME`` if that is set, else the platform's."""
    home = os.environ.get("SYNTHGAN_HOME", "").strip()
    return expanded(home) if home else platform_folder()


def platform_folder() -> Path:
    """The data folder that the platform's conventions name for us."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "SynthGAN"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "SynthGAN"
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share") / "synthgan"


def bundled_folders() -> tuple[Path, ...]:
    """The bundled models: inside a wheel's package, else beside it (checkout, installed extension)."""
    package = Path(__file__).resolve().parents[1]
    candidates = (package / "Resources" / "Models", package.parent / "Resources" / "Models")
    return tuple(folder for folder in candidates if folder.is_dir())


def expanded(path: str | Path) -> Path:
    """The path with ``~`` replaced; where there is no such user it stays as it is, and is then not found."""
    return Path(os.path.expanduser(path))


def _subfolders(folder: Path) -> list[Path]:
    """Folders that mean to be models: not hidden, with a ``model.json`` or a file that only a model has.

    A folder that is a model itself holds that one.
    """
    try:
        if (folder / CARD).is_file():
            return [folder]
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _means_a_model(path))
    except OSError:  # a folder that is absent or unreadable holds no models; it may be a drive not connected now
        return []


def _means_a_model(path: Path) -> bool:
    try:
        return path.is_dir() and ((path / CARD).exists() or any(path.glob("*.safetensors")))
    except OSError:  # what cannot be looked into hides nothing but itself
        return False


def _is_folder(path: Path) -> bool:
    """Whether a folder is there; a name that the system cannot take, or may not look up, is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _copy_checked(source: Path, part: Path) -> Card:
    """Copy or unpack ``source`` to ``part`` and check what arrived there, file by file."""
    if source.is_dir():
        read_card(source)
        part.mkdir()
        for entry in source.iterdir():
            if entry.name not in LITTER:
                shutil.copyfile(entry, part / entry.name, follow_symlinks=False)
    elif source.is_file():
        unpack(source, part)
    else:
        raise ModelError(f"There is no file or folder '{source}'.", next_step="Choose a model folder or its zip file.")
    try:
        return check_folder(part)
    except ModelError as error:  # the hidden copy is none of the user's business: name what they gave
        raise ModelError(str(error).replace(str(part), str(source)), next_step=error.next_step) from None


def _is_path(text: str) -> bool:
    return any(mark in text for mark in ("/", "\\")) or text.startswith(("~", ".")) or os.path.isabs(text)


def _code(text: str) -> str:
    code = text.strip().upper()
    return _ALIASES.get(code, code)


def _version_key(version: str) -> tuple[tuple[int, ...], bool, str]:
    """1.2.0 after 1.1.9, a pre-release before its release."""
    numbers, _, pre = version.partition("-")
    return tuple(int(item) for item in numbers.split(".") if item.isdigit()), not pre, pre
