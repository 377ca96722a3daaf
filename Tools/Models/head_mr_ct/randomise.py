"""Domain randomisation: one training pair (MR, CT, tissue classes) drawn from a head's anatomy.

Every draw deforms the anatomy, splits soft tissue into fat and muscle, and gives the tissues either the signal of a
random clinical sequence or random brightness; then bias field, resolution, field of view, noise and gain. The idea is
SynthSeg's (Billot et al., Med Image Anal 86:102789, 2023), here with HU on the other side.
Shapes are (z,y,x); the voxels of a draw are `spacing` mm wide, one number for the whole draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from SynthGANLib.phantom.anatomy import CAVITY
from SynthGANLib.phantom.sequences import RANGES, drawn, signal
from SynthGANLib.phantom.tissues import (
    ARTERY,
    CANCELLOUS,
    CORTICAL,
    FAT,
    MUSCLE,
    SOFT,
    TISSUES,
)
from Tools.Models.head_mr_ct.heads import GRID_MM, Head

CLASSES = ("air", "fat", "soft tissue", "cancellous bone", "cortical bone")
CLASS_HU = (-1000.0, -95.0, 32.0, 350.0, 1150.0)
_N = CAVITY + 1
_HU = torch.tensor([t.hu for t in TISSUES] + [-1000.0])
_SPREAD = torch.tensor([t.hu_spread for t in TISSUES] + [3.0])
_T1 = torch.tensor([t.t1 for t in TISSUES] + [1.0])
_T2 = torch.tensor([t.t2 for t in TISSUES] + [1.0])
_PD = torch.tensor([t.pd for t in TISSUES] + [0.0])
_CLASS = torch.full((_N,), 2)
_CLASS[[0, CAVITY]] = 0
_CLASS[FAT] = 1
_CLASS[CANCELLOUS] = 3
_CLASS[CORTICAL] = 4


class Dice:
    """Random numbers from one explicit generator, for voxels of `spacing` mm."""

    def __init__(self, seed: int, spacing: float = GRID_MM) -> None:
        self.g = Generator().manual_seed(seed)
        self.spacing = spacing

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.g))

    def chance(self, p: float) -> bool:
        return float(torch.rand((), generator=self.g)) < p

    def integer(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.g))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.g)

    def field(self, shape: tuple[int, ...], scale: float) -> Tensor:
        """Smooth field (z,y,x), about zero mean and unit variance, features of `scale` mm."""
        knots = [max(2, math.ceil(n * self.spacing / scale) + 1) for n in shape]
        coarse = self.normal(1, 1, *knots) * 1.6  # linear interpolation takes about 0.6 of the deviation
        return F.interpolate(coarse, shape, mode="trilinear", align_corners=True)[0, 0]


@dataclass(frozen=True)
class Pair:
    """mr (z,y,x) scaled so that the brightest tissue is about 1; hu (z,y,x); classes (z,y,x) int64; weight (z,y,x)."""

    mr: Tensor
    hu: Tensor
    classes: Tensor
    weight: Tensor


def sample_points(head: Head, shape: tuple[int, int, int], dice: Dice, pull: tuple[float, float]) -> Tensor:
    """Positions (z,y,x,3) in voxels of the head, order z,y,x: a rotated, scaled, bent box about a body voxel."""
    size = torch.tensor(head.codes.shape, dtype=torch.float32)
    wanted = CORTICAL if dice.chance(0.5) else 0
    for _ in range(200):
        place = torch.tensor([dice.integer(int(n)) for n in size])
        code = int(head.codes[tuple(place.tolist())])
        if code == wanted or (wanted == 0 and code != 0):
            break
    # drawn towards the middle, so that the box holds more of the head than of the air around it
    centre = torch.lerp(place.float(), size / 2, dice.uniform(*pull))
    angles = [math.radians(dice.uniform(-a, a)) for a in (20.0, 12.0, 12.0)]
    step = dice.spacing / GRID_MM
    matrix = torch.diag(torch.tensor([step / dice.uniform(0.87, 1.13) for _ in range(3)]))
    for axis, angle in enumerate(angles):
        turn = torch.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    if dice.chance(0.5):
        matrix[2] = -matrix[2]  # left-right
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    bend = dice.uniform(0.5, 4.0) / GRID_MM if dice.chance(0.8) else 0.0
    points = []
    for row, middle in zip(matrix.tolist(), centre.tolist(), strict=True):
        parts = [slope * axis for slope, axis in zip(row, axes, strict=True)]
        line = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None] + middle
        points.append(line + bend * dice.field(shape, 28.0) if bend else line)
    return torch.stack(points, -1)


class Sampler:
    """Nearest values at fixed positions of a volume; zero outside it."""

    def __init__(self, points: Tensor, shape: torch.Size) -> None:
        index = points.round().to(torch.int32)
        limits = torch.tensor(shape, dtype=torch.int32)
        self.inside = ((index >= 0) & (index < limits)).all(-1)
        index = index.clamp_min(0).minimum(limits - 1)
        self.flat = (index[..., 0].long() * shape[1] + index[..., 1]) * shape[2] + index[..., 2]

    def take(self, volume: Tensor) -> Tensor:
        """Values (z,y,x) of `volume`, of its own type."""
        return torch.take(volume, self.flat) * self.inside


@dataclass(frozen=True)
class Contrasts:
    """A share `physical` of the draws follows the signal equation of one of `sequences`, the others are random.

    `marrow` is how many times its table value the proton density and the T2 of cancellous bone reach at most, since
    the skull's marrow ranges from red to fat; 1 keeps the table's. `trains` is the share of draws in which fat has the
    longer apparent T2 of fast spin echo trains (Henkelman et al., JMRI 2:533, 1992), `thick` that of thick slices.
    """

    physical: float = 0.7
    sequences: tuple[str, ...] = tuple(RANGES)
    marrow: float = 1.0
    trains: float = 0.0
    thick: float = 0.3


ANY = Contrasts()


def tissue_signal(share: Tensor, dice: Dice, contrasts: Contrasts = ANY) -> Tensor:
    """Signal (tissue,) of one draw, the brightest common tissue at about 1."""
    if dice.chance(contrasts.physical):
        sequence = drawn(contrasts.sequences[dice.integer(len(contrasts.sequences))], dice.uniform)
        jitter = [torch.exp(0.12 * dice.normal(_N)) for _ in range(3)]
        t1, t2, pd = _T1 * jitter[0], _T2 * jitter[1], _PD * jitter[2]
        if contrasts.marrow > 1.0:
            pd[CANCELLOUS] *= dice.uniform(0.7, contrasts.marrow)
            t2[CANCELLOUS] *= dice.uniform(0.8, contrasts.marrow)
        if contrasts.trains and dice.chance(contrasts.trains):
            t2[FAT] *= dice.uniform(1.2, 3.0)
        level = signal(sequence, t1, t2, pd, torch.exp)
    else:
        level = 0.08 + 0.92 * torch.rand(_N, generator=dice.g)
        level[CORTICAL] = dice.uniform(0.0, 0.16)
    if dice.chance(0.2):
        level[FAT] *= dice.uniform(0.05, 0.5)  # fat suppression
    if dice.chance(0.5):
        level[ARTERY] *= dice.uniform(0.0, 0.4)  # flow void
    level[0] = level[CAVITY] = 0.0
    common = level[(share > 0.004) | (torch.arange(_N) == FAT)]
    scaled: Tensor = level / common.max().clamp_min(1e-3)
    return scaled


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (z,y,x) with `sigma` voxels, edges replicated. Sums of shifted views: a convolution of one
    channel is several times slower on a CPU."""
    if sigma < 0.15:
        return x
    radius = max(1, math.ceil(2.5 * sigma))
    taps = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    for axis, n in enumerate(x.shape):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, n - 1, 1)
        padded = torch.cat([first] * radius + [x] + [last] * radius, axis)
        y = taps[0] / sum(taps) * padded.narrow(axis, 0, n)
        for i in range(1, len(taps)):
            y.add_(padded.narrow(axis, i, n), alpha=taps[i] / sum(taps))
        x = y
    return x


def acquire(mr: Tensor, dice: Dice, thick: float) -> Tensor:
    """Resolution, field of view and Rician noise of one acquisition; the result lies on the same grid."""
    shape = tuple(mr.shape)
    mr = blur(mr, dice.uniform(0.0, 1.0) / dice.spacing)
    acquired = list(shape)
    if dice.chance(thick):
        axis = 0 if dice.chance(0.6) else dice.integer(3)
        acquired[axis] = max(4, round(shape[axis] * dice.spacing / dice.uniform(1.6, 6.0)))
        mr = F.interpolate(mr[None, None], acquired, mode="area")[0, 0]
    sigma = dice.uniform(0.0, 0.045) if dice.chance(0.9) else dice.uniform(0.045, 0.09)
    mr = torch.hypot(mr + sigma * dice.normal(*acquired), sigma * dice.normal(*acquired))
    if tuple(acquired) != shape:
        mr = F.interpolate(mr[None, None], shape, mode="trilinear", align_corners=False)[0, 0]
    return mr


def draw_pair(
    head: Head,
    shape: tuple[int, int, int],
    seed: int,
    pull: tuple[float, float] = (0.2, 0.9),
    spacing: tuple[float, float] = (GRID_MM, GRID_MM),
    contrasts: Contrasts = ANY,
) -> Pair:
    """One pair on a (z,y,x) grid whose isotropic spacing lies within `spacing` mm, wholly determined by `seed`.

    `pull` is how far (0 to 1) the box's centre is drawn from a random body voxel to the middle of the head.
    """
    dice = Dice(seed)
    dice.spacing = dice.uniform(*spacing)
    sampler = Sampler(sample_points(head, shape, dice, pull), head.codes.shape)
    codes = sampler.take(head.codes).long()
    soft = codes == SOFT
    if bool(soft.any()):
        depth, eye = sampler.take(head.depth).float(), sampler.take(head.eye).float()
        tendency = 1.6 * torch.exp(-((depth / 5.0) ** 2)) + 2.5 * torch.exp(-((eye / 11.0) ** 2)) - 0.9
        split = dice.field(shape, 12.0) + tendency + dice.uniform(-0.5, 0.5) > 0
        codes = torch.where(soft, torch.where(split, FAT, MUSCLE), codes)

    level = tissue_signal(head.share, dice, contrasts)
    texture = dice.uniform(0.0, 0.10)
    mr = level[codes] * (1.0 + texture * dice.field(shape, 4.0) + 0.4 * texture * dice.normal(*shape)).clamp_min(0)
    mr = mr * torch.exp(dice.uniform(0.0, 0.3) * dice.field(shape, 60.0))
    mr = acquire(mr, dice, contrasts.thick)
    mr = dice.uniform(0.82, 1.2) * mr.clamp_min(1e-6) ** dice.uniform(0.85, 1.2)
    weight = torch.ones(shape)
    if dice.chance(0.12):  # the field of view ends inside the crop: nothing is seen, nothing is asked
        axis, keep = dice.integer(3), dice.uniform(0.6, 0.95)
        edge = [slice(None)] * 3
        n = round(shape[axis] * keep)
        edge[axis] = slice(n, None) if dice.chance(0.5) else slice(0, shape[axis] - n)
        mr[tuple(edge)] = 0.0
        weight[tuple(edge)] = 0.0

    offset = _HU + 0.3 * _SPREAD * dice.normal(_N)
    hu = offset[codes] + _SPREAD[codes] * (0.8 * dice.field(shape, 7.0))
    hu = blur(hu, dice.uniform(0.4, 0.6) / dice.spacing)
    classes = _CLASS[codes]
    weight = weight * torch.tensor([0.2, 1.0, 1.0, 2.0, 2.5])[classes]
    weight = torch.where((codes == CAVITY) & (weight > 0), 2.5, weight)
    return Pair(mr, hu, classes, weight)
