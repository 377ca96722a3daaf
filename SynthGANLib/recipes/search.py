"""Recipes found by what people call them: every term must occur, and the best match comes first.

Spelling counts for little: case, hyphens, blanks between the parts of a name and small connecting words are ignored,
so "3D U-Net", "3d unet" and "U-Net, 3D" are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from SynthGANLib.recipes.base import FittedRecipe, Recipe

Entry = TypeVar("Entry", Recipe, FittedRecipe, Recipe | FittedRecipe)

_CONNECTING = frozenset(("a", "an", "and", "by", "for", "from", "in", "of", "on", "the", "to", "with"))
_SAME = {"mri": "mr"}
_SHORT = 3
"""Terms of up to so many characters must be whole words: "gan" is in half of all names."""


def words(text: str) -> list[str]:
    """The words of `text` in one spelling, without connecting ones."""
    found = re.findall(r"[^\W_]+", text.casefold())
    return [_SAME.get(word, word) for word in found if word not in _CONNECTING]


def terms(text: str) -> list[str]:
    """What is looked for: parts between blanks, brackets and the like, each without its hyphens."""
    parts = re.split(r"[\s+&,;:/()\[\]]+", text)
    return [joined for part in parts if (joined := "".join(words(part)))]


def begins(field: Sequence[str], term: str) -> bool:
    """Whether `term` stands in the words `field`: as whole words in a row if short, else as the beginning of such."""
    for start in range(len(field)):
        row = ""
        for word in field[start:]:
            row += word
            if len(row) >= len(term):
                break
        if row == term or (len(term) > _SHORT and row.startswith(term)):
            return True
    return False


def names(field: Sequence[str], term: str) -> bool:
    """Whether the words `field` of a name have `term`, a longer one also inside a word, as "unet" in "resunet"."""
    return begins(field, term) or (len(term) > _SHORT and any(term in word for word in field))


def ranked(entries: Iterable[Entry], text: str) -> list[Entry]:
    """The entries that have all terms of `text`, best first; all, as they come, for a text without terms."""
    wanted = terms(text)
    found = [(rank, entry) for entry in entries if (rank := _rank(entry, wanted)) is not None]
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]  # stable: else in their order


def _rank(entry: Recipe | FittedRecipe, wanted: Sequence[str]) -> int | None:
    """0: is the name; 1: is its name in the review or another; 2: in one of these; 3: in all that is said of it.

    None where a term is missing.
    """
    called = [words(name) for name in (entry.name, entry.review, *entry.aliases)]
    said = [words(text) for text in (entry.table, entry.citation, entry.data, entry.regime, *entry.directions)]
    whole = "".join(wanted)
    if whole in ("", "".join(called[0])):
        return 0
    if any(whole == "".join(name) for name in called):
        return 1
    if any(all(names(name, term) for term in wanted) for name in called):
        return 2
    told = (any(names(name, term) for name in called) or any(begins(text, term) for text in said) for term in wanted)
    return 3 if all(told) else None
