"""What the tests of the command line share: models on a shelf and a working folder with an awkward name."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_folders import head_like, identity_card, tiny_model

from SynthGANLib.io.volumes import write_volume


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("models")
    tiny_model().save(shelf / "tiny")
    tiny_model(identity_card()).save(shelf / "same")
    return shelf


@pytest.fixture
def work(tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with spaces and umlauts, an MR in it, and the test's models as the only ones."""
    folder = tmp_path / "Kopf é 头"
    folder.mkdir()
    write_volume(head_like(), folder / "mr scan.nii.gz")
    monkeypatch.setenv("SYNTHGAN_MODELS", str(shelf))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    return folder
