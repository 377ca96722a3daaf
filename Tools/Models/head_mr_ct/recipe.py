"""The training of `head-mr-ct` as three runs of the library's loop, one after the other.

Small boxes of coarser voxels come first (many contrasts in little time: how dark things in this image are to be read),
then large boxes on the network's own grid (where the borders lie), under one schedule; a second cycle goes on with
large boxes that hold more of the skull and fewer invented contrasts, for the error that is measured. A third goes on
from the averaged weights as a model folder stores them and shows bright marrow, bright fat and thick slices more often:
whoever has the folder of the second cycle's end can start there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from SynthGANLib.networks.unet import MixtureUNet
from SynthGANLib.recipes.base import CutCosine, Net, Optimiser, Setup
from Tools.Models.head_mr_ct.feed import LARGE, NORMALISERS, SMALL, Boxes, normalise
from Tools.Models.head_mr_ct.heads import GRID_MM
from Tools.Models.head_mr_ct.randomise import CLASS_HU, Contrasts
from Tools.Models.head_mr_ct.regime import TissueConfig, TissueRegime

FIRST = Contrasts(0.7, ("T1-IR", "T1-SE", "T1-GRE", "T2", "PD", "FLAIR"))
SECOND = Contrasts(0.85, ("T1", "T1", "T1-IR", "T1-SE", "T1-GRE", "T2", "PD", "FLAIR"))
THIRD = Contrasts(0.8, SECOND.sequences, marrow=2.2, trains=0.5, thick=0.4)
Shapes = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Config:
    """What determines the weights, with the label maps.

    `entropy` and `error` weigh the two losses at the start and from four fifths of the first cycle on, linearly
    between: tissues first, since the absolute error alone stays long at the constant guess; the measured quantity last.
    `emphasis` is the power of the weights that favour bone and enclosed air, on the same line; the later cycles have
    none. The learning rate warms up and falls along half a cosine in each cycle; the second is cut short: from step
    `cool_from` of the whole training on the rate falls in a straight line to zero. `pull` is how far a box is drawn
    from a random voxel of the body to the middle of the head, `contrasts` what is drawn: the second cycle knows MPRAGE,
    which shows the fluid around the brain, besides the inversion recovery that hides it; the third, which else draws
    like the second, knows that marrow and fat can be far brighter than the tissue table has them.
    """

    held_out: tuple[str, ...] = ("head_05_labels", "head_09_labels", "head_16_labels")
    widths: tuple[int, ...] = (16, 48, 96, 96, 128)
    small: Shapes = SMALL
    large: Shapes = LARGE
    coarse_steps: int = 1800
    coarse_spacing: tuple[float, float] = (1.0, 1.6)
    coarse_batch: int = 2
    steps: int = 4300
    batch: int = 1
    rate: float = 1.5e-3
    entropy: tuple[float, float] = (1.0, 0.3)
    error: tuple[float, float] = (2.0, 6.0)
    emphasis: tuple[float, float] = (1.0, 0.4)
    pull: tuple[float, float] = (0.2, 0.9)
    contrasts: Contrasts = FIRST
    second_steps: int = 6000
    second_rate: float = 7e-4
    second_pull: tuple[float, float] = (0.15, 0.6)
    second_contrasts: Contrasts = SECOND
    cool_from: int = 7900
    cool_steps: int = 600
    third_steps: int = 3000
    third_rate: float = 5e-4
    third_contrasts: Contrasts = THIRD
    warm_up: int = 100
    ema: float = 0.998
    seed: int = 2027

    @property
    def restart(self) -> int:
        """The first step of the third cycle: where the second, cut short by the cooling, has ended."""
        return min(self.steps + self.second_steps, self.cool_from + self.cool_steps)

    @property
    def total(self) -> int:
        """Steps of all cycles."""
        return self.restart + self.third_steps


@dataclass(frozen=True)
class Cycle:
    """One run: its folder's name, its first step in the whole training, its setup, and what it draws from which step.

    `half` says that it begins from weights rounded to float16.
    """

    name: str
    offset: int
    setup: Setup
    boxes: Mapping[int, Boxes]
    half: bool = False

    def begun_from(self, weights: Mapping[str, Tensor]) -> Setup:
        """The setup of a run that begins from the averaged weights of another."""
        stored = {name: value.half().float() if self.half else value for name, value in weights.items()}
        return replace(self.setup, regime=functools.partial(TissueRegime, begin=stored))


def cycles(config: Config) -> tuple[Cycle, Cycle, Cycle]:
    """The three runs, in order."""
    grid = (GRID_MM, GRID_MM)
    coarse = Boxes(config.small, config.coarse_spacing, config.coarse_batch, config.pull, config.contrasts)
    fine = Boxes(config.large, grid, config.batch, config.pull, config.contrasts)
    second = Boxes(config.large, grid, config.batch, config.second_pull, config.second_contrasts)
    third = Boxes(config.large, grid, config.batch, config.second_pull, config.third_contrasts)
    early = TissueConfig(config.entropy, config.error, config.emphasis, 0.8 * config.steps)
    late = TissueConfig((config.entropy[1],) * 2, (config.error[1],) * 2, None, 0.0)
    cut: str | CutCosine = "cosine"
    if config.cool_from < config.steps + config.second_steps:
        cut = CutCosine(config.second_steps, config.cool_from - config.steps, config.cool_steps)
    first_boxes = {0: coarse, config.coarse_steps: fine} if config.coarse_steps else {0: fine}
    length = config.restart - config.steps
    return (
        Cycle("cycle1", 0, _setup(config, early, config.steps, config.rate, "cosine"), first_boxes),
        Cycle("cycle2", config.steps, _setup(config, late, length, config.second_rate, cut), {0: second}),
        Cycle(
            "cycle3",
            config.restart,
            _setup(config, late, config.third_steps, config.third_rate, "cosine"),
            {0: third},
            half=True,
        ),
    )


def _setup(config: Config, regime: TissueConfig, steps: int, rate: float, schedule: str | CutCosine) -> Setup:
    return Setup(
        networks={"network": network_of(config)},
        regime=TissueRegime,
        config=regime,
        dims=3,
        patch=config.large[0],
        batch=config.batch,
        steps=steps,
        optimisers={"*": Optimiser("adamw", rate, (0.9, 0.999), 1e-4)},
        schedule=schedule,
        initialise="default",
        ema=config.ema,
        clip=1.0,
        warm_up=config.warm_up,
        normalisers=NORMALISERS,
    )


def network_of(config: Config) -> Net:
    """The network of the card, by name and arguments."""
    values = [float(v) for v in normalise(torch.tensor(CLASS_HU))]
    return Net("MixtureUNet", {"dims": 3, "values": values, "widths": list(config.widths)})


def build(config: Config) -> MixtureUNet:
    """The network of the card; its weights are to be loaded."""
    network = network_of(config).build()
    assert isinstance(network, MixtureUNet)
    return network
