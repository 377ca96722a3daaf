"""Data lists: what they may say, and one sentence for everything they may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from list_cases import CT, MR, write_list

from SynthGANLib.data.datalist import SERVES, DataList, read_datalist
from SynthGANLib.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def pairs(folder: Path, count: int, per_subject: int = 1) -> list[dict[str, Any]]:
    entries = []
    for number in range(count):
        name = f"s{number // per_subject}"
        touch(folder, f"{number}_mr.nii", f"{number}_ct.nii")
        entries.append({"subject": name, "source": f"{number}_mr.nii", "target": f"{number}_ct.nii"})
    return entries


def refusal(path: Path, **arguments: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        read_datalist(path, **arguments)
    assert caught.value.next_step
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_paired_list_is_read_whole(tmp_path: Path) -> None:
    entries = pairs(tmp_path, 3)
    touch(tmp_path, "m.nii", "w.nii", "r.nii")
    entries[0] |= {"mask": "m.nii", "weight": "w.nii", "regions": "r.nii"}
    source = {**MR, "sequence": "T1"}
    path = write_list(tmp_path, entries[:2], validation=entries[2:], description="d", source=source)
    found = read_datalist(path)
    assert (found.name, found.description, found.kind) == ("test", "d", "paired")
    assert found.source is not None
    assert (found.source.modality, found.source.sequence, found.target.unit) == ("MR", "T1", "HU")
    assert [case.subject for case in found.training] == ["s0", "s1"]
    assert [case.subject for case in found.validation] == ["s2"]
    first = found.training[0]
    assert first.source == (tmp_path / "0_mr.nii",)
    assert list(first.files()) == [tmp_path / n for n in ("0_mr.nii", "0_ct.nii", "m.nii", "w.nii", "r.nii")]
    assert first.paired
    assert len(found.sha256) == 64


def test_paths_are_relative_to_the_list_not_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_list(tmp_path, pairs(tmp_path, 1))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_datalist("../list.json").training == read_datalist(path).training


@pytest.mark.parametrize("apart", [True, False])
def test_unpaired_lists_have_sections_or_one_sided_cases(tmp_path: Path, apart: bool) -> None:
    touch(tmp_path, "a.nii", "b.nii", "c.nii")
    sources = [{"subject": "p", "source": "a.nii"}, {"subject": "q", "source": "b.nii"}]
    targets = [{"subject": "r", "target": "c.nii"}]
    if apart:
        path = write_list(tmp_path, None, kind="unpaired", training_source=sources, training_target=targets)  # type: ignore[arg-type]
    else:
        path = write_list(tmp_path, [*sources, *targets], kind="unpaired")
    found = read_datalist(path)
    assert [bool(case.source) for case in found.training] == [True, True, False]
    assert [case.name for case in found.training] == ["p: a.nii", "q: b.nii", "r: c.nii"]


def test_decathlon_entries_are_read_through_keys(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{name}.nii.gz" for part in ("imagesTr", "labelsTr") for name in ("x_001", "x_002")))
    entries = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("x_001", "x_002")]
    decathlon = {"modality": {"0": "MRI"}, "tensorImageSize": "3D", "numTraining": 2, "test": ["./imagesTs/y.nii.gz"]}
    keys = {"source": "image", "target": "label"}
    found = read_datalist(write_list(tmp_path, entries, keys=keys, **decathlon))
    assert [case.subject for case in found.training] == ["x_001", "x_002"]
    assert found.training[1].target == (tmp_path / "labelsTr" / "x_002.nii.gz",)
    # Without the mapping nothing is guessed.
    assert "no field 'modality'" in str(refusal(write_list(tmp_path, entries, **decathlon)))
    assert "no field 'image'" in str(refusal(write_list(tmp_path, entries)))


def test_channels_and_missing_landmarks(tmp_path: Path) -> None:
    touch(tmp_path, "v.png", "d.png", "f.png")
    source, target = {"modality": "SEG", "unit": "label", "channels": 3}, {"modality": "XC", "unit": "RGB"}
    entries = [{"subject": "1", "source": ["v.png", "d.png", None], "target": "f.png"}]
    found = read_datalist(write_list(tmp_path, entries, source=source, target=target))
    assert found.training[0].source == (tmp_path / "v.png", tmp_path / "d.png", None)
    assert found.target.channels == 3
    two = write_list(tmp_path, [{**entries[0], "source": ["v.png", "d.png"]}], source=source, target=target)
    assert "2 files were given, and the list says 3 channels" in str(refusal(two))
    for side, paths in ((source, [None] * 3), ({**MR, "channels": 3}, ["v.png", "d.png", None])):
        path = write_list(tmp_path, [{**entries[0], "source": paths}], source=side, target=target)
        assert "a path is missing" in str(refusal(path))


def test_the_split_is_by_subject_and_does_not_depend_on_order(tmp_path: Path) -> None:
    entries = pairs(tmp_path, 30, per_subject=3)
    found = read_datalist(write_list(tmp_path, entries, validation_fraction=0.3, seed=4))
    trained, held = ({case.subject for case in part} for part in (found.training, found.validation))
    assert len(held) == 3
    assert not trained & held
    assert len(trained | held) == 10
    assert len(found.training) + len(found.validation) == 30
    shuffled = [entries[index] for index in np.random.default_rng(0).permutation(30)]
    again = read_datalist(write_list(tmp_path, shuffled, validation_fraction=0.3, seed=4))
    assert {case.subject for case in again.validation} == held
    others = {
        frozenset(
            case.subject
            for case in read_datalist(write_list(tmp_path, entries, validation_fraction=0.3, seed=seed)).validation
        )
        for seed in range(6)
    }
    assert len(others) > 1
    assert found.split == {"validation_fraction": 0.3, "seed": 4}


@pytest.mark.parametrize(("fraction", "held"), [(0.01, 1), (0.99, 2)])
def test_a_split_leaves_something_on_both_sides(tmp_path: Path, fraction: float, held: int) -> None:
    found = read_datalist(write_list(tmp_path, pairs(tmp_path, 3), validation_fraction=fraction))
    assert len(found.validation) == held


# Every fault, changed from a list of three good pairs: (change of the list, what the sentence must say)
FAULTS: dict[str, tuple[Any, str]] = {
    "unknown field": (lambda d: d.update(trainig=[]), "there is no field 'trainig'"),
    "unknown case field": (lambda d: d["training"][1].update(maks="x"), "training[1]: there is no field 'maks'"),
    "unknown side field": (lambda d: d["source"].update(window=1), "source: there is no field 'window'"),
    "no cases": (lambda d: d.update(training=[]), "there are no cases"),
    "no training": (lambda d: d.pop("training"), "there are no cases"),
    "not a list": (lambda d: d.update(training={}), "must be a list of cases"),
    "not a case": (lambda d: d.update(training=["a.nii"]), "training[0]: a case is an object"),
    "missing file": (lambda d: d["training"][2].update(source="no.nii"), "training[2].source: there is no file"),
    "path is no text": (lambda d: d["training"][0].update(mask=3), "training[0].mask: a path is text, not 3"),
    "outside": (lambda d: d["training"][0].update(source="../x.nii"), "outside the folders that may be read"),
    "absolute": (lambda d: d["training"][0].update(source="/etc/hosts"), "outside the folders that may be read"),
    "no subject": (lambda d: d["training"][0].pop("subject"), "'subject' is missing"),
    "empty subject": (lambda d: d["training"][0].update(subject=" "), "'subject' is missing"),
    "no image": (lambda d: d.update(training=[{"subject": "x"}]), "the case has no image"),
    "one-sided": (lambda d: d["training"][1].pop("target"), "training[1]: it has no target, and the list is paired"),
    "section": (lambda d: d.update(training_source=[]), "a list of the kind paired has no one-sided cases"),
    "twice": (lambda d: d["training"].append({**d["training"][0], "subject": "z"}), "listed twice"),
    "twice in other words": (
        lambda d: d["training"].append({**d["training"][0], "source": "./sub/../0_mr.nii"}),
        "listed twice",
    ),
    "both sides": (lambda d: d["validation"][0].update(subject="s0"), "'s0' would be both trained on and validated on"),
    "two splits": (lambda d: d.update(validation_fraction=0.5), "there is a validation section already"),
    "seed alone": (lambda d: d.update(seed=3), "no meaning without 'validation_fraction'"),
    "kind": (lambda d: d.update(kind="pairs"), "kind: it must be one of paired, unpaired, mixed, unconditional"),
    "no kind": (lambda d: d.pop("kind"), "it must be one of"),
    "no target": (lambda d: d.pop("target"), "'target' is missing"),
    "no source": (lambda d: d.pop("source"), "a list of the kind paired needs it"),
    "unconditional": (lambda d: d.update(kind="unconditional"), "a list of the kind unconditional has none"),
    "modality": (lambda d: d["source"].update(modality="mri scan"), "source.modality: it is a code in capitals"),
    "unit": (lambda d: d["target"].update(unit="Hounsfield"), "target.unit: it must be one of HU"),
    "channels": (lambda d: d["source"].update(channels=0), "0 is not possible"),
    "RGB channels": (lambda d: d["source"].update(unit="RGB", channels=4), "4 is not possible in the unit RGB"),
    "too few channels": (lambda d: d["source"].update(channels=2), "1 files were given, and the list says 2 channels"),
    "label": (lambda d: d["training"][0].update(label=-1), "whole number that is not negative, not -1"),
    "some labels": (lambda d: d["training"][0].update(label=1), "only 1 of 2 cases have a label"),
    "name": (lambda d: d.update(name=3), "name: it must be text, not 3"),
    "keys": (lambda d: d.update(keys={"image": "source"}), "keys: it maps some of"),
    "keys twice": (lambda d: d.update(keys={"source": "a", "target": "a"}), "two fields have the same name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_sentence(tmp_path: Path, fault: str) -> None:
    entries = pairs(tmp_path, 4)
    data = {"name": "n", "kind": "paired", "source": dict(MR), "target": dict(CT), "training": entries[:3]}
    if fault in ("both sides", "two splits", "some labels"):
        data |= {"training": entries[:2], "validation": entries[3:]}
    path = tmp_path / "list.json"
    path.write_text(json.dumps(data))
    read_datalist(path)  # good before it is changed
    change, sentence = FAULTS[fault]
    change(data)
    path.write_text(json.dumps(data))
    error = refusal(path)
    assert "'list.json'" in str(error)
    assert sentence in str(error)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'{"name": "a", "name": "b"}', "the key 'name' appears twice"),
        (b"{", "not valid JSON (line 1"),
        (b"[]", "it must be a JSON object"),
        (b'{"name": NaN}', "NaN"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_strict_json(tmp_path: Path, text: bytes, sentence: str) -> None:
    (tmp_path / "list.json").write_bytes(text)
    assert sentence in str(refusal(tmp_path / "list.json"))


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in str(refusal(tmp_path / "no.json"))


def test_other_folders_are_read_when_allowed(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    touch(tmp_path, "data/a.nii", "data/b.nii", "database/a.nii")
    path = write_list(tmp_path / "lists", [{"subject": "s", "source": "../data/a.nii", "target": "../data/b.nii"}])
    refusal(path)
    assert read_datalist(path, readable=[tmp_path / "data"]).training[0].source == (tmp_path / "data" / "a.nii",)
    near = write_list(tmp_path / "lists", [{"subject": "s", "source": "../database/a.nii", "target": "../data/b.nii"}])
    assert "database" in str(refusal(near, readable=[tmp_path / "data"]))


def unpaired(folder: Path, kind: str, *entries: dict[str, str]) -> Path:
    touch(folder, *(value for entry in entries for key, value in entry.items() if key != "subject"))
    return write_list(folder, list(entries), kind=kind)


def test_one_sided_lists_need_both_sides_and_mixed_ones_a_pair(tmp_path: Path) -> None:
    source, target = {"subject": "a", "source": "a.nii"}, {"subject": "b", "target": "b.nii"}
    assert "no case has a target" in str(refusal(unpaired(tmp_path, "unpaired", source)))
    assert "no case has a source" in str(refusal(unpaired(tmp_path, "mixed", target)))
    assert "needs at least one pair" in str(refusal(unpaired(tmp_path, "mixed", source, target)))
    path = write_list(tmp_path, None, kind="unpaired", training_source=[target], training_target=[target])  # type: ignore[arg-type]
    assert "only a source belongs here" in str(refusal(path))


def test_the_kind_must_serve_the_recipe(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "b.nii")
    lists: dict[str, DataList] = {
        "paired": read_datalist(write_list(tmp_path, pairs(tmp_path, 1))),
        "unpaired": read_datalist(
            unpaired(tmp_path, "unpaired", {"subject": "a", "source": "a.nii"}, {"subject": "b", "target": "b.nii"})
        ),
        "unconditional": read_datalist(
            write_list(tmp_path, [{"subject": "b", "target": "b.nii"}], kind="unconditional", source=None)
        ),
    }
    for needs, served in SERVES.items():
        for kind, data in lists.items():
            if kind in served:
                data.require("pix2pix", needs)
                continue
            with pytest.raises(InputError, match=f"is {kind}, and 'pix2pix' needs {needs} data") as caught:
                data.require("pix2pix", needs)
            assert served[0] in caught.value.next_step
