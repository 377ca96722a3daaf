"""Paired translation against a discriminator: pix2pix and its relatives.

pix2pix (Isola 2017), conditional GANs of Emami 2018 and Wang 2018, Nie 2017 (unconditional discriminator, gradient
difference), MedGAN (Armanious 2020: perceptual, style and content terms, three generator steps to one), mDCSRN-GAN
(Chen 2018: Wasserstein critic after regression).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Generator, Tensor, nn

from SynthGANLib.losses.features import style_content
from SynthGANLib.losses.penalty import clip_weights
from SynthGANLib.regimes.adversary import AdversarialWeights, discriminator_terms, generator_terms, vgg_of
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms
from SynthGANLib.regimes.discriminator_accuracy import Accuracy
from SynthGANLib.regimes.supervised import centred, inner, pixel_terms, voxel_needs
from SynthGANLib.regimes.wasserstein import EVERY_STEP, CriticSchedule


@dataclass(frozen=True)
class PairedConfig(AdversarialWeights):
    """Attributes:

    pretrain: first steps, of the generator by its voxel-wise terms alone.
    critic_pretrain: the steps after them, of the discriminator alone.
    generator_turns: steps of the generator to one of the discriminator.
    schedule: or steps of the discriminator to one of the generator.
    vgg: file of VGG19's weights, for `style` and `content`.
    """

    l1: float = 100.0
    pretrain: int = 0
    critic_pretrain: int = 0
    generator_turns: int = 1
    schedule: CriticSchedule = EVERY_STEP
    vgg: str = ""

    def __post_init__(self) -> None:
        if self.generator_turns < 1 or (self.generator_turns > 1 and self.schedule != EVERY_STEP):
            raise ValueError("either the generator or the discriminator takes several steps to one of the other")


class PairedAdversarial(Regime):
    """min_G max_D of how well D tells (x, y) from (x, G(x)), plus distances of G(x) to y.

    Networks: "generator", "discriminator"; optionally "vgg", frozen features for style and content, else VGG19 with
    the weights of `config.vgg`.
    """

    groups: Mapping[str, tuple[str, ...]] = {
        "discriminator": ("discriminator",),
        "generator": ("generator",),
    }
    needs: tuple[str, ...] = ("source", "target")
    config: PairedConfig

    def __init__(self, networks: Mapping[str, nn.Module], config: PairedConfig) -> None:
        super().__init__()
        self.generator = networks["generator"]
        self.discriminator = networks["discriminator"]
        self.vgg = vgg_of(networks, config.vgg, wanted=bool(config.style or config.content))
        self.config = config
        self.accuracy = Accuracy()
        self.needs = ("source", "target", *voxel_needs(config))  # the config decides

    def turns(self, step: int) -> tuple[str, ...]:
        config = self.config
        if not config.uses_discriminator or step < config.pretrain:
            return ("generator",)
        step -= config.pretrain
        if step < config.critic_pretrain:
            return ("discriminator",)
        step -= config.critic_pretrain
        judges = step % config.generator_turns == 0
        return ("discriminator",) * judges + ("generator",) * config.schedule.generates(step)

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        return {"fake": inner(self.generator, batch["source"])}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        config, source, real, fake = self.config, batch["source"], batch["target"], outputs["fake"]
        if turn == "discriminator":
            yield discriminator_terms(config, self.discriminator, self.accuracy, source, real, fake, rng)
            return
        terms = pixel_terms(config, fake, real, batch)
        if config.uses_discriminator and self.step >= config.pretrain:
            terms |= generator_terms(config, self.discriminator, source, real, fake)
        if self.vgg is not None:
            style, content = style_content(self.vgg, fake, centred(real, fake))
            terms |= {"style": config.style * style, "content": config.content * content}
        yield terms

    def after(self, turn: str) -> None:
        if turn == "discriminator" and self.config.clip:
            clip_weights(self.discriminator, self.config.clip)

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return cast(Tensor, self.generator(batch["source"]))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """How often the discriminator is right."""
        return self.accuracy.numbers()
