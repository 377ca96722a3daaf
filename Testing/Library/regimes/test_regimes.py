"""What holds for every regime: who is trained when, exact continuation, the same from the same seed; and it learns."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from regime_cases import CASES, Case, Judge, Loop, Translator, all_terms, drawn, two_domains
from torch import Tensor, nn

from SynthGANLib.regimes import cascade, cycle, paired, supervised
from SynthGANLib.regimes.base import Batch, Regime, sum_of

STAGED = ("cascade", "auto-context", "mixed")
"""Regimes whose turns do not train all of their networks in every step."""

CANCELS = {"mdcsrn": "discriminator.last.bias", "wgan": "critic.layers.2.bias", "wgan-gp": "critic.layers.2.bias"}
"""A Wasserstein critic's last bias is in E f(x) and E f(G(z)) alike."""

STEADY = (supervised.Supervised, cascade.StagedCascade)
"""Regimes that draw nothing; paired ones only for a gradient penalty or a hole."""

each = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bit for bit is promised for the same machine and the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def copied(regime: Regime) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in regime.named_parameters()}


def names_of(regime: Regime, turn: str) -> set[str]:
    own = {id(p) for p in regime.parameters_of(turn)}
    return {name for name, p in regime.named_parameters() if id(p) in own}


@each
def test_groups_are_disjoint_and_hold_every_trainable_parameter(case: Case) -> None:
    regime = case.made(0)
    trainable = {name for name, p in regime.named_parameters() if p.requires_grad}
    groups = [names_of(regime, turn) for turn in regime.groups]
    assert set().union(*groups) == trainable
    assert sum(map(len, groups)) == len(trainable)
    assert {turn for step in range(20) for turn in regime.turns(step)} == set(regime.groups)


@pytest.mark.parametrize("name", CASES)
def test_a_turn_trains_all_of_its_networks_and_no_other(name: str) -> None:
    case = CASES[name]
    regime, data, rng = case.made(1), drawn(2), drawn(3)
    loop = Loop(regime)
    loop.run(case, 2, data, rng)  # a flow's last layers are 0 at first, and let nothing through
    changed: dict[str, set[str]] = {turn: set() for turn in regime.groups}
    whole = {turn: names_of(regime, turn) - {CANCELS.get(name)} for turn in regime.groups}
    before: dict[str, Tensor] = {}

    def keep(turn: str) -> None:
        before.update(copied(regime))

    def compare(turn: str) -> None:
        now = {n for n, value in copied(regime).items() if not torch.equal(value, before[n])}
        assert now <= names_of(regime, turn), "an opponent was changed"
        if name not in STAGED:
            assert now == whole[turn], "a parameter was left out"
        changed[turn] |= now

    loop.before, loop.behind = keep, compare
    loop.run(case, 6, data, rng)
    first = ("generator.stages.0.", "discriminator_1.", "copies.", "copied_judges.")  # of a cascade, and frozen
    finished = {n for n, _ in regime.named_parameters() if n.startswith(first)}
    assert changed == {turn: names - finished for turn, names in whole.items()}


def _saved(loop: Loop, data: Any, rng: Any) -> Any:
    state = {
        "regime": dict(loop.regime.state_dict()),
        "optimisers": {name: o.state_dict() for name, o in loop.optimisers.items()},
        "random": [data.get_state(), rng.get_state(), torch.get_rng_state()],
        "step": loop.step,
    }
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@each
def test_n_steps_saved_and_n_more_are_2n_steps_bit_for_bit(case: Case) -> None:
    straight = Loop(case.made(4))
    data, rng = drawn(5), drawn(6)
    straight.run(case, 4, data, rng)
    saved = _saved(straight, data, rng)
    straight.run(case, 4, data, rng)

    resumed = Loop(case.made(7))
    resumed.regime.load_state_dict(saved["regime"])
    for name, state in saved["optimisers"].items():
        resumed.optimisers[name].load_state_dict(state)
    data.set_state(saved["random"][0])
    rng.set_state(saved["random"][1])
    torch.set_rng_state(saved["random"][2])
    resumed.step = saved["step"]
    resumed.run(case, 4, data, rng)

    assert resumed.terms == straight.terms
    ends = straight.regime.state_dict(), resumed.regime.state_dict()
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        if isinstance(value, Tensor):
            assert torch.equal(value, ends[1][name]), name
        else:  # a pool
            assert all(torch.equal(a, b) for a, b in zip(value["images"], ends[1][name]["images"], strict=True)), name


@each
def test_the_seed_decides(case: Case) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        loop = Loop(case.made(8))
        loop.run(case, 4, drawn(9), drawn(seed))
        return copied(loop.regime)

    first, again, other = trained(10), trained(10), trained(11)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    same = all(torch.equal(value, other[name]) for name, value in first.items())
    regime = case.made(0)
    paired_only = type(regime) is paired.PairedAdversarial and not regime.config.penalty
    assert same == (paired_only or isinstance(regime, STEADY))


@each
def test_terms_are_float32_scalars_also_under_bf16(case: Case) -> None:
    regime, rng = case.made(11), drawn(12)
    batch = case.batch(drawn(13))
    for step in range(4):
        regime.step = step
        with torch.autocast("cpu", torch.bfloat16):
            outputs = regime.forward(batch, rng)
            for turn in regime.turns(step):
                terms = all_terms(regime, turn, outputs, batch, rng)
                assert {(t.dtype, t.shape) for t in terms.values()} == {(torch.float32, torch.Size([]))}
                assert bool(torch.isfinite(sum_of(terms)))


@each
def test_prediction_and_exported_networks(case: Case) -> None:
    regime = case.made(14)
    Loop(regime).run(case, 2, drawn(15), drawn(16))
    regime.eval()
    batch = case.batch(drawn(17))
    random = torch.get_rng_state()
    with torch.no_grad():
        shown = regime.predict(batch, drawn(18))
        assert torch.equal(shown, regime.predict(batch, drawn(18)))
    assert torch.equal(random, torch.get_rng_state()), "drawn from the global generator"
    assert shown.shape == batch["target"].shape
    exported = regime.exported()
    own = {id(p) for p in regime.parameters()}
    assert "forward" in exported
    assert all(id(p) in own for network in exported.values() for p in network.parameters())
    if "source" in regime.needs and not isinstance(regime, cycle.Cycle):
        assert torch.equal(exported["forward"](batch["source"]), shown) or "cascade" in type(regime).__module__
    assert all(isinstance(value, float) for value in regime.watch({}).values())


@each
def test_what_is_needed_is_what_is_read(case: Case) -> None:
    class Read(dict[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:
            read.add(name)
            return super().__getitem__(name)

    read: set[str] = set()
    regime, rng = case.made(19), drawn(20)
    batch = Read(case.batch(drawn(21)))
    for step in range(4):
        regime.step = step
        outputs = regime.forward(batch, rng)
        for turn in regime.turns(step):
            all_terms(regime, turn, outputs, batch, rng)
    assert read == set(regime.needs)


def blobs(rng: torch.Generator, count: int = 8) -> Batch:
    """MR and CT of one anatomy: a disc and a ring in different gray values, the MR with noise."""
    axis = torch.arange(12.0)
    centre = 4 + 4 * torch.rand(count, 2, generator=rng)
    y, x = axis[None, :, None] - centre[:, :1, None], axis[None, None, :] - centre[:, 1:, None]
    radius = (x.square() + y.square()).sqrt()[:, None]
    inside, ring = (radius < 3).float(), ((radius >= 3) & (radius < 4)).float()
    speckle = 0.05 * torch.randn(inside.shape, generator=rng)
    return {"source": 0.8 * inside - 0.6 * ring + speckle, "target": 0.1 * inside + 0.9 * ring - 0.5}


def _mae(x: Tensor, y: Tensor) -> float:
    return float((x - y).detach().abs().mean())


@pytest.mark.parametrize("adversarial", [False, True])
def test_paired_training_beats_copying_and_the_mean(adversarial: bool) -> None:
    torch.manual_seed(0)
    nets: dict[str, nn.Module] = {"generator": Translator(width=8), "discriminator": Judge(2)}
    regime: Regime = supervised.Supervised(nets, supervised.SupervisedConfig())
    if adversarial:
        regime = paired.PairedAdversarial(nets, paired.PairedConfig(l1=20.0))
    loop, data, rng = Loop(regime, 5e-3), drawn(1), drawn(2)
    for _ in range(200):
        loop.take(blobs(data), rng)
    held = blobs(drawn(3), 32)
    found = _mae(regime.predict(held, rng), held["target"])
    mean = held["target"].mean().expand_as(held["target"])
    assert found < 0.5 * min(_mae(held["source"], held["target"]), _mae(mean, held["target"]))


def test_unpaired_training_halves_the_cycle_error() -> None:
    torch.manual_seed(0)
    regime = cycle.Cycle(two_domains(), cycle.CycleConfig(identity=0.0, pool=8))
    loop, data, rng = Loop(regime, 5e-3), drawn(1), drawn(2)

    def error() -> float:
        held = blobs(drawn(3), 32)
        there, back = regime.generator_ab, regime.generator_ba
        a, b = held["source"], held["target"]
        return _mae(back(there(a)), a) + _mae(there(back(b)), b)

    before = error()
    for _ in range(150):
        pair = blobs(data)
        loop.take({"source": pair["source"], "target": blobs(data)["target"]}, rng)
    assert error() < 0.5 * before


def test_turns_do_not_depend_on_anything_but_the_step() -> None:
    for case in CASES.values():
        regime = case.made(0)
        first = [regime.turns(step) for step in range(30)]
        Loop(regime).run(case, 3, drawn(1), drawn(2))
        assert [regime.turns(step) for step in range(30)] == first
        assert all(len(set(turns)) == len(turns) > 0 for turns in first)
