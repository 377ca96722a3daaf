"""Models that are fitted, not trained: tissue classes, atlases, Gaussian mixture and polynomial regression.

>>> from SynthGANLib.training.fit_classical import Case, fit
>>> fit("mixture", [Case(mr, ct, body)], "Models/my-mixture", spacing=2.0)  # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SynthGANLib.classical.atlas import MOST_ATLASES, Atlas, check_choices, tensors_of
from SynthGANLib.classical.tissue_echoes import check_contrasts
from SynthGANLib.errors import CancelledError, InputError, UnfitInputError
from SynthGANLib.image.geometry import Box, conform, resample_to
from SynthGANLib.image.intensity import check_values, normaliser_from_json
from SynthGANLib.image.volume import Volume
from SynthGANLib.model.card import Card, MethodSpec, SourceSpec, SpatialSpec, TargetSpec, VectorSpec
from SynthGANLib.model.model import Model
from SynthGANLib.networks.regression import LocalRegression, local_features
from SynthGANLib.training.regression_fit import fit_mixture, fit_ridge

SOURCE_NORMALISER: Mapping[str, Any] = {"kind": "percentile", "low": 0.5, "high": 99.5, "clip": False}
WINDOW: Mapping[str, Any] = {"kind": "window", "low": -1024.0, "high": 3071.0}
MARGIN_MM = 20.0
"""What an atlas keeps around the body, so that a head lying otherwise is covered as well."""
PATCH = 16


@dataclass(frozen=True, eq=False)
class Case:
    """A training pair: source and target (HU), and where the body is, each on a grid of its own or shared.

    `mask` is a volume, or an array (z, y, x) on the source's grid, true or above zero inside.
    """

    source: Volume
    target: Volume
    mask: Volume | NDArray[Any]


@dataclass(frozen=True)
class Options:
    """How a model is fitted and what its card says.

    Attributes:
        spacing: mm of the isotropic grid the model works on; None takes the first case's, made isotropic.
        seed: of every random choice. samples: most voxels a regression is fitted to.
        components, degree: of "mixture" and "ridge".
        contrasts, echo_times: channels of the source and ms of its UTE pair, of "tissue_echoes".
        fusion, deformable: of "atlas". limit_bytes: most that its atlases may take in the folder.
        id, title, anatomy, licence, description, intended_use: of the card; "" for a text made from the recipe.
    """

    spacing: float | None = None
    seed: int = 0
    samples: int = 200_000
    components: int = 20
    degree: int = 2
    contrasts: tuple[str, ...] = ()
    echo_times: tuple[float, ...] = ()
    fusion: str = "lncc"
    deformable: str = "bspline"
    limit_bytes: int = 512 * 2**20
    id: str = ""
    title: str = ""
    anatomy: str = "head"
    licence: str = "Not stated; ask whoever fitted this model."
    description: str = ""
    intended_use: str = "Research and teaching. Not for diagnosis, dose calculation or attenuation correction."

    def __post_init__(self) -> None:
        for name, allowed, rule in (
            ("spacing", self.spacing is None or 0.1 <= self.spacing <= 20.0, "0.1 to 20 mm or None"),
            ("samples", self.samples >= 1, "at least 1"),
            ("components", 1 <= self.components <= 256, "1 to 256"),
            ("degree", self.degree in (1, 2), "1 or 2"),
        ):
            if not allowed:
                raise InputError(f"The option '{name}' must be {rule}, not {getattr(self, name)}.")


@dataclass(frozen=True, eq=False)
class Report:
    """What was written: the model's folder, the model, and what the fit tells about itself."""

    folder: Path
    model: Model
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Run:
    """The outside of a fit: telling and asking."""

    progress: Callable[[str, float], None]
    cancel: Callable[[], bool]

    def step(self, stage: str, fraction: float) -> None:
        if self.cancel():
            raise CancelledError("The fit was cancelled; nothing was written.", next_step="Start it again when wanted.")
        self.progress(stage, fraction)


def fit(
    recipe: str,
    cases: Sequence[Case],
    out: str | Path,
    *,
    options: Options | None = None,
    force: bool = False,
    progress: Callable[[str, float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    **changes: Any,
) -> Report:
    """Fit `recipe` (one of `RECIPES`) to `cases` and write the model folder `out`.

    `changes` replace fields of `options` (`Options()` by default). The folder appears whole or not at all.

    Raises:
        InputError: unknown recipe or option, no cases, cases that do not fit together, or atlases that are too large.
        UnfitInputError: a case without body or contrast.
        ModelError: the folder exists (without `force`) or cannot be written.
        CancelledError: `cancel()` answered true.
    """
    if recipe not in RECIPES:
        raise InputError(f"There is no fitted recipe '{recipe}' (known: {', '.join(sorted(RECIPES))}).")
    try:
        chosen = replace(options or Options(), **changes)
    except TypeError:
        raise InputError(f"A fit has no such option among {', '.join(sorted(changes))}.") from None
    if not cases and recipe not in ("tissue", "tissue_echoes"):
        raise InputError(f"The recipe '{recipe}' needs at least one case.", next_step="Give pairs of images.")
    run = _Run(progress or (lambda stage, fraction: None), cancel or (lambda: False))
    run.step("prepare", 0.0)
    model, facts = RECIPES[recipe](cases, chosen, run)
    run.step("write", 0.98)
    model.save(out, force=force)
    run.progress("done", 1.0)
    return Report(Path(out), model, facts)


def _fit_tissue(cases: Sequence[Case], options: Options, run: _Run) -> tuple[Model, dict[str, Any]]:
    """Nothing is fitted: the method finds its classes in every image anew."""
    method = MethodSpec("classical", "tissue", {"seed": options.seed})
    return Model.build(_card("tissue", options, method)), {}


def _fit_tissue_echoes(cases: Sequence[Case], options: Options, run: _Run) -> tuple[Model, dict[str, Any]]:
    """Nor is it here; the cases only have to have the channels that are named."""
    names = options.contrasts
    check_contrasts(names, options.echo_times)
    if any(case.source.channels != len(names) for case in cases):
        raise InputError(f"A source has not {len(names)} channels: {', '.join(names)}.", next_step="Give all of them.")
    method = MethodSpec("classical", "tissue_echoes", {"contrasts": names, "echo_times": options.echo_times})
    return Model.build(_card("tissue_echoes", options, method, channels=len(names))), {}


def _fit_atlas(cases: Sequence[Case], options: Options, run: _Run) -> tuple[Model, dict[str, Any]]:
    """Every case becomes an atlas: on the model's grid, cropped around the body, int16."""
    check_choices(options.fusion, options.deformable)
    if len(cases) > MOST_ATLASES:
        raise InputError(f"A model holds at most {MOST_ATLASES} atlases, not {len(cases)}.", next_step="Give fewer.")
    spacing = _spacing(cases, options)
    atlases: list[Atlas] = []
    for number, case in enumerate(cases):
        run.step(f"atlas {number + 1} of {len(cases)}", 0.9 * number / len(cases))
        if case.source.channels != 1:
            raise InputError("An atlas has one MR of one channel.", next_step="Choose one of its channels.")
        source, target, mask = _conformed(case, number, spacing)
        box = Box.around(mask, math.ceil(MARGIN_MM / spacing))
        atlases.append(Atlas(_cropped(source, box), _cropped(target, box)))
        size = sum(4 * atlas.mr.array.size for atlas in atlases)  # two images of two bytes
        if size > options.limit_bytes:
            ratio = (size / (number + 1) * len(cases) / options.limit_bytes) ** (1 / 3)
            raise InputError(
                f"At {spacing:g} mm the first {number + 1} of {len(cases)} atlases take {size / 2**20:.1f} MiB, and "
                f"{options.limit_bytes / 2**20:.1f} MiB are allowed.",
                next_step=f"Choose a spacing of {1.1 * ratio * spacing:.1f} mm or more, or give fewer atlases.",
            )
    facts = {"atlases": len(atlases), "spacing": f"{spacing:g} mm", "size": f"{size / 2**20:.1f} MiB, int16"}
    arguments = {"fusion": options.fusion, "deformable": options.deformable, "seed": options.seed}
    method = MethodSpec("classical", "atlas", arguments)
    return Model.build(
        _card("atlas", options, method, spacing=spacing, training=facts), tensors=tensors_of(atlases)
    ), facts


def _fit_mixture(cases: Sequence[Case], options: Options, run: _Run) -> tuple[Model, dict[str, Any]]:
    spacing = _spacing(cases, options)
    features, target, patch = _samples(cases, spacing, options, run)
    _enough(features, options.components)
    fitted = fit_mixture(
        features,
        target,
        options.components,
        seed=options.seed,
        progress=lambda share: run.progress("fit", 0.4 + 0.55 * share),
        cancel=run.cancel,
    )
    facts = {
        "cases": len(cases),
        "voxels": len(features),
        "seed": options.seed,
        "iterations": len(fitted.log_likelihood),
        "settled": fitted.converged,
        "log_likelihood": [round(value, 6) for value in fitted.log_likelihood],
    }
    arguments = {"dims": 3, "channels": fitted.network.channels, "components": options.components}
    return _network_model("mixture", fitted.network, arguments, patch, spacing, options, facts), facts


def _fit_ridge(cases: Sequence[Case], options: Options, run: _Run) -> tuple[Model, dict[str, Any]]:
    spacing = _spacing(cases, options)
    features, target, patch = _samples(cases, spacing, options, run)
    _enough(features, 1 + features.shape[1] * (features.shape[1] + 3) // 2)
    network = fit_ridge(features, target, options.degree)
    facts = {
        "cases": len(cases),
        "voxels": len(features),
        "seed": options.seed,
        "residual_hu": round(float(network.residual * network.target_std) * (WINDOW["high"] - WINDOW["low"]) / 2, 1),
    }
    arguments = {"dims": 3, "channels": network.channels, "degree": options.degree}
    return _network_model("ridge", network, arguments, patch, spacing, options, facts), facts


RECIPES: Mapping[str, Callable[[Sequence[Case], Options, _Run], tuple[Model, dict[str, Any]]]] = {
    "atlas": _fit_atlas,
    "mixture": _fit_mixture,
    "ridge": _fit_ridge,
    "tissue": _fit_tissue,
    "tissue_echoes": _fit_tissue_echoes,
}
"""The recipes of the regime R-FIT: closed form or expectation maximisation, no gradients."""


def _spacing(cases: Sequence[Case], options: Options) -> float:
    if options.spacing is not None:
        return options.spacing
    return round(math.prod(cases[0].source.spacing) ** (1 / 3), 3)


def _conformed(case: Case, number: int, spacing: float) -> tuple[Volume, Volume, NDArray[np.bool_]]:
    """Source, target and mask of a case on one LPS grid of `spacing`."""
    where = f"Case {number + 1}"
    if case.target.unit != "HU" or case.target.channels != 1:
        raise InputError(
            f"{where}: the target must be a CT in HU.", next_step="Give its unit, or choose another volume."
        )
    source = conform(check_values(case.source), spacing=(spacing,) * 3).volume
    # brought to the model's spacing first: sampling straight from a finer grid would alias
    target = resample_to(conform(check_values(case.target), spacing=(spacing,) * 3).volume, source.grid, fill=-1000.0)
    given = case.mask
    if not isinstance(given, Volume):
        if np.shape(given) != case.source.shape:
            raise InputError(f"{where}: the mask of {np.shape(given)} does not lie on the source {case.source.shape}.")
        given = Volume(np.asarray(given), case.source.affine)
    inside = resample_to(
        given.with_array((given.array > 0).view(np.uint8)), source.grid, fill=0.0, interpolation="nearest"
    )
    mask = inside.array > 0
    if not mask.any():
        raise UnfitInputError(f"{where}: the mask marks no voxel of the source.", next_step="Choose another mask.")
    return source, target, mask


def _cropped(volume: Volume, box: Box) -> Volume:
    """The part of a volume within a box on its grid."""
    return conform(volume, orientation=None, box=box).volume


def _samples(cases: Sequence[Case], spacing: float, options: Options, run: _Run) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, F), normalised target (N,), and a test input (1, C, z, y, x) from the first case."""
    rng = np.random.default_rng(options.seed)
    share = max(1, options.samples // len(cases))
    window = normaliser_from_json(WINDOW)
    features: list[Tensor] = []
    targets: list[Tensor] = []
    patch: Tensor | None = None
    for number, case in enumerate(cases):
        run.step(f"case {number + 1} of {len(cases)}", 0.4 * number / len(cases))
        source, target, mask = _conformed(case, number, spacing)
        image = _network_input(source, mask)
        if features and image.shape[1] * 3 != features[0].shape[1]:
            raise InputError(
                f"Case {number + 1} has {image.shape[1]} channels, the first has {features[0].shape[1] // 3}.",
                next_step="Give the same channels in every case.",
            )
        chosen = np.flatnonzero(mask)
        if len(chosen) > share:
            chosen = np.sort(rng.choice(chosen, share, replace=False))
        # (1, F, z, y, x) -> (F, voxels) -> (N, F)
        features.append(local_features(image)[0].flatten(1)[:, torch.from_numpy(chosen)].T)
        targets.append(torch.from_numpy(window.apply(target.array).reshape(-1)[chosen]))
        if patch is None:
            starts = [max(0, extent - PATCH) // 2 for extent in image.shape[2:]]
            z, y, x = (slice(start, start + PATCH) for start in starts)
            patch = image[:, :, z, y, x].clone()
    assert patch is not None
    return torch.cat(features), torch.cat(targets), patch


def _network_input(source: Volume, mask: NDArray[np.bool_]) -> Tensor:
    """(1, C, z, y, x) as the inference normalises it."""
    values = normaliser_from_json(SOURCE_NORMALISER).fit(source.array, mask).apply(source.array)
    # (z, y, x) or (z, y, x, C) -> (1, C, z, y, x)
    stacked = values[None] if values.ndim == 3 else np.moveaxis(values, -1, 0)
    return torch.from_numpy(np.ascontiguousarray(stacked))[None]


def _enough(features: Tensor, unknowns: int) -> None:
    if len(features) <= 2 * unknowns:
        raise UnfitInputError(
            f"The masks hold {len(features)} voxels, too few for {unknowns} components or terms.",
            next_step="Give more cases, a smaller spacing or fewer components.",
        )


def _network_model(
    recipe: str,
    network: LocalRegression,
    arguments: Mapping[str, Any],
    patch: Tensor,
    spacing: float,
    options: Options,
    facts: Mapping[str, Any],
) -> Model:
    card = _card(
        recipe,
        options,
        MethodSpec("network", type(network).__name__, arguments),
        channels=network.channels,
        spacing=spacing,
        training=facts,
        normalisers={"source": dict(SOURCE_NORMALISER), "target": dict(WINDOW)},
        vector=VectorSpec(1e-3),
    )
    return Model.build(card, network, patch)


_TITLES = {
    "tissue": "Tissue classes: MR to CT",
    "tissue_echoes": "Tissue classes of several contrasts: MR to CT",
    "atlas": "Registered atlases: MR to CT",
    "mixture": "Gaussian mixture regression: MR to CT",
    "ridge": "Polynomial regression: MR to CT",
}
_DESCRIPTIONS = {
    "tissue": "Fuzzy c-means clusters of one T1-weighted MR; each tissue gets its Hounsfield units.",
    "tissue_echoes": "Fuzzy c-means clusters of several co-registered MR contrasts, the channels of one volume.",
    "atlas": "Pairs of MR and CT are registered onto the MR, and their CTs are fused. Takes minutes per atlas.",
    "mixture": "The expected HU given a voxel's MR value, local mean and local deviation, under a Gaussian mixture.",
    "ridge": "A polynomial in a voxel's MR value, local mean and local deviation, fitted by least squares.",
}
_CITATIONS = {
    **dict.fromkeys(("tissue", "tissue_echoes"), "Hsu S-H et al. Phys Med Biol 2013;58:8419."),
    "atlas": "Burgos N et al. IEEE Trans Med Imaging 2014;33:2332. Hofmann M et al. J Nucl Med 2008;49:1875.",
    "mixture": "Johansson A, Karlsson M, Nyholm T. Med Phys 2011;38:2708.",
    "ridge": "",
}


def _card(
    recipe: str,
    options: Options,
    method: MethodSpec,
    *,
    channels: int = 1,
    spacing: float | None = None,
    training: Mapping[str, Any] | None = None,
    normalisers: Mapping[str, Any] | None = None,
    vector: VectorSpec | None = None,
) -> Card:
    return Card(
        id=options.id or f"{recipe.replace('_', '-')}-mr-ct",
        version="1.0.0",
        title=options.title or _TITLES[recipe],
        description=options.description or _DESCRIPTIONS[recipe],
        anatomy=options.anatomy,
        source=SourceSpec("MR", "1", ("T1",) if recipe == "tissue" else (), channels),
        target=TargetSpec("CT", "HU", -1000.0, (-1024.0, 3071.0), 1, "CT_BONE"),
        method=method,
        spatial=SpatialSpec(3, (8, 8, 8), (128, 128, 128), spacing=(spacing,) * 3, margin=1),
        licence=options.licence,
        intended_use=options.intended_use,
        normalisers=normalisers or {},
        training=training or {},
        citation=_CITATIONS[recipe],
        vector=vector,
    )
