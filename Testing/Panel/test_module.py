"""What Slicer learns about the module, and the models it offers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "Resources" / "Models"
WITHOUT_NETWORK = """
import os, runpy, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("the network was used:", event, arguments, file=sys.stderr, flush=True)
        os._exit(9)

sys.addaudithook(watch)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""Runs a script in a process that ends at its first use of the network."""


@pytest.fixture
def extraModels(monkeypatch, tmp_path):
    """A folder of the user's own models: a copy of a bundled one under another id, and one that is damaged."""
    for name in ("mine-mr-ct", "damaged-mr-ct"):
        shutil.copytree(MODELS / "tissue-mr-ct", tmp_path / name)
    card = json.loads((tmp_path / "mine-mr-ct" / "model.json").read_text(encoding="utf-8"))
    card.update(id="mine-mr-ct", title="My own")
    (tmp_path / "mine-mr-ct" / "model.json").write_text(json.dumps(card), encoding="utf-8")
    (tmp_path / "damaged-mr-ct" / "model.json").write_text("{", encoding="utf-8")
    monkeypatch.setenv("SYNTHGAN_MODELS", str(tmp_path))


def test_module_introduces_itself(app):
    module = app.moduleManager().module("SynthGAN")
    assert module.title == "SynthGAN"
    assert module.categories == ["Image Synthesis"]
    assert module.dependencies == []
    assert module.contributors
    assert "For research only" in module.helpText
    assert "https://github.com/SynthGAN/SlicerSynthGAN" in module.helpText
    assert module.acknowledgementText.strip()
    assert not module.icon.isNull()


def test_bundled_models_are_offered(panel):
    selector = panel.ui.modelSelector
    offered = {selector.itemData(index): selector.itemText(index) for index in range(selector.count)}
    for path in MODELS.glob("*/model.json"):
        assert path.parent.name in offered
        assert path.parent.name in offered[path.parent.name]


@pytest.mark.usefixtures("extraModels")
def test_own_models_are_offered_and_damaged_ones_explained(panel, head):
    panel.parent.exit()
    panel.parent.enter()
    selector = panel.ui.modelSelector
    offered = [selector.itemText(index) for index in range(selector.count)]
    assert "My own (mine-mr-ct)" in offered
    assert "damaged-mr-ct (refused)" in offered
    selector.currentIndex = offered.index("damaged-mr-ct (refused)")
    panel.ui.inputSelector.choose("head")
    assert "damaged-mr-ct" in panel.ui.statusLabel.text
    assert "is refused" in panel.ui.statusLabel.text
    assert not panel.ui.applyButton.enabled
    selector.currentIndex = offered.index("My own (mine-mr-ct)")
    assert panel.ui.statusLabel.text == "Accept the terms of the model first."
    panel.ui.acceptTermsCheckBox.click()
    assert panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == "Ready."


def test_opening_the_panel_loads_nothing_heavy():
    """Slicer imports the module at every start, and the panel opens before anything is installed: no network either."""
    script = ROOT / "Tools" / "Benchmarks" / "panel_opening.py"
    command = [sys.executable, "-c", WITHOUT_NETWORK, str(script)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["loaded"] == []
    assert 0 < answer["import_cpu_s"] < answer["open_cpu_s"], "the sections belong to the opening"
