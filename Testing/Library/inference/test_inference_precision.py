"""The precision of a prediction: float16 only where it is allowed, gains and is shown to answer well enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_cases import Function, card, noise, spatial
from torch import Tensor, nn

from SynthGANLib.errors import MemoryExhaustedError, ModelError
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference import precision, predictor
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.inference.plan import FP16, FP32
from SynthGANLib.inference.precision import choose_precision
from SynthGANLib.inference.predictor import Predictor
from SynthGANLib.inference.progress import Progress, Reporter
from SynthGANLib.inference.tiles import Task
from SynthGANLib.model.card import VectorSpec
from SynthGANLib.model.catalogue import Catalogue
from SynthGANLib.model.model import Model

CPU = torch.device("cpu")


def third(x: Tensor) -> Tensor:
    """A third of the image by a product of matrices, which float16 rounds."""
    return (x.movedim(1, -1) @ torch.full((1, 1), 1 / 3)).movedim(-1, 1)


def overflowing(x: Tensor) -> Tensor:
    """The image, by way of numbers that float16 does not have."""
    return ((x.movedim(1, -1) @ torch.full((1, 1), 2.0**10)) @ torch.full((1, 1), 2.0**10)).movedim(-1, 1) / 2.0**20


def model(function=third, tolerance: float | None = 1e-3) -> Model:
    given = torch.linspace(-1.0, 1.0, 512).reshape(1, 1, 8, 8, 8)
    return Model(card(vector=VectorSpec(1e-5, tolerance)), Function(function).eval(), vector=(given, function(given)))


def chosen(of: Model, device: torch.device = CPU) -> tuple[str, list[str]]:
    told: list[Progress] = []
    found = choose_precision(of, device, Reporter(told.append))
    return found, [progress.message for progress in told]


@pytest.fixture
def fast_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU counts as a device that gains by float16, and computes in it for real."""
    monkeypatch.setattr(precision, "DEVICES", ("cpu",))


def test_a_cpu_computes_in_float32_whatever_the_card_allows() -> None:
    assert chosen(model()) == (FP32, [])


@pytest.mark.usefixtures("fast_half")
def test_float16_needs_the_cards_leave_and_a_good_answer() -> None:
    assert chosen(model()) == (FP16, [])
    assert chosen(model(tolerance=None)) == (FP32, [])
    found, remarks = chosen(model(tolerance=1e-7))
    assert found == FP32
    assert "computed in float32" in remarks[0]
    assert "1e-07 is allowed" in remarks[0]


@pytest.mark.usefixtures("fast_half")
def test_numbers_that_float16_lacks_are_found_before_the_run() -> None:
    found, remarks = chosen(model(overflowing))
    assert found == FP32
    assert len(remarks) == 1


@pytest.mark.usefixtures("fast_half")
def test_no_memory_for_the_check_is_left_to_the_planner() -> None:
    def greedy(x: Tensor) -> Tensor:
        raise MemoryError

    of = model()
    assert of.network is not None
    of.network.function = greedy
    assert chosen(of) == (FP32, [])


@pytest.mark.usefixtures("fast_half")
def test_a_run_in_float16_says_so_and_moves_values_by_its_rounding() -> None:
    source = Volume((noise((12, 14, 18)) * 1000).astype(np.float32), np.eye(4), "HU", {"modality": "CT"})
    half, again = (synthesize(source, model(), device="cpu") for _ in range(2))
    full = synthesize(source, model(tolerance=None), device="cpu")
    assert "in fp16 on cpu" in half.meta["plan"]
    assert "in fp32 on cpu" in full.meta["plan"]
    np.testing.assert_array_equal(half.array, again.array)
    assert half.array.dtype == np.float32
    difference = np.abs(half.array - full.array).max()
    assert 0.0 < difference < 4095 * 2.0**-10  # of the window's width, at most two units in the last place


def test_the_cpu_that_takes_over_goes_on_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("meta")
    real = predictor.tile_budget

    def budget(device: torch.device, **options: object) -> int:
        if device == gpu:
            raise MemoryExhaustedError("No room.", next_step="")
        return real(device, **options)

    monkeypatch.setattr(predictor, "tile_budget", budget)
    task = Task(noise((8, 8, 8)), lambda crop: crop.astype(np.float32), None, 0.0, 1)
    with Predictor(Function(third), spatial(), channels=(1, 1), device=gpu, reporter=Reporter(), precision=FP16) as run:
        run.predict(task)
        assert [plan.precision for plan in run.plans] == [FP32]


def test_the_bundled_network_passes_with_every_convolution_in_float16() -> None:
    """Operands, weights and results of all convolutions rounded: what the check would find on a GPU, or nearly so."""
    bundled = Model.load(Catalogue().find("head-mr-ct"))
    assert bundled.network is not None
    assert bundled.vector is not None
    assert bundled.card.vector is not None
    for layer in bundled.network.modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.half().float()
            layer.register_forward_pre_hook(lambda _, given: given[0].half().float())
            layer.register_forward_hook(lambda _, given, result: result.half().float())
    given, expected = bundled.vector
    with torch.inference_mode():
        difference = float((bundled.network(given) - expected).abs().max())
    assert bundled.card.vector.tolerance_float16 is not None
    assert 0.0 < difference < bundled.card.vector.tolerance_float16


@pytest.mark.parametrize("tolerance", [-1.0, 2.0, True, "0.1"])
def test_a_tolerance_that_is_none_is_refused_by_its_name(tolerance: object) -> None:
    with pytest.raises(ModelError, match=r"vector\.tolerance_float16"):
        VectorSpec(1e-3, tolerance)
