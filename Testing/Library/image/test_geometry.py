"""To a model's grid and back: exact where nothing is interpolated, in place where something is."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from volume_cases import oblique_affine

from SynthGANLib.errors import InputError
from SynthGANLib.image.geometry import Box, Grid, conform, crop_pad, orientation_of, resample_to, uncrop_unpad
from SynthGANLib.image.resampling import axis_weights
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume

ROOT = Path(__file__).resolve().parents[3]
ORIENTATIONS = [
    "".join(letters) for order in itertools.permutations(("LR", "PA", "SI")) for letters in itertools.product(*order)
]
SHAPES = [(7, 9, 11), (1, 9, 11), (7, 1, 11), (7, 9, 1), (1, 1, 5), (1, 1, 1)]


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("mirrored", [False, True])
def test_every_orientation_round_trips_bit_for_bit(oblique_volume, mirrored):
    source = Volume(oblique_volume.array, oblique_affine(mirrored=mirrored))
    for letters in ORIENTATIONS:
        turned = conform(source, orientation=letters)
        assert turned.volume.grid.orientation == letters
        # Each voxel keeps its number and its place.
        for index in ((0, 0, 0), (6, 8, 10), (2, 5, 3)):
            world = source.grid.to_world(np.array(index[::-1], float))
            i, j, k = turned.volume.grid.to_index(world)
            np.testing.assert_allclose((i, j, k), np.rint((i, j, k)), atol=1e-9)
            moved = turned.volume.array[int(np.rint(k)), int(np.rint(j)), int(np.rint(i))]
            assert moved == source.array[index]
        restored = turned.back.restore(turned.volume.array)
        np.testing.assert_array_equal(restored, source.array)
        assert restored.flags.c_contiguous
        assert turned.back.source.affine.tobytes() == source.affine.tobytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_crop_pad_reorient_round_trips_bit_for_bit(rng, shape, channels):
    source = Volume(rng.normal(size=(*shape, *channels)).astype(np.float32), oblique_affine(mirrored=True))
    for letters in ("LPS", "SRA", "PIR"):
        turned = conform(source, orientation=letters).volume
        z, y, x = turned.shape
        larger = conform(source, orientation=letters, box=Box((-3, -1, -2), (z + 5, y + 1, x + 4)), fill=-7.0)
        np.testing.assert_array_equal(larger.back.restore(larger.volume.array), source.array)
        padding = larger.volume.array.size - source.array.size
        assert np.count_nonzero(larger.volume.array == -7.0) == padding
        # A voxel of the padded grid is where the unpadded grid has it.
        np.testing.assert_allclose(
            larger.volume.grid.to_world(np.array([2.0, 1.0, 3.0])), turned.grid.to_world(np.zeros(3)), atol=1e-9
        )


def test_cropping_restores_the_inside_and_fills_the_outside(oblique_volume):
    cropped = conform(oblique_volume, box=Box((1, 2, 3), (4, 20, 6)), fill=5.0)
    assert cropped.volume.shape == (3, 18, 3)
    restored = cropped.back.restore(cropped.volume.array, fill=-1000.0)
    kept = restored != -1000.0
    np.testing.assert_array_equal(restored[kept], oblique_volume.array[kept])
    turned = conform(oblique_volume).volume
    assert np.count_nonzero(kept) == 3 * min(18, turned.shape[1] - 2) * 3
    assert np.count_nonzero(cropped.back.restore(cropped.volume.array) == 5.0) == np.count_nonzero(~kept)


def test_crop_pad_and_its_inverse(rng):
    array = rng.normal(size=(4, 5, 6))
    moved = crop_pad(array, (1, -2, 0), (-1, 3, 2), 9.0)
    assert moved.shape == (4, 6, 8)
    np.testing.assert_array_equal(moved[1:, :3, :6], array[:3, 2:])
    back = uncrop_unpad(moved, (1, -2, 0), (-1, 3, 2), 0.0)
    assert back.shape == array.shape
    np.testing.assert_array_equal(back[:3, 2:], array[:3, 2:])
    assert not back[3].any()
    assert not back[:, :2].any()
    with pytest.raises(InputError, match="leaves no voxel"):
        crop_pad(array, (-2, 0, 0), (-2, 0, 0), 0.0)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, None, 2.0), (5.0, 5.0, 5.0)])
def test_resampling_reproduces_the_affine_exactly(rng, shape, spacing, interpolation):
    source = Volume(rng.normal(size=shape).astype(np.float32), oblique_affine(mirrored=True))
    there = conform(source, spacing=spacing, interpolation=interpolation)
    turned = conform(source).volume
    expected = tuple(native if mm is None else mm for mm, native in zip(spacing, turned.spacing, strict=True))
    assert there.volume.spacing == pytest.approx(expected, rel=1e-12)
    # Same centre, whole extent covered by less than one voxel more.
    for grid in (there.volume.grid,):
        centre = grid.to_world((np.array(grid.shape[::-1]) - 1) / 2)
        np.testing.assert_allclose(centre, turned.grid.to_world((np.array(turned.shape[::-1]) - 1) / 2), atol=1e-9)
        excess = np.array(grid.shape[::-1]) * grid.spacing - np.array(turned.shape[::-1]) * turned.spacing
        assert (excess > -0.01).all()
        assert (excess < np.array(grid.spacing) + 1e-9).all()
    back = there.back.restore(there.volume.array)
    assert back.shape == source.shape
    result = Volume(back, there.back.source.affine)
    assert result.affine.tobytes() == source.affine.tobytes()


def test_one_bright_voxel_comes_back_to_its_place(rng):
    for _ in range(25):
        shape = tuple(int(extent) for extent in rng.integers(3, 14, 3))
        affine = oblique_affine(
            tuple(rng.uniform(0.5, 4.0, 3)), tuple(rng.uniform(-40, 40, 3)), mirrored=bool(rng.integers(2))
        )
        array = np.zeros(shape, np.float32)
        place = tuple(int(rng.integers(0, extent)) for extent in shape)
        array[place] = 1.0
        # Finer voxels: none of the source's may be stepped over.
        fine = tuple(float(mm) * 0.8 for mm in conform(Volume(array, affine)).volume.spacing)
        there = conform(Volume(array, affine), spacing=fine, interpolation="nearest")
        back = there.back.restore(there.volume.array, order=0)
        assert np.argwhere(back == 1.0).tolist() == [list(place)]


def test_resampling_a_ramp_gives_a_ramp(rng):
    # Linear functions of the place survive linear interpolation, away from the repeated edge.
    affine = oblique_affine((0.9, 1.7, 2.3), mirrored=True)
    shape = (16, 18, 20)
    grid = Grid(shape, affine)
    index = np.moveaxis(np.indices(shape)[::-1], 0, -1).astype(float)  # (z, y, x, 3) of (i, j, k)
    slope = rng.normal(size=3)
    ramp = Volume((grid.to_world(index) @ slope).astype(np.float32), affine)
    for spacing in ((1.1, 0.6, 1.3), (2.0, 2.0, 3.0)):
        there = conform(ramp, spacing=spacing).volume
        fine = np.moveaxis(np.indices(there.shape)[::-1], 0, -1).astype(float)
        expected = there.grid.to_world(fine) @ slope
        inner = tuple(slice(extent // 3, -(extent // 3)) for extent in there.shape)
        np.testing.assert_allclose(there.array[inner], expected[inner], atol=1e-3)


def test_linear_upsampling_against_an_independent_interpolator(oblique_volume):
    there = conform(oblique_volume, spacing=(0.55, 0.8, 1.9))
    independent = resample_to(oblique_volume, there.volume.grid, fill=np.nan)
    inside = np.isfinite(independent.array)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(there.volume.array[inside], independent.array[inside], atol=1e-4)


def test_shrinking_does_not_alias(rng):
    # A checkerboard finer than the target must become its mean, not a pattern.
    board = (np.indices((40, 40, 40)).sum(axis=0) % 2).astype(np.float32)
    small = conform(Volume(board, np.eye(4)), spacing=(3.7, 3.7, 3.7)).volume.array
    np.testing.assert_allclose(small, 0.5, atol=0.02)
    noise = rng.normal(size=(60, 60, 60)).astype(np.float32)
    assert conform(Volume(noise, np.eye(4)), spacing=(4.0, 4.0, 4.0)).volume.array.std() < 0.2
    # And a constant stays what it is, up to the edges.
    flat = np.full((9, 10, 11), -1000.0, np.float32)
    for spacing in ((2.5, 3.5, 1.5), (0.4, 1.0, 6.0)):
        there = conform(Volume(flat, np.eye(4)), spacing=spacing, fill=5.0)
        np.testing.assert_allclose(there.volume.array, -1000.0, rtol=1e-6)
        np.testing.assert_allclose(there.back.restore(there.volume.array), -1000.0, rtol=1e-6)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 1.7, 4.0])
def test_weights_sum_to_one_everywhere(interpolation, ratio):
    positions = np.arange(-2.0, 25.0, ratio)
    weights = axis_weights(23, positions, interpolation, 0.8)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-12)


def test_thin_slices_upsampled_and_back_are_nearly_the_same(shared_data):
    source = read_volume(shared_data / "volumes" / "mr_flairlike_0.75x0.75x5.5mm_oblique.nii.gz")
    there = conform(source, spacing=(1.5, 1.5, 1.1))
    assert there.volume.grid.orientation == "LPS"
    back = there.back.restore(there.volume.array)
    correlation = np.corrcoef(back.ravel(), source.array.ravel())[0, 1]
    assert correlation > 0.97
    assert there.back.source.affine.tobytes() == source.affine.tobytes()


def test_every_real_volume_round_trips(shared_data):
    names = sorted((shared_data / "volumes").glob("*.nii.gz"))
    names += [shared_data / "geometry" / name for name in ("spine_t2_PSR.nii.gz", "mha_oblique_3slices.mha")]
    for path in names:
        source = read_volume(path)
        z, y, x = conform(source).volume.shape
        there = conform(source, box=Box((-1, -2, -3), (z + 3, y, x + 1)))
        assert there.volume.grid.orientation == "LPS", path.name
        np.testing.assert_array_equal(there.back.restore(there.volume.array), source.array, err_msg=path.name)


def test_sheared_grids_are_straightened_and_come_back(rng):
    affine = oblique_affine((1.0, 1.0, 2.0))
    affine[:3, 2] += 0.35 * 2.0 * affine[:3, 1]
    shape = (12, 24, 20)
    grid = Grid(shape, affine)
    assert not grid.orthogonal
    index = np.moveaxis(np.indices(shape)[::-1], 0, -1).astype(float)
    slope = rng.normal(size=3)
    ramp = Volume((grid.to_world(index) @ slope).astype(np.float32), affine)
    there = conform(ramp, fill=np.nan)
    assert there.volume.grid.orthogonal
    place = np.moveaxis(np.indices(there.volume.shape)[::-1], 0, -1).astype(float)
    expected = there.volume.grid.to_world(place) @ slope
    # Up to half a voxel beyond the outermost centres the edge value is repeated, which is no ramp.
    on_source = grid.to_index(there.volume.grid.to_world(place))
    inside = ((on_source >= 0) & (on_source <= np.array(shape[::-1]) - 1)).all(axis=-1)
    assert np.isfinite(there.volume.array[inside]).all()
    assert np.isnan(there.volume.array).any()
    np.testing.assert_allclose(there.volume.array[inside], expected[inside], atol=1e-3)
    assert inside.mean() > 0.5
    # Every source voxel lies on the straight grid.
    corners = np.array(list(itertools.product((0, 19), (0, 23), (0, 11))), float)
    reached = there.volume.grid.to_index(grid.to_world(corners))
    assert reached.min() > -1e-6
    assert (reached <= np.array(there.volume.shape[::-1]) - 1 + 1e-6).all()
    complete = np.where(inside, there.volume.array, expected).astype(np.float32)
    np.testing.assert_allclose(there.back.restore(complete), ramp.array, atol=1e-3)
    assert there.back.source.affine.tobytes() == affine.tobytes()


def test_masks_and_labels_keep_their_type(rng):
    for dtype in (np.bool_, np.uint8, np.int32):
        labels = rng.integers(0, 2, (6, 7, 8)).astype(dtype)
        affine = oblique_affine()
        there = conform(Volume(labels, affine), spacing=(0.35, 0.65, 1.5), interpolation="nearest")
        assert there.volume.array.dtype == dtype
        np.testing.assert_array_equal(there.back.restore(there.volume.array, order=0), labels)
        other = resample_to(Volume(labels, affine), there.volume.grid, fill=0, interpolation="nearest")
        assert other.array.dtype == dtype


def test_integers_become_float32_without_change(rng):
    stored = rng.integers(-1024, 3071, (5, 6, 7)).astype(np.int16)
    there = conform(Volume(stored, oblique_affine()), orientation="RAI")
    assert there.volume.array.dtype == np.float32
    np.testing.assert_array_equal(there.back.restore(there.volume.array), stored)


def test_nothing_to_do_shares_the_array(oblique_volume):
    there = conform(oblique_volume, orientation=None)
    assert there.volume.array is oblique_volume.array
    assert there.back.steps == ()
    restored = there.back.restore(there.volume.array)
    assert not np.shares_memory(restored, oblique_volume.array)


def test_conform_never_changes_its_input(oblique_volume):
    before = oblique_volume.array.copy()
    there = conform(oblique_volume, orientation="SAR", spacing=(1, 2, 1), box=Box((-1, 0, 0), (3, 3, 3)))
    there.volume.array[...] = 0
    there.back.restore(there.volume.array)[...] = 1
    np.testing.assert_array_equal(oblique_volume.array, before)


def test_resample_to_another_place(oblique_volume):
    grid = Grid((5, 6, 7), oblique_affine((1, 1, 1), (0, 0, 30)))
    result = resample_to(oblique_volume, grid, fill=-5.0)
    assert result.grid.same_as(grid)
    far = np.eye(4)
    far[:3, 3] = 1e4
    assert (resample_to(oblique_volume, Grid((2, 2, 2), far), fill=-5.0).array == -5.0).all()
    same = resample_to(oblique_volume, oblique_volume.grid, fill=0.0)
    np.testing.assert_array_equal(same.array, oblique_volume.array)


def test_grids_compare_by_place():
    grid = Grid((10, 20, 30), oblique_affine())
    moved = grid.affine.copy()
    moved[0, 3] += 1e-6
    assert grid.same_as(Grid(grid.shape, moved))
    moved[0, 3] += 0.01
    assert not grid.same_as(Grid(grid.shape, moved))
    stretched = grid.affine.copy()
    stretched[:3, 0] *= 1.001
    assert not grid.same_as(Grid(grid.shape, stretched))
    assert not grid.same_as(Grid((10, 20, 31), grid.affine))
    index = np.array([[1.0, 2.0, 3.0], [0.0, 0.5, -4.0]])
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-9)


def test_box_around_a_mask():
    mask = np.zeros((8, 9, 10), bool)
    mask[2:4, 5, 7:9] = True
    assert Box.around(mask) == Box((2, 5, 7), (4, 6, 9))
    assert Box.around(mask, 3) == Box((0, 2, 4), (7, 9, 10))
    assert Box.around(mask, (0, 1, 0)).shape == (2, 3, 2)
    with pytest.raises(InputError, match="empty"):
        Box.around(np.zeros((2, 2, 2), bool))
    with pytest.raises(InputError, match="no voxel"):
        Box((0, 0, 0), (1, 0, 1))


def test_impossible_wishes_are_refused(oblique_volume):
    empty = Volume(np.empty((0, 4, 4)), np.eye(4))
    for volume, wish, words in (
        (oblique_volume, {"orientation": "LPX"}, "not an orientation"),
        (oblique_volume, {"orientation": "LRS"}, "not an orientation"),
        (oblique_volume, {"spacing": (1.0, 1.0)}, "three positive"),
        (oblique_volume, {"spacing": (1.0, 0.0, 1.0)}, "three positive"),
        (oblique_volume, {"spacing": (np.nan, 1.0, 1.0)}, "three positive"),
        (oblique_volume, {"spacing": (1e-4, 1e-4, 1e-4)}, "voxels"),
        (oblique_volume, {"interpolation": "sinc"}, "not an interpolation"),
        (empty, {}, "no voxels"),
    ):
        with pytest.raises(InputError, match=words):
            conform(volume, **wish)
    there = conform(oblique_volume, spacing=(2, 2, 2))
    with pytest.raises(InputError, match="does not lie"):
        there.back.restore(np.zeros((3, 3, 3)))


def test_orientation_of_oblique_grids():
    assert orientation_of(np.diag([-1.0, -1.0, 1.0, 1.0])) == "RAS"
    assert orientation_of(oblique_affine((1, 1, 1), (44, 0, 0))) == "LPS"
    # Turned by more than half a right angle about x, y takes the place of z.
    assert orientation_of(oblique_affine((1, 1, 1), (50, 0, 0))) == "LSA"


def test_memory_stays_lean():
    # In a process of its own: there and back never needs more than one copy beside each grid's own array.
    script = """
        import sys
        import numpy as np
        import SimpleITK
        sys.path.append("Testing/Library/helpers")
        from child_memory import peak_bytes
        from SynthGANLib.image.geometry import conform
        from SynthGANLib.image.volume import Volume

        def peak():
            return peak_bytes() / 2**20

        array = np.ones((260, 400, 400), np.float32)
        before = peak()
        there = conform(Volume(array, np.diag([-0.7, -0.7, 0.8, 1.0])), spacing=(1.0, 1.0, 1.0))
        forwards = peak()
        there.back.restore(there.volume.array)
        print(array.nbytes / 2**20, there.volume.array.nbytes / 2**20, forwards - before, peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    source, target, forwards, backwards = (float(part) for part in done.stdout.split())
    assert forwards < target + source
    assert backwards < target + 2 * source + target
