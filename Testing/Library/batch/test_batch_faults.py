"""Batches that are killed at the worst moments, and disks that are full: no half file, no lost case."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_cases import batch, check_whole, files, heads, planned, statuses
from model_folders import head_like

import SynthGANLib
from SynthGANLib.batch.run import on_this_machine, run_batch
from SynthGANLib.io.volumes import write_volume

# Runs the command and ends it like a power cut, just before a file of that name is put in its place.
KILLED = """
import os, signal, sys

name, *arguments = sys.argv[1:]
real = os.replace

def deadly(source, target):
    if os.path.basename(target) == name:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)

os.replace = deadly
from SynthGANLib.cli.main import main
sys.exit(main(arguments))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("name", ["p2.nrrd.json", "p2.nrrd"])
def test_a_kill_between_the_renames_leaves_whole_results_only(
    work: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    """Killed before the record of the second case is in place, or after it and before its volume is."""
    heads(work / "in", "p1.nii.gz", "p2.nii.gz", "p3.nii.gz")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    arguments = ["batch", work / "in", "--model", "same", "--out", work / "out"]
    root = str(Path(SynthGANLib.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, script, name, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert "p1: done" in run.stderr
    assert "p2: done" not in run.stderr
    assert check_whole(work / "out") == ["p1.nrrd"]
    visible = [name for name in files(work / "out") if not name.startswith(".")]
    assert ("p2.nrrd.json" in visible) == (name == "p2.nrrd")
    code, summary, err = batch(capsys, *arguments[1:])
    assert code == 0, err
    assert statuses(summary) == {"p1": "skipped", "p2": "done", "p3": "done"}
    assert check_whole(work / "out") == ["p1.nrrd", "p2.nrrd", "p3.nrrd"]
    assert len(files(work / "out")) == 8
    assert not (work / "out" / ".synthgan-batch.part").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(work: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The case that does not fit fails with a sentence, and a smaller one after it is done."""
    data = heads(work / "in", "a.nii.gz")
    write_volume(head_like((60, 70, 60)), data / "b large.nii.gz")
    write_volume(head_like(seed=3), data / "c.nii.gz")
    out = small_disk / "out"
    arguments = (data, "--model", "same", "--out", out)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 160 * 1024))
    code, summary, err = batch(capsys, *arguments)
    assert code == 5, err
    assert statuses(summary) == {"a": "done", "b large": "failed", "c": "done"}
    error = summary["cases"][1]["error"]
    assert "could not be written" in error["cause"]
    assert "space" in error["next_step"]
    assert check_whole(out) == ["a.nrrd", "c.nrrd"]
    assert len(files(out)) == 6
    shutil.rmtree(out)
    filler.unlink()
    filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 4096))
    code, told, _ = batch(capsys, *arguments)
    assert (code, told["error"]["kind"]) == (2, "input")  # not even the summaries fit
    assert not list(out.rglob("*.nrrd"))


@pytest.mark.parametrize("word", ["record.json", "volume.nrrd"])
def test_a_rename_that_fails_is_a_failed_case(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    heads(work / "in", "p1.nii.gz", "p2.nii.gz")
    real = os.replace

    def refuse(source: Any, target: Any) -> None:
        if Path(source).name == word and Path(target).name.startswith("p1"):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    arguments = (work / "in", "--model", "same", "--out", work / "out")
    code, summary, _ = batch(capsys, *arguments)
    assert code == 5
    assert statuses(summary) == {"p1": "failed", "p2": "done"}
    assert os.strerror(errno.EDQUOT) in summary["cases"][0]["error"]["cause"]
    assert check_whole(work / "out") == ["p2.nrrd"]
    monkeypatch.setattr(os, "replace", real)
    code, summary, err = batch(capsys, *arguments)
    assert code == 0, err
    assert statuses(summary) == {"p1": "done", "p2": "skipped"}


def test_a_file_that_appears_meanwhile_is_kept(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads(work / "in", "p1.nii.gz")
    module = importlib.import_module("SynthGANLib.inference.pipeline")
    real = module.synthesize

    def slow(*arguments: Any, **choices: Any) -> Any:
        (work / "out" / "p1.nrrd").write_text("mine")
        return real(*arguments, **choices)

    monkeypatch.setattr(module, "synthesize", slow)
    code, summary, _ = batch(capsys, work / "in", "--model", "same", "--out", work / "out")
    assert code == 5
    assert "appeared while" in summary["cases"][0]["error"]["cause"]
    assert (work / "out" / "p1.nrrd").read_text() == "mine"


def test_a_result_that_comes_twice_is_published_once(work: Path, shelf: Path) -> None:
    """As from a machine that was thought lost and comes back."""
    heads(work / "in", "p1.nii.gz", "p2.nii.gz")
    told: list[str] = []
    batch = planned(shelf / "same", work / "in", work / "out")

    def doubled(batch: Any, parts: Path, cancel: Any) -> Any:
        first = list(on_this_machine(batch, parts / "one", cancel))
        second = list(on_this_machine(batch, parts / "two", cancel))
        yield from (first[0], second[0], second[1], first[1])

    code, summary = run_batch(batch, lambda outcome, *rest: told.append(outcome.case.name), execute=doubled)
    assert (code, told) == (0, ["p1", "p2"])
    assert summary["counts"]["done"] == 2
    assert len(check_whole(work / "out")) == 2
    assert len(files(work / "out")) == 6
