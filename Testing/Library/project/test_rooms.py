"""The layout of the library: what loads no torch, what packages import, and lists that follow the tree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from Tools import cmake_lists

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "SynthGANLib"
PACKAGES = sorted(path for path in LIBRARY.rglob("__init__.py"))
TORCH_FREE = (
    "errors", "files", "signals", "strict_json", "decoding", "lazy", "progress_line", "image", "io", "evaluation",
    "batch", "cli",
    "jobs.run", "jobs.events", "inference.plan", "inference.estimate", "inference.fitness", "inference.progress",
    "inference.provenance", "model.card", "model.card_checks", "model.card_specs", "model.card_text",
    "model.catalogue", "model.folder", "model.archive", "model.download", "model.consent",
)  # fmt: skip
"""Modules and packages, with all that is in them, that must not load torch: they work before it is installed."""


def modules_of(name: str) -> list[str]:
    """Dotted names of a module, or of a package and everything in it."""
    place = LIBRARY / name.replace(".", "/")
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    dotted = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in files]
    return [each.removesuffix(".__init__") for each in dotted]


def test_the_light_part_loads_no_torch() -> None:
    names = [name for entry in TORCH_FREE for name in modules_of(entry)]
    assert len(names) > 50
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} loads torch'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_a_package_imports_nothing_when_it_is_loaded(path: Path) -> None:
    allowed = {"__future__", "typing", "SynthGANLib.lazy"}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            assert not node.names, f"{path} imports {node.names[0].name}"
        if isinstance(node, ast.ImportFrom):
            assert node.module in allowed, f"{path} imports {node.module}"


def test_no_module_is_named_like_what_it_defines() -> None:
    """`package.name` is then either the module or the function, whichever was imported first."""
    for path in LIBRARY.rglob("*.py"):
        defined = {
            node.name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert path.stem not in defined - {"main"}, path


@pytest.mark.parametrize("name", sorted({row[0] for row in cmake_lists.LISTS}))
def test_cmake_lists_follow_the_tree(name: str) -> None:
    assert cmake_lists.with_lists(name) == (ROOT / name).read_text(encoding="utf-8"), "run 'make lists'"


def test_stale_cmake_lists_are_found(tmp_path: Path) -> None:
    """A file that is new, one that is gone, and names with the module's name in them."""
    for name in {row[0] for row in cmake_lists.LISTS}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "SynthGANLib" / "new").mkdir(parents=True)
    (tmp_path / "SynthGANLib" / "new" / "room.py").touch()
    text = cmake_lists.with_lists("CMakeLists.txt", tmp_path)
    assert re.findall(r"^  (.*\.py)$", text, re.MULTILINE) == ["new/room.py"]
    (tmp_path / "SynthGAN" / "SynthGAN.py").touch()
    text = cmake_lists.with_lists("SynthGAN/CMakeLists.txt", tmp_path)
    assert "  ${MODULE_NAME}.py\n" in text


def test_contributing_shows_the_arrows_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^(library|panel): (.*)$", text, re.MULTILINE))
    for contract in contracts:
        if contract["type"] == "layers":
            arrows = " > ".join(layer.replace(" : ", ", ") for layer in contract["layers"])
            assert shown[contract["name"].split(":")[0]] == arrows
