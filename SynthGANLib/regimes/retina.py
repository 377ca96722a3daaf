"""From a code to a vessel tree to a fundus photograph, learnt end to end (Costa et al., IEEE TMI 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.pixel import l1
from SynthGANLib.losses.precision import in_float32
from SynthGANLib.networks.sampler import Sampler
from SynthGANLib.networks.vessel import RetinaSynthesis, VesselAutoencoder
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, noise
from SynthGANLib.regimes.discriminator_accuracy import Accuracy, logits_of


@dataclass(frozen=True)
class RetinaConfig:
    """Weights: `vessels` of the masks' cross entropy, `l1` of the photographs, `adversarial` and `code` of the games.

    discriminator: factor on both discriminators' losses.
    """

    vessels: float = 100.0
    l1: float = 100.0
    adversarial: float = 1.0
    code: float = 1.0
    discriminator: float = 1.0


class Retina(Regime):
    """Mask -> code -> mask' -> photograph', with games on the pair (mask', photograph') and on the code.

    Networks: "autoencoder" (a `VesselAutoencoder`), "renderer" (vessel probability -> photograph), "discriminator" of
    mask and photograph side by side, "code_discriminator", whose real codes are standard normal. The batch's "source"
    is the mask, 0 or 1, and its "target" the photograph.
    """

    groups: Mapping[str, tuple[str, ...]] = {
        "discriminators": ("discriminator", "code_discriminator"),
        "generator": ("autoencoder", "renderer"),
    }
    needs: tuple[str, ...] = ("source", "target")

    def __init__(self, networks: Mapping[str, nn.Module], config: RetinaConfig) -> None:
        super().__init__()
        self.autoencoder = cast(VesselAutoencoder, networks["autoencoder"])
        self.renderer = networks["renderer"]
        self.discriminator = networks["discriminator"]
        self.code_discriminator = networks["code_discriminator"]
        self.config = config
        self.accuracy = Accuracy()

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        mean, log_variance = self.autoencoder.encode(batch["source"])
        code = self.autoencoder.draw_code(mean, log_variance, rng)
        logits = self.autoencoder.decode(code)
        mask = torch.sigmoid(logits)
        return {"code": code, "mask_logits": logits, "mask": mask, "fake": self.renderer(mask)}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        config, mask, image, code = self.config, batch["source"], batch["target"], outputs["code"]
        pair = torch.cat([outputs["mask"], outputs["fake"]], 1)
        if turn == "generator":
            game = generator_loss(logits_of(self.discriminator(pair)), "vanilla")
            code_game = generator_loss(logits_of(self.code_discriminator(code)), "vanilla")
            yield {
                "adversarial": config.adversarial * game,
                "code": config.code * code_game,
                "vessels": config.vessels * cross_entropy(outputs["mask_logits"], mask),
                "l1": config.l1 * l1(outputs["fake"], image),
            }
            return
        real = logits_of(self.discriminator(torch.cat([mask, image], 1)))
        fake = logits_of(self.discriminator(pair.detach()))
        self.accuracy.update(real, fake, "vanilla")
        prior = logits_of(self.code_discriminator(noise(tuple(code.shape), code, rng)))
        encoded = logits_of(self.code_discriminator(code.detach()))
        yield {
            "discriminator": config.discriminator * discriminator_loss(real, fake, "vanilla"),
            "code_discriminator": config.discriminator * discriminator_loss(prior, encoded, "vanilla"),
        }

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return cast(Tensor, self.renderer(batch["source"]))

    def exported(self) -> Mapping[str, nn.Module]:
        """The renderer; and from a code the photograph, and the vessels that the same code gives."""
        code, whole = self.autoencoder.code, RetinaSynthesis.of(self.autoencoder, self.renderer)
        return {
            "forward": self.renderer,
            "sample": Sampler.over(whole, code, begin=1),
            "sample-source": Sampler.over(whole, code, end=1),
        }

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """How often the discriminator is right."""
        return self.accuracy.numbers()


@in_float32
def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross entropy of logits against a mask of 0 and 1."""
    return F.binary_cross_entropy_with_logits(logits, mask)
