"""A head drawn from nothing: the phantom's own anatomy, a random family of arranged tissues.

Positions are LPS mm with the origin in the middle of the head: x to the left, y to the back, z up. Sizes are those of
an adult head (NASA-STD-3000, anthropometry: breadth about 155 mm, length about 195 mm), varied by the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom import tissues as t
from SynthGANLib.phantom.anatomy import distance_mm, fat_tendency, smooth_field

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

EYES = ((32.0, -69.0, -8.0), (-32.0, -69.0, -8.0))  # centres of globes of 24 mm
BRAIN = (t.GREY, t.WHITE, t.CEREBELLUM, t.BRAINSTEM, t.DEEP_GREY, t.CSF)
INNER_TABLE_MM = 2.0


@dataclass(frozen=True)
class Space:
    """Coordinates x, y, z in mm (broadcastable to (z,y,x)) of a drawing."""

    x: FloatArray
    y: FloatArray
    z: FloatArray
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    size_mm: tuple[float, float, float]  # as asked for; the same at every spacing

    def field(self, scale_mm: float, rng: np.random.Generator) -> FloatArray:
        """A smooth random field (z,y,x) that is the same at every spacing."""
        return smooth_field(self.shape, self.spacing, scale_mm, rng, self.size_mm)

    def ellipsoid(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> FloatArray:
        """Radius (z,y,x) in units of the ellipsoid's own: below 1 inside."""
        parts = [((v - c) / r) ** 2 for v, c, r in zip((self.x, self.y, self.z), centre, radii, strict=True)]
        radius: FloatArray = np.sqrt(parts[0] + parts[1] + parts[2], dtype=np.float32)
        return radius


def _space(spacing: float, size_mm: tuple[float, float, float]) -> tuple[Space, NDArray[np.float64]]:
    counts = tuple(max(8, round(s / spacing)) for s in size_mm)  # x,y,z
    axes = [((np.arange(n) - (n - 1) / 2) * spacing).astype(np.float32) for n in counts]
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [float(a[0]) for a in axes]
    shape = (counts[2], counts[1], counts[0])
    return (
        Space(axes[0][None, None], axes[1][None, :, None], axes[2][:, None, None], shape, (spacing,) * 3, size_mm),
        affine,
    )


def _outline(s: Space, scale: FloatArray) -> tuple[BoolArray, FloatArray]:
    """The head's outside and the cranium's own radius."""
    cranium = s.ellipsoid((0, 6, 22), (76 * scale[0], 96 * scale[1], 84 * scale[2]))
    face = s.ellipsoid((0, -38, -42), (58 * scale[0], 52 * scale[1], 74 * scale[2]))
    neck = np.sqrt((s.x / 56) ** 2 + ((s.y - 18) / 60) ** 2) + 0.0 * s.z
    nose = s.ellipsoid((0, -92 * scale[1], -34), (13, 16, 22))
    ears = np.minimum(
        s.ellipsoid((80 * scale[0], 14, -14), (6, 14, 26)),
        s.ellipsoid((-80 * scale[0], 14, -14), (6, 14, 26)),
    )
    lids = np.minimum(*(s.ellipsoid(eye, (15, 15, 15)) for eye in EYES))
    head = (cranium < 1) | (face < 1) | ((neck < 1) & (s.z < -30)) | (nose < 1) | (ears < 1) | (lids < 1)
    return head, cranium


def _brain(s: Space, codes: NDArray[np.uint8], inner: BoolArray, rng: np.random.Generator) -> None:
    """Fill the inside of the skull: CSF, folded cortex, white matter, ventricles, nuclei, cerebellum, stem."""
    depth = distance_mm(~inner, s.spacing)
    codes[inner] = t.CSF
    folds = s.field(9.0, rng)
    brain = inner & (depth > 2.5 + 0.8 * folds)
    tentorium = (s.z < -22 + 0.15 * s.y) & (s.y > 18)
    fissure = (np.abs(s.x) < 1.4) & (s.z > 10) & (s.ellipsoid((0, 8, 10), (200, 62, 42)) > 1)
    cortex_depth = distance_mm(~brain | np.broadcast_to(fissure, s.shape), s.spacing)
    codes[brain] = t.GREY
    codes[brain & (cortex_depth > 4.5 + 4.0 * np.maximum(folds, -0.7))] = t.WHITE
    codes[brain & fissure] = t.CSF  # between the hemispheres, above the corpus callosum
    low = brain & tentorium
    codes[low] = t.CEREBELLUM
    codes[low & (distance_mm(~low, s.spacing) > 11 + 3 * folds)] = t.WHITE
    codes[low & (np.abs(s.z + 22 - 0.15 * s.y) < 1.5)] = t.CSF
    for side in (-1, 1):
        nuclei = [((16.0, -4.0, 16.0), (9.0, 20.0, 10.0)), ((12.0, 18.0, 16.0), (9.0, 13.0, 9.0))]
        for (cx, cy, cz), radii in nuclei:
            codes[brain & (s.ellipsoid((side * cx, cy, cz), radii) < 1)] = t.DEEP_GREY
        horn = np.minimum(
            s.ellipsoid((side * 9.0, -6.0, 30.0), (4.5, 26.0, 6.0)),
            s.ellipsoid((side * 20.0, 40.0, 18.0), (5.0, 18.0, 8.0)),
        )
        codes[brain & (horn < rng.uniform(0.9, 1.15))] = t.CSF
    codes[brain & (s.ellipsoid((0, 14, 14), (2.0, 14.0, 9.0)) < 1)] = t.CSF
    stem = (np.sqrt((s.x / 13) ** 2 + ((s.y - 14 - 0.12 * (s.z + 20)) / 13) ** 2) < 1) & (s.z < 2) & (s.z > -62)
    codes[inner & stem] = t.BRAINSTEM


def _openings(s: Space, codes: NDArray[np.uint8], deep: BoolArray, forehead: float, rng: np.random.Generator) -> None:
    """Air and what surrounds it: sinuses, nose, throat, ear canals, mastoid cells; eyes in their orbits.

    `forehead` is where (y) the outer table of the frontal bone begins.
    """
    mucosa = s.ellipsoid((0, -56, -38), (15, 27, 20)) < 1
    codes[deep & mucosa] = t.MUCOSA
    turbinates = s.field(7.0, rng)
    codes[deep & mucosa & (turbinates > 0.3)] = t.AIR
    for side in (-1, 1):
        sinus = s.ellipsoid((side * 30, -62, -42), (14, 16, 17))
        codes[deep & (sinus < 1.16)] = t.CORTICAL
        codes[deep & (sinus < 1)] = t.AIR
        socket = s.ellipsoid((side * 32, -68, -8), (19, 24, 18))
        codes[deep & (socket < 1.14)] = t.CORTICAL
        codes[(socket < 1) | ((s.ellipsoid((side * 32, -90, -8), (17, 14, 14)) < 1) & deep)] = t.FAT
        for angle in (-1, 1):
            band = (np.abs(s.x - side * (30 - 0.25 * (s.y + 60))) < 2.2) & (np.abs(s.z + 8 - angle * 9) < 2.2)
            codes[band & (socket < 1) & (s.y > -74)] = t.MUSCLE
        canal = (np.sqrt((s.y - 14) ** 2 + (s.z + 18) ** 2) < 3.6) & (side * s.x > 42)
        petrous = s.ellipsoid((side * 48, 20, -22), (26, 13, 13))
        codes[deep & (petrous < 1)] = t.CORTICAL
        codes[canal] = t.AIR
        cells = s.field(5.0, rng)
        mastoid = s.ellipsoid((side * 58, 30, -30), (13, 13, 19)) < 1
        codes[deep & mastoid] = np.where(cells[deep & mastoid] > 0.15, t.AIR, t.CORTICAL)
    for eye in EYES:
        codes[s.ellipsoid(eye, (12, 12, 12)) < 1] = t.EYE
    frontal = (0.0, forehead + 8.5, 14.0)  # the sinus with walls of 2 mm, the outer one the outer table
    codes[deep & (s.ellipsoid(frontal, (24, 8.5, 15)) < 1)] = t.CORTICAL
    codes[deep & (s.ellipsoid(frontal, (22, 6.5, 13)) < 1)] = t.AIR
    sphenoid = s.ellipsoid((0, -32, -22), (15, 13, 11))
    codes[deep & (sphenoid < 1.16)] = t.CORTICAL
    codes[deep & (sphenoid < 1)] = t.AIR
    throat = (np.sqrt((s.x / 10) ** 2 + ((s.y + 24 - 0.1 * (s.z + 60)) / 8) ** 2) < 1) & (s.z < -46)
    codes[deep & throat] = t.AIR


def _neck_and_jaw(s: Space, codes: NDArray[np.uint8], deep: BoolArray) -> None:
    """Mandible, vertebrae with discs, cord, and the great vessels of the neck."""
    arch = np.abs(np.sqrt((s.x / 0.78) ** 2 + ((s.y + 36) * 1.0) ** 2) - 50)
    jaw = (arch < 6) & (s.y < -22) & (np.abs(s.z + 92) < 13)
    codes[deep & jaw] = t.CORTICAL
    codes[deep & (arch < 3.2) & (s.y < -22) & (np.abs(s.z + 92) < 10)] = t.CANCELLOUS
    teeth = (np.abs(np.sqrt((s.x / 0.7) ** 2 + (s.y + 42) ** 2) - 44) < 4) & (s.y < -46) & (np.abs(s.z + 70) < 9)
    codes[deep & teeth] = t.CORTICAL
    y0 = s.y - 12 - 0.12 * (s.z + 60)
    column = np.sqrt((s.x / 14) ** 2 + (y0 / 11) ** 2)
    ring = np.sqrt((s.x / 17) ** 2 + ((y0 - 20) / 15) ** 2)
    below = s.z < -52
    disc = np.abs((s.z + 52) % 17 - 8.5) > 6.5
    codes[deep & below & (ring < 1) & ~disc] = t.CORTICAL
    body = deep & below & (column < 1)
    codes[body] = np.where(np.broadcast_to(disc, s.shape)[body], t.MUCOSA, t.CORTICAL)
    codes[deep & below & (column < 0.82) & ~disc] = t.CANCELLOUS
    canal = np.sqrt((s.x / 11) ** 2 + ((y0 - 18) / 9) ** 2)
    codes[deep & below & (canal < 1)] = t.CSF
    codes[deep & below & (canal < 0.62)] = t.BRAINSTEM
    for side in (-1, 1):
        codes[deep & below & (np.hypot(s.x - side * 26, s.y + 2) < 3.5)] = t.ARTERY
        codes[deep & below & (np.hypot(s.x - side * 35, s.y - 2) < 5.5)] = t.VEIN


def draw_head(
    seed: int = 0,
    spacing: float = 2.0,
    size_mm: tuple[float, float, float] = (176.0, 224.0, 232.0),
    *,
    lesion: bool = False,
) -> Volume:
    """A label volume of tissue codes (`tissues.TISSUES`), uint8 (z,y,x), unit "label", LPS, isotropic `spacing` mm.

    The seed varies sizes, thicknesses, folding, sinuses and the split of fat and muscle; with `lesion` one lesion lies
    in the white matter. ValueError for a spacing outside 0.5..8 mm.
    """
    if not 0.5 <= spacing <= 8.0:
        raise ValueError(f"the phantom's spacing must be 0.5 to 8 mm, not {spacing}")
    rng = np.random.default_rng(seed)
    s, affine = _space(spacing, size_mm)
    scale = rng.uniform(0.94, 1.05, 3).astype(np.float32)
    head, _ = _outline(s, scale)
    depth = distance_mm(~head, s.spacing)
    codes = np.zeros(s.shape, np.uint8)
    eyes = np.minimum(*(s.ellipsoid(eye, (1, 1, 1)) for eye in EYES))  # mm
    field = s.field(13.0, rng)
    codes[head] = np.where((field + fat_tendency(depth, eyes))[head] > 0, t.FAT, t.MUSCLE)
    skin_mm = max(2.2, 1.01 * spacing)  # at least one voxel of skin
    deep = head & (depth > skin_mm)
    _neck_and_jaw(s, codes, deep)

    scalp, table, total = rng.uniform(5.5, 7.5), rng.uniform(2.0, 2.8), rng.uniform(6.5, 8.5)
    cranium = s.ellipsoid((0, 6, 22), (76 * scale[0], 96 * scale[1], 84 * scale[2]))
    floor = s.z > -38 + 0.10 * s.y - 14 * ((s.y + 0 * s.x) > 20)
    vault = (cranium < 1) & floor
    inside = distance_mm(~vault, s.spacing)
    from_scalp = np.where(np.broadcast_to(s.z > -10, s.shape), inside, inside + scalp - 1.0)
    skull = vault & (from_scalp > scalp)
    codes[skull] = t.CORTICAL
    diploe = skull & (from_scalp > scalp + table) & (from_scalp < scalp + total - table)
    codes[diploe & (s.field(20.0, rng) > -1.2)] = t.CANCELLOUS
    _brain(s, codes, vault & (from_scalp > scalp + total), rng)
    _openings(s, codes, deep, 6 - 96 * float(scale[1]) + scalp, rng)
    if lesion:
        side = 1 if rng.random() < 0.5 else -1
        centre = (side * rng.uniform(20, 34), rng.uniform(-20, 40), rng.uniform(26, 44))
        spot = s.ellipsoid(centre, tuple(rng.uniform(6, 12, 3)))
        codes[(spot < 1) & ((codes == t.WHITE) | (codes == t.GREY))] = t.LESION
    skin = head & (depth <= skin_mm) & (codes != t.EYE) & (codes != t.AIR)
    codes[skin] = t.SKIN
    codes[~head] = t.AIR
    # nothing drawn above (orbits, sinuses, ears, coarse skin) may leave the brain bare: the skull is closed
    other = ~np.isin(codes, (*BRAIN, t.LESION, t.CORTICAL, t.CANCELLOUS))
    bare = distance_mm(other, s.spacing) < max(INNER_TABLE_MM, 1.01 * spacing)
    codes[vault & bare & np.isin(codes, (*BRAIN, t.LESION))] = t.CORTICAL
    return Volume(codes, affine, "label", {"description": f"phantom head {seed}"})
