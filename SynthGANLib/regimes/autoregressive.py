"""Generation against an autoregressive model of features: ARGAN (Yazici, Yap, Winkler, ICLR workshop 2018).

Only the abstract and introduction of the paper could be read: the energies and the margin are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Generator, Tensor, nn

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.latent import autoregressive_margin
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, noise
from SynthGANLib.regimes.discriminator_accuracy import logits_of


@dataclass(frozen=True)
class AutoregressiveConfig:
    """Attributes:

    code: length of the generator's input of independent standard normal numbers.
    margin: energy up to which generated images are pushed.
    pretrain: first steps, of the energy model alone.
    patch: weight of the least squares game with the network "patch", where there is one.
    """

    code: int = 100
    margin: float = 0.2
    pretrain: int = 0
    patch: float = 0.1


class Autoregressive(Regime):
    """The energy e(x) is how badly an autoregressive model foretells x's features from those before them.

    The model minimizes E[e(x)] + E[max(0, margin - e(G(z)))], the generator E[e(G(z))]. Networks: "generator",
    "discriminator" (with `energy(x) -> (B,)`), optionally "patch", a patch discriminator beside it.
    """

    groups: Mapping[str, tuple[str, ...]] = {
        "discriminator": ("discriminator",),
        "generator": ("generator",),
    }
    needs: tuple[str, ...] = ("target",)

    def __init__(self, networks: Mapping[str, nn.Module], config: AutoregressiveConfig) -> None:
        super().__init__()
        self.generator = networks["generator"]
        self.discriminator = networks["discriminator"]
        self.patch = networks.get("patch")
        self.config = config
        if self.patch is not None:
            judges = {"discriminator": ("discriminator", "patch"), "generator": ("generator",)}
            self.groups = judges  # the networks decide

    def turns(self, step: int) -> tuple[str, ...]:
        return ("discriminator",) if step < self.config.pretrain else ("discriminator", "generator")

    def energy(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B,)."""
        return cast(Tensor, cast(Any, self.discriminator).energy(x))

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        real = batch["target"]
        return {"fake": self.generator(noise((real.shape[0], self.config.code), real, rng))}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        real, fake, config = batch["target"], outputs["fake"], self.config
        if turn == "generator":
            terms = {"energy": self.energy(fake).float().mean()}
            if self.patch is not None:
                terms["patch"] = config.patch * generator_loss(logits_of(self.patch(fake)), "lsgan")
            yield terms
            return
        fake = fake.detach()
        real_energy, fake_energy = self.energy(real), self.energy(fake)
        outputs["gap"] = (fake_energy.mean() - real_energy.mean()).detach()
        terms = {"energy": autoregressive_margin(real_energy, fake_energy, config.margin)}
        if self.patch is not None:
            logits = logits_of(self.patch(real)), logits_of(self.patch(fake))
            terms["patch"] = config.patch * discriminator_loss(*logits, "lsgan")
        yield terms

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return self.forward(batch, rng)["fake"]

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """How much more energy generated images have than real ones."""
        return {"gap": float(outputs["gap"])} if "gap" in outputs else {}
