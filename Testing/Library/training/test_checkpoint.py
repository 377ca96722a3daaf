"""Checkpoints: a run that was killed and resumed ends in the same bits; damage and full disks lose one at most."""

from __future__ import annotations

import errno
import functools
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from training_cases import CHILD, LocalNet, ToyConfig, ToyFeed, ToyGan, child_environment, gan_setup, same

from SynthGANLib.errors import InputError
from SynthGANLib.files import NotWrittenError, write_json
from SynthGANLib.training import checkpoint
from SynthGANLib.training.engine import train


@pytest.fixture(autouse=True)
def one_thread():
    """The number of threads decides the order of sums, and with it the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(out, setup=None, **options):
    setup = setup or gan_setup()
    return train(setup, ToyFeed(setup, 5), out, seed=5, device="cpu", **{"save_every": 4, "log_every": 2, **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The last checkpoint of a run of twelve steps that nothing stopped."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole")
    run(out)
    torch.set_num_threads(before)
    return checkpoint.load(out, 12)


@pytest.mark.slow
def test_killed_and_resumed_run_ends_in_the_same_bits(tmp_path, whole):
    """SIGKILL in step 7 of 12, three steps after a checkpoint; nothing that a process can catch."""
    out = tmp_path / "run"
    child = [sys.executable, str(CHILD), str(out), "--kill", "7"]
    assert subprocess.run(child, env=child_environment(), stderr=subprocess.DEVNULL).returncode == -9
    assert checkpoint.steps_of(out) == [4]
    torch.manual_seed(999)  # whatever the resuming process drew before
    torch.rand(10)
    assert run(out, resume=True).steps == 12
    resumed = checkpoint.load(out, 12)
    assert same(whole, resumed) is None
    # and it holds what makes that true
    assert len(whole["regime"]["_extra_state"]["images"]) == 3
    assert int(whole["regime"]["seen"]) == 12
    assert whole["average"]["updates"] == 12
    assert "layers.1.running_mean" in "".join(whole["regime"])


def test_resumed_run_without_its_random_numbers_differs(tmp_path, whole):
    """The check above can fail: dropout and noise decide the weights."""
    run(tmp_path, gan_setup(steps=12), save_every=4)
    for step in (8, 12):
        content = checkpoint.load(tmp_path, step)
        content["global"] = torch.random.manual_seed(1).get_state()
        torch.save(content, checkpoint.path_of(tmp_path, step))
    checkpoint.path_of(tmp_path, 12).unlink()
    run(tmp_path, resume=True)
    assert same(whole["regime"], checkpoint.load(tmp_path, 12)["regime"]) is not None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_last_checkpoint_falls_back_to_the_one_before(tmp_path, whole, capsys, damage):
    run(tmp_path)
    last = checkpoint.path_of(tmp_path, 12)
    data = bytearray(last.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    last.write_bytes({"truncated": data[: len(data) // 2], "flipped": data, "empty": b""}[damage])
    assert run(tmp_path, resume=True).steps == 12
    said = capsys.readouterr().err
    assert f"warning: The checkpoint '{last}' is damaged" in said
    assert "The one before it is taken." in said
    assert same(whole, checkpoint.load(tmp_path, 12)) is None


def test_all_checkpoints_damaged(tmp_path):
    run(tmp_path)
    for step in checkpoint.steps_of(tmp_path):
        checkpoint.path_of(tmp_path, step).write_bytes(b"PK")
    with pytest.raises(InputError, match="None of the 2 checkpoints"):
        run(tmp_path, resume=True)


def test_last_two_are_kept_and_nothing_half_written(tmp_path):
    left = checkpoint.path_of(tmp_path, 3).with_name("step-00000003.pt.part")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of a process that was killed while it wrote")
    run(tmp_path, save_every=3)
    assert sorted(path.name for path in checkpoint.folder_of(tmp_path).iterdir()) == [
        "step-00000009.pt",
        "step-00000012.pt",
    ]


def test_checkpoint_holds_tensors_and_plain_values_only(tmp_path):
    def kinds(value):
        if isinstance(value, dict):
            return {str}.union(*(kinds(v) | {type(k)} for k, v in value.items())) if value else {dict}
        if isinstance(value, list | tuple):
            return set().union(*map(kinds, value))
        return {type(value)}

    run(tmp_path)
    content = checkpoint.load(tmp_path, 12)
    assert kinds(content) <= {str, int, float, bool, type(None), torch.Tensor, dict}
    assert content["about"]["data"]["split"] == {"training": ["a", "b"], "validation": ["c"]}


# A full disk


def full(size, content, path):
    """Like torch.save, on a disk that has room for `size` bytes."""
    path.write_bytes(b"x" * size)
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_costs_one_checkpoint(tmp_path, monkeypatch, capsys, whole):
    save, calls = torch.save, []

    def save_but_once(content, path):
        calls.append(path)
        return full(1000, content, path) if len(calls) == 2 else save(content, path)

    monkeypatch.setattr(torch, "save", save_but_once)
    run(tmp_path)
    said = capsys.readouterr().err
    assert "step-00000008.pt' cannot be written (No space left on device). The training goes on" in said
    assert checkpoint.steps_of(tmp_path) == [12, 4]
    assert same(whole, checkpoint.load(tmp_path, 12)) is None
    assert not list(checkpoint.folder_of(tmp_path).glob("*.part"))


def test_full_disk_stops_cleanly_where_that_is_asked(tmp_path, monkeypatch, whole):
    monkeypatch.setattr(torch, "save", functools.partial(full, 10))
    with pytest.raises(NotWrittenError, match=r"step-00000004.pt' cannot be written \(No space left"):
        run(tmp_path, full_disk="stop")
    monkeypatch.undo()
    run(tmp_path, resume=True)
    assert same(whole, checkpoint.load(tmp_path, 12)) is None


def test_last_checkpoint_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", functools.partial(full, 10))
    with pytest.raises(NotWrittenError) as caught:
        run(tmp_path, full_disk="continue")
    assert (caught.value.exit_code, "--resume" in caught.value.next_step) == (2, True)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_disk_that_is_really_full(small_disk):
    """What was written before it was full is kept, and the run goes on from there once there is room."""
    out, filler = small_disk / "run", small_disk / "filler"
    run(out, gan_setup(steps=8))
    checkpoint.path_of(out, 8).unlink()
    filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 4096))
    with pytest.raises(NotWrittenError, match=r"step-00000008\.pt' cannot be written"):
        run(out, gan_setup(steps=8), resume=True)
    assert checkpoint.steps_of(out) == [4]
    filler.unlink()
    assert run(out, gan_setup(steps=8), resume=True).steps == 8


def test_json_that_cannot_be_written_leaves_the_old(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr("pathlib.Path.write_text", lambda self, *a, **k: full(3, None, self))
    with pytest.raises(NotWrittenError, match="No space left"):
        write_json(path, {"a": 2})
    monkeypatch.undo()
    assert path.read_text().split() == ["{", '"a":', "1", "}"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


# Another run than the one that was begun


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 20}, "'setup.steps' is 12 there and 20 here"),
        ({"config": ToyConfig(l1=1.0)}, "'setup.config.l1' is 10.0 there and 1.0 here"),
        ({"patch": (8, 16)}, "'setup.patch' is"),
        ({"ema": 0.0}, "'setup.ema' is 0.9 there and 0.0 here"),
    ],
)
def test_resuming_with_another_setup_is_refused(tmp_path, change, said):
    run(tmp_path)
    with pytest.raises(InputError, match="cannot be resumed with other settings") as caught:
        run(tmp_path, replace(gan_setup(), **change), resume=True)
    assert said in str(caught.value)


def test_resuming_with_another_seed_or_split_is_refused(tmp_path):
    run(tmp_path)
    setup = gan_setup()
    with pytest.raises(InputError, match=r"'run.seed' is 5 there and 6 here"):
        train(setup, ToyFeed(setup, 5), tmp_path, seed=6, device="cpu", resume=True)

    class Other(ToyFeed):
        def describe(self):
            return {**super().describe(), "split": {"training": ["a"], "validation": ["b", "c"]}}

    with pytest.raises(InputError, match=r"'data.split.training' is \[\"a\", \"b\"\] there and \[\"a\"\] here"):
        train(setup, Other(setup, 5), tmp_path, seed=5, device="cpu", resume=True)


def test_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    run(tmp_path)
    with pytest.raises(InputError, match="holds a run already") as caught:
        run(tmp_path)
    assert "--resume" in caught.value.next_step
    assert checkpoint.steps_of(tmp_path) == [12, 8]


def test_finished_run_resumed_does_nothing(tmp_path, whole):
    run(tmp_path)
    before = checkpoint.path_of(tmp_path, 12).read_bytes()
    assert run(tmp_path, resume=True).steps == 12
    assert checkpoint.path_of(tmp_path, 12).read_bytes() == before


def test_features_that_are_only_looked_through_keep_their_weights(tmp_path):
    class Looking(ToyGan):
        def __init__(self, networks, config):
            super().__init__(networks, config)
            self.features = networks["features"]

    setup = gan_setup(steps=1, regime=Looking, config=ToyConfig())
    setup = replace(setup, networks={**setup.networks, "features": LocalNet("Judge", {"width": 3})})
    torch.manual_seed(5)
    own = {name: net.build() for name, net in setup.networks.items()}["features"].state_dict()
    run(tmp_path, setup)
    found = checkpoint.load(tmp_path, 1)["regime"]
    assert all(torch.equal(found[f"features.{name}"], value) for name, value in own.items())
