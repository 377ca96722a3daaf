"""Which cases a folder or a data list holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_cases import heads
from dicom_cases import stack_of, write_stack
from model_folders import head_like
from volume_cases import refusal

from SynthGANLib.batch.inputs import BatchCase, find_cases
from SynthGANLib.batch.record import MADE_BY, sha256_of_input
from SynthGANLib.inference.choices import Choices
from SynthGANLib.io.volumes import read_volume, write_volume

SLICES = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)


def found(data: Path, **choices: Any) -> tuple[BatchCase, ...]:
    return find_cases(data, **{"out": data.parent / "out", "colour": False, **choices}).cases


def names(cases: tuple[BatchCase, ...]) -> list[str]:
    return [case.name for case in cases]


# Folders


def test_volumes_are_found_in_subfolders_and_nothing_else(tmp_path: Path) -> None:
    data = heads(tmp_path / "in", "b.nii", "a.nii.gz", "deep/er/c.NRRD", "deep/.d.mha", ".hidden/e.mha")
    for name in ("notes.txt", "deep/image.png", "data.json", "deep/raw.raw"):
        (data / name).write_bytes(b"x")
    search = find_cases(data, out=tmp_path / "out", colour=False)
    assert names(search.cases) == ["a", "b", "deep/er/c"]
    assert search.cases[2].input == data / "deep" / "er" / "c.NRRD"
    assert search.notes == ("1 picture passed over: the model takes no color images.",)
    assert names(found(data, colour=True)) == ["a", "b", "deep/er/c", "deep/image"]
    assert [case.frame for case in found(data, frame=3)] == [3, 3, 3]


def test_results_are_no_inputs(tmp_path: Path) -> None:
    """Neither those below the output folder, nor those that a record beside them owns to, wherever they are."""
    data = heads(tmp_path / "in", "a.nrrd", "out/b.nrrd", "older/c.nrrd", "older/d.nrrd")
    record = {"made_by": MADE_BY, "output": "c.nrrd"}
    (data / "older" / "c.nrrd.json").write_text(json.dumps(record))
    (data / "older" / "d.nrrd.json").write_text(json.dumps({"output": "d.nrrd"}))
    search = find_cases(data, out=data / "out", colour=False)
    assert names(search.cases) == ["a", "older/d"]
    assert search.notes == ("1 result of former runs passed over.",)
    assert "itself" in str(refusal(find_cases, data, out=data / "out" / "..", colour=False))
    assert names(found(data, out=tmp_path)) == ["a", "older/d", "out/b"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_are_followed_without_end(tmp_path: Path) -> None:
    data = heads(tmp_path / "in", "a.nrrd")
    heads(tmp_path / "elsewhere", "b.nrrd")
    (data / "link").symlink_to(tmp_path / "elsewhere")
    (data / "loop").symlink_to(data)
    assert names(found(data)) == ["a", "link/b"]


def test_every_dicom_series_is_a_case(tmp_path: Path) -> None:
    data = tmp_path / "study"
    write_stack(data / "p1" / "t1", stack_of(SLICES, series="1.2.1"))
    write_stack(data / "p2", stack_of(SLICES + 1, series="1.2.22"))
    for entry in stack_of(SLICES + 2, series="1.2.23"):
        entry.write(data / "p2" / f"other-{entry.number}")
    heads(data, "p2/also.mha")
    cases = found(data)
    assert names(cases) == ["p1/t1", "p2/7-1.2.22", "p2/7-1.2.23", "p2/also"]
    for case, added in zip(cases[:3], range(3), strict=True):
        assert np.array_equal(read_volume(case.input, series=case.series).array, SLICES - 1024.0 + added)
    assert len({sha256_of_input(case.input, case.series) for case in cases}) == 4
    before = sha256_of_input(cases[1].input, cases[1].series)
    next((data / "p2").glob("other-*")).unlink()
    assert sha256_of_input(cases[1].input, cases[1].series) == before
    assert names(found(data / "p1" / "t1")) == ["t1"]


def test_a_damaged_series_is_one_case_that_will_fail(tmp_path: Path) -> None:
    data = heads(tmp_path / "in", "a.nrrd")
    write_stack(data / "series", stack_of(SLICES))
    first = min((data / "series").iterdir())
    first.write_bytes(first.read_bytes()[:200])
    cases = found(data)
    assert names(cases) == ["a", "series"]
    refusal(read_volume, cases[1].input, series=cases[1].series)


def test_detached_data_count_as_input(tmp_path: Path) -> None:
    import SimpleITK as sitk

    for name in ("one.mhd", "two.nhdr"):
        sitk.WriteImage(head_like().to_sitk(), str(tmp_path / name))
        before = sha256_of_input(tmp_path / name, None)
        assert sha256_of_input(tmp_path / name, None) == before
        raw = next(path for path in tmp_path.iterdir() if path.stem.startswith(name[:3]) and path.name != name)
        content = bytearray(raw.read_bytes())
        content[-9] ^= 1
        raw.write_bytes(content)
        assert sha256_of_input(tmp_path / name, None) != before
    header = tmp_path / "many.mhd"
    header.write_text("ObjectType = Image\nElementDataFile = s%03d.raw 1 2 1\n")
    (tmp_path / "s001.raw").write_bytes(b"1")
    before = sha256_of_input(header, None)
    (tmp_path / "s001.raw").write_bytes(b"2")
    assert sha256_of_input(header, None) != before
    assert "no file" in str(refusal(sha256_of_input, tmp_path / "none.mhd", None))


# Data lists


@pytest.fixture
def listed(tmp_path: Path) -> Any:
    """Writes a list and finds its cases."""
    heads(tmp_path, "mr/p1.nii.gz", "p2.nii.gz", "mask.nii.gz")

    def write(content: Any, **choices: Any) -> tuple[BatchCase, ...]:
        (tmp_path / "data.json").write_text(json.dumps(content))
        return found(tmp_path / "data.json", **choices)

    return write


def test_the_list_of_a_training_is_read(listed: Any, tmp_path: Path) -> None:
    content = {
        "kind": "unpaired",
        "source": {"modality": "MR", "unit": "1"},
        "target": {"modality": "CT", "unit": "HU"},
        "training": [{"subject": "s1", "source": "mr/p1.nii.gz", "mask": "mask.nii.gz", "target": "ct.nii.gz"}],
        "training_target": [{"subject": "s7", "target": "ct.nii.gz"}],
        "validation": [{"subject": "s2", "source": ["p2.nii.gz"]}, {"subject": "s3", "target": "ct.nii.gz"}],
    }
    cases = listed(content)
    assert names(cases) == ["s1", "s2"]
    assert cases[0].input == tmp_path / "mr" / "p1.nii.gz"
    assert cases[0].mask == tmp_path / "mask.nii.gz"
    assert cases[1].mask is None
    assert names(listed(content, sections=["validation"])) == ["s2"]
    assert "'test'" in str(refusal(listed, content, sections=["test"]))


def test_the_list_of_a_decathlon_is_read(listed: Any, tmp_path: Path) -> None:
    content = {
        "name": "BRATS",
        "labels": {"0": "background"},
        "training": [{"image": "./mr/p1.nii.gz", "label": "./labels/p1.nii.gz"}],
        "test": ["./p2.nii.gz", str(tmp_path / "far.nii.gz")],
    }
    assert names(listed(content)) == ["mr/p1", "p2", "far"]
    assert names(listed(content, sections=["training"])) == ["mr/p1"]
    content = {"keys": {"source": "t1", "mask": "brain"}, "test": [{"t1": "p2.nii.gz", "brain": "mask.nii.gz"}]}
    assert listed(content)[0].mask == tmp_path / "mask.nii.gz"


def test_a_plain_list_with_all_that_a_case_may_say(listed: Any, tmp_path: Path) -> None:
    entries = [
        {"image": "p2.nii.gz", "name": "site/p 2", "subject": "x", "frame": 1, "series": "1.2"},
        {"source": str(tmp_path.parent / "other.nrrd")},
    ]
    first, second = listed(entries, frame=4)
    assert first == BatchCase("site/p 2", tmp_path / "p2.nii.gz", series="1.2", frame=1)
    assert (second.name, second.frame) == ("other", 4)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (7, "JSON object or a list"),
        ({}, "no section 'training'"),
        ({"test": {}}, "test: it must be a list"),
        ({"keys": {"source": 1}, "test": []}, "keys"),
        ([], "no volume"),
        ([7], "[0]: a case is an object"),
        ([{"name": "x"}], "neither 'source' nor 'image'"),
        ([{"image": ""}], "a path is text"),
        ([{"image": ["a.nii", "b.nii"]}], "2 sources"),
        ([{"image": "a.nii", "frame": -1}], "[0].frame"),
        ([{"image": "a.nii", "series": 3}], "[0].series"),
        ([{"image": "a.nii", "name": ""}], "'name' must be text"),
        ([{"image": "a.nii", "name": "../a"}], "'../a'"),
        ([{"image": "a.nii", "name": "/etc/a"}], "'/etc/a'"),
        ([{"image": "a.nii", "name": "a/../../b"}], "cannot be that of a file"),
        ([{"image": "a.nii", "name": "C:\\a"}], "cannot be that of a file"),
        ([{"image": "a.nii", "name": "a\nb"}], "cannot be that of a file"),
        ([{"image": "a.nii", "name": ".synthgan-batch.part/x"}], "cannot be that of a file"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_the_place(listed: Any, content: Any, word: str) -> None:
    assert word in str(refusal(listed, content))


def test_what_is_neither_folder_nor_list_is_refused(tmp_path: Path) -> None:
    heads(tmp_path, "a.nii.gz")
    assert "no file or folder" in str(refusal(found, tmp_path / "none"))
    assert "neither a folder nor a data list" in str(refusal(found, tmp_path / "a.nii.gz"))
    (tmp_path / "bad.json").write_text("{")
    assert "not valid JSON" in str(refusal(found, tmp_path / "bad.json"))
    (tmp_path / "empty").mkdir()
    assert "holds no volume" in str(refusal(found, tmp_path / "empty"))


def test_an_output_is_never_an_input(tmp_path: Path) -> None:
    from SynthGANLib.batch.case import Settings
    from SynthGANLib.batch.run import plan_batch

    write_volume(head_like(), tmp_path / "a.nrrd")
    choices = Choices(model="same")
    settings = Settings(tmp_path, "same", "1.0.0", "", "", tmp_path, choices)
    case = BatchCase("a", tmp_path / "a.nrrd")
    assert "the input" in str(refusal(plan_batch, settings, [case]))
    assert "the input" in str(refusal(plan_batch, settings, [BatchCase("a", tmp_path / "b.mha", mask=case.input)]))
    blocked = Settings(tmp_path, "same", "1", "", "", case.input, choices)
    assert "is a file" in str(refusal(plan_batch, blocked, [case]))
    assert "no text" in str(refusal(plan_batch, settings, [BatchCase("b", tmp_path / "b\udcff.mha")]))
