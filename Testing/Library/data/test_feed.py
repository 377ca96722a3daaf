"""What a training sees: decided by (seed, step, rank) alone, aligned, in the body, in the units promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from feed_cases import CONFIGURATIONS, ONE, PLAIN, feed_of, index_volumes, same
from list_cases import head, save, setup, subjects, write_list

from SynthGANLib.data.cases import Spatial
from SynthGANLib.data.datalist import read_datalist
from SynthGANLib.data.feed import Feed
from SynthGANLib.data.patches import NO_AUGMENT, Augment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five subjects, the last for validation, with the file of a list of each kind."""
    place = tmp_path_factory.mktemp("subjects")
    subjects(place, 5)
    return place


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_batch_depends_on_seed_and_step_alone(folder: Path, name: str) -> None:
    feed, again = feed_of(folder, name), feed_of(folder, name)
    forwards = [feed.batch(step) for step in range(4)]
    torch.manual_seed(99)
    np.random.seed(99)  # the global state must not matter  # noqa: NPY002
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
        counts = [[divmod(e * size + k, feed.setup.batch) for k in range(size)] for e in range(12)]
        epochs = [[feed._index(place, stream, step, number)[1] for step, number in epoch] for epoch in counts]
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
        expected = [feed._index(0, feed.streams[0], step, item)[1] % 2 for item in range(4)]
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
