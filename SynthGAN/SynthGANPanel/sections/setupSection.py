"""What is missing before anything can be synthesized, shown only then; and a check of what there is, on demand."""

import slicer

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs import deviceCheck, wording
from SynthGANPanel.sections.base import Section


class SetupSection(Section):
    """Packages: what is missing, how large, one button; offline from a folder of wheels; self check."""

    uiFile = "Setup"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self.check = None  # under way
        self.outcome = None  # of the last check
        self._missing = []  # packages, as of the last update

    def setup(self):
        self.ui.installButton.connect("clicked(bool)", self.onInstallButton)
        self.ui.wheelFolderButton.connect("clicked(bool)", self.onWheelFolder)
        self.ui.checkButton.connect("clicked(bool)", self.onCheckButton)
        self.ui.copyCheckButton.connect("clicked(bool)", self.onCopyCheck)

    def obstacle(self):
        if environment.slicerTooOld():
            return environment.slicerTooOld()
        return _("Install the missing packages first.") if self._missing else ""

    def update(self):
        missing = self._missing = environment.missingPackages()
        old = bool(environment.slicerTooOld())
        self.ui.installContents.visible = bool(missing) and not old
        text = wording.askToInstall(missing, environment.downloadSize(missing))
        if missing and environment.installationPending():
            text = _("The installation was interrupted by a restart: press Install to go on.") + " " + text
        self.ui.installLabel.text = text
        self.ui.wheelFolderButton.text = environment.wheelFolder() or _("From the internet")
        busy = self.check is not None
        failed = self.outcome is not None and not all(entry["ok"] for entry in self.outcome["devices"])
        self.ui.checkContents.visible = busy or failed
        self.ui.checkButton.enabled = not busy and not missing and not old
        self.ui.copyCheckButton.visible = self.outcome is not None
        if busy:
            self.ui.checkLabel.text = _("Checking the devices...")
        elif self.outcome is not None:
            self.ui.checkLabel.text = "\n".join(deviceCheck.describe(self.outcome))

    def cleanup(self):
        if self.check is not None:
            self.check.stop()

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
        if not environment.missingPackages():
            self.startCheck()

    def onWheelFolder(self):
        """Choose a folder of wheels for a computer without the internet; none again by choosing nothing."""
        import qt

        found = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of wheels"))
        environment.setWheelFolder(found)
        self.panel.refresh()

    def onCheckButton(self):
        """Check again, after something was repaired."""
        self.startCheck()

    def startCheck(self):
        """Check the devices unless that is under way."""
        if self.check is not None:
            return
        check = deviceCheck.DeviceCheck(completedCallback=self._onChecked)
        try:
            check.start()
            self.check = check
        except SynthesisError as error:
            self.panel.fail(error)
        self.panel.refresh()

    def onCopyCheck(self):
        """Put the outcome on the clipboard."""
        import qt

        qt.QApplication.clipboard().setText(deviceCheck.report(self.outcome))

    def _onChecked(self, check):
        self.check = None
        if check.error is not None:
            self.panel.fail(check.error)
        else:
            self.outcome = check.outcome
        self.panel.refresh()
