"""Stages trained one after the other, each on what the finished ones make of the source.

Auto-context GAN (Nie 2017), sketcher and refiner (Wei 2018), low-dose PET (Wang 2018), FCN and conditional GAN
(Ben-Cohen 2019). Estimates for a stage's training come from the stages before it on the same cases, not out of fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.losses import clip_weights
from SynthGANLib.networks.cascade import Cascade
from SynthGANLib.regimes.base import Batch, Graph, Regime, Terms
from SynthGANLib.regimes.paired import AdversarialWeights, discriminator_terms, generator_terms
from SynthGANLib.regimes.supervised import inner, pixel_terms, voxel_needs
from SynthGANLib.regimes.verdict import Accuracy


@dataclass(frozen=True)
class CascadeConfig:
    """Attributes:

    stages: the weights of each stage's training; one without `adversarial` and `feature` is plain regression.
    boundaries: fractions of the run at which the second stage begins, the third, and so on.
    steps: of the whole run.
    """

    stages: tuple[AdversarialWeights, ...]
    boundaries: tuple[float, ...]
    steps: int

    def __post_init__(self) -> None:
        ends = (0.0, *self.boundaries, 1.0)
        if len(self.boundaries) != len(self.stages) - 1 or any(a >= b for a, b in pairwise(ends)):
            raise ValueError(
                f"{len(self.stages)} stages are parted by {len(self.stages) - 1} rising fractions between 0 and 1, "
                f"not by {list(self.boundaries)}"
            )
        if any(stage.style or stage.content for stage in self.stages):
            raise ValueError("the stages of a cascade are trained without style and content terms")

    def stage(self, step: int) -> int:
        """The stage, from 0, that is trained in `step`."""
        return sum(step >= round(fraction * self.steps) for fraction in self.boundaries)


class StagedCascade(Regime):
    """Stage t is a paired game or a regression on top of the frozen stages before it.

    Networks: "generator", a `Cascade`, and "discriminator_1", "discriminator_2", ... for the stages (from 1) that have
    a game; a conditional one sees the source, not the earlier estimates. Stages not in training get no gradients, and
    optimisers leave them, their momenta and their statistics alone.
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
        names = tuple(f"discriminator_{number}" for number, stage in enumerate(config.stages, 1) if stage.judged)
        for name in names:
            setattr(self, name, networks[name])
        keys = [key for stage in config.stages for key in voxel_needs(stage)]
        self.needs = tuple(dict.fromkeys(("source", "target", *keys)))  # the config decides
        if names:
            self.groups = {"discriminator": names, "generator": ("generator",)}

    def turns(self, step: int) -> tuple[str, ...]:
        judged = self.config.stages[self.config.stage(step)].judged
        return ("discriminator", "generator") if judged else ("generator",)

    def estimate(self, source: Tensor) -> tuple[nn.Module, Tensor]:
        """The stage in training, and its input from the frozen stages before it."""
        stages, images = list(self.generator.stages), list[Tensor]()
        now = self.config.stage(self.step)
        for stage in stages[:now]:
            images.append(_frozen(stage, self.generator.stage_input(source, images)))
        return stages[now], self.generator.stage_input(source, images)

    def graph(self, batch: Batch, draw: Generator) -> Graph:
        stage, given = self.estimate(batch["source"])
        return {"fake": inner(stage, given)}

    def loss(self, turn: str, graph: Graph, batch: Batch, draw: Generator) -> Terms:
        now = self.config.stage(self.step)
        weights, source, real, fake = self.config.stages[now], batch["source"], batch["target"], graph["fake"]
        if turn == "discriminator":
            return discriminator_terms(weights, self.judge(now), self.accuracy, source, real, fake, draw)
        terms = pixel_terms(weights, fake, real, batch)
        return terms | generator_terms(weights, self.judge(now), source, real, fake) if weights.judged else terms

    def judge(self, stage: int) -> nn.Module:
        """The discriminator of a stage (from 0)."""
        return cast(nn.Module, getattr(self, f"discriminator_{stage + 1}"))

    def after(self, turn: str) -> None:
        now = self.config.stage(self.step)
        if turn == "discriminator" and self.config.stages[now].clip:
            clip_weights(self.judge(now), self.config.stages[now].clip)

    def predict(self, batch: Batch, draw: Generator) -> Tensor:
        """The output of the stage in training: later ones know nothing yet."""
        stage, given = self.estimate(batch["source"])
        return cast(Tensor, stage(given))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def watch(self, graph: Graph) -> dict[str, float]:
        """The stage in training, from 1, and how often its discriminator is right."""
        return {"stage": float(self.config.stage(self.step) + 1), **self.accuracy.numbers()}


@torch.no_grad()
def _frozen(stage: nn.Module, x: Tensor) -> Tensor:
    """The output of a finished stage as it is used, without dropout and without renewing statistics."""
    training = stage.training
    stage.eval()
    try:
        return cast(Tensor, stage(x))
    finally:
        stage.train(training)
