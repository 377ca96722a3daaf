"""The demo's picture: volumes beside one another in three cuts, with titles, edge letters and value bars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from Testing.Headless.slices import EDGE_LETTERS, ORIENTATIONS, SliceView

PANE, GAP, LEFT, TOP, BOTTOM = 300, 6, 92, 118, 82
PAPER, INK, FAINT = (16, 18, 22), (236, 238, 242), (150, 156, 168)


@dataclass(frozen=True)
class Column:
    """One volume of the sheet; `unit` labels the bar of its window, and without a unit there is no bar."""

    title: str
    subtitle: str
    node: Any
    unit: str = ""


def draw(headless: Any, columns: list[Column], title: str, note: str, centre: Any, width_mm: float) -> Image.Image:
    """One row per orientation, one column per volume, all at one scale and cut through `centre` (RAS, mm)."""
    width = LEFT + len(columns) * (PANE + GAP) + GAP
    height = TOP + len(ORIENTATIONS) * (PANE + GAP) + BOTTOM
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    margin = GAP * 3
    pen.text((margin, 30), *_fitted(pen, title, INK, 25, width - 2 * margin), anchor="lm")
    pen.text((margin, 59), *_fitted(pen, note, FAINT, 16, width - 2 * margin), anchor="lm")
    for index, column in enumerate(columns):
        left = LEFT + index * (PANE + GAP)
        pen.text((left + PANE // 2, TOP - 33), column.title, INK, _font(18), anchor="mm")
        subtitle = _fitted(pen, column.subtitle, FAINT, 14, PANE)
        pen.text((left + PANE // 2, TOP - 13), *subtitle, anchor="mm")
    for row, orientation in enumerate(ORIENTATIONS):
        top = TOP + row * (PANE + GAP)
        pen.text((LEFT - 12, top + PANE // 2), orientation, INK, _font(17), anchor="rm")
        view = SliceView(headless, orientation, (PANE, PANE), width_mm, centre)
        for index, column in enumerate(columns):
            left = LEFT + index * (PANE + GAP)
            sheet.paste(Image.fromarray(view.picture(column.node)), (left, top))
            _letters(pen, orientation, left, top)
        view.close()
    bottom = TOP + len(ORIENTATIONS) * (PANE + GAP)
    for index, column in enumerate(columns):
        if column.unit:
            _value_bar(sheet, pen, column, LEFT + index * (PANE + GAP), bottom)
    return sheet


def save(sheet: Image.Image, path: Path) -> None:
    """Write the sheet as PNG, replacing an older one only when it is complete."""
    part = path.with_name(path.name + ".part")
    try:
        sheet.save(part, format="PNG", optimize=True)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _letters(pen: ImageDraw.ImageDraw, orientation: str, left: int, top: int) -> None:
    middle, edge = PANE // 2, 9
    places = ((edge, middle), (PANE - edge, middle), (middle, edge), (middle, PANE - edge))
    for letter, (x, y) in zip(EDGE_LETTERS[orientation], places, strict=True):
        pen.text((left + x, top + y), letter, (255, 214, 120), _font(13), anchor="mm")


def _value_bar(sheet: Image.Image, pen: ImageDraw.ImageDraw, column: Column, left: int, top: int) -> None:
    """The colors of the node's own table over its own window, with the values at the quarters."""
    display = column.node.GetDisplayNode()
    low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    length, margin = PANE - 60, 30
    table = display.GetColorNode().GetLookupTable()
    first, last = table.GetRange()
    colours = np.zeros((1, length, 3), np.uint8)
    for x in range(length):
        rgb = [0.0, 0.0, 0.0]
        table.GetColor(first + (last - first) * x / (length - 1), rgb)
        colours[0, x] = np.round(np.multiply(rgb, 255))
    sheet.paste(Image.fromarray(np.repeat(colours, 14, axis=0)), (left + margin, top + 10))
    pen.rectangle((left + margin - 1, top + 9, left + margin + length, top + 24), outline=FAINT)
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + (high - low) * part
        x = left + margin + round(part * (length - 1))
        pen.line((x, top + 25, x, top + 29), FAINT)
        pen.text((x, top + 39), f"{value:.0f}", INK, _font(13), anchor="mm")
    pen.text((left + PANE // 2, top + 60), column.unit, FAINT, _font(13), anchor="mm")


def _fitted(pen: ImageDraw.ImageDraw, text: str, colour: Any, size: int, width: int) -> tuple[str, Any, Any]:
    """Text, color and font: made smaller, and if need be shorter, until it is no wider than `width` pixels."""
    font, smallest = _font(size), 12
    while pen.textlength(text, font) > width and size > smallest:
        size -= 1
        font = _font(size)
    shortened = text
    while pen.textlength(shortened, font) > width:
        text = text[:-1]
        shortened = text + "..."
    return shortened, colour, font


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
