"""Generation by levels of a Laplacian pyramid: LAPGAN (Denton 2015) and DDGAN (Baur, Albarqouni, Navab 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.networks.image_discriminators import PyramidDiscriminator
from SynthGANLib.networks.pyramid import PyramidGenerator, laplacian_pyramid, reconstruct
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, noise
from SynthGANLib.regimes.discriminator_accuracy import Accuracy


@dataclass(frozen=True)
class PyramidConfig:
    """code: length of the coarsest generator's input. mode: adversarial loss. real_label: target of real images."""

    code: int = 100
    mode: str = "vanilla"
    real_label: float = 1.0


class Pyramid(Regime):
    """LAPGAN: each level's generator learns by itself what the enlarged true image of the level before lacks.

    Networks: "generator", a `PyramidGenerator`, and "discriminator", a `PyramidDiscriminator`, which sees a residual
    beside the enlarged image that it belongs to. No level's terms touch another level's networks, so that training
    all in each step is training them apart.
    """

    groups: Mapping[str, tuple[str, ...]] = {
        "discriminator": ("discriminator",),
        "generator": ("generator",),
    }
    needs: tuple[str, ...] = ("target",)

    def __init__(self, networks: Mapping[str, nn.Module], config: PyramidConfig) -> None:
        super().__init__()
        self.generator = cast(PyramidGenerator, networks["generator"])
        self.discriminator = cast(PyramidDiscriminator, networks["discriminator"])
        self.config = config
        self.accuracy = Accuracy()
        self.count = len(self.generator.levels)
        if len(self.discriminator.levels) != self.count + 1:
            judged = len(self.discriminator.levels)
            raise ValueError(f"the generator makes {self.count + 1} levels, the discriminator judges {judged}")

    def code(self, batch: Batch, rng: Generator) -> Tensor:
        """(B, code) standard normal numbers."""
        return noise((batch["target"].shape[0], self.config.code), batch["target"], rng)

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        parts = laplacian_pyramid(batch["target"], self.count)
        images = reconstruct(parts)
        outputs = {"real_0": parts[0], "fake_0": cast(Tensor, self.generator.coarse(self.code(batch, rng)))}
        for level in range(1, self.count + 1):
            enlarged = self.generator.enlarge(images[level - 1], level)
            residual = self.generator.residual(level, enlarged, rng)
            outputs[f"real_{level}"] = torch.cat([parts[level], enlarged], 1)
            outputs[f"fake_{level}"] = torch.cat([residual, enlarged], 1)
        return outputs

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        terms: Terms = {}
        for level in range(self.count + 1):
            real, fake = outputs[f"real_{level}"], outputs[f"fake_{level}"]
            if turn == "generator":
                terms[f"adversarial_{level}"] = generator_loss(self.discriminator.judge(level, fake), self.config.mode)
            else:
                logits = self.discriminator.judge(level, real), self.discriminator.judge(level, fake.detach())
                self.accuracy.update(*logits, self.config.mode, str(level))
                loss = discriminator_loss(*logits, self.config.mode, self.config.real_label)
                terms[f"discriminator_{level}"] = loss
        yield terms

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return cast(Tensor, self.generator(self.code(batch, rng), rng))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """How often the discriminator is right."""
        return self.accuracy.numbers()


class JointPyramid(Pyramid):
    """DDGAN: the levels learn together, and each level's discriminator sees the image as it is at that level.

    The discriminator is one without `conditional`.
    """

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        reals = reconstruct(laplacian_pyramid(batch["target"], self.count))
        fakes = self.generator.images(self.code(batch, rng), rng)
        return {f"real_{level}": image for level, image in enumerate(reals)} | {
            f"fake_{level}": image for level, image in enumerate(fakes)
        }
