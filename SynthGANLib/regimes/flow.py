"""Maximum likelihood of pairs: DUAL-GLOW (Sun et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Generator, Tensor, nn

from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms


@dataclass(frozen=True)
class FlowConfig:
    """source: weight of the source's own bits per voxel; those of the target, given the source, have weight 1."""

    source: float = 0.001


class Flow(Regime):
    """min of the bits per voxel of the target given the source, and a little of those of the source.

    Networks: "generator", whose `log_likelihood(source, target, rng)` gives both, (B,) each, with the images
    dequantised by `rng`; its forward is the target of the mean code.
    """

    groups: Mapping[str, tuple[str, ...]] = {"generator": ("generator",)}
    needs: tuple[str, ...] = ("source", "target")

    def __init__(self, networks: Mapping[str, nn.Module], config: FlowConfig) -> None:
        super().__init__()
        self.generator = networks["generator"]
        self.config = config

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        flow = cast(Any, self.generator)
        target, source = flow.log_likelihood(batch["source"], batch["target"], rng)
        return {"target_bits": target, "source_bits": source}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        yield {
            "target_bits": outputs["target_bits"].float().mean(),
            "source_bits": self.config.source * outputs["source_bits"].float().mean(),
        }

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return cast(Tensor, self.generator(batch["source"]))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """The least log-determinant of an invertible convolution; far below 0 it is about to become singular."""
        parts = [cast(Any, part) for part in self.generator.modules() if hasattr(part, "log_determinants")]
        return {"least_logdet": min(float(part.log_determinants().min()) for part in parts)} if parts else {}
