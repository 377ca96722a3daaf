"""The training loop: rates, averages, whose weights change when, what is kept when numbers or the user end a run."""

from __future__ import annotations

import errno
import json
import math
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Generator, nn
from torch.amp.grad_scaler import GradScaler
from training_cases import (
    ToyFeed,
    ToyGan,
    ToyLine,
    gan_setup,
    line_setup,
)
from training_cases import toy_run as run

from SynthGANLib.errors import InputError
from SynthGANLib.recipes.base import CutCosine, Optimiser
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.training import checkpoint, engine, guard
from SynthGANLib.training.distributed import World
from SynthGANLib.training.ema import Average
from SynthGANLib.training.guard import DiscriminatorWatch, NotFiniteError
from SynthGANLib.training.schedule import build_optimiser, build_optimisers, initialise, rate_factor
from SynthGANLib.training.state import State, laid_out
from SynthGANLib.training.validate import Report

# Rates, optimisers, first weights, averages


def test_rates_in_closed_form():
    linear = line_setup(steps=100, schedule="linear", decay=0.5)
    assert [rate_factor(linear, step) for step in (0, 49, 50)] == [1.0, 1.0, 1.0]
    assert rate_factor(linear, 75) == pytest.approx(0.5)
    assert rate_factor(linear, 99) == pytest.approx(0.02)
    cosine = line_setup(steps=100, schedule="cosine")
    for step in (0, 25, 50, 99):
        assert rate_factor(cosine, step) == pytest.approx(0.5 * (1 + math.cos(math.pi * step / 100)))
    halving = line_setup(steps=1000, schedule="halving", decay=0.1)
    assert [rate_factor(halving, step) for step in (0, 99, 100, 299, 300, 999)] == [1, 1, 0.5, 0.25, 0.125, 0.5**9]
    assert [rate_factor(replace(halving, decay=0.0), step) for step in (0, 999)] == [1, 1]
    assert {rate_factor(line_setup(steps=9), step) for step in range(9)} == {1.0}
    warm = [rate_factor(replace(cosine, steps=110), step, 10) for step in range(110)]
    assert warm[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert warm[10] == 1.0
    assert all(later < earlier for earlier, later in pairwise(warm[10:]))
    cut = line_setup(steps=80, schedule=CutCosine(110, 60, 20))
    assert [rate_factor(cut, step, 10) for step in range(61)] == [
        rate_factor(replace(cosine, steps=110), step, 10) for step in range(61)
    ]
    falls = [rate_factor(cut, step, 10) / rate_factor(cut, 60, 10) for step in range(60, 81)]
    assert falls == pytest.approx([1.0 - step / 20 for step in range(21)])
    with pytest.raises(InputError, match="'step' is no schedule"):
        rate_factor(line_setup(schedule="step"), 0)


@pytest.mark.parametrize("kind", ["adam", "adamw", "adamax", "rmsprop", "sgd"])
def test_first_step_of_each_optimiser(kind):
    """By hand: the adaptive ones go by the rate along the gradient's sign, RMSprop by it over sqrt(1 - 0.99)."""
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    build = build_optimiser(Optimiser(kind, rate=0.01, betas=(0.5, 0.9)), [parameter])
    parameter.grad = torch.tensor([3.0, -0.5])
    build.step()
    way = {"sgd": [0.03, -0.005], "rmsprop": [0.1, -0.1]}.get(kind, [0.01, -0.01])
    assert (torch.tensor([1.0, -2.0]) - parameter.detach()).tolist() == pytest.approx(way, rel=1e-4)


def test_unknown_optimisers_are_named():
    regime = line_setup().build()
    with pytest.raises(InputError, match="'lion' is no kind of optimiser"):
        build_optimisers(regime, line_setup(optimisers={"*": Optimiser("lion")}))
    with pytest.raises(InputError, match="no group 'critic'"):
        build_optimisers(regime, line_setup(optimisers={"*": Optimiser(), "critic": Optimiser()}))
    with pytest.raises(InputError, match="no optimiser for 'line'"):
        build_optimisers(regime, line_setup(optimisers={}))


def test_first_weights_follow_their_law():
    layers = nn.Sequential(nn.Conv2d(64, 64, 5), nn.BatchNorm2d(64), nn.Linear(300, 300))
    initialise(layers, "dcgan", Generator().manual_seed(1))
    for layer, mean, spread in ((layers[0], 0.0, 0.02), (layers[1], 1.0, 0.02), (layers[2], 0.0, 0.02)):
        assert float(layer.weight.detach().mean()) == pytest.approx(mean, abs=0.01)
        assert float(layer.weight.detach().std()) == pytest.approx(spread, rel=0.25)
        assert not layer.bias.any()
    initialise(layers, "kaiming", Generator().manual_seed(1))
    assert float(layers[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / (64 * 25)), rel=0.02)
    assert float(layers[2].weight.detach().std()) == pytest.approx(math.sqrt(2 / 300), rel=0.02)


def test_average_in_closed_form():
    regime = line_setup().build()
    average = Average(regime, 0.95)
    expected = 0.5
    for n, value in enumerate([2.0, -1.0, 4.0] + [1.0] * 300, start=1):
        regime.line.w.data.fill_(value)
        average.update()
        decay = min(0.95, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        if n in (1, 3, 303):
            assert float(average.values["line.w"]) == pytest.approx(expected, rel=1e-5)

    def fail_inside():
        with average.instead_of():
            assert regime.line.w.item() == pytest.approx(expected, rel=1e-5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert regime.line.w.item() == 1.0


# The loop


def test_gradient_descent_in_closed_form(tmp_path):
    """Five steps of a line under the mean squared error, worked out again in double precision."""
    setup = line_setup()
    run(setup, tmp_path)
    w, b, feed = 0.5, 0.0, ToyFeed(setup, 5)
    for step in range(5):
        batch = feed.batch(step)
        x, y = batch["source"].double(), batch["target"].double()
        error = w * x + b - y
        w, b = w - 0.1 * float(2 * (error * x).mean()), b - 0.1 * float(2 * error.mean())
    found = checkpoint.load(tmp_path, 5)["regime"]
    assert float(found["line.w"]) == pytest.approx(w, rel=1e-5)
    assert float(found["line.b"]) == pytest.approx(b, rel=1e-5)


def test_clipping_limits_the_step(tmp_path):
    setup = line_setup(steps=1, clip=0.25, optimisers={"*": Optimiser("sgd", rate=1.0, betas=(0.0, 0.0))})
    run(setup, tmp_path)
    found = checkpoint.load(tmp_path, 1)["regime"]
    assert math.hypot(float(found["line.w"]) - 0.5, float(found["line.b"])) == pytest.approx(0.25, rel=1e-4)


class Spy(ToyGan):
    """Notes, at each loss, who wants gradients, and after each turn, whose weights have changed."""

    def __init__(self, networks, config):
        super().__init__(networks, config)
        self.wanting, self.changed = [], []

    def snapshot(self):
        return {
            name: [p.detach().clone() for p in getattr(self, name).parameters()]
            for name in ("generator", "discriminator")
        }

    def loss(self, turn, outputs, batch, rng):
        self.before = self.snapshot()
        self.wanting.append((turn, {n.split(".")[0] for n, p in self.named_parameters() if p.requires_grad}))
        self.precision = outputs["fake"].dtype
        yield from super().loss(turn, outputs, batch, rng)

    def after(self, turn):
        assert not torch.is_grad_enabled()
        now = self.snapshot()
        changed = {n: sum(not torch.equal(a, b) for a, b in zip(now[n], self.before[n], strict=True)) for n in now}
        self.changed.append((turn, changed))


def test_a_turn_changes_its_own_networks_only(tmp_path):
    spies = []
    setup = gan_setup(steps=2, regime=lambda networks, config: spies.append(Spy(networks, config)) or spies[-1])
    run(setup, tmp_path)
    every = {"generator": 6, "discriminator": 4}  # convolutions and a norm of two parameters each
    assert spies[-1].wanting == [("discriminator", {"discriminator"}), ("generator", {"generator"})] * 2
    assert (
        spies[-1].changed
        == [
            ("discriminator", {"generator": 0, "discriminator": every["discriminator"]}),
            ("generator", {"generator": every["generator"], "discriminator": 0}),
        ]
        * 2
    )


def test_bf16_computes_in_bf16_and_keeps_float32_weights(tmp_path):
    spies = []
    setup = gan_setup(steps=2, regime=lambda networks, config: spies.append(Spy(networks, config)) or spies[-1])
    run(setup, tmp_path / "half", amp="bf16")
    run(setup, tmp_path / "full")
    half, full = (checkpoint.load(tmp_path / name, 2)["regime"] for name in ("half", "full"))
    assert spies[0].precision == torch.bfloat16
    for name, value in half.items():
        if torch.is_tensor(value):
            assert value.dtype == full[name].dtype
            assert torch.allclose(value.float(), full[name].float(), atol=0.02), name
    with pytest.raises(InputError, match="does not compute in fp16"):
        run(setup, tmp_path / "no", amp="fp16")


class Steep(ToyLine):
    """A loss whose gradient is 8."""

    def loss(self, turn, outputs, batch, rng):
        yield {"l2": 8 * self.line.w}


def test_overflowing_half_precision_gradient_leaves_the_step_out():
    state = State.begin(line_setup(regime=Steep), seed=0, rank=0, device=torch.device("cpu"), amp="none")
    state.scalers["line"] = GradScaler("cpu", init_scale=2.0**127)
    engine.only(state.regime, ("line",))
    before = state.regime.line.w.item()

    def step():
        terms = engine._backward("line", {}, {}, state, "none")
        return engine._update("line", terms, state, 0.0, World(0, 1, torch.device("cpu")))

    norm = step()
    assert not math.isfinite(float(norm))
    assert state.regime.line.w.item() == before
    assert state.scalers["line"].get_scale() == 2.0**126
    state.scalers["line"] = GradScaler("cpu", init_scale=8.0)
    norm = step()
    assert float(norm) == pytest.approx(8.0)  # unscaled again
    assert state.regime.line.w.item() == pytest.approx(before - 0.1 * 8)


def test_order_in_memory_is_the_faster_one_and_changes_no_value():
    volume, image = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 5, 6)
    assert laid_out(volume).is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(laid_out(volume), volume)
    assert laid_out(image) is image
    assert laid_out(image.to("meta")).is_contiguous(memory_format=torch.channels_last)
    setup = RECIPES["unet-3d"].tiny()
    state = State.begin(setup, seed=0, rank=0, device=torch.device("cpu"), amp="none")
    kernels = [p for p in state.regime.parameters() if p.ndim == 5 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    assert all(not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last_3d) for p in kernels)


def test_data_without_what_the_regime_needs(tmp_path):
    class Lone(ToyFeed):
        def batch(self, step):
            return {"target": super().batch(step)["target"]}

    with pytest.raises(InputError, match="gives no 'source'"):
        run(gan_setup(), tmp_path, Lone(gan_setup()))


# What is not finite, and a discriminator that has won


def test_batch_that_breaks_the_loss_is_kept(tmp_path):
    setup = gan_setup(steps=8)
    feed = ToyFeed(setup, 5, nan=5)
    with pytest.raises(NotFiniteError, match="In step 5 the loss term 'discriminator' of the turn") as caught:
        run(setup, tmp_path, feed, save_every=4)
    assert "checkpoint of step 4" in caught.value.next_step
    kept = load_file(tmp_path / "nonfinite" / "step-00000005.rank0.safetensors")
    for name, value in feed.batch(5).items():
        assert torch.equal(torch.nan_to_num(kept[name]), torch.nan_to_num(value)), name
    facts = json.loads((tmp_path / "nonfinite" / "step-00000005.rank0.json").read_text())
    assert (facts["step"], facts["turn"], facts["terms"], facts["checkpoint"]) == (
        5,
        "discriminator",
        {"discriminator": "nan"},
        4,
    )
    assert facts["gradient"].startswith("0.layers")
    assert checkpoint.steps_of(tmp_path) == [4]
    assert run(setup, tmp_path, resume=True).steps == 8  # the same run with sound data


def test_full_disk_does_not_hide_what_became_nan(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(guard, "save_file", full)
    setup = gan_setup(steps=8)
    with pytest.raises(NotFiniteError, match="In step 5 the loss term 'discriminator'") as caught:
        run(setup, tmp_path, ToyFeed(setup, 5, nan=5), save_every=4)
    assert "the batch could not be kept: '" in str(caught.value)
    assert "(No space left on device)" in str(caught.value)
    assert "checkpoint of step 4" in caught.value.next_step
    assert not list((tmp_path / "nonfinite").iterdir())


class Root(ToyLine):
    """A finite loss with an infinite gradient: the root of nothing."""

    def loss(self, turn, outputs, batch, rng):
        yield {"root": (0 * outputs["fake"]).abs().sum().sqrt()}


def test_gradient_that_is_not_finite_is_told(tmp_path):
    with pytest.raises(NotFiniteError, match="a gradient of the turn 'line'"):
        run(line_setup(regime=Root), tmp_path)
    facts = json.loads((tmp_path / "nonfinite" / "step-00000000.rank0.json").read_text())
    assert facts["terms"] == {"root": 0.0}
    assert facts["gradient"] == "0.w"


def test_discriminator_that_has_won_is_told_once_in_a_while():
    watch = DiscriminatorWatch()
    won, even = {"real_accuracy": 1.0, "fake_accuracy": 0.99}, {"real_accuracy": 1.0, "fake_accuracy": 0.6}
    told = [step for step in range(0, 4 * watch.LONG, 100) if watch.update(step, won)]
    assert told == [watch.LONG, 2 * watch.LONG, 3 * watch.LONG]
    assert watch.update(10**6, even) is None
    assert watch.update(10**6 + 100, won) is None
    assert "Since step" in str(watch.update(10**6 + 100 + watch.LONG, won))
    assert DiscriminatorWatch().update(0, {"distance": 1.0}) is None


# What it says


def test_log_holds_means_of_what_happened(tmp_path):
    run(gan_setup(steps=5), tmp_path, log_every=2)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [2, 4, 5]
    assert {"discriminator/discriminator", "generator/adversarial", "generator/l1", "generator/norm", "rate"} <= set(
        entries[0]
    )
    run(gan_setup(steps=5), tmp_path / "each", log_every=1)
    each = [json.loads(line) for line in (tmp_path / "each" / "log.jsonl").read_text().splitlines()]
    assert entries[0]["generator/l1"] == pytest.approx((each[0]["generator/l1"] + each[1]["generator/l1"]) / 2)
    table = [row.split(",") for row in (tmp_path / "log.csv").read_text().splitlines()]
    assert table[0] == ["step", "name", "value"]
    assert float(next(row[2] for row in table if row[:2] == ["2", "generator/l1"])) == entries[0]["generator/l1"]


def test_resumed_log_drops_what_comes_again(tmp_path):
    run(gan_setup(steps=8), tmp_path, save_every=4, log_every=1)
    whole = (tmp_path / "log.csv").read_text()
    checkpoint.path_of(tmp_path, 8).unlink()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "gener')  # as a killed process leaves it
    run(gan_setup(steps=8), tmp_path, resume=True, log_every=1)
    assert (tmp_path / "log.csv").read_text() == whole
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def test_tensorboard_gets_curves_and_pictures(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    setup = gan_setup(steps=4)
    report = Report(1.0, {"MAE": 1.0}, "MAE 1", {"case 0": picture})
    run(setup, tmp_path, validator=lambda networks, device: report, validate_every=2, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("generator/l1")] == [2, 4]
    assert events.Images("case 0")[0].width == 8


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread ends
@pytest.mark.parametrize("moment", ["begin", "write", "close"])
def test_full_disk_ends_tensorboard_not_the_training(tmp_path, capsys, monkeypatch, moment):
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra")
    import torch.utils.tensorboard
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(*arguments, **options):
        time.sleep(0.01)
        raise OSError(errno.ENOSPC, "No space left on device")

    if moment == "begin":
        monkeypatch.setattr(torch.utils.tensorboard, "SummaryWriter", full)
    else:
        monkeypatch.setattr(RecordWriter, "write" if moment == "write" else "flush", full)
    outcome = run(gan_setup(steps=12), tmp_path, tensorboard=True, log_every=1)
    assert (outcome.steps, outcome.exit_code) == (12, 0)
    said = [line for line in capsys.readouterr().err.splitlines() if "TensorBoard" in line]
    assert said == ["warning: Nothing more is written for TensorBoard (No space left on device); the training goes on."]
    assert checkpoint.steps_of(tmp_path) == [12]


def test_training_learns(tmp_path):
    """The line finds the slope that least squares gives on the same law of data."""
    setup = line_setup(steps=200, batch=16, ema=0.9)
    run(setup, tmp_path, log_every=50)
    x = torch.randn(200_000, generator=Generator().manual_seed(1)).double()
    slope = float((x * torch.tanh(2 * x)).mean() / (x * x).mean())
    assert float(checkpoint.load(tmp_path, 200)["average"]["values"]["line.w"]) == pytest.approx(slope, abs=0.03)
