"""The export: format, folder, patient and progress."""

import os

import slicer

from SynthGANPanel.export import dicom as dicomExport
from SynthGANPanel.export import dicomSource
from SynthGANPanel.export import record as exportRecord
from SynthGANPanel.export.files import FileExport
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.parameters import ExportFormat
from SynthGANPanel.sections.base import Section

FOLDER_SETTING = "SynthGAN/ExportFolder"
"""The folder is this machine's, hence kept with the application's settings and not in the scene."""
PATIENT = {"exportPatientName": "name", "exportPatientId": "id", "exportStudy": "study"}
"""Fields for a new study: the widgets' names and what they are."""


class ExportSection(Section):
    """Format, folder, patient, one button that also cancels, one progress bar, one status line.

    Name and ID of a patient are kept nowhere: they would go astray with a shared scene, and to the wrong patient
    with the next source.
    """

    uiFile = "Export"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self.run = None
        self._about = None  # the choices that the status is about
        self._patientOf = None  # the source that the patient's data were entered for

    def setup(self):
        self.ui.exportFolderButton.directory = self._startFolder()
        self.ui.exportFolderButton.connect("directoryChanged(QString)", self.onFolderChanged)
        self.ui.exportButton.connect("clicked(bool)", self.onExportButton)

    def cleanup(self):
        self._stop()

    def sceneCloses(self):
        self._stop()

    def onFolderChanged(self, folder):
        """The next export of this user begins in the folder of the last one."""
        import qt

        qt.QSettings().setValue(FOLDER_SETTING, folder)
        self.panel.refresh()

    def onExportButton(self):
        """Export the result, or cancel the export."""
        if self.run is not None:
            self.run.cancel()
            return
        try:
            run = self._newRun()
            run.start()
        except SynthesisError as error:
            self.ui.exportStatusLabel.text = str(error)
            return
        self.run = run
        self.ui.exportStatusLabel.text = _("Exporting...")
        self.panel.refresh()

    def update(self):
        parameters, result, running = self.panel.parameters, self.panel.result(), self.run is not None
        source = exportRecord.sourceOf(result) if result is not None else None
        isDicom, hasStudy = parameters.exportFormat is ExportFormat.DICOM, _hasStudy(result)
        isNewStudy = isDicom and not (hasStudy and parameters.exportSameStudy)
        self._forget(result, source)
        self.ui.exportResultNameLabel.text = result.GetName() if result is not None else _("none yet")
        self.ui.exportContents.enabled = not running
        self.ui.exportSameStudyCheckBox.visible = isDicom and hasStudy
        for name in PATIENT:
            getattr(self.ui, f"{name}Label").visible = getattr(self.ui, f"{name}LineEdit").visible = isNewStudy
        obstacle = dicomExport.databaseObstacle()
        self.ui.exportBurnInCheckBox.visible = self.ui.exportDatabaseCheckBox.visible = isDicom
        self.ui.exportDatabaseCheckBox.enabled = not obstacle
        self.ui.exportDatabaseCheckBox.toolTip = obstacle or _("Copy the exported images into Slicer's DICOM database.")
        self.ui.exportNoteLabel.text = self._note(result, isDicom, hasStudy, isNewStudy, obstacle)
        self.ui.exportProgressBar.visible = running
        self.ui.exportButton.text = _("Cancel export") if running else _("Export")
        self.ui.exportButton.enabled = running or result is not None

    def _forget(self, result, source):
        """Clear the status of other choices and the patient's data of another source."""
        parameters = self.panel.parameters
        about = (result, parameters.exportFormat, parameters.exportSameStudy, self.ui.exportFolderButton.directory)
        if about != self._about and self.run is None:
            self._about = about
            self.ui.exportStatusLabel.text = ""
        if source is not self._patientOf:
            self._patientOf = source
            for name in PATIENT:
                getattr(self.ui, f"{name}LineEdit").clear()

    def _note(self, result, isDicom, hasStudy, isNewStudy, obstacle):
        if result is None:
            return _("Synthesize a volume first.")
        name = self._path(result).name
        if not isDicom:
            return _("'{name}' will be written, and its record as JSON beside it.").format(name=name)
        sentences = [_("The folder '{name}' will be made, and the record as JSON beside it.").format(name=name)]
        if not hasStudy:
            sentences.append(_("The source was not loaded from DICOM: the series will be in a study of its own."))
        if isNewStudy:
            sentences.append(_("Without a name the patient will be 'Anonymous', with a new ID."))
        if obstacle:
            sentences.append(obstacle)
        return " ".join(sentences)

    def _newRun(self):
        result, parameters = self.panel.result(), self.panel.parameters
        exportRecord.checkResult(result)
        path = self._path(result)
        if parameters.exportFormat is not ExportFormat.DICOM:
            return FileExport(result, path, False, self._onProgress, self._onEnded)
        newStudy = not (_hasStudy(result) and parameters.exportSameStudy)
        patient = {field: getattr(self.ui, f"{name}LineEdit").text.strip() for name, field in PATIENT.items()}
        return dicomExport.DicomExport(
            result, path, newStudy=newStudy, patient=patient if newStudy else None, burnIn=parameters.exportBurnIn,
            progressCallback=self._onProgress, completedCallback=self._onEnded,
        )  # fmt: skip

    def _path(self, result):
        """Where the result goes; what is there already is never replaced."""
        return exportRecord.freePath(
            self.ui.exportFolderButton.directory, result.GetName(), self.panel.parameters.exportFormat.value
        )

    def _onProgress(self, fraction, text):
        self.ui.exportProgressBar.value = int(100 * fraction)

    def _onEnded(self, run):
        if self.run is None:  # the panel or the scene is closed
            return
        self.run = None
        self.ui.exportProgressBar.value = 0
        if run.error is not None:
            self.ui.exportStatusLabel.text = str(run.error)
        else:
            told = [_("Exported to '{path}'.").format(path=run.path), *run.notes]
            self.ui.exportStatusLabel.text = " ".join(told)
            if isinstance(run, dicomExport.DicomExport):
                self._addToDatabase(run.path)
        self.panel.refresh()

    def _addToDatabase(self, folder):
        parameters = self.panel.parameters
        if not parameters or not parameters.exportToDatabase or dicomExport.databaseObstacle():
            return
        told = self.ui.exportStatusLabel.text
        self.ui.exportStatusLabel.text = _("Adding the series to the DICOM database...")
        slicer.app.processEvents()
        try:
            dicomExport.addToDatabase(folder)
            self.ui.exportStatusLabel.text = f"{told} {_('It was added to the DICOM database.')}"
        except SynthesisError as error:
            self.ui.exportStatusLabel.text = f"{told} {error}"

    def _stop(self):
        run, self.run = self.run, None
        if run is not None:
            run.cancel()

    @staticmethod
    def _startFolder():
        folder = slicer.util.settingsValue(FOLDER_SETTING, "")
        candidates = (folder, slicer.mrmlScene.GetRootDirectory(), os.path.expanduser("~"))
        return next((each for each in candidates if each and os.path.isdir(each)), "")


def _hasStudy(result):
    """Whether the result has a source whose study it can join, or whose absence is an error."""
    if result is None or exportRecord.hasNoSource(result):
        return False
    source = exportRecord.sourceOf(result)
    return source is None or dicomSource.isFromDicom(source)
