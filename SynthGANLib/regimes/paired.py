"""Paired translation against a discriminator: pix2pix and its relatives.

pix2pix (Isola 2017), conditional GANs of Emami 2018 and Wang 2018, Nie 2017 (unconditional discriminator, gradient
difference), MedGAN (Armanious 2020: perceptual, style and content terms, three generator steps to one), mDCSRN-GAN
(Chen 2018: Wasserstein critic after regression).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.losses import (
    Vgg19Features,
    clip_weights,
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
    style_content,
)
from SynthGANLib.regimes.base import Batch, Graph, Regime, Terms
from SynthGANLib.regimes.supervised import PixelWeights, centred, inner, pixel_terms, voxel_needs
from SynthGANLib.regimes.verdict import Accuracy, logits_of
from SynthGANLib.regimes.wasserstein import EVERY_STEP, CriticSchedule


@dataclass(frozen=True)
class AdversarialWeights(PixelWeights):
    """What a generator is trained with besides the voxel-wise terms.

    Attributes:
        mode: adversarial loss, see `SynthGANLib.losses.adversarial`. adversarial: its weight for the generator.
        discriminator: the factor on the discriminator's loss. real_label: its target of real images.
        conditional: the discriminator sees source and image side by side, else the image alone.
        feature: weight of the distance between the discriminator's features of both images, the images included.
        style, content: weights of the distances between features of VGG19.
        penalty: weight of the gradient penalty. clip: limit of the discriminator's weights; 0 for none.
    """

    mode: str = "vanilla"
    adversarial: float = 1.0
    discriminator: float = 0.5
    real_label: float = 1.0
    conditional: bool = True
    feature: float = 0.0
    style: float = 0.0
    content: float = 0.0
    penalty: float = 0.0
    clip: float = 0.0

    @property
    def judged(self) -> bool:
        """Whether the discriminator has a say."""
        return bool(self.adversarial or self.feature)


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


def seen(weights: AdversarialWeights, source: Tensor, image: Tensor) -> Tensor:
    """The discriminator's input: (B, C_source + C, ...) if conditional, else the image."""
    return torch.cat([centred(source, image), image], 1) if weights.conditional else image


def discriminator_terms(
    weights: AdversarialWeights,
    judge: nn.Module,
    accuracy: Accuracy,
    source: Tensor,
    real: Tensor,
    fake: Tensor,
    draw: Generator,
) -> Terms:
    """Loss of the discriminator `judge` on a real and a generated image of one source; tells `accuracy`."""
    real, fake = centred(real, fake), fake.detach()
    logits = [logits_of(judge(seen(weights, source, image))) for image in (real, fake)]
    loss = discriminator_loss(logits[0], logits[1], weights.mode, weights.real_label)
    accuracy.look(logits[0], logits[1], weights.mode)
    terms = {"discriminator": weights.discriminator * loss}
    if weights.penalty:
        slope = gradient_penalty(lambda x: logits_of(judge(seen(weights, source, x))), real, fake, draw)
        terms["penalty"] = weights.penalty * slope
    return terms


def generator_terms(weights: AdversarialWeights, judge: nn.Module, source: Tensor, real: Tensor, fake: Tensor) -> Terms:
    """Adversarial and feature terms of the generator: (D(x, G(x)) taken for real, D's features as for the target)."""
    verdict = judge(seen(weights, source, fake))
    terms = {"adversarial": weights.adversarial * generator_loss(logits_of(verdict), weights.mode)}
    if weights.feature:
        real = centred(real, fake)
        with torch.no_grad():
            wanted = judge(seen(weights, source, real))
        layers = [fake, *_hidden(verdict)], [real, *_hidden(wanted)]
        equal = [weights.feature] * len(layers[0])  # MedGAN sums over the layers
        terms["feature"] = feature_matching(*layers, equal)
    return terms


def _hidden(verdict: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """A discriminator's features before its logits; none of one that gives logits only."""
    return [] if isinstance(verdict, Tensor) else verdict[:-1]


def vgg_of(networks: Mapping[str, nn.Module], file: str, *, wanted: bool) -> nn.Module | None:
    """Frozen features: the network "vgg" if there is one, else, where they are wanted, VGG19 with weights of `file`.

    Raises:
        ModelError: no file was given, or it does not hold VGG19's weights.
    """
    if "vgg" in networks or not wanted:
        return networks.get("vgg")
    with torch.device("cpu"):  # they are read from a file also where networks are built without memory
        return Vgg19Features(Path(file) if file else None)


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
        if not config.judged or step < config.pretrain:
            return ("generator",)
        step -= config.pretrain
        if step < config.critic_pretrain:
            return ("discriminator",)
        step -= config.critic_pretrain
        judges = step % config.generator_turns == 0
        return ("discriminator",) * judges + ("generator",) * config.schedule.generates(step)

    def graph(self, batch: Batch, draw: Generator) -> Graph:
        return {"fake": inner(self.generator, batch["source"])}

    def loss(self, turn: str, graph: Graph, batch: Batch, draw: Generator) -> Terms:
        config, source, real, fake = self.config, batch["source"], batch["target"], graph["fake"]
        if turn == "discriminator":
            return discriminator_terms(config, self.discriminator, self.accuracy, source, real, fake, draw)
        terms = pixel_terms(config, fake, real, batch)
        if config.judged and self.step >= config.pretrain:
            terms |= generator_terms(config, self.discriminator, source, real, fake)
        if self.vgg is not None:
            style, content = style_content(self.vgg, fake, centred(real, fake))
            terms |= {"style": config.style * style, "content": config.content * content}
        return terms

    def after(self, turn: str) -> None:
        if turn == "discriminator" and self.config.clip:
            clip_weights(self.discriminator, self.config.clip)

    def predict(self, batch: Batch, draw: Generator) -> Tensor:
        return cast(Tensor, self.generator(batch["source"]))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def watch(self, graph: Graph) -> dict[str, float]:
        """How often the discriminator is right."""
        return self.accuracy.numbers()
