"""Two domains without pairs: CycleGAN (Zhu 2017), with gradient consistency (Hiasa 2018), in 3D (Pan 2018).

Domain a is the source, b the target. What goes to the other domain and comes back should be what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Generator, Tensor, nn

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.pixel import l1
from SynthGANLib.losses.structure import gradient_consistency
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms
from SynthGANLib.regimes.pool import ReplayPool
from SynthGANLib.regimes.verdict import Accuracy, logits_of


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


class Images(dict[str, Tensor]):
    """The images of a step, each made when it is first asked for: none is in memory before a loss wants it.

    `a` and `b` are the images that it begins with, `made` makes the others from these `Images`.
    """

    def __init__(self, a: Tensor, b: Tensor, made: Mapping[str, Callable[[Images], Tensor]]) -> None:
        super().__init__()
        self.a, self.b, self._made = a, b, made

    def __missing__(self, name: str) -> Tensor:
        image = self[name] = self._made[name](self)
        return image


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
        made: dict[str, Callable[[Images], Tensor]] = {
            "fake_a": lambda images: self.generator_ba(images.b),
            "fake_b": lambda images: self.generator_ab(images.a),
            "back_a": lambda images: self.generator_ba(images["fake_b"]),
            "back_b": lambda images: self.generator_ab(images["fake_a"]),
            "same_a": lambda images: self.generator_ba(images.a),
            "same_b": lambda images: self.generator_ab(images.b),
        }
        return Images(batch["source"], batch["target"], made)

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Terms:
        if turn == "generators":
            return self.generators_loss(cast(Images, outputs))
        return self.discriminators_loss(outputs, batch, rng)

    def portions(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Sequence[Callable[[], Terms]]:
        """The parts of `loss` that have no computation in common: what one keeps for its gradients can go before the
        next begins, which leaves two of six runs of a generator in memory. Their terms are those of `loss`."""
        if turn != "generators" or not isinstance(outputs, Images):
            return [lambda: self.loss(turn, outputs, batch, rng)]
        return self._portions(outputs)

    def _portions(self, images: Images) -> list[Callable[[], Terms]]:
        """Each way there and back, and each identity."""
        found = [lambda: self.journey_terms("a", "b", images), lambda: self.journey_terms("b", "a", images)]
        if self.config.identity and images.a.shape[1] == images.b.shape[1]:
            found += [lambda: self.identity_terms("a", images), lambda: self.identity_terms("b", images)]
        return found

    def generators_loss(self, images: Images) -> Terms:
        """Both games, the cycles, the identities and the gradients' consistency."""
        return {name: term for portion in self._portions(images) for name, term in portion().items()}

    def journey_terms(self, here: str, there: str, images: Images) -> Terms:
        """From domain `here` to `there` and back: the game, the cycle and the gradients' consistency."""
        config = self.config
        judge = {"a": self.discriminator_a, "b": self.discriminator_b}[there]
        image = {"a": images.a, "b": images.b}[here]
        fake = images[f"fake_{there}"]
        terms = {
            f"adversarial_{there}": config.adversarial * generator_loss(self.judge(judge, fake), config.mode),
            f"cycle_{here}": config.cycle * l1(images[f"back_{here}"], image),
        }
        if config.gradient:
            terms[f"gradient_{here}"] = config.gradient * 0.5 * (1 - gradient_consistency(fake, image))
        return terms

    def identity_terms(self, domain: str, images: Images) -> Terms:
        """A generator should leave an image of its own target domain as it is."""
        image = {"a": images.a, "b": images.b}[domain]
        return {f"identity_{domain}": self.config.identity * l1(images[f"same_{domain}"], image)}

    def discriminators_loss(self, outputs: Outputs, batch: Batch, rng: Generator) -> Terms:
        """Each discriminator on images of its domain and on earlier or fresh translations into it."""
        config = self.config
        sides = {
            "a": (self.discriminator_a, batch["source"], self.pool_a(outputs["fake_a"], rng)),
            "b": (self.discriminator_b, batch["target"], self.pool_b(outputs["fake_b"], rng)),
        }
        terms: Terms = {}
        for name, (discriminator, real, fake) in sides.items():
            logits = self.judge(discriminator, real), self.judge(discriminator, fake)
            self.accuracy.look(*logits, config.mode, name)
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


def cycle_terms(weight: float, outputs: Outputs, a: Tensor, b: Tensor) -> Terms:
    """a -> b -> a and b -> a -> b should end where they began."""
    return {"cycle_a": weight * l1(outputs["back_a"], a), "cycle_b": weight * l1(outputs["back_b"], b)}
