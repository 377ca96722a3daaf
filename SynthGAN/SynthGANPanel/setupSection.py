"""What is missing before anything can be synthesized, shown only then, and one button that installs it."""

import slicer

from SynthGANPanel import environment, wording
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.section import Section


class SetupSection(Section):
    """Packages: what is missing, how large, one button."""

    uiFile = "Setup"

    def setup(self):
        self.ui.installButton.connect("clicked(bool)", self.onInstallButton)

    def obstacle(self):
        if environment.slicerTooOld():
            return environment.slicerTooOld()
        return _("Install the missing packages first.") if environment.missingPackages() else ""

    def update(self):
        missing = environment.missingPackages()
        self.ui.installContents.visible = bool(missing) and not environment.slicerTooOld()
        self.ui.installLabel.text = wording.askToInstall(missing, environment.downloadSize(missing))

    def onInstallButton(self):
        """Install what is missing; the text beside the button names it and its size."""
        self.panel.tell(_("Installing, which may take several minutes..."))
        slicer.app.processEvents()
        try:
            with slicer.util.WaitCursor():
                environment.install()
            self.panel.tell(_("The packages are installed."))
        except SynthesisError as error:
            self.panel.fail(error)
        self.panel.refresh()
