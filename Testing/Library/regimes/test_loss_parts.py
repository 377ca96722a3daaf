"""Losses in parts: the gradients of the plain form of each method, from less memory at a time."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from regime_cases import CASES, all_terms, drawn, images, two_domains
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from SynthGANLib.recipes.base import Setup
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.regimes.base import Regime, sum_of
from SynthGANLib.regimes.cycle import Cycle, CycleConfig
from SynthGANLib.training import engine
from SynthGANLib.training.distributed import World
from SynthGANLib.training.state import State
from Tools.Benchmarks.bench_training import plain_cyclegan, plain_pix2pix

WORLD = World(0, 1, torch.device("cpu"))


def begun(setup: Setup) -> State:
    return State.begin(setup, seed=3, rank=0, device=torch.device("cpu"), amp="none")


def gradients_of(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def engine_step(state: State, batch: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """One step as the loop does it; the gradients that each turn's optimiser was given, by network."""
    regime, found = state.regime, {}
    turns = regime.turns(0)
    engine.only(regime, turns)
    outputs = regime.forward(batch, state.rng)
    for turn in turns:

        def keep(*_: Any, turn: str = turn) -> None:
            for name in regime.groups[turn]:
                found[name] = gradients_of(getattr(regime, name))

        hook = state.optimisers[turn].register_step_pre_hook(keep)
        engine.only(regime, (turn,))
        terms = engine._backward(turn, outputs, batch, state, "none")
        assert engine._update(turn, terms, state, 0.0, WORLD) is not None
        hook.remove()
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("recipe", "plain"), [("pix2pix", plain_pix2pix), ("cyclegan", plain_cyclegan)])
def test_gradients_are_those_of_the_plain_form(recipe: str, plain: Any, dtype: Any, tolerance: float) -> None:
    setup = RECIPES[recipe].tiny()
    if recipe == "cyclegan":
        setup = replace(setup, config=replace(setup.config, pool=0))  # the plain form has none
    ours, other = begun(setup), begun(setup)
    for state in (ours, other):
        state.regime.to(dtype)
    batch = {name: image.to(dtype) for name, image in images(drawn(1), "source", "target", extent=32, count=1).items()}
    torch.manual_seed(9)
    found = engine_step(ours, batch)
    networks = dict(other.regime.named_children())
    for network in networks.values():
        network.requires_grad_(True)
    torch.manual_seed(9)  # dropout
    # without a step the discriminator of pix2pix would not be the one that the generator meets
    plain(networks)(batch)
    assert set(found) == {name for name in networks if name.startswith(("generator", "discriminator"))}
    for name, gradients in found.items():
        if recipe == "pix2pix" and name == "discriminator":
            continue  # the plain form's generator has added its own gradients to these
        expected = gradients_of(networks[name])
        assert set(gradients) == set(expected)
        largest = max(float(value.abs().max()) for value in expected.values())
        for key, value in expected.items():
            assert torch.allclose(gradients[key], value, rtol=tolerance, atol=tolerance * largest), (name, key)


@pytest.mark.parametrize("gradient", [0.0, 0.3])
def test_parts_give_the_terms_and_gradients_of_the_whole(gradient: float) -> None:
    torch.manual_seed(0)
    regime = Cycle(two_domains(), CycleConfig(gradient=gradient)).double()
    batch = {name: image.double() for name, image in images(drawn(1), "source", "target").items()}
    rng = drawn(2)
    engine.only(regime, ("generators",))
    whole = all_terms(regime, "generators", regime.forward(batch, rng), batch, rng)
    sum_of(whole).backward()
    expected = gradients_of(regime)
    regime.zero_grad()
    terms: dict[str, Tensor] = {}
    parts = 0
    for part in regime.loss("generators", regime.forward(batch, rng), batch, rng):
        assert not set(part) & set(terms)
        sum_of(part).backward()
        terms |= part
        parts += 1
    assert parts == 4
    assert terms.keys() == whole.keys()
    assert all(torch.equal(terms[name], whole[name]) for name in whole)
    for name, value in gradients_of(regime).items():
        assert torch.allclose(value, expected[name], rtol=1e-12), name


@pytest.mark.parametrize("step", [0, 1])
def test_mixed_steps_are_whole_or_in_parts_with_the_same_gradients(step: int) -> None:
    """MR-GAN: the unpaired steps are CycleGAN's, the paired ones have one part."""
    regime: Any = CASES["mixed"].made(0).double()
    batch = {name: image.double() for name, image in CASES["mixed"].batch(drawn(1)).items()}
    regime.step = step
    engine.only(regime, ("generators",))
    sum_of(all_terms(regime, "generators", regime.forward(batch, drawn(2)), batch, drawn(2))).backward()
    expected = gradients_of(regime)
    regime.zero_grad()
    parts = 0
    for part in regime.loss("generators", regime.forward(batch, drawn(2)), batch, drawn(2)):
        sum_of(part).backward()
        parts += 1
    assert parts == (1 if step else 2)
    for name, value in gradients_of(regime).items():
        assert torch.allclose(value, expected[name], rtol=1e-10), name


class Kept:
    """Bytes that autograd holds for backward, now and at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> Any:
        box = [tensor]
        holder = _Holder(box)
        size = tensor.element_size() * tensor.nelement()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(holder, self._gone, size)
        return holder

    def _gone(self, size: int) -> None:
        self.now -= size


class _Holder:
    def __init__(self, box: list[Tensor]) -> None:
        self.box = box


def _held(regime: Regime, batch: dict[str, Tensor], in_parts: bool) -> int:
    kept = Kept()
    rng = drawn(2)
    engine.only(regime, ("generators",))
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda holder: holder.box[0]):
        outputs = regime.forward(batch, rng)
        if in_parts:
            for part in regime.loss("generators", outputs, batch, rng):
                sum_of(part).backward()
                del part
        else:
            sum_of(all_terms(regime, "generators", outputs, batch, rng)).backward()
    regime.zero_grad()
    return kept.most


def test_parts_hold_a_third_of_the_whole() -> None:
    """Two of six runs of a generator at a time, and a discriminator's."""
    regime = RECIPES["cyclegan"].tiny().build()
    batch = images(drawn(1), "source", "target", extent=64, count=1)
    whole, part = (_held(regime, batch, in_parts) for in_parts in (False, True))
    assert part < 0.45 * whole
    assert part > 0.2 * whole, "what is measured is there"


def test_translations_of_a_step_go_with_it() -> None:
    """Nothing refers to itself: memory is free at once, not when Python looks for circles."""
    regime = Cycle(two_domains(), CycleConfig())
    batch = images(drawn(1), "source", "target")
    gc.disable()
    try:
        outputs = regime.forward(batch, drawn(2))
        all_terms(regime, "generators", outputs, batch, drawn(2))
        assert set(outputs) == {"fake_a", "fake_b"}
        assert not any(image.requires_grad for image in outputs.values())
        gone = weakref.ref(outputs["fake_a"])
        del outputs
        assert gone() is None
    finally:
        gc.enable()


def test_early_parts_are_scaled_like_the_last() -> None:
    """In fp16 all gradients of a turn carry the same scale."""
    setup = replace(RECIPES["cyclegan"].tiny(), config=CycleConfig(pool=0))
    batch = images(drawn(1), "source", "target", extent=32, count=1)
    plain, scaled = begun(setup), begun(setup)
    for turn in scaled.regime.groups:
        scaled.scalers[turn] = GradScaler("cpu", init_scale=2.0**8)
    expected, found = engine_step(plain, batch), engine_step(scaled, batch)
    for name, gradients in expected.items():
        largest = max(float(value.abs().max()) for value in gradients.values())
        for key, value in gradients.items():
            assert torch.allclose(found[name][key], value, atol=1e-5 * largest), (name, key)
