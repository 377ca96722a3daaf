"""Adversarial losses on logits, a single tensor of any shape or one for each scale.

With D the discriminator's raw output (no sigmoid), r on real and f on generated images:

=========  ==========================================  ======================
mode       discriminator minimizes                     generator minimizes
=========  ==========================================  ======================
vanilla    E[-log s(r)] + E[-log(1 - s(f))]            E[-log s(f)]
lsgan      1/2 (E[(r - 1)^2] + E[f^2])                 E[(f - 1)^2]
lsgan_abs  1/2 (E[(r - 1)^2] + E[f^2])                 E[abs(f - 1)]
wgan       E[f] - E[r]                                 -E[f]
hinge      E[max(0, 1 - r)] + E[max(0, 1 + f)]         -E[f]
=========  ==========================================  ======================

s is the logistic function. Sources: Goodfellow et al. 2014 (non-saturating generator); Mao et al. 2017 and, for where
the halves stand, Zhu et al. 2017; Pan et al. 2018 for `lsgan_abs`; Arjovsky et al. 2017; Lim and Ye 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from SynthGANLib.losses.precision import in_float32

Logits: TypeAlias = Tensor | Sequence[Tensor]


def _vanilla(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(real, torch.full_like(real, label)) + F.softplus(fake).mean()


def _lsgan(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return 0.5 * ((real - label).square().mean() + fake.square().mean())


def _wgan(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return fake.mean() - real.mean()


def _hinge(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


_DISCRIMINATOR: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "vanilla": _vanilla,
    "lsgan": _lsgan,
    "lsgan_abs": _lsgan,
    "wgan": _wgan,
    "hinge": _hinge,
}
_GENERATOR: Mapping[str, Callable[[Tensor], Tensor]] = {
    "vanilla": lambda fake: F.softplus(-fake).mean(),
    "lsgan": lambda fake: (fake - 1).square().mean(),
    "lsgan_abs": lambda fake: (fake - 1).abs().mean(),
    "wgan": lambda fake: -fake.mean(),
    "hinge": lambda fake: -fake.mean(),
}
MODES = tuple(_DISCRIMINATOR)
LABELLED = ("vanilla", "lsgan", "lsgan_abs")
"""The modes with a target for real images, which `real_label` can soften."""


def _checked(mode: str) -> str:
    if mode not in _DISCRIMINATOR:
        raise ValueError(f"there is no adversarial mode '{mode}' (known: {', '.join(MODES)})")
    return mode


def _scales(logits: Logits) -> list[Tensor]:
    """The logits of every scale; ValueError for an empty list."""
    found = [logits] if isinstance(logits, Tensor) else list(logits)
    if not found:
        raise ValueError("a discriminator that returns no logits gives no loss")
    return found


@in_float32
def discriminator_loss(real_logits: Logits, fake_logits: Logits, mode: str, real_label: float = 1.0) -> Tensor:
    """What the discriminator minimizes, a scalar; the mean over the scales of a multi-scale discriminator.

    `real_label` below 1 softens the target of real images (one-sided). ValueError for an unknown mode, for a soft
    label where the mode has none, and for different numbers of scales.
    """
    loss = _DISCRIMINATOR[_checked(mode)]
    if real_label != 1.0 and mode not in LABELLED:
        raise ValueError(f"the mode '{mode}' has no label to soften to {real_label}")
    reals, fakes = _scales(real_logits), _scales(fake_logits)
    if len(reals) != len(fakes):
        raise ValueError(f"{len(reals)} scales of logits for real images, {len(fakes)} for generated ones")
    return torch.stack([loss(r, f, real_label) for r, f in zip(reals, fakes, strict=True)]).mean()


@in_float32
def generator_loss(fake_logits: Logits, mode: str) -> Tensor:
    """What the generator minimizes, a scalar; the mean over the scales. ValueError for an unknown mode."""
    loss = _GENERATOR[_checked(mode)]
    return torch.stack([loss(fake) for fake in _scales(fake_logits)]).mean()
