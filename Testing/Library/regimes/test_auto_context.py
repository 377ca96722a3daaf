"""Cascades trained stage by stage: estimates out of fold, and what is validated and exported before the last stage."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from list_cases import save, setup, write_list
from recipe_cases import EveryKey
from regime_cases import Loop, auto_context, drawn, images, stages
from torch import Tensor, nn
from training_cases import same

from SynthGANLib.data.datalist import DataList, read_datalist
from SynthGANLib.data.feed import Feed
from SynthGANLib.data.patches import NO_AUGMENT
from SynthGANLib.errors import InputError
from SynthGANLib.model.model import Model
from SynthGANLib.networks.cascade import Cascade
from SynthGANLib.recipes.overrides import apply
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.regimes.adversary import AdversarialWeights
from SynthGANLib.regimes.base import Batch
from SynthGANLib.regimes.cascade import StagedCascade
from SynthGANLib.regimes.stages import CascadeConfig
from SynthGANLib.training import checkpoint
from SynthGANLib.training.engine import train
from SynthGANLib.training.export_run import export
from SynthGANLib.training.record import Record, write_record
from SynthGANLib.training.validate import Report

PLAIN = {"source": {"kind": "identity"}, "target": {"kind": "identity"}}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bit for bit is promised for the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parts(regime: StagedCascade) -> dict[str, nn.Module]:
    """Everything that is trained apart, by name."""
    named = {f"stage {n}": stage for n, stage in enumerate(regime.generator.stages)}
    for stage, copies in enumerate(regime.copies):
        named |= {f"copy {stage}.{fold}": one for fold, one in enumerate(copies)}  # type: ignore[arg-type]
    for stage, judges in enumerate(regime.copied_judges):
        named |= {f"judge {stage}.{fold}": one for fold, one in enumerate(judges)}  # type: ignore[arg-type]
    return named


def bits(module: nn.Module) -> Tensor:
    return torch.cat([value.detach().double().flatten() for value in module.state_dict().values()])


def folded(fold: int, seed: int) -> Batch:
    return images(drawn(seed), "source", "target") | {"fold": torch.full((2,), fold)}


# The regime


def test_a_copy_never_depends_on_the_images_of_its_fold() -> None:
    """Two runs differ in the images of fold 0 alone: all but what is kept apart from fold 0 ends in other bits."""
    ends = []
    for seed in (100, 200):
        torch.manual_seed(1)
        regime = auto_context(steps=32).train()
        loop = Loop(regime)
        for step in range(8):  # of the first stage
            fold = step % 2
            loop.take(folded(fold, step if fold else seed + step), drawn(3))
        ends.append({name: bits(part) for name, part in parts(regime).items()})
    equal = {name for name in ends[0] if torch.equal(ends[0][name], ends[1][name])}
    assert equal == {"copy 0.0", "judge 0.0", "stage 1"}  # and the second stage, which is not trained yet
    assert not torch.equal(ends[0]["copy 0.0"], ends[0]["copy 0.1"])


def test_the_second_stage_learns_from_the_copy_that_does_not_know_the_images() -> None:
    torch.manual_seed(1)
    regime = auto_context(steps=8).train()
    loop = Loop(regime)
    for step in range(2):
        loop.take(folded(step, step), drawn(3))
    regime.step = 4
    for fold in (0, 1):
        batch = folded(fold, 50)
        given = regime.estimate(batch["source"], fold)
        copy: Any = regime.copies[0][fold].eval()  # type: ignore[index]
        own = regime.generator.stages[0].eval()
        assert torch.equal(given[:, 1:], copy(batch["source"]))
        assert not torch.allclose(given[:, 1:], own(batch["source"]))
        seen: list[Tensor] = []
        handle = regime.generator.stages[1].register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0]))
        regime.train()
        regime.predict(batch, drawn(0))  # a new image: by the stages that everybody trained
        handle.remove()
        assert torch.equal(seen[0][:, 1:], own.eval()(batch["source"]))


def test_copies_begin_as_their_stage_and_finished_ones_rest() -> None:
    torch.manual_seed(1)
    regime = auto_context(steps=8).train()
    with torch.no_grad():
        for parameter in regime.generator.parameters():
            parameter.add_(0.25)  # as the first weights are drawn after the regime is built
    regime.step = 0
    regime.forward(folded(0, 0), drawn(0))
    fresh = {name: part.state_dict() for name, part in parts(regime).items()}
    weights = [name for name in fresh["stage 0"] if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(fresh["copy 0.1"][name], fresh["stage 0"][name]) for name in weights)
    loop = Loop(regime)
    for step in range(2):
        loop.take(folded(step, step), drawn(3))
    before = {name: bits(part) for name, part in parts(regime).items() if name != "stage 1"}
    for step in range(2, 6):
        loop.take(folded(step % 2, step), drawn(3))
    assert all(torch.equal(before[name], bits(part)) for name, part in parts(regime).items() if name in before)


def test_a_step_of_the_first_stage_is_one_of_each_network_by_itself() -> None:
    """What is summed up into one loss does not mix: a copy moves as it would alone."""
    torch.manual_seed(1)
    regime = auto_context(steps=32, folds=3).train()
    batch = folded(1, 7)
    loop = Loop(regime)
    loop.take(batch, drawn(0))
    assert set(loop.terms["generator"]) == {"l1", "adversarial", "copies"}
    assert set(loop.terms["discriminator"]) == {"discriminator", "copies"}
    one = loop.terms["generator"]
    assert one["copies"] == pytest.approx(2 * (one["l1"] + one["adversarial"]), rel=1e-5)  # they began alike
    named = {name: bits(part) for name, part in parts(regime).items()}
    for fold in (0, 2):  # and go on alike: the batch was the same
        assert torch.equal(named[f"copy 0.{fold}"], named["stage 0"])
    assert not torch.equal(named["copy 0.1"], named["stage 0"])


def test_what_makes_no_sense_is_refused() -> None:
    weights = AdversarialWeights(l1=1.0, adversarial=0.0)
    with pytest.raises(ValueError, match="2 or more, or 0"):
        CascadeConfig((weights, weights), (0.5,), 8, folds=1)
    with pytest.raises(InputError, match="refused: folds are 2 or more"):
        apply(RECIPES["cascade-gan"].tiny(), {"config.folds": "1"})
    regime = auto_context()
    with pytest.raises(ValueError, match="a batch is of one fold"):
        regime.forward(images(drawn(0), "source", "target") | {"fold": torch.tensor([0, 1])}, drawn(0))
    assert RECIPES["cascade-gan"].canonical().config.folds == 4
    without = StagedCascade({"generator": stages(1, 2)}, CascadeConfig((weights, weights), (0.5,), 8))
    assert "fold" not in without.needs
    assert len(without.copies) == 0


# The data


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> DataList:
    """Five subjects, the first with two cases, each image as bright as its subject's number."""
    folder = tmp_path_factory.mktemp("subjects")
    entries = []
    for number in range(6):
        subject = max(0, number - 1)
        ramp = np.linspace(0, 0.5, 16, dtype=np.float32)
        source = np.broadcast_to(subject + ramp, (4, 16, 16)).copy()
        entry = {"subject": f"s{subject}", "source": save(source, folder / f"{number}.nii.gz")}
        entry["target"] = save(source / 10, folder / f"{number}t.nii.gz")
        entry["mask"] = save(np.ones((4, 16, 16), np.uint8), folder / "mask.nii.gz", "label")
        entries.append(entry)
    other = {"modality": "OT", "unit": "1"}
    return read_datalist(write_list(folder, entries, source=other, target=other))


class Folds:
    """A config that asks for `folds`."""

    def __init__(self, folds: int) -> None:
        self.folds = folds


def fed(listed: DataList, folds: int, **more: Any) -> Feed:
    chosen = replace(setup(2, (8, 8), batch=4, normalisers=PLAIN), config=Folds(folds))
    return Feed(listed, chosen, **{"seed": 3, "augment": NO_AUGMENT, **more})


def subjects_of(batch: Batch) -> set[int]:
    return {int(value) for value in batch["source"].amax((1, 2, 3)).floor().tolist()}


def test_batches_are_of_one_fold_and_folds_of_whole_subjects(listed: DataList) -> None:
    feed = fed(listed, 2)
    held = defaultdict(set)
    for step in range(12):
        batch = feed.batch(step)
        assert batch["fold"].tolist() == [step % 2] * 4
        held[step % 2] |= subjects_of(batch)
    assert held[0] | held[1] == set(range(5))
    assert not held[0] & held[1]
    assert {len(held[0]), len(held[1])} == {2, 3}
    assert "fold" not in fed(listed, 0).batch(0)


def test_every_case_of_a_fold_comes_once_an_epoch(listed: DataList) -> None:
    feed = fed(listed, 2)
    (stream,) = feed.streams
    for fold, pool in enumerate(stream.folds):
        count = 4 * len(pool)  # four epochs; a batch is four cases
        drawn_cases = [feed._index(0, stream, 2 * (n // 4) + fold, n % 4) for n in range(count)]
        assert {found for found, _ in drawn_cases} == {fold}
        epochs = [[case for _, case in drawn_cases[start : start + len(pool)]] for start in range(0, count, len(pool))]
        assert all(sorted(epoch) == list(pool) for epoch in epochs)


def test_processes_share_the_fold_and_too_few_subjects_are_told(listed: DataList) -> None:
    whole, halves = fed(listed, 3).batch(4), [fed(listed, 3, rank=rank, world=2).batch(4) for rank in (0, 1)]
    for rank, half in enumerate(halves):
        assert torch.equal(half["source"], whole["source"][rank::2])
        assert torch.equal(half["fold"], whole["fold"][rank::2])
    with pytest.raises(InputError, match="has 5 subjects to train on, and 6 folds are asked") as caught:
        fed(listed, 6)
    assert "config.folds" in caught.value.next_step


@pytest.mark.slow
def test_no_context_comes_from_a_network_that_has_trained_on_the_case(listed: DataList) -> None:
    """The whole way, from the files: who was changed by which subject's images, and who then estimates whom."""
    feed = fed(listed, 3)
    torch.manual_seed(1)
    regime = auto_context(steps=24, folds=3).train()
    loop = Loop(regime)
    learnt: dict[str, set[int]] = defaultdict(set)
    for step in range(6):
        batch = feed.batch(step)
        before = {name: bits(part) for name, part in parts(regime).items()}
        loop.take(batch, drawn(0))
        for name, part in parts(regime).items():
            if not torch.equal(before[name], bits(part)):
                learnt[name] |= subjects_of(batch)
    assert learnt["stage 0"] == set(range(5))
    assert all(1 <= len(learnt[f"copy 0.{fold}"]) < 5 for fold in range(3))

    used: list[tuple[str, set[int]]] = []

    def tell(name: str) -> Any:
        return lambda _, given: used.append((name, {int(v) for v in given[0][:, :1].amax((1, 2, 3)).floor()}))

    for name, part in parts(regime).items():
        if not name.startswith("judge"):
            part.register_forward_pre_hook(tell(name))
    for step in range(6, 24):
        loop.take(feed.batch(step), drawn(0))
    contexts = [(name, who) for name, who in used if name != "stage 1"]
    assert {name for name, _ in contexts} == {"copy 0.0", "copy 0.1", "copy 0.2"}
    assert set().union(*(who for _, who in contexts)) == set(range(5))
    assert all(not who & learnt[name] for name, who in contexts)


# The run


class Folded(EveryKey):
    """Batches of every key, of folds in turn."""

    def batch(self, step: int) -> dict[str, Tensor]:
        made: dict[str, Tensor] = super().batch(step)
        return {**made, "fold": torch.full((self.setup.batch,), step % self.setup.config.folds)}


def cascade_gan(steps: int, **settings: str) -> Any:
    return apply(RECIPES["cascade-gan"].tiny(), {"steps": str(steps), "config.folds": "2", **settings})


@pytest.mark.slow
def test_out_of_fold_training_resumes_exactly(tmp_path: Path) -> None:
    chosen = cascade_gan(6, ema="0.9")
    feed = Folded(RECIPES["cascade-gan"], chosen)
    train(chosen, feed, tmp_path / "whole", seed=1, device="cpu", save_every=2)
    for kept in (2, 4):  # within the first stage, and in the second
        stopped = tmp_path / f"from {kept}"
        if kept == 4:
            shutil.copytree(tmp_path / "whole", stopped)
        else:
            stop_at(chosen, feed, stopped, kept)
        for step in checkpoint.steps_of(stopped):
            if step > kept:
                checkpoint.path_of(stopped, step).unlink()
        train(chosen, feed, stopped, seed=1, device="cpu", resume=True, save_every=2)
        assert same(checkpoint.load(tmp_path / "whole", 6), checkpoint.load(stopped, 6)) is None
    assert any(name.startswith("copies.0.1.") for name in checkpoint.load(tmp_path / "whole", 6)["regime"])


def stop_at(chosen: Any, feed: Folded, out: Path, step: int) -> None:
    """A run that ends, as if killed, when the batch of `step` is asked for."""

    class Ends(Folded):
        def batch(self, asked: int) -> dict[str, Tensor]:
            if asked >= step:
                raise KeyboardInterrupt
            return super().batch(asked)

    with pytest.raises(KeyboardInterrupt):
        train(chosen, Ends(RECIPES["cascade-gan"], chosen), out, seed=1, device="cpu", save_every=1)


def test_the_deepest_trained_stage_is_validated_and_exported(tmp_path: Path) -> None:
    chosen = cascade_gan(6)
    feed = Folded(RECIPES["cascade-gan"], chosen)
    depths: list[int] = []

    def validator(networks: Any, device: torch.device) -> Report:
        forward = networks["forward"]
        assert isinstance(forward, Cascade)
        depths.append(len(forward.stages))
        assert forward(torch.zeros(1, 1, 12, 12, 12)).shape == (1, 1, 12, 12, 12)
        score = {True: float(len(depths)), False: -float(len(depths))}[first_is_best]
        return Report(score, {"score": score}, "")

    for first_is_best, best, stages_left in ((True, 1, 1), (False, 6, 2)):
        run = tmp_path / f"run {first_is_best}"
        depths.clear()
        train(chosen, feed, run, seed=1, device="cpu", validator=validator, validate_every=1)
        assert depths == [1, 1, 1, 2, 2, 2]
        assert checkpoint.read(run / "best.pt")["best"]["step"] == best
        settings = {"steps": "6", "config.folds": "2"}
        write_record(run, Record("cascade-gan", "tiny", settings, feed.describe(), "data.json", 1, "none"))
        export(run, tmp_path / f"model {first_is_best}")
        network = Model.load(tmp_path / f"model {first_is_best}").network
        assert isinstance(network, Cascade)
        assert len(network.stages) == stages_left
        trained = checkpoint.read(run / "best.pt")["regime"]
        for name, value in network.state_dict().items():
            assert torch.equal(value, trained[f"generator.{name}"]), name


def test_the_first_stages_are_the_cascades_own() -> None:
    whole = stages(1, 2, 2).eval()
    x = images(drawn(0), "x")["x"]
    every = whole.intermediates(x)
    for count in (1, 2, 3):
        part = whole.first(count)
        assert torch.equal(part(x), every[count - 1])
        assert all(a is b for a, b in zip(part.stages, whole.stages, strict=False))
    assert len(whole.stages) == 3
    with pytest.raises(ValueError, match="no first 4"):
        whole.first(4)
