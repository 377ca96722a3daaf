"""Validation by the way a user goes: the network becomes a model in memory and synthesizes whole volumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from SynthGANLib.data.cases import Loaded
from SynthGANLib.evaluation.metrics import PROTOCOLS as RULES
from SynthGANLib.evaluation.metrics import evaluate
from SynthGANLib.evaluation.similarity import LEAST_EXTENT, WINDOW
from SynthGANLib.image.grid import stack_axes
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.model.card import Card
from SynthGANLib.model.model import Model
from SynthGANLib.networks.cascade import Inpainter
from SynthGANLib.networks.sampler import Sampler
from SynthGANLib.phantom.degrade import marked, random_squares
from SynthGANLib.training.log import Picture

PROTOCOLS = {"HU": "synthrad2025", "SUVbw": "suv", "RGB": "rgb"}
"""Unit of the target -> protocol of its metrics; "mr" for all others."""
SIMILARITY = {"synthrad2025": "MS-SSIM"}
"""Protocol -> its similarity, the one that the challenge ranks by; "SSIM" for all others."""
QUANTILES = 1001
"""Points at which two distributions of intensities are compared."""

Networks = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Report:
    """What a validation found.

    Attributes:
        score: what the best networks are chosen by; smaller is better, NaN says nothing.
        metrics: every number by name, `score` among them. text: one line for people. pictures: by name.
    """

    score: float
    metrics: Mapping[str, float]
    text: str
    pictures: Mapping[str, Picture] = field(default_factory=dict)


Validator = Callable[[Networks, torch.device], Report]
"""(copies of the exported networks in evaluation mode, device) -> Report."""


@dataclass(frozen=True)
class VolumeValidator:
    """Synthesizes the source of every validation case and compares it with its target inside the body.

    The score is the mean absolute error over the pairs. Where no case is a pair it is the distance of the synthetic
    intensities from those of the real targets, which says less: it does not see what is at the wrong place.

    Attributes:
        card: says grid, normalisers and units. cases: read from the data list, in the model's units.
    """

    card: Card
    cases: Sequence[Loaded]

    def __call__(self, networks: Networks, device: torch.device) -> Report:
        model = Model(self.card, networks["forward"])
        rows, made = [], []
        pictures: dict[str, Picture] = {}
        for number, case in enumerate(self.cases):
            if case.source is None:
                continue
            fake = synthesize(case.source, model, mask=case.source_body, device=str(device))
            made.append(_inside(fake, case.source_body))
            if case.target is not None:
                rows.append(measure(fake, case.target, case.source_body, self.card.target.range))
            if not pictures:
                pictures[f"case {number}"] = side_by_side(case.source, fake, case.target)
        if rows:
            masked = {case.source_body is not None for case in self.cases if case.source is not None}
            where = " or ".join([*["body"] * (True in masked), *["whole volume"] * (False in masked)])
            return error_report(rows, self.card, where, pictures)
        real = [_inside(case.target, case.target_body) for case in self.cases if case.target is not None]
        return distribution_report(made, real, pictures)


@dataclass(frozen=True)
class SampleValidator:
    """Draws samples of a network that makes images from noise and compares their intensities with real images'.

    The score is the Wasserstein distance of the two histograms, in the target's unit: the mean shift of intensity that
    would turn one into the other. It sees neither shapes nor variety. Of a network with classes it is the mean over the
    classes that the cases have.

    Attributes:
        samples: how many are drawn of each class, always the same for one `seed`.
    """

    card: Card
    cases: Sequence[Loaded]
    samples: int = 16
    seed: int = 0

    def __call__(self, networks: Networks, device: torch.device) -> Report:
        labelled = self.card.method.arguments.get("label") is not None
        classes = sorted({case.case.label or 0 for case in self.cases}) if labelled else [None]
        reports = [self._of_class(networks["forward"], label, device) for label in classes]
        metrics = {name: float(np.mean([report.metrics[name] for report in reports])) for name in reports[0].metrics}
        return replace(reports[0], score=metrics["wasserstein"], metrics=metrics, text=_apart(metrics["wasserstein"]))

    def _of_class(self, network: nn.Module, label: int | None, device: torch.device) -> Report:
        """Samples of one class against the cases of that class; without classes, of all."""
        code = self.card.method.arguments["code"]
        sampler = network if isinstance(network, Sampler) else Sampler.over(network, code, label=label)
        model = Model(self.card, sampler)
        random = np.random.default_rng(self.seed)
        volumes = [synthesize(noise, model, device=str(device)) for noise in self._noise(random)]
        wanted = [case for case in self.cases if label is None or (case.case.label or 0) == label]
        real = [case.target for case in wanted if case.target is not None]
        first = volumes[0]
        pictures = {"samples": as_picture(_slice(first.array, 0), _range(first.array))}
        return distribution_report(
            [v.array.reshape(-1) for v in volumes], [v.array.reshape(-1) for v in real], pictures
        )

    def _noise(self, random: np.random.Generator) -> list[Volume]:
        """Volumes of standard normal numbers: in 2D one slice a sample, along the axis the model looks along."""
        extents = self.card.spatial.tile_max
        if self.card.spatial.dims == 3:
            return [Volume(random.normal(size=extents).astype(np.float32), np.eye(4)) for _ in range(self.samples)]
        place = {"axial": 0, "coronal": 1, "sagittal": 2}.get(self.card.spatial.axis or "axial", 0)
        stack = random.normal(size=(self.samples, *extents[1:])).astype(np.float32)
        return [Volume(np.ascontiguousarray(np.moveaxis(stack, 0, place)), np.eye(4))]


@dataclass(frozen=True)
class HoleValidator:
    """Cuts a hole out of every validation case, always the same one for one `seed`, and compares what fills it.

    The score is the mean absolute error inside the holes. In two dimensions every slice with body in it has a square.

    Attributes:
        extent: of the squares or cubes in voxels; at most half of the image's along each axis.
    """

    card: Card
    cases: Sequence[Loaded]
    extent: int
    seed: int = 0
    _holes: dict[int, NDArray[np.bool_]] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, networks: Networks, device: torch.device) -> Report:
        threshold = self.card.method.arguments["threshold"]
        model = Model(self.card, Inpainter.over(networks["forward"], threshold))
        rows: list[dict[str, float]] = []
        pictures: dict[str, Picture] = {}
        for number, case in enumerate(self.cases):
            if case.target is None:
                continue
            if number not in self._holes:  # finding room for one takes long in large images
                self._holes[number] = self.hole(case, number)
            hole = self._holes[number]
            fake = synthesize(marked(case.target, hole), model, device=str(device))
            rows.append(measure(fake, case.target, hole, self.card.target.range))
            if not pictures:
                empty = np.where(hole.reshape(*hole.shape, *[1] * (case.target.array.ndim - 3)), 0, case.target.array)
                pictures[f"case {number}"] = side_by_side(case.target.with_array(empty), fake, case.target)
        return error_report(rows, self.card, "holes", pictures)

    def hole(self, case: Loaded, number: int) -> NDArray[np.bool_]:
        """Booleans (z, y, x): where case `number` is to be made up."""
        assert case.target is not None
        spatial = self.card.spatial
        body = np.ones(case.target.shape, bool) if case.target_body is None else case.target_body
        flat = spatial.dims == 2
        axis = stack_axes(spatial.axis or "axial", spatial.orientation)[0]
        # (slices, 1, rows, columns), or (1, 1, z, y, x)
        batch = np.moveaxis(body, axis, 0)[:, np.newaxis] if flat else body[np.newaxis, np.newaxis]
        size = tuple(min(self.extent, max(1, extent // 2)) for extent in batch.shape[2:])
        rng = torch.Generator().manual_seed(int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0]))
        tensor = torch.from_numpy(np.ascontiguousarray(batch, np.float32))
        squares = random_squares(tensor, size, rng) * tensor.flatten(1).amax(1).reshape(-1, *[1] * (batch.ndim - 1))
        found = squares.numpy()[:, 0] > 0
        return np.ascontiguousarray(np.moveaxis(found, 0, axis) if flat else found[0])


def validator_for(card: Card, cases: Sequence[Loaded], seed: int = 0, hole: int = 0) -> Validator | None:
    """The validator that fits a card; None where there is nothing to compare with.

    `hole`: extent of the holes that an inpainting is trained with.
    """
    if card.method.name in ("Sampler", "Inpainter"):
        if all(case.target is None for case in cases):
            return None
        sampled = card.method.name == "Sampler"
        return SampleValidator(card, cases, seed=seed) if sampled else HoleValidator(card, cases, hole, seed)
    pairs = any(case.source is not None and case.target is not None for case in cases)
    both = any(case.source is not None for case in cases) and any(case.target is not None for case in cases)
    return VolumeValidator(card, cases) if pairs or both else None


def measure(
    fake: Volume, real: Volume, body: NDArray[np.bool_] | None, limits: tuple[float, float]
) -> dict[str, float]:
    """MAE, ME, PSNR and similarity of one volume inside the body by the protocol of its unit.

    Arbitrary units have no range of their own: there it is `limits`, which the model's values are held within.
    """
    protocol = protocol_of(real.unit)
    wanted = ("MAE", "ME", "PSNR", similarity_of(protocol))
    found = evaluate(fake, real, body, protocol, wanted, limits if protocol == "mr" else None)
    return {name: metric.value for name, metric in found.items()}


def protocol_of(unit: str) -> str:
    """The protocol by which a target of this unit is measured."""
    return PROTOCOLS.get(unit, "mr")


def similarity_of(protocol: str) -> str:
    """The name of the similarity that goes with the protocol."""
    return SIMILARITY.get(protocol, "SSIM")


def way_of_measuring(card: Card, where: str) -> str:
    """What it takes to read the numbers of `measure` for a card: protocol, mask `where`, range, offset, window."""
    rules = RULES[protocol_of(card.target.unit)]
    low, high = card.target.range if rules.low is None or rules.high is None else (rules.low, rules.high)
    name = similarity_of(rules.name)
    short = f"edges repeated to {LEAST_EXTENT} voxels" if name == "MS-SSIM" else "less along an axis shorter than that"
    return (
        f"{rules.name}, mask: {where}, PSNR and {name} of values clipped to {low:g} to {high:g}, "
        f"{low:g} outside the mask, offset {-low + 0.0:+g}, window {WINDOW}, {short}"
    )


def wasserstein(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Wasserstein-1 distance of two samples of numbers: the mean distance of their quantiles, in their unit."""
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return float(np.abs(np.quantile(a, at) - np.quantile(b, at)).mean())


def error_report(
    rows: Sequence[Mapping[str, float]], card: Card, where: str, pictures: Mapping[str, Picture]
) -> Report:
    """Means over the volumes, measured in `where`; the score is the mean absolute error.

    A number that is not finite for some volumes is the mean over the others, and one that is for none is left out; the
    text says so. The score is of all volumes or none.
    """
    means, remarks = dict[str, float](), list[str]()
    for name in rows[0]:
        values = [row[name] for row in rows if math.isfinite(row[name])]
        if len(values) < len(rows):
            remarks.append(f"{name} of {len(rows) - len(values)} left out: not finite")
        if values:
            means[name] = float(np.mean(values))
    score = float(np.mean([row["MAE"] for row in rows]))
    unit = "" if card.target.unit == "1" else f" {card.target.unit}"
    units = {"MAE": unit, "ME": unit, "PSNR": " dB"}
    numbers = ", ".join(f"{name} {value:.4g}{units.get(name, '')}" for name, value in means.items())
    how = "; ".join([way_of_measuring(card, where), *remarks])
    text = f"{numbers} over {len(rows)} volume{'s' * (len(rows) > 1)} ({how})"
    return Report(score, means, text, pictures)


def distribution_report(
    made: Sequence[NDArray[Any]], real: Sequence[NDArray[Any]], pictures: Mapping[str, Picture]
) -> Report:
    """The distance of two sets of intensities, and their means and spreads."""
    ours, theirs = (np.concatenate([part.reshape(-1) for part in parts]) for parts in (made, real))
    distance = wasserstein(ours, theirs)
    metrics = {
        "wasserstein": distance,
        "mean": float(ours.mean()),
        "real_mean": float(theirs.mean()),
        "std": float(ours.std()),
        "real_std": float(theirs.std()),
    }
    return Report(distance, metrics, _apart(distance), pictures)


def _apart(distance: float) -> str:
    return f"histograms {distance:.4g} apart (Wasserstein)"


def side_by_side(source: Volume, fake: Volume, real: Volume | None) -> Picture:
    """The middle slices of source, synthetic and, where there is one, real target, next to each other."""
    middle = source.shape[0] // 2
    shown = [as_picture(_slice(source.array, middle), _range(source.array))]
    limits = _range(real.array if real is not None else fake.array)
    shown += [
        as_picture(_slice(v.array, middle), limits) for v in (fake, real) if v is not None and v.shape == fake.shape
    ]
    colour = any(picture.ndim == 3 for picture in shown)
    return np.concatenate([np.stack([p] * 3, -1) if colour and p.ndim == 2 else p for p in shown], axis=1)


def as_picture(values: NDArray[Any], limits: tuple[float, float]) -> Picture:
    """Values (rows, columns[, 3]) between the limits as 0 to 255."""
    low, high = limits
    scaled = (np.clip(values, low, high) - low) * (255.0 / max(high - low, 1e-9))
    picture: Picture = scaled.astype(np.uint8)
    return picture


def _slice(array: NDArray[Any], number: int) -> NDArray[Any]:
    """One slice (rows, columns) or, of three channels, (rows, columns, 3); else its first channel."""
    plane: NDArray[Any] = array[number]
    return plane if plane.ndim == 2 or plane.shape[-1] == 3 else plane[..., 0]


def _range(array: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(array, (0.5, 99.5))
    return float(low), float(high)


def _inside(volume: Volume, body: NDArray[np.bool_] | None) -> NDArray[Any]:
    return volume.array.reshape(-1) if body is None else volume.array[body].reshape(-1)
