"""Wasserstein GANs: a critic estimates the earth mover's distance, kept Lipschitz by clipping or a penalty.

Sources: Arjovsky, Chintala, Bottou, ICML 2017 (clipping); Gulrajani et al., NeurIPS 2017 (penalty).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.penalty import clip_weights, gradient_penalty
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, noise
from SynthGANLib.regimes.discriminator_accuracy import logits_of


@dataclass(frozen=True)
class CriticSchedule:
    """How many critic steps make up one generator step, which is taken together with the last of them.

    `turns` each; but `many` for the first `first` generator steps, and for every `every`-th (0: for none).
    """

    turns: int = 5
    many: int = 100
    first: int = 25
    every: int = 500

    def __post_init__(self) -> None:
        if min(self.turns, self.many) < 1 or min(self.first, self.every) < 0:
            raise ValueError(f"a generator step takes one critic step or more, not {self}")

    def critic_steps(self, generator_steps: int) -> int:
        """Critic steps that the first `generator_steps` generator steps take."""
        begin = min(generator_steps, self.first)
        later = _multiples(generator_steps, self.every) - _multiples(begin, self.every)
        return self.turns * generator_steps + (self.many - self.turns) * (begin + later)

    def generates(self, step: int) -> bool:
        """Whether the critic step `step` (from 0) is the last before the generator's."""
        place = bisect_left(range(step + 2), step + 1, key=self.critic_steps)
        return self.critic_steps(place) == step + 1


def _multiples(end: int, of: int) -> int:
    """Multiples of `of`, 0 included, below `end`; none of 0."""
    return -(-end // of) if of else 0


EVERY_STEP = CriticSchedule(turns=1, many=1, first=0, every=0)
"""One critic step to one generator step."""


@dataclass(frozen=True)
class WassersteinConfig:
    """Attributes:

    code: length of the generator's input of independent standard normal numbers.
    labelled: both networks are given the class of each image as their second argument.
    clip: the critic's weights are clamped to [-clip, clip]; 0 leaves them.
    penalty: weight of the gradient penalty; 0 leaves it out.
    schedule: critic steps to a generator step.
    """

    code: int = 100
    labelled: bool = False
    clip: float = 0.0
    penalty: float = 10.0
    schedule: CriticSchedule = CriticSchedule()

    def __post_init__(self) -> None:
        if not (self.clip > 0 or self.penalty > 0):
            raise ValueError("a Wasserstein critic needs clipped weights or a gradient penalty")


class Wasserstein(Regime):
    """min_G max_f E[f(x)] - E[f(G(z))] over critics f of slope at most 1 (times a constant, with clipping).

    Networks: "generator" (z (B, code)[, label]) -> (B, C, ...), "critic" (x[, label]) -> a value. Weights are clipped
    before the first and after each of the critic's steps.
    """

    groups: Mapping[str, tuple[str, ...]] = {"critic": ("critic",), "generator": ("generator",)}
    needs: tuple[str, ...] = ("target",)

    def __init__(self, networks: Mapping[str, nn.Module], config: WassersteinConfig) -> None:
        super().__init__()
        self.generator = networks["generator"]
        self.critic = networks["critic"]
        self.config = config
        if config.labelled:
            self.needs = ("target", "label")  # the config decides

    def turns(self, step: int) -> tuple[str, ...]:
        return ("critic", "generator") if self.config.schedule.generates(step) else ("critic",)

    def value(self, x: Tensor, batch: Batch) -> Tensor:
        """The critic's value of `x`."""
        return logits_of(self.critic(x, batch["label"]) if self.config.labelled else self.critic(x))

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        if self.config.clip:
            clip_weights(self.critic, self.config.clip)  # the first weights, too
        real = batch["target"]
        code = noise((real.shape[0], self.config.code), real, rng)
        given = (batch["label"],) if self.config.labelled else ()
        return {"fake": self.generator(code, *given)}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        if turn == "generator":
            yield {"adversarial": generator_loss(self.value(outputs["fake"], batch), "wgan")}
            return
        real, fake = batch["target"], outputs["fake"].detach()
        estimate = discriminator_loss(self.value(real, batch), self.value(fake, batch), "wgan")
        outputs["distance"] = -estimate.detach()
        terms = {"critic": estimate}
        if self.config.penalty:
            slope = gradient_penalty(lambda x: self.value(x, batch), real, fake, rng)
            terms["penalty"] = self.config.penalty * slope
        yield terms

    def after(self, turn: str) -> None:
        if turn == "critic" and self.config.clip:
            clip_weights(self.critic, self.config.clip)

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return self.forward(batch, rng)["fake"]

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """The critic's estimate of the distance, which falls as the images improve."""
        return {"distance": float(outputs["distance"])} if "distance" in outputs else {}
