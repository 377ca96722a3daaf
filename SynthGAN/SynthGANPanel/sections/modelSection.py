"""Which model: search and filters, the list, the card of the chosen one, its terms, and the models' manager."""

import slicer

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs import modelManager, synthesis
from SynthGANPanel.sections import modelView
from SynthGANPanel.sections.base import Section

FILTERS = ("direction", "anatomy", "sequence")


class ModelSection(Section):
    """Model list, card, terms and manager."""

    uiFile = "Model"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self._shown = None
        self._task = None
        self._managed = ""  # how the last task of the manager ended

    def setup(self):
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelSelected)
        self.ui.modelSearchEdit.connect("textChanged(QString)", self.onFilterChanged)
        for name in FILTERS:
            getattr(self.ui, f"{name}Selector").connect("currentIndexChanged(int)", self.onFilterChanged)
        self.ui.acceptTermsCheckBox.connect("clicked(bool)", self.onTermsAccepted)
        self.ui.installSourceEdit.connect("textChanged(QString)", self.onFilterChanged)
        self.ui.browseFolderButton.connect("clicked(bool)", self.onBrowseFolder)
        self.ui.browseFileButton.connect("clicked(bool)", self.onBrowseFile)
        self.ui.installModelButton.connect("clicked(bool)", self.onInstallModel)
        self.ui.verifyModelButton.connect("clicked(bool)", self.onVerifyModel)
        self.ui.deleteModelButton.connect("clicked(bool)", self.onDeleteModel)
        self.ui.openModelFolderButton.connect("clicked(bool)", self.onOpenFolder)

    def bind(self, parameters):
        if not parameters.modelId:
            parameters.modelId = modelView.defaultModel(self.panel.models, synthesis.DEFAULT_MODEL)
        Section.bind(self, parameters)

    def cleanup(self):
        if self._task is not None:
            self._task.stop()

    def obstacle(self):
        obstacle = modelView.obstacle(self.panel.models, self.panel.parameters.modelId)
        if not obstacle and self._termsPending():
            return _("Accept the terms of the model first.")
        return obstacle

    def update(self):
        self._fillFilters()
        chosen = self.panel.parameters.modelId
        shown = modelView.matching(self.panel.models, self.ui.modelSearchEdit.text, **self._wanted())
        if chosen in self.panel.models:
            shown.setdefault(chosen, self.panel.models[chosen])  # a filter hides no choice that was made
        modelView.fill(self.ui.modelSelector, shown, chosen)
        entry = self.panel.model()
        if entry is not self._shown:  # else a reader would lose the place
            self._shown = entry
            self.ui.modelCardBrowser.setMarkdown(modelView.cardMarkdown(entry))
        self.ui.modelTimeLabel.text = modelView.timeHere(entry)
        self.ui.modelTimeLabel.visible = bool(self.ui.modelTimeLabel.text)
        self._showTerms(entry)
        self._showManager(entry)

    def onModelSelected(self, index):
        """The models differ from machine to machine, so this selector is not bound but kept equal by hand."""
        modelId = self.ui.modelSelector.itemData(index)
        if self.panel.parameters and modelId:
            self.panel.parameters.modelId = modelId

    def onFilterChanged(self, value=None):
        """Show the models that match, at every letter."""
        self.panel.refresh()

    def onTermsAccepted(self, checked):
        """Record it once and for all; it cannot be taken back by another click."""
        try:
            modelManager.acceptTerms(self.panel.model().card)
        except SynthesisError as error:
            self.panel.fail(error)
        self.panel.refresh()

    def onBrowseFolder(self):
        """Let the user choose a model folder."""
        import qt

        found = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Model folder"))
        if found:
            self.ui.installSourceEdit.text = found

    def onBrowseFile(self):
        """Let the user choose the zip file of a model."""
        import qt

        found = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Model"), "", _("Models (*.zip)"))
        found = found[0] if isinstance(found, tuple) else found
        if found:
            self.ui.installSourceEdit.text = found

    def onInstallModel(self):
        """Install what is named, or cancel that."""
        if self._task is not None:
            self._task.cancel()
            return
        try:
            self._begin(modelManager.installJob(self.ui.installSourceEdit.text, self.ui.sha256Edit.text))
        except SynthesisError as error:
            self._managed = str(error)
        self.panel.refresh()

    def onVerifyModel(self):
        """Check the chosen model's files and test vector."""
        try:
            self._begin({"job": "verify", "model": str(self.panel.model().path)})
        except SynthesisError as error:
            self._managed = str(error)
        self.panel.refresh()

    def onDeleteModel(self):
        """Delete the chosen model, after a question."""
        entry = self.panel.model()
        question = _("Delete the model '{model}' ({size}) from this computer?").format(
            model=entry.id, size=modelManager.folderSize(entry)
        )
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("Delete model")):
            return
        try:
            modelManager.remove(entry)
            self._managed = _("Deleted '{model}'.").format(model=entry.id)
        except SynthesisError as error:
            self._managed = str(error)
        self._modelsChanged()

    def onOpenFolder(self):
        """Show the chosen model's folder in the system's file browser."""
        import qt

        folder = str(self.panel.model().path)
        if not qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(folder)):
            self._managed = _("The system shows no folders here; this one is '{folder}'.").format(folder=folder)
            self.panel.refresh()

    def _begin(self, job):
        task = modelManager.ModelTask(job, self._onProgress, self._onCompleted)
        self.ui.installModelProgressBar.value = 0
        task.start()
        self._task = task

    def _onProgress(self, fraction, text):
        self.ui.installModelProgressBar.value = int(100 * (fraction or 0))
        self.ui.managerLabel.text = text

    def _onCompleted(self, task):
        self._task = None
        if task.error is not None and task.error.kind == "exists" and self._mayReplace(task):
            return
        if task.error is not None:
            self._managed = str(task.error)
        elif task.job["job"] == "install":
            self._managed = _("Installed '{model}' {version}.").format(
                model=task.outcome["id"], version=task.outcome["version"]
            )
            self.ui.installSourceEdit.text = self.ui.sha256Edit.text = ""
        else:
            self._managed = _("'{model}' {version} is complete and computes the expected values.").format(
                model=task.outcome["model"], version=task.outcome["version"]
            )
        self._modelsChanged()

    def _mayReplace(self, task):
        """Ask whether the model of the same id is to be replaced; install again if so."""
        question = _("A model of this id is installed already. Replace it by '{source}'?").format(
            source=task.job["source"]
        )
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("Install model")):
            return False
        try:
            self._begin({**task.job, "force": True})
        except SynthesisError as error:
            self._managed = str(error)
        self.panel.refresh()
        return True

    def _modelsChanged(self):
        self.panel.reloadModels()
        self._shown = None
        self.panel.refresh()

    def _termsPending(self):
        entry = self.panel.model()
        if entry is None or entry.card is None or not entry.card.research_only:
            return False
        return not modelManager.termsAcceptedOn(entry.card)

    def _showTerms(self, entry):
        pending = self._termsPending()
        box = self.ui.acceptTermsCheckBox
        box.visible = pending
        if pending:
            box.checked = False
            box.text = _("I accept: research use only, under the license shown in the card")

    def _showManager(self, entry):
        busy = self._task is not None
        self.ui.installModelButton.text = _("Cancel") if busy else _("Install model")
        self.ui.installModelButton.enabled = busy or bool(self.ui.installSourceEdit.text.strip())
        self.ui.installModelProgressBar.visible = busy
        for name in ("installSourceContents", "sha256Edit"):
            getattr(self.ui, name).enabled = not busy
        free = not busy and entry is not None and not self.panel.running
        self.ui.verifyModelButton.enabled = free
        self.ui.deleteModelButton.enabled = free and modelManager.removable(entry)
        self.ui.openModelFolderButton.enabled = entry is not None
        if not busy:
            size = _("Size: {size}.").format(size=modelManager.folderSize(entry)) if entry is not None else ""
            self.ui.managerLabel.text = " ".join(filter(None, (self._managed, size)))

    def _wanted(self):
        return {name: getattr(self.ui, f"{name}Selector").currentData or "" for name in FILTERS}

    def _fillFilters(self):
        for name, items in modelView.choices(self.panel.models).items():
            modelView.fillFilter(getattr(self.ui, f"{name}Selector"), items)
