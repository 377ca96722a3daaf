"""Docs/troubleshooting.md quotes messages as the code says them, and its exit codes are those of the errors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from SynthGANLib import errors
from SynthGANLib.signals import TerminatedError

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "Docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTES = re.findall(r"^> (.+)$", PAGE, re.MULTILINE)
ANY = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for what a message fills in: `...` on the page, a field in an f-string or a template."""


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a module, with `ANY` for each field of an f-string and for each `{name}` of a template."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else ANY for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{[^{}]*\}", ANY, node.value)


@pytest.fixture(scope="module")
def messages() -> str:
    """All strings of the library and the panel, one a line."""
    paths = [*(ROOT / "SynthGANLib").rglob("*.py"), *(ROOT / "SynthGAN").rglob("*.py")]
    found = [text for path in paths for text in texts(ast.parse(path.read_text(encoding="utf-8")))]
    return "\n".join(" ".join(shortened(text).split()) for text in found)


def shortened(text: str) -> str:
    """The text with one `ANY` where fields or dots stand in a row."""
    return re.sub(rf"{ANY}+", ANY, text.replace("...", ANY))


def test_the_page_quotes_messages() -> None:
    assert len(QUOTES) > 50
    assert len(set(QUOTES)) == len(QUOTES)


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_message_is_in_the_code(quote: str, messages: str) -> None:
    words = [part for part in re.split(r"\.\.\.", quote) if re.search(r"\w{3}", part)]
    assert words, "a quotation without a word of its own finds nothing"
    assert shortened(quote) in messages


def test_a_message_that_nobody_says_is_noticed(messages: str) -> None:
    assert f"The volume '{ANY}' is made of cheese." not in messages
    assert f"The device '{ANY}' was asked for, and PyTorch finds {ANY} CUDA devices here." in messages


def test_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(code): text for code, text in re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SynthGANError)
    ]
    assert {kind.exit_code for kind in kinds} | {0, 5, TerminatedError.exit_code} == set(listed)
    assert "does not fit" in listed[errors.UnfitInputError.exit_code]
    assert "memory" in listed[errors.MemoryExhaustedError.exit_code]
    assert "cancelled" in listed[errors.CancelledError.exit_code]
