"""Packages: nothing is installed unasked, the size is told before, and failures say what to do."""

import os
import sys
import types

import pytest
import slicer
from host import packaging

from SynthGANPanel import environment


@pytest.fixture
def without(monkeypatch):
    """`without("torch", "safetensors")` makes Slicer believe that these are missing."""

    def hide(*names):
        monkeypatch.setattr(packaging, "installed", dict.fromkeys(names, False))
        monkeypatch.setattr(packaging, "asked", [])

    return hide


@pytest.fixture
def torchExtension(monkeypatch):
    """The PyTorch extension, which notes what it was asked for."""
    asked = []

    class PyTorchUtilsLogic:
        def installTorch(self, **arguments):
            asked.append(arguments)
            packaging.installed["torch"] = True

    module = types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return asked


def refresh(panel):
    panel.refresh()
    return panel.ui


def test_nothing_to_install_shows_nothing(panel):
    assert not refresh(panel).installContents.visible


def test_missing_packages_are_named_with_their_size(panel, head, without):
    without("torch", "safetensors")
    ui = refresh(panel)
    assert ui.installContents.visible
    assert ui.installLabel.text.startswith("Still to be installed: PyTorch, safetensors (download: about 0.")
    assert not ui.applyButton.enabled
    assert ui.statusLabel.text == "Install the missing packages first."
    assert packaging.asked == []


def test_console_call_without_packages_is_refused(panel, head, without):
    without("torch")
    with pytest.raises(RuntimeError, match="needs PyTorch"):
        panel.logic.synthesize(head, model="tissue-mr-ct")


def test_click_installs_both_ways(panel, head, without, torchExtension):
    without("torch", "safetensors")
    panel._parameterNode.inputVolume = head
    refresh(panel).installButton.click()
    assert packaging.asked == [("safetensors>=0.4.3", "SynthGAN", False)]
    assert torchExtension == [{"torchVersionRequirement": environment.TORCH_REQUIREMENT}]
    assert panel.ui.statusLabel.text == "The packages are installed."
    assert not panel.ui.installContents.visible
    assert panel.ui.applyButton.enabled


def test_absent_extension_is_named_before_anything_is_installed(panel, without, monkeypatch):
    without("torch", "safetensors")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    refresh(panel).installButton.click()
    assert "Install the extension PyTorch with the Extensions Manager" in panel.ui.statusLabel.text
    assert packaging.asked == []


def test_failed_installation_says_why(panel, without, torchExtension, monkeypatch):
    import subprocess

    def fail(requirements, requester=None, prompt_install=True):
        raise subprocess.CalledProcessError(1, "pip")

    without("safetensors")
    monkeypatch.setattr(packaging, "pip_ensure", fail)
    refresh(panel).installButton.click()
    assert "did not succeed" in panel.ui.statusLabel.text
    assert "Check the internet connection" in panel.ui.statusLabel.text
    assert panel.ui.installContents.visible


def test_installation_that_installs_nothing_is_noticed(panel, without, monkeypatch):
    without("safetensors")
    monkeypatch.setattr(packaging, "pip_ensure", lambda *arguments, **choices: None)
    refresh(panel).installButton.click()
    assert "still missing: safetensors" in panel.ui.statusLabel.text


def test_old_slicer_is_told(panel, head, app, monkeypatch):
    monkeypatch.setattr(app, "minorVersion", 8)
    monkeypatch.setattr(app, "applicationVersion", "5.8.1")
    ui = refresh(panel)
    assert ui.statusLabel.text == (
        "SynthGAN needs Slicer 5.12 or later, and this is Slicer 5.8.1: please update Slicer."
    )
    assert not ui.applyButton.enabled
    assert not ui.installContents.visible


def test_worker_environment_finds_the_library(monkeypatch):
    import subprocess

    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    variables = environment.workerEnvironment()
    assert variables["PYTHONPATH"].endswith("/somewhere/else")
    command = [*environment.workerCommand()[:1], "-c", "import SynthGANLib; print(SynthGANLib.__file__)"]
    found = subprocess.run(command, env=variables, cwd="/", capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(environment.libraryFolder()))


def test_pythonslicer_is_used_in_the_application(monkeypatch, tmp_path):
    program = tmp_path / "PythonSlicer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.pythonExecutable() == str(program)
    monkeypatch.delattr(slicer, "app")
    assert environment.pythonExecutable() == sys.executable


def test_offline_everything_comes_from_the_folder_of_wheels(panel, without, monkeypatch, tmp_path):
    import qt

    without("torch", "safetensors")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)  # not needed, since nothing is fetched
    monkeypatch.setattr(qt, "QFileDialog", types.SimpleNamespace(getExistingDirectory=lambda *_: str(tmp_path)))
    refresh(panel).wheelFolderButton.click()
    assert panel.ui.wheelFolderButton.text == str(tmp_path)
    panel.ui.installButton.click()
    assert packaging.asked == [
        ("safetensors>=0.4.3", "SynthGAN", False), ("torch" + environment.TORCH_REQUIREMENT, "SynthGAN", False),
    ]  # fmt: skip
    assert packaging.places[-1] == ("1", tmp_path.as_uri())
    assert "PIP_NO_INDEX" not in os.environ
    environment.setWheelFolder("")
    assert refresh(panel).wheelFolderButton.text == "From the internet"


def test_installation_is_taken_up_after_a_restart(panel, without, torchExtension, monkeypatch):
    without("torch", "safetensors")

    class Restarted(BaseException):
        """The application ends in the middle of the installation."""

    def restart(*arguments, **choices):
        raise Restarted

    monkeypatch.setattr(packaging, "pip_ensure", restart)
    with pytest.raises(Restarted):
        environment.install()
    monkeypatch.undo()
    without("torch", "safetensors")
    assert refresh(panel).installLabel.text.startswith("The installation was interrupted by a restart")
    environment._remember(environment.PENDING_KEY, "")


def test_after_installing_the_devices_are_checked(panel, without, torchExtension):
    from panelCases import waitUntil

    without("torch", "safetensors")
    refresh(panel).installButton.click()
    assert panel.ui.checkContents.visible
    waitUntil(lambda: panel.devices() is not None)
    assert panel.devices()["devices"][0]["ok"]


def test_broken_device_is_told_with_its_repair_and_copied(panel, app):
    section = panel.section("Setup")
    section.outcome = {
        "torch": "2.13.0", "cuda": "12.8", "system": "Linux",
        "devices": [
            {"device": "cpu", "name": "x86_64", "memory": None, "free": 2**30, "ok": True, "message": "", "repair": ""},
            {"device": "cuda:0", "name": "GPU", "memory": 2**33, "free": 2**32, "ok": False, "message": "It failed.",
             "repair": "The graphics driver is too old for this PyTorch build (2.13.0): update the NVIDIA driver."},
        ],
    }  # fmt: skip
    ui = refresh(panel)
    assert ui.checkContents.visible
    assert "cuda:0 GPU: does not work. It failed. The graphics driver is too old" in ui.checkLabel.text
    ui.copyCheckButton.click()
    text = app.qt.clipboard().text()
    assert text.startswith("Linux; PyTorch 2.13.0 (12.8)")
    assert "update the NVIDIA driver" in text
