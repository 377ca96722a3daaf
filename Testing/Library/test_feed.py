"""What a training sees: decided by (seed, step, rank) alone, aligned, in the body, in the units promised."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from list_cases import CT, MR, affine, head, save, setup, subjects, without, write_list
from torch import Generator

from SynthGANLib.degrade import low_dose, truncate_kspace
from SynthGANLib.errors import InputError, ModelError
from SynthGANLib.inference.slices import as_slice_batch
from SynthGANLib.intensity import normaliser_from_json
from SynthGANLib.training.cases import Spatial
from SynthGANLib.training.data import Feed
from SynthGANLib.training.datalist import DataList, read_datalist
from SynthGANLib.training.patches import NO_AUGMENT, Augment
from SynthGANLib.volume import Volume, read_volume, write_volume

PLAIN = {"source": {"kind": "identity"}, "target": {"kind": "identity"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five subjects, the last for validation, with the file of a list of each kind."""
    place = tmp_path_factory.mktemp("subjects")
    subjects(place, 5)
    return place


def listed(folder: Path, kind: str = "paired", **fields: Any) -> DataList:
    entries = [
        {"subject": f"s{n}", "source": f"s{n}_mr.nii.gz", "target": f"s{n}_ct.nii.gz", "mask": f"s{n}_mask.nii.gz"}
        for n in range(5)
    ]
    if kind == "unpaired":
        training = [*without(entries[:2], "target"), *without(entries[1:4], "source")]
    elif kind == "mixed":
        training = [*entries[:2], *without(entries[2:3], "target")]
    elif kind == "unconditional":
        training = [{**entry, "label": n % 2} for n, entry in enumerate(without(entries[:4], "source"))]
        fields = {"source": None, **fields}
    else:
        training, fields = entries[:4], {"validation": entries[4:], **fields}
    return read_datalist(write_list(folder, training, kind=kind, **fields))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


CONFIGURATIONS = {
    "paired 2d": ("paired", 2, (32, 32), {}),
    "paired 3d": ("paired", 3, (16, 24, 24), {}),
    "paired 2.5d": ("paired", 2, (24, 24), {"spatial": Spatial(axis="all", neighbours=1)}),
    "unpaired": ("unpaired", 2, (32, 32), {}),
    "mixed": ("mixed", 2, (32, 32), {}),
    "unconditional": ("unconditional", 2, (32, 32), {}),
}


def feed_of(folder: Path, name: str, **more: Any) -> Feed:
    kind, dims, patch, fields = CONFIGURATIONS[name]
    channels = (3, 1) if "2.5d" in name else (1, 1)
    return Feed(listed(folder, kind), setup(dims, patch, channels=channels), seed=more.pop("seed", 7), **fields, **more)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_batch_depends_on_seed_and_step_alone(folder: Path, name: str) -> None:
    feed, again = feed_of(folder, name), feed_of(folder, name)
    forwards = [feed.batch(step) for step in range(4)]
    torch.manual_seed(99)
    np.random.seed(99)  # the global state must not matter
    backwards = [again.batch(step) for step in (3, 2, 1, 0)][::-1]
    assert all(same(*pair) for pair in zip(forwards, backwards, strict=True))
    assert not same(forwards[0], forwards[1])
    assert not same(forwards[0], feed_of(folder, name, seed=8).batch(0))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_processes_together_see_what_one_sees(folder: Path, name: str) -> None:
    whole = feed_of(folder, name)
    for world in (2, 4):
        parts = [feed_of(folder, name, rank=rank, world=world) for rank in range(world)]
        assert parts[0].batch_size == 4 // world
        for step in (0, 3):
            batch, shares = whole.batch(step), [part.batch(step) for part in parts]
            for rank, share in enumerate(shares):
                assert same(share, {key: value[rank::world] for key, value in batch.items()})


def test_threads_and_a_small_cache_change_nothing(folder: Path) -> None:
    plain = feed_of(folder, "paired 3d")
    wanted = [plain.batch(step) for step in range(5)]
    for fields in ({"workers": 2}, {"cache": 1}, {"workers": 1, "cache": 1}):
        other = feed_of(folder, "paired 3d", **fields)
        order = [0, 1, 4, 2]  # a jump forwards and back
        assert all(same(other.batch(step), wanted[step]) for step in order)
        other.close()


def test_the_cache_keeps_to_its_limit(folder: Path) -> None:
    feed = feed_of(folder, "paired 2d", cache=1)
    feed.batch(0)
    assert len(feed._cache) == 1
    roomy = feed_of(folder, "paired 2d")
    roomy.batch(0)
    assert len(roomy._cache) == 4
    kept = {key: id(value) for key, value in roomy._cache.items()}
    roomy.batch(1)
    assert {key: id(value) for key, value in roomy._cache.items()} == kept  # nothing is read twice


def test_shapes_keys_and_types(folder: Path) -> None:
    shapes = {
        "paired 2d": {"source": (4, 1, 32, 32), "target": (4, 1, 32, 32), "mask": (4, 1, 32, 32)},
        "paired 3d": dict.fromkeys(("source", "target", "mask"), (4, 1, 16, 24, 24)),
        "paired 2.5d": {"source": (4, 3, 24, 24), "target": (4, 1, 24, 24), "mask": (4, 1, 24, 24)},
        "unpaired": {"source": (4, 1, 32, 32), "target": (4, 1, 32, 32)},
        "mixed": dict.fromkeys(("source", "target", "mask", "source_unpaired", "target_unpaired"), (4, 1, 32, 32)),
        "unconditional": {"target": (4, 1, 32, 32), "mask": (4, 1, 32, 32), "label": (4,)},
    }
    for name, wanted in shapes.items():
        batch = feed_of(folder, name).batch(0)
        assert {key: tuple(value.shape) for key, value in batch.items()} == wanted
        assert all(type(value) is torch.Tensor for value in batch.values())
        for key, value in batch.items():
            assert value.dtype == (torch.int64 if key == "label" else torch.float32)
            assert torch.isfinite(value).all()
            if key in ("source", "target"):
                assert -1 <= value.min() < value.max() <= 1


def index_volumes(folder: Path, shape: tuple[int, int, int], **extra: np.ndarray) -> list[dict[str, str]]:
    """One pair whose source holds each voxel's own number, and whose target 2 times it plus 1."""
    index = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    entry = {"subject": "i", "source": save(index, folder / "i.nii.gz")}
    entry["target"] = save(2 * index + 1, folder / "t.nii.gz")
    for name, array in extra.items():
        entry[name] = save(array, folder / f"{name}.nii.gz", "label" if name != "weight" else "1")
    return [entry]


ONE = {"modality": "OT", "unit": "1"}


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal", "all"])
@pytest.mark.parametrize("shape", [(9, 20, 17), (2, 6, 7)])  # the second is smaller than a patch
def test_crops_are_taken_at_the_same_place(tmp_path: Path, axis: str, shape: tuple[int, int, int]) -> None:
    index = np.arange(np.prod(shape)).reshape(shape)
    mask = np.ones(shape, np.uint8)
    mask[0] = 0
    entries = index_volumes(tmp_path, shape, mask=mask, weight=index.astype(np.float32), regions=index.astype(np.int32))
    data = read_datalist(write_list(tmp_path, entries, source=ONE, target=ONE))
    feed = Feed(
        data,
        setup(2, (8, 8), batch=8, channels=(3, 1), normalisers=PLAIN),
        seed=1,
        spatial=Spatial(axis=axis, neighbours=1),
        augment=Augment(flip=0.5, affine=0.0),
    )
    flipped = 0
    for step in range(6):
        batch = feed.batch(step)
        source, middle = batch["source"], batch["source"][:, 1:2]
        assert torch.equal(batch["target"], 2 * middle + 1)
        assert torch.equal(batch["weight"], middle)
        assert torch.equal(batch["regions"], middle)
        places = middle.long().numpy()
        z, y, x = np.unravel_index(places, shape)
        assert np.array_equal(batch["mask"].numpy(), mask[z, y, x])
        stacks = {"axial": [0], "coronal": [1], "sagittal": [2], "all": [0, 1, 2]}[axis]
        for item in range(8):
            across = [a for a in stacks if len(np.unique((z, y, x)[a][item])) == 1]
            assert across  # the patch lies in one slice of an allowed plane
            steps = np.prod(shape[across[0] + 1 :], dtype=int)
            at, last = (z, y, x)[across[0]][item], shape[across[0]] - 1
            before, after = (source[item, k].numpy() - middle[item, 0].numpy() for k in (0, 2))
            if shape == (9, 20, 17) or len(stacks) == 1:
                # Neighbouring slices; the outermost is repeated.
                assert np.array_equal(before, np.where(at[0] > 0, -steps, 0))
                assert np.array_equal(after, np.where(at[0] < last, steps, 0))
            left = x[item, 0]
            flipped += int(left[0, 0] > left[0, -1])
    if shape == (9, 20, 17):
        assert (flipped > 0) == (axis != "sagittal")  # in sagittal slices left and right cannot be swapped


def test_volume_patches_are_mirrored_beyond_a_small_image(tmp_path: Path) -> None:
    shape = (5, 7, 30)
    data = read_datalist(write_list(tmp_path, index_volumes(tmp_path, shape), source=ONE, target=ONE))
    feed = Feed(data, setup(3, (8, 12, 12), normalisers=PLAIN), seed=0, augment=NO_AUGMENT)
    batch = feed.batch(0)
    assert torch.equal(batch["target"], 2 * batch["source"] + 1)
    z, y, x = np.unravel_index(batch["source"][0, 0].long().numpy(), shape)
    assert z[:, 0, 0].tolist() == [1, 0, 1, 2, 3, 4, 3, 2]
    assert y[0, :, 0].tolist() == [2, 1, 0, 1, 2, 3, 4, 5, 6, 5, 4, 3]
    assert np.diff(x[0, 0]).tolist() == [1] * 11


@pytest.mark.parametrize(("dims", "patch"), [(2, (24, 23)), (3, (12, 24, 24))])
def test_rotation_and_scaling_move_all_images_alike(tmp_path: Path, dims: int, patch: tuple[int, ...]) -> None:
    mr, _ = head(2)
    labels = (mr > 300).astype(np.uint8)
    entry = {"subject": "a", "source": save(mr, tmp_path / "a.nii.gz"), "mask": save(labels, tmp_path / "m.nii.gz")}
    entry["target"] = save(3 * mr, tmp_path / "b.nii.gz")
    entry["regions"] = entry["mask"]
    data = read_datalist(write_list(tmp_path, [entry], source=ONE, target=ONE))
    turned = Feed(data, setup(dims, patch, normalisers=PLAIN), seed=3, augment=Augment(flip=0.0, affine=1.0))
    exact = Feed(data, setup(dims, patch, normalisers=PLAIN), seed=3, augment=NO_AUGMENT)
    still = Feed(data, exact.setup, seed=3, augment=Augment(flip=0.0, affine=1.0, degrees=0.0, scale=0.0))
    assert torch.isin(still.batch(0)["source"], torch.from_numpy(mr)).all()  # nothing is blurred for its own sake
    for step in range(3):
        batch, plain = turned.batch(step), exact.batch(step)
        assert torch.allclose(batch["target"], 3 * batch["source"], rtol=1e-4, atol=0.05)
        assert torch.equal(batch["mask"], batch["regions"])
        assert set(batch["mask"].unique().tolist()) <= {0.0, 1.0}
        agree = (batch["mask"] == (batch["source"] > 300)).float().mean()
        assert agree > 0.95  # they differ where a threshold meets interpolation
        assert not torch.isin(batch["source"], torch.from_numpy(mr)).all()  # it was interpolated
        assert torch.isin(plain["source"], torch.from_numpy(mr)).all()


def test_nine_of_ten_patches_touch_the_body(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(100, 30, (20, 96, 96)).astype(np.float32)  # contrast everywhere
    mask = np.zeros(array.shape, np.uint8)
    mask[8:12, 30:42, 60:70] = 1  # 0.26 % of the volume
    entry = {"subject": "a", "source": save(array, tmp_path / "a.nii.gz"), "mask": save(mask, tmp_path / "m.nii.gz")}
    entry["target"] = save(array, tmp_path / "b.nii.gz")
    data = read_datalist(write_list(tmp_path, [entry], source=ONE, target=ONE))
    for dims, patch in ((2, (16, 16)), (3, (8, 16, 16))):
        feed = Feed(data, setup(dims, patch, batch=64, normalisers=PLAIN), seed=0)
        touched = torch.cat([feed.batch(step)["mask"].flatten(1).amax(1) for step in range(4)])
        assert 0.9 <= touched.mean() < 0.99  # and a few see what is outside


def test_flat_patches_are_drawn_again(tmp_path: Path) -> None:
    array = np.full((6, 64, 64), 50.0, np.float32)
    array[:, 40:60, 40:60] += np.random.default_rng(0).normal(0, 20, (6, 20, 20)).astype(np.float32)
    everywhere = save(np.ones(array.shape, np.uint8), tmp_path / "m.nii.gz")
    entry = {"subject": "a", "source": save(array, tmp_path / "a.nii.gz"), "mask": everywhere}
    entry["target"] = save(array, tmp_path / "b.nii.gz")
    data = read_datalist(write_list(tmp_path, [entry], source=ONE, target=ONE))
    feed = Feed(data, setup(2, (12, 12), batch=100, normalisers=PLAIN), seed=0)
    flat = (feed.batch(0)["target"].flatten(1).std(1) < 0.01).float().mean()
    # About (31 / 64) ** 2 of the draws show some of the texture: one draw leaves 77 % flat, nine leave 9 %.
    assert 0.0 < flat < 0.25


def test_every_epoch_shows_every_case_once(folder: Path) -> None:
    feed = feed_of(folder, "unpaired")
    assert [stream.pool for stream in feed.streams] == [(0, 1), (2, 3, 4)]
    for place, stream in enumerate(feed.streams):
        size = len(stream.pool)
        epochs = [[feed._index(place, stream, e * size + k) for k in range(size)] for e in range(12)]
        assert all(sorted(epoch) == list(stream.pool) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1


def test_pairs_stay_pairs_and_unpaired_draws_do_not(folder: Path, tmp_path: Path) -> None:
    for number in range(6):
        flat = np.full((4, 16, 16), 100.0 * number, np.float32)
        flat += np.linspace(0, 50, 16, dtype=np.float32)
        for name in "ab":
            save(flat, tmp_path / f"{number}{name}.nii.gz")
    entries = [{"subject": f"{n}", "source": f"{n}a.nii.gz", "target": f"{n}b.nii.gz"} for n in range(6)]
    everywhere = save(np.ones((4, 16, 16), np.uint8), tmp_path / "m.nii.gz")
    entries = [{**entry, "mask": everywhere} for entry in entries]
    data = read_datalist(write_list(tmp_path, entries, source=ONE, target=ONE))
    paired = Feed(data, setup(2, (8, 8), batch=12, normalisers=PLAIN), seed=0, augment=NO_AUGMENT).batch(0)
    assert torch.equal(paired["source"], paired["target"])
    lone = Feed(data, setup(2, (8, 8), batch=12, normalisers=PLAIN), seed=0, needs="unpaired", augment=NO_AUGMENT)
    drawn = lone.batch(0)
    subjects_drawn = [(drawn[key].flatten(1).mean(1) // 100).long() for key in ("source", "target")]
    assert not torch.equal(*subjects_drawn)
    assert all(sorted(half.tolist()) == sorted([*range(6)] * 2) for half in subjects_drawn)


def test_labels_belong_to_their_images(folder: Path) -> None:
    feed = feed_of(folder, "unconditional")
    for step in range(3):
        expected = [feed._index(0, feed.streams[0], 4 * step + item) % 2 for item in range(4)]
        assert feed.batch(step)["label"].tolist() == expected


def test_no_training_patch_comes_from_a_validation_subject(folder: Path) -> None:
    """The validation subject's files are replaced by a value that nothing else holds."""
    place = folder / "leak"
    place.mkdir()
    entries = subjects(place, 4)
    mr, _ = head(3)
    save(np.where(mr > 300, 5000 + mr, mr).astype(np.float32), place / "s3_mr.nii.gz")
    data = read_datalist(write_list(place, entries[:3], validation=entries[3:]))
    feed = Feed(data, setup(2, (32, 32), normalisers=PLAIN), seed=0)
    assert max(float(feed.batch(step)["source"].max()) for step in range(6)) < 4000
    assert float(feed.validation[0].source.array.max()) > 5000  # type: ignore[union-attr]


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
    with pytest.raises(ModelError, match="Unknown normaliser kind"):
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


def test_a_cached_patch_takes_less_than_twenty_milliseconds(tmp_path: Path) -> None:
    mr, ct = head(0, (12, 300, 300))
    entry = {"subject": "a", "source": save(mr, tmp_path / "a.nii.gz"), "target": save(ct, tmp_path / "b.nii.gz", "HU")}
    feed = Feed(read_datalist(write_list(tmp_path, [entry])), setup(2, (256, 256), batch=1), seed=0)
    feed.batch(0)
    seconds = []
    for step in range(1, 41):
        started = time.thread_time()  # this thread's own work: the machine may be busy with other things
        feed.batch(step)
        seconds.append(time.thread_time() - started)
    assert np.mean(seconds) < 0.020
