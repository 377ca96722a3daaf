"""A combo box of windows that suit a volume; choosing one changes how the volume is shown."""

import slicer

from SynthGANPanel.comparison import compare
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import windows


class WindowSelector:
    """
    :param widget: the combo box
    :param volumes: function that returns the volumes to window, the first of which says what is offered
    """

    def __init__(self, widget, volumes):
        self._widget, self._volumes = widget, volumes
        self._offered = None
        self._toolTip = widget.toolTip
        widget.connect("activated(int)", self._onActivated)

    def update(self):
        """Offer what suits the volume; what was chosen stays chosen as long as the volume is the same."""
        volume = next(iter(self._volumes()), None)
        presets = windows.presets(volume)
        if self._offered != (volume, presets):
            self._offered = (volume, presets)
            self._widget.clear()
            self._widget.addItem(_("As it is"), "")
            for preset, text in presets:
                self._widget.addItem(text, preset)
        self._widget.enabled = bool(presets)
        if presets:
            self._widget.toolTip = self._toolTip
        else:
            self._widget.toolTip = _("There is no volume yet.") if volume is None else _("Colors have no window.")

    def _onActivated(self, index):
        preset = self._widget.itemData(index)
        for volume in self._volumes() if preset else ():
            compare.keepWindow(slicer.mrmlScene, volume)
            windows.apply(volume, preset)
