"""Train the bundled `head-mr-ct` network: any head MR contrast to HU, from label maps of real heads.

    python -m Tools.Models.head_mr_ct.train --labels FOLDER --out runs/head-mr-ct [--resume]

Every step is drawn from (seed, step) alone, so a run that was interrupted and resumed sees what an uninterrupted one
would have seen. Small boxes of coarser voxels come first (many contrasts in little time: how dark things in this image
are to be read), then large boxes on the network's own grid (where the borders lie), under one schedule; a second cycle
goes on with large boxes that hold more of the skull and fewer invented contrasts, for the error that is measured.
A third goes on from the averaged weights as a model folder stores them, with a new optimiser, and shows bright marrow,
bright fat and thick slices more often: whoever has the folder of the second cycle's end can start there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from SynthGANLib.networks.unet import MixtureUNet
from Tools.Models.head_mr_ct.heads import GRID_MM, Head, load_heads
from Tools.Models.head_mr_ct.randomise import CLASS_HU, Contrasts, draw_pair

WINDOW = (-1024.0, 2000.0)
SAVE_EVERY = 50
SMALL = ((64, 64, 64), (96, 64, 64), (64, 96, 64), (64, 64, 96))
LARGE = ((96, 96, 96), (128, 96, 96), (96, 128, 96), (96, 96, 128), (64, 128, 128), (128, 64, 128), (128, 128, 64))
FIRST = Contrasts(0.7, ("T1-IR", "T1-SE", "T1-GRE", "T2", "PD", "FLAIR"))
SECOND = Contrasts(0.85, ("T1", "T1", "T1-IR", "T1-SE", "T1-GRE", "T2", "PD", "FLAIR"))
THIRD = Contrasts(0.8, SECOND.sequences, marrow=2.2, trains=0.5, thick=0.4)


@dataclass(frozen=True)
class Config:
    """What determines the weights: everything here, the boxes' extents above, and the label maps.

    `entropy` and `error` weigh the two losses at the start and from four fifths of the run on, linearly between:
    tissues first, since the absolute error alone stays long at the constant guess; the measured quantity last.
    `emphasis` is the power of the weights that favor bone and enclosed air, on the same line; the second cycle has
    none. The learning rate warms up and falls along half a cosine in each cycle; the second is cut short: from step
    `cool_from` on the rate falls in a straight line to zero. `pull` is how far a box is drawn from a random voxel of
    the body to the middle of the head, `contrasts` what is drawn: the second cycle knows MPRAGE, which shows the fluid
    around the brain, besides the inversion recovery that hides it; the third, which else draws like the second, knows
    that marrow and fat can be far brighter than the tissue table has them.
    """

    held_out: tuple[str, ...] = ("head_05_labels", "head_09_labels", "head_16_labels")
    widths: tuple[int, ...] = (16, 48, 96, 96, 128)
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


def normalise(hu: Tensor) -> Tensor:
    """HU to the window's [-1, 1]."""
    low, high = WINDOW
    return (hu.clamp(low, high) - low) * (2.0 / (high - low)) - 1.0


def build(config: Config) -> MixtureUNet:
    """The network of the card, with seeded initial weights."""
    torch.manual_seed(config.seed)
    values = [float(v) for v in normalise(torch.tensor(CLASS_HU))]
    network = MixtureUNet(values=values, widths=config.widths)
    nn.init.zeros_(network.trunk.head.bias)  # type: ignore[arg-type]
    return network


class Draws(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """What each step sees: mr, target (B,1,z,y,x), classes, weight (B,z,y,x); item = step."""

    def __init__(self, heads: Sequence[Head], config: Config) -> None:
        self.heads, self.config = heads, config

    def __len__(self) -> int:
        return self.config.total

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        config = self.config
        coarse, second = step < config.coarse_steps, step >= config.steps
        pull = config.second_pull if second else config.pull
        contrasts = config.second_contrasts if second else config.contrasts
        if step >= config.restart:
            contrasts = config.third_contrasts
        shapes = SMALL if coarse else LARGE
        spacing = config.coarse_spacing if coarse else (GRID_MM, GRID_MM)
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        shape = shapes[int(torch.randint(len(shapes), (), generator=rng))]
        pairs = []
        for item in range(config.coarse_batch if coarse else config.batch):
            head = self.heads[int(torch.randint(len(self.heads), (), generator=rng))]
            seed = (config.seed * 7919 + step) * 64 + item
            pairs.append(draw_pair(head, shape, seed, pull, spacing, contrasts))
        mr = torch.stack([p.mr for p in pairs]).unsqueeze(1)
        hu = torch.stack([p.hu for p in pairs]).unsqueeze(1)
        return mr, normalise(hu), torch.stack([p.classes for p in pairs]), torch.stack([p.weight for p in pairs])


def emphasised(weight: Tensor, config: Config, step: int) -> Tensor:
    """The voxels' weights in this step: bone and enclosed air count more in the first cycle only."""
    if step >= config.steps:
        return weight.clamp_max(1.0)
    return weight ** between(config.emphasis, config, step)


def losses(network: MixtureUNet, mr: Tensor, target: Tensor, classes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy of the tissues, absolute error in window units), both weighted means."""
    logits, residual = network.parts(mr)
    total = weight.sum().clamp_min(1.0)
    entropy = (F.cross_entropy(logits, classes, reduction="none") * weight).sum() / total
    error = ((network.combine(logits, residual) - target).abs().squeeze(1) * weight).sum() / total
    return entropy, error


def rate_at(config: Config, step: int) -> float:
    """Learning rate of a step: in each cycle a linear warm-up, then half a cosine down to zero.

    From `cool_from` on the rate falls in a straight line to zero instead, within `cool_steps`.
    """
    if step >= config.restart:
        return _arc(config.third_rate, step - config.restart, config.third_steps, config.warm_up)
    if step > config.cool_from:
        left = 1.0 - (step - config.cool_from) / config.cool_steps
        return rate_at(config, config.cool_from) * max(0.0, left)
    if step >= config.steps:
        return _arc(config.second_rate, step - config.steps, config.second_steps, config.warm_up)
    return _arc(config.rate, step, config.steps, config.warm_up)


def _arc(rate: float, step: int, length: int, warm_up: int) -> float:
    """The rate at `step` of a cycle of `length` steps that reaches `rate`."""
    if step < warm_up:
        return rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, length - warm_up)
    return rate * 0.5 * (1.0 + math.cos(math.pi * done))


def between(ends: tuple[float, float], config: Config, step: int) -> float:
    """The first value at the start, the second from four fifths of the run on, linear between."""
    done = min(1.0, step / max(1.0, 0.8 * config.steps))
    return ends[0] + (ends[1] - ends[0]) * done


def adam(network: nn.Module, config: Config) -> torch.optim.AdamW:
    """An optimiser that has seen nothing yet."""
    return torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=1e-4)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def train(
    labels: Path, out: Path, config: Config, *, resume: bool = False, workers: int = 1, until: int | None = None
) -> MixtureUNet:
    """Run the training; returns the averaged network. Checkpoints and a JSONL log go to `out`.

    It ends before step `until`, where that is given, and can be resumed. `workers` processes draw pairs ahead of the
    steps; their number does not change what is drawn.
    """
    out.mkdir(parents=True, exist_ok=True)
    heads, _ = load_heads(labels, config.held_out)
    network = build(config)
    average = build(config)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # quicker on the CPU, bits aside
    optimiser = adam(network, config)
    first, seconds = 0, 0.0
    if resume and (out / "state.pt").exists():
        state = torch.load(out / "state.pt", weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first, seconds = int(state["step"]), float(state["seconds"])
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))
    log = (out / "log.jsonl").open("a", encoding="utf-8")
    began, sums, count = time.monotonic(), [0.0, 0.0], 0
    last = config.total if until is None else min(until, config.total)
    feed = DataLoader(Draws(heads, config), batch_size=None, sampler=range(first, last), num_workers=workers)
    with log:
        for step, (mr, target, classes, weight) in enumerate(feed, first):
            if step == config.restart:
                stored = {name: value.half().float() for name, value in average.state_dict().items()}
                network.load_state_dict(stored)
                average.load_state_dict(stored)
                optimiser = adam(network, config)
            for group in optimiser.param_groups:
                group["lr"] = rate_at(config, step)
            entropy, error = losses(network, mr, target, classes, emphasised(weight, config, step))
            loss = between(config.entropy, config, step) * entropy + between(config.error, config, step) * error
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss is not finite at step {step}; lower the learning rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            with torch.no_grad():
                keep = min(config.ema, (step + 1) / (step + 10))
                for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                    mean.lerp_(value, 1.0 - keep)
            sums[0] += float(entropy.detach())
            sums[1] += float(error.detach()) * (WINDOW[1] - WINDOW[0]) / 2.0
            count += 1
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == last:
                spent = seconds + time.monotonic() - began
                row = {
                    "step": step + 1,
                    "entropy": sums[0] / count,
                    "hu": sums[1] / count,
                    "seconds": round(spent),
                }
                log.write(json.dumps(row) + "\n")
                log.flush()
                print(row, flush=True)
                sums, count = [0.0, 0.0], 0
                save_state(
                    out / "state.pt",
                    {
                        "network": network.state_dict(),
                        "average": average.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "step": step + 1,
                        "seconds": spent,
                    },
                )
    return average


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="folder of whole-head label maps (*.nii.gz)")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pairs ahead of the steps")
    parser.add_argument("--until", type=int, help="end before this step; --resume goes on from there")
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    given = parser.parse_args(arguments)
    config = Config(seed=given.seed)
    train(given.labels, given.out, config, resume=given.resume, workers=given.workers, until=given.until)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
