"""Two-dimensional models: stacks, neighbours as channels, three planes fused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_cases import Function, noise, spatial

from SynthGANLib.image.grid import PLANES, stack_axes
from SynthGANLib.inference.predictor import Predictor
from SynthGANLib.inference.progress import Reporter
from SynthGANLib.inference.slices import as_slice_batch, as_stack, fuse_mean, fuse_median
from SynthGANLib.inference.tiles import Task

CPU = torch.device("cpu")
AXES = {"axial": 0, "coronal": 1, "sagittal": 2}


def predict(
    network: Function, source: np.ndarray, *, mask: np.ndarray | None = None, **changes: object
) -> tuple[np.ndarray, int]:
    """The result (channels, z, y, x) and the number of tiles computed."""
    channels = source.shape[3] if source.ndim == 4 else 1
    task = Task(source, lambda crop: crop.astype(np.float32), mask, -9.0, channels)
    spec = spatial(2, **changes)
    predictor = Predictor(network, spec, channels=(channels, channels), device=CPU, reporter=Reporter())
    with predictor:
        return predictor.predict(task), predictor.tiles


def test_stack_is_a_view_with_the_plane_in_front() -> None:
    array = noise((3, 4, 5))
    for axis, shape in enumerate([(3, 4, 5), (4, 3, 5), (5, 3, 4)]):
        stack = as_stack(array, axis)
        assert stack.shape == shape
        assert np.shares_memory(stack, array)
        np.testing.assert_array_equal(stack[1], np.take(array, 1, axis=axis))


def test_planes_follow_the_orientation() -> None:
    for orientation, axes in {"LPS": (0, 1, 2), "RAI": (0, 1, 2), "SPL": (2, 1, 0), "PSL": (1, 2, 0)}.items():
        assert stack_axes("all", orientation) == axes
        assert [stack_axes(plane, orientation) for plane in PLANES] == [(axis,) for axis in axes]


def test_fusions_are_numpys() -> None:
    arrays = [noise((2, 5, 6, 7), seed) for seed in range(3)]
    stacked = np.stack(arrays)
    np.testing.assert_array_equal(fuse_median([a.copy() for a in arrays]), np.median(stacked, axis=0))
    np.testing.assert_allclose(fuse_mean([a.copy() for a in arrays]), stacked.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("plane", AXES)
def test_each_slice_is_predicted_on_its_own(plane: str) -> None:
    """The network subtracts the mean of what it sees, which only a whole slice of the right plane gives."""
    source = noise((12, 12, 12), 2)
    network = Function(lambda x: x - x.mean(dim=(-2, -1), keepdim=True))
    result, _ = predict(network, source, axis=plane, tile_min=(1, 12, 12), tile_max=(1, 12, 12), multiple=12)
    others = tuple(axis for axis in range(3) if axis != AXES[plane])
    np.testing.assert_allclose(result[0], source - source.mean(axis=others, keepdims=True), atol=1e-6)
    assert all(len(shape) == 4 for shape in network.shapes)
    assert len(network.shapes) == 2  # 12 slices in batches of 8


@pytest.mark.parametrize("fuse", ["median", "mean"])
def test_three_planes_are_fused(fuse: str) -> None:
    source = noise((12, 12, 12), 4)
    network = Function(lambda x: x - x.mean(dim=(-2, -1), keepdim=True))
    whole = {"tile_min": (1, 12, 12), "tile_max": (1, 12, 12), "multiple": 12}
    result, _ = predict(network, source, axis="all", fuse=fuse, **whole)
    planes = [source - source.mean(axis=axes, keepdims=True) for axes in ((1, 2), (0, 2), (0, 1))]
    wanted = np.median(planes, axis=0) if fuse == "median" else np.mean(planes, axis=0)
    np.testing.assert_allclose(result[0], wanted, atol=1e-6)


@pytest.mark.parametrize("plane", AXES)
@pytest.mark.parametrize("neighbours", [1, 2])
def test_neighbours_are_channels_and_the_edge_slice_is_repeated(plane: str, neighbours: int) -> None:
    source = noise((9, 10, 11, 2), 6)
    thickness = 2 * neighbours + 1
    padding = [(0, 0)] * 4
    padding[AXES[plane]] = (neighbours, neighbours)
    padded = np.pad(source, padding, mode="edge")
    for offset in range(thickness):
        network = Function(lambda x, k=offset: x[:, [k, thickness + k]])
        result, _ = predict(network, source, axis=plane, neighbours=neighbours)
        wanted = np.take(padded, np.arange(source.shape[AXES[plane]]) + offset, axis=AXES[plane])
        np.testing.assert_allclose(np.moveaxis(result, 0, -1), wanted, rtol=3e-7)


def test_slices_without_body_are_not_computed() -> None:
    source = noise((40, 12, 12))
    mask = np.zeros(source.shape, dtype=bool)
    mask[5, 3, 3] = mask[30:33, 4, 4] = True
    network = Function(torch.clone)
    result, tiles = predict(network, source, mask=mask)
    assert sum(shape[0] for shape in network.shapes) == tiles == 4
    np.testing.assert_allclose(result[0][mask], source[mask], rtol=3e-7)
    np.testing.assert_allclose(result[0, 6:30], -9.0, atol=1e-5)


def test_large_slices_are_tiled_and_small_ones_padded() -> None:
    for shape in ((3, 50, 37), (2, 5, 3), (1, 1, 1)):
        source = noise(shape)
        network = Function(torch.clone)
        np.testing.assert_allclose(predict(network, source)[0][0], source, rtol=3e-7)
        assert {size % 4 for shape in network.shapes for size in shape[2:]} == {0}
        assert {size for shape in network.shapes for size in shape[2:]} <= {8, 12, 16}


def test_batch_adapter_orders_slices_within_a_channel() -> None:
    tiles = torch.arange(2 * 3 * 5 * 4 * 4.0).reshape(2, 3, 5, 4, 4)
    seen = []
    output = as_slice_batch(lambda x: (seen.append(x), x[:, :1])[1])(tiles)
    assert output.shape == (2, 1, 1, 4, 4)
    torch.testing.assert_close(seen[0][:, 1 * 5 + 2], tiles[:, 1, 2])
