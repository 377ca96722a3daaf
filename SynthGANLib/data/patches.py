"""Patches of one case: cut at the same place from everything that belongs together, by MONAI's transforms.

The draw of a patch is decided by the random state it is given and by nothing else.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import PLANES, Array, reflected, stack_axes

BODY_SHARE = 0.95
"""Share of patches that are centred on a voxel of the body; all others on one outside."""

LEAST_DEVIATION = 0.01
"""Images of a patch vary by at least this much in network units; instance norm of a flat patch amplifies noise."""

REDRAWS = 8
"""How often a patch without contrast or body is drawn again before it is taken as it is."""

_MOST_CENTRES = 2**20
_ROOM = 1.25


@dataclass(frozen=True)
class Augment:
    """Random changes of a patch that keep its anatomy possible.

    Attributes:
        flip: chance of mirroring left and right.
        affine: chance of an in-plane rotation by up to `degrees` and a scaling by up to `scale`.
        channel_dropout: chance that a landmark channel of the source after the first is emptied.
    """

    flip: float = 0.5
    affine: float = 0.3
    degrees: float = 8.0
    scale: float = 0.1
    channel_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "affine", "channel_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"The chance '{name}' must lie between 0 and 1, not {getattr(self, name)}.")
        if not 0 <= self.scale < 1 or not 0 <= self.degrees <= 180:
            raise InputError("A scaling is below 1 and a rotation up to 180 degrees.")


NO_AUGMENT = Augment(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class View:
    """What patches are cut from: one tensor (C, a, b, c) of all images, slices along `a` in two dimensions.

    `channels`: key -> its channels in `images`. `inside`, `outside`: flat indices of possible centres in and beyond
    the body, at most a million each. `left_right`: which of the axes 0, 1, 2 runs between left and right, None if it
    may not be mirrored.
    """

    images: Tensor
    channels: Mapping[str, slice]
    inside: Array
    outside: Array
    left_right: int | None

    @property
    def bytes(self) -> int:
        """Memory of the tensor and the indices."""
        return self.images.numel() * self.images.element_size() + self.inside.nbytes + self.outside.nbytes


@dataclass(frozen=True)
class Shape:
    """What a patch is: `extents` (z, y, x) or (y, x), its planes, and slices on each side that the source shows."""

    extents: tuple[int, ...]
    axis: str = "axial"
    orientation: str = "LPS"
    neighbours: int = 0

    @property
    def box(self) -> tuple[int, int, int]:
        """Voxels to cut, neighbours included."""
        if len(self.extents) == 3:
            return self.extents[0], self.extents[1], self.extents[2]
        return 1 + 2 * self.neighbours, self.extents[0], self.extents[1]


def views(arrays: Mapping[str, Array], body: Array | None, shape: Shape) -> list[View]:
    """One view per plane of arrays (z, y, x[, c]) by key, to which "mask" is added; padded up to a patch's size.

    As at inference, a small image is mirrored at its edges, and beyond the first and last slice it is repeated.
    """
    flat = len(shape.extents) == 2
    axes = stack_axes(shape.axis, shape.orientation) if flat else (0,)
    sides = shape.orientation[::-1]
    extents = next(iter(arrays.values())).shape[:3]
    found = []
    for axis in axes:
        order = [axis, *(other for other in range(3) if other != axis)] if flat else [0, 1, 2]
        letters = [sides[place] for place in order]
        mirrored = next(place for place, letter in enumerate(letters) if letter in PLANES["sagittal"])
        everything = {**arrays, "mask": np.ones(extents, np.float32) if body is None else body}
        images = _padded([_channels_first(array, order) for array in everything.values()], shape, flat)
        counts = np.cumsum([0, *(1 if array.ndim == 3 else array.shape[3] for array in everything.values())]).tolist()
        channels = {key: slice(*pair) for key, pair in zip(everything, pairwise(counts), strict=True)}
        spots = None if body is None else body.transpose(order)
        inside, outside = _centres(spots, images.shape[1:], shape, flat)
        found.append(View(images, channels, inside, outside, None if flat and mirrored == 0 else mirrored))
    return found


def _channels_first(array: Array, order: list[int]) -> Array:
    """(z, y, x[, c]) -> (c, a, b, c), a view."""
    stacked = array[..., np.newaxis] if array.ndim == 3 else array
    return stacked.transpose(3, *order)


def _margins(extents: tuple[int, ...], shape: Shape, flat: bool) -> list[int]:
    """Voxels added before the first along each axis."""
    before = [max(0, wanted - extent) // 2 for wanted, extent in zip(shape.box, extents, strict=True)]
    if flat:
        before[0] = shape.neighbours
    return before


def _padded(arrays: list[Array], shape: Shape, flat: bool) -> Tensor:
    """Arrays (c, a, b, c) side by side, mirrored up to the size of a patch."""
    array = np.concatenate(arrays, dtype=np.float32)
    extents = array.shape[1:]
    for axis, (before, extent) in enumerate(zip(_margins(extents, shape, flat), extents, strict=True)):
        if flat and axis == 0:
            wanted = np.arange(-before, extent + before).clip(0, extent - 1)
        else:
            wanted = reflected(-before, max(shape.box[axis], extent), extent)
        if len(wanted) > extent:
            array = np.take(array, wanted, axis=axis + 1)
    return torch.from_numpy(np.ascontiguousarray(array))


def _centres(body: Array | None, extents: tuple[int, ...], shape: Shape, flat: bool) -> tuple[Array, Array]:
    """Flat indices on the padded grid inside and outside the body; without a body everything is inside."""
    spots = np.zeros(extents, bool)
    own = tuple(extents) if body is None else body.shape
    before = _margins(own, shape, flat) if body is not None else [0, 0, 0]
    window = tuple(slice(low, low + extent) for low, extent in zip(before, own, strict=True))
    spots[window] = True if body is None else body
    inside, outside = np.flatnonzero(spots), np.flatnonzero(~spots)
    if outside.size == 0:
        outside = inside  # MONAI wants both
    return _thinned(inside), _thinned(outside)


def _thinned(indices: Array) -> Array:
    """At most `_MOST_CENTRES` of them, chosen at random but always the same ones."""
    if indices.size > _MOST_CENTRES:
        indices = np.sort(np.random.default_rng(0).choice(indices, _MOST_CENTRES, replace=False))
    return indices.astype(np.int64)


def monai_transforms() -> Any:
    """The module monai.transforms; InputError with the way to install it where it is missing."""
    try:
        import monai.transforms
    except ImportError as error:
        raise InputError(
            "Training needs MONAI, which is not installed.", next_step="Install it: pip install 'synthgan[train]'."
        ) from error
    return monai.transforms


class Cutter:
    """Draws patches of one shape; may be used by several threads, which each have their own transforms."""

    def __init__(self, shape: Shape, augment: Augment, *, smooth: tuple[str, ...], absent: float = -1.0) -> None:
        """`smooth`: keys of images that must not be flat and may be interpolated; `absent`: an empty landmark."""
        monai_transforms()
        self.shape, self.augment, self.smooth, self.absent = shape, augment, smooth, absent
        self._own = threading.local()

    def draw(self, view: View, random: RandomState) -> dict[str, Tensor]:
        """A patch by key: (C, [z,] y, x) float32; the source with its neighbouring slices as channels.

        Drawn again in the body, up to `REDRAWS` times, while an image is flat or the body wanted is not in it.
        """
        wants_body = random.random_sample() < BODY_SHARE
        patch: dict[str, Tensor] = {}
        for _ in range(1 + REDRAWS):
            patch = self._once(view, wants_body, random)
            if self._has_contrast(patch) and (not wants_body or bool(patch["mask"].any())):
                break
            wants_body = True
        return self._dropped(patch, random)

    def _once(self, view: View, wants_body: bool, random: RandomState) -> dict[str, Tensor]:
        box, flat = self.shape.box, len(self.shape.extents) == 2
        moved = random.random_sample() < self.augment.affine
        if moved:
            roomy = [_with_room(want, have) for want, have in zip(box, view.images.shape[1:], strict=True)]
            box = (box[0] if flat else roomy[0], roomy[1], roomy[2])
        cropper = self._transform("crop", (box, wants_body))
        cropper.set_random_state(seed=_seed(random))
        # What it is told to be a label only gives the extents; the centres are known already.
        cropper.randomize(label=view.images, fg_indices=view.inside, bg_indices=view.outside)
        cut = cropper(view.images, randomize=False)[0]
        if random.random_sample() < self.augment.flip and view.left_right is not None:
            cut = self._transform("flip", view.left_right)(cut)
        cut = cut.as_tensor()
        patch = {key: self._slices(key, cut[channels]) for key, channels in view.channels.items()}
        if moved:
            patch = self._moved(patch, _seed(random))
        return {key: image.contiguous() for key, image in patch.items()}

    def _moved(self, patch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """One rotation and scaling of all images; labels and masks by the nearest voxel."""
        linear = [key for key in patch if key in self.smooth or key == "weight"]
        groups = {"linear": linear, "nearest": [key for key in patch if key not in linear]}
        joined = {name: torch.cat([patch[key] for key in keys]) for name, keys in groups.items() if keys}
        turned = self._transform("affine", None).set_random_state(seed=seed)(joined)
        found: dict[str, Tensor] = {}
        for name in joined:
            parts = turned[name].as_tensor().split([len(patch[key]) for key in groups[name]])
            found |= dict(zip(groups[name], parts, strict=True))
        return {key: found[key] for key in patch}

    def _slices(self, key: str, image: Tensor) -> Tensor:
        """(C, n, y, x) -> (C * n, y, x) for the source, as inference stacks them; the middle slice of all else."""
        if len(self.shape.extents) == 3:
            return image
        return image.reshape(-1, *image.shape[2:]) if key == "source" else image[:, self.shape.neighbours]

    def _transform(self, kind: str, argument: Any) -> Any:
        """This thread's transform of a kind, made when first wanted."""
        made: dict[tuple[str, Any], Any] = self._own.__dict__.setdefault("made", {})
        if (kind, argument) not in made:
            made[kind, argument] = self._make(kind, argument)
        return made[kind, argument]

    def _make(self, kind: str, argument: Any) -> Any:
        transforms = monai_transforms()
        if kind == "crop":
            box, in_body = argument
            return transforms.RandCropByPosNegLabel(spatial_size=box, pos=float(in_body), neg=float(not in_body))
        if kind == "flip":
            return transforms.Flip(spatial_axis=argument)
        dims = len(self.shape.extents)
        # The first angle turns the plane (y, x): across it voxels may be long, and turning would bend the anatomy.
        return transforms.RandAffined(
            ("linear", "nearest"),
            spatial_size=self.shape.extents,
            prob=1.0,
            rotate_range=(math.radians(self.augment.degrees),) + (0.0,) * (dims - 2),
            scale_range=(self.augment.scale,) * dims,
            mode=("bilinear", "nearest"),
            padding_mode="border",
            allow_missing_keys=True,
        )

    def _has_contrast(self, patch: Mapping[str, Tensor]) -> bool:
        return all(float(patch[key].std()) >= LEAST_DEVIATION for key in self.smooth if key in patch)

    def _dropped(self, patch: dict[str, Tensor], random: RandomState) -> dict[str, Tensor]:
        if self.augment.channel_dropout and "source" in patch:
            source = patch["source"].clone()
            slices = 1 + 2 * self.shape.neighbours if len(self.shape.extents) == 2 else 1
            for first in range(slices, len(source), slices):
                if random.random_sample() < self.augment.channel_dropout:
                    source[first : first + slices] = self.absent
            patch["source"] = source
        return patch


def _with_room(wanted: int, available: int) -> int:
    """An extent with room for what a rotation brings in, by an even number more: the middle stays on the voxels."""
    more = min(math.ceil((_ROOM - 1) * wanted), available - wanted)
    return wanted + more - more % 2


def _seed(random: RandomState) -> int:
    return int(random.randint(2**31 - 1))
