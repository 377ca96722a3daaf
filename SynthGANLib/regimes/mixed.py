"""Some pairs and many single images: MR-GAN (Jin 2019), with CycleGAN and pix2pix in turn on the same networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Generator, Tensor, nn

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.pixel import l1
from SynthGANLib.regimes.base import Batch, Outputs, Terms
from SynthGANLib.regimes.cycle import Cycle, CycleConfig


@dataclass(frozen=True)
class MixedConfig(CycleConfig):
    """Those of the unpaired steps, and for the paired steps:

    Attributes:
        paired_mode, paired_adversarial: the game on pairs. paired_l1: weight of the distance to the partner.
        paired_cycle: weight of the cycles on pairs; 0 for none.
    """

    discriminator: float = 2.0  # MR-GAN has no factor of one half, the loss "lsgan" has
    real_label: float = 0.9
    identity: float = 0.0
    paired_mode: str = "vanilla"
    paired_adversarial: float = 1.0
    paired_l1: float = 100.0
    paired_cycle: float = 10.0


class Mixed(Cycle):
    """Even steps train on "source_unpaired" and "target_unpaired" as CycleGAN does, odd ones on the pairs.

    Networks as for `Cycle`; the discriminators have a head `unpaired(x)` and one `paired(source, image)` on a shared
    trunk. A kind of images that the batch lacks (no such key, or no images in it) leaves all steps to the other: that
    is CycleGAN, or pix2pix in both directions. Both kinds of step share their optimisers.
    """

    groups: Mapping[str, tuple[str, ...]] = Cycle.groups
    needs: tuple[str, ...] = ("source", "target", "source_unpaired", "target_unpaired")
    config: MixedConfig

    def judge(self, discriminator: nn.Module, x: Tensor) -> Tensor:
        return cast(Tensor, cast(Any, discriminator).unpaired(x))

    def is_paired(self, batch: Batch) -> bool:
        """Whether this step is one on pairs."""
        pairs = "source" in batch and len(batch["source"]) > 0
        singles = "source_unpaired" in batch and len(batch["source_unpaired"]) > 0
        return pairs and (self.step % 2 == 1 or not singles)

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        if not self.is_paired(batch):
            return super().forward(_singles(batch), rng)
        a, b = batch["source"], batch["target"]
        outputs = {"fake_a": self.generator_ba(b), "fake_b": self.generator_ab(a)}
        if self.config.paired_cycle:
            outputs["back_a"] = self.generator_ba(outputs["fake_b"])
            outputs["back_b"] = self.generator_ab(outputs["fake_a"])
        return outputs

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        if not self.is_paired(batch):
            yield from super().loss(turn, outputs, _singles(batch), rng)
        elif turn == "generators":
            yield self.paired_generators(outputs, batch)
        else:
            yield self.paired_discriminators(outputs, batch)

    def paired_generators(self, outputs: Outputs, batch: Batch) -> Terms:
        """Each translation beside its source should pass for the partner, and be near it."""
        config, a, b = self.config, batch["source"], batch["target"]
        terms: Terms = {}
        for name, discriminator, source, real in self._sides(a, b):
            fake = outputs[f"fake_{name}"]
            game = generator_loss(discriminator.paired(source, fake), config.paired_mode)
            terms[f"paired_adversarial_{name}"] = config.paired_adversarial * game
            terms[f"paired_l1_{name}"] = config.paired_l1 * l1(fake, real)
        if config.paired_cycle:
            terms["paired_cycle_a"] = config.paired_cycle * l1(outputs["back_a"], a)
            terms["paired_cycle_b"] = config.paired_cycle * l1(outputs["back_b"], b)
        return terms

    def paired_discriminators(self, outputs: Outputs, batch: Batch) -> Terms:
        """Each discriminator on true pairs and on sources beside their translations."""
        terms: Terms = {}
        for name, discriminator, source, real in self._sides(batch["source"], batch["target"]):
            logits = discriminator.paired(source, real), discriminator.paired(source, outputs[f"fake_{name}"].detach())
            self.accuracy.update(*logits, self.config.paired_mode, f"paired_{name}")
            terms[f"paired_discriminator_{name}"] = discriminator_loss(*logits, self.config.paired_mode)
        return terms

    def _sides(self, a: Tensor, b: Tensor) -> list[tuple[str, Any, Tensor, Tensor]]:
        """Domain, its discriminator, the image translated into it, and the partner."""
        return [("a", self.discriminator_a, b, a), ("b", self.discriminator_b, a, b)]


def _singles(batch: Batch) -> Batch:
    return {"source": batch["source_unpaired"], "target": batch["target_unpaired"]}
