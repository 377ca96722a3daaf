"""The translation function, for a Slicer with or without the application layer."""

from __future__ import annotations

try:
    from slicer.i18n import tr as _
except ImportError:
    # The slicer-core wheel has no translations; texts then stay as they are written.
    def _(text: str) -> str:
        """The text itself."""
        return text


__all__ = ["_"]
