"""What importing costs, and that the light parts stay light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import SynthGANLib

ROOT = Path(SynthGANLib.__file__).parents[1]

PROBE = """
import json, sys, time
before = set(sys.modules)
started = time.perf_counter()
import SynthGANLib
seconds = time.perf_counter() - started
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
after_import = sorted(loaded - set(sys.stdlib_module_names))
from SynthGANLib.model.catalogue import Catalogue
Catalogue().models()
import SynthGANLib.cli.main
after_catalogue = [name for name in ("torch", "SimpleITK", "safetensors") if name in sys.modules]
print(json.dumps([seconds, after_import, after_catalogue]))
"""


@pytest.fixture(scope="module")
def probe() -> tuple[float, list[str], list[str]]:
    """The best of three fresh interpreters: how long, and what was loaded."""
    runs = []
    for _ in range(3):
        command = [sys.executable, "-c", PROBE]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        runs.append(json.loads(answer.stdout))
    seconds, imported, heavy = min(runs)
    return seconds, imported, heavy


def test_import_loads_nothing_but_itself(probe: tuple[float, list[str], list[str]]) -> None:
    """Under 0.3 s follows from this on any machine: nothing outside the standard library is loaded."""
    assert probe[1] == ["SynthGANLib"]


def test_the_catalogue_and_the_command_line_load_no_torch(probe: tuple[float, list[str], list[str]]) -> None:
    assert probe[2] == []


@pytest.mark.parametrize("name", SynthGANLib.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(SynthGANLib, name) is not None
    assert name in dir(SynthGANLib)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = SynthGANLib.no_such_name


FILES = sorted((ROOT / "SynthGANLib").rglob("*.py"))


def test_no_door_for_code_in_data() -> None:
    """No eval, exec, compile or unpickling loader anywhere in the library."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{path.name}:{node.lineno}"
            if isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), where
            called = ast.unparse(node.func)
            if called == "torch.load":
                safe = {key.arg: ast.unparse(key.value) for key in node.keywords}
                assert safe.get("weights_only") == "True", where
            allowed = {key.arg: ast.unparse(key.value) for key in node.keywords}.get("allow_pickle", "False")
            assert allowed == "False", where
