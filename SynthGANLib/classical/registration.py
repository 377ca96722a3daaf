"""Registration of one MR onto another: rigid, affine, then a B-spline or symmetric demons (SimpleITK).

Mattes' mutual information (IEEE TMI 22:120, 2003) on a seeded sample of the voxels around the body; B-splines after
Rueckert et al. (IEEE TMI 18:712, 1999), demons after Thirion (Med Image Anal 2:243, 1998). A step that ends worse than
it began is left out, so what comes back is never worse than no registration at all.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from SynthGANLib.errors import CancelledError

DEFORMATIONS = ("bspline", "demons", "none")
PYRAMID = (4, 2, 1)
KNOTS_MM = (50.0, 25.0)
MARGIN_MM = 10.0
"""How far around the body the match is judged: its outline is a good part of what tells two heads apart."""
LINEAR_SAMPLES, SPLINE_SAMPLES = 10_000, 60_000
"""Voxels a match is judged by at least, where there are so many: fewer tell thousands of knots too little."""
WORSE = 0.02
"""Share of the score by which a step must be worse to have diverged; one that changes nothing is no failure."""
LEAST_OVERLAP = 0.5
"""Share of the overlap at the start that must be left: fewer voxels in common are easily matched better."""
FEWEST = 16
"""Voxels along an axis that a level of the pyramid keeps."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """ITK computes with one thread: the sums of several come in any order, and differ in their last bits."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@dataclass(frozen=True)
class Settings:
    """`deformable`: one of DEFORMATIONS; `iterations` of every level of it; seed of the voxels sampled."""

    deformable: str = "bspline"
    iterations: int = 15
    seed: int = 0
    bins: int = 50
    sampling: float = 0.2


@dataclass(frozen=True, eq=False)
class Match:
    """`transform` takes points of the fixed image to the moving one; `score` is the metric's value (lower is better,
    infinite without overlap); `warnings` names the steps left out, a clause each."""

    transform: Any
    score: float
    warnings: tuple[str, ...]


class Watch:
    """Asks at every iteration of an ITK process whether to go on, counts the iterations, and ends the process."""

    def __init__(self, process: Any, cancel: Callable[[], bool]) -> None:
        self.cancelled = False
        self._process = process
        self._cancel = cancel
        self._hook: Any = None
        process.AddCommand(sitk.sitkIterationEvent, self._ask)

    def _ask(self) -> None:
        if not self.cancelled and self._cancel():
            self.cancelled = True
            self._end()

    def _end(self) -> None:
        if not isinstance(self._process, sitk.ImageRegistrationMethod):
            self._process.Abort()
        elif not self._process.StopRegistration():
            # L-BFGS-B cannot be asked to stop. An error in its command ends it; Python would print it as unhandled.
            self._hook, sys.excepthook = sys.excepthook, lambda *_: None
            raise RuntimeError("cancelled")

    def execute(self, *images: Any) -> Any:
        """Run the process; CancelledError when it was told to end."""
        try:
            result = self._process.Execute(*images)
        except RuntimeError:
            if not self.cancelled:
                raise
        finally:
            if self._hook is not None:
                sys.excepthook = self._hook
        if self.cancelled:
            raise CancelledError("The registration was cancelled.", next_step="Start it again when wanted.")
        return result


class _Best:
    """Remembers the best place that a descent came through on its last level: it may well leave it again."""

    def __init__(self, method: Any, level: int) -> None:
        self.place: tuple[float, ...] | None = None
        self._value = np.inf
        self._next: tuple[float, ...] | None = None
        self._method = method
        self._level = level
        method.AddCommand(sitk.sitkIterationEvent, self._look)

    def _look(self) -> None:
        if self._method.GetCurrentLevel() < self._level:
            return
        value = float(self._method.GetMetricValue())
        if self._next is not None and value < self._value:
            self._value, self.place = value, self._next
        self._next = self._method.GetOptimizerPosition()  # the step is made, its value comes with the next one


class Registrar:
    """Registers moving images onto one `fixed` image (float32), judged around `mask` (z, y, x).

    `advance` is told the share done of one registration after every step of it, `cancel` is asked at every iteration.
    """

    def __init__(
        self,
        fixed: Any,
        mask: NDArray[np.bool_],
        settings: Settings,
        *,
        advance: Callable[[float], None],
        cancel: Callable[[], bool],
    ) -> None:
        self._fixed = fixed
        self._settings = settings
        self._advance = advance
        self._cancel = cancel
        self._mask = None if mask.all() else _widened(mask, fixed)
        self._shrink = [max(1, min(factor, min(fixed.GetSize()) // FEWEST)) for factor in PYRAMID]

    def register(self, moving: Any) -> Match:
        """Bring `moving` (float32) onto the fixed image.

        Raises:
            CancelledError: `cancel` answered true.
        """
        steps: list[tuple[str, Callable[[Any, Any], Any]]] = [("rigid", self._rigid), ("affine", self._affine)]
        if self._settings.deformable == "bspline":
            for knots in KNOTS_MM:
                steps.append((f"{knots:g} mm B-spline", self._spline(knots)))
        elif self._settings.deformable == "demons":
            steps.append(("demons", self._demons))
        best, score = self._start(moving)
        overlap = self._overlap(moving, best)
        warnings = []
        for number, (name, run) in enumerate(steps):
            if self._cancel():
                raise CancelledError("The registration was cancelled.", next_step="Start it again when wanted.")
            found, value, reason = best, np.inf, "made the match worse"
            try:
                found = run(moving, best)
                value = self._score(moving, found)
                if self._overlap(moving, found) < LEAST_OVERLAP * overlap:
                    value, reason = np.inf, "drove the images apart"
            except RuntimeError as error:  # ITK's way to say that an optimisation led nowhere
                reason = _failure(error)
            if value <= score:
                best, score = found, value
            elif not value <= score + WORSE * abs(score):
                warnings.append(f"its {name} registration {reason} and was left out")
            self._advance((number + 1) / len(steps))
        return Match(best, score, tuple(warnings))

    def _start(self, moving: Any) -> tuple[Any, float]:
        """The better of no movement and equal centres of mass, as a rigid transform, and its score."""
        middle = [0.5 * (n - 1) for n in self._fixed.GetSize()]
        still = sitk.Euler3DTransform()
        still.SetCenter(self._fixed.TransformContinuousIndexToPhysicalPoint(middle))
        candidates = [still]
        try:
            kind = sitk.CenteredTransformInitializerFilter.MOMENTS
            moved = sitk.CenteredTransformInitializer(self._fixed, moving, sitk.Euler3DTransform(), kind)
            candidates.append(sitk.Euler3DTransform(moved))
        except RuntimeError as error:  # an empty image has no centre of mass
            _failure(error)
        scores = [self._score(moving, candidate) for candidate in candidates]
        best = int(np.argmin(scores))
        return candidates[best], scores[best]

    def _score(self, moving: Any, transform: Any) -> float:
        """The metric as the optimisers see it, at points between the voxels: on the voxels themselves, grids that
        coincide seem to match better than they do. ITK evaluates it so only in a search over a single place."""
        method = self._method([1], SPLINE_SAMPLES)
        method.SetMovingInitialTransform(transform)
        method.SetInitialTransform(sitk.TranslationTransform(3))
        method.SetOptimizerAsExhaustive([0, 0, 0])
        try:
            method.Execute(self._fixed, moving)
            value = float(method.GetMetricValue())
        except RuntimeError as error:  # the images do not overlap, or one is constant
            _failure(error)
            return float("inf")
        return value if np.isfinite(value) else float("inf")

    def _overlap(self, moving: Any, transform: Any) -> float:
        """Share of the judged voxels, every fourth along each axis, that lie within the moving image."""
        coarse = sitk.Shrink(self._fixed, [min(4, n) for n in self._fixed.GetSize()])
        inside = sitk.GetArrayFromImage(covered(moving, coarse, transform))
        if self._mask is None:
            return float(inside.mean())
        judged = sitk.GetArrayFromImage(sitk.Resample(self._mask, coarse, sitk.Transform(), sitk.sitkNearestNeighbor))
        return float(inside[judged > 0].mean()) if (judged > 0).any() else 0.0

    def _method(self, shrink: Sequence[int], fewest: int = LINEAR_SAMPLES) -> Any:
        share = max(self._settings.sampling, fewest / int(np.prod(self._fixed.GetSize())))
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(self._settings.bins)
        method.SetMetricSamplingStrategy(method.RANDOM)
        # ITK takes a seed of 0 for the clock
        method.SetMetricSamplingPercentage(min(1.0, share), self._settings.seed + 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetShrinkFactorsPerLevel(list(shrink))
        method.SetSmoothingSigmasPerLevel([0.5 * factor if factor > 1 else 0.0 for factor in shrink])
        method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
        if self._mask is not None:
            method.SetMetricFixedMask(self._mask)
        return method

    def _linear(self, moving: Any, transform: Any) -> Any:
        method = self._method(self._shrink)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=2.0, minStep=1e-2, numberOfIterations=200, gradientMagnitudeTolerance=1e-8
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, True)
        best = _Best(method, len(self._shrink) - 1)
        Watch(method, self._cancel).execute(self._fixed, moving)
        if best.place is not None:
            transform.SetParameters(best.place)
        return transform

    def _rigid(self, moving: Any, start: Any) -> Any:
        return self._linear(moving, sitk.Euler3DTransform(start))

    def _affine(self, moving: Any, start: Any) -> Any:
        affine = sitk.AffineTransform(3)
        affine.SetCenter(start.GetCenter())
        affine.SetMatrix(start.GetMatrix())
        affine.SetTranslation(start.GetTranslation())
        return self._linear(moving, affine)

    def _spline(self, knots: float) -> Callable[[Any, Any], Any]:
        def run(moving: Any, start: Any) -> Any:
            image = self._fixed
            mesh = [max(1, round(n * mm / knots)) for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)]
            spline = sitk.BSplineTransformInitializer(image, mesh, 3)
            method = self._method([self._shrink[1]] if knots == KNOTS_MM[0] else [1], SPLINE_SAMPLES)
            method.SetMovingInitialTransform(start)
            method.SetInitialTransform(spline, True)
            turns = self._settings.iterations
            method.SetOptimizerAsLBFGSB(
                gradientConvergenceTolerance=1e-5,
                numberOfIterations=turns,
                maximumNumberOfFunctionEvaluations=2 * turns,
                costFunctionConvergenceFactor=1e9,
            )
            Watch(method, self._cancel).execute(image, moving)
            # as a field of shifts, since the next spline needs derivatives that ITK's own splines do not give
            field = sitk.TransformToDisplacementField(
                spline,
                sitk.sitkVectorFloat64,
                image.GetSize(),
                image.GetOrigin(),
                image.GetSpacing(),
                image.GetDirection(),
            )
            return sitk.CompositeTransform([start, sitk.DisplacementFieldTransform(field)])  # the last is applied first

        return run

    def _demons(self, moving: Any, start: Any) -> Any:
        warped = sitk.Resample(moving, self._fixed, start, sitk.sitkLinear, 0.0)
        field = None
        for factor in dict.fromkeys(self._shrink):
            fixed, other = _shrunk(self._fixed, factor), _shrunk(warped, factor)
            if field is None:
                field = sitk.Image(fixed.GetSize(), sitk.sitkVectorFloat64)
                field.CopyInformation(fixed)
            else:
                field = sitk.Resample(field, fixed)
            demons = sitk.SymmetricForcesDemonsRegistrationFilter()
            demons.SetNumberOfIterations(self._settings.iterations)
            demons.SetSmoothDisplacementField(True)
            demons.SetStandardDeviations(2.0)
            field = Watch(demons, self._cancel).execute(fixed, other, field)
        field = sitk.Resample(field, self._fixed)
        shift = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
        return sitk.CompositeTransform([start, shift])


def covered(moving: Any, fixed: Any, transform: Any) -> Any:
    """1 where a voxel of the fixed grid comes to lie within the moving image, else 0 (uint8)."""
    ones = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(moving)
    return sitk.Resample(ones, fixed, transform, sitk.sitkNearestNeighbor, 0)


def _widened(mask: NDArray[np.bool_], like: Any) -> Any:
    """The mask grown by MARGIN_MM, as an image on the grid of `like`."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.CopyInformation(like)
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return sitk.Cast(distance <= MARGIN_MM, sitk.sitkUInt8)


def _shrunk(image: Any, factor: int) -> Any:
    if factor == 1:
        return image
    return sitk.Shrink(sitk.DiscreteGaussian(image, [(0.5 * factor) ** 2] * 3, 32, [0.01] * 3, False), [factor] * 3)


def _failure(error: RuntimeError) -> str:
    """What ITK says went wrong, as a clause; running out of memory is no failed match and is passed on."""
    text = " ".join(str(error).split())
    if "alloc" in text.lower():
        raise MemoryError(text) from error
    reason = text.rsplit("): ", 1)[-1].rstrip(".")
    return f"failed ({reason[:160]})"
