"""A discriminator's part in the training of an image: the weights of its terms, its own loss, and the generator's.

What paired translation, cascades, inpainting and UNIT share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.features import Vgg19Features, feature_matching
from SynthGANLib.losses.penalty import gradient_penalty
from SynthGANLib.regimes.base import Terms
from SynthGANLib.regimes.discriminator_accuracy import Accuracy, logits_of
from SynthGANLib.regimes.supervised import PixelWeights, centred


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
    def uses_discriminator(self) -> bool:
        """Whether a term of the generator needs the discriminator."""
        return bool(self.adversarial or self.feature)


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
    rng: Generator,
) -> Terms:
    """Loss of the discriminator `judge` on a real and a generated image of one source; tells `accuracy`."""
    real, fake = centred(real, fake), fake.detach()
    logits = [logits_of(judge(seen(weights, source, image))) for image in (real, fake)]
    loss = discriminator_loss(logits[0], logits[1], weights.mode, weights.real_label)
    accuracy.update(logits[0], logits[1], weights.mode)
    terms = {"discriminator": weights.discriminator * loss}
    if weights.penalty:
        slope = gradient_penalty(lambda x: logits_of(judge(seen(weights, source, x))), real, fake, rng)
        terms["penalty"] = weights.penalty * slope
    return terms


def generator_terms(weights: AdversarialWeights, judge: nn.Module, source: Tensor, real: Tensor, fake: Tensor) -> Terms:
    """Adversarial and feature terms of the generator: (D(x, G(x)) taken for real, D's features as for the target)."""
    output = judge(seen(weights, source, fake))
    terms = {"adversarial": weights.adversarial * generator_loss(logits_of(output), weights.mode)}
    if weights.feature:
        real = centred(real, fake)
        with torch.no_grad():
            wanted = judge(seen(weights, source, real))
        layers = [fake, *_hidden(output)], [real, *_hidden(wanted)]
        equal = [weights.feature] * len(layers[0])  # MedGAN sums over the layers
        terms["feature"] = feature_matching(*layers, equal)
    return terms


def _hidden(output: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """A discriminator's features before its logits; none of one that gives logits only."""
    return [] if isinstance(output, Tensor) else output[:-1]


def vgg_of(networks: Mapping[str, nn.Module], file: str, *, wanted: bool) -> nn.Module | None:
    """Frozen features: the network "vgg" if there is one, else, where they are wanted, VGG19 with weights of `file`.

    Raises:
        ModelError: no file was given, or it does not hold VGG19's weights.
    """
    if "vgg" in networks or not wanted:
        return networks.get("vgg")
    with torch.device("cpu"):  # they are read from a file also where networks are built without memory
        return Vgg19Features(Path(file) if file else None)
