"""What a discriminator says: its logits, and how often it is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from SynthGANLib.losses.adversarial import Logits

_BETWEEN: Mapping[str, float] = {"vanilla": 0.0, "hinge": 0.0, "lsgan": 0.5, "lsgan_abs": 0.5}
"""The logit half way between real and generated, for the modes that have one."""


def logits_of(output: Any) -> Tensor:
    """A discriminator's logits; from a patch discriminator's list of features they are the last."""
    return cast(Tensor, output if isinstance(output, Tensor) else output[-1])


class Accuracy:
    """Shares of the logits on the right side, of each discriminator's last step; nothing that training depends on."""

    def __init__(self) -> None:
        self._shares: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def update(self, real: Logits, fake: Logits, mode: str, which: str = "") -> None:
        """Take in the logits (of all scales, if a list) of the discriminator `which`."""
        if mode in _BETWEEN:
            middle = _BETWEEN[mode]
            self._shares[which] = (_share(real, lambda x: x > middle), _share(fake, lambda x: x < middle))

    def numbers(self) -> dict[str, float]:
        """The "real_accuracy" and "fake_accuracy", mean over the discriminators; nothing before the first update."""
        if not self._shares:
            return {}
        real, fake = zip(*self._shares.values(), strict=True)
        return {"real_accuracy": float(torch.stack(real).mean()), "fake_accuracy": float(torch.stack(fake).mean())}


def _share(logits: Logits, right: Callable[[Tensor], Tensor]) -> Tensor:
    scales = [logits] if isinstance(logits, Tensor) else logits
    return torch.cat([right(scale).float().flatten() for scale in scales]).mean()
