"""What is synthesized from: the input volume and, optionally, where the body is."""

import slicer

from SynthGANPanel import nodes
from SynthGANPanel.i18n import _
from SynthGANPanel.section import Section


class InputSection(Section):
    """Input volume and mask."""

    uiFile = "Input"

    def bind(self, parameters):
        # Select what is likely meant to save a few clicks for the user
        if not parameters.inputVolume:
            parameters.inputVolume = nodes.firstVolume(slicer.mrmlScene)
        Section.bind(self, parameters)

    def obstacle(self):
        return "" if self.panel.source() else _("Choose an input volume.")

    def update(self):
        self.ui.inputsContents.enabled = not self.panel.running
