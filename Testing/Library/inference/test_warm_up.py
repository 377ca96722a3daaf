"""Rates that rise over the first steps: a setting of the recipe, the same by both of its names on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cli_cases import call
from list_cases import subjects, write_list
from training_cases import ToyFeed, line_setup

from SynthGANLib.errors import InputError
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.training import checkpoint
from SynthGANLib.training.engine import train


def rates(run: Path) -> list[float]:
    with (run / "log.csv").open(encoding="utf-8") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "rate"]


def test_rates_rise_to_their_value(tmp_path: Path) -> None:
    """Gradient descent on one weight: the first step is a quarter of what it is without a warm-up."""
    moved = []
    for warm_up in (0, 4):
        setup = line_setup(steps=6, warm_up=warm_up)
        run = tmp_path / str(warm_up)
        train(setup, ToyFeed(setup, 5), run, seed=5, device="cpu", log_every=1, save_every=1)
        assert rates(run) == [1.0] * 6 if not warm_up else [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
        first = line_setup(steps=1, warm_up=warm_up)
        train(first, ToyFeed(first, 5), tmp_path / f"first {warm_up}", seed=5, device="cpu")
        moved.append(float(checkpoint.load(tmp_path / f"first {warm_up}", 1)["regime"]["line.w"]) - 0.5)
    assert moved[1] == pytest.approx(moved[0] / 4, rel=1e-5)
    assert moved[0] != 0


def test_it_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    setup = line_setup(warm_up=2)
    train(setup, ToyFeed(setup, 5), tmp_path, seed=5, device="cpu")
    other = line_setup(warm_up=3)
    with pytest.raises(InputError, match=r"'setup.warm_up' is 2 there and 3 here"):
        train(other, ToyFeed(other, 5), tmp_path, seed=5, device="cpu", resume=True)
    with pytest.raises(InputError, match="A warm-up of -1 steps"):
        train(line_setup(warm_up=-1), ToyFeed(setup, 5), tmp_path / "x", seed=5, device="cpu")
    assert RECIPES["dual-glow"].canonical().warm_up == 7260


def test_both_names_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_list(tmp_path, subjects(tmp_path, 1, (4, 36, 36)))
    quick = ("train", "pix2pix", "--data", data, "--tiny", "--device", "cpu", "--workers", 0, "--log-every", 1)
    for name, given in (("a", ("--warm-up", 2, "--set", "steps=3")), ("b", ("--set", "steps=3", "warm_up=2"))):
        code, _, err = call(capsys, *quick, "--out", tmp_path / name, *given)
        assert code == 0, err
        assert rates(tmp_path / name)[:2] == [0.5, 1.0]
        record = json.loads((tmp_path / name / "run.json").read_text(encoding="utf-8"))
        assert (record["warm_up"], record["settings"]["warm_up"]) == (2, "2")
    code, _, err = call(capsys, *quick, "--out", tmp_path / "c", "--warm-up", 2, "--set", "warm_up=3")
    assert (code, "'warm_up' is set twice" in err) == (2, True)
