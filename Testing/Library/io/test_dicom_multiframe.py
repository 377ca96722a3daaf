"""Many frames in one file, and files that are damaged."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from dicom_cases import BIG, DELIMITED, EXPLICIT, IMPLICIT, Slice
from volume_cases import refusal

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.dicom.header import read_header
from SynthGANLib.io.volumes import read_volume


def enhanced(stored: np.ndarray, heights: list[float], slopes: list[float] | None = None) -> Slice:
    """A multiframe CT with functional groups."""
    own = [
        {0x00209113: [{0x00200032: (-5.0, 6.0, height)}]}
        | ({0x00289145: [{0x00281052: -1024.0, 0x00281053: slope}]} if slopes else {})
        for height, slope in zip(heights, slopes or heights, strict=True)
    ]
    shared = {
        0x00209116: [{0x00200037: (1, 0, 0, 0, 1, 0)}],
        0x00289110: [{0x00180050: 4.0, 0x00280030: (0.5, 0.25)}],
    } | ({} if slopes else {0x00289145: [{0x00281052: -1024.0, 0x00281053: 1.0}]})
    extra = {
        0x52009229: [shared],
        0x52009230: own,
        0x00280030: None,
        0x00080016: "1.2.840.10008.5.1.4.1.1.2.1",
    }
    return Slice(stored, None, rescale=None, extra=extra)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DELIMITED])
def test_enhanced_frames_are_ordered_and_placed(tmp_path, stored, syntax):
    heights = [8.0, 0.0, 4.0, 16.0, 12.0]
    volume = read_volume(enhanced(stored, heights).write(tmp_path / "e.dcm", syntax))
    np.testing.assert_array_equal(volume.array, stored[np.argsort(heights)].astype(np.float32) - 1024)
    assert volume.spacing == pytest.approx((0.25, 0.5, 4.0))
    assert volume.origin == pytest.approx((-5, 6, 0))
    assert volume.unit == "HU"


def test_enhanced_with_gaps_or_mixed_rescale_is_refused(tmp_path, stored):
    gaps = enhanced(stored, [0, 4, 8, 16, 20]).write(tmp_path / "gaps.dcm")
    assert "1 of 6 slices are missing" in str(refusal(read_volume, gaps))
    mixed = enhanced(stored, [0, 4, 8, 12, 16], [1.0, 1.0, 2.0, 1.0, 1.0]).write(tmp_path / "mixed.dcm")
    assert "different rescale" in str(refusal(read_volume, mixed))


def test_real_enhanced_ct(shared_data):
    volume = read_volume(shared_data / "geometry" / "pydicom_eCT_Supplemental.dcm")
    assert volume.shape == (2, 512, 512)
    assert volume.spacing == pytest.approx((0.388672, 0.388672, 10.0))
    # Rows run to the right, so the right-handed normal points down and the upper slice comes first.
    assert volume.origin == pytest.approx((99.5, -301.5, -149.0))
    assert volume.unit == "1"
    assert "type 'US'" in volume.warnings[0]
    data = (shared_data / "geometry" / "pydicom_eCT_Supplemental.dcm").read_bytes()
    raw = np.frombuffer(data[-2 * 512 * 512 * 2 :], "<u2").reshape(2, 512, 512)
    np.testing.assert_array_equal(volume.array, raw[::-1].astype(np.float32) - 1024)


@pytest.mark.parametrize("name", ["pydicom_emri_small.dcm", "pydicom_emri_small_big_endian.dcm"])
def test_real_multiframe_without_positions_needs_a_frame(shared_data, name):
    path = shared_data / "geometry" / name
    assert "10 images have no position" in str(refusal(read_volume, path))
    order = ">u2" if "big" in name else "<u2"
    raw = np.frombuffer(path.read_bytes()[-81920:], order).reshape(10, 64, 64)
    volume = read_volume(path, frame=3)
    np.testing.assert_array_equal(volume.array[0], raw[3])
    assert any("no position" in warning for warning in volume.warnings)


@pytest.mark.slow
def test_random_damage_never_escapes_as_another_error(tmp_path, stored, rng):
    path = enhanced(stored, [0, 4, 8, 12, 16]).write(tmp_path / "x.dcm")
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    header = whole.size - stored.nbytes
    read = refused = 0
    for _ in range(150):
        damaged = whole.copy()
        places = rng.integers(132, header, rng.integers(1, 6))
        damaged[places] = rng.integers(0, 256, places.size)
        path.write_bytes(damaged.tobytes())
        try:
            volume = read_volume(path)
        except InputError:
            refused += 1
        else:
            assert isinstance(volume, Volume)
            read += 1
    assert read + refused == 150
    assert refused > 10


def test_damaged_files_and_folders(tmp_path, stored):
    path = Slice(stored[0]).write(tmp_path / "cut.dcm")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert "cut off or damaged" in str(refusal(read_volume, path))
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut.dcm" in str(refusal(read_volume, path))
    path.write_bytes(b"")
    assert "no DICOM file" in str(refusal(read_volume, path))
    assert "no DICOM images" in str(refusal(read_volume, tmp_path))
    report = tmp_path / "report.dcm"
    Slice(stored[0]).with_extra({0x7FE00010: None}).write(report)
    assert "holds no image" in str(refusal(read_volume, report))
    assert "no DICOM images" in str(refusal(read_volume, tmp_path))


def test_header_without_preamble(tmp_path, stored):
    path = Slice(stored[0]).write(tmp_path / "old.dcm", IMPLICIT)
    data = path.read_bytes()
    body = data[132 + 12 + struct.unpack("<I", data[140:144])[0] :]  # behind the meta information
    path.write_bytes(body)
    header = read_header(path)
    assert header is not None
    assert header.text(0x00080060) == "CT"
    assert header.pixels == "integer"


def test_real_float_map_is_refused(shared_data):
    assert "floating-point pixels" in str(
        refusal(read_volume, shared_data / "geometry" / "pydicom_parametric_map_float.dcm")
    )


@pytest.mark.parametrize("name", ["pydicom_vlut_04.dcm", "pydicom_emri_small_big_endian.dcm", "pydicom_SC_rgb.dcm"])
def test_a_real_file_cut_off_within_a_value_is_refused(shared_data, tmp_path, name):
    whole = (shared_data / "geometry" / name).read_bytes()
    for length in (len(whole) - 1, len(whole) - 3, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:length])
        assert "cut off or damaged" in str(refusal(read_volume, tmp_path / name))
