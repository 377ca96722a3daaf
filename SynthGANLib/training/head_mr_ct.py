"""Train the bundled `head-mr-ct` network: any head MR contrast to HU, from label maps of real heads.

    python -m SynthGANLib.training.head_mr_ct --labels FOLDER --out runs/head-mr-ct [--resume]

Every step is drawn from (seed, step) alone, so a run that was interrupted and resumed sees what an uninterrupted one
would have seen. The learning rate warms up, stays, and falls linearly to zero over the last fifth of the first
`steps`; a second cycle of `second` steps starts lower and falls all the way.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.unet import MixtureUNet
from SynthGANLib.training.heads import Head, load_heads
from SynthGANLib.training.randomise import CLASS_HU, draw_pair

WINDOW = (-1024.0, 2000.0)
SHAPES = ((80, 80, 80), (64, 96, 80), (96, 80, 64), (80, 64, 96), (64, 80, 96), (112, 64, 64), (64, 64, 112))


@dataclass(frozen=True)
class Config:
    """What determines the weights: everything here and the label maps.

    `entropy` and `error` weigh the two losses before and during the fall of the learning rate: tissues first, since
    the absolute error alone stays long at the constant guess; the measured quantity last. `emphasis` is the power of
    the weights that favour bone and enclosed air. After `wander_steps` the boxes stay near the middle of the head:
    instance norms see mostly tissue then, as they do in a tile of a whole head.
    """

    held_out: tuple[str, ...] = ("head_05_labels", "head_09_labels", "head_16_labels")
    widths: tuple[int, ...] = (16, 48, 96, 128)
    steps: int = 2000
    second: int = 1000
    second_rate: float = 8e-4
    batch: int = 1
    rate: float = 1.5e-3
    entropy: tuple[float, float] = (1.0, 0.3)
    error: tuple[float, float] = (2.0, 6.0)
    emphasis: tuple[float, float] = (1.0, 0.4)
    wander_steps: int = 650
    warm_up: int = 100
    ema: float = 0.995
    seed: int = 2026


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


def batch_of(heads: Sequence[Head], config: Config, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """mr, target (B,1,z,y,x), classes, weight (B,z,y,x) of one step."""
    draw = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    shape = SHAPES[int(torch.randint(len(SHAPES), (), generator=draw))]
    pairs = []
    for item in range(config.batch):
        head = heads[int(torch.randint(len(heads), (), generator=draw))]
        pull = (0.0, 0.5) if step < config.wander_steps else (0.4, 0.95)
        pairs.append(draw_pair(head, shape, (config.seed * 7919 + step) * 64 + item, pull))
    mr = torch.stack([p.mr for p in pairs]).unsqueeze(1)
    hu = torch.stack([p.hu for p in pairs]).unsqueeze(1)
    return mr, normalise(hu), torch.stack([p.classes for p in pairs]), torch.stack([p.weight for p in pairs])


def losses(network: MixtureUNet, mr: Tensor, target: Tensor, classes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy of the tissues, absolute error in window units), both weighted means."""
    logits, residual = network.parts(mr)
    total = weight.sum().clamp_min(1.0)
    entropy = (F.cross_entropy(logits, classes, reduction="none") * weight).sum() / total
    error = ((network.combine(logits, residual) - target).abs().squeeze(1) * weight).sum() / total
    return entropy, error


def rate_at(config: Config, step: int) -> float:
    """Learning rate of a step: warm-up, plateau, linear fall over the last fifth; then the second cycle's fall."""
    if step >= config.steps:
        return config.second_rate * (config.steps + config.second - step) / config.second
    return config.rate * min(1.0, (step + 1) / config.warm_up, (config.steps - step) / falling(config))


def falling(config: Config) -> int:
    """How many of the first cycle's last steps the learning rate falls over."""
    return max(1, config.steps // 5)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def train(labels: Path, out: Path, config: Config, *, resume: bool = False) -> MixtureUNet:
    """Run the training; returns the averaged network. Checkpoints and a JSONL log go to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    heads, _ = load_heads(labels, config.held_out)
    network = build(config)
    average = build(config)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=1e-4)
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
    total = config.steps + config.second
    for step in range(first, total):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(config, step)
        phase = int(config.steps - step <= falling(config))
        mr, target, classes, weight = batch_of(heads, config, step)
        entropy, error = losses(network, mr, target, classes, weight ** config.emphasis[phase])
        loss = config.entropy[phase] * entropy + config.error[phase] * error
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
        if (step + 1) % 50 == 0 or step + 1 == total:
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
    log.close()
    return average


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="folder of whole-head label maps (*.nii.gz)")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--steps", type=int, default=Config.steps, help="of the first cycle")
    parser.add_argument("--second", type=int, default=Config.second, help="steps of the second cycle")
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    given = parser.parse_args(arguments)
    train(given.labels, given.out, Config(steps=given.steps, second=given.second, seed=given.seed), resume=given.resume)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
