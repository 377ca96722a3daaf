"""Small regimes, setups and feeds that the tests of the training loop share with the processes they start."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.recipes.base import Net, Optimiser, Setup
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms, noise
from SynthGANLib.training.engine import Outcome, train

CHILD = Path(__file__).with_name("training_child.py")


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a process that runs `training_child`."""
    here = Path(__file__).resolve().parent
    paths = os.pathsep.join([str(here), str(here.parents[2])])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}


class Line(nn.Module):
    """y = w x + b, one number each: what happens to it can be worked out by hand."""

    multiple = 1

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.5))
        self.b = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x + self.b


class Maker(nn.Module):
    """A generator with all that has state: dropout, batch statistics, several layers."""

    multiple = 1

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.3),
            nn.Conv2d(width, 1, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Judge(nn.Module):
    """A small discriminator: logits of patches."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class LocalNet(Net):
    """A network of this file."""

    def build(self) -> nn.Module:
        return {"Line": Line, "Maker": Maker, "Judge": Judge}[self.name](**self.arguments)


@dataclass(frozen=True)
class ToyConfig:
    """l1: weight of the distance; pool: images remembered; noise: on the source, from the loop's generator."""

    l1: float = 10.0
    pool: int = 3
    noise: float = 0.1


class ToyGan(Regime):
    """Paired, with a pool whose images come back later: state beside the weights, used by every later step."""

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "discriminator": ("discriminator",),
        "generator": ("generator",),
    }
    needs: ClassVar[tuple[str, ...]] = ("source", "target")

    def __init__(self, networks: Mapping[str, nn.Module], config: ToyConfig) -> None:
        super().__init__()
        self.generator, self.discriminator = networks["generator"], networks["discriminator"]
        self.config = config
        self.images: list[Tensor] = []
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        source = batch["source"]
        return {"fake": self.generator(source + self.config.noise * noise(tuple(source.shape), source, rng))}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        fake, real = outputs["fake"], batch["target"]
        if turn == "generator":
            game = (self.discriminator(fake) - 1).square().mean()
            yield {"adversarial": game, "l1": self.config.l1 * (fake - real).abs().mean()}
            return
        old = self.remembered(fake.detach(), rng)
        self.seen += 1
        yield {
            "discriminator": (self.discriminator(real) - 1).square().mean() + self.discriminator(old).square().mean()
        }

    def remembered(self, fake: Tensor, rng: Generator) -> Tensor:
        if len(self.images) < self.config.pool:
            self.images.append(fake.clone())
            return fake
        place = int(torch.randint(len(self.images), (), generator=rng))
        old, self.images[place] = self.images[place], fake.clone()
        return old

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return self.generator(batch["source"])

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def get_extra_state(self) -> dict[str, Any]:
        return {"images": list(self.images)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.images = [image.clone() for image in state["images"]]


class ToyLine(Regime):
    """Mean squared error of a line."""

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"line": ("line",)}
    needs: ClassVar[tuple[str, ...]] = ("source", "target")

    def __init__(self, networks: Mapping[str, nn.Module], config: Any) -> None:
        super().__init__()
        self.line = networks["line"]

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        return {"fake": self.line(batch["source"])}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        yield {"l2": (outputs["fake"] - batch["target"]).square().mean()}

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return self.line(batch["source"])

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.line}


def gan_setup(**changes: Any) -> Setup:
    """The toy GAN, averaged, with two kinds of optimisers and falling rates."""
    setup = Setup(
        networks={"generator": LocalNet("Maker"), "discriminator": LocalNet("Judge")},
        regime=ToyGan,
        config=ToyConfig(),
        dims=2,
        patch=(8, 8),
        batch=4,
        steps=12,
        optimisers={"*": Optimiser(rate=2e-3), "discriminator": Optimiser("rmsprop", rate=1e-3)},
        decay=0.25,
        ema=0.9,
        clip=5.0,
    )
    return replace(setup, **changes)


def line_setup(**changes: Any) -> Setup:
    """A line under plain gradient descent with a constant rate."""
    setup = Setup(
        networks={"line": LocalNet("Line")},
        regime=ToyLine,
        config=None,
        dims=2,
        patch=(4, 4),
        batch=2,
        steps=5,
        optimisers={"*": Optimiser("sgd", rate=0.1, betas=(0.0, 0.0))},
        schedule="constant",
        initialise="default",
    )
    return replace(setup, **changes)


class ToyFeed:
    """Images decided by (seed, step) of which each process takes its share; `kill` ends the process at that step."""

    normalisers: ClassVar[Mapping[str, Any]] = {"source": {"kind": "identity"}, "target": {"kind": "identity"}}
    validation: ClassVar[tuple[Any, ...]] = ()

    def __init__(
        self, setup: Setup, seed: int = 0, rank: int = 0, world: int = 1, *, kill: int | None = None, nan: int = -1
    ) -> None:
        self.setup, self.seed, self.rank, self.world, self.kill, self.nan = setup, seed, rank, world, kill, nan

    def batch(self, step: int) -> dict[str, Tensor]:
        if step == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        rng = Generator().manual_seed(1000 * self.seed + step)
        source = torch.randn(self.setup.batch, 1, *self.setup.patch, generator=rng)
        target = torch.tanh(2 * source)
        if step == self.nan:
            target[0] = float("nan")
        mine = slice(self.rank, None, self.world)
        return {"source": source[mine], "target": target[mine]}

    def describe(self) -> dict[str, Any]:
        return {"name": "toy", "seed": self.seed, "split": {"training": ["a", "b"], "validation": ["c"]}}


def same(a: Any, b: Any, where: str = "") -> str | None:
    """Where two nested contents of checkpoints differ in a single bit; None if nowhere."""
    if isinstance(a, Tensor):
        return None if isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b) else where
    if isinstance(a, dict):
        if not isinstance(b, dict) or list(a) != list(b):
            return where
        return next((found for key in a if (found := same(a[key], b[key], f"{where}.{key}"))), None)
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return where
        return next(
            (found for i, pair in enumerate(zip(a, b, strict=True)) if (found := same(*pair, f"{where}[{i}]"))), None
        )
    return None if a == b else where


def toy_run(setup: Setup, out: Path, feed: Any = None, **options: Any) -> Outcome:
    """A run of the training loop on toys, logged at every second step unless told otherwise."""
    return train(setup, feed or ToyFeed(setup, 5), out, seed=5, device="cpu", **{"log_every": 2, **options})
