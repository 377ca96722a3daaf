"""Two domains with one space of codes: UNIT (Liu, Breuel, Kautz 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.latent import unit_kl
from SynthGANLib.losses.pixel import l1, l2
from SynthGANLib.losses.precision import in_float32
from SynthGANLib.networks.unit import PaperUnit, UnitTranslator
from SynthGANLib.regimes.adversary import vgg_of
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, noise
from SynthGANLib.regimes.discriminator_accuracy import Accuracy


@dataclass(frozen=True)
class UnitConfig:
    """Weights of the terms; those of the released program by default, the paper's in `PAPER`.

    Attributes:
        mode: adversarial loss. adversarial: its weight for the generators. discriminator: factor on the
            discriminators' losses.
        within, cycle: mean absolute errors of an image decoded in its own domain, and after the way there and back.
        code, cycle_code: divergence of the codes from the standard normal distribution, of images and of translations.
        perceptual: squared difference of an image's and its translation's deepest features by VGG19 (the released
            program: by VGG16), each feature map with mean 0 and variance 1; 1 in the released program, 0 here, for it
            needs a file. vgg: file of VGG19's weights.
    """

    mode: str = "lsgan"
    adversarial: float = 1.0
    discriminator: float = 2.0  # UNIT has no factor of one half, the loss "lsgan" has
    within: float = 10.0
    cycle: float = 10.0
    code: float = 0.01
    cycle_code: float = 0.01
    perceptual: float = 0.0
    vgg: str = ""


PAPER = UnitConfig(
    mode="vanilla", adversarial=10.0, discriminator=1.0, within=100.0, cycle=100.0, code=0.1, cycle_code=0.1
)


class Unit(Regime):
    """Variational autoencoders of both domains, whose codes are exchanged, against one discriminator for each.

    Networks: "generator" (a `UnitTranslator` or a `PaperUnit`), "discriminator_a", "discriminator_b" (logits, or a list
    of them, one for each scale); optionally "vgg", frozen features, else VGG19 with the weights of `config.vgg`, where
    there is a perceptual term. Codes get standard normal noise in training.
    """

    groups: Mapping[str, tuple[str, ...]] = {
        "discriminators": ("discriminator_a", "discriminator_b"),
        "generator": ("generator",),
    }
    needs: tuple[str, ...] = ("source", "target")

    def __init__(self, networks: Mapping[str, nn.Module], config: UnitConfig) -> None:
        super().__init__()
        self.generator = cast(UnitTranslator | PaperUnit, networks["generator"])
        self.discriminator_a = networks["discriminator_a"]
        self.discriminator_b = networks["discriminator_b"]
        self.config = config
        self.vgg = vgg_of(networks, config.vgg, wanted=bool(config.perceptual))
        self.accuracy = Accuracy()

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        unit = self.generator
        code_a, code_b = unit.encode_a(batch["source"]), unit.encode_b(batch["target"])
        noisy_a, noisy_b = _noisy(code_a, rng), _noisy(code_b, rng)
        fake_b, fake_a = unit.decode_b(noisy_a), unit.decode_a(noisy_b)
        again_a, again_b = unit.encode_b(fake_b), unit.encode_a(fake_a)  # the codes a, b after the translation
        return {
            "code_a": code_a,
            "code_b": code_b,
            "within_a": unit.decode_a(noisy_a),
            "within_b": unit.decode_b(noisy_b),
            "fake_a": fake_a,
            "fake_b": fake_b,
            "again_a": again_a,
            "again_b": again_b,
            "back_a": unit.decode_a(_noisy(again_a, rng)),
            "back_b": unit.decode_b(_noisy(again_b, rng)),
        }

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        config = self.config
        terms: Terms = {}
        sides = {"a": (self.discriminator_a, batch["source"]), "b": (self.discriminator_b, batch["target"])}
        for name, (discriminator, real) in sides.items():
            fake = outputs[f"fake_{name}"]
            if turn == "discriminators":
                logits = discriminator(real), discriminator(fake.detach())
                self.accuracy.update(*logits, config.mode, name)
                terms[f"discriminator_{name}"] = config.discriminator * discriminator_loss(*logits, config.mode)
            else:
                game = generator_loss(discriminator(fake), config.mode)
                terms[f"adversarial_{name}"] = config.adversarial * game
                terms[f"within_{name}"] = config.within * l1(outputs[f"within_{name}"], real)
                terms[f"cycle_{name}"] = config.cycle * l1(outputs[f"back_{name}"], real)
                terms[f"code_{name}"] = config.code * unit_kl(outputs[f"code_{name}"])
                terms[f"cycle_code_{name}"] = config.cycle_code * unit_kl(outputs[f"again_{name}"])
        if turn == "generator" and self.vgg is not None:
            for name, origin in (("a", batch["target"]), ("b", batch["source"])):
                with torch.no_grad():
                    wanted = self.vgg(origin)[-1]
                distance = feature_distance(self.vgg(outputs[f"fake_{name}"])[-1], wanted)
                terms[f"perceptual_{name}"] = config.perceptual * distance
        yield terms

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return cast(Tensor, self.generator(batch["source"]))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator, "backward": self.generator.reverse()}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """How often the discriminators are right."""
        return self.accuracy.numbers()


@in_float32
def feature_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of features (B, C, y, x), every map of which is brought to mean 0 and variance 1."""
    return l2(functional.instance_norm(found), functional.instance_norm(wanted))


def _noisy(code: Tensor, rng: Generator) -> Tensor:
    return code + noise(tuple(code.shape), code, rng)
