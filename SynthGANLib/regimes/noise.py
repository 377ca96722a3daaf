"""Generation from noise, with a class label or without: GAN, DCGAN, conditional GAN.

Sources: Goodfellow et al. 2014; Radford et al. 2016; Mirza and Osindero 2014.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, noise
from SynthGANLib.regimes.discriminator_accuracy import Accuracy, logits_of


@dataclass(frozen=True)
class NoiseConfig:
    """Attributes:

    code: length of the generator's input of independent standard normal numbers.
    mode: "vanilla", "lsgan" or "hinge".
    labelled: both networks are given the class of each image as their second argument.
    real_label: target of real images, below 1 to soften it.
    """

    code: int = 100
    mode: str = "vanilla"
    labelled: bool = False
    real_label: float = 1.0


class Noise(Regime):
    """min_G max_D E[log D(x)] + E[log(1 - D(G(z)))], the generator with the non-saturating form.

    Networks: "generator" (z (B, code)[, label]) -> (B, C, ...), "discriminator" (x[, label]) -> logits.
    """

    groups: Mapping[str, tuple[str, ...]] = {
        "discriminator": ("discriminator",),
        "generator": ("generator",),
    }
    needs: tuple[str, ...] = ("target",)

    def __init__(self, networks: Mapping[str, nn.Module], config: NoiseConfig) -> None:
        super().__init__()
        self.generator = networks["generator"]
        self.discriminator = networks["discriminator"]
        self.config = config
        self.accuracy = Accuracy()
        if config.labelled:
            self.needs = ("target", "label")  # the config decides

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        """What both networks are given besides code or image: the labels, or nothing."""
        return (batch["label"],) if self.config.labelled else ()

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        real = batch["target"]
        code = noise((real.shape[0], self.config.code), real, rng)
        return {"fake": self.generator(code, *self.given(batch))}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        given, mode = self.given(batch), self.config.mode
        if turn == "generator":
            yield {"adversarial": generator_loss(logits_of(self.discriminator(outputs["fake"], *given)), mode)}
            return
        real = logits_of(self.discriminator(batch["target"], *given))
        fake = logits_of(self.discriminator(outputs["fake"].detach(), *given))
        self.accuracy.update(real, fake, mode)
        yield {"discriminator": discriminator_loss(real, fake, mode, self.config.real_label)}

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return self.forward(batch, rng)["fake"]

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """How often the discriminator is right."""
        return self.accuracy.numbers()
