"""From slices to one grid: order, distances, tilt, gaps, doubles; exact or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import ORTHOGONAL_TOLERANCE, Affine
from SynthGANLib.io.dicom.header import Dataset, Header

# A slice may lie this far (mm) from its place on an even grid: headers often round positions to 0.1 mm.
POSITION_TOLERANCE = 0.06
# Positions closer than this (mm) are the same place.
SAME_PLACE = 0.01
# More frames in one file are a damaged header.
MAX_FRAMES = 100_000
# Orientation cosines that differ by less are the same plane (0.06 degrees).
SAME_PLANE = 1e-3


@dataclass(frozen=True)
class Frame:
    """One image of one file, with what its header says about its place and values."""

    header: Header
    index: int  # in its file
    position: tuple[float, ...]  # LPS mm of the first pixel's centre; empty if unknown
    orientation: tuple[float, ...]  # row and column direction cosines; empty if unknown
    pixel_spacing: tuple[float, ...]  # mm between rows, between columns; empty if unknown
    thickness: float | None
    rescale: tuple[float, float] | None  # slope, intercept; None if the header has neither
    rescale_type: str  # what the rescaled values are, like HU; often empty
    order: tuple[float, ...]  # acquisition, echo, time and instance numbers, to tell frames at one place apart

    @property
    def placed(self) -> bool:
        """True if position, orientation and pixel spacing are known."""
        return len(self.position) == 3 and len(self.orientation) == 6 and len(self.pixel_spacing) == 2

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.header.short(0x00280010) or 0, self.header.short(0x00280011) or 0


@dataclass(frozen=True)
class Stack:
    """Frames in the order of k, and the affine of their grid."""

    frames: tuple[Frame, ...]
    affine: Affine
    warnings: tuple[str, ...]


def frames_of(header: Header) -> list[Frame]:
    """The frames of a file: one, or those of a multiframe object with their functional groups."""
    count = int(header.number(0x00280008) or 1)
    if not 1 <= count <= MAX_FRAMES:
        raise InputError(f"The DICOM file '{header.path}' claims to hold {count} frames.", next_step="Export it again.")
    shared = header.first(0x52009229)
    own = header.items(0x52009230)
    return [_frame(header, index, shared, own[index] if index < len(own) else Dataset()) for index in range(count)]


def _frame(header: Header, index: int, shared: Dataset, own: Dataset) -> Frame:
    def group(sequence: int, tag: int) -> Dataset:
        """The dataset that holds ``tag``: the frame's own group, else the shared one, else the file."""
        for candidate in (own.first(sequence), shared.first(sequence)):
            if tag in candidate:
                return candidate
        return header

    content = own.first(0x00209111)
    measures = group(0x00289110, 0x00280030)
    values = group(0x00289145, 0x00281053)
    echo = group(0x00189114, 0x00189082)
    slope, intercept = values.number(0x00281053), values.number(0x00281052)
    order = (
        header.number(0x00200012) or 0.0,
        header.number(0x00200100) or 0.0,
        echo.double(0x00189082) or header.number(0x00180081) or 0.0,
        header.number(0x00200013) or 0.0,
        float(content.long(0x00209128) or 0),
        float(index),
    )
    return Frame(
        header=header,
        index=index,
        position=group(0x00209113, 0x00200032).floats(0x00200032),
        orientation=group(0x00209116, 0x00200037).floats(0x00200037),
        pixel_spacing=measures.floats(0x00280030) or header.floats(0x00181164),
        thickness=measures.number(0x00180088) or measures.number(0x00180050),
        rescale=None if slope is None and intercept is None else (1.0 if slope is None else slope, intercept or 0.0),
        rescale_type=values.text(0x00281054),
        order=order,
    )


def stack_frames(frames: Sequence[Frame], frame: int | None, same_pixels: Callable[[Frame, Frame], bool]) -> Stack:
    """Order the frames of one series on one grid.

    Args:
        frames: at least one.
        frame: which of several images at each place (time points, echoes) to take.
        same_pixels: tells whether two frames hold the same numbers.

    Raises:
        InputError: the frames lie on no even grid, or several images share each place and ``frame`` is None.
    """
    sizes = sorted({entry.size for entry in frames})
    if len(sizes) > 1:
        listed = ", ".join(f"{rows} x {columns}" for rows, columns in sizes)
        raise InputError(
            f"The series mixes images of different sizes ({listed}).",
            next_step="Export them as separate series and choose one.",
        )
    if not all(entry.placed for entry in frames):
        return _unplaced(frames, frame)
    _refuse_mixed_planes(frames)
    places, warnings = _places(frames, same_pixels)
    chosen = _choose(places, frame)
    affine, grid_warnings = _even_grid(chosen)
    return Stack(tuple(chosen), affine, warnings + grid_warnings)


def _unplaced(frames: Sequence[Frame], frame: int | None) -> Stack:
    """A single image without a full position, as secondary captures are."""
    if len(frames) > 1 and frame is None:
        raise InputError(
            f"The {len(frames)} images have no position in the patient, so they cannot be stacked.",
            next_step=(
                f"Pick one with frame=0 to {len(frames) - 1} (in the shell: --frame), "
                "or export the series with its positions."
            ),
        )
    ordered = sorted(frames, key=lambda entry: entry.order)
    chosen = ordered[_checked(frame or 0, len(ordered))]
    row_mm, column_mm = chosen.pixel_spacing if len(chosen.pixel_spacing) == 2 else (1.0, 1.0)
    affine = np.diag([column_mm, row_mm, chosen.thickness or 1.0, 1.0])
    return Stack((chosen,), affine, ("The image has no position in the patient; it was placed at the origin.",))


def _refuse_mixed_planes(frames: Sequence[Frame]) -> None:
    first = frames[0]
    planes: list[Frame] = []
    for entry in frames:
        if not any(np.abs(np.subtract(entry.orientation, plane.orientation)).max() < SAME_PLANE for plane in planes):
            planes.append(entry)
    if len(planes) > 1:
        raise InputError(
            f"The series holds images in {len(planes)} different planes, as a localiser does.",
            next_step="Choose another series, or export each plane as its own series.",
        )
    if any(np.abs(np.subtract(entry.pixel_spacing, first.pixel_spacing)).max() > 1e-4 for entry in frames):
        raise InputError(
            "The series mixes images of different pixel spacing.",
            next_step="Export them as separate series and choose one.",
        )


def _axes(frame: Frame) -> tuple[Affine, Affine, Affine]:
    """Unit vectors along a row (i), along a column (j) and normal to both."""
    row = np.asarray(frame.orientation[:3], np.float64)
    column = np.asarray(frame.orientation[3:], np.float64)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.5 or abs(row @ column) > 0.01 * lengths[0] * lengths[1]:
        raise InputError(
            f"The rows and columns of '{frame.header.path.name}' are not perpendicular: {frame.orientation}.",
            next_step="Export the series again.",
        )
    row, column = row / lengths[0], column / lengths[1]
    return row, column, np.cross(row, column)


def _places(
    frames: Sequence[Frame], same_pixels: Callable[[Frame, Frame], bool]
) -> tuple[list[list[Frame]], tuple[str, ...]]:
    """Frames grouped by place along the normal, identical copies dropped."""
    normal = _axes(frames[0])[2]
    along = [float(np.dot(entry.position, normal)) for entry in frames]
    ordered = sorted(range(len(frames)), key=lambda number: (along[number], frames[number].order))
    places: list[list[Frame]] = []
    copies = 0
    last = -np.inf
    for number in ordered:
        entry = frames[number]
        if along[number] - last > SAME_PLACE:
            places.append([entry])
            last = along[number]
        elif any(same_pixels(entry, other) for other in places[-1]):
            copies += 1
        else:
            places[-1].append(entry)
    warning = f"{copies} images were stored twice with the same numbers; each was used once."
    return places, (warning,) if copies else ()


def _choose(places: list[list[Frame]], frame: int | None) -> list[Frame]:
    """One frame for each place."""
    counts = {len(place) for place in places}
    if counts == {1}:
        if frame:
            raise InputError(
                f"There is no frame {frame}: the series has one image at each place.",
                next_step="Leave the frame out.",
            )
        return [place[0] for place in places]
    if len(counts) > 1:
        crowded = max(places, key=len)
        names = ", ".join(f"'{entry.header.path.name}'" for entry in crowded[:3])
        raise InputError(
            f"{len(crowded)} different images lie at {_where(crowded[0])} ({names}), unlike elsewhere.",
            next_step="Remove the ones that do not belong, or export each acquisition as its own series.",
        )
    count = counts.pop()
    if frame is None:
        raise InputError(
            f"The series holds {count} images at each of its {len(places)} places (times or echoes).",
            next_step=f"Pick one with frame=0 to {count - 1} (in the shell: --frame).",
        )
    number = _checked(frame, count)
    return [sorted(place, key=lambda entry: entry.order)[number] for place in places]


def _checked(frame: int, count: int) -> int:
    if not 0 <= frame < count:
        raise InputError(f"There is no frame {frame}.", next_step=f"Choose one from 0 to {count - 1}.")
    return frame


def _where(frame: Frame) -> str:
    x, y, z = frame.position
    return f"({x:g}, {y:g}, {z:g}) mm"


def _even_grid(frames: list[Frame]) -> tuple[Affine, tuple[str, ...]]:
    """The affine through the slices, refused if they are not evenly spaced along one line."""
    row, column, normal = _axes(frames[0])
    row_mm, column_mm = frames[0].pixel_spacing
    positions = np.array([entry.position for entry in frames], np.float64)  # (slices, 3)
    affine = np.eye(4)
    affine[:3, 0] = row * column_mm
    affine[:3, 1] = column * row_mm
    affine[:3, 3] = positions[0]
    if len(frames) == 1:
        affine[:3, 2] = normal * (frames[0].thickness or 1.0)
        unknown = "The single slice gives no thickness; 1 mm was assumed."
        return affine, () if frames[0].thickness else (unknown,)
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    even = positions[0] + np.arange(len(frames))[:, np.newaxis] * step
    off = float(np.linalg.norm(positions - even, axis=1).max())
    if off > max(POSITION_TOLERANCE, 0.01 * float(step @ normal)):
        _refuse_uneven(frames, positions, normal)
    affine[:3, 2] = step
    warnings = []
    if off > SAME_PLACE:
        warnings.append(f"Slices lie up to {off:.2f} mm from an even grid, as rounded headers do.")
    tilt = float(np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1.0, 1.0))))
    if np.sin(np.radians(tilt)) > ORTHOGONAL_TOLERANCE:
        warnings.append(f"The slices are stacked {tilt:.1f} degrees from their normal (tilted gantry); they stay so.")
    return affine, tuple(warnings)


def _refuse_uneven(frames: list[Frame], positions: Affine, normal: Affine) -> None:
    """Say which way the distances fail: slices missing, several blocks, or sideways shifts."""
    distances = np.diff(positions @ normal)
    sideways = np.diff(positions - np.outer(positions @ normal, normal), axis=0)
    ratios = distances / np.median(distances)
    whole = np.rint(ratios)
    if np.abs(ratios - whole).max() < 0.05 and whole.min() >= 1 and whole.max() > 1:
        gaps = np.flatnonzero(whole > 1)
        missing = int((whole - 1).sum())
        first = int(gaps[0])
        raise InputError(
            f"{missing} of {len(frames) + missing} slices are missing, the first between "
            f"{_where(frames[first])} and {_where(frames[first + 1])}.",
            next_step="Export or copy the complete series again.",
        )
    if np.ptp(distances) > POSITION_TOLERANCE:
        raise InputError(
            f"The slices are not evenly spaced: {_runs(distances)}.",
            next_step="Choose a series of one spacing, keep only the slices of one even part, or load "
            "the series in 3D Slicer with its regularising transform, harden it and save the volume.",
        )
    shift = np.linalg.norm(sideways - sideways.mean(axis=0), axis=1).max()
    raise InputError(
        f"The slices are shifted sideways by up to {shift:.2f} mm against an even stack.",
        next_step="Export the series again without per-slice corrections.",
    )


def _runs(distances: Affine, most: int = 4) -> str:
    """Distances in words, like '13 gaps of 4.00 mm, 1 of 1.08 mm'."""
    runs = [(float(mm), len(list(group))) for mm, group in groupby(np.round(distances, 2))]
    if len(runs) > most:
        return f"distances range from {distances.min():.2f} to {distances.max():.2f} mm"
    return ", then ".join(f"{count} gap{'s' * (count > 1)} of {mm:.2f} mm" for mm, count in runs)
