"""Which stage of a cascade is trained when, and by which weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from SynthGANLib.regimes.adversary import AdversarialWeights


@dataclass(frozen=True)
class CascadeConfig:
    """Attributes:

    stages: the weights of each stage's training; one without `adversarial` and `feature` is plain regression.
    boundaries: fractions of the run at which the second stage begins, the third, and so on.
    steps: of the whole run.
    folds: parts of the subjects for estimates out of fold, 2 or more; 0 for estimates by the stages themselves. Each
        step of all but the last stage trains as many networks.
    """

    stages: tuple[AdversarialWeights, ...]
    boundaries: tuple[float, ...]
    steps: int
    folds: int = 0

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"folds are 2 or more, or 0 for none, not {self.folds}")
        ends = (0.0, *self.boundaries, 1.0)
        if len(self.boundaries) != len(self.stages) - 1 or any(a >= b for a, b in pairwise(ends)):
            raise ValueError(
                f"{len(self.stages)} stages are parted by {len(self.stages) - 1} rising fractions between 0 and 1, "
                f"not by {list(self.boundaries)}"
            )
        if any(stage.style or stage.content for stage in self.stages):
            raise ValueError("the stages of a cascade are trained without style and content terms")

    def stage(self, step: int) -> int:
        """The stage, from 0, that is trained in `step`."""
        return sum(step >= round(fraction * self.steps) for fraction in self.boundaries)
