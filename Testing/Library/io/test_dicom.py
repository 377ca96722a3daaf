"""DICOM: numbers against independently parsed bytes, places against closed forms, refusals by their words."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import BIG, DEFLATED, EXPLICIT, IMPLICIT, Slice, stack_of, write_stack
from volume_cases import refusal

from SynthGANLib.image.geometry import conform
from SynthGANLib.io.dicom.header import read_header
from SynthGANLib.io.dicom.series import list_series
from SynthGANLib.io.volumes import read_volume


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
def test_ct_folder_in_each_encoding(tmp_path, stored, syntax):
    volume = read_volume(write_stack(tmp_path / "größer als 1", stack_of(stored), syntax))
    assert volume.unit == "HU"
    assert volume.meta["modality"] == "CT"
    assert volume.meta["description"] == "größer"
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, stored.astype(np.float32) - 1024)
    expected = np.array([[0.75, 0, 0, -10], [0, 1.5, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    np.testing.assert_allclose(volume.affine, expected, atol=1e-9)
    assert volume.warnings == ()


def test_each_slice_has_its_own_rescale(tmp_path, stored):
    slopes = [0.5, 1.25, 3.0, 0.001, 7.0]
    slices = [
        Slice(plane, (0, 0, 2.0 * index), modality="PT", number=index + 1, rescale=(slopes[index], 0.0))
        for index, plane in enumerate(stored)
    ]
    volume = read_volume(write_stack(tmp_path, slices))
    expected = stored * np.array(slopes)[:, None, None]
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)


def test_compressed_pixels(tmp_path, rng):
    smooth = (np.indices((24, 32)).sum(axis=0) * 9 + rng.integers(0, 5, (24, 32))).astype(np.int16)
    for k in range(3):
        image = sitk.GetImageFromArray(smooth + k)
        for key, value in {
            "0008|0060": "CT",
            "0008|0018": f"1.2.9.{k + 1}",
            "0020|000d": "1.2.8",
            "0020|000e": "1.2.9",
            "0020|0032": f"0\\0\\{3 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|0030": "2\\2",
            "0028|1052": "0",
            "0028|1053": "1",
        }.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetFileName(str(tmp_path / f"{k}.dcm"))
        writer.Execute(image)
    header = read_header(tmp_path / "0.dcm")
    assert header is not None
    assert header.transfer_syntax.startswith("1.2.840.10008.1.2.4")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, np.stack([smooth, smooth + 1, smooth + 2]))
    assert volume.spacing[2] == pytest.approx(3)


def test_signed_twelve_bit_values(tmp_path, rng):
    stored = rng.integers(-2048, 2048, (3, 6, 8), dtype=np.int16)
    volume = read_volume(write_stack(tmp_path, stack_of(stored, bits=12, rescale=(1.0, 0.0))))
    np.testing.assert_array_equal(volume.array, stored)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_keeps_the_stored_numbers(tmp_path, rng, bits, signed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    stored = rng.integers(low, high, (3, 6, 8)).astype(np.int16 if signed else np.uint16)
    slices = stack_of(stored, bits=bits, photometric="MONOCHROME1", rescale=(2.0, -100.0))
    before = [entry.write(tmp_path / f"{entry.number}.dcm").read_bytes() for entry in slices]
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, stored * 2.0 - 100.0)
    assert before == [path.read_bytes() for path in sorted(tmp_path.iterdir())]


def test_real_monochrome1_against_the_raw_bytes(dicom_folder):
    folder = dicom_folder("dicom_pet_MONOCHROME1_simulated")
    volume = read_volume(folder)
    slices = {}
    for path in folder.iterdir():
        data = path.read_bytes()
        # Implicit little endian: tag, 32-bit length, value. The pixels are the last element.
        start = data.rindex(struct.pack("<HHI", 0x7FE0, 0x0010, 256 * 256 * 2)) + 8
        pixels = np.frombuffer(data, "<u2", 256 * 256, start).reshape(256, 256)
        at = data.index(struct.pack("<HH", 0x0028, 0x1053))
        slope = float(data[at + 8 : at + 8 + struct.unpack("<I", data[at + 4 : at + 8])[0]])
        at = data.index(struct.pack("<HH", 0x0020, 0x0032))
        length = struct.unpack("<I", data[at + 4 : at + 8])[0]
        slices[float(data[at + 8 : at + 8 + length].split(b"\\")[2])] = pixels * slope
    expected = np.stack([slices[z] for z in sorted(slices)])
    assert expected.shape == (12, 256, 256)
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    assert volume.array[:, 0, 0].max() < 0.1 * volume.array.max()  # air is dark: nothing is inverted
    assert volume.spacing == pytest.approx((1, 1, 5))
    assert volume.meta["modality"] == "PT"


def test_real_sagittal_prone_mr(dicom_folder):
    volume = read_volume(dicom_folder("dicom_mr_t1_sagittal_HFprone"))
    assert volume.shape == (35, 256, 256)
    assert volume.grid.orientation == "PIR"  # rows run to posterior, columns down, and right-handed slices to the right
    assert volume.spacing == pytest.approx((1.015625, 1.015625, 4.8), abs=1e-5)
    assert volume.origin == pytest.approx((81.6, -130, 130), abs=1e-4)
    assert volume.unit == "1"


def test_real_variable_spacing_is_refused_with_its_distances(dicom_folder):
    error = refusal(read_volume, dicom_folder("dicom_ct_head_GE_gantry18.5_variable_spacing"))
    assert "13 gaps of 4.00 mm, then 1 gap of 1.08 mm, then 13 gaps of 7.00 mm" in str(error)
    assert "one spacing" in error.next_step


def test_real_tilted_gantry_keeps_its_place(dicom_folder, tmp_path):
    source = dicom_folder("dicom_ct_head_GE_gantry18.5_variable_spacing")
    for path in sorted(source.iterdir())[:14]:
        (tmp_path / path.name).symlink_to(path)
    volume = read_volume(tmp_path)
    assert volume.unit == "HU"
    assert not volume.grid.orthogonal
    assert any("18.5 degrees" in warning for warning in volume.warnings)
    # The table runs along z only, as ImagePositionPatient says; the planes lean.
    np.testing.assert_allclose(volume.affine[:3, 2], (0, 0, 4.22), atol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 1] / 0.4882812, (0, 0.9483237, -0.3173047), atol=1e-6)
    straight = conform(volume, fill=-1000.0)
    assert straight.volume.grid.orthogonal
    # The brightest voxel stays where it was, within half a voxel of either grid.
    bright = np.unravel_index(np.argmax(volume.array), volume.shape)
    nearest = straight.volume.grid.to_index(volume.grid.to_world(np.array(bright[::-1], float)))
    i, j, k = np.rint(nearest).astype(int)
    around = straight.volume.array[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2]
    assert around.max() > 0.5 * volume.array.max()


def test_tilted_stack_against_its_closed_form(tmp_path, stored):
    lean = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(lean), -np.sin(lean))
    volume = read_volume(write_stack(tmp_path, stack_of(stored, (0, 0, 3), orientation=orientation)))
    np.testing.assert_allclose(volume.affine[:3, 2], (0, 0, 3), atol=1e-8)
    assert not volume.grid.orthogonal
    np.testing.assert_array_equal(volume.array, stored.astype(np.float32) - 1024)


@pytest.mark.parametrize(
    ("orientation", "step", "letters"),
    [
        ((1, 0, 0, 0, 1, 0), (0, 0, 3), "LPS"),
        ((0, 1, 0, 0, 0, -1), (2, 0, 0), "PIR"),
        ((1, 0, 0, 0, 0, -1), (0, -2, 0), "LIP"),
        ((-1, 0, 0, 0, 1, 0), (0, 0, 3), "RPI"),
    ],
)
def test_slice_order_follows_positions_not_names(tmp_path, stored, orientation, step, letters):
    volume = read_volume(write_stack(tmp_path, stack_of(stored, step, orientation=orientation)))
    assert volume.grid.orientation == letters
    # Whatever the order of k, the voxel at the first slice's position holds the first slice's first value.
    k = np.rint(volume.grid.to_index(np.array([-10.0, 20.0, 30.0])))[2]
    assert volume.array[int(k), 0, 0] == stored[0, 0, 0] - 1024.0
    assert np.linalg.det(volume.affine[:3, :3]) > 0


def test_missing_slices_are_counted_and_placed(tmp_path, rng):
    slices = stack_of(rng.integers(0, 9, (9, 4, 4), dtype=np.uint16))
    del slices[5:7]
    error = refusal(read_volume, write_stack(tmp_path, slices))
    assert str(error).startswith("2 of 9 slices are missing, the first between (-10, 20, 40) mm and (-10, 20, 47.5)")
    assert "again" in error.next_step


def test_sideways_shift_is_refused(tmp_path, stored):
    slices = stack_of(stored)
    slices[2] = Slice(stored[2], (-9.0, 20.0, 35.0), number=3)
    assert "shifted sideways by up to" in str(refusal(read_volume, write_stack(tmp_path, slices)))


def test_rounded_positions_are_accepted_with_a_warning(tmp_path, stored):
    slices = [
        Slice(plane, (0.0, 0.0, round(0.6250 * index, 1)), number=index + 1) for index, plane in enumerate(stored)
    ]
    volume = read_volume(write_stack(tmp_path, slices))
    assert volume.spacing[2] == pytest.approx(0.625, abs=0.03)
    assert any("even grid" in warning for warning in volume.warnings)


def test_stored_twice_is_used_once(tmp_path, stored):
    slices = stack_of(stored)
    volume = read_volume(write_stack(tmp_path, [*slices, slices[1], slices[3]]))
    assert volume.shape == stored.shape
    assert any(warning.startswith("2 images were stored twice") for warning in volume.warnings)


def test_two_different_images_at_one_place_are_refused(tmp_path, stored):
    slices = stack_of(stored)
    other = Slice(stored[0], slices[2].position, number=77)
    error = refusal(read_volume, write_stack(tmp_path, [*slices, other]))
    assert "2 different images lie at (-10, 20, 35) mm" in str(error)


def test_echoes_are_frames(tmp_path, rng):
    stored = rng.integers(0, 99, (2, 4, 5, 6), dtype=np.uint16)  # (echo, z, y, x)
    slices = [
        Slice(
            stored[echo, k],
            (0, 0, 2.0 * k),
            modality="MR",
            rescale=None,
            number=10 * echo + k,
            extra={0x00180081: (20.0, 80.0)[echo]},
        )
        for k in range(4)
        for echo in (1, 0)
    ]
    folder = write_stack(tmp_path, slices)
    error = refusal(read_volume, folder)
    assert "2 images at each of its 4 places" in str(error)
    assert "frame=0 to 1" in error.next_step
    np.testing.assert_array_equal(read_volume(folder, frame=0).array, stored[0])
    np.testing.assert_array_equal(read_volume(folder, frame=1).array, stored[1])
    assert "no frame 2" in str(refusal(read_volume, folder, frame=2))


def test_several_series_are_listed_and_chosen(tmp_path, stored):
    write_stack(tmp_path / "a", stack_of(stored, series="1.2.777"))
    write_stack(
        tmp_path / "b",
        [entry.with_extra({0x00200011: 9}) for entry in stack_of(stored[:3], series="1.2.888")],
    )
    error = refusal(read_volume, tmp_path)
    assert "2 series" in str(error)
    assert re.search(r"7 'größer' CT 8 x 6 x 5 \(1\.2\.777\); 9 'größer' CT 8 x 6 x 3 \(1\.2\.888\)", str(error))
    assert [info.uid for info in list_series(tmp_path)] == ["1.2.777", "1.2.888"]
    for name in ("1.2.888", "888", "9"):
        assert read_volume(tmp_path, series=name).shape[0] == 3
    assert "No series answers" in str(refusal(read_volume, tmp_path, series="nothing"))
    assert "Several series answer" in str(refusal(read_volume, tmp_path, series="1.2"))


def test_mixed_planes_sizes_and_spacings_are_refused(tmp_path, stored):
    slices = stack_of(stored)
    turned = Slice(stored[0], (0, 0, 0), (0, 1, 0, 0, 0, -1), number=8)
    assert "2 different planes" in str(refusal(read_volume, write_stack(tmp_path / "planes", [*slices, turned])))
    larger = Slice(np.zeros((9, 9), np.uint16), (0, 0, 0), number=8)
    assert "6 x 8, 9 x 9" in str(refusal(read_volume, write_stack(tmp_path / "sizes", [*slices, larger])))
    zoomed = Slice(stored[0], (-10, 20, 60), spacing=(3.0, 3.0), number=8)
    assert "pixel spacing" in str(refusal(read_volume, write_stack(tmp_path / "zoom", [*slices, zoomed])))


def test_one_slice_takes_its_thickness_from_the_header(tmp_path, stored):
    volume = read_volume(Slice(stored[0], (1, 2, 3)).write(tmp_path / "one.dcm"))
    assert volume.shape == (1, 6, 8)
    assert volume.spacing == pytest.approx((0.75, 1.5, 2.0))
    assert volume.origin == pytest.approx((1, 2, 3))
    thin = Slice(stored[0]).with_extra({0x00180050: None}).write(tmp_path / "thin.dcm")
    assert any("1 mm was assumed" in warning for warning in read_volume(thin).warnings)


def test_real_colour_capture(shared_data):
    path = shared_data / "geometry" / "pydicom_SC_rgb.dcm"
    volume = read_volume(path)
    raw = np.frombuffer(path.read_bytes()[-30000:], np.uint8).reshape(1, 100, 100, 3)
    np.testing.assert_array_equal(volume.array, raw)
    assert volume.unit == "RGB"


def test_ct_without_rescale_is_not_called_hu(tmp_path, stored):
    volume = read_volume(write_stack(tmp_path, stack_of(stored, rescale=None)))
    assert volume.unit == "1"
    assert "not taken as HU" in volume.warnings[0]
