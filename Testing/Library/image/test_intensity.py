"""Units to network numbers and back, values checked, and where the body is."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest
import SimpleITK as sitk

from SynthGANLib.errors import InputError, ModelError, UnfitInputError
from SynthGANLib.image.grid import whole_voxels
from SynthGANLib.image.intensity import (
    NORMALISERS,
    Identity,
    Labels,
    Normaliser,
    Percentile,
    Rgb,
    Suv,
    Window,
    ZScore,
    body_mask,
    check_values,
    normaliser_from_json,
)
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume

# Each kind with the values it must give back, in its own unit.
CASES = [
    (Window(-1024.0, 3071.0), (-1024.0, 3071.0)),
    (Window(-1024.0, 2000.0, clip=False), (-3000.0, 9000.0)),
    (Percentile(0.0, 100.0), (-50.0, 4000.0)),
    (Percentile(1.0, 99.0, out_low=0.0, out_high=1.0, clip=False), (0.0, 4095.0)),
    (ZScore(), (0.0, 1e5)),
    (Suv(25.0), (0.0, 25.0)),
    (Rgb(), (0.0, 255.0)),
    (Identity(scale=-0.25, offset=100.0), (-1e4, 1e4)),
]


@pytest.mark.parametrize(("normaliser", "span"), CASES, ids=lambda case: getattr(case, "kind", None))
def test_each_normaliser_inverts_itself(rng, normaliser, span):
    values = rng.uniform(*span, (11, 12, 13)).astype(np.float32)
    values.reshape(-1)[:2] = span
    fitted = normaliser.fit(values)
    network = fitted.apply(values)
    assert network.dtype == np.float32
    back = fitted.invert(network)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values, atol=2e-7 * (span[1] - span[0]) * 4)
    # The same through its JSON, which is plain numbers.
    reread = normaliser_from_json(json.loads(json.dumps(fitted.to_json())))
    assert reread == fitted
    np.testing.assert_array_equal(reread.apply(values), network)


def test_every_kind_is_covered():
    assert {type(normaliser) for normaliser, _ in CASES} | {Labels} == set(NORMALISERS.values())


def test_ct_round_trip_is_exact_in_whole_units():
    values = np.arange(-1024, 3072, dtype=np.int16).reshape(16, 16, 16)
    window = Window(-1024.0, 3071.0)
    back = window.invert(window.apply(values))
    assert np.abs(back - values).max() < 0.01
    np.testing.assert_array_equal(np.rint(back), values)


def test_window_ends_and_middle():
    window = Window(-1000.0, 1000.0)
    network = window.apply(np.array([-5000.0, -1000, 0, 500, 1000, 9000]))
    np.testing.assert_allclose(network, [-1, -1, 0, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(window.invert(np.array([-2.0, -1, 0, 1, 7])), [-1000, -1000, 0, 1000, 1000])
    np.testing.assert_allclose(Window(0.0, 10.0, clip=False).apply(np.array([20.0])), [3.0])


def test_percentiles_are_those_of_the_mask(rng):
    values = rng.normal(0, 1, (20, 20, 20)).astype(np.float32)
    mask = np.zeros(values.shape, bool)
    mask[5:15, 5:15, 5:15] = True
    values[~mask] = 1e6
    fitted = Percentile(2.0, 98.0).fit(values, mask)
    low, high = np.percentile(values[mask], (2.0, 98.0))
    assert (fitted.value_low, fitted.value_high) == pytest.approx((low, high))
    np.testing.assert_allclose(fitted.apply(np.array([low, high])), [-1, 1], atol=1e-6)
    scored = ZScore().fit(values, mask)
    normalised = scored.apply(values)[mask]
    assert float(normalised.mean()) == pytest.approx(0, abs=1e-5)
    assert float(normalised.std()) == pytest.approx(1, abs=1e-5)


def test_colours_and_labels():
    np.testing.assert_allclose(Rgb().apply(np.array([0, 255], np.uint8)), [-1, 1])
    np.testing.assert_array_equal(Rgb().invert(np.array([-3.0, 3.0])), [0, 255])
    labels = np.arange(600, dtype=np.uint16)
    np.testing.assert_array_equal(Labels().invert(Labels().apply(labels) + 0.3), labels)


@pytest.mark.parametrize("normaliser", [Percentile(), ZScore()])
def test_constant_or_empty_regions_do_not_fit(normaliser):
    flat = np.full((4, 5, 6), 7.0, np.float32)
    with pytest.raises(UnfitInputError, match="7"):
        normaliser.fit(flat)
    with pytest.raises(UnfitInputError, match="No voxel"):
        normaliser.fit(flat, np.zeros(flat.shape, bool))
    with pytest.raises(UnfitInputError, match="No voxel"):
        normaliser.fit(np.full((4, 5, 6), np.nan))
    with pytest.raises(InputError, match="does not lie"):
        normaliser.fit(flat, np.ones((3, 5, 6), bool))
    with pytest.raises(InputError, match="not been fitted"):
        normaliser.apply(flat)


def test_fitting_ignores_what_is_not_finite(rng):
    values = rng.normal(size=(10, 10, 10))
    clean = ZScore().fit(values[1:])
    values[0] = np.nan
    values[0, 0] = np.inf
    assert ZScore().fit(values) == clean


def test_large_volumes_are_fitted_to_a_regular_subset(rng, monkeypatch):
    values = rng.gamma(2.0, 100.0, (40, 50, 60)).astype(np.float32)
    whole = Percentile().fit(values)
    monkeypatch.setattr("SynthGANLib.image.intensity._SAMPLE", 30_000)
    part = Percentile().fit(values)
    assert part != whole
    assert (part.value_low, part.value_high) == pytest.approx((whole.value_low, whole.value_high), rel=0.05)
    assert Percentile().fit(values) == part


def test_normalisers_are_frozen_and_never_change_their_input(rng):
    values = rng.normal(size=(4, 4, 4)).astype(np.float32)
    before = values.copy()
    for normaliser, _ in CASES:
        fitted = normaliser.fit(values)
        fitted.apply(values)[...] = 0
        fitted.invert(values)[...] = 0
        np.testing.assert_array_equal(values, before)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Window().low = 0.0  # type: ignore[misc]
    assert isinstance(Window(), Normaliser)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "magic"}, "Unknown normalizer"),
        ({}, "Unknown normalizer"),
        ({"kind": ["window"]}, "Unknown normalizer"),
        ("window", "Unknown normalizer"),
        ({"kind": "window", "low": 5, "high": 5}, "above low"),
        ({"kind": "window", "low": "0"}, "finite number"),
        ({"kind": "window", "low": True}, "finite number"),
        ({"kind": "window", "high": float("inf")}, "finite number"),
        ({"kind": "window", "clip": 1}, "true or false"),
        ({"kind": "window", "gamma": 2}, "no field 'gamma'"),
        ({"kind": "percentile", "low": -1}, "percentiles"),
        ({"kind": "percentile", "value_low": 3, "value_high": 2}, "value_high"),
        ({"kind": "zscore", "std": 0}, "positive"),
        ({"kind": "suv", "maximum": -1}, "positive"),
        ({"kind": "suv", "maximum": None}, "finite number"),
        ({"kind": "identity", "scale": 0}, "scale"),
    ],
)
def test_bad_descriptions_are_refused(data, words):
    with pytest.raises(ModelError, match=words):
        normaliser_from_json(data)


def test_values_are_checked(oblique_volume):
    assert check_values(oblique_volume) is oblique_volume
    blemished = oblique_volume.array.copy()
    blemished[0, 0, :3] = (np.nan, np.inf, -np.inf)
    repaired = check_values(oblique_volume.with_array(blemished))
    assert np.isfinite(repaired.array).all()
    lowest = oblique_volume.array.reshape(-1)[3:].min()
    np.testing.assert_array_equal(repaired.array[0, 0, :3], [lowest] * 3)
    np.testing.assert_array_equal(repaired.array[1:], oblique_volume.array[1:])
    assert "3 voxels were NaN or infinite" in repaired.warnings[0]
    assert np.isnan(blemished[0, 0, 0])
    blemished[0] = np.nan
    with pytest.raises(InputError, match=r"14\.3% of the voxels"):
        check_values(oblique_volume.with_array(blemished))
    with pytest.raises(InputError, match="100"):
        check_values(oblique_volume.with_array(np.full(oblique_volume.shape, np.nan)))
    with pytest.raises(InputError, match="no voxels"):
        check_values(Volume(np.empty((3, 0, 3)), np.eye(4)))
    whole = oblique_volume.with_array(np.ones(oblique_volume.shape, np.int16))
    assert check_values(whole) is whole


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice coefficient."""
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def ball(shape: tuple[int, ...], spacing: tuple[float, ...], radius: float) -> np.ndarray:
    """A centred ball; spacing in mm (x, y, z)."""
    away = np.zeros(shape)
    for axis, (extent, mm) in enumerate(zip(shape, spacing[::-1], strict=True)):
        line = (np.arange(extent) - (extent - 1) / 2) * mm
        away += (line**2).reshape([-1 if other == axis else 1 for other in range(3)])
    return np.sqrt(away) < radius


def test_body_of_a_noisy_ball_with_a_cave(sphere_volume):
    mask = body_mask(sphere_volume.array, sphere_volume.spacing)
    z, y, x = np.indices(mask.shape) * 2.0
    truth = np.sqrt((z - 47) ** 2 + (y - 51) ** 2 + (x - 49) ** 2) < 36
    assert overlap(mask, truth) > 0.98
    assert mask[23, 20, 24]  # the cave belongs to the body


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 0.8), (0.7, 0.7, 5.5), (5.0, 1.0, 1.2), (3.0, 3.0, 3.0)])
def test_body_at_any_voxel_size(rng, spacing):
    shape = tuple(int(90 / mm) + 1 for mm in spacing[::-1])
    truth = ball(shape, spacing, 35.0)
    values = np.where(truth, 500.0, 0.0) + rng.normal(0, 25, shape)
    assert overlap(body_mask(values.astype(np.float32), spacing), truth) > 0.96


def test_last_bits_of_a_spacing_change_no_body(sphere_volume):
    """A file, or axes that lie oblique, change them: no length may be a voxel longer for that."""
    mask = body_mask(sphere_volume.array, (2.0, 2.0, 2.0))
    for step in (np.nextafter(2.0, 3.0), np.nextafter(2.0, 1.0)):
        np.testing.assert_array_equal(body_mask(sphere_volume.array, (step, 2.0, step)), mask)
        assert whole_voxels(3.0, step) == whole_voxels(3.0, 2.0) == 2
    assert [whole_voxels(12.0, mm) for mm in (0.7, 1.0, 5.0, 30.0)] == [17, 12, 2, 0]


def test_body_follows_scale_offset_and_axes(sphere_volume):
    mask = body_mask(sphere_volume.array, sphere_volume.spacing)
    np.testing.assert_array_equal(body_mask(sphere_volume.array * 37.0 + 5.0, sphere_volume.spacing), mask)
    mirrored = body_mask(np.ascontiguousarray(sphere_volume.array[::-1, :, ::-1]), sphere_volume.spacing)
    assert overlap(mirrored[::-1, :, ::-1], mask) > 0.999


def test_body_ignores_hot_pixels_and_padding(sphere_volume):
    mask = body_mask(sphere_volume.array, sphere_volume.spacing)
    hot = sphere_volume.array.copy()
    hot[::9, ::7, ::5] = 1e6
    spikes = np.zeros(hot.shape, np.float32)
    spikes[24, 25, 25] = 1e6
    assert overlap(body_mask(sphere_volume.array + spikes, sphere_volume.spacing), mask) > 0.99
    ct = np.where(ball((50, 60, 60), (2.0, 2.0, 2.0), 40.0), 40, -1000).astype(np.int16)
    truth = ct > -500
    y, x = np.indices((60, 60))
    ct[:, np.hypot(y - 29.5, x - 29.5) > 29] = -3024  # beyond the round field of view
    assert overlap(body_mask(ct, (2.0, 2.0, 2.0)), truth) > 0.98


def test_table_and_head_rest_are_left_out():
    shape, spacing = (40, 80, 80), (2.0, 2.0, 2.0)
    body = ball((40, 80, 80), spacing, 39.0) | ball((40, 80, 80), (2.0, 2.6, 2.0), 39.0)
    ct = np.where(body, 40, -1000).astype(np.int16)
    bottom = int(np.flatnonzero(body.any(axis=(0, 2)))[-1])
    ct[:, bottom + 1 : bottom + 3, 5:75] = 300  # a hollow table that the body lies on
    ct[:, bottom + 8 : bottom + 10, 5:75] = 300
    ct[:, bottom + 1 : bottom + 10, 5:7] = 300
    ct[:, bottom + 1 : bottom + 10, 73:75] = 300
    mask = body_mask(ct, spacing)
    assert overlap(mask, body) > 0.97
    assert not mask[:, bottom + 4 :].any()
    assert shape == mask.shape


def test_head_with_dark_skull_is_whole(rng):
    # MR: bright brain, 8 mm dark skull, 4 mm bright scalp.
    shape, spacing = (60, 60, 60), (2.0, 2.0, 2.0)
    brain, skull, scalp = (ball(shape, spacing, radius) for radius in (36.0, 44.0, 48.0))
    clean = np.where(brain, 400.0, np.where(skull, 15.0, np.where(scalp, 350.0, 0.0)))
    noisy = np.hypot(clean + rng.normal(0, 12, shape), rng.normal(0, 12, shape))
    assert overlap(body_mask(noisy, spacing), scalp) > 0.98


def test_airway_open_to_the_lower_face_is_inside():
    spacing = (2.0, 2.0, 2.0)
    neck = ball((40, 60, 60), (2.0, 2.0, 0.001), 45.0)
    ct = np.where(neck, 40, -1000).astype(np.int16)
    ct[:, 26:34, 26:34] = -1000  # runs through every slice
    mask = body_mask(ct, spacing)
    assert overlap(mask, neck) > 0.99
    assert mask[:, 26:34, 26:34].all()


def test_body_of_thin_flat_and_colour_images(rng):
    disc = ball((1, 80, 80), (1.0, 1.0, 1.0), 30.0)
    values = np.where(disc, 200.0, 0.0) + rng.normal(0, 5, disc.shape)
    assert overlap(body_mask(values, (1.0, 1.0, 1.0)), disc) > 0.95
    turned = np.ascontiguousarray(values.transpose(2, 1, 0))
    assert overlap(body_mask(turned, (1.0, 1.0, 1.0)), disc.transpose(2, 1, 0)) > 0.95
    colours = np.clip(np.stack([values, values / 2, values * 0], axis=-1), 0, 255).astype(np.uint8)
    assert overlap(body_mask(colours, (1.0, 1.0, 1.0)), disc) > 0.95
    tiny = np.zeros((3, 3, 3))
    tiny[1, 1, 1] = 1
    assert body_mask(tiny, (1.0, 1.0, 1.0))[1, 1, 1]


def test_microscopic_voxels_take_neither_minutes_nor_memory(rng):
    """Radii in mm would be a thousand voxels where a header's lengths are wrong by a thousand."""
    disc = np.hypot(*np.mgrid[-15:15, -14:14])[np.newaxis] < 9
    values = (np.where(disc, 300, 5) + rng.normal(0, 5, disc.shape)).astype(np.float32)
    started = time.process_time()
    mask = body_mask(values, (0.006, 0.006, 0.006))
    assert time.process_time() - started < 20
    assert overlap(mask, disc) > 0.95


def test_bodies_that_are_not_there():
    with pytest.raises(UnfitInputError, match="constant"):
        body_mask(np.zeros((5, 6, 7), np.float32), (1.0, 1.0, 1.0))
    with pytest.raises(UnfitInputError, match="constant"):
        body_mask(np.full((5, 6, 7), np.nan), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="needs a volume"):
        body_mask(np.empty((0, 6, 7)), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="needs a volume"):
        body_mask(np.zeros((6, 7)), (1.0, 1.0, 1.0))


# Litres inside the mask when its outline was checked by eye.
REAL = {
    "ct_abdomen_3mm_totalseg.nii.gz": 24.5,
    "ct_head_skull2_1x1x2.5mm_HU.nii.gz": 3.40,
    "mr_abdomen_3mm_totalseg_LPS.nii.gz": 4.48,
    "mr_flairlike_0.75x0.75x5.5mm_oblique.nii.gz": 3.26,
    "mr_t1_mprage_sagittal_oblique_age3_1mm.nii.gz": 3.15,
}


@pytest.mark.parametrize("name", REAL)
def test_real_bodies(shared_data, name):
    volume = read_volume(shared_data / "volumes" / name)
    mask = body_mask(volume.array, volume.spacing)
    litres = np.count_nonzero(mask) * np.prod(volume.spacing) / 1e6
    assert litres == pytest.approx(REAL[name], rel=0.04)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    parts = sitk.ConnectedComponent(image)
    assert int(sitk.GetArrayViewFromImage(parts).max()) == 1
    holes = sitk.GetArrayFromImage(sitk.BinaryFillhole(image)).astype(bool) & ~mask
    assert np.count_nonzero(holes) < 1e-3 * np.count_nonzero(mask)


def test_real_head_rest_is_left_out_and_sinuses_are_in(shared_data):
    volume = read_volume(shared_data / "volumes" / "ct_head_skull2_1x1x2.5mm_HU.nii.gz")
    mask = body_mask(volume.array, volume.spacing)
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray((volume.array > 0).astype(np.uint8))))
    shell = sitk.GetArrayFromImage(parts) == 2  # the head is the largest dense thing, the shell under it the next
    assert np.count_nonzero(shell) > 10_000
    assert np.count_nonzero(mask & shell) < 0.01 * np.count_nonzero(shell)
    air = mask & (volume.array < -600)
    litres = np.count_nonzero(air) * np.prod(volume.spacing) / 1e6
    assert litres > 0.03  # nose and sinuses
