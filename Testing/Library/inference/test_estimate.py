"""Time and memory told before the start: closed forms, what is recorded and by whom, and damaged records."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import head_like, identity_card, network_card, tiny_model

import SynthGANLib
from SynthGANLib.errors import InputError, MemoryExhaustedError
from SynthGANLib.image.geometry import conform, conformed_grid
from SynthGANLib.image.grid import Grid
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference import estimate as module
from SynthGANLib.inference.estimate import FILE, KEPT, Run, arrays, estimate_run, read_runs, remember, run_of
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.io.volumes import write_volume
from SynthGANLib.model.card import Card, SpatialSpec

MIB = 2**20


def grid(extent: int, mm: float = 1.0) -> Grid:
    return Grid((extent, extent, extent), np.diag([mm, mm, mm, 1.0]))


@pytest.fixture
def card() -> Card:
    """A model that takes its input as it is, in tiles of 16 to 64 voxels."""
    spatial = SpatialSpec(dims=3, tile_min=(16, 16, 16), tile_max=(64, 64, 64), multiple=16, spacing=(1.0, 1.0, 1.0))
    return dataclasses.replace(network_card(), spatial=spatial)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models"


def done(card: Card, on: Grid, folder: Path, seconds: float = 10.0, **facts: Any) -> Run:
    """Record a run on the CPU that took 2 s to load the model."""
    told = {"device": "cpu", "tile_cost": 100.0, "tile_budget": 64 * MIB, "peak_memory": 500 * MIB, **facts}
    run = run_of(card, on, told.pop("asked", "auto"), told, threads=2, start=2.0, seconds=seconds)
    assert remember(run, folder) == ""
    return run


def test_nothing_is_claimed_before_a_run(card: Card, folder: Path) -> None:
    found = estimate_run(card, grid(64), folder=folder)
    assert (found.seconds, found.tiles, found.runs) == (None, None, 0)
    assert found.basis == "not yet measured on this machine"
    assert found.bytes is not None
    assert estimate_run(card, grid(64), "cuda", folder=folder).bytes is None


def test_time_follows_the_voxels_that_are_computed(card: Card, folder: Path) -> None:
    fixed = dataclasses.replace(card.spatial, tile_min=(64, 64, 64), tile_fixed=True)
    card = dataclasses.replace(card, spatial=fixed)
    run = done(card, grid(64), folder)
    assert run.computed == 64**3
    same = estimate_run(card, grid(64), folder=folder)
    assert (same.seconds, same.tiles) == (pytest.approx(10.0), 1)
    assert same.basis == f"measured here {run.date}"
    finer = estimate_run(card, grid(32, mm=4.0), folder=folder)  # 128 voxels of 1 mm for the model
    assert finer.tiles == 27  # of 64 voxels with a quarter in common, for each axis three
    assert finer.seconds == pytest.approx(2.0 + 8.0 * 27)
    done(card, grid(32, mm=4.0), folder, seconds=2.0 + 4.0 * 27)  # twice as fast for each voxel
    between = estimate_run(card, grid(64), folder=folder)
    assert between.seconds == pytest.approx(2.0 + 6.0)
    assert between.runs == 2


def test_a_single_slow_run_does_not_bend_the_line(card: Card, folder: Path) -> None:
    for extent, seconds in ((16, 2.1), (32, 2.8), (48, 4.7), (64, 8.4), (64, 40.0)):
        done(card, grid(extent), folder, seconds=seconds)
    expected = estimate_run(card, grid(48), folder=folder)
    assert expected.seconds == pytest.approx(4.7, rel=0.25)


def test_memory_grows_with_the_arrays_and_never_falls_below_what_loading_took(card: Card, folder: Path) -> None:
    done(card, grid(64), folder, peak_memory=500 * MIB)
    small, same, large = (estimate_run(card, grid(extent), folder=folder).bytes for extent in (16, 64, 300))
    assert small == same == 500 * MIB
    tile = 64**3 * 100  # the largest tile, of one volume or the other
    grown = arrays(card, grid(300), grid(300), tile) - arrays(card, grid(64), grid(64), tile)
    assert large == pytest.approx(500 * MIB + grown, rel=0.02)
    assert grown > 14 * (300**3 - 64**3) * 0.9


def test_a_memory_limit_makes_smaller_tiles_or_is_refused(card: Card, folder: Path) -> None:
    done(card, grid(64), folder)
    free = estimate_run(card, grid(64), folder=folder)
    tight = estimate_run(card, grid(64), memory=4 * 64**3 + 5 * MIB, folder=folder)
    assert free.tiles == 1
    assert tight.tiles is not None
    assert tight.tiles > 1
    with pytest.raises(MemoryExhaustedError, match="smallest tile"):
        estimate_run(card, grid(64), memory=100_000, folder=folder)
    with pytest.raises(InputError, match="voxels would have"):
        estimate_run(card, grid(200, mm=50.0), folder=folder)


def test_runs_count_for_their_model_device_and_machine_only(card: Card, folder: Path, monkeypatch: Any) -> None:
    done(card, grid(64), folder, seconds=10.0)
    done(card, grid(64), folder, seconds=4.0, device="cuda", asked="cuda", peak_memory=900 * MIB)
    assert estimate_run(card, grid(64), "auto", folder=folder).seconds == pytest.approx(10.0)
    assert estimate_run(card, grid(64), "cpu", folder=folder).seconds == pytest.approx(10.0)
    fast = estimate_run(card, grid(64), "cuda", folder=folder)
    assert (fast.seconds, fast.bytes) == (pytest.approx(4.0), 900 * MIB)
    assert estimate_run(dataclasses.replace(card, version="9.9.9"), grid(64), folder=folder).seconds is None
    monkeypatch.setattr(module, "this_machine", lambda: "another")
    assert estimate_run(card, grid(64), folder=folder).seconds is None


def test_the_newest_runs_are_kept(card: Card, folder: Path) -> None:
    for seconds in range(3, 12):
        done(card, grid(64), folder, seconds=float(seconds))
    runs, remark = read_runs(folder)
    assert [run.seconds for run in runs] == [11.0 - back for back in reversed(range(KEPT))]
    assert remark == ""
    assert not list(folder.parent.glob("*.part"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "runs": []}',
        b'{"version": 1, "runs": [{}]}',
        b'{"version": 1, "runs": 7}',
        b'{"version": 1, "runs": [{"source": [1, 2]}]}',
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_record_is_begun_anew_and_told(card: Card, folder: Path, content: bytes) -> None:
    run = done(card, grid(64), folder)
    path = folder.parent / FILE
    path.write_bytes(content)
    assert read_runs(folder)[0] == []
    assert estimate_run(card, grid(64), folder=folder).seconds is None
    remark = remember(run, folder)
    assert FILE in remark
    assert "begun anew" in remark
    assert read_runs(folder) == ([run], "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("computed", 0), ("seconds", -1.0), ("start", None), ("device", 7), ("source", [1, 2, "3"]), ("peak", "much")],
)
def test_a_record_with_a_wrong_value_is_no_record(card: Card, folder: Path, name: str, value: Any) -> None:
    done(card, grid(64), folder)
    path = folder.parent / FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content["runs"][0][name] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    assert "cannot be understood" in read_runs(folder)[1]


def test_a_record_that_cannot_be_written_is_told_and_harms_nothing(card: Card, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    run = run_of(card, grid(64), "cpu", {"device": "cpu"}, threads=1, start=1.0, seconds=2.0)
    assert "could not be recorded" in remember(run, tmp_path / "file" / "models" / "x")


def test_the_grid_is_the_one_that_a_volume_is_conformed_to() -> None:
    affine = np.array([[0.0, 0, 3.1, 5], [-1.2, 0, 0, 7], [0, 0.8, 0, -9], [0, 0, 0, 1]])
    volume = Volume(np.zeros((7, 21, 19), np.float32), affine)
    for orientation, spacing in (("LPS", (1.0, 2.0, None)), (None, None), ("RAS", None)):
        expected = conform(volume, orientation=orientation, spacing=spacing).volume.grid
        assert conformed_grid(volume.grid, orientation=orientation, spacing=spacing).same_as(expected)


def test_the_tiles_are_those_that_are_computed(folder: Path) -> None:
    """The estimate for a volume of which everything is computed, against the run itself."""
    model = tiny_model(identity_card())
    rng = np.random.default_rng(0)
    image = Volume(rng.normal(100, 10, (70, 40, 40)).astype(np.float32), np.eye(4), "1", {"modality": "MR"})
    result = synthesize(image, model, device="cpu")
    run = run_of(model.card, image.grid, "cpu", result.meta, threads=1, start=0.0, seconds=1.0)
    assert remember(run, folder) == ""
    assert estimate_run(model.card, image.grid, "cpu", folder=folder).tiles == result.meta["tiles"]


@pytest.mark.slow
def test_the_worker_records_its_runs_and_estimates_need_no_torch(shelf: Path, tmp_path: Path) -> None:
    write_volume(head_like(), tmp_path / "mr.nrrd")
    root = str(Path(SynthGANLib.__file__).parents[1])
    paths = {"SYNTHGAN_MODELS": str(shelf), "PYTHONPATH": root, "SYNTHGAN_HOME": str(tmp_path / "home")}
    environment = {**os.environ, **paths}
    job = {
        "job": "synthesize", "input": str(tmp_path / "mr.nrrd"), "output": str(tmp_path / "ct.nrrd"),
        "model": "tiny-mr-ct", "device": "cpu",
    }  # fmt: skip
    command = [sys.executable, "-m", "SynthGANLib.jobs.worker"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(job).encode() + b"\n")
    worker.stdin.flush()  # and left open: its end would cancel the run
    assert worker.stdout is not None
    events = [json.loads(line) for line in worker.stdout]
    assert worker.wait(180) == 0
    worker.stdin.close()
    content = json.loads((tmp_path / "home" / FILE).read_text(encoding="utf-8"))
    assert content["runs"] == [events[-1]["pace"]]
    assert 0 < events[-1]["pace"]["start"] < events[-1]["pace"]["seconds"]
    script = (
        "import sys\nsys.modules['torch'] = None\n"  # an import of it would fail from here on
        "from SynthGANLib.model.catalogue import Catalogue\nfrom SynthGANLib.inference.estimate import estimate_run\n"
        "from SynthGANLib import read_volume\n"
        "card = next(entry.card for entry in Catalogue().models() if entry.id == 'tiny-mr-ct')\n"
        "found = estimate_run(card, read_volume(sys.argv[1]).grid, 'cpu')\n"
        "assert found.seconds > 0 and found.bytes > 0 and found.tiles > 0 and found.runs == 1, found\n"
    )
    subprocess.run([sys.executable, "-c", script, job["input"]], env=environment, check=True, timeout=180)
