"""Places in the patient that are easy to get wrong, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from SynthGANLib.errors import InputError


def oblique_affine(
    spacing: tuple[float, float, float] = (0.7, 1.3, 3.1),
    degrees: tuple[float, float, float] = (12.0, -17.0, 24.0),
    *,
    mirrored: bool = False,
    origin: tuple[float, float, float] = (-31.5, 17.25, 102.125),
) -> np.ndarray:
    """An affine turned about x, y and z; ``mirrored`` makes its axes left-handed."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        turned = turn @ turned
    affine = np.eye(4)
    affine[:3, :3] = turned * np.asarray(spacing)
    if mirrored:
        affine[:3, 0] *= -1
    affine[:3, 3] = origin
    return affine


def refusal(call: Callable[..., Any], *arguments: Any, **choices: Any) -> InputError:
    """The InputError that a call must raise; its message is one sentence."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **choices)
    assert str(caught.value).endswith(".")
    return caught.value
