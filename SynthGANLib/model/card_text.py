"""The card as a page for people: ``README.md`` of a model folder, and what ``synthgan info`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from SynthGANLib.model.card import Card

RESEARCH_NOTICE = "For research only: not a medical device, not for diagnosis, treatment planning or any clinical use."


def readme_of(card: Card, *, pictures: Sequence[str] = (), weights: int = 0) -> str:
    """Markdown of everything in the card; the same card always gives the same text.

    `weights`: bytes of the folder's weights, or of the tensors that a classical method works with; 0 for none.
    """
    parts = [f"# {card.title}", card.description]
    if card.research_only:
        parts.append(f"> **{RESEARCH_NOTICE}**")
    parts += ["## What it does", _table(("", ""), _facts(card, weights))]
    parts += ["## Intended use", card.intended_use]
    if card.training:
        parts += ["## How it was made", *_sections(card.training, 3)]
    if card.metrics:
        parts += ["## Measured results", *_sections(card.metrics, 3)]
    if pictures:
        parts += ["## Pictures", *[f"![{_words(name.rsplit('.', 1)[0])}]({name})" for name in pictures]]
    parts += ["## Licence", card.licence]
    if card.citation:
        parts += ["## How to cite", card.citation]
    command = f"synthgan synthesize IN.nii.gz OUT.nrrd --model {card.id}"
    parts += [
        "## Use",
        f"```\n{command}\n```",
        "This page is written from `model.json`; change that, not this.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def direction(card: Card) -> str:
    """``MR (T1, T2) -> CT``."""
    sequences = f" ({', '.join(card.source.sequences)})" if card.source.sequences else ""
    return f"{card.source.modality}{sequences} -> {card.target.modality}"


def _facts(card: Card, weights: int) -> list[tuple[str, str]]:
    spatial, target = card.spatial, card.target
    low, high = target.range
    spacing = " x ".join("native" if step is None else f"{step:g}" for step in spatial.spacing)
    grid = f"{spatial.dims}D, {spatial.orientation}, spacing (x, y, z) {spacing}"
    if any(step is not None for step in spatial.spacing):
        grid += " mm"
    if spatial.axis:
        grid += f", {spatial.axis} slices"
    rows = [
        ("Model", f"{card.id} {card.version}"),
        ("Direction", direction(card)),
        ("Anatomy", card.anatomy),
        ("Input", f"unit {card.source.unit}, {card.source.channels} channel(s)"),
        (
            "Output",
            f"unit {target.unit}, {low:g} to {high:g}, background {target.background:g}",
        ),
        ("Working grid", grid),
        ("Region", "inside the body outline" if card.mask == "body" else "the whole volume"),
        ("Method", f"{card.method.kind} `{card.method.name}`"),
    ]
    if weights:
        size = f"{weights / 2**20:.1f} MiB" if weights >= 2**19 else f"{weights / 2**10:.0f} KiB"
        # tensors of a classical method have types of their own
        stored = ("Weights", f"{size}, stored in {card.method.storage}")
        rows.append(("Tensors", size) if card.has_tensors else stored)
    return rows


def _sections(content: Mapping[str, Any], level: int) -> list[str]:
    """Scalars as a list, an object of equal objects as a table, other objects as sections of their own."""
    parts = []
    plain = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    if plain:
        parts.append("\n".join(f"- {_words(key)}: {_value(value)}" for key, value in plain.items()))
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            parts.append(f"{'#' * min(level, 6)} {_words(key)}")
            parts += [_grid(value)] if _is_grid(value) else _sections(value, level + 1)
    return parts


def _is_grid(content: Mapping[str, Any]) -> bool:
    rows = list(content.values())
    return all(isinstance(row, Mapping) and row and not _has_objects(row) for row in rows)


def _has_objects(row: Mapping[str, Any]) -> bool:
    return any(isinstance(cell, Mapping) for cell in row.values())


def _grid(content: Mapping[str, Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in content.values() for column in row))
    rows = [(_words(name), *[_value(row.get(column, "")) for column in columns]) for name, row in content.items()]
    return _table(("", *[_words(column) for column in columns]), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
