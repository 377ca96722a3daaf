"""Fixtures of all tests: where the real data lies, and small volumes with awkward places."""

from __future__ import annotations

import locale
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from volume_cases import oblique_affine

from SynthGANLib.image.volume import Volume

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """The process's locale stays as it is: ITK's decoder of compressed DICOM leaves it at "C", where text is ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images, by SYNTHGAN_TEST_DATA or beside the checkout; skips where it is absent."""
    named = os.environ.get("SYNTHGAN_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; name its folder in SYNTHGAN_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def dicom_folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks one of the zipped DICOM series of the real data, once a session, and gives its folder."""
    unpacked: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in unpacked:
            unpacked[name] = tmp_path_factory.mktemp(name)
            with zipfile.ZipFile(shared_data / "geometry" / f"{name}.zip") as archive:
                archive.extractall(unpacked[name])
        return unpacked[name]

    return unpack


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers in every run."""
    return np.random.default_rng(20240607)


@pytest.fixture
def oblique_volume(rng: np.random.Generator) -> Volume:
    """A small random float32 volume with anisotropic voxels and turned axes."""
    return Volume(rng.normal(size=(7, 9, 11)).astype(np.float32), oblique_affine(), "1", {"modality": "MR"})


@pytest.fixture
def sphere_volume(rng: np.random.Generator) -> Volume:
    """A bright noisy ball of 36 mm radius with an air-filled cave in dark noise; 2 mm voxels, turned axes."""
    z, y, x = np.indices((48, 52, 50)) * 2.0
    distance = np.sqrt((z - 47) ** 2 + (y - 51) ** 2 + (x - 49) ** 2)
    cave = np.sqrt((z - 47) ** 2 + (y - 41) ** 2 + (x - 49) ** 2) < 10
    clean = np.where((distance < 36) & ~cave, 300.0, 0.0)
    noisy = np.hypot(clean + rng.normal(0, 12, clean.shape), rng.normal(0, 12, clean.shape))
    return Volume(noisy.astype(np.float32), oblique_affine((2.0, 2.0, 2.0)), "1", {"modality": "MR"})


@pytest.fixture
def stored(rng: np.random.Generator) -> np.ndarray:
    """The numbers (z, y, x) a small CT stores, air to bone."""
    return rng.integers(0, 3000, (5, 6, 8), dtype=np.uint16)
