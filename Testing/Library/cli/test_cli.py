"""The command line: results, tables and progress."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import call
from model_folders import edit_json, head_like, identity_card, network_card, tiny_model

from SynthGANLib.cli.console import Bar
from SynthGANLib.cli.main import main
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.jobs.run import run_job
from SynthGANLib.jobs.synthesis import Job
from SynthGANLib.model.card import MethodSpec, SourceSpec, SpatialSpec, TargetSpec


def test_synthesize_writes_the_result_on_the_inputs_grid(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = work / "mr scan.nii.gz", work / "ct.nrrd"
    code, out, err = call(capsys, "synthesize", source, target, "--model", "tiny-mr-ct", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert {"output", "model", "device", "seconds", "tiles", "peak_memory", "warnings"} <= set(report)
    assert report["output"] == str(target)
    assert report["model"] == "tiny-mr-ct"
    assert report["device"] in ("cpu", "cuda", "cuda:0", "mps")
    assert report["output_sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    given, made = read_volume(source), read_volume(target)
    assert made.shape == given.shape
    assert np.allclose(made.affine, given.affine, atol=1e-5)
    assert made.unit == "HU"
    assert made.array.min() == -1024
    assert "100%" in err
    assert "Traceback" not in err
    assert sorted(path.name for path in work.iterdir()) == ["ct.nrrd", "mr scan.nii.gz"]


def test_identity_model_gives_back_the_rounded_input(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = work / "mr scan.nii.gz", work / "ct.mha"
    code, out, _ = call(capsys, "synthesize", source, target, "--model", "same", "--device", "cpu")
    assert code == 0
    assert "same 1.0.0 on cpu" in out
    assert np.array_equal(read_volume(target).array, np.rint(read_volume(source).array))


def test_panel_and_command_line_write_the_same_bytes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = work / "mr scan.nii.gz"
    code, out, _ = call(capsys, "synthesize", source, work / "a.nrrd", "--model", "tiny-mr-ct", "--json")
    events: list[dict[str, Any]] = []
    job = {"job": "synthesize", "input": str(source), "output": str(work / "b.nrrd"), "model": "tiny-mr-ct"}
    assert (code, run_job(job, events.append)) == (0, 0)
    assert (work / "a.nrrd").read_bytes() == (work / "b.nrrd").read_bytes()
    assert events[-1]["event"] == "done"
    assert events[-1]["output_sha256"] == json.loads(out)["output_sha256"]
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    stages = [event["stage"] for event in events if event["event"] == "stage"]
    assert stages[:2] == ["model", "read"]
    assert stages[-2:] == ["write", "done"]
    assert {"torch", "numpy", "SimpleITK", "synthgan"} <= set(events[-1]["versions"])


def test_rgb_model_takes_a_picture(work: Path, shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = identity_card(
        id="colours",
        source=SourceSpec("OP", "RGB", channels=3),
        target=TargetSpec("OP", "RGB", 0, (0, 255), channels=3),
        spatial=SpatialSpec(2, (1, 16, 16), (1, 32, 32), axis="axial"),
        normalisers={"source": {"kind": "rgb"}, "target": {"kind": "rgb"}},
    )
    tiny_model(card).save(shelf / "colours", force=(shelf / "colours").exists())
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 36, 3)).astype(np.uint8)
    write_volume(Volume(pixels, np.eye(4), "RGB"), work / "fundus.png")
    code, _, err = call(capsys, "synthesize", work / "fundus.png", work / "out.png", "--model", "colours")
    assert code == 0, err
    assert np.array_equal(read_volume(work / "out.png").array, pixels)
    code, _, err = call(capsys, "synthesize", work / "mr scan.nii.gz", work / "no.png", "--model", "tiny-mr-ct")
    assert code == 2
    assert "one color slice" in err
    (shelf / "colours" / "model.json").unlink()
    for path in (shelf / "colours").iterdir():
        path.unlink()
    (shelf / "colours").rmdir()


def test_mask_decides_where_is_prediction(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = read_volume(work / "mr scan.nii.gz")
    mask = np.zeros(source.shape, np.uint8)
    mask[5:12, 6:14, 5:13] = 1
    write_volume(Volume(mask, source.affine, "label"), work / "mask.nii.gz")
    arguments = ("synthesize", work / "mr scan.nii.gz", work / "ct.nrrd", "--model", "same")
    code, _, err = call(capsys, *arguments, "--mask", work / "mask.nii.gz")
    assert code == 0, err
    result = read_volume(work / "ct.nrrd").array
    assert np.all(result[mask == 0] == -1024)
    assert np.array_equal(result[mask == 1], np.rint(source.array[mask == 1]))


# models and info


def test_models_lists_broken_folders_too(work: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    user = tmp_path / "data" / "synthgan" / "models"
    if os.name == "nt":
        user = tmp_path / "data" / "SynthGAN" / "Models"
    user.mkdir(parents=True)
    tiny_model(network_card(id="wrong")).save(user / "wrong")
    edit_json(user / "wrong", lambda content: content.update(format_version=3))
    code, out, _ = call(capsys, "models")
    assert code == 0
    assert re.search(r"^tiny-mr-ct +1\.0\.0 +MR \(T1, T2\) -> CT +head +Tiny MR to CT$", out, re.MULTILINE)
    assert "format_version" in out.splitlines()[-1]
    entries = json.loads(call(capsys, "models", "--json")[1])
    by_id = {entry["id"]: entry for entry in entries}
    assert by_id["wrong"]["error"]
    assert by_id["tiny-mr-ct"]["source"] == "MR"
    assert {"id", "version", "source", "target", "anatomy", "path"} <= set(by_id["same"])
    found = json.loads(call(capsys, "models", "--json", "--from", "mr", "--to", "ct", "--anatomy", "head")[1])
    assert "tiny-mr-ct" in [entry["id"] for entry in found]
    assert json.loads(call(capsys, "models", "--json", "--to", "US")[1]) == []
    assert "No model matches" in call(capsys, "models", "--to", "US")[1]


def test_info_shows_the_card(work: Path, shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "info", "tiny-mr-ct")
    assert code == 0
    assert out == (shelf / "tiny" / "README.md").read_text(encoding="utf-8")
    card = json.loads(call(capsys, "info", "tiny-mr-ct", "--json")[1])
    assert card["path"] == str(shelf / "tiny")
    assert card["method"]["name"] == "UNet"
    code, out, err = call(capsys, "info", "nothing", "--json")
    assert code == 2
    assert json.loads(out)["error"]["kind"] == "model"
    assert "tiny-mr-ct" in err


def test_install_and_remove(work: Path, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_model(network_card(id="newcomer")).save(tmp_path / "download")
    code, out, err = call(capsys, "install", tmp_path / "download", "--json")
    assert code == 0, err
    assert json.loads(out)["id"] == "newcomer"
    assert "newcomer" in call(capsys, "models")[1]
    assert call(capsys, "install", tmp_path / "download")[0] == 2
    assert call(capsys, "remove", "newcomer")[0] == 0
    assert call(capsys, "remove", "newcomer")[0] == 2
    assert call(capsys, "remove", "tiny-mr-ct")[0] == 2


def test_commands_are_required_and_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys)
    assert code == 2
    assert "COMMAND" in err
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert re.fullmatch(r"synthgan \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GiB", 4 * 2**30), ("800MB", 800 * 10**6), ("1.5g", 3 * 2**29), ("123456789", 123456789)],
)
def test_memory_is_understood(monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    seen: list[Job] = []

    def spy(job: Job, emit: Any, **_: object) -> int:
        seen.append(job)
        emit({"event": "error", "kind": "input", "cause": "x.", "next_step": "", "exit_code": 2})
        return 2

    monkeypatch.setattr("SynthGANLib.cli.main.run_job", spy)
    main(["synthesize", "a", "b.nrrd", "--model", "m", "--memory", text])
    assert seen[0].memory == expected


class _Stream:
    """A text stream that may be a terminal."""

    def __init__(self, terminal: bool) -> None:
        self.text, self.terminal = "", terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def test_progress_is_sparse_in_a_file_and_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    events = [
        {"event": "progress", "stage": "predict", "fraction": i / 1000, "seconds_left": 100 - i / 10}
        for i in range(1001)
    ]
    for terminal in (False, True):
        stream = _Stream(terminal)
        with Bar(stream) as bar:  # type: ignore[arg-type]
            for event in events:
                bar.show(event)
            bar.show({"event": "warning", "message": "Careful."})
        if terminal:
            assert stream.text.count("\n") == 1
            assert stream.text.count("\r") > 1000
        else:
            assert 10 <= stream.text.count("\n") <= 13
            assert "\r" not in stream.text
        assert "1 min 40 s left" in stream.text
        assert "warning: Careful.\n" in stream.text


def test_signals_are_left_alone_outside_the_main_thread(work: Path) -> None:
    codes: list[int] = []
    arguments = ["synthesize", str(work / "mr scan.nii.gz"), str(work / "t.nrrd"), "--model", "same"]
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    thread.join(120)
    assert codes == [0]


def test_frame_of_a_4d_file_can_be_chosen(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import SimpleITK as sitk

    first, second = head_like(seed=1), head_like(seed=2)
    images = [frame.to_sitk() for frame in (first, second)]
    sitk.WriteImage(sitk.JoinSeries(images), str(work / "4d.nii.gz"))
    arguments = ("synthesize", work / "4d.nii.gz", work / "out.nrrd", "--model", "same", "--frame", "1")
    code, _, err = call(capsys, *arguments)
    assert code == 0, err
    assert np.array_equal(read_volume(work / "out.nrrd").array, np.rint(second.array))


def test_model_with_slices_fused_over_three_planes(
    work: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    card = network_card(
        id="planes",
        method=MethodSpec("network", "UNet", {"dims": 2, "widths": [4, 8]}),
        spatial=SpatialSpec(2, (1, 16, 16), (1, 32, 32), axis="all", multiple=2),
    )
    tiny_model(card).save(tmp_path / "planes")
    arguments = ("synthesize", work / "mr scan.nii.gz", work / "out.nii.gz", "--model", tmp_path / "planes")
    code, _, err = call(capsys, *arguments)
    assert code == 0, err
    assert read_volume(work / "out.nii.gz").shape == head_like().shape
