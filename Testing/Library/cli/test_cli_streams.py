"""The command line where its output cannot go on: the run ends as it would, with its file and its exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from SynthGANLib.cli.main import main
from SynthGANLib.errors import UnfitInputError, error_event


class Gone(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


class Full(io.StringIO):
    """A stream into a file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def arguments(work: Path, *more: str) -> list[str]:
    return ["synthesize", str(work / "mr scan.nii.gz"), str(work / "out.nrrd"), "--model", "same", *more]


@pytest.mark.parametrize("stream", [None, Gone()], ids=["closed", "reader gone"])
def test_the_run_does_not_need_its_remarks_read(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(arguments(work)) == 0
    assert (work / "out.nrrd").exists()
    assert main(arguments(work)) == 2
    assert "exists" not in capsys.readouterr().out


def test_a_mistake_keeps_its_code_where_nobody_reads_the_json(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert main(["info", "nothing", "--json"]) == 2


def test_a_full_disk_under_the_output_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["models"]) == 2
    assert "printed" in capsys.readouterr().err


def test_output_into_a_folder_that_is_not_writable(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    monkeypatch.setattr("SynthGANLib.model.model.Model.load", lambda folder: pytest.fail("the model was loaded"))
    assert main(arguments(work)) == 2
    assert "may not be written to" in capsys.readouterr().err


def test_every_cause_is_a_sentence() -> None:
    event = error_event(UnfitInputError("the two images\nlie apart", next_step="Choose others."))
    assert event["cause"] == "The two images lie apart."
