"""What readers keep to themselves: lengths that are not mm, damaged compression, names that are no text."""

from __future__ import annotations

import os
import struct
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert caught.value.next_step
    return str(caught.value)


@pytest.fixture
def ball(rng):
    return Volume(rng.normal(size=(20, 30, 40)).astype(np.float32), np.diag([2.0, 3.0, 4.0, 1.0]))


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        ('space units: "m" "m" "m"', "m"),
        ('Space Units: "mm" "mm" "um"', "um"),
        ('space units: "mm" "mm" "mm"', None),
        ('space units: "millimeters" "" "mm"', None),
        ("", None),
    ],
)
def test_lengths_of_nrrd_are_mm_or_refused(tmp_path, fields, unit):
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n"
        "space directions: (2,0,0) (0,2,0) (0,0,3)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n"
    )
    path = tmp_path / "v.nrrd"
    path.write_bytes((header + fields + "\n" * (1 + bool(fields))).encode() + np.arange(24, dtype="<i2").tobytes())
    if unit is None:
        assert read_volume(path).spacing == (2.0, 2.0, 3.0)
    else:
        assert f"'{unit}'" in refusal(path)


@pytest.mark.parametrize("damage", [b"\xff\x00", b""])
def test_damaged_compression_of_metaimage_is_noticed(tmp_path, ball, damage):
    path = tmp_path / "v.mha"
    sitk.WriteImage(ball.to_sitk(), str(path), useCompression=True)
    np.testing.assert_array_equal(read_volume(path).array, ball.array)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + damage + whole[middle + 2 :])
    assert "damaged" in refusal(path)


def test_detached_and_plain_metaimage_are_read(tmp_path, ball):
    for compressed in (False, True):
        sitk.WriteImage(ball.to_sitk(), str(tmp_path / "v.mhd"), useCompression=compressed)
        np.testing.assert_array_equal(read_volume(tmp_path / "v.mhd").array, ball.array)
    next(tmp_path.glob("*.zraw")).write_bytes(b"nothing")
    assert "damaged" in refusal(tmp_path / "v.mhd")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii", ".nii.gz"])
def test_suffixes_in_capitals_are_read(tmp_path, ball, suffix):
    write_volume(ball, tmp_path / f"v{suffix}")
    (tmp_path / f"v{suffix}").rename(tmp_path / f"V{suffix.upper()}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"V{suffix.upper()}").array, ball.array)


def test_impossible_nifti_headers_are_refused_by_name(tmp_path, ball):
    write_volume(ball, tmp_path / "v.nii")
    whole = bytearray((tmp_path / "v.nii").read_bytes())
    struct.pack_into("<hh12f", whole, 252, 0, 2, *[0.0] * 12)
    struct.pack_into("<12f", whole, 280, *[float("nan")] * 12)
    (tmp_path / "nan.nii").write_bytes(whole)
    assert "nan.nii" in refusal(tmp_path / "nan.nii")
    whole = bytearray((tmp_path / "v.nii").read_bytes())
    struct.pack_into("<h", whole, 44, -30)
    (tmp_path / "negative.nii").write_bytes(whole)
    assert "negative.nii" in refusal(tmp_path / "negative.nii")


def test_flat_nifti_in_other_lengths_than_mm(tmp_path):
    image = sitk.GetImageFromArray(np.ones((4, 5), np.float32))
    image.SetSpacing((2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "v.nii"))
    content = bytearray((tmp_path / "v.nii").read_bytes())
    content[123] = 3  # micrometres
    (tmp_path / "v.nii").write_bytes(content)
    np.testing.assert_allclose(read_volume(tmp_path / "v.nii").spacing[:2], (0.002, 0.003))


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="such names cannot be made there")
def test_names_that_are_no_text_are_refused(tmp_path, ball):
    write_volume(ball, tmp_path / "v.nrrd")
    odd = tmp_path / os.fsdecode(b"o\xff.nrrd")
    (tmp_path / "v.nrrd").rename(odd)
    assert "encoding" in refusal(odd)
    with pytest.raises(InputError, match="encoding"):
        write_volume(ball, tmp_path / os.fsdecode(b"p\xff.nrrd"))
