"""What a feed makes of the images: scales, units, label maps, restorations; and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from feed_cases import ONE, feed_of, listed, same
from list_cases import CT, MR, affine, head, save, setup, subjects, write_list
from torch import Generator

from SynthGANLib.data.cases import Spatial
from SynthGANLib.data.datalist import read_datalist
from SynthGANLib.data.feed import Feed
from SynthGANLib.data.patches import NO_AUGMENT, Augment
from SynthGANLib.errors import InputError, ModelError
from SynthGANLib.image.intensity import normaliser_from_json
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.slices import as_slice_batch
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.phantom.degrade import low_dose, truncate_kspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five subjects, the last for validation, with the file of a list of each kind."""
    place = tmp_path_factory.mktemp("subjects")
    subjects(place, 5)
    return place


def test_source_is_normalised_as_inference_does_it_and_target_can_be_undone(folder: Path) -> None:
    entry = {"subject": "s4", "source": "s4_mr.nii.gz", "target": "s4_ct.nii.gz"}  # no mask: the body is found
    feed = Feed(listed(folder, validation=[entry]), setup(3, (16, 24, 24)), seed=0)
    (case,) = feed.validation
    assert case.case.subject == "s4"
    assert case.source is not None
    assert case.target is not None
    found = feed.network(case)
    unfitted = normaliser_from_json(feed.normalisers["source"])
    assert feed.normalisers["source"]["value_low"] is None
    fitted = unfitted.fit(case.source.array, case.source_body)
    assert np.array_equal(found["source"][0].numpy(), fitted.apply(case.source.array))
    assert feed.normalisers["target"] == {"kind": "window", "low": -1024.0, "high": 2000.0, "clip": True}
    back = normaliser_from_json(feed.normalisers["target"]).invert(found["target"][0].numpy())
    assert np.abs(back - np.clip(head(4)[1], -1024, 2000)).max() < 0.51  # HU are stored whole
    assert found["mask"].shape == (1, 24, 40, 36)
    assert 0.2 < found["mask"].mean() < 0.5


def test_an_mr_target_is_promised_in_arbitrary_units(folder: Path) -> None:
    entries = [{"subject": f"s{n}", "source": f"s{n}_ct.nii.gz", "target": f"s{n}_mr.nii.gz"} for n in range(4)]
    data = read_datalist(write_list(folder, entries[:3], source=CT, target=MR, validation=entries[3:]))
    feed = Feed(data, setup(2, (32, 32)), seed=0)
    assert feed.normalisers["target"] == {"kind": "window", "low": 0.0, "high": 1000.0, "clip": True}
    (case,) = feed.validation
    assert case.target is not None
    low, high = np.percentile(case.target.array[case.target_body], (0.5, 99.5))
    assert (low, high) == (pytest.approx(0, abs=1), pytest.approx(1000, abs=1))
    raw = head(3)[0]
    assert np.corrcoef(case.target.array.ravel(), raw.ravel())[0, 1] > 0.99999  # a scaling, nothing else
    assert "0 and 1000 are the 0.5 and 99.5 percentiles" in feed.describe()["target_units"]
    scaled_by_ten = head(3)[0] * 10
    save(scaled_by_ten, folder / "s3_mr10.nii.gz")
    entries[3]["target"] = "s3_mr10.nii.gz"
    data = read_datalist(write_list(folder, entries[:3], source=CT, target=MR, validation=entries[3:]))
    (again,) = Feed(data, setup(2, (32, 32)), seed=0).validation
    assert np.allclose(again.target.array, case.target.array, atol=0.02)  # type: ignore[union-attr]


@pytest.mark.parametrize("wanted", ["auto", "fitted"])
def test_suv_windows(folder: Path, wanted: str) -> None:
    for number in range(3):
        mr, _ = head(number)
        save(mr / 100, folder / f"s{number}_pet.nii.gz", "SUVbw")
    entries = [{"subject": f"s{n}", "source": f"s{n}_mr.nii.gz", "target": f"s{n}_pet.nii.gz"} for n in range(3)]
    data = read_datalist(write_list(folder, entries, target={"modality": "PT", "unit": "SUVbw"}))
    feed = Feed(data, setup(2, (32, 32), normalisers={"target": wanted}), seed=0)
    target = feed.normalisers["target"]
    assert target["kind"] == "suv"
    assert target["maximum"] == 20.0 if wanted == "auto" else 8 < target["maximum"] < 11


@pytest.mark.parametrize(("top", "network"), [(1, {0: -1.0, 1: 1.0}), (255, {0: -1.0, 1: 1.0}), (2, None)])
def test_label_maps(tmp_path: Path, top: int, network: dict[int, float] | None) -> None:
    labels = np.zeros((4, 20, 20), np.uint8)
    labels[:, 5:15, 5:15] = top
    if top == 2:
        labels[:, :3] = 1
    mr = head(0, (4, 20, 20))[0]
    entry = {"subject": "a", "source": save(labels, tmp_path / "l.nii.gz", "label")}
    entry["target"] = save(mr, tmp_path / "m.nii.gz")
    side = {"modality": "SEG", "unit": "label"}
    data = read_datalist(write_list(tmp_path, [entry], source=side, target=ONE))
    feed = Feed(data, setup(2, (16, 16)), seed=0)
    values = set(feed.batch(0)["source"].unique().tolist())
    if network:
        assert values == set(network.values())
        # A mask drawn as 0 and 255 and one drawn as 0 and 1 are the same to the exported model.
        normaliser = normaliser_from_json(feed.normalisers["source"])
        assert normaliser.apply(np.array([0, 1, 255])).tolist() == [-1, 1, 1]
    else:
        assert values <= {-1.0, 0.0, 1.0}
    backwards = read_datalist(write_list(tmp_path, [{**entry, "source": entry["target"], "target": entry["source"]}],
                                         source=ONE, target=side))  # fmt: skip
    feed = Feed(backwards, setup(2, (16, 16)), seed=0)
    assert feed.normalisers["target"] == {"kind": "labels"}
    assert set(feed.batch(0)["target"].unique().tolist()) <= ({0.0, 1.0} if network else {0.0, 1.0, 2.0})


def test_missing_landmarks_and_channel_dropout(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("v", "d"):
        save((rng.random((1, 24, 24)) > 0.5).astype(np.uint8) * 255, tmp_path / f"{name}.nii.gz", "label")
    write_volume(Volume(rng.integers(0, 255, (1, 24, 24, 3), np.uint8), np.eye(4), "RGB"), tmp_path / "f.png")
    entry = {"subject": "1", "source": ["v.nii.gz", "d.nii.gz", None], "target": "f.png"}
    sides = {"source": {"modality": "SEG", "unit": "label", "channels": 3}, "target": {"modality": "XC", "unit": "RGB"}}
    data = read_datalist(write_list(tmp_path, [entry], **sides))
    recipe = setup(2, (16, 16), batch=16, channels=(3, 3))
    source = Feed(data, recipe, seed=0).batch(0)["source"]
    assert (source[:, 2] == -1).all()
    assert all(set(source[:, channel].unique().tolist()) == {-1.0, 1.0} for channel in (0, 1))
    dropped = Feed(data, recipe, seed=0, augment=Augment(channel_dropout=0.5)).batch(0)["source"]
    empty = (dropped == -1).flatten(2).all(2)
    assert not empty[:, 0].any()
    assert 0 < empty[:, 1].float().mean() < 1
    batch = Feed(data, recipe, seed=0).batch(0)
    assert batch["target"].shape == (16, 3, 16, 16)
    assert (batch["mask"] == 1).all()


def test_a_restoration_is_made_from_clean_images(folder: Path) -> None:
    def lose_resolution(clean: Volume, seed: int) -> Volume:
        return truncate_kspace(clean, factors=(1, 2, 2))

    def thin(clean: Volume, seed: int) -> Volume:
        return low_dose(clean, Generator().manual_seed(seed))

    data = listed(folder, "unconditional", target=CT)
    feed = Feed(data, setup(2, (32, 32)), seed=0, needs="paired", corrupt=lose_resolution, augment=NO_AUGMENT)
    batch = feed.batch(0)
    assert not torch.equal(batch["source"], batch["target"])
    for source, target in zip(batch["source"], batch["target"], strict=True):
        assert np.corrcoef(source.ravel(), target.ravel())[0, 1] > 0.8
    for number in range(4):
        save(head(number)[0] / 100, folder / f"s{number}_p.nii.gz", "SUVbw")
    entries = [{"subject": f"s{n}", "target": f"s{n}_p.nii.gz"} for n in range(4)]
    pet = {"modality": "PT", "unit": "SUVbw"}
    clean = read_datalist(write_list(folder, entries, kind="unconditional", source=None, target=pet))
    first, again = (Feed(clean, setup(2, (32, 32)), seed=0, needs="paired", corrupt=thin) for _ in range(2))
    assert same(first.batch(1), again.batch(1))
    assert first.describe()["sides"]["source"] == first.describe()["sides"]["target"]


def test_the_network_sees_slices_as_inference_shows_them(folder: Path) -> None:
    feed = feed_of(folder, "paired 2.5d", augment=NO_AUGMENT)
    seen: list[tuple[int, ...]] = []
    network = as_slice_batch(lambda slices: seen.append(tuple(slices.shape)) or slices[:, :1])  # type: ignore[func-returns-value]
    network(torch.zeros(2, 1, 3, 24, 24))
    assert seen[0][1] == feed.batch(0)["source"].shape[1]


def test_the_description_is_plain_json(folder: Path) -> None:
    found = json.loads(json.dumps(feed_of(folder, "paired 2d").describe(), allow_nan=False))
    assert found["training"] == {"cases": 4, "subjects": 4}
    assert found["validation"] == {"cases": 1, "subjects": 1}
    assert found["mask"] == "body"
    assert found["sides"]["source"]["modality"] == "MR"


def test_what_does_not_fit_together_is_refused(folder: Path) -> None:
    data = listed(folder)
    flat = setup(2, (32, 32))
    refused: list[tuple[str, dict[str, Any], Any]] = [
        ("A batch of 4 cannot be shared by 3 processes", {"world": 3}, flat),
        ("make no sense together", {"rank": 2, "world": 2}, flat),
        ("make no sense together", {"seed": -1}, flat),
        ("gives 1 source channels, and the recipe's networks take 3", {}, setup(2, (32, 32), channels=(3, 1))),
        ("gives 1 target channels, and the recipe's networks take 2", {}, setup(2, (32, 32), channels=(1, 2))),
        ("3 source channels (3 slices of 1)", {"spatial": Spatial(neighbours=1)}, flat),
        ("for two dimensions only", {"spatial": Spatial(neighbours=1)}, setup(3, (8, 8, 8))),
        ("does not have 3 dimensions", {}, setup(3, (32, 32))),
        ("source normaliser 'best' is unknown", {}, setup(2, (32, 32), normalisers={"source": "best"})),
        ("at inference there is none", {}, setup(2, (32, 32), normalisers={"target": {"kind": "percentile"}})),
    ]
    for sentence, fields, recipe in refused:
        with pytest.raises(InputError) as caught:
            Feed(data, recipe, **{"seed": 0, **fields})
        assert sentence in str(caught.value)
    with pytest.raises(ModelError, match="Unknown normalizer kind"):
        Feed(data, setup(2, (32, 32), normalisers={"target": {"kind": "wndow"}}), seed=0)
    with pytest.raises(InputError, match="is unconditional, and 'the recipe' needs paired"):
        Feed(listed(folder, "unconditional"), flat, seed=0, needs="paired")
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        Augment(flip=1.5)


def test_a_broken_case_is_named_and_stays_named_from_a_thread(tmp_path: Path) -> None:
    entries = subjects(tmp_path, 2, (8, 16, 16))
    data = read_datalist(write_list(tmp_path, entries))
    (tmp_path / "s1_ct.nii.gz").write_bytes(b"no image")
    for workers in (0, 2):
        feed = Feed(data, setup(2, (8, 8)), seed=0, workers=workers)
        with pytest.raises(InputError, match=r"Case 's1: s1_mr\.nii\.gz'"):
            feed.batch(0)
        feed.close()


def test_without_monai_one_sentence_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.transforms", None)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(InputError, match="Training needs MONAI, which is not installed") as caught:
        feed_of(folder, "paired 2d")
    assert "pip install" in caught.value.next_step


def test_orientation_and_spacing(tmp_path: Path) -> None:
    """A sagittal acquisition is trained on in LPS; a coarser spacing makes a coarser grid."""
    mr, ct = head(1)
    for name, array, unit in (("mr", mr, "1"), ("ct", ct, "HU"), ("mr2", mr, "1")):
        sagittal = np.ascontiguousarray(array.transpose(2, 0, 1))  # (z, y, x) -> (x, z, y)
        write_volume(Volume(sagittal, affine()[:, [1, 2, 0, 3]], unit), tmp_path / f"{name}.nii.gz")
    training = [{"subject": "a", "source": "mr.nii.gz", "target": "ct.nii.gz"}]
    validation = [{"subject": "b", "source": "mr2.nii.gz", "target": "ct.nii.gz"}]
    feed = Feed(read_datalist(write_list(tmp_path, training, validation=validation)), setup(2, (32, 32)), seed=0)
    (loaded,) = feed.validation
    assert loaded.source is not None
    assert loaded.source.grid.orientation == "LPS"
    assert np.allclose(loaded.source.array, mr)
    coarse = Feed(feed.data, setup(2, (16, 16)), seed=0, spatial=Spatial(spacing=(4.0, 4.0, None)))
    (loaded,) = coarse.validation
    assert loaded.source is not None
    assert loaded.source.shape == (24, 20, 18)
    assert coarse.batch(0)["source"].shape == (4, 1, 16, 16)


@pytest.mark.slow
def test_real_pictures_and_volumes(shared_data: Path, tmp_path: Path) -> None:
    pork, fundus, brain = (shared_data / name for name in ("mri_dir_meatphantom", "drive_fundus", "harvard_aanlib"))
    meat = [{"subject": "p", "source": str(pork / "t2.nii.gz"), "target": str(pork / "ct_on_t2grid_HU.nii.gz")}]
    eyes = [
        {"subject": n, "source": str(fundus / f"{n}_vessels.png"), "target": str(fundus / f"{n}_fundus.png")}
        for n in ("01", "03")
    ]
    slices = brain / "ct_mr" / "case16"
    heads = [
        {"subject": "16", "source": str(slices / f"{n}_mr.png"), "target": str(slices / f"{n}_ct.png")}
        for n in ("003", "004")
    ]
    runs: list[tuple[list[dict[str, str]], dict[str, Any], Any]] = [
        (meat, {}, setup(3, (32, 64, 64), batch=2)),
        (
            eyes,
            {"source": {"modality": "SEG", "unit": "label"}, "target": {"modality": "XC", "unit": "RGB"}},
            setup(2, (256, 256), batch=2, channels=(1, 3)),
        ),
        (heads, {"target": {"modality": "CT", "unit": "1"}}, setup(2, (256, 256), batch=2)),
    ]
    for entries, fields, recipe in runs:
        feed = Feed(read_datalist(write_list(tmp_path, entries, **fields), readable=[shared_data]), recipe, seed=0)
        batch = feed.batch(0)
        assert batch["source"].shape == (2, recipe.channels[0], *recipe.patch)
        assert batch["target"].shape == (2, recipe.channels[1], *recipe.patch)
        assert all(-1 <= value.min() < value.max() <= 1 for key, value in batch.items() if key != "mask")
        assert batch["target"].std() > 0.1
    ct = read_volume(pork / "ct_on_t2grid_HU.nii.gz")
    whole = Feed(read_datalist(write_list(tmp_path, meat), readable=[shared_data]), runs[0][2], seed=0)
    (view,) = whole._views(0, ("source", "target"))
    back = normaliser_from_json({"kind": "window"}).invert(view.images[view.channels["target"]][0].numpy())
    assert np.abs(np.sort(back.ravel()) - np.sort(np.clip(ct.array, -1024, 2000).ravel())).max() < 0.01


def test_a_cached_case_is_not_read_again(tmp_path: Path) -> None:
    """With its files gone a case is still drawn from, and what is drawn is what it was."""
    mr, ct = head(0, (12, 80, 80))
    entry = {"subject": "a", "source": save(mr, tmp_path / "a.nii.gz"), "target": save(ct, tmp_path / "b.nii.gz", "HU")}
    feed = Feed(read_datalist(write_list(tmp_path, [entry])), setup(2, (64, 64), batch=1), seed=0)
    before = feed.batch(3)
    for name in ("a.nii.gz", "b.nii.gz"):
        (tmp_path / name).unlink()
    after = feed.batch(3)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert feed.batch(4)["source"].shape == before["source"].shape
