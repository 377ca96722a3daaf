"""The comparison of skulls with real patients: what it reads, what it counts as bone, and its coefficient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from Tools.Benchmarks.bench_skulls import SLICES, SPACING_MM, dice, largest_part, longest_run, patients


def test_dice_counts_what_both_share() -> None:
    a, b = np.zeros(10, bool), np.zeros(10, bool)
    a[:4], b[2:8] = True, True
    assert dice(a, b) == pytest.approx(2 * 2 / (4 + 6))
    assert dice(a, a) == 1.0
    assert dice(a, ~a) == dice(~a & a, ~a & a) == 0.0


def test_the_longest_run_has_no_gap() -> None:
    assert longest_run([3, 5, 6, 7, 9, 10]) == [5, 6, 7]
    assert longest_run([1, 2, 8, 9]) == [1, 2]


def test_patients_are_stacks_with_their_skull_and_without_the_headrest(tmp_path: Path) -> None:
    folder = tmp_path / SLICES / "case1"
    folder.mkdir(parents=True)
    ct = np.zeros((20, 24), np.uint8)
    ct[4:12, 4:12] = 255  # bone
    ct[6:10, 6:10] = 90  # brain in it
    ct[17, :] = 255  # the headrest
    for number in (1, 4, 5, 6):
        mr = np.full((20, 24), 10 * number, np.uint8)
        for kind, image in (("mr", mr), ("ct", ct)):
            sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / f"{number:03d}_{kind}.png"))
    (patient,) = patients(tmp_path)
    assert patient.name == "case1"
    assert patient.mr.array[:, 0, 0].tolist() == [40.0, 50.0, 60.0]
    assert patient.mr.spacing == pytest.approx(SPACING_MM)
    assert patient.bone.shape == (3, 20, 24)
    assert patient.bone.sum() == 3 * (64 - 16)
    assert not patient.bone[:, 17].any()


def test_nothing_has_no_largest_part() -> None:
    assert not largest_part(np.zeros((2, 3, 4), bool)).any()
