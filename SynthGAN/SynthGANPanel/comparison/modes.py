"""How volumes can be compared, and with what; the values are the names that the Python console takes."""

import enum

from SynthGANPanel.i18n import _


class CompareMode(enum.Enum):
    """What the views show."""

    SIDE_BY_SIDE = "sideBySide"
    FADE = "fade"
    CHECKERBOARD = "checkerboard"
    REVEAL = "reveal"
    BLINK = "blink"
    DIFFERENCE = "difference"
    PROFILE = "profile"

    def label(self):
        """What the panel shows."""
        return {
            CompareMode.SIDE_BY_SIDE: _("Side by side"),
            CompareMode.FADE: _("Fade"),
            CompareMode.CHECKERBOARD: _("Checkerboard"),
            CompareMode.REVEAL: _("Reveal with the mouse"),
            CompareMode.BLINK: _("Blink"),
            CompareMode.DIFFERENCE: _("Difference map"),
            CompareMode.PROFILE: _("Line profile"),
        }[self]


class Against(enum.Enum):
    """Which volume the synthetic one is laid over."""

    SOURCE = "source"
    REFERENCE = "reference"

    def label(self):
        """What the panel shows."""
        return {Against.SOURCE: _("Source"), Against.REFERENCE: _("Reference")}[self]


LAYERED = (CompareMode.FADE, CompareMode.CHECKERBOARD, CompareMode.REVEAL, CompareMode.BLINK)
"""Modes that lay the synthetic volume over one other, which is chosen."""
