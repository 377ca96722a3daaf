"""Drawn subjects of every kind of image that recipes make, and the training of a recipe's tiny size on them.

Subjects are drawn in physical units and become the networks' numbers by the normalisers that the recipe asks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from SynthGANLib.data.cases import Loaded
from SynthGANLib.data.datalist import Case, Side
from SynthGANLib.data.degradations import degradation_of
from SynthGANLib.data.scaling import choose
from SynthGANLib.image.volume import Volume
from SynthGANLib.recipes.base import Recipe, Setup
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.regimes.wasserstein import WassersteinConfig
from SynthGANLib.training import checkpoint
from SynthGANLib.training.engine import train
from SynthGANLib.training.state import State

Array = np.ndarray[Any, np.dtype[Any]]

FASTER = 20.0
"""What all learning rates are multiplied by: the papers' are for a thousand times as many steps."""

HIGHEST = 0.01
"""No rate is raised beyond it: small networks lose their rectifiers there."""

STEPS: Mapping[str, int] = {
    **dict.fromkeys(("Cycle", "Mixed", "Unit"), 50),  # four networks in every step
    **dict.fromkeys(("Supervised", "Noise", "Autoregressive"), 150),
    **dict.fromkeys(("Wasserstein", "Retina"), 200),  # five steps of the critic to one; two networks in series
}
"""Steps of a run by regime; 100 of all others."""

BATCH: Mapping[str, int] = dict.fromkeys(("Noise", "Wasserstein", "Autoregressive", "Pyramid", "JointPyramid"), 16)
"""Batch by regime, the tiny recipe's own of all others: the papers' are of 64, and a game on four is mostly chance."""

AIR, BONE, SOFT, FLUID, LESION = range(5)
# What each tissue looks like, in physical units: no image is a straight line of another's.
LEVELS: Mapping[str, tuple[float, ...]] = {
    "MR": (20.0, 300.0, 900.0, 550.0, 720.0),
    "MR2": (20.0, 150.0, 400.0, 900.0, 700.0),
    "MR3": (20.0, 100.0, 700.0, 300.0, 900.0),
    "MR4": (20.0, 400.0, 300.0, 800.0, 500.0),
    "CT": (-1000.0, 1200.0, 250.0, 0.0, 450.0),
    "PET": (0.0, 2.0, 9.0, 4.0, 17.0),
}
NOISE = {"MR": 15.0, "CT": 20.0, "PET": 0.3}
SIDES = {
    "MR": Side("MR", "1"),
    "CT": Side("CT", "HU"),
    "PET": Side("PT", "SUVbw"),
    "vessels": Side("OT", "label"),
    "fundus": Side("OP", "RGB", 3),
}


def anatomy(random: np.random.Generator, extents: tuple[int, ...]) -> Array:
    """Tissue codes of a head: skull, brain, ventricle and lesion at places of their own."""
    grid = np.meshgrid(*[np.linspace(-1, 1, extent) for extent in extents], indexing="ij")

    def distance(centre: Array, axes: Array | float) -> Array:
        scaled = [(g - c) / a for g, c, a in zip(grid, centre, np.broadcast_to(axes, len(extents)), strict=True)]
        return np.sqrt(sum(part**2 for part in scaled))

    dims = len(extents)
    head = distance(random.uniform(-0.1, 0.1, dims), random.uniform(0.75, 0.95, dims))
    codes = np.where(head < 0.7, SOFT, np.where(head < 1, BONE, AIR))
    for code, reach, size in ((FLUID, 0.15, 0.3), (LESION, 0.4, 0.2)):
        inside = distance(random.uniform(-reach, reach, dims), size * random.uniform(0.8, 1.2)) < 1
        codes[inside & (head < 0.7)] = code
    return codes


def image(kind: str, codes: Array, random: np.random.Generator) -> Array:
    """float32 image of the tissues: "MR" (with a shading), "MR2" .. "MR4", "CT" or "PET"."""
    found = np.asarray(LEVELS[kind])[codes]
    family = kind[:2] if kind.startswith("MR") else kind
    if family == "MR":
        slope = random.uniform(-0.08, 0.08, codes.ndim)
        places = np.meshgrid(*[np.linspace(-1, 1, extent) for extent in codes.shape], indexing="ij")
        found = found * (1 + sum(s * p for s, p in zip(slope, places, strict=True)))
    found = found + NOISE[family] * random.standard_normal(codes.shape)
    return (found if kind == "CT" else np.abs(found)).astype(np.float32)


def fundus(random: np.random.Generator, extents: tuple[int, ...]) -> tuple[Array, Array]:
    """Landmarks (y, x, 3), 0 or 1: vessels, optic disc, cup; and the photograph (y, x, 3), 0 to 255."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, extent) for extent in extents], indexing="ij")
    cy, cx = random.uniform(-0.2, 0.2), random.choice([-0.5, 0.5]) + random.uniform(-0.1, 0.1)
    disc, cup = (np.hypot(y - cy, x - cx) < radius for radius in (0.25, 0.12))
    vessels = np.zeros(extents, bool)
    for bend in random.uniform(-1.2, 1.2, 4):
        vessels |= np.abs(y - cy - bend * np.abs(x - cx) ** 0.7) < 0.06
    field = np.hypot(y, x) < 0.98
    picture = np.where(vessels[..., None], (120, 20, 15), (215, 105, 50))
    picture = np.where((disc & ~vessels)[..., None], (250, 210, 110), picture)
    picture = np.where((cup & ~vessels)[..., None], (255, 245, 200), picture)
    picture = np.where(field[..., None], picture + random.normal(0, 6, (*extents, 3)), 0)
    marks = np.stack([vessels, disc, cup], -1) & field[..., None]
    return marks.astype(np.uint8), picture.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Task:
    """Kinds of image that a recipe is trained on here, and whether it restores them."""

    source: str
    target: str
    restores: bool = False


SPOILT: Mapping[str, Mapping[str, Any]] = {
    "motion": {"states": 8, "degrees": 0.0, "pixels": 6.0},
    "low_dose": {"fraction": 0.03, "counts": 10.0},
    "truncate_kspace": {"factors": [4.0, 4.0, 4.0]},
}
"""More than usual, so that a short training can tell: kind of degradation -> its arguments."""

GENERATED = {"cgan-label": "PET", "dcgan-pet": "PET", "dcgan-nodules": "CT", "dcgan-skin": "fundus"}


def task_of(recipe: Recipe) -> Task:
    """The first direction that the recipe is for."""
    if recipe.data == "unconditional":
        return Task("", GENERATED.get(recipe.name, "MR"))
    source, target = recipe.directions[0].split("-")
    restores = bool(recipe.tiny().corrupt)
    return Task(source, f"{target}2" if source == target and not restores else target, restores)


def channels_of(kind: str, count: int, codes: Array, random: np.random.Generator) -> Array:
    """(*extents[, count]): one image; with two channels also where the lesion is; with four the four contrasts."""
    if count == 1:
        return image(kind, codes, random)
    if count == 2:
        levels = LEVELS[kind]
        marked = np.where(codes == LESION, max(levels), min(levels)).astype(np.float32)
        return np.stack([image(kind, codes, random), marked], -1)
    return np.stack([image(name, codes, random) for name in ("MR", "MR2", "MR3", "MR4")[:count]], -1)


class Subjects:
    """Images of the recipe's channels and patch in the networks' numbers, and batches of them.

    Attributes:
        held: as a batch, subjects that no batch holds.
    """

    validation = ()

    def __init__(self, recipe: Recipe, setup: Setup, seed: int, count: int = 32, held: int = 16) -> None:
        self.recipe, self.setup, self.seed, self.count, self.task = recipe, setup, seed, count, task_of(recipe)
        drawn = [self._drawn(number) for number in range(count + held)]
        cases = [case for case, _ in drawn]
        self.scalings = {
            name: choose(name, self._side(name), setup.normalisers.get(name, "auto"), lambda: cases[:count])
            for name in ("source", "target")
            if getattr(self.task, name)
        }
        self.normalisers = {name: scaling.normaliser.to_json() for name, scaling in self.scalings.items()}
        self.every = {name: torch.stack([self._scaled(name, case) for case in cases]) for name in self.scalings}
        for name, arrays in (("mask", [c.target_body for c in cases]), ("weight", [c.weight for c in cases])):
            self.every[name] = torch.stack([self._first(np.asarray(array, np.float32)) for array in arrays])
        self.every["label"] = torch.tensor([label for _, label in drawn])
        self.held = {name: images[count:] for name, images in self.every.items()}

    def batch(self, step: int) -> dict[str, Tensor]:
        """Subjects drawn by the step; sides that are not paired come from others."""
        rng = Generator().manual_seed(1_000_003 * self.seed + step)
        chosen, other, third = torch.randint(self.count, (3, self.setup.batch), generator=rng)
        batch = {name: images[chosen] for name, images in self.every.items()}
        if self.recipe.data == "unpaired":
            batch["source"] = self.every["source"][other]
        if self.recipe.data == "mixed":
            batch |= {
                f"{name}_unpaired": self.every[name][which] for name, which in (("source", other), ("target", third))
            }
        return batch

    def describe(self) -> dict[str, Any]:
        return {"name": "drawn", "seed": self.seed}

    def _side(self, name: str) -> Side:
        kind = getattr(self.task, name)
        side = SIDES["MR" if kind.startswith("MR") else kind]
        return replace(side, channels=self.setup.channels[name == "target"])

    def _drawn(self, number: int) -> tuple[Loaded, int]:
        """A subject in physical units and its class, which is how bright the brain is where classes are told apart."""
        random = np.random.default_rng([self.seed, number])
        label, (inputs, outputs), extents = int(random.integers(3)), self.setup.channels, self.setup.patch
        if "fundus" in (self.task.source, self.task.target):
            marks, picture = fundus(random, extents)
            source, target = marks[..., :inputs], picture
            body, weight = np.ones(extents, bool), np.ones(extents)
        else:
            codes = anatomy(random, extents)
            target = channels_of(self.task.target, outputs, codes, random)
            source = channels_of(self.task.source or self.task.target, inputs, codes, random)
            if getattr(self.setup.config, "labelled", False):
                target = np.where(codes == SOFT, target * (0.3 + 0.35 * label), target)
            body, weight = codes != AIR, np.where(codes == LESION, 4.0, 1.0)
        volumes = {
            name: self._volume(name, array)
            for name, array in (("source", source), ("target", target))
            if getattr(self.task, name)
        }
        if self.task.restores:
            kind = self.setup.corrupt["kind"]
            degrade = degradation_of({"kind": kind, **SPOILT[kind]})
            assert degrade is not None
            volumes["source"] = degrade(volumes["target"], number)
        body, weight = (array.reshape(volumes["target"].shape) for array in (body, weight))
        case = Case(f"s{number}", (Path("source"),), (Path("target"),))
        return Loaded(case, volumes.get("source"), volumes["target"], body, body, weight, None), label

    def _volume(self, name: str, array: Array) -> Volume:
        if array.ndim > self.setup.dims and array.shape[-1] == 1:
            array = array[..., 0]
        spatial = (1,) * (3 - self.setup.dims) + self.setup.patch
        return Volume(array.reshape(*spatial, *array.shape[self.setup.dims :]), np.eye(4), self._side(name).unit)

    def _scaled(self, name: str, case: Loaded) -> Tensor:
        """(C, [z,] y, x) as `SynthGANLib.data.feed` makes them."""
        scaling, volume = self.scalings[name], case.source if name == "source" else case.target
        assert volume is not None
        body = None if volume.unit in ("RGB", "label") else case.target_body
        return self._first(scaling.network(scaling.physical(volume, body), body))

    def _first(self, array: Array) -> Tensor:
        """(z, y, x[, c]) -> (c, [z,] y, x)."""
        array = array[np.newaxis] if array.ndim == 3 else array.transpose(3, 0, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(array if self.setup.dims == 3 else array[:, 0]))


@dataclass(frozen=True)
class Run:
    """A recipe's regime before and after its training, in evaluation mode, and what it was trained on."""

    name: str
    subjects: Subjects
    before: Any
    after: Any

    @property
    def held(self) -> dict[str, Tensor]:
        """Subjects that were not trained on, with the keys of unpaired images too."""
        held = self.subjects.held
        return held | {f"{name}_unpaired": held[name] for name in self.subjects.scalings}


_RUNS: dict[str, Run] = {}
"""Recipes of equal settings and images, which several names of the review are, are trained once."""


def trained(name: str, folder: Path, seed: int = 0) -> Run:
    """Train a recipe's tiny size by the training loop: its networks, optimisers, schedule and average."""
    recipe = RECIPES[name]
    steps = STEPS.get(recipe.regime, 100)
    setup = shortened(recipe, steps)
    key = json.dumps([checkpoint.fingerprint(setup), recipe.data, asdict(task_of(recipe)), seed], sort_keys=True)
    if key not in _RUNS:
        subjects = Subjects(recipe, setup, seed)
        train(setup, subjects, folder, seed=seed, device="cpu", save_every=steps, log_every=steps)  # type: ignore[arg-type]
        before, after = (_begun(setup, seed) for _ in range(2))
        content = checkpoint.load(folder, steps)
        after.restore(content, content)
        if after.average is not None:  # what is exported
            for weight, parameter in after.average.live.items():
                parameter.data = after.average.values[weight].clone()
        for regime in (before.regime, after.regime):
            regime.step = steps - 1
            regime.eval()
        _RUNS[key] = Run(name, subjects, before.regime, after.regime)
    return _RUNS[key]


def shortened(recipe: Recipe, steps: int) -> Setup:
    """A recipe's tiny setup for a run of `steps` at raised rates."""
    tiny = recipe.tiny()
    config = tiny.config
    if isinstance(config, WassersteinConfig):  # a hundred critic steps to each of the first are left out
        config = replace(config, schedule=replace(config.schedule, first=0, every=0))
    if recipe.name == "super-resolution":  # regression for as much of the run as at the published size
        config = replace(config, pretrain=round(steps * 250 / 550))
    optimisers = {group: replace(one, rate=raised(one.rate, recipe)) for group, one in tiny.optimisers.items()}
    batch = BATCH.get(recipe.regime, tiny.batch)
    return replace(tiny, config=config, steps=steps, batch=batch, optimisers=optimisers)


def raised(rate: float, recipe: Recipe) -> float:
    """A rate for a short run; half as high for games of energies, which swing at more."""
    faster = FASTER / 2 if recipe.regime == "Autoregressive" else FASTER
    return max(rate, min(faster * rate, HIGHEST))


def _begun(setup: Setup, seed: int) -> State:
    return State.begin(setup, seed=seed, rank=0, device=torch.device("cpu"), amp="none")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As measured: the number of threads decides the order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# how good it is


def dice(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def middle(image: Tensor) -> Tensor:
    """Without the two outermost voxels: networks of valid convolutions were never trained on them."""
    return image[(slice(None), slice(None), *[slice(2, -2)] * (image.ndim - 2))]


def error(image: Tensor, target: Tensor) -> float:
    """Mean absolute error in the middle."""
    return float((middle(image) - middle(target)).abs().mean())


def constant(target: Tensor) -> Tensor:
    """The best constant image: each channel's median over all of `target`."""
    medians = middle(target).transpose(0, 1).flatten(1).median(1).values
    return medians.reshape(1, -1, *[1] * (target.ndim - 2)).expand_as(target)


def distance(images: Tensor, real: Tensor) -> float:
    """Sliced Wasserstein distance of two samples of equal size: 0 if they are the same images in any order."""
    directions = torch.randn(real[0].numel(), 128, generator=dice(7))
    directions /= directions.norm(dim=0)
    sorted_ = [(one.flatten(1) @ directions).sort(0).values for one in (images, real)]
    return float((sorted_[0] - sorted_[1]).abs().mean())


def check_finite(run: Run) -> None:
    """Every network, discriminators included, is still made of numbers, and was changed by the training."""
    before = dict(run.before.named_parameters())
    assert all(bool(torch.isfinite(parameter).all()) for parameter in run.after.parameters())
    for turn in run.after.groups:
        own = {id(parameter) for parameter in run.after.parameters_of(turn)}
        moved = [n for n, p in run.after.named_parameters() if id(p) in own and not torch.equal(p, before[n])]
        assert moved, turn
