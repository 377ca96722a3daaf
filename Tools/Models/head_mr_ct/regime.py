"""How `head-mr-ct` learns: tissues first, by their cross-entropy, then HU, by the absolute error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Generator, Tensor, nn
from torch.nn import functional as F

from SynthGANLib.networks.unet import MixtureUNet
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms
from Tools.Models.head_mr_ct.feed import WINDOW


@dataclass(frozen=True)
class TissueConfig:
    """Weights of the losses, each at the first step and from step `over` on, on a line between.

    Attributes:
        entropy, error: weights of the tissues' cross-entropy and of the absolute error.
        emphasis: power of the voxels' weights, by which bone and enclosed air count more; None: no voxel counts more
            than soft tissue does.
        over: steps that the lines take.
    """

    entropy: tuple[float, float]
    error: tuple[float, float]
    emphasis: tuple[float, float] | None
    over: float


class TissueRegime(Regime):
    """A `MixtureUNet` against tissues and HU: the sum of cross-entropy and absolute error, both weighted means.

    Networks: "network". Batch: "source", "target", "weight" (B, 1, z, y, x) and "classes" (B, z, y, x) int64.

    Args:
        begin: the network's state to begin from; without it the head's bias is 0, so that no tissue is preferred.
    """

    groups: Mapping[str, tuple[str, ...]] = {"network": ("network",)}
    needs: tuple[str, ...] = ("source", "target", "classes", "weight")

    def __init__(
        self, networks: Mapping[str, nn.Module], config: TissueConfig, begin: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.network = cast(MixtureUNet, networks["network"])
        self.config = config
        if begin is None:
            nn.init.zeros_(cast(Tensor, self.network.trunk.head.bias))
        else:
            self.network.load_state_dict(dict(begin))

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        logits, residual = self.network.parts(batch["source"])
        return {"logits": logits, "residual": residual}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        config, logits = self.config, outputs["logits"]
        weight = emphasised(batch["weight"].squeeze(1), config, self.step)
        total = weight.sum().clamp_min(1.0)
        entropy = (F.cross_entropy(logits, batch["classes"], reduction="none") * weight).sum() / total
        hu = self.network.combine(logits, outputs["residual"])
        error = ((hu - batch["target"]).abs().squeeze(1) * weight).sum() / total
        outputs |= {"entropy": entropy.detach(), "error": error.detach()}
        yield {
            "entropy": between(config.entropy, config, self.step) * entropy,
            "error": between(config.error, config, self.step) * error,
        }

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return cast(Tensor, self.network(batch["source"]))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.network}

    def watch(self, outputs: Outputs) -> dict[str, float]:
        """Both losses of the step without their weights; the error in HU."""
        return {"entropy": float(outputs["entropy"]), "hu": float(outputs["error"]) * (WINDOW[1] - WINDOW[0]) / 2.0}


def between(ends: tuple[float, float], config: TissueConfig, step: int) -> float:
    """The first value at the start, the second from step `over` on, linear between."""
    done = min(1.0, step / max(1.0, config.over))
    return ends[0] + (ends[1] - ends[0]) * done


def emphasised(weight: Tensor, config: TissueConfig, step: int) -> Tensor:
    """The voxels' weights in this step."""
    if config.emphasis is None:
        return weight.clamp_max(1.0)
    return cast(Tensor, weight ** between(config.emphasis, config, step))
