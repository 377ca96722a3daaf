"""Reading and writing: every kind of file has a defined answer, every write is whole or not at all."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from volume_cases import oblique_affine, refusal

from SynthGANLib.errors import InputError, SynthGANError
from SynthGANLib.image.intensity import check_values
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume

ROOT = Path(__file__).resolve().parents[3]


# What each file of the geometry folder must give: shape and orientation, or a word of the refusal.
FIXTURES = {
    "mha_oblique_3slices.mha": ((3, 256, 256), "LIP"),
    "nibabel_anatomical.nii": ((25, 41, 33), "LAS"),
    "nibabel_example4d+orig.BRIK.gz": "no kind",
    "nibabel_example4d+orig.HEAD": "no kind",
    "nibabel_example4d.nii.gz": "2 volumes",
    "nibabel_example_nifti2.nii.gz": "NIfTI-2",
    "nibabel_functional.nii": "20 volumes",
    "nibabel_minc2_4d.mnc": "no kind",
    "nibabel_test.mgz": "no kind",
    "nibabel_tiny.mnc": "no kind",
    "nibabel_tinypet.v": "no kind",
    "nifti_2d_slice_t1.nii.gz": ((1, 256, 256), "LPS"),
    "nifti_bigendian_int16_SPECT.nii": ((91, 109, 91), "RAS"),
    "nifti_bigendian_uint8_greymatter.nii": ((91, 109, 91), "LAS"),
    "phantom_EPI_asc_CLEAR_2_1.PAR": "no kind",
    "phantom_EPI_asc_CLEAR_2_1.REC": "no kind",
    "pydicom_SC_rgb.dcm": ((1, 100, 100), "LPS"),
    "pydicom_eCT_Supplemental.dcm": ((2, 512, 512), "RPI"),
    "pydicom_emri_small.dcm": "no position",
    "pydicom_emri_small_big_endian.dcm": "no position",
    "pydicom_parametric_map_float.dcm": "floating-point",
    "pydicom_vlut_04.dcm": ((1, 512, 512), "LPS"),
    "spine_fmri_4d.nii.gz": "30 volumes",
    "spine_mt0_17mm.nii.gz": ((5, 40, 40), "LAS"),
    "spine_mt1_17mm.nii.gz": ((5, 40, 40), "LAS"),
    "spine_t1_RAS.nii.gz": ((77, 76, 42), "RAS"),
    "spine_t2_PSR.nii.gz": ((52, 55, 60), "PSR"),
    "spine_t2star_0.5x0.5x7.5.nii.gz": ((9, 54, 49), "LAS"),
    "dicom_ct_head_GE_gantry18.5_variable_spacing.zip": "no kind",
    "dicom_mr_t1_sagittal_HFprone.zip": "no kind",
    "dicom_pet_MONOCHROME1_simulated.zip": "no kind",
    "SOURCE.md": "no kind",
}


def test_every_geometry_fixture_has_its_answer(shared_data):
    files = sorted(path.name for path in (shared_data / "geometry").iterdir())
    assert set(files) <= set(FIXTURES)
    for name in files:
        expected = FIXTURES[name]
        if isinstance(expected, str):
            error = refusal(read_volume, shared_data / "geometry" / name)
            assert expected in str(error), name
            assert error.next_step, name
        else:
            volume = read_volume(shared_data / "geometry" / name)
            assert (volume.shape, volume.grid.orientation) == expected, name
            assert np.isfinite(volume.array).all(), name


def nifti_affine(path: Path) -> np.ndarray:
    """The RAS affine of a NIfTI-1 file from its header bytes (sform, else qform), turned to LPS."""
    head = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())[:352]
    order = "<" if struct.unpack("<i", head[:4])[0] == 348 else ">"
    qform, sform = struct.unpack(order + "hh", head[252:256])
    if sform > 0:
        affine = np.vstack([np.reshape(struct.unpack(order + "12f", head[280:328]), (3, 4)), (0, 0, 0, 1)])
    else:
        assert qform > 0
        b, c, d, *offset = struct.unpack(order + "6f", head[256:280])
        factor, *spacing = struct.unpack(order + "4f", head[76:92])
        a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        affine = np.eye(4)
        affine[:3, :3] = turn * spacing * np.array([1, 1, factor or 1])
        affine[:3, 3] = offset
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def test_nifti_places_against_the_header_bytes(shared_data):
    names = [f"volumes/{path.name}" for path in (shared_data / "volumes").glob("*.nii.gz")]
    names += [f"geometry/{name}" for name in ("nifti_bigendian_int16_SPECT.nii", "spine_t2_PSR.nii.gz")]
    assert len(names) == 7
    for name in names:
        path = shared_data / name
        np.testing.assert_allclose(read_volume(path).affine, nifti_affine(path), atol=1e-4, err_msg=name)


def test_frames_of_a_4d_file(shared_data):
    path = shared_data / "geometry" / "nibabel_example4d.nii.gz"
    whole = gzip.decompress(path.read_bytes())
    raw = np.frombuffer(whole[-2 * 2 * 24 * 96 * 128 :], "<i2").reshape(2, 24, 96, 128)
    for frame in (0, 1):
        np.testing.assert_array_equal(read_volume(path, frame=frame).array, raw[frame])
    assert "no frame 2" in str(refusal(read_volume, path, frame=2))
    assert "no frame -1" in str(refusal(read_volume, path, frame=-1))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_round_trip_keeps_numbers_place_and_unit(tmp_path, rng, suffix, mirrored):
    folder = tmp_path / "Größe und Übersicht 日本"
    folder.mkdir()
    array = rng.normal(size=(4, 5, 6)).astype(np.float32)
    volume = Volume(array, oblique_affine(mirrored=mirrored), "SUVbw")
    path = folder / f"mein Bild{suffix}"
    write_volume(volume, path)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, array)
    assert back.unit == "SUVbw"
    # NIfTI stores its place in 32-bit floats.
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5 if ".nii" in suffix else 1e-12)
    again = folder / f"again{suffix}"
    write_volume(back, again)
    assert back.grid.same_as(read_volume(again).grid, tolerance=1e-5)
    assert [entry.name for entry in sorted(folder.iterdir())] == [again.name, path.name]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("shape", [(1, 5, 6), (4, 1, 6), (4, 5, 1), (1, 1, 6), (1, 1, 1)])
def test_one_voxel_thick_volumes_keep_their_place(tmp_path, rng, suffix, shape):
    volume = Volume(rng.normal(size=shape).astype(np.float32), oblique_affine(mirrored=True))
    write_volume(volume, tmp_path / f"v{suffix}")
    back = read_volume(tmp_path / f"v{suffix}")
    assert back.shape == shape
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5)
    assert back.warnings == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.bool_])
def test_labels_keep_whole_numbers(tmp_path, rng, dtype):
    labels = rng.integers(0, 2 if dtype is np.bool_ else 100, (3, 4, 5)).astype(dtype)
    write_volume(Volume(labels, np.eye(4), "label"), tmp_path / "l.nii.gz")
    back = read_volume(tmp_path / "l.nii.gz", unit="label")
    assert back.array.dtype.kind in "iu"
    np.testing.assert_array_equal(back.array, labels)


def test_fractions_are_no_labels(tmp_path, oblique_volume):
    write_volume(oblique_volume, tmp_path / "v.nrrd")
    assert "no label map" in str(refusal(read_volume, tmp_path / "v.nrrd", unit="label"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nrrd", ".nii.gz"])
def test_colours_round_trip(tmp_path, rng, suffix):
    array = rng.integers(0, 256, (1, 12, 10, 3)).astype(np.uint8)
    write_volume(Volume(array, np.eye(4), "RGB"), tmp_path / f"eye{suffix}")
    back = read_volume(tmp_path / f"eye{suffix}")
    np.testing.assert_array_equal(back.array, array)
    assert back.unit == "RGB"
    assert bool(back.warnings) == (suffix in (".png", ".tif"))


def test_pictures_with_alpha_grey_and_16_bits(tmp_path, rng):
    rgba = rng.integers(0, 256, (8, 9, 4)).astype(np.uint8)
    rgba[..., 3] = 255
    sitk.WriteImage(sitk.GetImageFromArray(rgba, isVector=True), str(tmp_path / "opaque.png"))
    np.testing.assert_array_equal(read_volume(tmp_path / "opaque.png").array[0], rgba[..., :3])
    rgba[0, 0, 3] = 7
    sitk.WriteImage(sitk.GetImageFromArray(rgba, isVector=True), str(tmp_path / "glass.png"))
    assert "transparent" in str(refusal(read_volume, tmp_path / "glass.png"))
    grey = rng.integers(0, 65536, (8, 9)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(tmp_path / "grey.png"))
    back = read_volume(tmp_path / "grey.png")
    assert back.unit == "1"
    np.testing.assert_array_equal(back.array[0], grey)
    deep = np.stack([grey] * 3, axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / "deep.png"))
    assert "uint16" in str(refusal(read_volume, tmp_path / "deep.png"))


def test_real_pictures(shared_data):
    picture = next((shared_data / "drive_fundus").rglob("*.png"))
    volume = read_volume(picture)
    assert volume.shape[0] == 1
    jpeg = next((shared_data / "hrf_fundus_nomask").rglob("*.jpg"))
    assert read_volume(jpeg).array.shape == (1, 584, 876, 3)


def test_odd_files_are_refused(tmp_path, oblique_volume):
    assert "no file or folder" in str(refusal(read_volume, tmp_path / "nothing.nii"))
    (tmp_path / "text.nii.gz").write_text("this is no image")
    assert "damaged, cut off or of another kind" in str(refusal(read_volume, tmp_path / "text.nii.gz"))
    (tmp_path / "empty.nrrd").write_bytes(b"")
    refusal(read_volume, tmp_path / "empty.nrrd")
    assert "folder only" in str(refusal(read_volume, tmp_path / "empty.nrrd", series="1.2"))
    assert "no unit" in str(refusal(read_volume, tmp_path / "empty.nrrd", unit="mm"))
    image = sitk.Compose(*[oblique_volume.to_sitk()] * 2)
    sitk.WriteImage(image, str(tmp_path / "field.mha"))
    assert "2 channels" in str(refusal(read_volume, tmp_path / "field.mha"))
    complex_image = sitk.RealAndImaginaryToComplex(oblique_volume.to_sitk(), oblique_volume.to_sitk())
    sitk.WriteImage(complex_image, str(tmp_path / "k.nii"))
    assert "complex" in str(refusal(read_volume, tmp_path / "k.nii"))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_cut_off_files_are_refused(tmp_path, rng, suffix):
    path = tmp_path / f"v{suffix}"
    write_volume(Volume(rng.normal(size=(20, 30, 40)), np.eye(4)), path)
    whole = path.read_bytes()
    for length in (100, 600, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:length])
        refusal(read_volume, path)


def test_nrrd_in_either_patient_convention(tmp_path, rng):
    stored = rng.integers(-500, 500, (2, 3, 4)).astype("<i2")
    for space, signs in (("left-posterior-superior", (1, 1, 1)), ("right-anterior-superior", (-1, -1, 1))):
        header = (
            f"NRRD0004\ntype: short\ndimension: 3\nspace: {space}\nsizes: 4 3 2\n"
            "space directions: (2,0,0) (0,0,-3) (0,1,0)\nkinds: domain domain domain\nendian: little\n"
            "encoding: raw\nspace origin: (10,20,30)\n\n"
        )
        (tmp_path / "v.nrrd").write_bytes(header.encode() + stored.tobytes())
        volume = read_volume(tmp_path / "v.nrrd")
        np.testing.assert_array_equal(volume.array, stored)
        columns = np.array([[2, 0, 0, 10], [0, 0, 1, 20], [0, -3, 0, 30]]) * np.array(signs)[:, None]
        np.testing.assert_allclose(volume.affine[:3], columns, atol=1e-12)


def test_sheared_nifti_header_is_explained(tmp_path, oblique_volume):
    path = tmp_path / "v.nii"
    write_volume(oblique_volume, path)
    data = bytearray(path.read_bytes())
    data[252:254] = struct.pack("<h", 0)  # no qform
    data[280:296] = struct.pack("<4f", 1, 0.5, 0, 0)
    data[296:312] = struct.pack("<4f", 0, 1, 0.5, 0)
    data[312:328] = struct.pack("<4f", 0.5, 0, 1, 0)
    path.write_bytes(data)
    assert "axes" in str(refusal(read_volume, path))


def test_volume_checks_itself(oblique_volume):
    for array in (np.zeros(3), np.zeros((2, 2)), np.zeros((1, 2, 3, 4, 5)), np.zeros((2, 2, 2), complex)):
        refusal(Volume, array, np.eye(4))
    for affine in (np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1, 1, 0, 1])):
        refusal(Volume, np.zeros((2, 2, 2)), affine)
    with pytest.raises(ValueError, match="read-only"):
        oblique_volume.affine[0, 0] = 5
    assert "does not lie" in str(refusal(oblique_volume.with_array, np.zeros((1, 2, 3))))


def test_volume_says_where_it_is(oblique_volume):
    assert oblique_volume.shape == (7, 9, 11)
    assert oblique_volume.spacing == pytest.approx((0.7, 1.3, 3.1))
    assert oblique_volume.origin == pytest.approx((-31.5, 17.25, 102.125))
    np.testing.assert_allclose(oblique_volume.direction @ oblique_volume.direction.T, np.eye(3), atol=1e-12)
    image = oblique_volume.to_sitk()
    place = image.TransformIndexToPhysicalPoint((3, 2, 1))
    np.testing.assert_allclose(oblique_volume.grid.to_world(np.array([3.0, 2.0, 1.0])), place, atol=1e-10)
    back = Volume.from_sitk(image)
    np.testing.assert_allclose(back.affine, oblique_volume.affine, atol=1e-12)
    warned = oblique_volume.with_warning("One.").with_warning("Two.")
    assert warned.warnings == ("One.", "Two.")
    assert oblique_volume.warnings == ()


def test_errors_say_how_to_leave():
    kinds = [kind for kind in SynthGANError.__subclasses__() if kind.__module__ == "SynthGANLib.errors"]
    assert {kind.exit_code for kind in kinds} == {2, 3, 4, 130}
    error = InputError("The file is broken.", next_step="Mend it.")
    assert (str(error), error.next_step, error.kind) == ("The file is broken.", "Mend it.", "input")


@pytest.mark.slow
def test_a_third_of_a_gigavoxel(tmp_path):
    # A sparse raw file, read in a process whose memory is measured: the stored numbers and one float32 copy.
    header = (
        "ObjectType = Image\nNDims = 3\nDimSize = 700 700 612\nElementType = MET_SHORT\n"
        "ElementSpacing = 1 1 1\nBinaryData = True\nBinaryDataByteOrderMSB = False\nElementDataFile = v.raw\n"
    )
    (tmp_path / "v.mhd").write_text(header)
    voxels = 700 * 700 * 612
    with (tmp_path / "v.raw").open("wb") as file:
        file.truncate(2 * voxels)
        file.seek(2 * (voxels // 2))
        file.write(struct.pack("<h", 1234))
    script = """
        import sys
        sys.path.append("Testing/Library/helpers")
        from child_memory import peak_bytes
        from SynthGANLib import read_volume

        volume = read_volume(sys.argv[1])
        assert volume.array.size == 299_880_000
        assert float(volume.array.reshape(-1)[volume.array.size // 2]) == 1234.0
        print(peak_bytes() / 2**20)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "v.mhd")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    stored, converted = 2 * voxels / 2**20, 4 * voxels / 2**20
    assert float(done.stdout) < stored + converted + 300


@pytest.mark.parametrize("name", ["bad.nii", "bad.nii.gz"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_in_nifti_is_not_read_as_zero(tmp_path, name, kind):
    """ITK's reader makes zeros of NaN and infinite values; zero is a value, and in HU it is water."""
    array = np.random.default_rng(4).random((5, 6, 7)).astype(kind) + 1
    array[1, 2, 3], array[4, 5, 6] = np.nan, -np.inf
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    found = read_volume(tmp_path / name).array
    assert np.isnan(found[[1, 4], [2, 5], [3, 6]]).all()
    assert np.isfinite(found).sum() == found.size - 2
    repaired = check_values(read_volume(tmp_path / name))
    assert repaired.array[1, 2, 3] == pytest.approx(array[np.isfinite(array)].min())
    assert "2 voxels were NaN" in repaired.warnings[0]


def test_nan_in_one_frame_stays_in_it(tmp_path):
    array = np.ones((3, 4, 5, 6), np.float32)  # t, z, y, x
    array[1, 2, 3, 4] = np.nan
    frames = [sitk.GetImageFromArray(frame) for frame in array]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "frames.nii.gz"))
    assert [int(np.isnan(read_volume(tmp_path / "frames.nii.gz", frame=t).array).sum()) for t in range(3)] == [0, 1, 0]
    assert np.isnan(read_volume(tmp_path / "frames.nii.gz", frame=1).array[2, 3, 4])
