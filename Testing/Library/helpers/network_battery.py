"""What every network has to pass, one function a property: a new network adds a `Case`, not tests.

A test module lists its cases and calls the checks in parametrised tests:

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_saved_weights(case, tmp_path):
        check_saved_bits(case, tmp_path)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from model_folders import network_card
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from SynthGANLib.model.card import MethodSpec, SourceSpec, SpatialSpec, TargetSpec
from SynthGANLib.model.model import Model
from SynthGANLib.networks import registry

_LAYERS_WITH_IDLE_BIAS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Case:
    """A small network and what it takes.

    Attributes:
        name, arguments: as in a model card.
        inputs, outputs: channels.
        dims: of space.
        extent: of a usual input along every axis.
        low, high: range of the output.
        coupled: in training, samples of a batch depend on each other (batch norm).
        needs: a package without which the case is skipped.
        make: (batch, draw) -> the arguments of `forward`, where these are not one image.
    """

    name: str
    arguments: dict[str, Any]
    inputs: int = 1
    outputs: int = 1
    dims: int = 2
    extent: int = 16
    low: float = -float("inf")
    high: float = float("inf")
    coupled: bool = False
    needs: str = ""
    make: Callable[[int, torch.Generator], tuple[Any, ...]] | None = field(default=None, compare=False)

    def build(self, seed: int = 0) -> nn.Module:
        """The network with weights drawn from `seed`; the global dice stay."""
        if self.needs:
            pytest.importorskip(self.needs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return registry.build(self.name, self.arguments)

    def batch(self, count: int = 1, extents: Sequence[int] | None = None, seed: int = 1) -> tuple[Any, ...]:
        """Arguments of `forward`: an image (count, inputs, *extents), or what `make` makes."""
        rng = torch.Generator().manual_seed(seed)
        if self.make is not None:
            return self.make(count, rng)
        return (torch.randn(count, self.inputs, *(extents or [self.extent] * self.dims), generator=rng),)


def tensors(output: Any) -> list[Tensor]:
    """All tensors of an output that may be nested in lists and tuples."""
    if isinstance(output, Tensor):
        return [output]
    return [tensor for part in output for tensor in tensors(part)]


def count(name: str, arguments: dict[str, Any]) -> int:
    """Parameters of a network, built on the meta device: canonical sizes take no memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in registry.build(name, arguments).parameters())


def captured(part: nn.Module) -> list[Tensor]:
    """A list that is filled with what `part` is called with."""
    seen: list[Tensor] = []
    part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    return seen


def on_meta(build: Callable[[], nn.Module], *shape: int) -> tuple[Any, Tensor]:
    """A network and an image on the meta device: shapes of canonical sizes without computing them."""
    with torch.device("meta"):
        return build().eval(), torch.empty(shape)


def receptive_field(function: Callable[[Tensor], Tensor], channels: int, extents: Sequence[int]) -> tuple[int, ...]:
    """Voxels along every axis between the first and the last one the middle output voxel depends on, by gradient."""
    x = torch.randn(1, channels, *extents, requires_grad=True, generator=torch.Generator().manual_seed(0))
    y = function(x)
    y[(0, 0, *(extent // 2 for extent in y.shape[2:]))].backward()
    assert x.grad is not None
    touched = x.grad.abs().sum((0, 1)).nonzero()  # (voxels, dims)
    return tuple((touched.amax(0) - touched.amin(0) + 1).tolist())


def check_forward(case: Case) -> None:
    """Shape, range and finiteness of the output at the usual size, in training and in evaluation."""
    network = case.build()
    for mode in (True, False):
        with torch.no_grad():
            output = network.train(mode)(*case.batch(2))
        for tensor in tensors(output):
            assert bool(torch.isfinite(tensor).all())
            assert float(tensor.min()) >= case.low
            assert float(tensor.max()) <= case.high
        if case.make is None:
            assert output.shape == (2, case.outputs, *[case.extent] * case.dims)


def check_every_parameter_learns(case: Case) -> None:
    """A random loss reaches all parameters; a bias before a norm, which removes it, may get zero."""
    network = case.build().train()
    rng = torch.Generator().manual_seed(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout
        outputs = tensors(network(*case.batch(2)))
    sum((tensor * torch.randn(tensor.shape, generator=rng)).sum() for tensor in outputs).backward()  # type: ignore[union-attr]
    idle = {f"{name}.bias" for name, part in network.named_modules() if isinstance(part, _LAYERS_WITH_IDLE_BIAS)}
    missed = [name for name, p in network.named_parameters() if p.grad is None]
    zero = [
        name
        for name, p in network.named_parameters()
        if p.grad is not None and name not in idle and not float(p.grad.abs().sum()) > 0
    ]
    assert (missed, zero) == ([], [])


def check_any_extent(case: Case) -> None:
    """Extents of one, odd, thin and unequal come back as they went in, finite, with a gradient for the input."""
    network = case.build().eval()
    for extents in ([1, 1, 1], [1, 2, 1], [5, 3, 7], [1, 9, 4], [17, 6, 3]):
        x = case.batch(1, extents[-case.dims :])[0].requires_grad_(True)
        y = network(x)
        assert y.shape == (1, case.outputs, *extents[-case.dims :]), extents
        assert bool(torch.isfinite(y).all()), extents
        y.square().sum().backward()
        assert x.grad is not None
        assert bool(torch.isfinite(x.grad).all()), extents


def check_batch_independence(case: Case) -> None:
    """A sample's output does not depend on its neighbours in the batch: in evaluation, and uncoupled in training."""
    network = case.build()
    for dropout in (part for part in network.modules() if isinstance(part, nn.Dropout)):
        dropout.p = 0.0
    both = case.batch(2)
    for mode in (False,) if case.coupled else (False, True):
        network.train(mode)
        with torch.no_grad():
            together = tensors(network(*both))
            for index in range(2):
                alone = tensors(network(*(part[index : index + 1] for part in both)))
                for whole, part in zip(together, alone, strict=True):
                    torch.testing.assert_close(whole[index : index + 1], part, rtol=1e-4, atol=1e-5)


def check_saved_bits(case: Case, folder: Path) -> None:
    """The state through a safetensors file into a network with other weights: the same names, the same bits."""
    network = case.build(0).train()
    network(*case.batch(2))  # batch norm's averages are no longer the initial ones
    network.eval()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "w.safetensors")
    twin = case.build(1).eval()
    with torch.no_grad():
        before = tensors(twin(*case.batch()))
        twin.load_state_dict(load_file(folder / "w.safetensors"), strict=True)
        expected, found = tensors(network(*case.batch())), tensors(twin(*case.batch()))
    assert not all(torch.equal(a, b) for a, b in zip(before, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def check_state(case: Case) -> None:
    """Every weight has one name, and a network built on the meta device has the same names and shapes."""
    real = case.build()
    with torch.device("meta"):
        trial = registry.build(case.name, case.arguments)
    assert {n: v.shape for n, v in trial.state_dict().items()} == {n: v.shape for n, v in real.state_dict().items()}
    assert all(value.is_meta for value in trial.state_dict().values())
    pointers = [value.data_ptr() for value in real.state_dict().values() if value.numel()]
    assert len(set(pointers)) == len(pointers)


def check_model_folder(case: Case, folder: Path) -> None:
    """Through a card and a model folder and back: built by name without code, the same answer to the test vector."""
    extents = (1,) * (3 - case.dims) + (case.extent,) * case.dims
    card = network_card(
        source=SourceSpec("MR", "1", channels=case.inputs),
        target=TargetSpec("CT", "HU", -1024, (-1024, 2000), channels=case.outputs),
        method=MethodSpec("network", case.name, case.arguments),
        spatial=SpatialSpec(case.dims, extents, extents, axis="axial" if case.dims == 2 else None),
    )
    model = Model.build(card, case.build(), case.batch(1)[0])
    model.save(folder / "model")
    loaded = Model.load(folder / "model")
    assert loaded.vector is not None
    assert model.vector is not None
    assert torch.equal(loaded.vector[1], model.vector[1])
    assert type(loaded.network) is type(model.network)


class Battery:
    """What every network must pass; a test class inherits the tests and names its cases.

    `CASES`: by name. `WITHOUT`: name of a test -> names of cases that it does not apply to.
    """

    CASES: ClassVar[Mapping[str, Case]] = {}
    WITHOUT: ClassVar[Mapping[str, frozenset[str]]] = {}

    def test_output_has_its_shape_and_range(self, case: Case) -> None:
        check_forward(case)

    def test_every_parameter_learns(self, case: Case) -> None:
        check_every_parameter_learns(case)

    def test_samples_of_a_batch_are_independent(self, case: Case) -> None:
        check_batch_independence(case)

    def test_saved_weights_give_the_same_bits(self, case: Case, tmp_path: Path) -> None:
        check_saved_bits(case, tmp_path)

    def test_state_is_the_same_on_the_meta_device(self, case: Case) -> None:
        check_state(case)


class ImageBattery(Battery):
    """What a network must pass besides that a user runs on images."""

    def test_any_extent(self, case: Case) -> None:
        check_any_extent(case)

    def test_model_folder_gives_the_network_back(self, case: Case, tmp_path: Path) -> None:
        check_model_folder(case, tmp_path)
