"""MR signal equations and the sequences of the phantom.

Spin echo, inversion recovery and spoiled gradient echo after Bernstein, King and Zhou, "Handbook of MRI Pulse
Sequences" (2004), chapters 14 and 16; the inversion-prepared gradient echo train (MPRAGE) after Deichmann et al.,
NeuroImage 12:112 (2000). All times in ms, flip angles in degrees; signal relative to water's full magnetisation. The
functions take anything with arithmetic (numpy arrays or torch tensors through `exp`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sequence:
    """kind "se" (spin echo), "ir" (inversion recovery, magnitude), "gre" (spoiled gradient echo) or "mprage".

    `tr` of an MPRAGE is from one inversion to the next; its train of `lines` echoes, `echo_spacing` ms apart, has its
    middle `ti` after the inversion.
    """

    kind: str
    tr: float
    te: float
    ti: float = 0.0
    flip: float = 90.0
    lines: int = 160
    echo_spacing: float = 7.0


# ranges a clinical protocol lies in: (low, high) for TR, TE, TI, flip; the named sequence is their middle
RANGES: Mapping[str, tuple[str, tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]]
RANGES = {
    "T1": ("mprage", (1900.0, 2500.0), (2.0, 4.5), (850.0, 1000.0), (7.0, 12.0)),
    "T1-SE": ("se", (420.0, 700.0), (8.0, 18.0), (0.0, 0.0), (90.0, 90.0)),
    "T1-GRE": ("gre", (8.0, 30.0), (2.0, 5.0), (0.0, 0.0), (15.0, 30.0)),
    "T2": ("se", (3000.0, 6000.0), (75.0, 120.0), (0.0, 0.0), (90.0, 90.0)),
    "PD": ("se", (2500.0, 5000.0), (10.0, 30.0), (0.0, 0.0), (90.0, 90.0)),
    "FLAIR": ("ir", (8000.0, 11000.0), (85.0, 140.0), (2150.0, 2600.0), (90.0, 90.0)),
    "T1-IR": ("ir", (1900.0, 2500.0), (2.0, 4.5), (850.0, 1000.0), (8.0, 12.0)),  # fluid is all but nulled
}


def named(contrast: str) -> Sequence:
    """The sequence called `contrast`: the middle of its ranges. KeyError when there is none of that name."""
    kind, *ranges = RANGES[contrast]
    tr, te, ti, flip = (0.5 * (low + high) for low, high in ranges)
    return Sequence(kind, tr, te, ti, flip)


def drawn(contrast: str, uniform: Callable[[float, float], float]) -> Sequence:
    """A sequence within the ranges of `contrast`; `uniform(low, high)` draws a number."""
    kind, *ranges = RANGES[contrast]
    tr, te, ti, flip = (uniform(low, high) for low, high in ranges)
    return Sequence(kind, tr, te, ti, flip)


def signal(sequence: Sequence, t1: Any, t2: Any, pd: Any, exp: Callable[[Any], Any] = np.exp) -> Any:
    """Magnitude signal of tissues with T1, T2 (ms) and proton density."""
    decay = exp(-sequence.te / t2)
    if sequence.kind == "se":
        return pd * (1.0 - exp(-sequence.tr / t1)) * decay
    if sequence.kind == "ir":
        return abs(pd * (1.0 - 2.0 * exp(-sequence.ti / t1) + exp(-sequence.tr / t1))) * decay
    angle = math.radians(sequence.flip)
    if sequence.kind == "mprage":
        return pd * abs(_train_middle(sequence, t1, angle, exp)) * math.sin(angle) * decay
    e1 = exp(-sequence.tr / t1)
    return pd * math.sin(angle) * (1.0 - e1) / (1.0 - math.cos(angle) * e1) * decay


def _train_middle(sequence: Sequence, t1: Any, angle: float, exp: Callable[[Any], Any]) -> Any:
    """Longitudinal magnetisation in the middle of an MPRAGE's train, in the steady state over many inversions.

    During the train the pulses shorten the recovery: it runs to `level` with the rate `rate`.
    """
    train = sequence.lines * sequence.echo_spacing
    before, after = sequence.ti - train / 2, sequence.tr - sequence.ti - train / 2
    if before < 0 or after < 0:
        raise ValueError(f"a train of {train:g} ms about TI {sequence.ti:g} does not fit into TR {sequence.tr:g}")
    rate = 1.0 / t1 - math.log(math.cos(angle)) / sequence.echo_spacing
    level = 1.0 / (t1 * rate)
    # m -> a + b m through each part: inversion and delay, half a train twice, recovery to the next inversion
    delay, half, rest = exp(-before / t1), exp(-train / 2 * rate), exp(-after / t1)
    end_a = level * (1 - half * half) + half * half * (1 - delay)
    end_b = -half * half * delay
    start = (1 - rest + rest * end_a) / (1 - rest * end_b)  # just before an inversion
    return level * (1 - half) + half * (1 - delay - delay * start)
