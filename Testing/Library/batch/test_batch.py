"""Batches on one machine: every case once, what is done is kept, what fails is told, nothing foreign is touched."""

from __future__ import annotations

import csv
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_cases import batch, check_whole, files, heads, planned, statuses
from cli_cases import call
from model_folders import edit_json, head_like, identity_card, network_card, tiny_model

from SynthGANLib.batch.lock import LOCK, held
from SynthGANLib.batch.record import MADE_BY
from SynthGANLib.batch.run import PARTS, run_batch
from SynthGANLib.files import sha256_of
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.model.card import SourceSpec, SpatialSpec, TargetSpec
from SynthGANLib.model.model import Model
from SynthGANLib.networks.identity import Identity

NAMES = ("p1.nii.gz", "site b/p1.nii.gz", "site b/tief/p 2.mha")


@pytest.fixture
def data(work: Path) -> Path:
    return heads(work / "in", *NAMES)


@pytest.fixture
def syntheses(monkeypatch: pytest.MonkeyPatch) -> list[Volume]:
    """The volumes that were given to the synthesis."""
    module = importlib.import_module("SynthGANLib.inference.pipeline")
    made: list[Volume] = []
    real = module.synthesize

    def spy(volume: Volume, *arguments: Any, **choices: Any) -> Volume:
        made.append(volume)
        return real(volume, *arguments, **choices)

    monkeypatch.setattr(module, "synthesize", spy)
    return made


def test_a_folder_gives_what_single_runs_give(work: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = work / "out"
    code, summary, err = batch(capsys, data, "--model", "tiny-mr-ct", "--out", out)
    assert code == 0, err
    assert check_whole(out) == ["p1.nrrd", "site b/p1.nrrd", "site b/tief/p 2.nrrd"]
    assert len(files(out)) == 2 * 3 + 2  # a record each, two summaries, nothing hidden
    for name, made in zip(NAMES, check_whole(out), strict=True):
        code, single, _ = call(capsys, "synthesize", data / name, work / "one.nrrd", "--model", "tiny-mr-ct", "--json")
        record = json.loads((out / (made + ".json")).read_text(encoding="utf-8"))
        assert code == 0
        assert (work / "one.nrrd").read_bytes() == (out / made).read_bytes()
        told = json.loads(single)
        assert set(told) - {"pace"} <= set(record)
        same = (
            "model",
            "version",
            "weights_sha256",
            "output_sha256",
            "device",
            "tiles",
            "warnings",
            "plan",
            "versions",
        )
        assert {key: record[key] for key in same} == {key: told[key] for key in same}
        assert record["input_sha256"] == sha256_of(data / name)
        assert record["input"] == str(data / name)
        (work / "one.nrrd").unlink()
    assert summary["counts"] == {"done": 3, "skipped": 0, "failed": 0, "not run": 0}
    lines = [line for line in err.splitlines() if line.startswith("[")]
    assert [line[:6] for line in lines] == ["[1/3] ", "[2/3] ", "[3/3] "]


def test_the_model_is_loaded_once_and_not_at_all_if_all_is_done(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    real = Model.load

    def spy(path: Path, **choices: Any) -> Model:
        loads.append(str(path))
        return real(path, **choices)

    monkeypatch.setattr(Model, "load", spy)
    arguments = (data, "--model", "same", "--out", work / "out")
    assert batch(capsys, *arguments)[0] == 0
    assert len(loads) == 1
    before = {name: (work / "out" / name).stat().st_mtime_ns for name in check_whole(work / "out")}
    code, summary, _ = batch(capsys, *arguments)
    assert (code, len(loads)) == (0, 1)
    assert set(statuses(summary).values()) == {"skipped"}
    assert {name: (work / "out" / name).stat().st_mtime_ns for name in before} == before
    assert all(row["device"] == "cpu" and row["seconds"] > 0 for row in summary["cases"])


def changes() -> dict[str, Any]:
    """What is done to data (d), output (o) and arguments (a) between two runs."""
    return {
        "another input": lambda d, o, a: write_volume(head_like(seed=9), d / "p1.nii.gz", force=True),
        "no result": lambda d, o, a: (o / "p1.nrrd").unlink(),
        "neither result nor record": lambda d, o, a: [(o / n).unlink() for n in ("p1.nrrd", "p1.nrrd.json")],
        "damaged result": lambda d, o, a: (o / "p1.nrrd").write_bytes(b"cut"),
    }


@pytest.mark.parametrize("change", changes().values(), ids=list(changes()))
def test_only_what_changed_is_done_again(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], syntheses: list[Volume], change: Any
) -> None:
    out = work / "out"
    arguments: list[object] = [data, "--model", "same", "--out", out]
    assert batch(capsys, *arguments)[0] == 0
    change(data, out, arguments)
    syntheses.clear()
    code, summary, err = batch(capsys, *arguments)
    assert code == 0, err
    assert statuses(summary) == {"p1": "done", "site b/p1": "skipped", "site b/tief/p 2": "skipped"}
    assert len(syntheses) == 1
    expected = np.rint(read_volume(data / "p1.nii.gz").array)
    assert np.array_equal(read_volume(out / "p1.nrrd").array, expected)
    syntheses.clear()
    assert set(statuses(batch(capsys, *arguments)[1]).values()) == {"skipped"}


def test_options_and_model_decide_too(
    work: Path, shelf: Path, data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, model = work / "out", tmp_path / "model"
    tiny_model(network_card(id="twice")).save(model)
    arguments = [data, "--model", model, "--out", out]
    assert statuses(batch(capsys, *arguments)[1])["p1"] == "done"
    edit_json(model, lambda content: content.update(title="Another title"))
    assert statuses(batch(capsys, *arguments)[1])["p1"] == "skipped"
    edit_json(model, lambda content: content["target"].update(range=[-1024, 100]))
    assert statuses(batch(capsys, *arguments)[1])["p1"] == "done"
    assert read_volume(out / "p1.nrrd").array.max() <= 100
    tiny_model(network_card(id="twice"), seed=1).save(model, force=True)
    assert statuses(batch(capsys, *arguments)[1])["p1"] == "done"
    assert statuses(batch(capsys, *arguments, "--frame", 0)[1])["p1"] == "done"
    assert statuses(batch(capsys, *arguments, "--frame", 0, "--device", "cpu")[1])["p1"] == "skipped"
    assert statuses(batch(capsys, *arguments, "--frame", 0, "--force")[1])["p1"] == "done"


def test_a_result_that_somebody_changed_is_kept(work: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = work / "out"
    arguments = (data, "--model", "same", "--out", out)
    assert batch(capsys, *arguments)[0] == 0
    (out / "p1.nrrd").write_bytes(b"hours of careful correction")
    for more in ((), ("--force",)):
        code, summary, _ = batch(capsys, *arguments, *more)
        assert code == 0
    kept = [path for path in out.iterdir() if ".changed-" in path.name]
    assert [path.read_bytes() for path in kept] == [b"hours of careful correction"]
    record = json.loads((out / "p1.nrrd.json").read_text(encoding="utf-8"))
    assert summary["counts"]["done"] == 3
    assert record["output_sha256"] == sha256_of(out / "p1.nrrd")


@pytest.mark.parametrize("name", ["p1.nrrd", "p1.nrrd.json"])
@pytest.mark.parametrize("more", [(), ("--force",)])
def test_what_a_batch_has_not_made_is_never_replaced(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], name: str, more: tuple[str, ...]
) -> None:
    (work / "out").mkdir()
    (work / "out" / name).write_text('{"made_by": "hand"}')
    code, summary, err = batch(capsys, data, "--model", "same", "--out", work / "out", *more)
    assert code == 5
    assert statuses(summary) == {"p1": "failed", "site b/p1": "done", "site b/tief/p 2": "done"}
    assert (work / "out" / name).read_text() == '{"made_by": "hand"}'
    assert f"{name}' exists and was not made by a batch." in err
    assert (work / "out" / "p1.nrrd").exists() == (name == "p1.nrrd")


def test_failures_are_told_and_the_rest_is_done(work: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "a damaged.nii.gz").write_bytes((data / "p1.nii.gz").read_bytes()[:500])
    write_volume(Volume(np.full((12, 12, 12), 7, np.float32), np.eye(4), "1"), data / "constant.nii.gz")
    code, summary, err = batch(capsys, data, "--model", "tiny-mr-ct", "--out", work / "out")
    assert code == 5
    assert summary["counts"] == {"done": 3, "skipped": 0, "failed": 2, "not run": 0}
    kinds = {row["case"]: row["error"]["kind"] for row in summary["cases"] if row["error"]}
    assert kinds == {"a damaged": "input", "constant": "unfit"}
    with (work / "out" / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a damaged", "constant", "p1", "site b/p1", "site b/tief/p 2"]
    assert list(rows[0]) == ["case", "status", "output", "seconds", "device", "warnings", "error"]
    for row, told in zip(rows, summary["cases"], strict=True):
        assert row["status"] == told["status"]
        assert Path(row["output"]).is_file() == (row["status"] == "done")
        assert bool(row["error"]) == (row["status"] == "failed")
    assert rows[0]["error"] in err
    written = json.loads((work / "out" / "summary.json").read_text(encoding="utf-8"))
    assert written == {"made_by": MADE_BY, **summary}
    assert len(check_whole(work / "out")) == 3
    out = call(capsys, "batch", data, "--model", "tiny-mr-ct", "--out", work / "out")[1]
    assert "3 skipped, 2 failed" in out


def test_defects_and_lack_of_memory_stay_with_their_case(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from SynthGANLib.io import volumes

    real = volumes.read_volume

    def read(path: Path, **choices: Any) -> Volume:
        path = Path(path)
        if path.name == "p1.nii.gz":
            raise MemoryError if path.parent == data else KeyError("bug")
        return real(path, **choices)

    monkeypatch.setattr(volumes, "read_volume", read)
    code = call(capsys, "batch", data, "--model", "same", "--out", work / "out", "--json")
    summary = json.loads(code[1])
    assert code[0] == 5
    assert statuses(summary) == {"p1": "failed", "site b/p1": "failed", "site b/tief/p 2": "done"}
    assert [row["error"]["kind"] for row in summary["cases"][:2]] == ["memory", "error"]
    assert "KeyError: 'bug'" in code[2]
    assert "program itself (KeyError)" in summary["cases"][1]["error"]["cause"]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to its own process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_130_and_it_goes_on_from_there(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    forward = Identity.forward
    cases: list[int] = []

    def interrupting(self: Any, x: Any) -> Any:
        cases.append(len(check_whole(work / "out")))
        if cases[-1] == 1:  # while the second case is computed
            os.kill(os.getpid(), number)
        return forward(self, x)

    monkeypatch.setattr("SynthGANLib.model.model.Model._check_vector", lambda self, folder: None)
    monkeypatch.setattr("SynthGANLib.inference.predictor.measure_bytes_per_voxel", lambda *a, **k: 64.0)
    monkeypatch.setattr(Identity, "forward", interrupting)
    arguments = (data, "--model", "same", "--out", work / "out")
    code, summary, err = batch(capsys, *arguments)
    assert code == 130, err
    assert statuses(summary) == {"p1": "done", "site b/p1": "not run", "site b/tief/p 2": "not run"}
    assert summary["cancelled"] is True
    assert files(work / "out") == ["p1.nrrd", "p1.nrrd.json", "summary.csv", "summary.json"]
    monkeypatch.setattr(Identity, "forward", forward)
    code, summary, err = batch(capsys, *arguments)
    assert code == 0, err
    assert list(statuses(summary).values()) == ["skipped", "done", "done"]


def test_two_inputs_with_one_output_are_refused_before_the_start(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads(data, "site b/P1.mha")
    code, told, _ = batch(capsys, data, "--model", "same", "--out", work / "out")
    assert code == 2
    assert str(data / "site b" / "p1.nii.gz") in told["error"]["cause"]
    assert str(data / "site b" / "P1.mha") in told["error"]["cause"]
    assert not (work / "out").exists()


@pytest.mark.parametrize("name", ["summary.csv", "summary.json"])
def test_foreign_summaries_are_refused_before_the_start(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (work / "out").mkdir()
    (work / "out" / name).write_text("mine")
    code, told, _ = batch(capsys, data, "--model", "same", "--out", work / "out")
    assert code == 2
    assert name in told["error"]["cause"]
    assert files(work / "out") == [name]
    assert (work / "out" / name).read_text() == "mine"


def test_a_second_batch_waits_outside(work: Path, shelf: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "out").mkdir()
    with held(work / "out", print):
        code, told, _ = batch(capsys, data, "--model", "same", "--out", work / "out")
        assert code == 2
        assert "Another batch is writing" in told["error"]["cause"]
    assert batch(capsys, data, "--model", "same", "--out", work / "out")[0] == 0


def test_what_a_killed_run_left_is_cleared_away(work: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "out" / PARTS / "0").mkdir(parents=True)
    (work / "out" / PARTS / "0" / "volume.nrrd").write_bytes(b"half")
    (work / "out" / LOCK).touch()
    assert batch(capsys, data, "--model", "same", "--out", work / "out")[0] == 0
    assert not [name for name in files(work / "out") if name.startswith(".")]


def test_a_model_or_device_that_cannot_be_used_ends_the_batch_at_once(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for more, word in ((("--model", "same", "--device", "cuda:77"), "cuda:77"), (("--model", "nothing"), "nothing")):
        code, told, _ = batch(capsys, data, *more, "--out", work / "out")
        assert code == 2
        assert word in told["error"]["cause"]
        assert not (work / "out").exists()
    tiny_model(identity_card(id="swapped")).save(tmp_path / "model")
    plan = planned(tmp_path / "model", data, work / "out")
    tiny_model(network_card(id="swapped")).save(tmp_path / "model", force=True)
    with pytest.raises(Exception, match="is not the one that this batch was started with"):
        run_batch(plan, lambda *told: None)


def test_pictures_are_inputs_of_colour_models_only(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    card = identity_card(
        id="colours",
        source=SourceSpec("OP", "RGB", channels=3),
        target=TargetSpec("OP", "RGB", 0, (0, 255), channels=3),
        spatial=SpatialSpec(2, (1, 16, 16), (1, 32, 32), axis="axial"),
        normalisers={"source": {"kind": "rgb"}, "target": {"kind": "rgb"}},
    )
    tiny_model(card).save(tmp_path / "colours")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 36, 3)).astype(np.uint8)
    eyes = work / "eyes"
    eyes.mkdir()
    write_volume(Volume(pixels, np.eye(4), "RGB"), eyes / "left.png")
    code, summary, err = batch(capsys, eyes, "--model", tmp_path / "colours", "--out", work / "out")
    assert code == 0, err
    assert np.array_equal(read_volume(work / "out" / "left.png").array, pixels)
    assert summary["cases"][0]["warnings"]
    (eyes / "left.png").rename(data / "left.png")
    code, summary, err = batch(capsys, data, "--model", "same", "--out", work / "grey", "--format", "nii.gz")
    assert statuses(summary).keys() == {"p1", "site b/p1", "site b/tief/p 2"}
    assert "1 picture passed over" in err
    assert len(check_whole(work / "grey")) == 3


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--workers", "2"), "--workers"),
        (("--cpus", "2"), "--cpus"),
        (("--ray", "auto", "--workers", "2"), "--ray local only"),
        (("--unit", "furlong"), "furlong"),
        (("--section", "test"), "sections"),
        (("--format", "doc"), "doc"),
    ],
)
def test_arguments_that_make_no_sense(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], word: str
) -> None:
    code, told, _ = batch(capsys, data, "--model", "same", "--out", work / "out", *more)
    assert code == 2
    assert word in told["error"]["cause"] + told["error"]["next_step"]
    assert not (work / "out").exists()


def test_without_ray_one_sentence_says_how_to_get_it(
    work: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what Python does for a module it cannot import
    code, told, _ = batch(capsys, data, "--model", "same", "--out", work / "out", "--ray", "auto")
    assert code == 2
    assert "Ray cannot be loaded" in told["error"]["cause"]
    assert "pip install 'synthgan[cluster]'" in told["error"]["next_step"]
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not (work / "out").exists()
