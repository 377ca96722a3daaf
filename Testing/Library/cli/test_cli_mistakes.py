"""The command line when something is wrong: one sentence, the right exit code, nothing changed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_cases import call
from model_folders import head_like

from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.jobs.run import run_job
from SynthGANLib.networks.identity import Identity


def mistakes() -> dict[str, tuple[list[str], int, str]]:
    """Arguments after "synthesize" ({w} is the working folder), exit code, and a word of the sentence."""
    ok = ["{w}/mr scan.nii.gz", "{w}/out.nrrd", "--model", "tiny-mr-ct"]
    return {
        "no arguments": ([], 2, "required"),
        "unknown option": ([*ok, "--fast"], 2, "--fast"),
        "abbreviated option": ([*ok, "--forc"], 2, "--forc"),
        "no such input": (["{w}/none.nii.gz", *ok[1:]], 2, "none.nii.gz"),
        "input of unknown kind": (["{w}/notes.txt", *ok[1:]], 2, "notes.txt"),
        "damaged input": (["{w}/damaged.nii.gz", *ok[1:]], 2, "damaged"),
        "empty folder": (["{w}/empty", *ok[1:]], 2, "empty"),
        "4D input": (["{w}/time.nii.gz", *ok[1:]], 2, "frame"),
        "no such model": ([*ok[:3], "nothing"], 2, "tiny-mr-ct"),
        "no such mask": ([*ok, "--mask", "{w}/none.nrrd"], 2, "none.nrrd"),
        "output exists": ([ok[0], "{w}/old.nrrd", *ok[2:]], 2, "--force"),
        "output is the input": ([ok[0], ok[0], *ok[2:], "--force"], 2, "the input itself"),
        "output of unknown kind": ([ok[0], "{w}/out.xyz", *ok[2:]], 2, ".nrrd"),
        "output without suffix": ([ok[0], "{w}/out", *ok[2:]], 2, ".nrrd"),
        "output is a folder": ([ok[0], "{w}/folder.nrrd", *ok[2:]], 2, "folder"),
        "output into nowhere": ([ok[0], "{w}/no/out.nrrd", *ok[2:]], 2, "does not exist"),
        "input with a name too long": (["x" * 5000, *ok[1:]], 2, "name"),
        "output with a name too long": ([ok[0], "{w}/" + "x" * 300 + ".nrrd", *ok[2:]], 2, "name"),
        "model of no user": ([*ok[:3], "~no-such-user/x"], 2, "tiny-mr-ct"),
        "device of no kind": ([*ok, "--device", "quantum"], 2, "quantum"),
        "device that is absent": ([*ok, "--device", "cuda:77"], 2, "cuda:77"),
        "memory of no kind": ([*ok, "--memory", "lots"], 2, "lots"),
        "memory of nothing": ([*ok, "--memory", "0GiB"], 2, "0GiB"),
        "unit of no kind": ([*ok, "--unit", "furlong"], 2, "furlong"),
        "constant input": (["{w}/constant.nii.gz", *ok[1:]], 3, "voxel"),
        "colors for a gray model": (["{w}/colour.png", *ok[1:]], 3, "channels"),
    }


@pytest.mark.parametrize(("arguments", "code", "word"), mistakes().values(), ids=list(mistakes()))
def test_a_mistake_is_one_sentence_and_changes_nothing(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, word: str
) -> None:
    constant = Volume(np.full((12, 12, 12), 7, np.float32), np.eye(4), "1")
    write_volume(constant, work / "constant.nii.gz")
    write_volume(Volume(np.zeros((1, 9, 9, 3), np.uint8), np.eye(4), "RGB"), work / "colour.png")
    (work / "damaged.nii.gz").write_bytes((work / "mr scan.nii.gz").read_bytes()[:500])
    (work / "notes.txt").write_text("x")
    (work / "old.nrrd").write_text("precious")
    (work / "empty").mkdir()
    (work / "folder.nrrd").mkdir()
    _write_4d(work / "time.nii.gz")
    before = {path.name: path.read_bytes() for path in work.iterdir() if path.is_file()}
    given = [argument.format(w=work) for argument in arguments]
    found, out, err = call(capsys, "synthesize", *given, "--json")
    assert found == code, err
    error = json.loads(out)["error"]
    assert error["exit_code"] == code
    assert word in error["cause"] + error["next_step"]
    assert error["kind"] in ("input", "model", "unfit")
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1] == f"synthgan: {error['cause']} {error['next_step']}".strip()
    assert re.fullmatch(r"[^\n]+\.", error["cause"])
    assert {path.name: path.read_bytes() for path in work.iterdir() if path.is_file()} == before


def _write_4d(path: Path) -> None:
    import SimpleITK as sitk

    frame = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.float32))
    sitk.WriteImage(sitk.JoinSeries([frame, frame]), str(path))


def test_nothing_is_computed_for_an_output_that_exists(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "out.nrrd").write_text("precious")

    def never(*_: object, **__: object) -> Volume:
        raise AssertionError("the input was read")

    monkeypatch.setattr("SynthGANLib.io.volumes.read_volume", never)
    code, _, err = call(capsys, "synthesize", work / "mr scan.nii.gz", work / "out.nrrd", "--model", "same")
    assert code == 2
    assert "exists already" in err


def test_force_replaces(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "out.nrrd").write_text("old")
    arguments = ("synthesize", work / "mr scan.nii.gz", work / "out.nrrd", "--model", "same", "--force")
    assert call(capsys, *arguments)[0] == 0
    assert read_volume(work / "out.nrrd").shape == head_like().shape


def test_memory_exhausted_after_every_fallback_is_code_4(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    model = ("--model", "same", "--device", "cpu")
    monkeypatch.setattr("SynthGANLib.model.model.Model._check_vector", lambda self, folder: None)
    monkeypatch.setattr(Identity, "forward", hungry)
    monkeypatch.setattr("SynthGANLib.inference.predictor.measure_bytes_per_voxel", lambda *a, **k: 64.0)
    code, out, err = call(capsys, "synthesize", work / "mr scan.nii.gz", work / "out.nrrd", *model, "--json")
    assert code == 4, err
    assert json.loads(out)["error"]["kind"] == "memory"
    assert "memory:" in err  # the steps of the ladder were told
    assert not (work / "out.nrrd").exists()


def test_a_defect_of_ours_is_told_as_such(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object, **__: object) -> Volume:
        raise KeyError("bug")

    # The package exports the function under its module's name, which hides the module.
    monkeypatch.setattr(sys.modules["SynthGANLib.inference.pipeline"], "synthesize", defect)
    code, out, err = call(capsys, "synthesize", work / "mr scan.nii.gz", work / "out.nrrd", "--model", "same", "--json")
    assert code == 1
    assert json.loads(out)["error"]["kind"] == "internal"
    assert "Traceback" in err
    assert not (work / "out.nrrd").exists()


def test_a_missing_package_is_named(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SynthGANLib.model.model", None)  # what Python does for a module it cannot import
    code, out, _ = call(capsys, "synthesize", work / "mr scan.nii.gz", work / "out.nrrd", "--model", "same", "--json")
    assert code == 1
    error = json.loads(out)["error"]
    assert error["kind"] == "environment"
    assert "SynthGANLib.model.model" in error["cause"]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to its own process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_within_a_tile_with_code_130(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls = []
    forward = Identity.forward

    def interrupting(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        os.kill(os.getpid(), number)
        return forward(self, x)

    monkeypatch.setattr("SynthGANLib.model.model.Model._check_vector", lambda self, folder: None)
    monkeypatch.setattr(Identity, "forward", interrupting)
    monkeypatch.setattr("SynthGANLib.inference.predictor.measure_bytes_per_voxel", lambda *a, **k: 64.0)
    handler = signal.getsignal(number)
    code, out, err = call(capsys, "synthesize", work / "mr scan.nii.gz", work / "out.nrrd", "--model", "same", "--json")
    assert code == 130, err
    assert json.loads(out)["error"]["kind"] == "cancelled"
    assert len(calls) == 1
    assert not (work / "out.nrrd").exists()
    assert signal.getsignal(number) is handler


def test_job_fields_are_checked_by_name() -> None:
    good = {"job": "synthesize", "input": "a", "output": "b.nrrd", "model": "m"}
    wrong: dict[str, Any] = {
        "input": 3,
        "output": "",
        "model": None,
        "mask": 1,
        "device": "gpu",
        "memory": -1,
        "models": "x",
        "force": 1,
        "frame": 0.5,
        "series": 5,
        "input_unit": 5,
        "unknown": 1,
    }
    for name, value in wrong.items():
        events: list[dict[str, Any]] = []
        assert run_job({**good, name: value}, events.append) == 2
        assert len(events) == 1
        assert f"'{name}'" in events[0]["cause"]
        assert events[0]["event"] == "error"
    for job in ({}, {"job": "train"}, {"job": "synthesize", "input": "a", "model": "m"}):
        events = []
        assert run_job(job, events.append) == 2
