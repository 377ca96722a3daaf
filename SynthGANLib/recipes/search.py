"""Recipes found by their names and by what is known of them; case, hyphens and blanks do not matter."""

from __future__ import annotations

from collections.abc import Iterable

from SynthGANLib.recipes.base import FittedRecipe, Recipe

Entry = Recipe | FittedRecipe


def plain(text: str) -> str:
    """Lower-case letters, digits and blanks: "3D U-Net" becomes "3d unet", "MR-CT", "MRI-CT" and "MR to CT" "mrct"."""
    text = text.casefold().replace(" to ", "-").replace("mri", "mr")
    return "".join(c for c in text if c.isalnum() or c == " ")


def ranked(entries: Iterable[Entry], text: str) -> list[Entry]:
    """The entries in which all words of `text` occur: those called `text`, those whose names contain it, the rest.

    A word may occur anywhere in a name, but only begins a word of the citation and what else is known of an entry,
    where "MR-PET" is one word and also the two "MR" and "PET".
    """
    words, whole = plain(text).split(), plain(text).replace(" ", "")
    found: tuple[list[Entry], list[Entry], list[Entry]] = ([], [], [])
    for entry in entries:
        names = [plain(name).replace(" ", "") for name in (entry.name, entry.review, *entry.aliases)]
        known = " ".join(("", entry.table, entry.citation, entry.data, entry.regime, *entry.directions))
        about = plain(known) + plain(known.replace("-", " ").replace(" to ", " "))
        if all(f" {word}" in about or any(word in name for name in names) for word in words):
            found[0 if whole in ("", *names) else 1 if any(whole in name for name in names) else 2].append(entry)
    return [entry for group in found for entry in group]
