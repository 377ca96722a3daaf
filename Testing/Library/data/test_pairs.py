"""The check of pairs before a training: good ones pass, moved ones are found, impossible ones refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from list_cases import CT, MR, affine, head, save, subjects, without, write_list

from SynthGANLib.data.datalist import DataList, read_datalist
from SynthGANLib.data.pairs import PairReport, check_pairs
from SynthGANLib.errors import CancelledError, InputError
from SynthGANLib.evaluation.without_reference import edge_agreement, normalised_mutual_information
from SynthGANLib.image.geometry import conform
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume


def moved(array: np.ndarray, shift: tuple[int, int, int]) -> np.ndarray:
    """The image moved by whole voxels; its margin is background, so rolling loses nothing."""
    return np.roll(array, shift, axis=(0, 1, 2))


def save_unchecked(array: np.ndarray, path: Path) -> None:
    """As `save`, for values that the library refuses to write."""
    sitk.WriteImage(Volume(array, affine()).to_sitk(), str(path))


@pytest.fixture
def entries(tmp_path: Path) -> list[dict[str, str]]:
    return subjects(tmp_path, 5, (20, 36, 32))


def listed(folder: Path, entries: list[dict[str, str]], **fields: object) -> DataList:
    return read_datalist(write_list(folder, entries, **fields))


def test_well_registered_pairs_pass(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    seen: list[tuple[int, int]] = []
    found = without(entries[:3], "mask") + entries[3:]  # a body that is found serves as well as one that is given
    report = check_pairs(listed(tmp_path, found), progress=lambda done, total: seen.append((done, total)))
    assert report.outliers == ()
    assert [result.case for result in report.results] == [f"s{n}: s{n}_mr.nii.gz" for n in range(5)]
    assert all(result.shift == (0, 0, 0) and result.nmi == result.best_nmi > 1.1 for result in report.results)
    assert all(result.edges > 0.7 for result in report.results)
    assert seen == [(n, 5) for n in range(1, 6)]
    assert "No pair stands out." in report.table()


@pytest.mark.parametrize("shift", [(0, 5, 0), (0, -3, 4), (2, 0, 3)])
def test_a_moved_target_is_found_with_its_shift(
    tmp_path: Path, entries: list[dict[str, str]], shift: tuple[int, int, int]
) -> None:
    save(moved(head(3, (20, 36, 32))[1], shift), tmp_path / "s3_ct.nii.gz", "HU")
    report = check_pairs(listed(tmp_path, entries))
    (found,) = report.outliers
    assert found.case.startswith("s3")
    # Laying the source onto the target means going back by the target's shift.
    assert found.shift == tuple(-step for step in shift)
    assert found.shift_mm == pytest.approx(2.0 * np.linalg.norm(shift))
    assert any("fit better by" in reason for reason in found.suspect)
    assert "1 of 5 pairs should be looked at." in report.table()
    assert f"{found.shift_mm:.1f} mm" in report.table()


def test_another_persons_target_stands_out(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    rng = np.random.default_rng(0)
    other = rng.normal(0, 300, (20, 36, 32)).astype(np.float32)
    save(other, tmp_path / "s2_ct.nii.gz", "HU")
    report = check_pairs(listed(tmp_path, entries))
    (found,) = report.outliers
    assert found.case.startswith("s2")
    assert any("far less information" in reason for reason in found.suspect)
    assert any("Edges meet far less often" in reason for reason in found.suspect)


def test_a_report_is_plain_json(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    report = check_pairs(listed(tmp_path, entries[:1]))
    back = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert back["cases"][0]["nmi"] == report.results[0].nmi


def test_another_grid_is_resampled_and_noted(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    path = tmp_path / "s1_ct.nii.gz"
    coarse = conform(read_volume(path), spacing=(3.0, 3.0, 3.0), fill=-1024.0).volume
    write_volume(Volume(coarse.array[:5], coarse.affine, "HU"), path, force=True)
    report = check_pairs(listed(tmp_path, entries))
    (note,) = report.results[1].notes
    assert "resampled onto the source's grid and covers" in note
    share = int(note.split("covers ")[1].split(" %")[0].split("%")[0])
    assert 30 <= share <= 45  # 5 slices of 3 mm out of 20 of 2 mm
    assert note in report.table()
    assert all(result.notes == () for index, result in enumerate(report.results) if index != 1)


def hard_fault(folder: Path, entries: list[dict[str, str]], **fields: object) -> InputError:
    with pytest.raises(InputError) as caught:
        check_pairs(listed(folder, entries, **fields))
    assert caught.value.next_step
    return caught.value


def test_hard_faults_are_refused_with_their_case(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    save(np.zeros((20, 36, 32), np.uint8), tmp_path / "empty.nii.gz", "label")
    masked = [{**entries[0], "mask": "empty.nii.gz"}, *entries[1:]]
    error = hard_fault(tmp_path, masked)
    assert str(error) == "Case 's0: s0_mr.nii.gz': The mask marks no voxel of the image."
    broken = head(0, (20, 36, 32))[1]
    broken[:4] = np.nan
    save_unchecked(broken, tmp_path / "nan.nrrd")
    assert "s0" in str(error := hard_fault(tmp_path, [{**entries[0], "target": "nan.nrrd"}]))
    assert "of the voxels are NaN or infinite" in str(error)
    save(np.full((20, 36, 32), 40, np.float32), tmp_path / "flat.nii.gz", "HU")
    assert "every voxel is 40" in str(hard_fault(tmp_path, [{**entries[0], "target": "flat.nii.gz"}]))


def test_a_few_nan_are_repaired_and_noted(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    broken = head(0, (20, 36, 32))[1]
    broken[0, 0, :5] = np.nan
    save_unchecked(broken, tmp_path / "nan.nrrd")
    report = check_pairs(listed(tmp_path, [{**entries[0], "target": "nan.nrrd"}]))
    assert "5 voxels were NaN or infinite" in report.results[0].notes[0]


def test_a_target_elsewhere_is_refused(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    ct = read_volume(tmp_path / "s0_ct.nii.gz")
    away = ct.affine.copy()
    away[2, 3] += 500
    write_volume(Volume(ct.array, away, "HU"), tmp_path / "s0_ct.nii.gz", force=True)
    assert "covers 0% of the source's field of view" in str(hard_fault(tmp_path, entries))


def test_several_hard_faults_are_counted_in_one_message(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    for number in (1, 4):
        os.truncate(tmp_path / f"s{number}_ct.nii.gz", 200)
    error = hard_fault(tmp_path, entries)
    assert str(error).startswith("2 of 5 pairs cannot be trained on. Case 's1:")
    assert "Case 's4:" in str(error)
    assert "take them out of the data list" in error.next_step


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"source": {"modality": "MR", "unit": "RGB"}}, "has 1 channels, and the data list says 3"),
        ({"target": {"modality": "PT", "unit": "SUVbw"}}, "is in HU, and the data list says SUVbw"),
        ({"target": {"modality": "SEG", "unit": "label"}}, "is no label map: it holds fractions"),
    ],
)
def test_files_that_are_not_what_the_list_says(
    tmp_path: Path, entries: list[dict[str, str]], fields: dict[str, object], sentence: str
) -> None:
    ct = read_volume(tmp_path / "s0_ct.nii.gz")
    write_volume(Volume(ct.array, ct.affine, "HU"), tmp_path / "ct.nrrd")
    fractions = save(head(0, (20, 36, 32))[0], tmp_path / "fractions.nii.gz")
    target = fractions if "label" in str(fields) else "ct.nrrd"
    assert sentence in str(hard_fault(tmp_path, [{**entries[0], "target": target}], **fields))


def test_pictures_of_another_size_are_refused(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "fair_petct_2d"
    entries = [{"subject": "1", "source": "PET-CT-CT.jpg", "target": "PET-CT-PET.jpg"}]
    for entry in ("source", "target"):
        entries[0][entry] = str(folder / entries[0][entry])
    path = write_list(tmp_path, entries, source={"modality": "CT", "unit": "1"}, target={"modality": "PT", "unit": "1"})
    with pytest.raises(InputError, match="The pictures differ in size"):
        check_pairs(read_datalist(path, readable=[folder]))


def test_one_sided_lists_and_cancel(tmp_path: Path, entries: list[dict[str, str]]) -> None:
    apart = [*without(entries[:1], "source"), *without(entries[1:2], "target")]
    assert "has no pairs to check" in str(hard_fault(tmp_path, apart, kind="unpaired"))
    with pytest.raises(CancelledError):
        check_pairs(listed(tmp_path, entries), cancel=lambda: True)


def test_mutual_information_in_closed_form() -> None:
    assert normalised_mutual_information(np.eye(8)) == pytest.approx(2.0)
    assert normalised_mutual_information(np.ones((8, 8))) == pytest.approx(1.0)
    assert normalised_mutual_information(np.array([[3, 0], [0, 0]])) == 1.0
    # Two bits each, one shared: (2 + 2) / 3.
    joint = np.kron(np.eye(2), np.ones((2, 2)))
    assert normalised_mutual_information(joint) == pytest.approx(4 / 3)


def test_edge_agreement_knows_its_limits(rng: np.random.Generator) -> None:
    image = head(0, (20, 36, 32))[0]
    assert edge_agreement(image, image) == pytest.approx(1.0, abs=1e-5)
    assert edge_agreement(image, 3 - 2 * image) == pytest.approx(1.0, abs=1e-5)  # contrast may be turned round
    noise = rng.normal(size=(2, 20, 36, 32)).astype(np.float32)
    assert edge_agreement(noise[0], noise[1]) == pytest.approx(1 / 3, abs=0.06)
    assert edge_agreement(noise[0, :1], noise[1, :1]) == pytest.approx(1 / 2, abs=0.15)
    assert np.isnan(edge_agreement(noise[0], np.zeros_like(image)))


@pytest.fixture(scope="module")
def reports(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PairReport]:
    """Real T1 and CT slices of one patient, as they came and after registration."""
    folder = shared_data / "paired_ct_t1_t2_18pts" / "Patient_01"
    done = json.loads((folder / "registration.json").read_text())
    slices = [number for number in sorted(done) if done[number]["T1"]["used"] == "registered"][::2]
    found = {}
    for suffix in ("", "_raw_misaligned"):
        entries = [
            {
                "subject": "1",
                "source": str(folder / f"{number}_t1{suffix}.png"),
                "target": str(folder / f"{number}_ct.png"),
            }
            for number in slices
        ]
        path = write_list(tmp_path_factory.mktemp("real"), entries, source=MR, target={**CT, "unit": "1"})
        found[suffix] = check_pairs(read_datalist(path, readable=[folder]))
    return found


@pytest.mark.slow
def test_real_misregistered_slices_are_told_from_registered_ones(reports: dict[str, PairReport]) -> None:
    registered, raw = reports[""], reports["_raw_misaligned"]
    shifted = {
        name: [r for r in report.results if any("fit better" in reason for reason in r.suspect)]
        for name, report in reports.items()
    }
    assert len(raw.results) == 7
    assert shifted[""] == []
    assert len(shifted["_raw_misaligned"]) >= 3
    assert np.mean([r.nmi for r in raw.results]) < np.mean([r.nmi for r in registered.results]) - 0.015
    assert np.median([r.shift_mm for r in registered.results]) < np.median([r.shift_mm for r in raw.results])
