"""The line about time and memory before Apply, for nodes of the scene and the bundled models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from SynthGANLib.image.grid import Grid
from SynthGANLib.inference.estimate import remember, run_of
from SynthGANLib.model.catalogue import Catalogue, bundled_folders


@pytest.fixture(autouse=True)
def user_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNTHGAN_HOME", str(tmp_path))


@pytest.fixture
def card() -> Any:
    return next(entry.card for entry in Catalogue(bundled_folders()).models() if entry.id == "head-mr-ct")


@pytest.fixture
def node(scene: Any) -> Any:
    from SynthGANPanel import selftest

    return selftest.addVolume(np.zeros((64, 128, 128), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]), "head")


def test_before_the_first_run_no_time_is_claimed(card: Any, node: Any) -> None:
    from SynthGANPanel.runs import estimation

    text = estimation.describe(node, card)
    assert text.startswith("The time is known after the first synthesis")
    assert "Memory: up to about 1.2 GB." in text
    assert "Memory" not in estimation.describe(node, card, "cuda")
    assert estimation.describe(None, card) == estimation.describe(node, None) == ""
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    assert estimation.describe(empty, card) == ""


def test_after_a_run_time_memory_and_tiles_are_told(card: Any, node: Any) -> None:
    from SynthGANPanel.runs import estimation

    facts = {"device": "cpu", "tile_cost": 88.0, "tile_budget": 3 * 2**28, "peak_memory": 2**30}
    grid = Grid((64, 128, 128), np.diag([-1.0, -1.0, 2.0, 1.0]))
    run = run_of(card, grid, "auto", facts, threads=1, start=5.0, seconds=95.0)
    assert remember(run) == ""
    text = estimation.describe(node, card)
    assert (
        text
        == f"About 2 min and 1.0 GB of memory (tiles: 1 at most), by runs on this computer, the last on {run.date}."
    )
    refused = estimation.describe(node, card, memoryLimitGb=0.01)
    assert "smallest tile" in refused


def test_large_numbers_are_told_in_gigabytes() -> None:
    from SynthGANPanel.runs import estimation

    assert estimation.describeBytes(5 * 2**29) == "2.5 GB"
    assert estimation.describeBytes(1000) == "0.1 GB"
