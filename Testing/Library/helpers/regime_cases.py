"""Every regime on small networks, and the loop that trains it for a few steps as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.networks.autoregressive import AutoregressiveDiscriminator
from SynthGANLib.networks.cascade import Cascade
from SynthGANLib.networks.dual_head import DualHeadDiscriminator
from SynthGANLib.networks.glow_relation import DualGlow
from SynthGANLib.networks.image_discriminators import CodeDiscriminator, PyramidDiscriminator
from SynthGANLib.networks.noise import MlpGenerator
from SynthGANLib.networks.patch_discriminators import MultiScaleDiscriminator
from SynthGANLib.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from SynthGANLib.networks.pyramid import PyramidGenerator
from SynthGANLib.networks.unit import PaperUnit, UnitTranslator
from SynthGANLib.networks.vessel import VesselAutoencoder
from SynthGANLib.regimes import (
    autoregressive,
    cascade,
    cycle,
    flow,
    inpainting,
    mixed,
    noise,
    paired,
    progressive,
    pyramid,
    retina,
    supervised,
    unit,
    wasserstein,
)
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, sum_of
from SynthGANLib.regimes.wasserstein import CriticSchedule


class Translator(nn.Module):
    """Two convolutions, extents kept."""

    def __init__(self, inputs: int = 1, outputs: int = 1, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, outputs, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Deep(Translator):
    """With one tentative image before the last, and with two bands."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 3, padding=1)

    def tentative(self, x: Tensor) -> list[Tensor]:
        early = self.first(x)
        return [early, self.layers(early)]

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first(x), self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.tentative(x)[-1]


class Judge(nn.Module):
    """A list of features and logits, as a patch discriminator's; keeps what it was last shown."""

    def __init__(self, inputs: int = 1, width: int = 4) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(inputs, width, 4, 2, 1), nn.Conv2d(width, 1, 3, 1, 1)
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> list[Tensor]:
        self.shown = [*self.shown[-3:], x.detach()]
        hidden = nn.functional.leaky_relu(self.first(x), 0.2)
        return [hidden, self.last(hidden)]


class Dense(nn.Module):
    """One value for an image or a code."""

    def __init__(self, inputs: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


class Constant(nn.Module):
    """Says the same of everything, whatever it is asked."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x: Tensor, *label: Tensor) -> Tensor:
        return self.logit.expand(x.shape[0], 1) + 0 * x.flatten(1).sum(1, keepdim=True)


def drawn(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def images(rng: Generator, *names: str, extent: int = 8, count: int = 2) -> dict[str, Tensor]:
    """Smooth-less images in [-1, 1], one independent of the other."""
    return {name: 2 * torch.rand(count, 1, extent, extent, generator=rng) - 1 for name in names}


@dataclass(frozen=True)
class Case:
    """A regime: how it is built from torch's global generator, and its batches."""

    build: Callable[[], Regime]
    batch: Callable[[Generator], Batch] = field(default=lambda rng: images(rng, "source", "target"))

    def made(self, seed: int) -> Regime:
        torch.manual_seed(seed)
        return self.build().train()


def pair(inputs: int = 2) -> dict[str, nn.Module]:
    return {"generator": Translator(), "discriminator": Judge(inputs)}


def two_domains() -> dict[str, nn.Module]:
    names = {f"generator_{direction}": Translator() for direction in ("ab", "ba")}
    return names | {f"discriminator_{domain}": Judge() for domain in "ab"}


def stages(*channels: int) -> Cascade:
    made = [
        {
            "name": "ConvStack",
            "arguments": {"dims": 2, "in_channels": c, "out_channels": 1, "layers": [[3, 4], [3, 1]], "norm": "batch"},
        }
        for c in channels
    ]
    return Cascade(made, inputs="source+prev")


class Features(nn.Module):
    """A frozen layer as features."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.relu(self.layer(x))]


def _noise(labelled: bool) -> noise.Noise:
    classes = 3 if labelled else 0
    made = MlpGenerator((1, 8, 8), code=4, widths=[8], classes=classes)
    judge: nn.Module = _Labelled(3) if labelled else Judge()
    return noise.Noise({"generator": made, "discriminator": judge}, noise.NoiseConfig(code=4, labelled=labelled))


class _Labelled(Dense):
    """`Dense` on an image and its class."""

    def __init__(self, classes: int) -> None:
        super().__init__(64 + classes)
        self.classes = classes

    def forward(self, x: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([x.flatten(1), nn.functional.one_hot(label, self.classes).float()], 1))


def _wasserstein(**config: Any) -> wasserstein.Wasserstein:
    nets = {"generator": MlpGenerator((1, 8, 8), code=4, widths=[8]), "critic": Dense(64)}
    return wasserstein.Wasserstein(nets, wasserstein.WassersteinConfig(code=4, **config))


def _progressive() -> progressive.Progressive:
    made, critic = ProgressiveGenerator(size=8, code=4, base=8), ProgressiveDiscriminator(size=8, base=8)
    nets: dict[str, nn.Module] = {"generator": made, "critic": critic}
    # level 1 is being faded in from the second step on, so that all weights are in use
    return progressive.Progressive(nets, progressive.ProgressiveConfig(stable=2, fade=20))


def _pyramid(kind: type[pyramid.Pyramid], conditional: bool) -> pyramid.Pyramid:
    nets = {
        "generator": PyramidGenerator(size=16, code=4, coarsest=8, base=2, widths=[2]),
        "discriminator": PyramidDiscriminator(size=16, coarsest=8, base=2, widths=[2], conditional=conditional),
    }
    return kind(nets, pyramid.PyramidConfig(code=4))


def _retina() -> retina.Retina:
    nets = {
        "autoencoder": VesselAutoencoder(code=2, size=8, base=2),
        "renderer": Translator(1, 3),
        "discriminator": Judge(4),
        "code_discriminator": CodeDiscriminator(2, 4),
    }
    return retina.Retina(nets, retina.RetinaConfig())


def _retina_batch(rng: Generator) -> Batch:
    found = images(rng, "source")
    return {"source": (found["source"] > 0).float(), "target": 2 * torch.rand(2, 3, 8, 8, generator=rng) - 1}


def _mixed() -> mixed.Mixed:
    nets = two_domains() | {f"discriminator_{d}": DualHeadDiscriminator(base=2, layers=1) for d in "ab"}
    return mixed.Mixed(nets, mixed.MixedConfig(pool=3))


def _mixed_batch(rng: Generator) -> Batch:
    return images(rng, "source", "target", "source_unpaired", "target_unpaired", extent=12)


def _staged(steps: int = 8) -> cascade.StagedCascade:
    weights = paired.AdversarialWeights(l1=10.0)
    plain = paired.AdversarialWeights(l1=1.0, adversarial=0.0)
    config = cascade.CascadeConfig((plain, weights), (0.25,), steps)
    return cascade.StagedCascade({"generator": stages(1, 2), "discriminator_2": Judge(2)}, config)


def auto_context(steps: int = 8, folds: int = 2) -> cascade.StagedCascade:
    """Two stages with a game each, the second on estimates out of fold."""
    weights = paired.AdversarialWeights(l1=10.0)
    config = cascade.CascadeConfig((weights, weights), (0.25,), steps, folds)
    nets = {"generator": stages(1, 2), "discriminator_1": Judge(2), "discriminator_2": Judge(2)}
    return cascade.StagedCascade(nets, config)


def _folded_batch(rng: Generator) -> Batch:
    return images(rng, "source", "target") | {"fold": torch.randint(2, (), generator=rng).expand(2).clone()}


def _unit() -> unit.Unit:
    judges = {f"discriminator_{d}": MultiScaleDiscriminator(scales=2, base=2, layers=2) for d in "ab"}
    return unit.Unit({"generator": UnitTranslator(base=2, blocks=1)} | judges, unit.UnitConfig())


def _unit_paper() -> unit.Unit:
    judges = {f"discriminator_{d}": MultiScaleDiscriminator(scales=2, base=2, layers=2) for d in "ab"}
    nets = {"generator": PaperUnit(base=2, blocks=1), "vgg": Features(), **judges}
    return unit.Unit(nets, replace(unit.PAPER, perceptual=1.0))


def _argan(**more: nn.Module) -> autoregressive.Autoregressive:
    nets = {
        "generator": MlpGenerator((1, 8, 8), code=4, widths=[8]),
        "discriminator": AutoregressiveDiscriminator(size=8, base=2, hidden=4),
    }
    return autoregressive.Autoregressive(nets | more, autoregressive.AutoregressiveConfig(code=4))


def _inpainting(kind: type[inpainting.Inpainting]) -> inpainting.Inpainting:
    nets = {"generator": Translator(2, 1), "discriminator": Judge(1)}
    return kind(nets, inpainting.InpaintingConfig(extent=4))


def _labelled_batch(rng: Generator) -> Batch:
    return images(rng, "target", count=3) | {"label": torch.arange(3)}


def _target(rng: Generator) -> Batch:
    return images(rng, "target")


MEDGAN = paired.PairedConfig(feature=20.0, style=1e-2, content=1e-2, l1=0.0, generator_turns=3)
SUPER_RESOLUTION = paired.PairedConfig(
    mode="wgan", l1=1.0, adversarial=1e-3, discriminator=1.0, conditional=False, penalty=10.0,
    pretrain=2, critic_pretrain=1, schedule=CriticSchedule(turns=2, many=3, first=0, every=2),
)  # fmt: skip

CASES: Mapping[str, Case] = {
    "supervised": Case(
        lambda: supervised.Supervised({"generator": Translator()}, supervised.SupervisedConfig(gdl=1.0, ssim=1.0))
    ),
    "deep": Case(lambda: supervised.DeeplySupervised({"generator": Deep()}, supervised.DeepConfig())),
    "bands": Case(lambda: supervised.BandSupervised({"generator": Deep()}, supervised.BandConfig())),
    "pix2pix": Case(lambda: paired.PairedAdversarial(pair(), paired.PairedConfig())),
    "medgan": Case(lambda: paired.PairedAdversarial(pair() | {"vgg": Features()}, MEDGAN)),
    "mdcsrn": Case(lambda: paired.PairedAdversarial(pair(1), SUPER_RESOLUTION)),
    "cascade": Case(_staged),
    "auto-context": Case(auto_context, _folded_batch),
    "cycle": Case(lambda: cycle.Cycle(two_domains(), cycle.CycleConfig(pool=3, gradient=0.3))),
    "mixed": Case(_mixed, _mixed_batch),
    "unit": Case(_unit),
    "unit-paper": Case(_unit_paper),
    "noise": Case(lambda: _noise(False), _target),
    "labelled": Case(lambda: _noise(True), _labelled_batch),
    "wgan": Case(lambda: _wasserstein(clip=0.1, penalty=0.0, schedule=CriticSchedule(2, 3, 1, 0)), _target),
    "wgan-gp": Case(lambda: _wasserstein(schedule=CriticSchedule(2, 2, 0, 0)), _target),
    "argan": Case(_argan, _target),
    "pargan": Case(lambda: _argan(patch=Judge()), _target),
    "progressive": Case(_progressive, _target),
    "lapgan": Case(lambda: _pyramid(pyramid.Pyramid, True), lambda rng: images(rng, "target", extent=16)),
    "ddgan": Case(lambda: _pyramid(pyramid.JointPyramid, False), lambda rng: images(rng, "target", extent=16)),
    "retina": Case(_retina, _retina_batch),
    "flow": Case(lambda: flow.Flow({"generator": DualGlow(dims=2, depths=(1, 1), width=4)}, flow.FlowConfig())),
    "inpainting": Case(lambda: _inpainting(inpainting.Inpainting), _target),
    "free inpainting": Case(lambda: _inpainting(inpainting.FreeInpainting), _target),
}


def all_terms(regime: Regime, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Terms:
    """All parts of a turn's loss together."""
    return {name: term for part in regime.loss(turn, outputs, batch, rng) for name, term in part.items()}


class Loop:
    """Trains a regime step by step: gradients and optimisers as the engine has them."""

    def __init__(self, regime: Regime, rate: float = 1e-3, betas: tuple[float, float] = (0.5, 0.999)) -> None:
        self.regime = regime
        self.optimisers = {name: torch.optim.Adam(regime.parameters_of(name), rate, betas) for name in regime.groups}
        self.step = 0
        self.turns: list[str] = []
        self.terms: dict[str, dict[str, float]] = {}
        self.before: Callable[[str], None] = lambda turn: None
        self.behind: Callable[[str], None] = lambda turn: None

    def only(self, *turns: str) -> None:
        self.regime.requires_grad_(False)
        for turn in turns:
            for parameter in self.regime.parameters_of(turn):
                parameter.requires_grad_(True)

    def take(self, batch: Batch, rng: Generator) -> dict[str, Tensor]:
        """One step; returns its outputs."""
        regime = self.regime
        regime.step = self.step
        turns = regime.turns(self.step)
        self.only(*turns)
        outputs = regime.forward(batch, rng)
        for turn in turns:
            self.only(turn)
            terms = all_terms(regime, turn, outputs, batch, rng)
            self.before(turn)
            self.optimisers[turn].zero_grad(set_to_none=True)
            sum_of(terms).backward()
            self.optimisers[turn].step()
            with torch.no_grad():
                regime.after(turn)
            self.behind(turn)
            self.terms[turn] = {name: float(term.detach()) for name, term in terms.items()}
        self.turns += turns
        self.step += 1
        return outputs

    def run(self, case: Case, steps: int, data: Generator, rng: Generator) -> None:
        for _ in range(steps):
            self.take(case.batch(data), rng)
