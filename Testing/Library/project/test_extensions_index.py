"""`SynthGAN.json`, the entry for Slicer's Extensions Index, and what the index measures of the repository.

`SynthGAN.json` is copied into Slicer/ExtensionsIndex when the extension is submitted. The rules here are those of the
entry's schema (version 1.0.1) and of the index's `scripts/check_description_files.py`; what the index says about
CMakeLists.txt, pictures and code is in `test_extension_rules.py`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ENTRY = ROOT / "SynthGAN.json"
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
REPOSITORY_PREFIXES = ("Slicer", "Slicer-", "Slicer_", "SlicerExtension-", "SlicerExtension_")
LARGEST_CLONE = 100 * 2**20
TIERS = (1, 3, 5)


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    content = json.loads(ENTRY.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def cmake_setting(name: str) -> str:
    found = re.search(rf'^set\({name} "([^"]*)"\)', text_of("CMakeLists.txt"), re.MULTILINE)
    assert found is not None, f"CMakeLists.txt does not set {name}"
    return found.group(1)


def test_entry_has_the_fields_of_the_schema(entry: dict[str, Any]) -> None:
    assert {name: type(value) for name, value in entry.items()} == {
        "$schema": str,
        "build_dependencies": list,
        "build_subdirectory": str,
        "category": str,
        "scm_revision": str,
        "scm_url": str,
        "tier": int,
    }
    assert entry["$schema"] == SCHEMA
    assert entry["tier"] in TIERS
    assert entry["build_subdirectory"] == "."  # no superbuild
    assert all(isinstance(name, str) and name for name in entry["build_dependencies"])


def test_entry_is_written_as_the_index_writes_it(entry: dict[str, Any]) -> None:
    """Line feeds only, keys in order, two spaces: what the index's own formatter leaves alone."""
    assert ENTRY.read_bytes() == (json.dumps(entry, indent=2, sort_keys=True) + "\n").encode()


def test_entry_project_and_module_have_one_name() -> None:
    assert re.findall(r"^project\((\w+)\)", text_of("CMakeLists.txt"), re.MULTILINE) == [ENTRY.stem]
    assert (ROOT / ENTRY.stem / f"{ENTRY.stem}.py").is_file()
    assert not ENTRY.stem.lower().startswith("slicer")


def test_entry_and_build_file_name_the_same_dependencies(entry: dict[str, Any]) -> None:
    assert " ".join(entry["build_dependencies"]) == cmake_setting("EXTENSION_DEPENDS")


def test_category_is_the_module_s(entry: dict[str, Any]) -> None:
    categories = re.findall(r'translate\("qSlicerAbstractCoreModule", "([^"]+)"\)', text_of("SynthGAN/SynthGAN.py"))
    assert categories == [entry["category"]]


def test_one_repository_address_everywhere(entry: dict[str, Any]) -> None:
    address = entry["scm_url"]
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    citation = re.findall(r'^repository-code: "([^"]+)"', text_of("CITATION.cff"), re.MULTILINE)
    site = re.findall(r"^repo_url: (\S+)", text_of("mkdocs.yml"), re.MULTILINE)
    assert cmake_setting("EXTENSION_HOMEPAGE") == address
    assert project["urls"]["Homepage"] == address
    assert citation == [address]
    assert site == [address]
    raw = f"{address.replace('github.com', 'raw.githubusercontent.com')}/{entry['scm_revision']}/"
    for name in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        for url in cmake_setting(name).split():
            assert url.startswith(raw), f"{url} is not of the revision that is built"


def test_every_link_to_the_repository_uses_its_address(entry: dict[str, Any]) -> None:
    """In what a visitor of the repository reads; a moved repository is renamed in all of it."""
    owner_and_name = entry["scm_url"].removeprefix("https://github.com/")
    pages = [*ROOT.glob("*.md"), *(ROOT / "Docs").rglob("*.md"), *(ROOT / ".github").rglob("*.*"), ROOT / "mkdocs.yml"]
    for page in pages:
        for found in re.findall(r"github\.com/(\w+/Slicer\w*SynthGAN\w*)", page.read_text(encoding="utf-8")):
            assert found == owner_and_name, f"{page.name} links to {found}"


def test_repository_name_is_allowed(entry: dict[str, Any]) -> None:
    assert entry["scm_url"].startswith("https://github.com/")
    assert entry["scm_url"].rsplit("/", 1)[-1].startswith(REPOSITORY_PREFIXES)


def git(*arguments: str, given: bytes | None = None) -> bytes:
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, check=True).stdout


def test_a_clone_is_small_enough() -> None:
    """The index counts a full clone: the files of the tree and the compressed objects of its whole history."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so the size of a clone cannot be measured")
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split(b"\0")
    paths = [ROOT / name.decode() for name in names if name]
    tree = sum(path.stat().st_size for path in paths if path.is_file())
    objects = b"".join(line.split()[0] + b"\n" for line in git("rev-list", "--objects", "HEAD").splitlines())
    sizes = git("cat-file", "--batch-check=%(objectsize:disk)", given=objects).split()
    assert tree > 0
    assert tree + sum(map(int, sizes)) < LARGEST_CLONE
