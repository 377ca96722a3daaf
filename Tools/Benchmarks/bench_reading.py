"""Time of `read_volume` beside SimpleITK's `ReadImage` of the same file, as a ratio for each format.

    python Tools/Benchmarks/bench_reading.py [VOLUME ...]

Without a volume, a drawn head of five million voxels is written and read. The two take turns in one process after a
first reading that is not counted; the medians of seven are compared.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
REPEATS = 7


def seconds(call: Callable[[], object]) -> float:
    """The time that one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(path: Path) -> tuple[float, float]:
    """Medians in seconds of SimpleITK's reading and of ours."""
    import SimpleITK as sitk

    from SynthGANLib import read_volume

    calls = (lambda: sitk.ReadImage(str(path)), lambda: read_volume(path))
    times = [[seconds(call) for call in calls] for _ in range(REPEATS + 1)][1:]
    theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
    return theirs, ours


def draw_files(folder: Path) -> list[Path]:
    """A drawn head of five million voxels in each volume format, as int16 and as float32."""
    import numpy as np

    from SynthGANLib import Volume, write_volume

    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[-1:1:170j, -1:1:172j, -1:1:172j]
    inside = z**2 + y**2 + x**2 < 0.6
    head = np.hypot(300 * inside + rng.normal(0, 12, z.shape), rng.normal(0, 12, z.shape)).round()
    files = []
    for unit in ("HU", "1"):
        for suffix in (".nii.gz", ".nii", ".nrrd", ".mha"):
            path = folder / f"{'int16' if unit == 'HU' else 'float32'}{suffix}"
            write_volume(Volume(head, np.eye(4), unit), path)
            files.append(path)
        # As most programs compress; at the level of `write_volume` noise is hardly compressed at all.
        (folder / files[-4].name).write_bytes(gzip.compress(files[-3].read_bytes(), 6))
    return files


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", nargs="*", type=Path, metavar="VOLUME", help="files to read instead of a drawn head")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for path in options.volumes or draw_files(Path(folder)):
            theirs, ours = measure(path)
            print(f"{path.name}: SimpleITK {theirs * 1e3:.1f} ms, ours {ours * 1e3:.1f} ms, ratio {ours / theirs:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
