"""The formulas of the loop that the weights of head-mr-ct 0.4.0 were trained by: rates, draws and losses of a step.

Steps are those of the whole training, counted over its cycles.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from Tools.Models.head_mr_ct.feed import normalise
from Tools.Models.head_mr_ct.randomise import draw_pair


def former_arc(rate, step, length, warm_up):
    if step < warm_up:
        return rate * (step + 1) / warm_up
    return rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, length - warm_up)))


def former_rate(config, step):
    """The learning rate."""
    if step >= config.restart:
        return former_arc(config.third_rate, step - config.restart, config.third_steps, config.warm_up)
    if step > config.cool_from:
        return former_rate(config, config.cool_from) * max(0.0, 1.0 - (step - config.cool_from) / config.cool_steps)
    if step >= config.steps:
        return former_arc(config.second_rate, step - config.steps, config.second_steps, config.warm_up)
    return former_arc(config.rate, step, config.steps, config.warm_up)


def former_draw(heads, config, step):
    """mr, target (B,1,z,y,x), classes, weight (B,z,y,x)."""
    coarse, second = step < config.coarse_steps, step >= config.steps
    pull = config.second_pull if second else config.pull
    contrasts = config.second_contrasts if second else config.contrasts
    if step >= config.restart:
        contrasts = config.third_contrasts
    shapes = config.small if coarse else config.large
    rng = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    shape = shapes[int(torch.randint(len(shapes), (), generator=rng))]
    pairs = []
    for item in range(2 if coarse else 1):
        head = heads[int(torch.randint(len(heads), (), generator=rng))]
        seed = (config.seed * 7919 + step) * 64 + item
        pairs.append(draw_pair(head, shape, seed, pull, (1.0, 1.6) if coarse else (1.0, 1.0), contrasts))
    mr, hu = (torch.stack(images).unsqueeze(1) for images in ([p.mr for p in pairs], [p.hu for p in pairs]))
    return mr, normalise(hu), torch.stack([p.classes for p in pairs]), torch.stack([p.weight for p in pairs])


def former_losses(network, config, step, mr, target, classes, weight):
    """Cross-entropy and absolute error with their weights."""
    done = min(1.0, step / max(1.0, 0.8 * config.steps))
    entropy_weight, error_weight, power = (
        ends[0] + (ends[1] - ends[0]) * done for ends in (config.entropy, config.error, config.emphasis)
    )
    weight = weight.clamp_max(1.0) if step >= config.steps else weight**power
    logits, residual = network.parts(mr)
    total = weight.sum().clamp_min(1.0)
    entropy = (F.cross_entropy(logits, classes, reduction="none") * weight).sum() / total
    error = ((network.combine(logits, residual) - target).abs().squeeze(1) * weight).sum() / total
    return entropy_weight * entropy, error_weight * error
