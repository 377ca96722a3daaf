"""The page in the application settings, and what follows from it."""

import os
import shutil

import pytest
import slicer
from PySide6 import QtCore

from SynthGANLib.model.consent import accepted_on
from SynthGANPanel import environment, settings
from SynthGANPanel.parameters import Device


@pytest.fixture
def page(app, userData, monkeypatch):
    """The page as the settings dialog shows it; the settings are forgotten afterwards."""
    monkeypatch.setenv(settings.SHELF, "")
    app.startUp()
    yield app.settings.pages["SynthGAN"]
    QtCore.QSettings().clear()
    settings.applyModelFolder()


def control(page, name):
    return page.findChild(QtCore.QObject, name)


def test_page_is_registered_and_shows_the_defaults(page, userData):
    assert control(page, "modelFolderButton").directory == str(userData / "synthgan" / "models")
    assert control(page, "defaultDeviceSelector").currentText == "Automatic"
    assert control(page, "memoryLimitSpinBox").value == 0
    assert control(page, "annotationCheckBox").checked


def test_a_new_scene_begins_with_the_settings(page, app, scene):
    control(page, "defaultDeviceSelector").currentIndex = list(Device).index(Device.CPU)
    control(page, "memoryLimitSpinBox").value = 2.5
    control(page, "annotationCheckBox").click()
    slicer.mrmlScene.RemoveNode(slicer.util.getModuleLogic("SynthGAN").getParameterNode().parameterNode)
    parameters = slicer.util.getModuleLogic("SynthGAN").getParameterNode()
    assert (parameters.device, parameters.memoryLimitGb) == (Device.CPU, 2.5)
    assert not settings.annotationShown()
    parameters.device = Device.CUDA
    again = slicer.util.getModuleLogic("SynthGAN").getParameterNode()
    assert again.device == Device.CUDA, "what was chosen in a scene wins over the settings"


def test_model_folder_is_used_by_panel_and_children(page, tmp_path):
    from SynthGANLib.model.catalogue import Catalogue, user_folder

    control(page, "modelFolderButton").directory = str(tmp_path / "mine")
    assert user_folder() == tmp_path / "mine"
    assert environment.workerEnvironment()[settings.SHELF] == str(tmp_path / "mine")
    Catalogue().install(Catalogue().find("tissue-mr-ct"))
    assert (tmp_path / "mine" / "tissue-mr-ct" / "model.json").is_file()


def test_a_shelf_that_is_there_shows_its_models_at_once(page, panel, tmp_path):
    from SynthGANLib.model.catalogue import Catalogue

    shelf = tmp_path / "shelf" / "mine-mr-ct"
    shutil.copytree(Catalogue().find("tissue-mr-ct"), shelf)
    card = (shelf / "model.json").read_text(encoding="utf-8")
    (shelf / "model.json").write_text(card.replace('"tissue-mr-ct"', '"mine-mr-ct"', 1), encoding="utf-8")
    control(page, "modelFolderButton").directory = str(shelf.parent)
    assert "mine-mr-ct" in panel.models
    assert accepted_on(panel.models["tissue-mr-ct"].card), "what was accepted before stays so"


def test_a_folder_set_by_the_shell_stays(page, monkeypatch):
    monkeypatch.setenv(settings.SHELF, "/from/the/shell")
    settings.applyModelFolder()
    assert os.environ[settings.SHELF] == "/from/the/shell"


@pytest.mark.parametrize("text", ["much", "-3", "1e9"])
def test_a_settings_file_edited_by_hand_does_no_harm(page, text):
    settings.store(settings.MEMORY, text)
    settings.store(settings.DEVICE, "QUANTUM")
    assert 0 <= settings.defaultMemoryLimitGb() <= 1024
    assert settings.defaultDevice() == Device.AUTO
