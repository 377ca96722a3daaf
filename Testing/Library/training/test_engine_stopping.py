"""The training loop: which weights are kept as the best, and what signals and a full disk leave of a run."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time

import pytest
import torch
from training_cases import (
    CHILD,
    ToyGan,
    child_environment,
    gan_setup,
    same,
)
from training_cases import toy_run as run

from SynthGANLib.training import checkpoint, engine
from SynthGANLib.training.validate import Report

# Validation


def test_best_weights_are_those_of_the_best_validation_never_of_the_loss(tmp_path):
    seen, scores = [], iter([3.0, 1.0, math.nan, 2.0])

    def validator(networks, device):
        torch.rand(7)  # a validation that draws must not change what the training draws
        assert not networks["forward"].training
        seen.append({name: value.clone() for name, value in networks["forward"].state_dict().items()})
        score = next(scores)
        return Report(score, {"MAE": score}, f"MAE {score}")

    setup = gan_setup(steps=8)
    outcome = run(setup, tmp_path / "with", validator=validator, validate_every=2)
    run(setup, tmp_path / "without")
    assert outcome.best == {"MAE": 1.0, "score": 1.0, "step": 4.0}
    best = checkpoint.read(tmp_path / "with" / engine.BEST)
    for name, value in seen[1].items():
        assert torch.equal(best["regime"][f"generator.{name}"], value), name
    with_it, without = checkpoint.load(tmp_path / "with", 8), checkpoint.load(tmp_path / "without", 8)
    assert not torch.equal(best["regime"]["generator.layers.0.weight"], with_it["regime"]["generator.layers.0.weight"])
    for part in ("regime", "optimisers", "average", "draw", "global"):
        assert same(with_it[part], without[part]) is None
    rows = (tmp_path / "with" / "log.csv").read_text().splitlines()
    assert [row for row in rows if "validation/MAE" in row][:2] == ["2,validation/MAE,3.0", "4,validation/MAE,1.0"]


# Signals


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signal_finishes_the_step_saves_and_exits(tmp_path, name, code):
    command = [sys.executable, str(CHILD), str(tmp_path / "run"), "--steps", "400", "--slow"]
    child = subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 240
    while not (log.exists() and log.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(getattr(signal, name))
    said = child.communicate(timeout=60)[1]
    assert child.returncode == code, said
    stopped = checkpoint.steps_of(tmp_path / "run")[0]
    assert 6 <= stopped < 400
    assert f"Stopped after step {stopped}; continue with --resume." in said
    checkpoint.load(tmp_path / "run", stopped)  # whole


def test_run_in_parts_ends_as_one_in_a_piece(tmp_path, capsys):
    setup = gan_setup(steps=6)
    run(setup, tmp_path / "whole")
    for until, reached in ((2, 2), (2, 2), (5, 5), (9, 6)):
        outcome = run(setup, tmp_path / "parts", resume=True, until=until)
        assert (outcome.steps, outcome.exit_code) == (reached, 0)
        assert checkpoint.steps_of(tmp_path / "parts")[0] == reached
    assert capsys.readouterr().err.count("continue with --resume") == 2
    assert same(checkpoint.load(tmp_path / "whole", 6), checkpoint.load(tmp_path / "parts", 6)) is None


@pytest.mark.parametrize("validations", [1, 2])
def test_signal_in_the_last_step_or_its_validation_is_no_undisturbed_end(tmp_path, monkeypatch, validations):
    validated = []

    def validator(networks, device):
        validated.append(1)
        if validations == len(validated) == 2:
            signal.raise_signal(signal.SIGTERM)
        return Report(1.0, {"MAE": 1.0}, "MAE 1")

    def after(regime, turn):
        if validations == 1 and regime.step == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ToyGan, "after", after)
    outcome = run(gan_setup(steps=4), tmp_path, validator=validator, validate_every=2)
    assert (outcome.steps, outcome.exit_code, len(validated)) == (4, 143, validations)
    assert checkpoint.load(tmp_path, 4)["pending"] is (validations == 1)
    monkeypatch.undo()
    for _ in range(2):  # made up for once, and not again
        outcome = run(gan_setup(steps=4), tmp_path, resume=True, validator=validator, validate_every=2)
        assert (outcome.steps, outcome.exit_code, len(validated)) == (4, 0, 2)
    assert checkpoint.load(tmp_path, 4)["pending"] is False
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [row for row in rows if "validation/MAE" in row] == ["2,validation/MAE,1.0", "4,validation/MAE,1.0"]


def test_validation_that_a_signal_prevented_is_made_up_for_before_the_next_step(tmp_path, monkeypatch, capsys):
    """And it measures the same networks: the run ends as the undisturbed one, with the same best weights."""

    def validator(networks, device):
        score = float(sum(value.detach().double().abs().sum() for value in networks["forward"].parameters()))
        return Report(score, {"MAE": score}, f"MAE {score}")

    def after(regime, turn):
        if regime.step == 1 and turn == "generator":
            signal.raise_signal(signal.SIGTERM)

    setup, often = gan_setup(steps=4), {"validator": validator, "validate_every": 2}
    whole = run(setup, tmp_path / "whole", **often)
    monkeypatch.setattr(ToyGan, "after", after)
    stopped = run(setup, tmp_path / "stopped", **often)
    monkeypatch.undo()
    assert (stopped.steps, stopped.best, stopped.exit_code) == (2, {}, 143)
    assert "Stopped after step 2, before its validation; continue with --resume." in capsys.readouterr().err
    resumed = run(setup, tmp_path / "stopped", resume=True, **often)
    assert (resumed.best, resumed.exit_code) == (whole.best, 0)
    ends = [checkpoint.load(tmp_path / name, 4) for name in ("whole", "stopped")]
    assert same(*[{part: end[part] for part in end} for end in ends]) is None
    kept = [checkpoint.read(tmp_path / name / engine.BEST)["regime"] for name in ("whole", "stopped")]
    assert same(*kept) is None


def test_older_checkpoint_without_word_of_a_pending_validation_is_taken_up(tmp_path):
    setup = gan_setup(steps=4)
    run(setup, tmp_path, save_every=2)
    checkpoint.path_of(tmp_path, 4).unlink()
    content = checkpoint.load(tmp_path, 2)
    del content["pending"]
    torch.save(content, checkpoint.path_of(tmp_path, 2))
    assert run(setup, tmp_path, resume=True).steps == 4
