"""Every write is whole or not at all, and never at the cost of an older file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from volume_cases import refusal

from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume

ROOT = Path(__file__).resolve().parents[3]


def test_hounsfield_units_are_rounded_and_held(tmp_path):
    values = np.array([-1024.4, -0.5, 0.6, 41.5, 40000.0, -1e9], np.float32).reshape(1, 2, 3)
    write_volume(Volume(values, np.eye(4), "HU"), tmp_path / "ct.nrrd")
    image = sitk.ReadImage(str(tmp_path / "ct.nrrd"))
    assert image.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).ravel(), [-1024, 0, 1, 42, 32767, -32768])
    assert read_volume(tmp_path / "ct.nrrd").unit == "HU"


def test_existing_files_are_kept_unless_forced(tmp_path, oblique_volume):
    path = tmp_path / "v.nii.gz"
    path.write_bytes(b"precious")
    assert "exists" in str(refusal(write_volume, oblique_volume, path))
    assert path.read_bytes() == b"precious"
    write_volume(oblique_volume, path, force=True)
    np.testing.assert_array_equal(read_volume(path).array, oblique_volume.array)
    assert os.listdir(tmp_path) == ["v.nii.gz"]


def test_links_stay_links(tmp_path, oblique_volume):
    (tmp_path / "there").mkdir()
    (tmp_path / "v.nrrd").symlink_to(tmp_path / "there" / "real.nrrd")
    write_volume(oblique_volume, tmp_path / "v.nrrd", force=True)
    assert (tmp_path / "v.nrrd").is_symlink()
    np.testing.assert_array_equal(read_volume(tmp_path / "there" / "real.nrrd").array, oblique_volume.array)


def test_written_files_have_the_usual_rights(tmp_path, oblique_volume):
    write_volume(oblique_volume, tmp_path / "v.nrrd")
    (tmp_path / "plain").touch()
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "v.nrrd").stat().st_mode) == usual


def test_targets_that_cannot_hold_the_volume(tmp_path, oblique_volume):
    for name, words in {
        "v.jpg": "no kind",
        "v": "no kind",
        "v.mhd": "no kind",
        "v.png": "one color slice",
        "missing/v.nrrd": "does not exist",
    }.items():
        error = refusal(write_volume, oblique_volume, tmp_path / name)
        assert words in str(error)
        assert error.next_step
    (tmp_path / "folder.nrrd").mkdir()
    assert "is a folder" in str(refusal(write_volume, oblique_volume, tmp_path / "folder.nrrd", force=True))
    empty = Volume(np.empty((0, 3, 3)), np.eye(4))
    assert "no voxels" in str(refusal(write_volume, empty, tmp_path / "e.nrrd"))
    broken = oblique_volume.with_array(np.full(oblique_volume.shape, np.nan))
    assert "NaN" in str(refusal(write_volume, broken, tmp_path / "n.nrrd"))
    sheared = oblique_volume.affine.copy()
    sheared[:3, 2] += 0.3 * sheared[:3, 1]
    leaning = Volume(oblique_volume.array, sheared)
    assert "sheared" in str(refusal(write_volume, leaning, tmp_path / "s.nii.gz"))
    write_volume(leaning, tmp_path / "s.nrrd")
    np.testing.assert_allclose(read_volume(tmp_path / "s.nrrd").affine, sheared, atol=1e-12)
    assert sorted(os.listdir(tmp_path)) == ["folder.nrrd", "s.nrrd"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, suffix):
    # A limit on the file size fails like a full disk, in a process of its own because it cannot be lifted again.
    script = f"""
        import resource, signal, sys
        import numpy as np
        from SynthGANLib.errors import InputError
        from SynthGANLib import Volume, write_volume

        volume = Volume(np.random.default_rng(0).normal(size=(40, 50, 60)), np.eye(4))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for name in ("old{suffix}", "new{suffix}"):
            try:
                write_volume(volume, sys.argv[1] + "/" + name, force=True)
            except InputError as error:
                print(error, error.next_step)
            else:
                sys.exit("no error")
    """
    (tmp_path / f"old{suffix}").write_bytes(b"precious")
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("could not be written") == 2
    assert done.stdout.count("nothing was changed") == 2
    assert os.listdir(tmp_path) == [f"old{suffix}"]
    assert (tmp_path / f"old{suffix}").read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png"])
def test_a_disk_that_lacks_a_few_bytes_is_noticed(tmp_path, suffix):
    # Some writers lose what they write as they close the file, and say nothing.
    script = f"""
        import resource, signal, sys
        import numpy as np
        from SynthGANLib.errors import InputError
        from SynthGANLib import Volume, write_volume

        dice = np.random.default_rng(0)
        volume = Volume(dice.normal(0, 500, (20, 20, 20)), np.eye(4), "HU")
        if "{suffix}" == ".png":
            volume = Volume(dice.integers(0, 255, (1, 60, 60, 3)).astype(np.uint8), np.eye(4), "RGB")
        path = __import__("pathlib").Path(sys.argv[1]) / "v{suffix}"
        write_volume(volume, path)
        size = path.stat().st_size
        path.unlink()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for lacking in (1, 2, 4, 9, 30, 200, 1000, 3000, 5000, 8000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - lacking, resource.RLIM_INFINITY))
            try:
                write_volume(volume, path)
            except InputError:
                continue
            sys.exit(f"cut off by {{lacking}} of {{size}} bytes and not noticed")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == []


def test_killed_writer_leaves_the_old_file(tmp_path):
    # The process dies between writing and renaming.
    script = """
        import os, sys
        import numpy as np
        from SynthGANLib import Volume, write_volume

        os.replace = lambda *_: os._exit(9)
        write_volume(Volume(np.zeros((4, 4, 4)), np.eye(4)), sys.argv[1], force=True)
    """
    path = tmp_path / "v.nrrd"
    path.write_bytes(b"precious")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], cwd=ROOT, timeout=120)
    assert done.returncode == 9
    assert path.read_bytes() == b"precious"


def test_failing_rename_is_reported_and_cleaned_up(tmp_path, oblique_volume, monkeypatch):
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", fail)
    assert "Permission denied" in str(refusal(write_volume, oblique_volume, tmp_path / "v.mha"))
    assert os.listdir(tmp_path) == []
