"""Compare the skull in synthetic CT with that in the CT of real patients; `--out Docs/real_heads.md` writes a table.

Registered CT and MR slices of the Whole Brain Atlas: real patients, most with disease, one MR each. Their CT is a
picture in a narrow window without Hounsfield units, in which only bone is white, so only the position of bone can be
compared. The white part is somewhat wider than bone, since voxels that are partly bone are also white.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.model.model import Model

ROOT = Path(__file__).resolve().parents[2]
SLICES = Path("harvard_aanlib", "ct_mr")
SPACING_MM = (0.9375, 0.9375, 5.0)
"""Voxels (x, y, z) as the atlas describes its images in general; the files carry none."""
WHITE = 250
BONE_HU = 150.0


@dataclass(frozen=True)
class Patient:
    """One patient: the MR, and the mask (z,y,x) of bone in its CT."""

    name: str
    mr: Volume
    bone: Array


def longest_run(numbers: list[int]) -> list[int]:
    """The longest part of ascending slice numbers without a gap, the first of several."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return max(runs, key=len)


def largest_part(mask: Array) -> Array:
    """The largest connected part of a mask (z,y,x): the skull without the headrest."""
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
    return np.asarray(sitk.GetArrayFromImage(parts)) == 1


def patients(data: Path) -> Iterator[Patient]:
    """Each patient below the data folder, in the order of the names."""
    for folder in sorted(p for p in (data / SLICES).iterdir() if p.is_dir()):
        numbers = longest_run(sorted(int(p.name.split("_")[0]) for p in folder.glob("*_mr.png")))

        def stack(kind: str, folder: Path = folder, numbers: list[int] = numbers) -> Array:
            slices = [read_volume(folder / f"{n:03d}_{kind}.png").array for n in numbers]
            gray = [s[0] if s.ndim == 3 else s[0].mean(-1) for s in slices]
            return np.stack(gray).astype(np.float32)

        mr = Volume(stack("mr"), np.diag([*SPACING_MM, 1.0]), "1", {"modality": "MR"})
        yield Patient(folder.name, mr, largest_part(stack("ct") >= WHITE))


def dice(a: Array, b: Array) -> float:
    """Dice coefficient of two masks: 1 where they are the same, 0 where they share nothing."""
    return float(2.0 * (a & b).sum() / max(1, int(a.sum()) + int(b.sum())))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real images that holds harvard_aanlib")
    parser.add_argument("--models", type=Path, nargs="+", help="model folders; the bundled ones without this")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not (options.data / SLICES).is_dir():
        print(f"There are no slices in {options.data / SLICES}: name the folder of the real images.", file=sys.stderr)
        return 2
    folders = options.models or sorted(p for p in (ROOT / "Resources" / "Models").iterdir() if p.is_dir())
    models = [Model.load(folder) for folder in folders]
    names = [f"{model.card.id} {model.card.version}" for model in models]
    rows, scores = [], []
    for patient in patients(options.data):
        found = [dice(synthesize(patient.mr, model).array > BONE_HU, patient.bone) for model in models]
        scores.append(found)
        rows.append(f"| {patient.name} | {len(patient.bone)} | {' | '.join(f'{score:.2f}' for score in found)} |")
        print(rows[-1], flush=True)
    means = " | ".join(f"{mean:.2f}" for mean in np.mean(scores, axis=0))
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "SimpleITK"))
    lines = [
        "# The skull of real patients",
        "",
        "Written by `make real-heads` (`Tools/Benchmarks/bench_skulls.py`); not edited by hand.",
        "",
        "Dice coefficient between bone in the synthetic CT (above "
        f"{BONE_HU:g} HU) and bone in the patient's own CT (white in its window); 1 means the same voxels. Registered "
        "slices of the Whole Brain Atlas, the longest run without gaps of each patient, voxel size taken as "
        f"{' x '.join(f'{s:g}' for s in SPACING_MM)} mm.",
        "",
        "Limits: the CT pictures have no Hounsfield units, and voxels that are partly bone are white in them, so that "
        "even the true CT would not reach 1; CT and MR are aligned to about 3 pixels. None of these images was used in "
        "training, but the results of head-mr-ct 0.3.0 on them decided the simulated images for 0.4.0 "
        "(`Docs/decisions.md`, 7), so this is not a blind test.",
        "",
        f"Python {platform.python_version()}, {packages}.",
        "",
        f"| patient | slices | {' | '.join(names)} |",
        f"| --- | --- |{' --- |' * len(names)}",
        *rows,
        f"| mean of {len(rows)} |  | {means} |",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
