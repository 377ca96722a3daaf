"""Metrics against independent computations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from SynthGANLib.errors import InputError
from SynthGANLib.evaluation import similarity
from SynthGANLib.evaluation.metrics import MEASURES, PROTOCOLS, ct_regions, evaluate, region_errors
from SynthGANLib.image.volume import Volume


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


@pytest.fixture
def scan():
    """A CT-like pair with air around a body, as numbers and as volumes."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(1)
    shape = (14, 20, 18)
    z, y, x = np.indices(shape)
    mask = ((z - 7) / 7) ** 2 + ((y - 10) / 8) ** 2 + ((x - 9) / 7) ** 2 < 1
    real = np.where(mask, 4000 * gaussian_filter(rng.normal(size=shape), 1.5), -1000).astype(np.float32)
    fake = (real + rng.normal(0, 80, shape)).astype(np.float32)
    fake[7, 10, 9], real[7, 10, 8] = 5000, -3000  # beyond the range
    return Volume(fake, np.eye(4), "HU"), Volume(real, np.eye(4), "HU"), mask


def plain_ssim(a, b, mask, width):
    """SSIM of each window of 7 in the mask, one after the other."""
    c1, c2, found = (0.01 * width) ** 2, (0.03 * width) ** 2, []
    for z, y, x in zip(*np.nonzero(mask), strict=True):
        if all(3 <= i < n - 3 for i, n in zip((z, y, x), mask.shape, strict=True)):
            box = np.s_[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4]
            p, q = a[box].ravel(), b[box].ravel()
            (pp, pq), (_, qq) = np.cov(p, q)
            p, q = p.mean(), q.mean()
            found.append((2 * p * q + c1) * (2 * pq + c2) / ((p * p + q * q + c1) * (pp + qq + c2)))
    return np.mean(found)


def test_ssim_is_that_of_the_challenge_of_2023(scan):
    fake, real, mask = scan
    a, b = (np.where(mask, np.clip(v.array.astype(float), -1024, 3000), -1024) + 1024 for v in (fake, real))
    found = evaluate(fake, real, mask, "synthrad2023", ["SSIM"])["SSIM"]
    assert found.value == pytest.approx(plain_ssim(a, b, mask, 4024), abs=1e-6)
    assert (found.data_range, found.offset, found.outside, found.window) == ((-1024, 3000), 1024, -1024, (7, 7, 7))
    assert abs(found.value - plain_ssim(a - 1024, b - 1024, mask, 4024)) > 1e-3  # the offset matters


def test_psnr_equals_scikit_image(scan):
    from skimage.metrics import peak_signal_noise_ratio

    fake, real, mask = scan
    for protocol, high in (("synthrad2023", 3000), ("synthrad2025", 3071)):
        a, b = (np.clip(v.array[mask].astype(float), -1024, high) for v in (fake, real))
        expected = peak_signal_noise_ratio(b, a, data_range=high + 1024)
        assert evaluate(fake, real, mask, protocol)["PSNR"].value == pytest.approx(expected, abs=1e-9)


def test_multi_scale_similarity_depends_on_the_protocol(scan):
    fake, real, mask = scan
    ct = evaluate(fake, real, mask, "synthrad2025", ["MS-SSIM"])["MS-SSIM"]
    a, b = (np.where(mask, np.clip(v.array.astype(float), -1024, 3071), -1024) + 1024 for v in (fake, real))
    assert ct.value == pytest.approx(similarity.ms_ssim_synthrad2025(a, b, 4095, mask), abs=1e-6)
    assert "edges repeated to 97 voxels" in str(ct)
    mr = evaluate(fake, real, mask, "mr", ["MS-SSIM"], (-1024, 3071))["MS-SSIM"]
    assert mr.value == pytest.approx(similarity.ms_ssim(a, b, 4095, mask), abs=1e-6)
    assert mr.value != pytest.approx(ct.value, abs=1e-4)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_identical_image_is_perfect_by_every_protocol(scan, protocol):
    _, real, mask = scan
    names = [name for name in MEASURES if name != "NMSE" or PROTOCOLS[protocol].unit != "HU"]
    found = {name: metric.value for name, metric in evaluate(real, real, mask, protocol, names).items()}
    assert list(found) == names
    best = {"MAE": 0, "ME": 0, "PSNR": np.inf, "SSIM": 1, "MS-SSIM": 1, "NMSE": 0, "PCC": 1}
    assert found == pytest.approx({name: best[name] for name in names}, abs=1e-9)


def test_the_range_of_mr_is_the_references_percentiles_in_the_mask(scan):
    fake, real, mask = scan
    values = np.sort(real.array[mask].astype(float))
    low, high = (np.interp(q * (values.size - 1), np.arange(values.size), values) for q in (0.005, 0.995))
    found = evaluate(fake, real, mask, "mr", ["PSNR", "SSIM"])
    assert found["PSNR"].data_range == pytest.approx((low, high), rel=1e-6)
    a, b = (np.where(mask, np.clip(v.array.astype(float), low, high), low) - low for v in (fake, real))
    square = np.mean((a - b)[mask] ** 2)
    assert found["PSNR"].value == pytest.approx(10 * np.log10((high - low) ** 2 / square), abs=1e-5)
    assert found["SSIM"].value == pytest.approx(plain_ssim(a, b, mask, high - low), abs=1e-6)
    louder = (v.with_array(v.array * 3 + 100) for v in (fake, real))
    again = evaluate(*louder, mask, "mr", ["SSIM"])["SSIM"].value
    assert again == pytest.approx(found["SSIM"].value, abs=1e-5)  # arbitrary units stay arbitrary


def test_scaled_and_shifted_images_have_closed_forms(scan):
    _, real, mask = scan
    scaled = evaluate(real.with_array(1.25 * real.array), real, mask, "suv", ["NMSE", "PCC"])
    assert scaled["NMSE"].value == pytest.approx(0.25**2, rel=1e-6)
    assert scaled["PCC"].value == pytest.approx(1, abs=1e-9)
    turned = evaluate(real.with_array(30 - 0.5 * real.array), real, mask, "mr", ["PCC"])
    assert turned["PCC"].value == pytest.approx(-1, abs=1e-9)
    low = real.with_array(np.clip(real.array, -900, 900))
    psnr = evaluate(low.with_array(low.array + 40.95), low, mask)["PSNR"]
    assert psnr.value == pytest.approx(40, abs=1e-4)  # an error of a hundredth of the range


def test_correlation_equals_numpys(scan):
    fake, real, mask = scan
    expected = np.corrcoef(fake.array[mask].astype(float), real.array[mask].astype(float))[0, 1]
    assert evaluate(fake, real, mask, measures=["PCC"])["PCC"].value == pytest.approx(expected, abs=1e-12)


def test_what_is_undefined_says_why(scan):
    fake, real, mask = scan
    flat = real.with_array(np.full(real.shape, 0.1, np.float32))
    zero = real.with_array(np.zeros(real.shape, np.float32))
    rim = np.zeros_like(mask)
    rim[0] = True
    found = {
        "constant": evaluate(fake, flat, mask, "suv", ["PCC"])["PCC"],
        "0 everywhere": evaluate(fake, zero, mask, "suv", ["NMSE"])["NMSE"],
        "whole window": evaluate(fake, real, rim, "suv", ["SSIM"])["SSIM"],
        "coarsest scale": evaluate(fake, real, ~rim & (np.indices(mask.shape)[0] < 2), "suv", ["MS-SSIM"])["MS-SSIM"],
    }
    for reason, metric in found.items():
        assert np.isnan(metric.value)
        assert reason in str(metric)


def test_a_fundus_picture_is_measured_channel_by_channel():
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(4)
    real = rng.integers(0, 256, (1, 40, 50, 3), dtype=np.uint8)
    fake = np.clip(real + rng.normal(0, 30, real.shape), 0, 255).astype(np.uint8)
    names = ["MAE", "PSNR", "SSIM", "MS-SSIM"]
    found = evaluate(Volume(fake, np.eye(4), "RGB"), Volume(real, np.eye(4), "RGB"), None, "rgb", names)
    a, b = fake[0].astype(float), real[0].astype(float)
    assert found["MAE"].value == pytest.approx(np.abs(a - b).mean(), rel=1e-9)
    assert found["PSNR"].value == pytest.approx(10 * np.log10(255**2 / ((a - b) ** 2).mean()), rel=1e-9)
    expected = structural_similarity(a, b, data_range=255, channel_axis=2)
    assert found["SSIM"].value == pytest.approx(expected, abs=1e-9)
    planes = [similarity.ms_ssim(a[..., c], b[..., c], 255) for c in range(3)]
    assert found["MS-SSIM"].value == pytest.approx(np.mean(planes), abs=1e-9)
    assert found["SSIM"].window == (1, 7, 7)
    assert found["SSIM"].voxels == 2000


def test_without_a_mask_the_whole_volume_counts(scan):
    fake, real, mask = scan
    names = ["MAE", "PSNR", "SSIM", "MS-SSIM", "PCC"]
    whole = evaluate(fake, real, measures=names)
    full = evaluate(fake, real, np.ones_like(mask), measures=names)
    assert {k: m.value for k, m in whole.items()} == {k: m.value for k, m in full.items()}
    assert whole["MAE"].region == "whole volume"
    assert whole["SSIM"].outside is None
    labels = np.where(mask, 7, 0).astype(np.uint8)  # a label map is a mask too
    assert evaluate(fake, real, labels)["MAE"].value == evaluate(fake, real, mask)["MAE"].value


def test_values_outside_the_mask_need_be_no_numbers(scan):
    fake, real, mask = scan
    names = ["MAE", "PSNR", "SSIM", "MS-SSIM"]
    holes = fake.with_array(np.where(mask, fake.array, np.nan))
    expected = {k: m.value for k, m in evaluate(fake, real, mask, measures=names).items()}
    assert {k: m.value for k, m in evaluate(holes, real, mask, measures=names).items()} == expected
    with pytest.raises(InputError, match="prediction has voxels inside the mask"):
        evaluate(holes, real)


def test_every_number_is_printed_with_what_it_means(scan):
    fake, real, mask = scan
    voxels = int(mask.sum())
    ct = evaluate(fake, real, mask, "synthrad2023", ["MAE", "PSNR", "SSIM"])
    value = {name: metric.value for name, metric in ct.items()}
    assert str(ct["MAE"]) == f"MAE {value['MAE']:.1f} HU (body, {voxels} voxels, synthrad2023: values not clipped)"
    assert str(ct["PSNR"]) == f"PSNR {value['PSNR']:.1f} dB (body, {voxels} voxels, synthrad2023: range -1024 to 3000)"
    assert str(ct["SSIM"]) == (
        f"SSIM {value['SSIM']:.3f} (body, {voxels} voxels, synthrad2023: range -1024 to 3000, "
        "-1024 outside the mask, offset +1024, window 7x7x7)"
    )
    suv = evaluate(fake, real, None, "suv", ["MS-SSIM"], (0, 12))["MS-SSIM"]
    assert str(suv).endswith(
        "(whole volume, 5040 voxels, suv: range 0 to 12, offset +0, window 7x7x7, edges repeated to 97 voxels)"
    )


def test_what_makes_no_sense_is_refused(scan):
    fake, real, mask = scan
    with pytest.raises(InputError, match="no measure 'LPIPS'"):
        evaluate(fake, real, mask, measures=["LPIPS"])
    with pytest.raises(InputError, match="HU are 0 at water"):
        evaluate(fake, real, mask, measures=["NMSE"])
    flat = real.with_array(np.zeros(real.shape))
    with pytest.raises(InputError, match="range of intensities 0 to 0 is empty"):
        evaluate(fake, flat, mask, "mr", ["PSNR"])
    assert evaluate(fake, flat, mask, "mr", ["MAE"])["MAE"].value > 0
    with pytest.raises(InputError, match="range of intensities 3 to 1"):
        evaluate(fake, real, mask, "suv", ["SSIM"], (3, 1))
    colour = Volume(np.zeros((*real.shape, 3)), np.eye(4), "RGB")
    with pytest.raises(InputError, match="3 channels, the other 1"):
        evaluate(colour, real, mask)
