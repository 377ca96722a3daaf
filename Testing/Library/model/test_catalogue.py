"""Where models are found, and how they get there and go."""

from __future__ import annotations

import os
import stat
import sys
import zipfile
from pathlib import Path

import pytest
from model_folders import classical_card, edit_json, network_card, tiny_model

from SynthGANLib.errors import ModelError
from SynthGANLib.model import catalogue as module
from SynthGANLib.model.card import SourceSpec
from SynthGANLib.model.catalogue import Catalogue, bundled_folders, user_folder
from SynthGANLib.model.model import Model


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two working models, a broken one, and things that are no models."""
    shelf = tmp_path_factory.mktemp("shelf")
    tiny_model().save(shelf / "tiny-mr-ct")
    pet = SourceSpec("PT", "SUVbw", ("FDG",))
    tiny_model(network_card(id="pet-ct", source=pet, anatomy="whole body")).save(shelf / "pet")
    tiny_model(network_card(id="broken")).save(shelf / "broken")
    (shelf / "broken" / "weights.safetensors").unlink()
    (shelf / "notes").mkdir()
    (shelf / "README.md").write_text("x")
    (shelf / ".hidden.part").mkdir()
    return shelf


@pytest.fixture
def empty(tmp_path: Path) -> Catalogue:
    """A catalogue of nothing but an own user folder."""
    user = tmp_path / "user data ü"
    return Catalogue([user], user=user)


def zip_of(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    return target


def test_broken_folders_are_listed_with_their_error_and_are_not_fatal(shelf: Path) -> None:
    entries = Catalogue([shelf]).models()
    assert [entry.id for entry in entries] == ["pet-ct", "tiny-mr-ct", "broken"]
    assert [entry.error is None for entry in entries] == [True, True, False]
    assert "weights.safetensors" in str(entries[2].error)
    assert entries[1].to_json() == {
        "id": "tiny-mr-ct",
        "version": "1.0.0",
        "title": "Tiny MR to CT",
        "source": "MR",
        "target": "CT",
        "anatomy": "head",
        "path": str(shelf / "tiny-mr-ct"),
        "error": None,
    }


def test_search_by_direction_anatomy_and_text(shelf: Path) -> None:
    catalogue = Catalogue([shelf])

    def ids(**words: str) -> list[str]:
        return [entry.id for entry in catalogue.search(**words)]

    assert ids() == ["pet-ct", "tiny-mr-ct"]
    assert ids(source="MR", target="CT") == ["tiny-mr-ct"]
    assert ids(source="pet") == ["pet-ct"]
    assert ids(source="mri") == ["tiny-mr-ct"]
    assert ids(target="PT") == []
    assert ids(anatomy="Body") == ["pet-ct"]
    assert ids(text="fdg") == ["pet-ct"]
    assert ids(text="unet", source="MR") == ["tiny-mr-ct"]


def test_find_by_id_version_and_path(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue([shelf])
    assert catalogue.find("tiny-mr-ct") == shelf / "tiny-mr-ct"
    assert catalogue.find("tiny-mr-ct@1.0.0") == shelf / "tiny-mr-ct"
    assert catalogue.find(shelf / "pet") == shelf / "pet"
    assert catalogue.find(shelf / "pet" / "model.json") == shelf / "pet"
    monkeypatch.chdir(shelf)
    assert catalogue.find("./pet").samefile(shelf / "pet")
    assert Catalogue([]).find("pet").samefile(shelf / "pet")
    for unknown in ("tiny-mr-ct@2.0.0", "nothing", ""):
        with pytest.raises(ModelError) as caught:
            catalogue.find(unknown)
        assert "tiny-mr-ct" in caught.value.next_step
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        catalogue.find("broken")
    with pytest.raises(ModelError, match="no model folder"):
        catalogue.find(shelf / "nowhere")


def test_first_folder_wins_and_the_newest_version_is_taken(tmp_path: Path) -> None:
    for shelf, version in (("a", "1.9.0"), ("b", "1.10.0"), ("b2", "1.10.0"), ("c", "1.10.0-rc1")):
        (tmp_path / shelf).mkdir()
        Model.build(classical_card(version=version)).save(tmp_path / shelf / "m")
    folders = [tmp_path / name for name in ("c", "a", "b", "b2")]
    catalogue = Catalogue(folders)
    assert catalogue.find("tissue-test") == tmp_path / "b" / "m"
    assert catalogue.find("tissue-test@1.9.0") == tmp_path / "a" / "m"
    assert [entry.version for entry in catalogue.models()] == ["1.9.0", "1.10.0-rc1", "1.10.0"]
    assert Catalogue([]).with_folders([tmp_path / "b2"]).find("tissue-test") == tmp_path / "b2" / "m"


def test_absent_and_unreadable_folders_hold_no_models(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert Catalogue([tmp_path / "nowhere", tmp_path / "file"]).models() == []
    with pytest.raises(ModelError) as caught:
        Catalogue([tmp_path / "nowhere"]).find("x")
    assert str(tmp_path / "nowhere") in caught.value.next_step


def test_a_folder_that_may_not_be_looked_into_hides_nothing_but_itself(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.exists

    def forbid(path: Path, **options: bool) -> bool:
        if path.parent.name == "notes":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, **options)

    monkeypatch.setattr(Path, "exists", forbid)
    assert [entry.id for entry in Catalogue([shelf]).models()] == ["pet-ct", "tiny-mr-ct", "broken"]


@pytest.mark.parametrize("name", ["~no-such-user/models", "x" * 5000, "/" + "x" * 5000])
def test_names_that_no_system_takes_are_models_that_are_not_there(
    shelf: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="There is no model"):
        Catalogue([shelf]).find(name)
    monkeypatch.setenv("SYNTHGAN_MODELS", name)
    monkeypatch.setenv("SYNTHGAN_MODEL_FOLDER", name)
    assert "tissue-mr-ct" in [entry.id for entry in Catalogue().models()]


def test_a_folder_that_is_a_model_itself_holds_that_one(shelf: Path) -> None:
    assert [entry.id for entry in Catalogue([shelf / "pet"]).models()] == ["pet-ct"]


def test_a_change_is_seen_without_a_new_catalogue(empty: Catalogue) -> None:
    assert empty.models() == []
    empty.user_folder.mkdir()
    Model.build(classical_card()).save(empty.user_folder / "m")
    assert [entry.id for entry in empty.models()] == ["tissue-test"]


# where folders are


def test_the_user_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert user_folder() == tmp_path / ".local/share/synthgan/models"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert user_folder() == tmp_path / "data/synthgan/models"
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
    assert user_folder() == tmp_path / ".local/share/synthgan/models"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert user_folder() == tmp_path / "Library/Application Support/SynthGAN/Models"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert user_folder() == tmp_path / "local/SynthGAN/Models"
    monkeypatch.delenv("LOCALAPPDATA")
    assert user_folder() == tmp_path / "AppData/Local/SynthGAN/Models"


@pytest.mark.parametrize("place", ["Resources/Models", "SynthGANLib/Resources/Models"])
def test_bundled_models_beside_or_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A checkout and an installed extension have them beside the package, a wheel inside."""
    package = tmp_path / "SynthGANLib"
    (package / "model").mkdir(parents=True)
    (package / "model" / "catalogue.py").write_text("")
    monkeypatch.setattr(module, "__file__", str(package / "model" / "catalogue.py"))
    assert bundled_folders() == ()
    (tmp_path / place).mkdir(parents=True)
    Model.build(classical_card()).save(tmp_path / place / "m")
    monkeypatch.setenv("SYNTHGAN_MODELS", "")
    monkeypatch.setattr(module, "user_folder", lambda: tmp_path / "none")
    assert Catalogue().find("tissue-test") == tmp_path / place / "m"


def test_environment_variable_lists_folders_that_come_first(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHGAN_MODELS", f"{tmp_path}{os.pathsep} {os.pathsep}{shelf}")
    assert Catalogue().folders[:2] == (tmp_path, shelf)
    assert Catalogue().find("pet-ct") == shelf / "pet"


# installing


@pytest.mark.parametrize("prefix", ["", "tiny/"])
def test_install_from_zip_and_remove(shelf: Path, tmp_path: Path, empty: Catalogue, prefix: str) -> None:
    archive = zip_of(shelf / "tiny-mr-ct", tmp_path / "m.zip", prefix)
    with zipfile.ZipFile(archive, "a") as content:
        content.writestr("__MACOSX/._model.json", "x")
        content.writestr(prefix + ".DS_Store", "x")
    entry = empty.install(archive)
    assert entry.path == empty.user_folder / "tiny-mr-ct"
    assert entry.error is None
    Model.load(entry.path).verify()
    assert {path.name for path in entry.path.iterdir()} == {p.name for p in (shelf / "tiny-mr-ct").iterdir()}
    with pytest.raises(ModelError, match="exists already"):
        empty.install(archive)
    empty.install(archive, force=True)
    assert [path.name for path in empty.user_folder.iterdir()] == ["tiny-mr-ct"]
    assert empty.remove("tiny-mr-ct") == entry.path
    assert list(empty.user_folder.iterdir()) == []


def test_install_from_folder_checks_the_copy(shelf: Path, tmp_path: Path, empty: Catalogue) -> None:
    source = tmp_path / "copy"
    tiny_model(seed=5).save(source)
    data = bytearray((source / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (source / "weights.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256") as caught:
        empty.install(source)
    assert str(source) in str(caught.value)
    assert ".part" not in str(caught.value)
    assert list(empty.user_folder.iterdir()) == []
    empty.install(shelf / "tiny-mr-ct")
    assert [entry.id for entry in empty.models()] == ["tiny-mr-ct"]
    with pytest.raises(ModelError, match="no file or folder"):
        empty.install(tmp_path / "nowhere.zip")


def hostile_zip(target: Path, shelf: Path, name: str, data: bytes = b"x", mode: int = 0) -> Path:
    """The tiny model with one more member."""
    zip_of(shelf / "tiny-mr-ct", target)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as content:
        member = zipfile.ZipInfo("placeholder")
        member.filename = name
        member.external_attr = mode << 16
        member.compress_type = zipfile.ZIP_DEFLATED
        content.writestr(member, data)
    return target


HOSTILE = {
    "out of the folder": ("../evil.txt", "unsafe"),
    "out, deeper": ("a/../../evil.txt", "unsafe"),
    "absolute": ("/evil.txt", "unsafe"),
    "drive": ("C:evil.txt", "unsafe"),
    "backslash": ("..\\evil.txt", "unsafe"),
    "subfolder": ("sub/evil.txt", "beside or below"),
    "unlisted": ("evil.txt", "does not list"),
    "code": ("evil.py", "types"),
    "device name": ("con.txt", "plain file names"),
    "second card": ("other/model.json", "2 model.json"),
    "same name twice": ("model.json", "twice"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("name", "word"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_archive_is_refused_and_leaves_nothing(
    shelf: Path, tmp_path: Path, empty: Catalogue, name: str, word: str
) -> None:
    archive = hostile_zip(tmp_path / "m.zip", shelf, name)
    with pytest.raises(ModelError) as caught:
        empty.install(archive)
    assert word in str(caught.value)
    assert list(empty.user_folder.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"m.zip", empty.user_folder.name}


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_an_archive_are_refused(shelf: Path, tmp_path: Path, empty: Catalogue, mode: int) -> None:
    archive = hostile_zip(tmp_path / "m.zip", shelf, "a.txt", b"/etc/passwd", mode | 0o777)
    with pytest.raises(ModelError, match="link or a device"):
        empty.install(archive)
    assert list(empty.user_folder.iterdir()) == []


def test_a_bomb_is_stopped_before_it_fills_the_disk(shelf: Path, tmp_path: Path, empty: Catalogue) -> None:
    """200 MB of zeros shrink to 0.2 MB; what comes out is counted, whatever the archive says."""
    archive = hostile_zip(tmp_path / "m.zip", shelf, "zeros.txt", bytes(200 * 2**20))
    with pytest.raises(ModelError, match="far more"):
        empty.install(archive)
    assert list(empty.user_folder.iterdir()) == []


def test_damaged_archives_are_refused(shelf: Path, tmp_path: Path, empty: Catalogue) -> None:
    archive = zip_of(shelf / "tiny-mr-ct", tmp_path / "m.zip")
    data = archive.read_bytes()
    for damaged in (b"", b"no zip at all", data[: len(data) // 2], data[:200] + bytes(64) + data[264:]):
        archive.write_bytes(damaged)
        with pytest.raises(ModelError):
            empty.install(archive)
        assert list(empty.user_folder.iterdir()) == []
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("a.txt", "x")
    with pytest.raises(ModelError, match=r"0 model\.json"):
        empty.install(archive)


def test_remove_touches_the_user_folder_only(shelf: Path, tmp_path: Path) -> None:
    user = tmp_path / "user"
    user.mkdir()
    catalogue = Catalogue([shelf, user], user=user)
    for name in ("tiny-mr-ct", str(shelf / "tiny-mr-ct"), "../shelf", str(user), "."):
        with pytest.raises(ModelError, match="no model"):
            catalogue.remove(name)
    assert (shelf / "tiny-mr-ct" / "model.json").exists()
    Model.build(classical_card()).save(user / "a")
    edit_json(user / "a", lambda content: content.update(format_version=9))
    assert catalogue.remove(user / "a") == user / "a"  # a broken one can be removed, too
    assert list(user.iterdir()) == []


def test_bundled_models_are_whole() -> None:
    """Each model that comes with the sources loads; changed line ends after a checkout would show here."""
    entries = Catalogue(bundled_folders()).models()
    assert entries
    for entry in entries:
        assert entry.error is None, entry.error
        assert entry.path.name == entry.id
        Model.load(entry.path).verify()
