"""Verdicts on results, and the reasons for poor ones: what the run itself measured, then what is likely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from SynthGANLib.recipes.base import FittedRecipe, Recipe
from Tools.Zoo.compact import Entry
from Tools.Zoo.tasks import TASKS

BELOW = "below baseline"
FALLING = 0.03
"""A held-out error that falls by more than this share in the last quarter of a run would fall on."""

_SURE = 0.9
_ADVERSARIES = ("PairedAdversarial", "StagedCascade", "Cycle", "Mixed", "Unit", "Retina", "Inpainting")


@dataclass(frozen=True)
class Compared:
    """A result and the MAE of its baselines by name: "identity", "mean" and "U-Net"."""

    result: Mapping[str, Any]
    baselines: Mapping[str, float]

    @property
    def beaten(self) -> list[str]:
        """The baselines with a larger MAE."""
        mine = self.result["metrics"]["MAE"]
        return [name for name, value in self.baselines.items() if mine < value]

    @property
    def missed(self) -> list[str]:
        """The others."""
        return [name for name in self.baselines if name not in self.beaten]

    @property
    def below(self) -> bool:
        """Whether a guess without any method is as good."""
        return bool({"identity", "mean"} & set(self.missed))

    @property
    def verdict(self) -> str:
        """What is beaten, in the words of the table."""
        beaten = ", ".join(self.beaten) or "none"
        if self.below:
            return f"**{BELOW}** ({beaten})"
        return "all three" if len(self.beaten) == len(self.baselines) else beaten


@dataclass(frozen=True)
class AgainstReal:
    """The result of a generator."""

    result: Mapping[str, Any]

    @property
    def below(self) -> bool:
        """Not nearer to real images than independent pixels are."""
        return bool(self.result["metrics"]["frechet"] >= self.result["noise"]["frechet"])

    @property
    def verdict(self) -> str:
        """In the words of the table, with what the numbers show."""
        mine, real = self.result["metrics"], self.result["real"]
        words = [f"**{BELOW}**" if self.below else "nearer than noise"]
        if mine["alike"] > real["alike"] + 0.5 * (1.0 - real["alike"]):
            words.append("little variety (measured)")
        if self.below:
            words += _judge(self.result)
        return "; ".join(words)


def _judge(result: Mapping[str, Any]) -> list[str]:
    """What the discriminator made of real and synthetic images in the last quarter, if it made it too easy."""
    right = result.get("accuracy")
    if not right or min(right.values()) < _SURE:
        return []
    return [f"the discriminator was right on {100 * min(right.values()):.0f} % at the end (measured)"]


def reasons(entry: Entry, recipe: Recipe | FittedRecipe, found: Compared) -> Iterator[str]:
    """Sentences on why an entry misses a baseline."""
    mine = found.result["metrics"]["MAE"]
    yield f"not below {' and '.join(found.missed)} ({_ratio(mine, found)})."
    curve = [value for _, value in found.result.get("curve", [])]
    if len(curve) >= 2:
        change = (curve[-1] - curve[-2]) / curve[-2]
        if change < -FALLING:
            yield f"Measured: its error still fell by {-100 * change:.0f} % in the last quarter of the budget."
        elif change > FALLING:
            yield f"Measured: its error rose by {100 * change:.0f} % in the last quarter; it has not settled."
        else:
            yield "Measured: its error hardly changed in the last quarter of the budget."
    for sentence in _judge(found.result):
        yield f"Measured: {sentence.removesuffix(' (measured)')}."
    if isinstance(recipe, Recipe) and TASKS[entry.task].kind == "unpaired":
        yield "Likely: it learns without pairs, and the U-Net with them."
    elif isinstance(recipe, Recipe) and recipe.regime in _ADVERSARIES and found.missed == ["U-Net"]:
        yield "Likely: the adversary pays for texture, which costs error at every voxel."
    if entry.note:
        yield entry.note


def _ratio(mine: float, found: Compared) -> str:
    return ", ".join(f"{mine / found.baselines[name]:.2f} times {name}" for name in found.missed)
