"""Paired regression: the generator's output is compared with the target voxel by voxel.

CNN, FCNN, U-Net, 3D U-Net and the first stages of cascades; with tentative images (DECNN, Xiang et al. 2018) or
frequency bands (FREA-UNet, Emami et al. 2020) besides the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from SynthGANLib.errors import InputError
from SynthGANLib.losses.pixel import l1, l2, suv_weights, weighted_l1, weighted_l2
from SynthGANLib.losses.precision import in_float32
from SynthGANLib.losses.structure import gradient_difference, ssim_loss
from SynthGANLib.regimes.base import Batch, Outputs, Regime, Terms


@dataclass(frozen=True)
class PixelWeights:
    """Weights of the voxel-wise terms (0 leaves one out) and which voxels count.

    Attributes:
        l1, l2: mean absolute and mean squared error. gdl: gradient difference. ssim: structural dissimilarity.
        voxels: for `l1` and `l2`: "all"; "mask", those in the batch's "mask"; "weight", by the batch's "weight";
            "bright", by the target, where all values from `bright` on count as much as all darker ones together
            (one of them at most `cap` times as much).
        bright: in the target's normalised units; SUV 2.5 where [0, 20] became [-1, 1] is -0.75.
        data_range: width of the target's range in normalised units, for `ssim`.
    """

    l1: float = 0.0
    l2: float = 0.0
    gdl: float = 0.0
    ssim: float = 0.0
    voxels: Literal["all", "mask", "weight", "bright"] = "all"
    bright: float = -0.75
    cap: float = 100.0
    data_range: float = 2.0


@dataclass(frozen=True)
class SupervisedConfig(PixelWeights):
    """Mean absolute error by default."""

    l1: float = 1.0


@dataclass(frozen=True)
class DeepConfig(PixelWeights):
    """Mean squared error on the output, and `tentative` times the same on every tentative image."""

    l2: float = 1.0
    tentative: float = 1.0


@dataclass(frozen=True)
class BandConfig(PixelWeights):
    """Mean absolute error on the output, and `band` times that on each frequency band.

    The low band of the target is the target blurred by a Gaussian of `sigma` voxels, the high band the rest.
    """

    l1: float = 1.0
    band: float = 1.0
    sigma: float = 2.0


def inner(network: nn.Module, x: Tensor) -> Tensor:
    """The output where the network sees true voxels only: smaller than `x` for one of valid convolutions."""
    run: Callable[[Tensor], Tensor] = getattr(network, "valid", network)
    return run(x)


def centred(x: Tensor, like: Tensor) -> Tensor:
    """The middle of `x` with the spatial extents of `like`, e.g. 32^3 -> 16^3."""
    for axis in range(2, x.ndim):
        extent = like.shape[axis]
        x = x.narrow(axis, (x.shape[axis] - extent) // 2, extent)
    return x


def voxel_needs(weights: PixelWeights) -> tuple[str, ...]:
    """The batch's key that `weights` takes its voxels' weights from, if any."""
    return (weights.voxels,) if weights.voxels in ("mask", "weight") else ()


def _voxel_weight(weights: PixelWeights, target: Tensor, batch: Batch) -> Tensor | None:
    """What each voxel counts, broadcastable to `target`; None where all count the same."""
    if weights.voxels == "all":
        return None
    if weights.voxels == "bright":
        return suv_weights(target, weights.bright, weights.cap)
    if weights.voxels not in batch:
        raise InputError(
            f"The loss counts voxels by '{weights.voxels}', which the training data do not give.",
            next_step=f"Give '{weights.voxels}' images with the data, or train with voxels='all'.",
        )
    return centred(batch[weights.voxels], target)


def pixel_terms(weights: PixelWeights, fake: Tensor, target: Tensor, batch: Batch) -> Terms:
    """The voxel-wise terms of `fake` against the middle of `target`."""
    target = centred(target, fake)
    count = _voxel_weight(weights, target, batch)
    terms: Terms = {}
    if weights.l1:
        terms["l1"] = weights.l1 * (l1(fake, target) if count is None else weighted_l1(fake, target, count))
    if weights.l2:
        terms["l2"] = weights.l2 * (l2(fake, target) if count is None else weighted_l2(fake, target, count))
    if weights.gdl:
        terms["gdl"] = weights.gdl * gradient_difference(fake, target)
    if weights.ssim:
        terms["ssim"] = weights.ssim * ssim_loss(fake, target, weights.data_range)
    return terms


class Supervised(Regime):
    """min_G of the voxel-wise distance of G(source) to the target.

    Networks: "generator". One of valid convolutions (with a method `valid`) is trained on the middle of the target.
    """

    groups: Mapping[str, tuple[str, ...]] = {"generator": ("generator",)}
    needs: tuple[str, ...] = ("source", "target")
    config: PixelWeights

    def __init__(self, networks: Mapping[str, nn.Module], config: PixelWeights) -> None:
        super().__init__()
        if not (config.l1 or config.l2 or config.gdl or config.ssim):
            raise ValueError("a supervised regime needs at least one voxel-wise term with a weight above 0")
        self.generator = networks["generator"]
        self.config = config
        self.needs = ("source", "target", *voxel_needs(config))  # the config decides

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        return {"fake": inner(self.generator, batch["source"])}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        yield pixel_terms(self.config, outputs["fake"], batch["target"], batch)

    def predict(self, batch: Batch, rng: Generator) -> Tensor:
        return cast(Tensor, self.generator(batch["source"]))

    def exported(self) -> Mapping[str, nn.Module]:
        return {"forward": self.generator}


class DeeplySupervised(Supervised):
    """Also the tentative images are compared with the target (DECNN). The generator has `tentative(x) -> images`."""

    config: DeepConfig

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        images = cast(Any, self.generator).tentative(batch["source"])  # k tentative ones and the output
        return {"fake": images[-1]} | {f"tentative_{i}": image for i, image in enumerate(images[:-1], 1)}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        terms = pixel_terms(self.config, outputs["fake"], batch["target"], batch)
        for name in [name for name in outputs if name != "fake"]:
            for term, value in pixel_terms(self.config, outputs[name], batch["target"], batch).items():
                terms[f"{name}_{term}"] = self.config.tentative * value
        yield terms


@in_float32
def blurred(x: Tensor, sigma: float) -> Tensor:
    """`x` under a Gaussian of `sigma` voxels along every spatial axis, cut at 3 sigma; borders are repeated."""
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-0.5 * (offsets / sigma) ** 2, 0).reshape(1, 1, -1)
    for axis in range(2, x.ndim):
        rows = x.movedim(axis, -1)
        flat = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")  # rows, 1, padded extent
        x = F.conv1d(flat, kernel).reshape(rows.shape).movedim(-1, axis)
    return x


class BandSupervised(Supervised):
    """Also the low and the high frequencies are compared (FREA-UNet). The generator has `parts(x) -> (low, high)`."""

    config: BandConfig

    def forward(self, batch: Batch, rng: Generator) -> Outputs:
        low, high = cast(Any, self.generator).parts(batch["source"])
        return {"fake": low + high, "low": low, "high": high}

    def loss(self, turn: str, outputs: Outputs, batch: Batch, rng: Generator) -> Iterator[Terms]:
        low = blurred(batch["target"], self.config.sigma)
        yield pixel_terms(self.config, outputs["fake"], batch["target"], batch) | {
            "low": self.config.band * l1(outputs["low"], low),
            "high": self.config.band * l1(outputs["high"], batch["target"] - low),
        }
