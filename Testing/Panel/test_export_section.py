"""The Export section clicked through: every format, cancelled half-way, refused, for whom, and into the database."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import slicer
from panelCases import addVolume, waitUntil

HERE = Path(__file__).resolve().parent
SHAPE = (12, 30, 70)


class Panel:
    """As much of the module's widget as the section asks for."""

    def __init__(self, folder):
        import qt

        from SynthGANPanel.parameters import SynthGANParameterNode
        from SynthGANPanel.sections.exportSection import ExportSection

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")
        self.parameters = SynthGANParameterNode(node)
        self.resultNode = None
        self.widget = slicer.qMRMLWidget()
        self.section = ExportSection(self)
        self.section.build(qt.QVBoxLayout(self.widget))
        self.ui = self.section.ui
        self.section.bind(self.parameters)
        node.AddObserver("ModifiedEvent", lambda caller, event: self.refresh())
        self.ui.exportCollapsibleButton.collapsed = False
        self.ui.exportFolderButton.directory = str(folder)
        self.widget.resize(420, 560)
        self.widget.show()
        self.refresh()

    def resourcePath(self, name):
        return str(HERE.parents[1] / "SynthGAN" / "Resources" / name)

    def result(self):
        return self.resultNode

    def refresh(self):
        self.section.update()

    def setResult(self, node):
        self.resultNode = node
        self.refresh()

    def choose(self, text):
        """Choose a format as the list names it."""
        selector = self.ui.exportFormatSelector
        selector.currentIndex = [selector.itemText(index) for index in range(selector.count)].index(text)

    def export(self):
        """Click the button and wait for the end."""
        self.ui.exportButton.click()
        waitUntil(lambda: self.section.run is None)
        return self.told

    @property
    def told(self):
        return self.ui.exportStatusLabel.text


@pytest.fixture(autouse=True)
def settings(tmp_path_factory):
    """Settings of the application that are this test's own."""
    from PySide6.QtCore import QCoreApplication, QSettings

    before = QCoreApplication.organizationName()
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path_factory.mktemp("settings")))
    QCoreApplication.setOrganizationName("SynthGANTest")
    yield
    QSettings().clear()
    QCoreApplication.setOrganizationName(before)


@pytest.fixture
def panel(app, scene, tmp_path):
    folder = tmp_path / "Výstup 头"
    folder.mkdir()
    made = Panel(folder)
    made.folder = folder
    yield made
    made.section.cleanup()
    made.section.unbind(made.parameters)
    made.widget.close()


@pytest.fixture
def result(panel):
    """The result of a source that was not loaded from DICOM, shown in the panel."""
    source = addVolume(np.zeros(SHAPE, np.int16), "head")
    node = addVolume(np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.float32) % 3000 - 1000, "sCT: head")
    record = {"ModelId": "some-model", "ModelVersion": "1.0.0", "InputNodeID": source.GetID(), "InputName": "head"}
    for name, value in record.items():
        node.SetAttribute(f"SynthGAN.{name}", value)
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(entry)
    panel.setResult(node)
    return node


def sourceOf(result):
    return slicer.mrmlScene.GetNodeByID(result.GetAttribute("SynthGAN.InputNodeID"))


def shown(panel, name):
    return getattr(panel.ui, name).isVisible()


def test_nothing_can_be_exported_before_there_is_a_result(panel):
    assert not panel.ui.exportButton.enabled
    assert panel.ui.exportNoteLabel.text == "Synthesize a volume first."


def test_a_dicom_series(panel, result):
    import pydicom

    panel.ui.exportPatientNameLineEdit.text = "  Dvořák^Jan "
    panel.ui.exportPatientIdLineEdit.text = "17"
    assert "'sCT_ head'" in panel.ui.exportNoteLabel.text
    assert "study of its own" in panel.ui.exportNoteLabel.text
    told = panel.export()
    assert "Exported to" in told
    assert "New study" in told
    header = pydicom.dcmread(panel.folder / "sCT_ head" / "0012.dcm")
    assert (str(header.PatientName), header.PatientID, header.Modality) == ("Dvořák^Jan", "17", "CT")
    assert header.BurnedInAnnotation == "NO"
    assert json.loads((panel.folder / "sCT_ head.json").read_text(encoding="utf-8"))["source"] == "head"


def test_files(panel, result):
    for text, name in (("NRRD file (.nrrd)", "sCT_ head.nrrd"), ("NIfTI file (.nii.gz)", "sCT_ head 2.nii.gz")):
        panel.choose(text)
        assert name in panel.ui.exportNoteLabel.text  # the record of the first has taken the plain name
        assert not shown(panel, "exportPatientNameLineEdit")
        assert not shown(panel, "exportBurnInCheckBox")
        assert "Exported to" in panel.export()
        assert (panel.folder / name).is_file()


def test_a_second_export_goes_beside_the_first(panel, result):
    for name in ("sCT_ head", "sCT_ head 2", "sCT_ head 3"):
        panel.export()
        assert len(list((panel.folder / name).iterdir())) == SHAPE[0]


@pytest.fixture
def slowly(monkeypatch):
    """One slice between two looks at the event loop."""
    from SynthGANPanel import task

    monkeypatch.setattr(task, "STEP_SECONDS", 0.0)


def test_it_can_be_cancelled(panel, result, slowly):
    panel.ui.exportButton.click()
    waitUntil(lambda: panel.ui.exportProgressBar.value > 40)
    assert panel.ui.exportButton.text == "Cancel export"
    assert not panel.ui.exportContents.enabled
    assert any(path.name.endswith(".part") for path in panel.folder.iterdir())
    panel.ui.exportButton.click()
    assert panel.told == "The export was cancelled; nothing was written."
    assert list(panel.folder.iterdir()) == []
    assert panel.ui.exportButton.text == "Export"
    assert not shown(panel, "exportProgressBar")
    assert "Exported to" in panel.export()


@pytest.mark.parametrize("end", ["cleanup", "sceneCloses"])
def test_an_end_of_the_panel_leaves_nothing(panel, result, app, slowly, end):
    panel.ui.exportButton.click()
    waitUntil(lambda: panel.ui.exportProgressBar.value > 10)
    getattr(panel.section, end)()
    for _ in range(20):
        app.processEvents()
    assert list(panel.folder.iterdir()) == []


def test_a_removed_result_is_still_written(panel, result, slowly):
    panel.choose("NRRD file (.nrrd)")
    panel.ui.exportButton.click()
    slicer.mrmlScene.RemoveNode(result)
    panel.setResult(None)
    waitUntil(lambda: panel.section.run is None)
    assert (panel.folder / "sCT_ head.nrrd").is_file()


def test_what_is_wrong_is_said_beside_the_button(panel, result):
    panel.ui.exportFolderButton.directory = str(panel.folder / "gone")
    assert "There is no folder" in panel.export()
    panel.ui.exportFolderButton.directory = str(panel.folder)
    panel.ui.exportPatientIdLineEdit.text = "a\\b"
    assert "not valid DICOM text" in panel.export()
    assert list(panel.folder.iterdir()) == []


def test_a_source_from_dicom_brings_its_patient(panel, result):
    sourceOf(result).SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    panel.refresh()
    assert shown(panel, "exportSameStudyCheckBox")
    assert not shown(panel, "exportPatientNameLineEdit")
    assert "2 of 2 DICOM files" in panel.export()  # there is no database here
    panel.ui.exportSameStudyCheckBox.click()
    assert shown(panel, "exportPatientNameLineEdit")
    assert "Exported to" in panel.export()


def test_a_source_that_is_gone_is_not_taken_for_one_without_dicom(panel, result):
    slicer.mrmlScene.RemoveNode(sourceOf(result))
    panel.refresh()
    assert shown(panel, "exportSameStudyCheckBox")
    assert "not in the scene" in panel.export()


def test_a_renamed_source_is_found_and_another_node_is_not(panel, result):
    from SynthGANPanel.export import record as exportRecord

    source = sourceOf(result)
    source.SetName("renamed")
    assert exportRecord.sourceOf(result) is source
    source.SetOrigin(7.0, 0.3, 0.0)  # as if a merged scene had given the id to some other volume
    assert exportRecord.sourceOf(result) is None


def test_the_patient_is_not_kept_for_the_next_source(panel, result):
    panel.ui.exportPatientNameLineEdit.text = "Dvořák^Jan"
    panel.refresh()
    assert panel.ui.exportPatientNameLineEdit.text == "Dvořák^Jan"
    other = addVolume(np.zeros(SHAPE, np.int16), "other head")
    result.SetAttribute("SynthGAN.InputNodeID", other.GetID())
    result.SetAttribute("SynthGAN.InputName", "other head")
    panel.refresh()
    assert panel.ui.exportPatientNameLineEdit.text == ""


def test_the_word_is_drawn_when_asked_for(panel, result):
    import pydicom

    panel.ui.exportBurnInCheckBox.click()
    assert "drawn into" in panel.export()
    assert pydicom.dcmread(panel.folder / "sCT_ head" / "0001.dcm").BurnedInAnnotation == "YES"


def test_the_folder_is_remembered_by_the_application_and_not_by_the_scene(panel, result, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    panel.ui.exportFolderButton.directory = str(again)
    from SynthGANPanel.sections.exportSection import ExportSection

    assert ExportSection._startFolder() == str(again)
    node = panel.parameters.parameterNode
    assert str(again) not in " ".join(node.GetParameter(name) for name in node.GetParameterNames())
    again.rmdir()
    assert ExportSection._startFolder() != str(again)


@pytest.fixture
def database(monkeypatch):
    """A DICOM database, open, that notes what it is given; `answer` is what the import returns."""
    given = types.SimpleNamespace(isOpen=True, folders=[], answer=True, fileForInstance=lambda uid: "")

    def importDicom(folder, database, copyFiles):
        given.folders.append((folder, copyFiles, len(list(Path(folder).iterdir()))))
        return given.answer

    library = types.SimpleNamespace(DICOMUtils=types.SimpleNamespace(importDicom=importDicom))
    monkeypatch.setitem(sys.modules, "DICOMLib", library)
    monkeypatch.setattr(slicer, "dicomDatabase", given, raising=False)
    return given


def test_without_a_database_nothing_can_be_added(panel, result):
    assert not panel.ui.exportDatabaseCheckBox.enabled
    assert "no DICOM database" in panel.ui.exportDatabaseCheckBox.toolTip
    assert "no DICOM database" in panel.ui.exportNoteLabel.text


def test_it_is_added_to_the_database_only_when_asked_for(panel, result, database):
    panel.refresh()
    panel.export()
    assert database.folders == []
    panel.ui.exportDatabaseCheckBox.click()
    assert "was added to the DICOM database" in panel.export()
    assert database.folders == [(str(panel.folder / "sCT_ head 2"), True, SHAPE[0])]


def test_a_database_that_refuses_leaves_the_files(panel, result, database):
    database.answer = False
    panel.refresh()
    panel.ui.exportDatabaseCheckBox.click()
    told = panel.export()
    assert "Exported to" in told
    assert "did not accept it" in told
    assert (panel.folder / "sCT_ head").is_dir()
    database.isOpen = False
    panel.refresh()
    assert not panel.ui.exportDatabaseCheckBox.enabled
