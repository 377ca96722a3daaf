"""No file is decompressed twice where once is enough."""

from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from volume_cases import refusal

from SynthGANLib.image.volume import Volume
from SynthGANLib.io import integrity, nifti
from SynthGANLib.io.volumes import read_volume, write_volume

HEADER = 352


@pytest.fixture
def unpacked(monkeypatch):
    """Bytes that Python unpacks from gzip files."""
    counts = [0]
    plain = gzip.GzipFile.read

    def read(file, size=-1):
        data = plain(file, size)
        counts[0] += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", read)
    return counts


@pytest.fixture
def itk_voxels(monkeypatch):
    """Voxels of each image that ITK reads."""
    counts = []
    plain = sitk.ImageFileReader.Execute

    def execute(reader):
        image = plain(reader)
        counts.append(image.GetNumberOfPixels())
        return image

    monkeypatch.setattr(sitk.ImageFileReader, "Execute", execute)
    return counts


def scaled(path, slope):
    """Give the header of a ``.nii.gz`` file another slope."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<f", content, 112, slope)
    path.write_bytes(gzip.compress(bytes(content)))


@pytest.mark.parametrize("unit", ["HU", "1", "label"])
def test_itk_alone_unpacks_plain_nifti(tmp_path, oblique_volume, unpacked, itk_voxels, unit):
    values = np.rint(100 * oblique_volume.array).astype(np.int16)
    write_volume(Volume(values, oblique_volume.affine, unit), tmp_path / "v.nii.gz")
    assert unpacked == [HEADER]  # the check after writing
    np.testing.assert_array_equal(read_volume(tmp_path / "v.nii.gz", unit=unit).array, values)
    assert unpacked == [2 * HEADER]
    assert itk_voxels == [values.size]


def test_scaled_nifti_is_unpacked_once(tmp_path, oblique_volume, unpacked, itk_voxels):
    values = np.rint(100 * oblique_volume.array).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "v.nii.gz"))
    scaled(tmp_path / "v.nii.gz", 0.5)
    size = len(gzip.decompress((tmp_path / "v.nii.gz").read_bytes()))
    unpacked[0] = 0
    np.testing.assert_array_equal(read_volume(tmp_path / "v.nii.gz").array, 0.5 * values)
    assert unpacked == [HEADER + size]
    assert itk_voxels == [1]  # for the place


def test_plain_files_are_read_once(tmp_path, rng, monkeypatch, itk_voxels):
    values = rng.normal(size=(6, 7, 8)).astype(np.float32)
    values[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "v.nii"))
    passes = []
    plain = nifti._open
    monkeypatch.setattr(nifti, "_open", lambda path: passes.append(path) or plain(path))
    np.testing.assert_array_equal(read_volume(tmp_path / "v.nii").array, values)
    assert len(passes) == 2  # the header, then the voxels
    assert itk_voxels == [1]


def test_compressed_metaimage_is_unpacked_by_itk_alone(tmp_path, oblique_volume, monkeypatch):
    sitk.WriteImage(oblique_volume.to_sitk(), str(tmp_path / "v.mha"), useCompression=True)
    calls = []
    plain = zlib.decompressobj
    monkeypatch.setattr(integrity.zlib, "decompressobj", lambda *bits: calls.append(bits) or plain(*bits))
    read_volume(tmp_path / "v.mha")
    assert calls == []
    content = bytearray((tmp_path / "v.mha").read_bytes())
    content[-2] ^= 1
    (tmp_path / "v.mha").write_bytes(content)
    assert "damaged" in str(refusal(read_volume, tmp_path / "v.mha"))
    assert len(calls) == 1


@pytest.mark.parametrize("place", [-1, -6, -30])
def test_a_changed_byte_near_the_end_is_noticed(tmp_path, oblique_volume, place):
    """The last eight bytes are the checksum and the size; what stands before them are voxels."""
    write_volume(oblique_volume, tmp_path / "v.nii.gz")
    content = bytearray((tmp_path / "v.nii.gz").read_bytes())
    content[place] ^= 1
    (tmp_path / "v.nii.gz").write_bytes(content)
    assert "damaged" in str(refusal(read_volume, tmp_path / "v.nii.gz"))


def test_headers_that_promise_more_than_a_file_can_hold(tmp_path, oblique_volume):
    write_volume(oblique_volume, tmp_path / "v.nii")
    content = bytearray((tmp_path / "v.nii").read_bytes())
    struct.pack_into("<3h", content, 42, 32000, 32000, 32000)
    for name, data in (("v.nii", bytes(content)), ("v.nii.gz", gzip.compress(bytes(content)))):
        (tmp_path / name).write_bytes(data)
        assert "cut off" in str(refusal(read_volume, tmp_path / name))
    struct.pack_into("<f", content, 108, 3e38)
    (tmp_path / "v.nii").write_bytes(content)
    assert "cut off" in str(refusal(read_volume, tmp_path / "v.nii"))


@pytest.mark.parametrize(("slope", "intercept"), [(0.37, -11.3), (-2.0, 0.0), (0.0, 7.0), (float("nan"), 3.0)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", [(2, "u1"), (4, "i2"), (8, "i4"), (768, "u4"), (16, "f4"), (64, "f8")])
def test_scaled_values_are_those_of_itk(tmp_path, rng, slope, intercept, order, code):
    number, kind = code
    stored = rng.integers(0, 200, (4, 5, 6)).astype(order + kind)
    head = bytearray(HEADER)
    struct.pack_into(order + "i", head, 0, 348)
    struct.pack_into(order + "8h", head, 40, 3, 6, 5, 4, 1, 1, 1, 1)
    struct.pack_into(order + "2h", head, 70, number, stored.itemsize * 8)
    struct.pack_into(order + "4f", head, 76, 1, 1, 2, 3)
    struct.pack_into(order + "3f", head, 108, HEADER, slope, intercept)
    struct.pack_into(order + "h", head, 252, 1)
    head[344:348] = b"n+1\0"
    path = tmp_path / "v.nii.gz"
    path.write_bytes(gzip.compress(bytes(head) + stored.tobytes()))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(read_volume(path).array, expected.astype(np.float32))
