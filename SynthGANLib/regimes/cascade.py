"""Stages trained one after the other, each on what the finished ones make of the source.

Auto-context GAN (Nie 2017), sketcher and refiner (Wei 2018), low-dose PET (Wang 2018), FCN and conditional GAN
(Ben-Cohen 2019).

A stage's estimate of an image it was trained on is better than one of a new image. A stage that learns from such
estimates relies on them too much. With `folds` the estimates that a stage is trained on therefore come out of fold:
each earlier stage is trained once more for each fold, without the subjects of that fold, and it is that copy which
estimates them. Who runs the cascade gets the stages that were trained on all subjects.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.losses.penalty import clip_weights
from SynthGANLib.networks.cascade import Cascade
from SynthGANLib.regimes.adversary import discriminator_terms, generator_terms
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, sum_of
from SynthGANLib.regimes.discriminator_accuracy import Accuracy
from SynthGANLib.regimes.stages import CascadeConfig
from SynthGANLib.regimes.supervised import inner, pixel_terms, voxel_needs


class StagedCascade(Regime):
    """Stage t is a paired game or a regression on top of the frozen stages before it.

    Networks: "generator", a `Cascade`, and "discriminator_1", "discriminator_2", ... for the stages (from 1) that have
    a game; a conditional one sees the source, not the earlier estimates. Stages not in training get no gradients, and
    optimisers leave them, their momenta and their statistics alone.

    Attributes:
        copies: [stage][fold], the copies of all but the last stage that are trained without a fold; empty without
            folds. They begin as their stage does. copied_judges: their discriminators.
    """

    groups: Mapping[str, tuple[str, ...]] = {"generator": ("generator",)}
    needs: tuple[str, ...] = ("source", "target")

    def __init__(self, networks: Mapping[str, nn.Module], config: CascadeConfig) -> None:
        super().__init__()
        self.generator = cast(Cascade, networks["generator"])
        self.config = config
        self.accuracy = Accuracy()
        if len(self.generator.stages) != len(config.stages):
            raise ValueError(f"{len(self.generator.stages)} stages of networks, {len(config.stages)} of training")
        names = tuple(
            f"discriminator_{number}" for number, stage in enumerate(config.stages, 1) if stage.uses_discriminator
        )
        for name in names:
            setattr(self, name, networks[name])
        keys = [key for stage in config.stages for key in voxel_needs(stage)]
        keys += ["fold"] if config.folds else []
        self.needs = tuple(dict.fromkeys(("source", "target", *keys)))  # the config decides
        earlier = range(len(config.stages) - 1) if config.folds else range(0)
        self.copies = nn.ModuleList(self._copied(self.generator.stages[stage]) for stage in earlier)
        self.copied_judges = nn.ModuleList(
            self._copied(self.judge(stage)) if config.stages[stage].uses_discriminator else nn.ModuleList()
            for stage in earlier
        )
        if names:
            self.groups = {"discriminator": (*names, "copied_judges"), "generator": ("generator", "copies")}
        else:
            self.groups = {"generator": ("generator", "copies")}

    def _copied(self, module: nn.Module) -> nn.ModuleList:
        return nn.ModuleList(copy.deepcopy(module) for _ in range(self.config.folds))

    def turns(self, step: int) -> tuple[str, ...]:
        uses_discriminator = self.config.stages[self.config.stage(step)].uses_discriminator
        return ("discriminator", "generator") if uses_discriminator else ("generator",)

    def estimate(self, source: Tensor, fold: int | None = None) -> Tensor:
        """The input of the stage in training: by the frozen stages before it, or by their copies for `fold`."""
        images = list[Tensor]()
        for stage in range(self.config.stage(self.step)):
            finished = self.generator.stages[stage] if fold is None else _at(self.copies, stage)[fold]
            images.append(_frozen(finished, self.generator.stage_input(source, images)))
        return self.generator.stage_input(source, images)

    def learners(self, fold: int | None) -> list[tuple[str, nn.Module, nn.Module | None]]:
        """All that learn from a batch of `fold`: the image's name in the outputs, the network, its discriminator.

        The stage in training first, then its copies for the other folds.
        """
        now = self.config.stage(self.step)
        uses_discriminator = self.config.stages[now].uses_discriminator
        found = [("fake", self.generator.stages[now], self.judge(now) if uses_discriminator else None)]
        if fold is not None and now < len(self.copies):
            for other in range(self.config.folds):
                if other != fold:
                    judge = _at(self.copied_judges, now)[other] if uses_discriminator else None
                    found.append((f"fake_{other}", _at(self.copies, now)[other], judge))
        return found

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        if self.step == 0:
            self._begin_copies()
        fold = self._fold(batch)
        given = self.estimate(batch["source"], fold)
        outputs = {name: inner(network, given) for name, network, _ in self.learners(fold)}
        return outputs if fold is None else outputs | {"fold": torch.tensor(fold)}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        weights = self.config.stages[self.config.stage(self.step)]
        source, real, every = batch["source"], batch["target"], list[Terms]()
        for name, _, judge in self.learners(int(outputs["fold"]) if "fold" in outputs else None):
            fake = outputs[name]
            accuracy = Accuracy() if every else self.accuracy  # the copies' is not shown
            if turn == "discriminator" and judge is not None:
                every.append(discriminator_terms(weights, judge, accuracy, source, real, fake, rng))
            else:
                terms = pixel_terms(weights, fake, real, batch)
                game = {} if judge is None else generator_terms(weights, judge, source, real, fake)
                every.append(terms | game)
        copies = [sum_of(terms) for terms in every[1:]]
        yield every[0] | ({"copies": torch.stack(copies).sum()} if copies else {})

    def _fold(self, batch: Batch) -> int | None:
        """The fold that all images of the batch are of; None without folds. ValueError for a batch of several."""
        if not self.config.folds:
            return None
        found: list[int] = batch["fold"].tolist()
        if len(set(found)) > 1:
            raise ValueError(f"a batch is of one fold, not of {sorted(set(found))}")
        return found[0]

    def _begin_copies(self) -> None:
        """Before the first step: the stages have got their first weights since they were copied."""
        for stage in range(len(self.copies)):
            for one in _at(self.copies, stage):
                one.load_state_dict(self.generator.stages[stage].state_dict())
            for one in _at(self.copied_judges, stage):
                one.load_state_dict(self.judge(stage).state_dict())

    def judge(self, stage: int) -> nn.Module:
        """The discriminator of a stage (from 0)."""
        return cast(nn.Module, getattr(self, f"discriminator_{stage + 1}"))

    def after(self, turn: str) -> None:
        now = self.config.stage(self.step)
        if turn == "discriminator" and self.config.stages[now].clip:
            copied = [*_at(self.copied_judges, now)] if now < len(self.copies) else []
            for judge in (self.judge(now), *copied):
                clip_weights(judge, self.config.stages[now].clip)

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        """The output of the stage in training: later ones know nothing yet."""
        stage = self.generator.stages[self.config.stage(self.step)]
        return cast(Tensor, stage(self.estimate(batch["source"])))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def usable(self) -> Mapping[str, nn.Module]:
        """The cascade up to the stage in training."""
        return {"forward": self.generator.first(self.config.stage(self.step) + 1)}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """The stage in training, from 1, and how often its discriminator is right."""
        return {"stage": float(self.config.stage(self.step) + 1), **self.accuracy.numbers()}


def _at(copies: nn.ModuleList, stage: int) -> nn.ModuleList:
    """The copies of a stage, one for each fold."""
    return cast(nn.ModuleList, copies[stage])


@torch.no_grad()
def _frozen(stage: nn.Module, x: Tensor) -> Tensor:
    """The output of a finished stage as it is used, without dropout and without renewing statistics."""
    training = stage.training
    stage.eval()
    try:
        return cast(Tensor, stage(x))
    finally:
        stage.train(training)
