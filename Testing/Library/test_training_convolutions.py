"""The ways in which training computes convolutions on the CPU: PyTorch's values, gradients and coverage."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from test_recipe_runs import EveryKey, one_thread  # noqa: F401  # a fixture
from torch import Tensor, nn
from torch.nn import functional as F
from training_cases import same

from SynthGANLib.losses import gradient_penalty
from SynthGANLib.recipes import RECIPES
from SynthGANLib.regimes.base import sum_of
from SynthGANLib.training import checkpoint, convolutions, engine
from SynthGANLib.training.convolutions import TrainingConvolutions, from_one, tiled, to_one, transposed
from SynthGANLib.training.engine import train
from SynthGANLib.training.schedule import initialise

WAYS = ("tiled", "from_one", "to_one", "transposed")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def up(image: Tensor, weight: Tensor) -> Tensor:
    return transposed(image, weight, (2, 1), (1, 0))


def up_plainly(image: Tensor, weight: Tensor) -> Tensor:
    return F.conv_transpose2d(image, weight, stride=(2, 1), padding=(1, 0))


CASES = [
    (tiled, F.conv2d, (2, 5, 18, 14), (7, 5, 3, 3)),
    (tiled, F.conv2d, (1, 5, 13, 17), (3, 5, 3, 3)),
    (tiled, F.conv2d, (3, 4, 6, 23), (5, 4, 3, 3)),
    (tiled, F.conv2d, (1, 2, 3, 3), (3, 2, 3, 3)),
    (from_one, F.conv2d, (2, 1, 20, 17), (8, 1, 7, 7)),
    (to_one, F.conv2d, (2, 8, 20, 17), (1, 8, 7, 7)),
    (to_one, F.conv2d, (1, 8, 9, 12), (2, 8, 1, 11)),
    (to_one, F.conv2d, (1, 8, 9, 12), (1, 8, 4, 5)),
    (up, up_plainly, (2, 6, 3, 5), (6, 4, 4, 3)),
    (up, up_plainly, (1, 6, 1, 1), (6, 1, 4, 4)),
]


def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the ways that are taken from now on."""
    names: list[str] = []
    for way in WAYS:
        real = getattr(convolutions, way)
        monkeypatch.setattr(convolutions, way, lambda *a, real=real, way=way: names.append(way) or real(*a))
    return names


def for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lower what the tiles' size and width begin at, so that small networks reach them."""
    monkeypatch.setattr(convolutions, "LEAST_CHANNELS", 4)
    monkeypatch.setattr(convolutions, "LEAST_TILES", 1)
    return taken(monkeypatch)


def drawn(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 1) -> list[Tensor]:
    draw = seeded(seed)
    return [torch.randn(shape, generator=draw, dtype=dtype).requires_grad_() for shape in shapes]


def as_it_is(image: Tensor) -> Tensor:
    return image


def channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def turned(image: Tensor) -> Tensor:
    return image.transpose(2, 3).contiguous().transpose(2, 3)


def a_piece(image: Tensor) -> Tensor:
    return F.pad(image, (3, 2, 1, 4))[..., 1:-4, 3:-2]


# Values and derivatives


@pytest.mark.parametrize(("way", "plain", "image", "weight"), CASES)
@pytest.mark.parametrize("laid", [as_it_is, channels_last, turned, a_piece])
@pytest.mark.parametrize("strip", [1, 2**23])
def test_values_and_gradients_are_pytorchs(way, plain, image, weight, laid, strip, monkeypatch) -> None:
    monkeypatch.setattr(convolutions, "STRIP_BYTES", strip)  # one row of tiles at a time, and all
    inputs = drawn(image, weight)
    ours, theirs = way(laid(inputs[0]), laid(inputs[1])), plain(*inputs)
    slope = laid(drawn(theirs.shape, seed=2)[0].detach())
    found, expected = (torch.autograd.grad(output, inputs, slope) for output in (ours, theirs))
    for one, other in zip((ours, *found), (theirs, *expected), strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-11 * float(other.detach().abs().max()))


@pytest.mark.parametrize(("way", "plain", "image", "weight"), CASES)
def test_second_derivatives_are_pytorchs(way, plain, image, weight) -> None:
    """Also where the image is the copy that another layout needs: nothing is taken for a constant."""
    inputs = drawn(image, weight)

    def twice(output: Tensor) -> tuple[Tensor, ...]:
        slopes = torch.autograd.grad(output.pow(3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(slope.square().sum() for slope in slopes), inputs)

    found, expected = twice(way(turned(inputs[0]), channels_last(inputs[1]))), twice(plain(*inputs))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize(
    ("way", "plain", "image", "weight", "factors"),
    [
        (tiled, F.conv2d, (1, 96, 35, 37), (128, 96, 3, 3), (6, 20, 6)),
        (from_one, F.conv2d, (1, 1, 40, 41), (64, 1, 7, 7), (2, 2, 2)),
        (to_one, F.conv2d, (2, 64, 40, 41), (1, 64, 7, 7), (2, 2, 2)),
        (up, up_plainly, (1, 64, 9, 9), (64, 32, 4, 4), (2, 2, 2)),
    ],
)
def test_errors_in_float32_are_small_factors_of_pytorchs(way, plain, image, weight, factors) -> None:
    """Winograd's sums cancel, so its error is some three times (of the image's gradient, sixteen times) as large."""
    inputs = drawn(image, weight, dtype=torch.float32)
    exact = [value.detach().double().requires_grad_() for value in inputs]
    slope = drawn(plain(*inputs).shape, seed=2)[0].detach()

    def all_of(output: Tensor, given: list[Tensor]) -> list[Tensor]:
        return [output, *torch.autograd.grad(output, given, slope.to(output))]

    truth = all_of(plain(*exact), exact)
    ours, theirs = (
        [
            float((one - other).detach().norm() / other.detach().norm())
            for one, other in zip(all_of(f(*inputs), inputs), truth, strict=True)
        ]
        for f in (way, plain)
    )
    for mine, its, factor in zip(ours, theirs, factors, strict=True):
        assert mine < max(factor * its, 4e-7)
        assert mine < 5e-6


def test_gradients_that_nobody_wants_are_not_computed() -> None:
    image, weight = torch.randn(1, 4, 10, 10), torch.randn(3, 4, 3, 3)
    for leaf in (image, weight):
        leaf.requires_grad_(True)
        tiled(image, weight).sum().backward()
        assert leaf.grad is not None
        leaf.requires_grad_(False)
        leaf.grad = None
    assert image.grad is None
    assert not tiled(image, weight).requires_grad


def test_saved_tensors_serve_twice_and_changed_ones_are_refused() -> None:
    (image, weight) = drawn((1, 4, 10, 10), (3, 4, 3, 3))
    output = tiled(image, weight)
    first, again = (torch.autograd.grad(output.sum(), (image, weight), retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("extent", [10, 11])
def test_results_may_be_changed_in_place(extent: int) -> None:
    (image, weight) = drawn((1, 4, extent, extent), (3, 4, 3, 3))
    ours, theirs = (
        torch.autograd.grad(F.leaky_relu_(f(image, weight), 0.2).sum(), (image, weight)) for f in (tiled, F.conv2d)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other)


def test_gradients_stay_exact_where_the_backward_pass_lies_in_autocast() -> None:
    (image, weight) = drawn((1, 16, 10, 10), (16, 16, 3, 3), dtype=torch.float32)
    plain = torch.autograd.grad(tiled(image, weight).sum(), (image, weight))
    output = tiled(image, weight).sum()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(output, (image, weight))
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))


# Which layers


@pytest.mark.parametrize(
    ("layer", "extent", "name"),
    [
        (lambda: nn.Conv2d(96, 100, 3), 47, "tiled"),
        (lambda: nn.Conv2d(96, 96, 3), 30, ""),
        (lambda: nn.Conv2d(96, 64, 3), 60, ""),
        (lambda: nn.Conv2d(1, 32, 7), 12, "from_one"),
        (lambda: nn.Conv2d(32, 1, 7, bias=False), 12, "to_one"),
        (lambda: nn.Conv2d(32, 1, (1, 11)), 12, "to_one"),
        (lambda: nn.Conv2d(1, 32, 9), 12, ""),
        (lambda: nn.Conv2d(2, 128, 7), 12, ""),
        (lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1), 4, "transposed"),
        (lambda: nn.ConvTranspose2d(8, 1, 4, 2, 1), 20, "transposed"),
        (lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1), 20, ""),
        (lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1), 4, ""),
        (lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=2), 4, ""),
        (lambda: nn.Conv2d(96, 96, 3, padding=1), 60, ""),
        (lambda: nn.Conv2d(96, 96, 3, padding="same"), 60, ""),
        (lambda: nn.Conv2d(96, 96, 3, padding=1, padding_mode="reflect"), 60, "tiled"),
        (lambda: nn.Conv2d(96, 96, 3, stride=2), 120, ""),
        (lambda: nn.Conv2d(192, 192, 3, groups=2), 60, ""),
        (lambda: nn.Conv2d(1, 32, 7, dilation=2), 20, ""),
    ],
)
def test_layers_go_their_way_within_the_context_only(
    layer: Callable[[], nn.Module], extent: int, name: str, monkeypatch
) -> None:
    torch.manual_seed(0)
    module = layer()
    names = taken(monkeypatch)
    image = torch.randn(2 if name else 1, module.in_channels, extent, extent)
    plain = module(image)
    assert names == []
    with TrainingConvolutions():
        assert torch.allclose(module(image), plain, atol=1e-4)
        assert names == ([name] if name else [])
        with torch.autocast("cpu", torch.bfloat16):
            assert module(image).dtype == torch.bfloat16
        assert module.to("meta")(image.to("meta")).shape == plain.shape
    assert names == ([name] if name else [])


def test_other_numbers_and_volumes_are_left_alone(monkeypatch) -> None:
    names = for_all_sizes(monkeypatch)
    with TrainingConvolutions():
        for module, image in (
            (nn.Conv2d(8, 8, 3).double(), torch.randn(1, 8, 20, 20).double()),
            (nn.Conv2d(8, 8, 3).bfloat16(), torch.randn(1, 8, 20, 20).bfloat16()),
            (nn.Conv3d(8, 8, 3), torch.randn(1, 8, 9, 9, 9)),
            (nn.Conv2d(8, 8, 3), torch.randn(8, 20, 20)),
        ):
            assert module(image).dtype == image.dtype
    assert names == []


@pytest.mark.parametrize("shape", [(1, 8, 2, 9), (1, 7, 20, 20)])
def test_what_does_not_fit_is_refused_by_pytorch(shape, monkeypatch) -> None:
    for_all_sizes(monkeypatch)
    layer, messages = nn.Conv2d(8, 8, 3), []
    for context in (contextlib.nullcontext(), TrainingConvolutions()):
        with pytest.raises(RuntimeError) as refusal, context:
            layer(torch.zeros(shape))
        messages.append(str(refusal.value))
    assert messages[0] == messages[1]


# Training


@pytest.mark.parametrize(("amp", "there"), [("none", True), ("bf16", False)])
def test_only_float32_on_the_cpu_pays_for_the_context(amp: str, there: bool) -> None:
    assert isinstance(engine._convolutions(torch.device("cpu"), amp), TrainingConvolutions) == there
    assert not isinstance(engine._convolutions(torch.device("cuda"), amp), TrainingConvolutions)


@pytest.mark.parametrize("name", ["wgan-gp", "pggan", "super-resolution", "cyclegan"])
def test_regimes_never_differentiate_tiles_twice(name: str, tmp_path, monkeypatch) -> None:
    """Critics pad by themselves, so that even a penalty on them costs what PyTorch's own takes."""
    names, twice = for_all_sizes(monkeypatch), []
    real = convolutions._Tiled.backward
    monkeypatch.setattr(convolutions._Tiled, "backward", lambda *a: twice.append(torch.is_grad_enabled()) or real(*a))
    recipe = RECIPES[name]
    setup = replace(recipe.tiny(), steps=2)
    train(setup, EveryKey(recipe, setup), tmp_path, device="cpu")
    assert not any(twice)
    if name == "cyclegan":
        assert twice  # this way of looking sees what there is
        assert "tiled" in names


def test_a_penalty_on_a_critic_of_tiles_is_right() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 96, 3), nn.Softplus(), nn.Conv2d(96, 96, 3), nn.Softplus(), nn.Conv2d(96, 1, 3))
    real, fake = (torch.randn(2, 1, 62, 62, generator=seeded(seed)) for seed in (1, 2))
    found = []
    for context in (contextlib.nullcontext(), TrainingConvolutions()):
        with context:
            critic.zero_grad()
            gradient_penalty(critic, real, fake, seeded(3)).backward()
        found.append([parameter.grad.clone() for parameter in critic.parameters() if parameter.grad is not None])
    for plain, ours in zip(*found, strict=True):
        assert float((ours - plain).norm()) <= 1e-4 * float(plain.norm())


def errors_of_gradients(name: str, extent: int, context: contextlib.AbstractContextManager[object]) -> list[float]:
    """Of each turn of a first step with the paper's networks in float32, against float64."""
    setup = replace(RECIPES[name].canonical(), patch=(extent, extent), batch=1, steps=1)
    torch.manual_seed(1)
    regime = setup.build()
    initialise(regime, setup.initialise, seeded(1))
    found = []
    for dtype, around in ((torch.float64, contextlib.nullcontext()), (torch.float32, context)):
        one = copy.deepcopy(regime).to(dtype)
        batch = {key: value.to(dtype) for key, value in EveryKey(RECIPES[name], setup).batch(0).items()}
        one.step = 0
        torch.manual_seed(2)  # dropout
        draw, turns = seeded(3), []
        with around:
            graph = one.graph(batch, draw)
            for turn in one.turns(0):
                one.zero_grad()
                sum_of(one.loss(turn, graph, batch, draw)).backward(retain_graph=True)
                turns.append(torch.cat([p.grad.double().flatten() for p in one.parameters_of(turn)]))
        found.append(turns)
    return [float((ours - exact).norm() / exact.norm()) for exact, ours in zip(*found, strict=True)]


@pytest.mark.parametrize(
    ("name", "extent", "expected"),
    [("cyclegan", 48, {"tiled", "from_one", "to_one"}), ("pix2pix", 256, {"transposed"})],
)
def test_a_step_of_canonical_networks_is_as_exact_as_pytorchs(name, extent, expected, monkeypatch) -> None:
    """The signs in the generators' losses amplify any rounding; the discriminators see the tiles' own."""
    monkeypatch.setattr(convolutions, "LEAST_TILES", 1)
    names = taken(monkeypatch)
    ours = errors_of_gradients(name, extent, TrainingConvolutions())
    assert set(names) == expected
    names.clear()
    theirs = errors_of_gradients(name, extent, contextlib.nullcontext())
    assert names == []
    for mine, its in zip(ours, theirs, strict=True):
        assert mine < 10 * its
        assert mine < 0.02


def test_a_resumed_run_that_takes_these_ways_ends_in_the_same_bits(tmp_path, monkeypatch) -> None:
    names = for_all_sizes(monkeypatch)
    recipe = RECIPES["cyclegan"]
    setup = replace(recipe.tiny(), steps=4)
    feed = EveryKey(recipe, setup)
    train(setup, feed, tmp_path / "whole", seed=1, device="cpu", save_every=2)
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    checkpoint.path_of(tmp_path / "stopped", 4).unlink()
    train(setup, feed, tmp_path / "stopped", seed=1, device="cpu", resume=True)
    assert "tiled" in names
    whole, resumed = (checkpoint.load(tmp_path / run, 4) for run in ("whole", "stopped"))
    assert same(whole, resumed) is None
