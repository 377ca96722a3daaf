"""The Model section clicked through: search, filters, terms, install, verify, delete."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import slicer
from panelCases import waitUntil

from SynthGANLib.model.catalogue import Catalogue, user_folder
from SynthGANPanel.runs import modelManager


@pytest.fixture
def folder(tmp_path):
    """A model folder of another id, to be installed: the tissue model under a new name."""
    source = Catalogue().find("tissue-mr-ct")
    target = tmp_path / "tissue-again"
    shutil.copytree(source, target)
    card = json.loads((target / "model.json").read_text())
    card["id"], card["anatomy"] = "tissue-again", "knee"
    (target / "model.json").write_text(json.dumps(card))
    return target


def shown(panel):
    selector = panel.ui.modelSelector
    return [selector.itemData(index) for index in range(selector.count)]


def done(panel):
    waitUntil(lambda: panel.ui.installModelButton.text == "Install model")
    return panel.ui.managerLabel.text


def install(panel, source, sha256=""):
    panel.ui.installSourceEdit.text = str(source)
    panel.ui.sha256Edit.text = sha256
    panel.ui.installModelButton.click()
    return done(panel)


def test_search_and_filters_narrow_the_list(panel):
    everything = shown(panel)
    assert {"head-mr-ct", "tissue-mr-ct"} <= set(everything)
    panel._parameterNode.modelId = "tissue-mr-ct"
    panel.ui.modelSearchEdit.text = "fuzzy clusters of a tissue that is not there"
    assert shown(panel) == ["tissue-mr-ct"], "what is chosen stays visible"
    panel.ui.modelSearchEdit.text = "HEAD-mr"
    assert set(shown(panel)) == {"head-mr-ct", "tissue-mr-ct"}
    panel.ui.modelSearchEdit.text = ""
    assert shown(panel) == everything
    directions = panel.ui.directionSelector
    assert [directions.itemText(i) for i in range(directions.count)][:2] == ["Any direction", "MR to CT"]


def test_filter_by_anatomy(panel, folder):
    install(panel, folder)
    anatomies = panel.ui.anatomySelector
    anatomies.currentIndex = [anatomies.itemText(i) for i in range(anatomies.count)].index("knee")
    panel._parameterNode.modelId = "tissue-again"
    assert shown(panel) == ["tissue-again"]


def test_terms_are_accepted_once_and_recorded(panel, head, worker, userData):
    (userData / "synthgan" / "accepted_terms.json").unlink()
    panel._parameterNode.inputVolume = head
    panel._parameterNode.modelId = "tissue-mr-ct"
    panel.refresh()
    assert panel.ui.acceptTermsCheckBox.visible
    assert panel.ui.statusLabel.text == "Accept the terms of the model first."
    assert not panel.ui.applyButton.enabled
    panel.ui.acceptTermsCheckBox.click()
    assert not panel.ui.acceptTermsCheckBox.visible
    assert panel.ui.applyButton.enabled
    worker("good")
    panel.ui.applyButton.click()
    waitUntil(lambda: panel.ui.applyButton.text == "Apply")
    accepted = modelManager.termsAcceptedOn(panel.model().card)
    assert panel.result().GetAttribute("SynthGAN.TermsAccepted") == accepted != ""
    panel._parameterNode.modelId = "head-mr-ct"
    assert panel.ui.acceptTermsCheckBox.visible, "another model has other terms"


def test_time_on_this_computer_is_told_after_the_first_run(panel):
    import dataclasses

    from SynthGANLib.inference.estimate import Run, remember, this_machine

    panel._parameterNode.modelId = "tissue-mr-ct"
    assert not panel.ui.modelTimeLabel.visible
    card = panel.model().card
    run = Run(
        model=f"{card.id}@{card.version}", machine=this_machine(), device="cpu", asked="auto", threads=2,
        date="2026-11-22", source=(130, 256, 250), conformed=(130, 256, 250), computed=8320000, start=1.0, seconds=12.4,
    )  # fmt: skip
    remember(dataclasses.replace(run, machine="another", seconds=99.0))
    panel.refresh()
    assert not panel.ui.modelTimeLabel.visible, "another computer's time says nothing"
    remember(run)
    panel.refresh()
    assert panel.ui.modelTimeLabel.visible
    assert panel.ui.modelTimeLabel.text == "On this computer: 12 s for 250 x 256 x 130 voxels on cpu (2026-11-22)."
    panel._parameterNode.modelId = "head-mr-ct"
    assert not panel.ui.modelTimeLabel.visible


def test_console_call_is_not_asked_and_says_so(panel, head, worker, userData):
    (userData / "synthgan" / "accepted_terms.json").unlink()
    worker("good")
    result = panel.logic.synthesize(head, model="tissue-mr-ct")
    assert result.GetAttribute("SynthGAN.TermsAccepted") == "not asked"


@pytest.fixture
def answer(monkeypatch):
    """`answer(True)` confirms what is asked from now on; returns the list of questions."""
    asked = []

    def choose(value):
        def confirm(text, windowTitle=None):
            asked.append(text)
            return value

        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", confirm)
        return asked

    return choose


def test_folder_is_installed_verified_and_deleted(panel, folder, answer):
    assert install(panel, folder).startswith("Installed 'tissue-again' ")
    assert panel.ui.installSourceEdit.text == ""
    assert "tissue-again" in shown(panel)
    panel._parameterNode.modelId = "tissue-again"
    assert panel.ui.managerLabel.text.endswith(" kB.")
    panel.ui.verifyModelButton.click()
    assert done(panel).startswith("'tissue-again' ")
    assert "is complete and computes the expected values" in panel.ui.managerLabel.text
    asked = answer(False)
    panel.ui.deleteModelButton.click()
    assert "'tissue-again'" in asked[0]
    assert (user_folder() / "tissue-again").exists()
    answer(True)
    panel.ui.deleteModelButton.click()
    assert "Deleted 'tissue-again'." in panel.ui.managerLabel.text
    assert not (user_folder() / "tissue-again").exists()
    assert panel.ui.modelSelector.currentText == "tissue-again (not installed)"


def test_bundled_models_cannot_be_deleted(panel):
    panel._parameterNode.modelId = "tissue-mr-ct"
    assert not panel.ui.deleteModelButton.enabled
    with pytest.raises(RuntimeError, match="no model"):
        modelManager.remove(panel.model())
    assert Catalogue().find("tissue-mr-ct").is_dir()


def test_damage_is_found_by_verifying(panel, folder):
    install(panel, folder)
    panel._parameterNode.modelId = "tissue-again"
    readme = user_folder() / "tissue-again" / "README.md"
    readme.write_text(readme.read_text() + "x")
    panel.ui.verifyModelButton.click()
    assert "README.md" in done(panel)


def test_zip_with_a_checksum(panel, folder, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "model"), "zip", folder))
    assert "another checksum" in install(panel, archive, "0" * 64)
    assert "tissue-again" not in shown(panel)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert install(panel, archive, digest).startswith("Installed 'tissue-again' ")


@pytest.fixture
def address(folder, tmp_path):
    """An http address of this machine that serves the model's zip."""
    (tmp_path / "served").mkdir()
    shutil.make_archive(str(tmp_path / "served" / "model"), "zip", folder)

    # A process, not a thread: a collection of garbage in one would destroy widgets where none may be destroyed.
    serve = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path / "served")]
    with subprocess.Popen([*serve, "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = re.search(r"port (\d+)", server.stdout.readline()).group(1)
        yield f"http://127.0.0.1:{port}/model.zip", tmp_path / "served" / "model.zip"
        server.terminate()


def test_address_needs_a_checksum_and_is_fetched_on_the_click(panel, address):
    url, archive = address
    assert "needs the checksum" in install(panel, url)
    assert "not safe" in install(panel, "http://example.org/model.zip")
    assert install(panel, url, hashlib.sha256(archive.read_bytes()).hexdigest()).startswith("Installed ")


def test_closing_the_module_ends_an_installation(panel, app, monkeypatch, worker):
    worker("slow")
    panel.ui.installSourceEdit.text = "somewhere"
    panel.ui.installModelButton.click()
    task = panel.sections[2]._task
    assert task.running
    app.moduleManager().module("SynthGAN").close()
    assert not task.running


def test_cancelling_an_installation(panel, worker):
    worker("slow")
    panel.ui.installSourceEdit.text = "somewhere"
    panel.ui.installModelButton.click()
    assert panel.ui.installModelButton.text == "Cancel"
    assert not panel.ui.installSourceContents.enabled
    panel.ui.installModelButton.click()
    assert "Cancelled; no model was changed." in done(panel)


def test_nothing_named_cannot_be_installed(panel):
    assert not panel.ui.installModelButton.enabled
    slicer.app.processEvents()
    panel.ui.installSourceEdit.text = "   "
    assert not panel.ui.installModelButton.enabled
