"""Do the pairs of a data list belong together? Looked at before a training that would learn their mistakes.

Per case: are the grids the same, do gray values explain each other best where the images lie (normalised mutual
information of Studholme et al., Pattern Recognition 32:71, 1999, over small shifts), and do edges meet edges. Cases
far from the rest by a robust z-score are listed; what cannot be trained on at all is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from SynthGANLib.data.cases import UNMASKED, Loaded, Spatial, load_case
from SynthGANLib.data.datalist import Case, DataList
from SynthGANLib.data.faults import Progress, all_of
from SynthGANLib.errors import CancelledError, InputError
from SynthGANLib.evaluation.without_reference import (
    BINS,
    edge_agreement,
    grey_levels,
    normalised_mutual_information,
)
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume

OUTLIER = 3.5
"""Robust z-score beyond which a case is listed (Iglewicz and Hoaglin, 1993)."""

REACH = 12
"""Voxels to each side, in a slice, within which a better place is looked for."""

CLEARLY_BETTER = 0.05
"""A shift counts when it raises the information that the images share by this part."""

_POINTS = 60_000
_MAD = 0.6745  # median absolute deviation of a standard normal distribution


@dataclass(frozen=True)
class PairResult:
    """What was found for one case.

    Attributes:
        case: its name. size: extents (z, y, x).
        nmi: normalised mutual information in place, 1 (independent) to 2 (each explains the other).
        best_nmi, shift: the highest within reach, and the shift (z, y, x) in voxels that takes the source there.
        shift_mm: the length of that shift.
        edges: mean squared cosine between the gradients where both images have edges, 0 to 1; by chance 0.5 in a
            slice and 1/3 in a volume; NaN where there is no such place.
        notes: of loading. suspect: reasons to look at the pair, empty for a good one.
    """

    case: str
    size: tuple[int, int, int]
    nmi: float
    best_nmi: float
    shift: tuple[int, int, int]
    shift_mm: float
    edges: float
    notes: tuple[str, ...] = ()
    suspect: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairReport:
    """All cases of a list, in its order."""

    name: str
    results: tuple[PairResult, ...]

    @property
    def outliers(self) -> tuple[PairResult, ...]:
        """The cases with a reason to be looked at."""
        return tuple(result for result in self.results if result.suspect)

    def to_json(self) -> dict[str, Any]:
        """Every number, ready for ``json.dumps``."""
        rows = [asdict(result) for result in self.results]
        for row in rows:  # JSON has no NaN, which says that nowhere both images have edges
            row["edges"] = row["edges"] if np.isfinite(row["edges"]) else None
        return {"name": self.name, "cases": rows}

    def table(self) -> str:
        """One line per case, and beneath it what is wrong with it."""
        width = max([4, *(len(result.case) for result in self.results)])
        lines = [f"{'case':<{width}}    NMI   best  shift z,y,x      mm  edges"]
        for result in self.results:
            shift = ",".join(str(step) for step in result.shift)
            numbers = f"{result.nmi:5.3f}  {result.best_nmi:5.3f}  {shift:>11}  {result.shift_mm:6.1f}"
            lines.append(f"{result.case:<{width}}  {numbers}  {result.edges:5.3f}")
            lines += [f"    ! {reason}" for reason in result.suspect]
            lines += [f"    {note}" for note in result.notes]
        count = len(self.outliers)
        verdict = f"{count} of {len(self.results)} pairs should be looked at." if count else "No pair stands out."
        return "\n".join([*lines, verdict])


def check_pairs(
    data: DataList,
    spatial: Spatial | None = None,
    *,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> PairReport:
    """Look at every pair of a list, training and validation, on the grid it will be trained on.

    Args:
        data: the list; its one-sided cases are passed over.
        spatial: as for the training's `Feed`.
        progress: told (cases done, cases in all). cancel: asked before each case; true ends the check.

    Raises:
        InputError: cases that cannot be trained on: unreadable, broken values, empty mask, constant, or source and
            target at different places; all of them are counted and the first are named.
        CancelledError: `cancel` returned true.
    """
    cases = [case for case in (*data.training, *data.validation) if case.paired]
    if not cases:
        raise InputError(f"The data list '{data.name}' has no pairs to check.", next_step="Give a paired list.")

    def look(case: Case) -> PairResult:
        return compared(load_case(case, data, spatial))

    def asked() -> None:
        if cancel is not None and cancel():
            raise CancelledError("The check of the pairs was cancelled.")

    results = all_of([partial(look, case) for case in cases], noun="pairs", progress=progress, cancel=asked)
    return judged(data.name, results)


CaseHook = Callable[[Loaded], Loaded]
"""Takes a case as it was read, before it is scaled, and returns it."""


def do_nothing(loaded: Loaded) -> Loaded:
    """A hook that does nothing."""
    return loaded


class Comparison:
    """A hook that compares the sides of pairs: a check beside a loading that is needed anyway."""

    def __init__(self) -> None:
        self._results: list[PairResult] = []

    def __call__(self, loaded: Loaded) -> Loaded:
        if loaded.source is not None and loaded.target is not None:
            self._results.append(compared(loaded))
        return loaded

    def report(self, name: str) -> PairReport:
        """What was found of the list `name`."""
        return judged(name, self._results)


def compared(loaded: Loaded) -> PairResult:
    """The numbers of one pair that is in memory, not yet judged; InputError if it is none or an image is constant."""
    source, target = loaded.source, loaded.target
    if source is None or target is None:
        raise InputError(f"Case '{loaded.case.name}' is no pair.", next_step="Give it both sides.")
    fixed, moving = _grey(source, loaded.case), _grey(target, loaded.case)
    nmi = _Information(fixed, moving, loaded.source_body)
    best, shift = nmi.best()
    mm = float(np.linalg.norm(np.asarray(shift[::-1]) * np.asarray(source.spacing)))
    here = nmi.at((0, 0, 0))
    edges = edge_agreement(fixed, moving)
    return PairResult(loaded.case.name, source.shape, here, best, shift, mm, edges, loaded.notes)


def _grey(volume: Volume, case: Case) -> Array:
    """float32 (z, y, x): channels averaged; landmark channels summed, so that none hides another."""
    array = volume.array.astype(np.float32)
    if array.ndim == 4:
        weights = np.arange(1, array.shape[-1] + 1) if volume.unit == "label" else np.ones(array.shape[-1])
        array = (array * weights.astype(np.float32)).mean(axis=-1, dtype=np.float32)
    if array.min() == array.max() and volume.unit not in UNMASKED:
        raise InputError(f"Case '{case.name}': every voxel is {array.min():g}.", next_step="Leave the case out.")
    return array


class _Information:
    """Normalised mutual information of two images (z, y, x) at shifts of one against the other.

    The same regularly chosen points count at every shift, all of them where every shift stays inside the image.
    """

    def __init__(self, fixed: Array, moving: Array, body: Array | None) -> None:
        self._fixed, self._moving = grey_levels(fixed), grey_levels(moving)
        self.reach = tuple(
            min(most, (extent - 1) // 4) for extent, most in zip(fixed.shape, (2, REACH, REACH), strict=True)
        )
        inner = np.zeros(fixed.shape, bool)
        inner[tuple(slice(r, extent - r) for r, extent in zip(self.reach, fixed.shape, strict=True))] = True
        if body is not None:
            inner &= _around(body, self.reach)
        flat = np.flatnonzero(inner)
        # A random choice, always the same: a regular one would fall into step with the rows of the image.
        if flat.size > _POINTS:
            flat = np.sort(np.random.default_rng(0).choice(flat, _POINTS, replace=False))
        self._points = flat
        self._values = self._moving.reshape(-1)[flat]
        self._known: dict[tuple[int, int, int], float] = {}

    def at(self, shift: tuple[int, int, int]) -> float:
        """The information when the source's voxel at p + shift is laid on the target's at p."""
        if shift not in self._known:
            _, rows, columns = self._fixed.shape
            offset = (shift[0] * rows + shift[1]) * columns + shift[2]
            joint = np.bincount(
                self._fixed.reshape(-1)[self._points + offset].astype(np.intp) * BINS + self._values,
                minlength=BINS * BINS,
            ).reshape(BINS, BINS)
            self._known[shift] = normalised_mutual_information(joint)
        return self._known[shift]

    def best(self) -> tuple[float, tuple[int, int, int]]:
        """The highest information within reach and its shift: every third voxel, then all around the best."""
        deep, down, across = self.reach
        coarse = [(0, y, x) for y in _steps(down, 3) for x in _steps(across, 3)]
        top = max(coarse, key=self._preference)
        for _ in range(3):  # to the summit next to it
            near = [
                (z, y, x)
                for z in range(-deep, deep + 1)
                for y in range(max(-down, top[1] - 2), min(down, top[1] + 2) + 1)
                for x in range(max(-across, top[2] - 2), min(across, top[2] + 2) + 1)
            ]
            higher = max(near, key=self._preference)
            if higher == top:
                break
            top = higher
        return self.at(top), top

    def _preference(self, shift: tuple[int, int, int]) -> tuple[float, int]:
        return self.at(shift), -sum(abs(step) for step in shift)


def _steps(reach: int, step: int) -> list[int]:
    return [place for place in range(-reach, reach + 1) if place % step == 0]


def _around(body: Array, reach: tuple[int, ...]) -> Array:
    """The box around the body, widened by the reach: the body's outline tells most about a shift."""
    box = np.zeros_like(body)
    window = []
    for axis, wide in enumerate(reach):
        used = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        window.append(slice(max(0, int(used[0]) - wide), int(used[-1]) + 1 + wide))
    box[tuple(window)] = True
    return box


def judged(name: str, results: Sequence[PairResult]) -> PairReport:
    """The report on the list `name`: each pair's numbers (from `compared`) against those of the others."""
    low_nmi = _robust([result.nmi for result in results], 0.005)
    low_edges = _robust([result.edges for result in results], 0.03)
    far = _robust([result.shift_mm for result in results], 1.0)
    found = []
    for result, nmi, edges, shift in zip(results, low_nmi, low_edges, far, strict=True):
        reasons = []
        if nmi < -OUTLIER:
            reasons.append(f"The images share far less information than those of the other pairs (z = {nmi:.1f}).")
        if edges < -OUTLIER:
            reasons.append(f"Edges meet far less often than in the other pairs (z = {edges:.1f}).")
        gain = (result.best_nmi - result.nmi) / max(result.nmi - 1.0, 1e-6)
        if max(abs(step) for step in result.shift) >= 2 and gain > CLEARLY_BETTER:
            beyond = f" (z = {shift:.1f} among the pairs)" if shift > OUTLIER else ""
            reasons.append(
                f"The images fit better by {gain:.0%} when shifted by {result.shift_mm:.1f} mm, "
                f"{result.shift} voxels (z, y, x){beyond}."
            )
        found.append(replace(result, suspect=tuple(reasons)))
    return PairReport(name, tuple(found))


def _robust(values: Sequence[float], floor: float) -> Array:
    """Deviations from the median in units of the scaled median absolute deviation, which counts as at least `floor`.

    The floor is what the measure varies by between slices of one well registered patient; 0 for NaN.
    """
    array = np.asarray(values, np.float64)
    known = array[np.isfinite(array)]
    if known.size == 0:
        return np.zeros(array.shape)
    middle = float(np.median(known))
    spread = float(np.median(np.abs(known - middle))) / _MAD
    return np.nan_to_num((array - middle) / max(spread, floor))
