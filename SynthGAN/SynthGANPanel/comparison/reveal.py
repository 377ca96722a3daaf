"""The synthetic volume in a patch around the mouse, in slice views that have it as an invisible foreground layer.

Slicer's own module CompareVolumes draws the patch.
"""

import importlib.util

import slicer

from SynthGANPanel.i18n import _


def obstacle():
    """Why no patch can be drawn, "" if it can; without views there is nothing to draw."""
    if _hasViews() and importlib.util.find_spec("CompareVolumes") is None:
        return _("Slicer's module CompareVolumes is missing: enable it in the application settings and restart Slicer.")
    return ""


def start(pixels):
    """Follow the mouse with a patch of a given size; ends by `cleanup()` of what is returned, None without views."""
    if not _hasViews() or obstacle():
        return None
    from CompareVolumes import LayerReveal

    return LayerReveal(width=pixels, height=pixels)


def _hasViews():
    app = getattr(slicer, "app", None)
    return app is not None and app.layoutManager() is not None
