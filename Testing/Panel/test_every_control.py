"""Controls that no other panel test clicks, collapsing, and that none is left unclicked."""

import json
import re
import shutil
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import slicer
from panelCases import addVolume, waitUntil

from SynthGANLib.model.catalogue import Catalogue, user_folder
from SynthGANPanel import environment
from SynthGANPanel.comparison.modes import CompareMode
from SynthGANPanel.parameters import Device, ExportFormat
from SynthGANPanel.quality import table as qualityTable

HERE = Path(__file__).resolve().parent
INTERFACES = HERE.parents[1] / "SynthGAN" / "Resources" / "UI"
PASSIVE = ("QLabel", "QWidget", "QFrame", "qMRMLWidget", "QProgressBar")
"""Classes of widgets that only show or hold something."""


@pytest.fixture
def result(panel, head):
    """What a synthesis from `head` leaves, in HU, chosen in the panel by its input."""
    node = addVolume(np.random.default_rng(3).normal(0, 100, (6, 7, 8)).astype(np.float32), "sCT")
    record = {
        "ModelId": "tissue-mr-ct", "ModelVersion": "1.0.0", "InputNodeID": head.GetID(), "InputName": "head",
        "Date": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    for name, value in record.items():
        node.SetAttribute(f"SynthGAN.{name}", value)
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(entry)
    panel.ui.inputSelector.choose("head")
    panel.refresh()
    assert panel.result() is node
    return node


# Export: the text of the study


@pytest.fixture
def folder(panel, tmp_path):
    """An empty folder to export to; the application forgets it afterwards."""
    import qt

    from SynthGANPanel.sections.exportSection import FOLDER_SETTING

    made = tmp_path / "out"
    made.mkdir()
    panel.ui.exportFolderButton.directory = str(made)
    yield made
    qt.QSettings().remove(FOLDER_SETTING)


def export(panel):
    panel.ui.exportButton.click()
    waitUntil(lambda: panel.ui.exportButton.text == "Export")
    return panel.ui.exportStatusLabel.text


def test_study_text_is_in_every_image_of_the_series(panel, result, folder):
    pydicom = pytest.importorskip("pydicom")
    assert export(panel).startswith("Exported to")
    panel.ui.exportStudyLineEdit.text = "  Étude à blanc "
    assert export(panel).startswith("Exported to")
    plain, named = (sorted((folder / name).glob("*.dcm")) for name in ("sCT", "sCT 2"))
    assert len(plain) == len(named) == 6
    assert {pydicom.dcmread(path).StudyDescription for path in plain} == {"SynthGAN"}
    assert {pydicom.dcmread(path).StudyDescription for path in named} == {"Étude à blanc"}


def test_study_text_that_dicom_cannot_hold_is_refused(panel, result, folder):
    pytest.importorskip("pydicom")
    panel.ui.exportStudyLineEdit.text = "one\\two"
    assert "not valid DICOM text" in export(panel)
    assert list(folder.iterdir()) == []


def test_study_text_is_asked_for_a_new_study_only(panel, result, folder):
    panel.ui.exportCollapsibleButton.click()
    panel.refresh()
    assert panel.ui.exportStudyLineEdit.visible
    panel.parameters.exportFormat = ExportFormat.NRRD
    assert not panel.ui.exportStudyLineEdit.visible


# Models: by contrast, their folder, and where to install from


@pytest.fixture
def shelf(userData):
    """Two models of the user's own: one for FLAIR, one for T2 and PD."""
    for name, sequences in (("flair-mr-ct", ["FLAIR"]), ("spin-mr-ct", ["T2", "PD"])):
        target = user_folder() / name
        shutil.copytree(Catalogue().find("tissue-mr-ct"), target)
        card = json.loads((target / "model.json").read_text(encoding="utf-8"))
        card["id"], card["source"]["sequences"] = name, sequences
        (target / "model.json").write_text(json.dumps(card), encoding="utf-8")


def texts(selector):
    return [selector.itemText(index) for index in range(selector.count)]


def shown(panel):
    selector = panel.ui.modelSelector
    return {selector.itemData(index) for index in range(selector.count)}


def test_filter_by_contrast(shelf, panel):
    everything = shown(panel)
    assert {"head-mr-ct", "tissue-mr-ct", "flair-mr-ct", "spin-mr-ct"} <= everything
    sequences = panel.ui.sequenceSelector
    assert texts(sequences) == ["Any contrast", "FLAIR", "PD", "T1", "T2"]
    assert panel.parameters.modelId == "head-mr-ct"  # names no contrast, hence takes any
    assert panel.models["head-mr-ct"].card.source.sequences == ()
    for text, left in (("FLAIR", "flair-mr-ct"), ("PD", "spin-mr-ct"), ("T2", "spin-mr-ct"), ("T1", "tissue-mr-ct")):
        sequences.currentIndex = texts(sequences).index(text)
        assert shown(panel) == {"head-mr-ct", left}
        assert panel.parameters.modelId == "head-mr-ct", "a filter chooses nothing"
    sequences.currentIndex = 0
    assert shown(panel) == everything


def test_filter_by_contrast_hides_no_choice_that_was_made(shelf, panel):
    panel.parameters.modelId = "spin-mr-ct"
    panel.ui.sequenceSelector.currentIndex = texts(panel.ui.sequenceSelector).index("FLAIR")
    assert shown(panel) == {"flair-mr-ct", "head-mr-ct", "spin-mr-ct"}
    assert panel.ui.modelSelector.currentData == "spin-mr-ct"
    panel.ui.directionSelector.currentIndex = texts(panel.ui.directionSelector).index("MR to CT")
    panel.parameters.modelId = "flair-mr-ct"
    assert shown(panel) == {"flair-mr-ct", "head-mr-ct"}, "filters act together"


def test_folder_of_the_chosen_model_is_opened(shelf, panel, monkeypatch):
    import qt

    opened = []
    monkeypatch.setattr(qt, "QDesktopServices", types.SimpleNamespace(openUrl=lambda url: not opened.append(url)))
    panel.parameters.modelId = "flair-mr-ct"
    panel.ui.openModelFolderButton.click()
    panel.parameters.modelId = "tissue-mr-ct"
    panel.ui.openModelFolderButton.click()
    assert [Path(url.toLocalFile()) for url in opened] == [
        user_folder() / "flair-mr-ct", Catalogue().find("tissue-mr-ct"),
    ]  # fmt: skip
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: False)
    panel.ui.openModelFolderButton.click()
    assert str(Catalogue().find("tissue-mr-ct")) in panel.ui.managerLabel.text
    panel.parameters.modelId = "elsewhere-mr-ct"
    assert not panel.ui.openModelFolderButton.enabled
    panel.ui.openModelFolderButton.click()
    assert len(opened) == 2


@pytest.fixture
def dialog(monkeypatch):
    """`dialog("chosen")` answers the next file dialog, `dialog("")` cancels it; returns what dialogs were asked."""
    import qt

    asked = []

    def choose(answer):
        def folder(parent, title):
            asked.append(title)
            return answer

        def file(parent, title, start, filters):
            asked.append(filters)
            return (answer, filters if answer else "")

        monkeypatch.setattr(qt, "QFileDialog", types.SimpleNamespace(getExistingDirectory=folder, getOpenFileName=file))
        return asked

    return choose


@pytest.mark.parametrize("button", ["browseFolderButton", "browseFileButton"])
def test_browsing_names_what_to_install(panel, dialog, tmp_path, button):
    ui, chosen = panel.ui, str(tmp_path / "modèle à côté.zip")
    asked = dialog("")
    getattr(ui, button).click()
    assert (ui.installSourceEdit.text, ui.installModelButton.enabled) == ("", False)
    dialog(chosen)
    getattr(ui, button).click()
    assert (ui.installSourceEdit.text, ui.installModelButton.enabled) == (chosen, True)
    dialog("")
    getattr(ui, button).click()
    assert ui.installSourceEdit.text == chosen, "a dialog that was cancelled changes nothing"
    wanted = "Model folder" if button == "browseFolderButton" else "Models (*.zip)"
    assert asked == [wanted] * 3


def test_slicers_dialog_gives_a_plain_path(panel, monkeypatch):
    """PythonQt returns the path alone, where PySide6 returns it with the filter."""
    import qt

    chosen = types.SimpleNamespace(getOpenFileName=lambda *asked: "/models/one.zip")
    monkeypatch.setattr(qt, "QFileDialog", chosen)
    panel.ui.browseFileButton.click()
    assert panel.ui.installSourceEdit.text == "/models/one.zip"


def test_what_was_browsed_is_installed(shelf, panel, dialog):
    """Moved away, then installed again by two clicks."""
    elsewhere = user_folder().parent / "elsewhere"
    shutil.move(user_folder() / "flair-mr-ct", elsewhere)
    panel.reloadModels()
    panel.refresh()
    assert "flair-mr-ct" not in shown(panel)
    dialog(str(elsewhere))
    panel.ui.browseFolderButton.click()
    panel.ui.installModelButton.click()
    waitUntil(lambda: panel.ui.installModelButton.text == "Install model")
    assert panel.ui.managerLabel.text.startswith("Installed 'flair-mr-ct'")
    assert "flair-mr-ct" in shown(panel)


# Quality: measured where the mask is


def measure(panel):
    panel.ui.measureButton.click()
    waitUntil(lambda: panel.ui.measureButton.text == "Measure")
    return panel.ui.measureStatusLabel.text


def addMask(result, name, voxels):
    """A label map on the result's grid, 1 at these voxels (slices z, y, x)."""
    from SynthGANPanel.scene import nodes

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    array = np.zeros((6, 7, 8), np.uint8)
    array[voxels] = 1
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(nodes.ijkToRAS(result)))
    return array


def test_only_voxels_of_the_mask_are_measured(panel, result):
    """Inside the mask the reference is 10 HU away, outside 500: the real child process finds 10."""
    from SynthGANPanel.scene import nodes

    inside = addMask(result, "marked", (slice(1, 5), slice(2, 6), slice(1, 4)))
    away = np.where(inside, 10, 500).astype(np.float32)
    reference = addVolume(slicer.util.arrayFromVolume(result) + away, "real CT")
    np.testing.assert_array_equal(nodes.ijkToRAS(reference), nodes.ijkToRAS(result))
    panel.ui.qualityReferenceSelector.choose("real CT")
    panel.ui.qualityMaskSelector.choose("marked")
    assert panel.parameters.qualityMask.GetName() == "marked"
    assert measure(panel) == ""
    table = qualityTable.tableOf(result)
    row = next(each for each in qualityTable.rowsOf(table) if (each["Metric"], each["Tissue"]) == ("MAE", "all"))
    assert row["Value"] == pytest.approx(10.0, abs=1e-3)
    assert int(table.GetAttribute("SynthGAN.VoxelsCompared")) == inside.sum() == 48
    assert table.GetAttribute("SynthGAN.MaskUsed") == "marked"
    assert "mask: marked" in panel.ui.qualityBrowser.plainText


def test_mask_is_told_to_the_worker_unless_taken_back_or_empty(panel, result, monkeypatch, tmp_path):
    note = tmp_path / "job.json"
    command = [sys.executable, str(HERE / "fakeMeasure.py"), "good", str(note)]
    monkeypatch.setattr(environment, "workerCommand", lambda: command)
    addMask(result, "marked", (slice(1, 5),))
    addMask(result, "nothing marked", (slice(0, 0),))
    assert panel.ui.qualityMaskSelector.items() == ["Body, found automatically", "marked", "nothing marked"]
    for choice in ("marked", "Body, found automatically"):
        panel.ui.qualityMaskSelector.choose(choice)
        assert measure(panel) == ""
        assert ("mask" in json.loads(note.read_text(encoding="utf-8"))) == (choice == "marked")
    note.unlink()
    panel.ui.qualityMaskSelector.choose("nothing marked")
    assert measure(panel) == "The mask 'nothing marked' is empty. Choose another mask or none."
    assert not note.exists()


# Setup: the devices are checked again

WORKS = {"device": "cpu", "name": "x86", "memory": None, "free": 2**30, "ok": True, "message": "", "repair": ""}
BROKEN = {**WORKS, "device": "cuda:0", "name": "GPU", "ok": False, "message": "It failed.", "repair": "Update it."}


@pytest.fixture
def checker(monkeypatch, tmp_path):
    """`checker([device, ...])` makes these the outcome of the next check, `checker(None)` lets it crash."""

    def choose(devices):
        event = {"event": "done", "torch": "2.9.1", "cuda": None, "system": "Linux", "devices": devices}
        end = "sys.exit(7)" if devices is None else f"print({json.dumps(event)!r}, flush=True)"
        worker = tmp_path / "check.py"
        keep = f"pathlib.Path({str(tmp_path / 'asked')!r}).write_text(json.loads(sys.stdin.readline())['job'])"
        worker.write_text(f"import json, pathlib, sys\n{keep}\n{end}\n", encoding="utf-8")
        monkeypatch.setattr(environment, "workerCommand", lambda: [sys.executable, str(worker)])
        return tmp_path / "asked"

    return choose


@pytest.fixture
def broken(panel):
    """A panel whose last check found a device that does not work."""
    outcome = {"torch": "2.9.1", "cuda": None, "system": "Linux", "devices": [WORKS, BROKEN]}
    next(section for section in panel.sections if section.uiFile == "Setup").outcome = outcome
    panel.refresh()
    assert panel.ui.checkButton.visible
    assert panel.ui.checkButton.enabled
    return panel


def check(panel):
    panel.ui.checkButton.click()
    assert panel.ui.checkLabel.text == "Checking the devices..."
    assert not panel.ui.checkButton.enabled
    waitUntil(lambda: panel.ui.checkButton.enabled)


def test_check_again_after_a_repair(broken, checker):
    asked = checker([WORKS])
    check(broken)
    assert asked.read_text() == "check"
    assert not broken.ui.checkContents.visible, "what works is not in the way"
    broken.ui.advancedCollapsibleButton.click()
    assert broken.ui.devicesLabel.text == "cpu x86: works, 1.0 GB free."


def test_check_again_without_success_can_be_copied(broken, checker, app):
    checker([{**WORKS, "name": "another"}, BROKEN])
    check(broken)
    assert broken.ui.copyCheckButton.visible
    told = ["cpu another: works, 1.0 GB free.", "cuda:0 GPU: does not work. It failed. Update it."]
    assert broken.ui.checkLabel.text.splitlines() == told
    broken.ui.copyCheckButton.click()
    assert app.qt.clipboard().text().splitlines()[1:] == told


def test_check_that_crashes_is_told_and_can_be_repeated(broken, checker):
    checker(None)
    check(broken)
    assert "crashed (exit code 7)" in broken.ui.statusLabel.text
    assert "cuda:0 GPU: does not work." in broken.ui.checkLabel.text, "what was known before is still shown"
    checker([WORKS])
    check(broken)
    assert not broken.ui.checkContents.visible


# The sections are opened and closed.

CONTENTS = {
    "inputsCollapsibleButton": "inputsContents",
    "modelCollapsibleButton": "modelContents",
    "managerCollapsibleButton": "managerContents",
    "outputCollapsibleButton": "outputContents",
    "advancedCollapsibleButton": "advancedContents",
    "detailsCollapsibleButton": "logTextEdit",
    "compareCollapsibleButton": "compareModeSelector",
    "qualityCollapsibleButton": "qualityBody",
    "exportCollapsibleButton": "exportContents",
}
"""Each title with something that it opens."""
CLOSED_AT_FIRST = {"manager", "advanced", "details", "quality", "export"}


@pytest.mark.parametrize("title", CONTENTS)
def test_section_opens_and_closes_and_keeps_the_choices(panel, result, title):
    button, content = getattr(panel.ui, title), getattr(panel.ui, CONTENTS[title])
    parameters = panel.parameters
    parameters.compareMode, parameters.device, parameters.exportFormat = CompareMode.FADE, Device.CPU, ExportFormat.NRRD
    parameters.memoryLimitGb, parameters.modelId, parameters.sideBySide = 2.5, "tissue-mr-ct", False
    panel.ui.installSourceEdit.text, panel.ui.logTextEdit.plainText = "somewhere", "last words"
    node = parameters.parameterNode
    before = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert button.collapsed == (title.removesuffix("CollapsibleButton") in CLOSED_AT_FIRST)
    for _click in range(4):
        was = button.collapsed
        button.click()
        assert button.collapsed != was
        assert content.visible != button.collapsed
        assert not any(child.isVisible() for child in button.children() if button.collapsed and child.isWidgetType())
    assert {name: node.GetParameter(name) for name in node.GetParameterNames()} == before
    assert parameters.inputVolume.GetName() == "head"
    assert (panel.ui.installSourceEdit.text, panel.ui.logTextEdit.plainText) == ("somewhere", "last words")


def test_no_control_is_left_unclicked():
    text = "\n".join(file.read_text(encoding="utf-8") for file in HERE.glob("*.py"))
    words = set(re.findall(r"\w+", text))
    widgets = [widget for file in INTERFACES.glob("*.ui") for widget in ElementTree.parse(file).iter("widget")]
    controls = [widget.get("name") for widget in widgets if widget.get("class") not in PASSIVE]
    assert len(controls) > 60
    unclicked = [name for name in controls if name not in words]
    assert unclicked == [], f"No panel test names these controls; write one for each: {', '.join(unclicked)}"
