"""Metrics against independent computations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from SynthGANLib.errors import InputError
from SynthGANLib.evaluation.metrics import ct_regions, evaluate, region_errors
from SynthGANLib.volume import Volume


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    real = rng.uniform(-1024, 2500, (6, 7, 8)).astype(np.float32)
    fake = real + rng.normal(0, 60, real.shape).astype(np.float32)
    mask = rng.random(real.shape) > 0.4
    return Volume(fake, np.eye(4), "HU"), Volume(real, np.eye(4), "HU"), mask


def test_values_equal_a_plain_loop(pair):
    fake, real, mask = pair
    errors, squares = [], []
    for index in zip(*np.nonzero(mask), strict=True):
        f, r = float(fake.array[index]), float(real.array[index])
        errors.append(f - r)
        squares.append((min(max(f, -1024), 3071) - min(max(r, -1024), 3071)) ** 2)
    found = evaluate(fake, real, mask)
    assert found["MAE"].value == pytest.approx(sum(map(abs, errors)) / len(errors), rel=1e-6)
    assert found["ME"].value == pytest.approx(sum(errors) / len(errors), rel=1e-5, abs=1e-5)
    assert found["PSNR"].value == pytest.approx(10 * np.log10(4095**2 / np.mean(squares)), rel=1e-6)
    assert found["MAE"].voxels == mask.sum()
    assert found["MAE"].data_range == (-1024, 3071)


def test_a_constant_offset_is_its_own_error(pair):
    _, real, mask = pair
    shifted = real.with_array(real.array + 25)
    found = evaluate(shifted, real, mask)
    assert found["MAE"].value == pytest.approx(25, abs=1e-3)
    assert found["ME"].value == pytest.approx(25, abs=1e-3)
    assert evaluate(real, real, mask)["PSNR"].value == float("inf")


def test_mae_is_not_clipped_but_psnr_is(pair):
    _, real, mask = pair
    beyond = real.with_array(np.full(real.shape, 4000, np.float32))
    top = real.with_array(np.full(real.shape, 3071, np.float32))
    assert evaluate(beyond, real, mask)["MAE"].value > evaluate(top, real, mask)["MAE"].value
    assert evaluate(beyond, real, mask)["PSNR"].value == evaluate(top, real, mask)["PSNR"].value


def test_voxels_outside_the_mask_do_not_count(pair):
    fake, real, mask = pair
    spoiled = fake.with_array(np.where(mask, fake.array, 9999))
    assert evaluate(spoiled, real, mask)["MAE"].value == evaluate(fake, real, mask)["MAE"].value


def test_regions_divide_the_mask(pair):
    fake, real, mask = pair
    regions = ct_regions(real, mask)
    assert sum(int(r.sum()) for r in regions.values()) == mask.sum()
    errors = region_errors(fake, real, regions)
    whole = sum(e["MAE"].value * e["MAE"].voxels for e in errors.values()) / mask.sum()
    assert whole == pytest.approx(evaluate(fake, real, mask)["MAE"].value, rel=1e-6)
    assert errors["bone"]["MAE"].region == "bone"


def test_protocols_differ_in_their_range(pair):
    fake, real, mask = pair
    assert "synthrad2023" in str(evaluate(fake, real, mask, "synthrad2023")["MAE"])
    assert evaluate(fake, real, mask, "synthrad2023")["PSNR"].value != evaluate(fake, real, mask)["PSNR"].value


def test_what_cannot_be_compared_is_refused(pair):
    fake, real, mask = pair
    moved = Volume(real.array, np.diag([2.0, 1, 1, 1]), "HU")
    with pytest.raises(InputError, match="grids"):
        evaluate(fake, moved, mask)
    with pytest.raises(InputError, match="empty"):
        evaluate(fake, real, np.zeros_like(mask))
    with pytest.raises(InputError, match="voxels"):
        evaluate(fake, real, mask[:-1])
    with pytest.raises(InputError, match="psnr9"):
        evaluate(fake, real, mask, "psnr9")
