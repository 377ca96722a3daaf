"""The rules for entering Slicer's Extensions Index, and that the build files name every file there is.

The checks of the index (`scripts/check_description_files.py` of Slicer/ExtensionsIndex) run when an extension is
submitted; these are ours, of the same content, so that a change that breaks one is seen at once. The entry itself and
the size of a clone are in `test_extensions_index.py`.
"""

from __future__ import annotations

import ast
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXTENSION = ROOT / "CMakeLists.txt"
MODULE = ROOT / "SynthGAN" / "CMakeLists.txt"
PANEL_FILES = sorted((ROOT / "SynthGAN").rglob("*.py"))
RAW_URL = "https://raw.githubusercontent.com/SynthGAN/SlicerSynthGAN/main/"
AT_FILE_SCOPE = {"slicer", "vtk", "numpy", "SynthGANPanel"}


def setting(name: str) -> str:
    """The one quoted string that CMake variable `name` is set to."""
    found = re.findall(rf"^set\({name} \"([^\"]*)\"\)", EXTENSION.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == 1, f"{name} must be set once, to one quoted string"
    return str(found[0])


def listed(file: Path, variable: str) -> list[str]:
    """The entries of a CMake list, with the module's name put in."""
    match = re.search(rf"set\({variable}\n(.*?)\n\s*\)", file.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None, f"{file.name} sets no {variable}"
    return [line.strip().replace("${MODULE_NAME}", "SynthGAN") for line in match.group(1).splitlines()]


def test_cmake_follows_the_template() -> None:
    text = EXTENSION.read_text(encoding="utf-8")
    assert text.startswith("cmake_minimum_required(VERSION 3.28.0...3.28.0 FATAL_ERROR)\n")
    assert re.findall(r"project\((\w+)\)", text) == ["SynthGAN"]  # the index's name; it must not start with "Slicer"
    order = ["find_package(Slicer REQUIRED)", "include(${Slicer_USE_FILE})", "add_subdirectory(SynthGAN)"]
    order += ["## NEXT_MODULE", "include(${Slicer_EXTENSION_GENERATE_CONFIG})", "include(${Slicer_EXTENSION_CPACK})"]
    places = [text.index(line) for line in order]
    assert places == sorted(places)


def test_description_is_for_people_and_short() -> None:
    description = setting("EXTENSION_DESCRIPTION")
    assert 40 < len(description) < 300
    assert description.count(". ") <= 2
    assert "research" in description


@pytest.mark.parametrize("name", ["EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_pictures_are_in_the_repository(name: str) -> None:
    urls = setting(name).split(" ")
    assert name != "EXTENSION_ICONURL" or len(urls) == 1
    for url in urls:
        assert url.startswith(RAW_URL)
        assert url.endswith(".png")
        assert (ROOT / url.removeprefix(RAW_URL)).is_file(), url


@pytest.mark.parametrize("path", ["Resources/Icons/SynthGAN.png", "SynthGAN/Resources/Icons/SynthGAN.png"])
def test_icons_have_the_size_asked_for(path: str) -> None:
    header = (ROOT / path).read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (128, 128)


def test_torch_comes_by_its_extension_only() -> None:
    assert setting("EXTENSION_DEPENDS") == "PyTorch"
    requirements = (ROOT / "SynthGAN" / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    packages = [line for line in requirements if line and not line.startswith("#")]
    assert packages
    for line in packages:
        assert not line.startswith("torch"), "PyTorch must come by the PyTorch extension"
        assert "==" not in line, f"{line}: an exact version breaks other extensions"
    for path in PANEL_FILES:
        assert "pip_install" not in path.read_text(encoding="utf-8"), f"{path.name}: use slicer.packaging.pip_ensure"


def test_contributors_are_named() -> None:
    assert setting("EXTENSION_CONTRIBUTORS").strip()


def test_licence_is_in_the_root() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_readme_has_what_reviewers_look_for() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"!\[[^\]]*\]\([^)]+\.png\)|<img ", text), "no picture"
    for word in ("research", "cite", "tutorial", "PyTorch", "Image Synthesis"):
        assert word.lower() in text.lower(), f"README.md does not mention {word}"


def test_slicer_finds_one_module_in_the_folder() -> None:
    # Slicer takes every Python file of a module folder for a module.
    assert [path.name for path in (ROOT / "SynthGAN").glob("*.py")] == ["SynthGAN.py"]


def test_installed_files_work_without_the_repository(tmp_path: Path) -> None:
    """What the build files list, laid out as installed, read-only, in a folder with spaces and accents."""
    target = tmp_path / "Slicer 5.12 Lékař" / "qt-scripted-modules"
    for name in listed(MODULE, "MODULE_PYTHON_SCRIPTS") + listed(MODULE, "MODULE_PYTHON_RESOURCES"):
        copy(ROOT / "SynthGAN" / name, target / name)
    for name in listed(EXTENSION, "LIBRARY_PYTHON_SCRIPTS"):
        copy(ROOT / "SynthGANLib" / name, target / "SynthGANLib" / name)
    shutil.copytree(ROOT / "Resources" / "Models", target / "Resources" / "Models")
    for path in [target, *target.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    program = (
        "from SynthGANLib.model.catalogue import Catalogue; print(*[e.id for e in Catalogue().models() if not e.error])"
    )
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(target), "PATH": "", "PYTHONUTF8": "1", "HOME": str(tmp_path)}
    try:
        run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        for path in [target, *target.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert run.returncode == 0, run.stderr
    bundled = [path.parent.name for path in (ROOT / "Resources" / "Models").glob("*/model.json")]
    assert sorted(run.stdout.split()) == sorted(bundled)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


@pytest.mark.parametrize("path", PANEL_FILES, ids=lambda path: path.name)
def test_importing_a_file_only_defines(path: Path) -> None:
    """No code at file scope, and no import there but of what every Slicer has (reviewers ask for both)."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = [statement]
        if isinstance(statement, ast.Try):  # for what the application has and the slicer-core wheel lacks
            inner = [*statement.body, *(line for handler in statement.handlers for line in handler.body)]
        for line in inner:
            if isinstance(line, ast.Import):
                allowed_only([alias.name for alias in line.names], path)
            elif isinstance(line, ast.ImportFrom):
                allowed_only([line.module or ""], path)
            elif isinstance(line, ast.Expr):
                assert isinstance(line.value, ast.Constant), f"{path.name}:{line.lineno} runs at import"
            else:
                kinds = (ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.If)
                assert isinstance(line, kinds), f"{path.name}:{line.lineno} runs at import"


def allowed_only(names: list[str], path: Path) -> None:
    for name in names:
        top = name.split(".")[0]
        assert top in AT_FILE_SCOPE or top in sys.stdlib_module_names, f"{path.name} imports {name} at file scope"


@pytest.mark.parametrize("path", PANEL_FILES, ids=lambda path: path.name)
def test_texts_can_be_translated(path: Path) -> None:
    """Slicer's translation tool finds literals only: `_("text {name}").format(name=...)`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "translate"):
            for argument in node.args:
                literal = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                assert literal, f"{path.name}:{node.lineno} translates something that is not a literal"


@pytest.mark.parametrize("path", PANEL_FILES, ids=lambda path: path.name)
def test_no_styling_no_network_no_evaluation(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for word in ("setStyleSheet", "styleSheet", "urllib", "requests", "http.client", "pickle", "eval(", "exec("):
        assert word not in text, f"{path.name} contains {word}"


@pytest.mark.parametrize("path", PANEL_FILES, ids=lambda path: path.name)
def test_old_slicers_can_say_that_they_are_too_old(path: Path) -> None:
    """Slicer 5.8 has Python 3.9: the panel must open there to tell that it needs a later one."""
    module = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    deferred = any(isinstance(line, ast.ImportFrom) and line.module == "__future__" for line in module.body)
    for node in ast.walk(module):
        hints = [node.annotation] if isinstance(node, (ast.arg, ast.AnnAssign)) else []
        hints += [node.returns] if isinstance(node, ast.FunctionDef) and node.returns else []
        for hint in filter(None, hints):
            union = any(isinstance(part, ast.BinOp) for part in ast.walk(hint))
            assert deferred or not union, f"{path.name}:{hint.lineno} needs Python 3.10"


def ui_trees() -> dict[str, ElementTree.Element]:
    return {path.name: ElementTree.parse(path).getroot() for path in (ROOT / "SynthGAN/Resources/UI").glob("*.ui")}


def test_ui_files_bind_every_parameter() -> None:
    """Each bound widget names a parameter, each parameter has a widget; model and segment are kept equal by hand."""
    bound = [
        item.findtext("string") or ""
        for root in ui_trees().values()
        for item in root.iter("property")
        if item.get("name") == "SlicerParameterName"
    ]
    module = ast.parse((ROOT / "SynthGAN" / "SynthGANPanel" / "parameters.py").read_text(encoding="utf-8"))
    wrapper = next(
        node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "SynthGANParameterNode"
    )
    fields = [node.target.id for node in wrapper.body if isinstance(node, ast.AnnAssign)]  # type: ignore[union-attr]
    assert set(bound) == set(fields) - {"modelId", "maskSegment"}


def test_widgets_of_the_panel_have_names_of_their_own() -> None:
    names = [widget.get("name") for root in ui_trees().values() for widget in root.iter("widget")]
    assert sorted(names, key=str) == sorted(set(names), key=str)
