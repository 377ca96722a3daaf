"""Fixtures of the panel tests: one application for all of them, an empty scene and a fresh panel for each."""

import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(path) for path in (HERE, ROOT) if str(path) not in sys.path]

import numpy as np  # noqa: E402
import pytest  # noqa: E402

pytest.importorskip("slicer", reason="needs the slicer-core wheel")
pytest.importorskip("PySide6", reason="needs PySide6")

import host  # noqa: E402
from panelCases import addVolume  # noqa: E402

application = host.start()
application.moduleManager().load()
# Python owns the host's widgets, Slicer's are C++'s own. A collection of garbage in the midst of Qt's code, such as a
# list of widgets being turned into Python's, would destroy what that code is about: so only between tests.
gc.disable()


@pytest.fixture(scope="session", autouse=True)
def _quitAtTheEnd():
    yield
    application.close()


@pytest.fixture(autouse=True)
def _collectGarbageAfterwards():
    yield
    gc.collect()


@pytest.fixture
def app():
    """The application."""
    return application


@pytest.fixture
def scene(app):
    """An empty scene."""
    import slicer

    slicer.mrmlScene.Clear(False)
    return slicer.mrmlScene


@pytest.fixture(autouse=True)
def userData(monkeypatch, tmp_path):
    """The user's data folder is a new one, in which the terms of the bundled models are accepted."""
    from SynthGANLib.model.catalogue import Catalogue
    from SynthGANLib.model.consent import accept

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for entry in Catalogue().models():
        accept(entry.card)
    return tmp_path / "data"


@pytest.fixture
def panel(app, scene):
    """The module's panel, opened; closed and its run ended afterwards."""
    module = app.moduleManager().module("SynthGAN")
    widget = module.widgetRepresentation()
    widget.enter()
    widget.show()
    app.processEvents()
    yield widget.self()
    widget.exit()
    module.close()


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """`worker(mode)` puts the fake worker in place of the real one; returns the file it writes its job to."""
    from SynthGANPanel import environment

    def choose(mode):
        note = tmp_path / "job.json"
        command = [sys.executable, str(HERE / "fakeWorker.py"), mode, str(note)]
        monkeypatch.setattr(environment, "workerCommand", lambda: command)
        return note

    return choose


@pytest.fixture
def head(scene):
    """A small volume on an oblique grid, with values that tell every voxel from every other."""
    return addVolume(np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8), "head")
