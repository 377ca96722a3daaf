"""What the tests of batches share: a folder of small heads, runs of the command, and what an output folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model_folders import head_like

from SynthGANLib.batch.case import Settings
from SynthGANLib.batch.inputs import find_cases
from SynthGANLib.batch.record import read_own, record_path
from SynthGANLib.batch.run import plan_batch
from SynthGANLib.cli.main import main
from SynthGANLib.files import sha256_of
from SynthGANLib.inference.choices import Choices
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.model.folder import read_card


def heads(folder: Path, *names: str) -> Path:
    """Write a head for every name, each another."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(head_like(seed=number), folder / name)
    return folder


def batch(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON object and standard error of ``synthgan batch ... --json``."""
    code = main(["batch", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, json.loads(captured.out), captured.err


def statuses(summary: dict[str, Any]) -> dict[str, str]:
    """Case to status."""
    return {row["case"]: row["status"] for row in summary["cases"]}


def files(folder: Path) -> list[str]:
    """Every file and hidden thing below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def check_whole(out: Path) -> list[str]:
    """Every visible volume is readable and the one its record tells of; names of the volumes."""
    names = [name for name in files(out) if name.endswith((".nrrd", ".nii.gz")) and not name.startswith(".")]
    for name in names:
        record = read_own(record_path(out / name))
        assert record is not None, name
        assert record["output_sha256"] == sha256_of(out / name), name
        read_volume(out / name)
    return names


def planned(model: Path, data: Path, out: Path) -> Any:
    """A batch of a folder or list with a model folder."""
    settings = Settings.of(model, read_card(model), out, Choices(model=str(model)))
    return plan_batch(settings, find_cases(data, out=out, colour=False).cases)
