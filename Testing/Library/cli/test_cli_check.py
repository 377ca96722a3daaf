"""The look at all data before the first step, by the command line: refusals, doubtful pairs, what is left behind."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import call
from list_cases import save, subjects, without, write_list

from SynthGANLib.data.faults import SHOWN, all_of
from SynthGANLib.errors import CancelledError, InputError
from SynthGANLib.evaluation.without_reference import normalised_mutual_information
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.signals import TerminatedError
from SynthGANLib.training import preflight as before
from SynthGANLib.training.fit_classical import Case

SHAPE = (20, 40, 36)
QUICK = ("--tiny", "--device", "cpu", "--log-every", 1, "--save-every", 2, "--workers", 0, "--set", "steps=2")


@pytest.fixture
def entries(tmp_path: Path) -> list[dict[str, Any]]:
    return subjects(tmp_path, 6, SHAPE)


def rolled(folder: Path, name: str) -> None:
    """Move a target by six voxels against its source."""
    save(np.roll(read_volume(folder / name).array, 6, axis=2), folder / name, "HU")


def train(capsys: Any, folder: Path, entries: list[dict[str, Any]], *more: object, recipe: str = "pix2pix", **fields):
    path = write_list(folder, entries[:5], validation=entries[5:], **fields)
    return call(capsys, "train", recipe, "--data", path, "--out", folder / "run", *QUICK, *more)


def spoilt(folder: Path, fault: str, number: int) -> None:
    """Give subject `number` a fault that only reading shows."""
    if fault == "mask":
        save(np.zeros(SHAPE, np.uint8), folder / f"s{number}_mask.nii.gz", "label")
    elif fault == "constant":
        save(np.full(SHAPE, 40, np.float32), folder / f"s{number}_ct.nii.gz", "HU")
    elif fault == "elsewhere":
        ct = read_volume(folder / f"s{number}_ct.nii.gz")
        away = ct.affine.copy()
        away[2, 3] += 500
        from SynthGANLib.io.volumes import write_volume

        write_volume(Volume(ct.array, away, "HU"), folder / f"s{number}_ct.nii.gz", force=True)
    else:
        os.truncate(folder / f"s{number}_ct.nii.gz", 200)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("mask", "The mask marks no voxel"),
        ("constant", "every voxel is 40"),
        ("elsewhere", "covers 0% of the source's field of view"),
        ("truncated", "s4_ct.nii.gz"),
    ],
)
@pytest.mark.parametrize("recipe", ["pix2pix", "ridge"])
def test_bad_last_case_is_refused_before_the_first_step(tmp_path, entries, capsys, monkeypatch, fault, said, recipe):
    monkeypatch.setattr(before.Counter, "QUIET", float("inf"))  # a busy machine is slow enough for a line of progress
    spoilt(tmp_path, fault, 4)
    path = write_list(tmp_path, entries[:5], validation=entries[5:])
    more = QUICK if recipe == "pix2pix" else ("--set", "samples=2000")
    code, out, err = call(capsys, "train", recipe, "--data", path, "--out", tmp_path / "run", *more)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("synthgan: Case 's4: s4_mr.nii.gz': ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_all_bad_cases_are_told_at_once(tmp_path, entries, capsys):
    for number, fault in ((0, "mask"), (3, "truncated"), (5, "constant")):
        spoilt(tmp_path, fault, number)
    code, _, err = train(capsys, tmp_path, entries)
    assert code == 2
    assert "3 of 6 cases cannot be trained on." in err
    assert [err.count(f"Case 's{number}:") for number in range(6)] == [1, 0, 0, 1, 0, 1]
    assert not (tmp_path / "run").exists()


def test_doubtful_pair_is_told_and_the_training_goes_on(tmp_path, entries, capsys):
    rolled(tmp_path, "s4_ct.nii.gz")
    code, _, err = train(capsys, tmp_path, entries)
    assert code == 0, err
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert warnings
    assert all(line.startswith("warning: s4: s4_mr.nii.gz: ") for line in warnings)
    assert any("shifted by 12.0 mm" in line for line in warnings)
    assert err.index("warning: ") < err.index("step 1 of 2")
    rows = json.loads((tmp_path / "run" / "pairs.json").read_text())["cases"]
    assert [bool(row["suspect"]) for row in rows] == [False] * 4 + [True, False]
    assert rows[4]["shift"] == [0, 0, -6]


def test_fit_is_warned_as_well(tmp_path, entries, capsys):
    rolled(tmp_path, "s4_ct.nii.gz")
    path = write_list(tmp_path, entries)
    code, _, err = call(capsys, "train", "ridge", "--data", path, "--out", tmp_path / "run", "--set", "samples=2000")
    assert code == 0, err
    assert "warning: s4: s4_mr.nii.gz: " in err
    assert "case 6 of 6" in err
    assert len(json.loads((tmp_path / "run" / "pairs.json").read_text())["cases"]) == 6


def test_resumed_run_is_not_looked_at_again(tmp_path, entries, capsys, monkeypatch):
    assert train(capsys, tmp_path, entries)[0] == 0

    def never(*arguments):
        raise AssertionError("looked at again")

    monkeypatch.setattr(before, "_looked_at", never)
    code, _, err = train(capsys, tmp_path, entries, "--resume")
    assert code == 0, err
    code, _, err = train(capsys, tmp_path, entries)  # nor is one that is refused anyway
    assert code == 2
    assert "holds a run already" in err


def test_unpaired_data_is_read_but_not_compared(tmp_path, entries, capsys):
    apart = [*without(entries[:2], "target"), *without(entries[2:5], "source")]
    code, _, err = train(capsys, tmp_path, [*apart, entries[5]], recipe="cyclegan", kind="unpaired")
    assert code == 0, err
    assert "warning" not in err
    assert not (tmp_path / "run" / "pairs.json").exists()
    spoilt(tmp_path, "truncated", 4)
    path = tmp_path / "list.json"
    code, _, err = call(capsys, "train", "cyclegan", "--data", path, "--out", tmp_path / "two", *QUICK)
    assert code == 2
    assert "Case 's4" in err
    assert "step 1" not in err
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("recipe", ["pix2pix", "ridge"])
def test_signal_during_the_look_leaves_nothing(tmp_path, entries, capsys, monkeypatch, name, code, recipe):
    """The signal comes while the third case is read."""
    from SynthGANLib.data import pairs

    seen = []

    def look(loaded, real=pairs.compared):
        seen.append(1)
        if len(seen) == 3:
            signal.raise_signal(getattr(signal, name))
        return real(loaded)

    monkeypatch.setattr(pairs, "compared", look)
    path = write_list(tmp_path, entries)
    more = QUICK if recipe == "pix2pix" else ("--set", "samples=2000")
    found, out, err = call(capsys, "train", recipe, "--data", path, "--out", tmp_path / "run", *more)
    assert (found, out, len(seen)) == (code, "", 3)
    assert "was stopped; nothing was written." in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signal_during_a_fit_leaves_nothing(tmp_path, entries, capsys, monkeypatch, name, code):
    from SynthGANLib.training import fit_classical

    def conformed(case: Case, *rest, real=fit_classical._conformed):
        signal.raise_signal(getattr(signal, name))
        return real(case, *rest)

    monkeypatch.setattr(fit_classical, "_conformed", conformed)
    path = write_list(tmp_path, entries)
    found, out, err = call(capsys, "train", "ridge", "--data", path, "--out", tmp_path / "run", "--set", "samples=2000")
    assert (found, out) == (code, "")
    assert "The fit was stopped; nothing was written." in err
    assert not (tmp_path / "run").exists()
    assert (TerminatedError.exit_code, CancelledError.exit_code) == (143, 130)


def test_many_faults_are_counted_and_the_first_told():
    def job(number: int) -> int:
        if number % 2:
            raise InputError(f"Number {number}.")
        return number

    seen = []
    assert all_of([lambda: 1, lambda: 2]) == [1, 2]
    with pytest.raises(InputError) as caught:
        all_of([lambda n=n: job(n) for n in range(16)], progress=lambda done, total: seen.append((done, total)))
    assert str(caught.value).startswith("8 of 16 cases cannot be trained on. Number 1. Number 3.")
    assert str(caught.value).count("Number") == SHOWN
    assert str(caught.value).endswith("3 more are not shown.")
    assert seen == [(n, 16) for n in range(1, 17)]


def test_counter_is_silent_at_first_and_then_seldom(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(before.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with before.Counter(stream, "checking case") as counter:
        for done in range(1, 41):
            now[0] = float(done)
            counter.show(done, 40)
    assert stream.getvalue().splitlines() == [f"checking case {n} of 40" for n in (3, 13, 23, 33)]


def test_information_of_nothing_is_none():
    assert normalised_mutual_information(np.zeros((4, 4))) == 1.0
