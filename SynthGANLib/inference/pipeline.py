"""The whole way of a volume: checked, conformed, normalised, predicted, and back onto its own grid."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from SynthGANLib.errors import InputError, MemoryExhaustedError, ModelError, UnfitInputError
from SynthGANLib.image.geometry import Conformed, conform, resample_to
from SynthGANLib.image.grid import whole_voxels
from SynthGANLib.image.intensity import Normaliser, body_mask, check_values, normaliser_from_json
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.devices import resolve_device
from SynthGANLib.inference.fitness import check_fit, check_grid
from SynthGANLib.inference.memory import PeakMemory, is_out_of_memory
from SynthGANLib.inference.precision import choose_precision
from SynthGANLib.inference.predictor import Predictor
from SynthGANLib.inference.progress import Progress, Reporter
from SynthGANLib.inference.tiles import Array, Task
from SynthGANLib.model.card import Card
from SynthGANLib.model.model import Model

SKIN_MM = 3.0
"""The body found by threshold is widened by this before all else is set to background: half of the outermost
voxels of the skin lie below the threshold."""

Float32 = npt.NDArray[np.float32]


def synthesize(
    volume: Volume,
    model: Model,
    *,
    mask: Volume | Array | None = None,
    device: str = "auto",
    memory: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    accept_unfit: bool = False,
) -> Volume:
    """Synthesize the model's target from `volume`; float32 in the target's unit on exactly the volume's grid.

    Args:
        volume: the source, of any grid; it is not changed.
        model: from `Model.load`.
        mask: where the body is: a volume of any grid (brought to the source by the nearest voxel) or an array
            (z, y, x) on the source's grid, true or above zero inside; it is not changed. None: found in the
            image where the model wants it.
        device: "auto", "cpu", "cuda", "cuda:<number>" or "mps".
        memory: limit in bytes of what the prediction takes on the device; None leaves it to the planner.
        progress: told each step, from this thread.
        cancel: asked before each step and tile; true ends the run.
        accept_unfit: use a volume whose stated modality is not the model's (the statement may be wrong); it is
            remarked. What the model cannot take at all is refused all the same.

    The result's `meta` holds model, version, device, seconds, tiles, peak_memory (bytes or None), warnings
    and plan (a sentence); of a network also tile_cost (bytes per voxel of a tile) and tile_budget (bytes).

    Raises:
        InputError: broken values, a mask of another shape, or a device that is not there.
        UnfitInputError: the volume is constant, empty of body, or of another modality, unit or channel count.
        ModelError: the model's network or method does not keep what its card promises.
        MemoryExhaustedError: after smaller batches, smaller tiles and the CPU.
        CancelledError: `cancel` returned true.
    """
    started = time.perf_counter()
    reporter = Reporter(progress, cancel)
    place = resolve_device(device)
    try:
        with PeakMemory(place) as peak:
            array, facts = _synthesize(volume, model, mask, place, memory, reporter, accept_unfit)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            f"Memory ran out while a volume of {' x '.join(map(str, volume.shape))} voxels was prepared.",
            next_step="Close other programs, or crop the volume or give it larger voxels.",
        ) from error
    card = model.card
    meta = {
        "modality": card.target.modality,
        "model": card.id,
        "version": card.version,
        **facts,
        "seconds": time.perf_counter() - started,
        "peak_memory": peak.bytes,
    }
    reporter.finish()
    return volume.with_array(array, unit=card.target.unit, meta=meta)


def _synthesize(
    volume: Volume,
    model: Model,
    mask: Volume | Array | None,
    device: torch.device,
    memory: int | None,
    reporter: Reporter,
    accept_unfit: bool,
) -> tuple[Float32, dict[str, Any]]:
    """The result on the source's grid, and what is to be told about the run."""
    card = model.card
    reporter.enter("check", 0.02)
    checked = check_values(volume)
    warnings = check_fit(checked, card, accept_unfit=accept_unfit)
    reporter.enter("conform", 0.05)
    conformed = conform(
        checked,
        orientation=card.spatial.orientation,
        spacing=card.spatial.spacing,
        interpolation="nearest" if card.source.unit == "label" else "linear",
    )
    back = conformed.back
    for sentence in [*warnings, *check_grid(conformed.volume, checked, card)]:
        reporter.remark("warning", sentence)
    reporter.enter("mask", 0.1)
    body = _body(conformed, volume, mask, card)
    reporter.enter("predict", 0.95)
    run = _run_network if card.method.kind == "network" else _run_method
    array, facts = run(conformed.volume, body, model, device, memory, reporter)
    del conformed, checked  # a large volume's working copy is not needed on the way back
    reporter.enter("restore", 0.99)
    _finish(array, body, card)
    # (C, z, y, x) -> (z, y, x) or (z, y, x, C)
    restored = back.restore(
        array[0] if len(array) == 1 else np.moveaxis(array, 0, -1),
        fill=card.target.background,
        order=0 if card.target.unit == "label" else 1,
    )
    reporter.poll()
    return np.asarray(restored, dtype=np.float32), {**facts, "warnings": reporter.remarks}


@dataclass(frozen=True)
class _Body:
    """Boolean masks (z, y, x) on the model's grid: the body itself, and what is filled with prediction."""

    inside: Array
    kept: Array


def _body(conformed: Conformed, source: Volume, mask: Volume | Array | None, card: Card) -> _Body | None:
    """The given mask, or the body found in the image where the model wants one; None without either."""
    image, back = conformed.volume, conformed.back
    if mask is not None:
        given = _as_volume(mask, source)
        inside = resample_to(given, back.target, fill=0.0, interpolation="nearest").array > 0
        if not inside.any():
            raise UnfitInputError(
                "The mask marks no voxel of the volume.",
                next_step="Choose another mask, or none to find the body.",
            )
        return _Body(inside, inside)
    if card.mask == "none":
        return None
    inside = body_mask(image.array, image.spacing)
    radii = [max(1, whole_voxels(SKIN_MM, step)) for step in image.spacing[::-1]]
    return _Body(inside, widened(inside, (radii[0], radii[1], radii[2])))


def _as_volume(mask: Volume | Array, source: Volume) -> Volume:
    """The mask as a scalar volume of small whole numbers, true (1) above zero."""
    if not isinstance(mask, Volume):
        if np.shape(mask) != source.shape:
            raise InputError(
                f"The mask of shape {np.shape(mask)} does not lie on the volume of shape {source.shape}.",
                next_step="Give a mask of the same shape, or a mask volume with its own place.",
            )
        mask = Volume(np.asarray(mask), source.affine, "label")
    if mask.channels != 1:
        raise InputError("The mask has several channels.", next_step="Choose a mask with one channel.")
    return mask.with_array((mask.array > 0).view(np.uint8))


def widened(mask: Array, radii: tuple[int, int, int]) -> Array:
    """A boolean mask (z, y, x) dilated by a box of `radii` voxels to each side; a new array."""
    result = mask.copy()
    for axis, radius in enumerate(radii):
        view = np.moveaxis(result, axis, 0)
        for _ in range(min(radius, len(view) - 1)):
            # Slice by slice forwards a mark would run on for ever, so the original neighbour is kept aside.
            before = view[:-1].copy()
            view[:-1] |= view[1:]
            view[1:] |= before
    return result


def _run_network(
    image: Volume,
    body: _Body | None,
    model: Model,
    device: torch.device,
    memory: int | None,
    reporter: Reporter,
) -> tuple[Float32, dict[str, Any]]:
    """Prediction (C, z, y, x) on the model's grid in the target's unit."""
    card = model.card
    if model.network is None:
        raise ModelError(f"The model '{card.id}' has no network.", next_step="Install the model again.")
    source = normaliser_from_json(card.normalisers["source"])
    source = source.fit(image.array, None if body is None else body.inside)
    target = normaliser_from_json(card.normalisers["target"])
    task = Task(
        source=image.array,
        prepare=source.apply,
        mask=None if body is None else body.kept,
        background=float(target.apply(np.full(1, card.target.background, np.float32))[0]),
        channels=card.target.channels,
    )
    channels = (card.source.channels, card.target.channels)
    precision = choose_precision(model, device, reporter)
    with Predictor(
        model.network,
        card.spatial,
        channels=channels,
        device=device,
        reporter=reporter,
        memory=memory,
        precision=precision,
    ) as predictor:
        array = predictor.predict(task)
        facts = {
            "device": str(predictor.device),
            "tiles": predictor.tiles,
            "plan": " ".join(plan.explain() for plan in predictor.plans),
            "tile_cost": predictor.plans[-1].bytes_per_voxel,
            "tile_budget": predictor.plans[-1].budget,
            "source_normaliser": source.to_json(),
        }
    _denormalise(array, target)
    return array, facts


def _denormalise(array: Float32, target: Normaliser) -> None:
    """Network units to the target's, in place and slice by slice: no second volume."""
    for channel in array:
        for plane in channel:
            plane[...] = target.invert(plane)


def _run_method(
    image: Volume,
    body: _Body | None,
    model: Model,
    device: torch.device,
    memory: int | None,
    reporter: Reporter,
) -> tuple[Float32, dict[str, Any]]:
    """Result (1, z, y, x) of a classical method, on the model's grid in the target's unit."""
    from SynthGANLib.classical.registry import METHODS, accepted_arguments

    card = model.card
    inside = np.ones(image.shape, dtype=np.bool_) if body is None else body.inside
    extras = accepted_arguments(
        card.method.name, tensors=model.tensors, warn=lambda sentence: reporter.remark("warning", sentence)
    )
    result = METHODS[card.method.name](
        image,
        inside,
        progress=lambda _, fraction: reporter.advance(fraction),
        cancel=reporter.cancelled,
        **extras,
        **card.method.arguments,
    )
    reporter.poll()
    array = np.array(result, dtype=np.float32)
    if array.shape != image.shape or not np.isfinite(array).all():
        raise ModelError(
            f"The method '{card.method.name}' returned values that are not finite or of shape {array.shape}.",
            next_step="Report this to the authors.",
        )
    return array[None], {"device": "cpu", "tiles": 0, "plan": "The method takes the whole volume on the CPU."}


def _finish(array: Float32, body: _Body | None, card: Card) -> None:
    """Background outside the body and values within the card's range, in place and slice by slice."""
    low, high = card.target.range
    for channel in array:
        for number, plane in enumerate(channel):
            np.clip(plane, low, high, out=plane)
            if body is not None:
                plane[~body.kept[number]] = card.target.background
