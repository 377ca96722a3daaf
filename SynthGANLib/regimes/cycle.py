"""Two domains without pairs: CycleGAN (Zhu 2017), with gradient consistency (Hiasa 2018), in 3D (Pan 2018).

Domain a is the source, b the target. What goes to the other domain and comes back should be what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Generator, Tensor, nn

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.pixel import l1
from SynthGANLib.losses.structure import gradient_consistency
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms
from SynthGANLib.regimes.discriminator_accuracy import Accuracy, logits_of
from SynthGANLib.regimes.pool import ReplayPool


@dataclass(frozen=True)
class CycleConfig:
    """Attributes:

    mode: adversarial loss; "lsgan_abs" is Pan's. adversarial: its weight for the generators.
    discriminator: factor on the discriminators' losses. real_label: their target of real images.
    cycle, identity: weights of the mean absolute errors of the way there and back, and of an image of a generator's
        own target domain (left out where the domains differ in channels).
    gradient: weight of 1/2 (1 - gradient consistency) between an image and its translation.
    pool: generated images kept for each discriminator; 0 for none.
    """

    mode: str = "lsgan"
    adversarial: float = 1.0
    discriminator: float = 1.0  # the loss "lsgan" has CycleGAN's factor of one half in it
    real_label: float = 1.0
    cycle: float = 10.0
    identity: float = 5.0
    gradient: float = 0.0
    pool: int = 50


class Cycle(Regime):
    """min over both generators, max over both discriminators, of the games in a and b plus the cycle's error.

    Networks: "generator_ab", "generator_ba", "discriminator_a", "discriminator_b".
    """

    groups: Mapping[str, tuple[str, ...]] = {
        "generators": ("generator_ab", "generator_ba"),
        "discriminators": ("discriminator_a", "discriminator_b"),
    }
    needs: tuple[str, ...] = ("source", "target")
    config: CycleConfig

    def __init__(self, networks: Mapping[str, nn.Module], config: CycleConfig) -> None:
        super().__init__()
        self.generator_ab = networks["generator_ab"]
        self.generator_ba = networks["generator_ba"]
        self.discriminator_a = networks["discriminator_a"]
        self.discriminator_b = networks["discriminator_b"]
        self.pool_a = ReplayPool(config.pool)
        self.pool_b = ReplayPool(config.pool)
        self.config = config
        self.accuracy = Accuracy()

    def judge(self, discriminator: nn.Module, x: Tensor) -> Tensor:
        """The logits of `discriminator` for an image of its domain."""
        return logits_of(discriminator(x))

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        """Nothing yet: the parts of the generators' loss have no image in common, and each makes its own.

        Two of the six runs of a generator are then in memory at a time. They leave "fake_a" and "fake_b", without
        gradients, for the discriminators.
        """
        return {}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        if turn == "discriminators":
            yield self.discriminators_loss(outputs, batch, rng)
            return
        yield self.translation_loss(outputs, batch, source="a", target="b")
        yield self.translation_loss(outputs, batch, source="b", target="a")
        a, b, config = batch["source"], batch["target"], self.config
        if config.identity and a.shape[1] == b.shape[1]:
            yield {"identity_a": config.identity * l1(self.generator_ba(a), a)}
            yield {"identity_b": config.identity * l1(self.generator_ab(b), b)}

    def translation_loss(self, outputs: Outputs, batch: Batch, *, source: str, target: str) -> Terms:
        """The translation of an image from domain `source` to `target`, "a" or "b", and back.

        Adversarial loss and gradient consistency of the translation, cycle consistency of what comes back.
        """
        config = self.config
        image, translate, discriminator, translate_back = {
            "b": (batch["source"], self.generator_ab, self.discriminator_b, self.generator_ba),
            "a": (batch["target"], self.generator_ba, self.discriminator_a, self.generator_ab),
        }[target]
        fake = translate(image)
        outputs[f"fake_{target}"] = fake.detach()
        adversarial = generator_loss(self.judge(discriminator, fake), config.mode)
        terms = {
            f"adversarial_{target}": config.adversarial * adversarial,
            f"cycle_{source}": config.cycle * l1(translate_back(fake), image),
        }
        if config.gradient:
            terms[f"gradient_{source}"] = config.gradient * 0.5 * (1 - gradient_consistency(fake, image))
        return terms

    def discriminators_loss(self, outputs: Outputs, batch: Batch, rng: Generator) -> Terms:
        """Each discriminator on images of its domain and on earlier or fresh translations into it.

        The fresh ones are those that the generators' turn has left in `outputs`.
        """
        config = self.config
        sides = {
            "a": (self.discriminator_a, batch["source"], self.pool_a(outputs["fake_a"], rng)),
            "b": (self.discriminator_b, batch["target"], self.pool_b(outputs["fake_b"], rng)),
        }
        terms: Terms = {}
        for name, (discriminator, real, fake) in sides.items():
            logits = self.judge(discriminator, real), self.judge(discriminator, fake)
            self.accuracy.update(*logits, config.mode, name)
            loss = discriminator_loss(*logits, config.mode, config.real_label)
            terms[f"discriminator_{name}"] = config.discriminator * loss
        return terms

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return cast(Tensor, self.generator_ab(batch["source"]))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator_ab, "backward": self.generator_ba}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """How often the discriminators are right."""
        return self.accuracy.numbers()
