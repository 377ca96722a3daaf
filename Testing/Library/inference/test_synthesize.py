"""The whole way: any grid in, the same grid out, in the target's unit; refusals, masks, progress, cancel."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from inference_cases import card, model, noise, spatial

from SynthGANLib.classical import registry
from SynthGANLib.errors import (
    CancelledError,
    InputError,
    MemoryExhaustedError,
    ModelError,
    SynthGANError,
    UnfitInputError,
)
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize, widened
from SynthGANLib.inference.progress import Progress
from SynthGANLib.model.card import MethodSpec, SourceSpec, TargetSpec
from SynthGANLib.model.model import Model

OBLIQUE = np.array([[-1.2, 0.1, 0.05, 30.0], [0.1, -1.25, 0.0, -20.0], [-0.05, 0.02, 2.0, 7.5], [0.0, 0.0, 0.0, 1.0]])
"""Right and anterior first (RAS-like) and turned by a few degrees."""
OBLIQUE[:3, :3] = np.linalg.qr(OBLIQUE[:3, :3])[0] @ np.diag([1.2, 1.25, 2.0])

AFFINES = {
    "LPS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "RAS": np.diag([-0.7, -0.8, 3.0, 1.0]),
    "oblique": OBLIQUE,
    "sagittal": np.array([[0, 0, 1.5, 3], [-0.9, 0, 0, 4], [0, -0.9, 0, 5], [0, 0, 0, 1.0]]),
}


def hu(shape: tuple[int, ...] = (14, 20, 17), seed: int = 0, affine: str = "LPS") -> Volume:
    return Volume(noise(shape, seed, -1000, 2000), AFFINES[affine], "HU", {"modality": "CT"})


def ball(size: int = 40, radius: float = 14.0) -> Volume:
    """A smooth bright ball in dark noise: an image with a body."""
    z, y, x = np.indices((size,) * 3) - (size - 1) / 2
    distance = np.sqrt(z**2 + y**2 + x**2)
    inside = np.clip(radius + 0.5 - distance, 0, 1) * (500 + 20 * np.sin(x))
    return Volume((inside + noise((size,) * 3, 1, 0, 5)).astype(np.float32), np.eye(4), "1")


MR = SourceSpec("MR", "1", ("T1",))
ZSCORE = {"kind": "zscore"}


def mr_model(function: Callable[[torch.Tensor], torch.Tensor] = torch.clone, **changes: Any) -> Model:
    normalisers = {"source": ZSCORE, "target": {"kind": "window", "low": -1024.0, "high": 3071.0}}
    return model(function, source=MR, normalisers=normalisers, mask="body", **changes)


@pytest.mark.parametrize("affine", list(AFFINES))
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_identity_comes_back_on_exactly_the_input_grid(affine: str, dtype: type) -> None:
    source = hu(affine=affine)
    source = source.with_array(source.array.astype(dtype))
    before = source.array.copy()
    result = synthesize(source, model())
    np.testing.assert_array_equal(result.affine, source.affine)
    assert result.shape == source.shape
    assert result.array.dtype == np.float32
    assert result.array.flags["C_CONTIGUOUS"]
    assert (result.unit, result.meta["modality"]) == ("HU", "CT")
    np.testing.assert_allclose(result.array, source.array, atol=0.01)
    np.testing.assert_array_equal(source.array, before)
    assert not np.shares_memory(result.array, source.array)


def test_resampled_model_grid_keeps_positions() -> None:
    """A linear field is kept by interpolation, so what comes back must be the field at every inner voxel."""
    shape = (24, 30, 27)
    z, y, x = np.indices(shape)
    field = (3.0 * x - 2.0 * y + 5.0 * z).astype(np.float32)
    source = Volume(field, AFFINES["RAS"], "HU")
    result = synthesize(source, model(spatial=spatial(spacing=(1.1, 1.0, 1.5))))
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(result.array[inner], field[inner], atol=0.05)
    np.testing.assert_array_equal(result.affine, source.affine)


def test_two_and_a_half_dimensional_models_agree_with_the_volume() -> None:
    source = hu((12, 16, 20), affine="oblique")
    for axis in ("axial", "coronal", "sagittal", "all"):
        spec = spatial(2, axis=axis, neighbours=1)
        result = synthesize(source, model(lambda x: x[:, 1:2].clone(), spatial=spec))
        np.testing.assert_allclose(result.array, source.array, atol=0.01)


def test_labels_stay_whole_numbers_on_any_grid() -> None:
    labels = Volume(np.random.default_rng(5).integers(0, 4, (12, 14, 16)).astype(np.uint8), AFFINES["oblique"], "label")
    kept = {"kind": "labels"}
    same = model(
        source=SourceSpec("SEG", "label"),
        target=TargetSpec("SEG", "label", 0.0, (0.0, 255.0)),
        normalisers={"source": kept, "target": kept},
        spatial=spatial(spacing=(0.7, 0.7, 0.7)),
    )
    result = synthesize(labels, same)
    np.testing.assert_array_equal(result.array, labels.array)


def test_colour_pictures_go_through_two_dimensional_models() -> None:
    rng = np.random.default_rng(3)
    picture = Volume(rng.integers(0, 256, (1, 33, 45, 3)).astype(np.uint8), np.eye(4), "RGB")
    colours = model(
        lambda x: x.flip(1),
        source=SourceSpec("XC", "RGB", channels=3),
        target=TargetSpec("FA", "RGB", 0.0, (0.0, 255.0), channels=3),
        normalisers={"source": {"kind": "rgb"}, "target": {"kind": "rgb"}},
        spatial=spatial(2),
    )
    result = synthesize(picture, colours)
    assert result.array.shape == picture.array.shape
    assert result.unit == "RGB"
    np.testing.assert_allclose(result.array, picture.array[..., ::-1], atol=0.01)


def test_outside_the_body_is_background_and_the_skin_is_kept() -> None:
    source = ball()
    result = synthesize(source, mr_model(lambda x: 0 * x + 0.5))
    value = -1024 + 1.5 / 2 * 4095
    z, y, x = np.indices(source.shape) - 19.5
    distance = np.sqrt(z**2 + y**2 + x**2)
    np.testing.assert_allclose(result.array[distance < 15], value, atol=0.01)
    np.testing.assert_array_equal(result.array[distance > 24], -1024.0)


def test_values_are_held_within_the_cards_range() -> None:
    target = TargetSpec("CT", "HU", -1000.0, (-1000.0, 1500.0))
    result = synthesize(hu(), model(target=target))
    np.testing.assert_allclose(result.array, np.clip(hu().array, -1000, 1500), atol=0.01)
    assert result.array.min() >= -1000.0
    assert result.array.max() == 1500.0


def test_given_mask_decides_on_any_grid_and_is_not_changed() -> None:
    source = hu((16, 18, 20))
    inside = np.zeros(source.shape, dtype=np.uint8)
    inside[4:9, 5:12, 6:15] = 3
    wanted = np.where(inside > 0, source.array, -1024.0)
    half_turn = np.array([[-1.0, 0, 0, 19], [0, -1, 0, 17], [0, 0, 1, 0], [0, 0, 0, 1]])
    turned = Volume(np.ascontiguousarray(inside[:, ::-1, ::-1]), half_turn, "label")
    same = Volume(inside, source.affine, "label")
    for mask in (inside, inside > 0, inside.astype(np.float32), same, turned):
        array = mask.array if isinstance(mask, Volume) else mask
        before = array.copy()
        result = synthesize(source, model(), mask=mask)
        np.testing.assert_allclose(result.array, wanted, atol=0.01)
        np.testing.assert_array_equal(array, before)


def test_mask_skips_tiles() -> None:
    source = hu((48, 16, 16))
    inside = np.zeros(source.shape, dtype=bool)
    inside[:4] = inside[-4:] = True
    result = synthesize(source, model(), mask=inside)
    assert result.meta["tiles"] < 4
    np.testing.assert_allclose(result.array[:4], source.array[:4], atol=0.01)


def constant(volume: Volume) -> Volume:
    return volume.with_array(np.full(volume.shape, 7.0, np.float32))


def with_values(volume: Volume, value: float, count: int) -> Volume:
    array = volume.array.copy()
    array.reshape(-1)[:count] = value
    return volume.with_array(array)


REFUSALS: Mapping[str, tuple[Callable[[], Any], type[SynthGANError], str]] = {
    "constant": (lambda: synthesize(constant(hu()), model()), UnfitInputError, "is 7"),
    "mostly NaN": (lambda: synthesize(with_values(hu(), np.nan, 2000), model()), InputError, "NaN"),
    "empty": (
        lambda: synthesize(Volume(np.zeros((0, 4, 4), np.float32), np.eye(4), "HU"), model()),
        InputError,
        "no voxels",
    ),
    "colours": (
        lambda: synthesize(Volume(noise((4, 5, 6, 3)), np.eye(4), "1"), model()),
        UnfitInputError,
        "3 channels.*takes 1",
    ),
    "modality": (lambda: synthesize(hu(), mr_model()), UnfitInputError, "is CT.*takes MR"),
    "unit": (
        lambda: synthesize(Volume(noise((4, 5, 6)), np.eye(4), "BQML"), model()),
        UnfitInputError,
        "in BQML.*takes HU",
    ),
    "no body": (
        lambda: synthesize(ball(), mr_model(), mask=np.zeros((40, 40, 40))),
        UnfitInputError,
        "marks no voxel",
    ),
    "mask shape": (lambda: synthesize(hu(), model(), mask=np.ones((3, 3, 3))), InputError, r"\(3, 3, 3\)"),
    "mask channels": (
        lambda: synthesize(hu(), model(), mask=Volume(np.ones((14, 20, 17, 3)), np.eye(4))),
        InputError,
        "several channels",
    ),
    "device": (lambda: synthesize(hu(), model(), device="cuda:63"), InputError, "cuda:63"),
    "device name": (lambda: synthesize(hu(), model(), device="gpu"), InputError, "gpu"),
    "memory": (lambda: synthesize(hu(), model(), memory=1000), MemoryExhaustedError, "asked for"),
    "network": (lambda: synthesize(hu(), model(lambda x: x[..., :4])), ModelError, "shape"),
    "no network": (lambda: synthesize(hu(), Model(card(), None)), ModelError, "no network"),
}


@pytest.mark.parametrize("case", list(REFUSALS))
def test_refusals_are_one_sentence_with_a_next_step(case: str) -> None:
    act, kind, words = REFUSALS[case]
    with pytest.raises(kind, match=words) as caught:
        act()
    assert str(caught.value).endswith(".")
    assert ". " not in str(caught.value)
    assert caught.value.next_step


def test_few_broken_voxels_are_repaired_and_told() -> None:
    source = with_values(hu(), np.inf, 3)
    result = synthesize(source, model())
    assert np.isfinite(result.array).all()
    assert any("3 voxels" in text for text in result.meta["warnings"])
    assert np.isinf(source.array.reshape(-1)[:3]).all()


def test_doubtful_input_is_warned_of() -> None:
    told: list[Progress] = []
    meta = {"sequence": "FLAIR", "warnings": ("Known before.",)}
    source = Volume(hu((6, 20, 20)).array, np.eye(4), "1", meta)
    wide = mr_model(spatial=spatial(tile_min=(16, 16, 16), spacing=(0.4, 0.4, 0.4)))
    mask = np.ones(source.shape, dtype=bool)
    result = synthesize(source, wide, mask=mask, progress=told.append)
    warnings = " ".join(result.meta["warnings"])
    for words in ("Known before.", "looks like CT", "sequence is FLAIR", "1.0 mm long"):
        assert words in warnings
    assert [p.message for p in told if p.stage == "warning"] == list(result.meta["warnings"])
    thin = synthesize(source, mr_model(spatial=spatial(tile_min=(16, 16, 16))), mask=mask)
    assert "only 6 voxels" in " ".join(thin.meta["warnings"])


def test_thin_and_tiny_volumes_work() -> None:
    for shape in ((1, 20, 20), (2, 1, 30), (3, 3, 3)):
        source = hu(shape)
        np.testing.assert_allclose(synthesize(source, model()).array, source.array, atol=0.01)


def test_progress_rises_to_the_end_and_the_result_tells_its_making() -> None:
    told: list[Progress] = []
    result = synthesize(hu((30, 30, 30)), model(), progress=told.append)
    fractions = [step.fraction for step in told]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.1
    assert (told[-1].stage, told[-1].fraction, told[-1].seconds_left) == ("done", 1.0, 0.0)
    stages = ["check", "conform", "mask", "predict", "restore", "done"]
    assert list(dict.fromkeys(step.stage for step in told)) == stages
    predict = [step for step in told if step.stage == "predict"]
    assert len(predict) == result.meta["tiles"] + 1
    assert predict[0].seconds_left is None
    assert predict[-1].seconds_left == 0.0
    assert all(step.seconds_left is not None and step.seconds_left >= 0 for step in predict[1:])
    meta = result.meta
    assert (meta["model"], meta["version"], meta["device"]) == ("test-model", "1.0.0", "cpu")
    assert meta["seconds"] > 0
    assert meta["peak_memory"] is None or meta["peak_memory"] > 2**20
    assert f"{meta['tiles']} tiles of" in meta["plan"]


def test_cancel_works_at_every_step() -> None:
    source = hu((20, 16, 16))
    asked = itertools.count()
    synthesize(source, model(), cancel=lambda: next(asked) < 0)
    total = next(asked)
    assert total >= 5 + 2  # every stage and every tile
    for stop in range(total):
        count = itertools.count()
        with pytest.raises(CancelledError) as caught:
            synthesize(source, model(), cancel=lambda: next(count) >= stop)  # noqa: B023
        assert next(count) == stop + 1  # it ended at once
        assert "cancelled" in str(caught.value)


def test_same_input_gives_the_same_bits() -> None:
    source = hu((30, 20, 20))
    blur = torch.nn.Conv3d(1, 1, 3, padding=1)
    runs = [synthesize(source, model(blur)).array for _ in range(2)]
    np.testing.assert_array_equal(*runs)


def test_classical_methods_share_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def double(volume: Volume, mask: np.ndarray, *, progress: Any, cancel: Any, factor: float) -> np.ndarray:
        seen.update(shape=volume.shape, mask=mask, spacing=volume.spacing)
        progress("half way", 0.5)
        if cancel():
            raise CancelledError("cancelled")
        return np.where(mask, volume.array * factor, 0).astype(np.float32)

    monkeypatch.setattr(registry, "METHODS", {"double": double})
    fields = {"method": MethodSpec("classical", "double", {"factor": 2.0}), "normalisers": {}, "vector": None}
    source, told = hu(affine="sagittal"), list[Progress]()
    result = synthesize(source, Model(card(**fields), None), progress=told.append)
    np.testing.assert_allclose(result.array, np.clip(source.array * 2, -1024, 3071), atol=0.01)
    assert seen["mask"].all()
    assert seen["spacing"] == pytest.approx((1.5, 0.9, 0.9))
    assert any(0.4 < step.fraction < 0.6 for step in told)
    inside = np.zeros(source.shape, dtype=bool)
    inside[3:6, 3:6, 3:6] = True
    masked = synthesize(source, Model(card(**fields), None), mask=inside)
    np.testing.assert_array_equal(masked.array[~inside], -1024.0)
    asked = itertools.count()
    with pytest.raises(CancelledError):
        synthesize(source, Model(card(**fields), None), cancel=lambda: next(asked) >= 4)
    monkeypatch.setattr(registry, "METHODS", {"double": lambda *_, **__: np.full((2, 2, 2), np.nan)})
    with pytest.raises(ModelError, match="double"):
        synthesize(source, Model(card(**fields), None))


def test_running_out_of_memory_before_the_network_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise MemoryError

    # The module, which the function of the same name hides.
    monkeypatch.setattr(sys.modules["SynthGANLib.inference.pipeline"], "conform", exhausted)
    with pytest.raises(MemoryExhaustedError, match="14 x 20 x 17 voxels was prepared"):
        synthesize(hu(), model())


def test_widening_is_a_box() -> None:
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[4, 4, 4] = True
    result = widened(mask, (1, 2, 3))
    assert result.sum() == 3 * 5 * 7
    assert result[3:6, 2:7, 1:8].all()
    assert mask.sum() == 1
    assert widened(np.ones((1, 2, 3), dtype=bool), (5, 5, 5)).all()
    edge = np.zeros((4, 4, 4), dtype=bool)
    edge[0, 0, 0] = True
    assert widened(edge, (1, 1, 1)).sum() == 8
