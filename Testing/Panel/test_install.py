"""Packages: nothing is installed unasked, the size is told before, and failures say what to do."""

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
