"""Generation by networks that grow: progressive growing of GANs (Karras 2018; Beers 2018 for medical images)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.penalty import drift, gradient_penalty
from SynthGANLib.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from SynthGANLib.networks.sampler import Sampler
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, noise


@dataclass(frozen=True)
class ProgressiveConfig:
    """Attributes:

    stable, fade: images that a level is trained on fully grown, and before that while it is faded in.
    penalty, drift: weights of the gradient penalty and of the critic's squared values on real images.
    """

    stable: int = 600_000
    fade: int = 600_000
    penalty: float = 10.0
    drift: float = 0.001

    def growth(self, images: int, top: int) -> tuple[int, float]:
        """Level (0 to `top`) and how far it is faded in (0 to 1) once `images` images were seen."""
        if images < self.stable:
            return 0, 1.0
        level, within = divmod(images - self.stable, self.fade + self.stable)
        if level >= top:
            return top, 1.0
        return level + 1, min(within / self.fade, 1.0) if self.fade else 1.0


class Progressive(Regime):
    """A Wasserstein game with gradient penalty on images whose extents double as training goes on.

    Networks: "generator", "critic", grown together. The images seen so far, by this process, are in the state.
    """

    groups: Mapping[str, tuple[str, ...]] = {"critic": ("critic",), "generator": ("generator",)}
    needs: tuple[str, ...] = ("target",)
    images_seen: Tensor

    def __init__(self, networks: Mapping[str, nn.Module], config: ProgressiveConfig) -> None:
        super().__init__()
        self.generator = cast(ProgressiveGenerator, networks["generator"])
        self.critic = cast(ProgressiveDiscriminator, networks["critic"])
        self.config = config
        # never on "meta": it decides the level also where no weights are wanted
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64, device="cpu"))

    def growth(self) -> tuple[int, float]:
        """Level and how far it is faded in, now."""
        return self.config.growth(int(self.images_seen), self.generator.top)

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        level, alpha = self.growth()
        target = batch["target"]
        self.images_seen += target.shape[0]
        code = noise((target.shape[0], self.generator.code), target, rng)
        return {
            "fake": self.generator(code, level, alpha),
            "real": reduced(target, self.generator.extents(level), alpha if level else 1.0),
            "level": torch.tensor(level),
            "alpha": torch.tensor(alpha, dtype=torch.float64),
        }

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        level, alpha = int(outputs["level"]), float(outputs["alpha"])
        real, fake = outputs["real"], outputs["fake"]
        if turn == "generator":
            yield {"adversarial": generator_loss(self.critic(fake, level, alpha), "wgan")}
            return
        fake = fake.detach()
        values = self.critic(real, level, alpha)
        estimate = discriminator_loss(values, self.critic(fake, level, alpha), "wgan")
        outputs["distance"] = -estimate.detach()
        slope = gradient_penalty(lambda x: cast(Tensor, self.critic(x, level, alpha)), real, fake, rng)
        yield {
            "critic": estimate,
            "penalty": self.config.penalty * slope,
            "drift": self.config.drift * drift(values),
        }

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        """Images of the present level, their voxels repeated up to the target's extents."""
        target = batch["target"]
        image = self.generator(noise((target.shape[0], self.generator.code), target, rng), *self.growth())
        return F.interpolate(image, size=target.shape[2:], mode="nearest")

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def usable(self) -> Mapping[str, nn.Module]:
        """The generator up to the highest level that has been faded in whole."""
        level, alpha = self.growth()
        grown = level if alpha >= 1.0 else level - 1
        return {"forward": Sampler.over(self.generator, self.generator.code, level=grown)}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """Level, how far it is faded in, and the critic's estimate of the distance."""
        return {name: float(outputs[name]) for name in ("level", "alpha", "distance") if name in outputs}


def reduced(image: Tensor, extents: tuple[int, ...], alpha: float) -> Tensor:
    """`image` averaged down to `extents`, fading in what is finer than half of that as the generator does."""
    image = _averaged(image, extents)
    if alpha >= 1.0:
        return image
    coarse = F.interpolate(_averaged(image, tuple(n // 2 for n in extents)), scale_factor=2.0, mode="nearest")
    return (1.0 - alpha) * coarse + alpha * image


def _averaged(image: Tensor, extents: tuple[int, ...]) -> Tensor:
    pool: Any = F.adaptive_avg_pool2d if image.ndim == 4 else F.adaptive_avg_pool3d
    return cast(Tensor, pool(image, extents))
