"""Multi-atlas synthesis: known warps are undone, and atlases are fused by the rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from atlas_cases import error, moved, pair

from SynthGANLib.classical import registration
from SynthGANLib.classical.atlas import Atlas, atlas_ct, tensors_of
from SynthGANLib.classical.fusion import FUSIONS, Warped, fuse, local_correlation
from SynthGANLib.classical.registration import Registrar, Settings
from SynthGANLib.errors import CancelledError
from SynthGANLib.image.volume import Volume
from SynthGANLib.phantom.anatomy import body_of
from SynthGANLib.phantom.tissues import AIR


@pytest.fixture(scope="module")
def head() -> tuple[Atlas, np.ndarray]:
    return pair(3)


@pytest.fixture(scope="module")
def warped_head(head):
    """The head turned, scaled, shifted and smoothly deformed by known amounts: MR, CT, body."""
    atlas, _ = head
    image = atlas.mr.to_sitk()
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((1.03, -0.1, 0.0, 0.1, 0.98, 0.05, 0.0, -0.05, 1.0))
    affine.SetTranslation((9.0, -7.0, 6.0))
    spline = sitk.BSplineTransformInitializer(image, [3, 3, 3])
    spline.SetParameters(np.random.default_rng(0).normal(0, 4.0, len(spline.GetParameters())).tolist())
    transform = sitk.CompositeTransform([affine, spline])
    mr, ct = moved(atlas.mr, transform, 0.0), moved(atlas.ct, transform, -1000.0)
    return mr, ct, body_of(np.where(ct.array > -400, AIR + 1, AIR))


# registration


@pytest.mark.parametrize(("deformable", "iterations"), [("none", 1), ("bspline", 2), ("demons", 10)])
def test_a_known_warp_is_undone(head, warped_head, deformable: str, iterations: int, monkeypatch) -> None:
    monkeypatch.setattr(registration, "KNOTS_MM", (120.0, 70.0))  # a matter of seconds, not minutes
    monkeypatch.setattr(registration, "SPLINE_SAMPLES", 20_000)
    mr, ct, body = warped_head
    tensors = tensors_of([head[0]])
    warnings: list[str] = []
    found = atlas_ct(mr, body, tensors=tensors, deformable=deformable, iterations=iterations, warn=warnings.append)
    before = error(head[0].ct.array, ct, body)
    assert before > 200
    assert error(found, ct, body) <= 0.25 * before
    assert found.dtype == np.float32
    assert found.shape == mr.shape


def test_a_deformation_is_worth_its_time() -> None:
    """Where the warp is not affine, demons take away a good part of what an affine registration leaves."""
    atlas, _ = pair(3, 5.5)
    spline = sitk.BSplineTransformInitializer(atlas.mr.to_sitk(), [3, 3, 3])
    spline.SetParameters(np.random.default_rng(0).normal(0, 9.0, len(spline.GetParameters())).tolist())
    mr, ct = moved(atlas.mr, spline, 0.0), moved(atlas.ct, spline, -1000.0)
    body = body_of(np.where(ct.array > -400, AIR + 1, AIR))
    errors = {
        name: error(atlas_ct(mr, body, tensors=tensors_of([atlas]), deformable=name, iterations=15), ct, body)
        for name in ("none", "demons")
    }
    assert errors["demons"] < 0.85 * errors["none"]


def test_same_seed_gives_the_same_result_and_gain_does_not_matter(head, warped_head) -> None:
    mr, ct, body = warped_head
    tensors = tensors_of([head[0]])
    one, two, other = (
        atlas_ct(mr.with_array(mr.array * gain), body, tensors=tensors, deformable="none", seed=4)
        for gain in (1.0, 1.0, 25.0)
    )
    np.testing.assert_array_equal(one, two)
    assert error(one, ct, body) == pytest.approx(error(other, ct, body), rel=0.1)


def test_a_registration_that_leads_nowhere_is_left_out_and_told(head, warped_head, monkeypatch) -> None:
    """ITK fails in one step and drives the images apart in another: the result is that of no registration at all."""
    mr, _, body = warped_head

    def fails(self: Registrar, moving: Any, start: Any) -> Any:
        raise RuntimeError("itk::ERROR: Thing(0x1): All samples map outside moving image buffer.")

    def drifts(self: Registrar, moving: Any, start: Any) -> Any:
        return sitk.TranslationTransform(3, (120.0, 0.0, 0.0))

    monkeypatch.setattr(Registrar, "_rigid", fails)
    monkeypatch.setattr(Registrar, "_affine", drifts)
    warnings: list[str] = []
    tensors = tensors_of([head[0]])
    found = atlas_ct(mr, body, tensors=tensors, deformable="none", warn=warnings.append)
    assert len(warnings) == 2
    assert warnings[0].startswith("Atlas 1 of 1: its rigid registration failed (All samples map outside")
    assert "affine registration" in warnings[1]
    assert warnings[1].endswith("left out.")
    kept = error(found, head[0].ct, body)
    assert kept <= error(moved(head[0].ct, sitk.TranslationTransform(3, (30.0, 0, 0)), -1000.0).array, head[0].ct, body)


def test_an_atlas_far_away_is_found(head) -> None:
    """No overlap at all to begin with: equal centres of mass are where the registration starts."""
    atlas, body = head
    affine = np.array(atlas.mr.affine)
    affine[:3, 3] += (700.0, -900.0, 500.0)
    away = Atlas(Volume(atlas.mr.array, affine), Volume(atlas.ct.array, affine, "HU"))
    found = atlas_ct(atlas.mr, body, tensors=tensors_of([away]), deformable="none")
    assert error(found, atlas.ct, body) < 40


def test_memory_running_out_is_no_failed_match(head, warped_head, monkeypatch) -> None:
    def exhausted(self: Registrar, moving: Any, start: Any) -> Any:
        raise RuntimeError("itk::ERROR: Image(0x1): Failed to allocate memory for image.")

    monkeypatch.setattr(Registrar, "_rigid", exhausted)
    with pytest.raises(MemoryError):
        atlas_ct(warped_head[0], warped_head[2], tensors=tensors_of([head[0]]))


@pytest.mark.parametrize("wanted", ["_rigid", "_affine", "_spline", "_demons"])
def test_cancel_ends_the_iterations(head, warped_head, wanted: str, monkeypatch, capfd) -> None:
    """Whichever optimiser is at work, it stops within the iteration, quietly, and nothing later is begun."""
    mr, _, body = warped_head
    deformable = "demons" if wanted == "_demons" else "bspline"
    monkeypatch.setattr(registration, "KNOTS_MM", (100.0, 60.0))
    inside, asked = [False], [0]
    original = getattr(Registrar, wanted)

    def entered(self: Registrar, *arguments: Any) -> Any:
        if wanted != "_spline":
            inside[0] = True
            return original(self, *arguments)
        run = original(self, *arguments)

        def started(*images: Any) -> Any:
            inside[0] = True
            return run(*images)

        return started

    def cancel() -> bool:
        asked[0] += inside[0]
        return asked[0] >= 3

    monkeypatch.setattr(Registrar, wanted, entered)
    with pytest.raises(CancelledError):
        atlas_ct(mr, body, tensors=tensors_of([head[0]]), deformable=deformable, iterations=20, cancel=cancel)
    assert asked[0] == 3
    assert capfd.readouterr().err == ""


def test_mask_that_is_everything_is_no_mask(head) -> None:
    atlas, body = head
    registrar = Registrar(
        atlas.mr.to_sitk(), np.ones_like(body), Settings("none"), advance=lambda _: None, cancel=lambda: False
    )
    match = registrar.register(atlas.mr.to_sitk())
    assert match.warnings == ()
    assert np.allclose(match.transform.TransformPoint((10.0, 20.0, 30.0)), (10.0, 20.0, 30.0), atol=0.5)


# fusion


def stack(*values: float, covered: tuple[bool, ...] | None = None, likeness: tuple[float, ...] | None = None) -> Warped:
    """Atlases that are constant over 9 x 4 x 4 voxels."""
    shape = (len(values), 9, 4, 4)

    def spread(numbers: Any, kind: Any) -> np.ndarray:
        return np.broadcast_to(np.array(numbers, kind).reshape(-1, 1, 1, 1), shape).copy()

    scores = likeness or tuple(range(len(values)))
    flags = covered or (True,) * len(values)
    return Warped(spread(values, np.float32), spread(flags, bool), spread(scores, np.float32), np.array(scores, "f4"))


def test_each_fusion_has_its_closed_form() -> None:
    atlases = stack(0.0, 100.0, 700.0, likeness=(0.9, 0.1, 0.5))
    weights = np.exp(-0.5 * np.array([0, 2, 1]))
    expected = {"single": 0.0, "mean": 800 / 3, "median": 100.0, "lncc": weights @ [0, 100, 700] / weights.sum()}
    for name, value in expected.items():
        np.testing.assert_allclose(fuse(atlases, name, beta=0.5), value, rtol=1e-5, atol=1e-3)
    assert set(expected) == set(FUSIONS)


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_padding_never_enters(fusion: str) -> None:
    """The best atlas has no data here, and nowhere has any in the first slice."""
    atlases = stack(-1000.0, 40.0, 60.0, covered=(False, True, True), likeness=(0.9, 0.6, 0.5))
    atlases.covered[:, 0] = False
    found = fuse(atlases, fusion, background=-1024.0)
    assert (found[0] == -1024).all()
    assert found[1:].min() >= 40
    assert found[1:].max() <= 60


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_copies_of_an_atlas_are_that_atlas(fusion: str) -> None:
    rng = np.random.default_rng(0)
    ct = rng.normal(0, 400, (9, 4, 4)).astype(np.float32)
    likeness = rng.random((1, 9, 4, 4)).astype(np.float32)
    five = Warped(*(np.repeat(a[None], 5, 0) for a in (ct, np.ones_like(ct, bool), likeness[0])), np.zeros(5, "f4"))
    np.testing.assert_allclose(fuse(five, fusion), ct, rtol=1e-5, atol=1e-3)


def test_local_correlation_is_the_textbook_one_in_its_window() -> None:
    rng = np.random.default_rng(1)
    one, two = (rng.normal(size=(21, 21, 21)).astype(np.float32) for _ in range(2))
    two += 0.7 * one
    found = local_correlation(one, two, np.ones(one.shape, bool), 2.0)[10, 10, 10]
    axis = np.exp(-0.5 * ((np.arange(21) - 10) / 2.0) ** 2)
    window = np.einsum("i,j,k->ijk", axis, axis, axis)
    window /= window.sum()
    a, b = one - (window * one).sum(), two - (window * two).sum()
    expected = (window * a * b).sum() / np.sqrt((window * a * a).sum() * (window * b * b).sum())
    assert found == pytest.approx(expected, abs=0.02)


def test_local_correlation_sees_no_padding_and_no_scale() -> None:
    rng = np.random.default_rng(1)
    image = sitk.GetArrayFromImage(
        sitk.DiscreteGaussian(sitk.GetImageFromArray(rng.normal(size=(16, 16, 16)).astype(np.float32)), 2.0)
    )
    covered = np.ones(image.shape, bool)
    covered[:, :, :5] = False
    padded = np.where(covered, image * 30 - 7, -1e4).astype(np.float32)
    found = local_correlation(image, padded, covered, 2.0)
    assert found[covered].min() > 0.95
    flat = local_correlation(image, np.where(covered, 3.0, 4.0).astype(np.float32), covered, 2.0)
    assert np.abs(flat).max() < 1e-3


def test_local_weights_beat_the_mean_with_one_bad_atlas(head, monkeypatch) -> None:
    """Two atlases, one of which was registered wrongly by 25 mm."""
    atlas, body = head
    errors = {}
    for fusion in ("lncc", "mean"):
        shifts = iter([(25.0, 15.0, 0.0), (1.0, 0.0, 0.0)])
        monkeypatch.setattr(
            Registrar,
            "register",
            lambda self, moving, shifts=shifts: registration.Match(sitk.TranslationTransform(3, next(shifts)), 0.0, ()),
        )
        found = atlas_ct(atlas.mr, body, tensors=tensors_of([atlas, atlas]), fusion=fusion, beta=2.0)
        errors[fusion] = error(found, atlas.ct, body)
    assert errors["lncc"] < 0.6 * errors["mean"]
