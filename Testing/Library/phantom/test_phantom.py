"""The phantom keeps its promises: anatomy where it belongs, physics by the equations, the same bits for a seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from SynthGANLib.errors import InputError
from SynthGANLib.image.geometry import conform
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.phantom.anatomy import CAVITY, body_of, mark_cavities, split_soft_tissue, tissue_codes
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.sequences import RANGES, Sequence, named, signal
from SynthGANLib.phantom.simulate import CONTRASTS, simulate_ct, simulate_fdg, simulate_mr
from SynthGANLib.phantom.tissues import (
    AIR,
    BY_NAME,
    CORTICAL,
    CSF,
    EYE,
    FAT,
    GREY,
    LESION,
    MUSCLE,
    SKIN,
    SOFT,
    TISSUES,
    WHITE,
)


@pytest.fixture(scope="module")
def head() -> Volume:
    return draw_head(seed=3, spacing=3.0)


def test_tissue_codes_are_their_positions():
    assert [t.code for t in TISSUES] == list(range(len(TISSUES)))
    assert len({t.name for t in TISSUES}) == len(TISSUES)
    assert BY_NAME["air"].hu == -1000
    assert BY_NAME["cortical bone"].hu > 1000 > BY_NAME["cancellous bone"].hu


def test_head_is_made_of_every_main_tissue(head):
    assert head.array.dtype == np.uint8
    assert head.unit == "label"
    present = set(np.unique(head.array).tolist())
    assert {AIR, FAT, MUSCLE, SKIN, CORTICAL, CSF, GREY, WHITE, EYE} <= present
    voxel_ml = 3.0**3 / 1000
    assert 2000 < (head.array != AIR).sum() * voxel_ml < 6000  # a head with its neck, in millilitres
    brain = np.isin(head.array, (GREY, WHITE))
    assert 600 < brain.sum() * voxel_ml < 1900


def test_brain_never_touches_air(head):
    """Between brain and air lie skull and scalp: no neighbour of a brain voxel is air."""
    brain, air = np.isin(head.array, (GREY, WHITE)), head.array == AIR
    for axis in range(3):
        a, b = np.moveaxis(brain, axis, 0), np.moveaxis(air, axis, 0)
        assert not (a[:-1] & b[1:]).any()
        assert not (a[1:] & b[:-1]).any()


def test_seed_decides_everything(head):
    assert np.array_equal(head.array, draw_head(seed=3, spacing=3.0).array)
    assert not np.array_equal(head.array, draw_head(seed=4, spacing=3.0).array)
    for simulate in (simulate_mr, simulate_ct, simulate_fdg):
        assert np.array_equal(simulate(head, seed=9).array, simulate(head, seed=9).array)
        assert not np.array_equal(simulate(head, seed=9).array, simulate(head, seed=10).array)


def test_lesion_by_choice():
    assert not (draw_head(seed=2, spacing=3.0).array == LESION).any()
    assert (draw_head(seed=2, spacing=3.0, lesion=True).array == LESION).any()


@pytest.mark.parametrize("spacing", [0.1, 20.0])
def test_absurd_spacing_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing"):
        draw_head(spacing=spacing)


def test_images_lie_on_the_labels(head):
    for image, unit in ((simulate_mr(head), "1"), (simulate_ct(head), "HU"), (simulate_fdg(head), "SUVbw")):
        assert image.shape == head.shape
        assert np.array_equal(image.affine, head.affine)
        assert image.unit == unit
        assert image.array.dtype == np.float32
        assert np.isfinite(image.array).all()


def test_ct_recovers_the_table_inside_tissues(head):
    """Away from borders the mean HU of a tissue is the table's, to within its texture."""
    ct = simulate_ct(head, seed=1, noise=8.0).array
    for code in (WHITE, AIR):
        core = head.array == code
        for axis in range(3):
            for shift in (-2, -1, 1, 2):
                core &= np.roll(head.array, shift, axis) == code
        assert core.sum() > 30
        tissue = TISSUES[code]
        assert abs(ct[core].mean() - tissue.hu) < 3 + tissue.hu_spread
    assert ct.min() >= -1024
    assert ct.max() <= 3071


def test_contrast_order_is_the_clinical_one(head):
    """White over gray over CSF in T1, the reverse in T2, dark CSF in FLAIR; cortical bone dark everywhere."""

    def mean(image: Volume, code: int) -> float:
        return float(np.median(image.array[head.array == code]))

    clean = {c: simulate_mr(head, c, 1, noise=0.0, bias=0.0, blur_mm=0.0) for c in RANGES}
    for contrast in ("T1", "T1-SE", "T1-GRE"):
        assert mean(clean[contrast], WHITE) > mean(clean[contrast], GREY) > mean(clean[contrast], CSF)
        assert mean(clean[contrast], FAT) > mean(clean[contrast], WHITE)
    assert mean(clean["T2"], CSF) > mean(clean["T2"], GREY) > mean(clean["T2"], WHITE)
    assert mean(clean["FLAIR"], CSF) < 0.5 * mean(clean["FLAIR"], GREY)
    for image in clean.values():
        assert mean(image, CORTICAL) < 0.35 * max(mean(image, FAT), mean(image, GREY))
        assert mean(image, AIR) == 0


def test_signal_equations_in_closed_form():
    long, short = 1e9, 1e-9
    assert signal(Sequence("se", long, short), 500.0, 80.0, 0.7) == pytest.approx(0.7)
    assert signal(Sequence("se", 500.0 * math.log(2), short), 500.0, 80.0, 1.0) == pytest.approx(0.5)
    assert signal(Sequence("se", long, 80.0), 500.0, 80.0, 1.0) == pytest.approx(math.exp(-1))
    null = 500.0 * math.log(2)  # inversion nulls a tissue at T1 ln 2
    assert signal(Sequence("ir", long, short, ti=null), 500.0, 80.0, 1.0) == pytest.approx(0.0, abs=1e-12)
    assert signal(Sequence("gre", long, short, flip=90.0), 500.0, 80.0, 0.9) == pytest.approx(0.9)
    tr, t1 = 20.0, 600.0
    ernst = math.degrees(math.acos(math.exp(-tr / t1)))
    values = [float(signal(Sequence("gre", tr, short, flip=f), t1, 80.0, 1.0)) for f in (ernst - 3, ernst, ernst + 3)]
    assert values[1] > values[0]
    assert values[1] > values[2]
    assert named("T2").te > named("PD").te


def test_rician_noise_has_its_closed_form():
    """Without signal the magnitude is Rayleigh: mean sigma sqrt(pi/2), and the gain scales it."""
    empty = Volume(np.zeros((40, 40, 40), np.uint8), np.eye(4), "label")
    image = simulate_mr(empty, "T1", 0, noise=0.05, gain=100.0).array
    assert image.mean() == pytest.approx(5.0 * math.sqrt(math.pi / 2), rel=0.02)


def test_poisson_noise_falls_with_counts(head):
    low = simulate_fdg(head, 1, counts=10.0).array
    high = simulate_fdg(head, 1, counts=1000.0).array
    clean = simulate_fdg(head, 1, counts=1e6).array
    ratio = np.square(low - clean).mean() / np.square(high - clean).mean()
    assert 60 < ratio < 160  # the variance is inversely proportional to the counts


def test_unknown_contrast_and_labels_are_named(head):
    with pytest.raises(InputError, match="T9"):
        simulate_mr(head, "T9")
    with pytest.raises(InputError, match="777"):
        tissue_codes(head.with_array(np.where(head.array == AIR, 777, 0)))
    with pytest.raises(InputError, match="no tissue codes"):
        simulate_ct(head.with_array(np.full(head.shape, 200, np.uint8)))
    assert "random" in CONTRASTS


def test_soft_tissue_is_divided_and_nothing_else_moves(head):
    merged = head.with_array(np.where(np.isin(head.array, (FAT, MUSCLE)), SOFT, head.array))
    split = split_soft_tissue(merged, seed=5)
    was_soft = merged.array == SOFT
    assert set(np.unique(split.array[was_soft])) == {FAT, MUSCLE}
    assert np.array_equal(split.array[~was_soft], merged.array[~was_soft])
    assert 0.1 < (split.array[was_soft] == FAT).mean() < 0.9


def test_cavities_are_air_inside_and_specks_vanish():
    codes = np.zeros((40, 40, 40), np.uint8)
    codes[8:32, 8:32, 8:32] = MUSCLE
    codes[16:22, 16:22, 16:22] = AIR
    codes[2, 2, 2] = CORTICAL
    marked = mark_cavities(Volume(codes, np.eye(4), "label")).array
    assert (marked[16:22, 16:22, 16:22] == CAVITY).all()
    assert marked[2, 2, 2] == AIR
    assert (marked == CAVITY).sum() == 6**3
    assert body_of(codes)[8:32, 8:32, 8:32].all()


def test_real_head_labels(shared_data):
    """A real whole-head label map becomes tissues, a body of plausible size, and images on its grid."""
    path = shared_data / "head_labels" / "head_13_labels.nii.gz"
    labels = conform(
        read_volume(path, unit="label"), orientation="LPS", spacing=(3.0,) * 3, interpolation="nearest"
    ).volume
    head = mark_cavities(tissue_codes(labels))
    assert (head.array == CAVITY).sum() * 27 / 1000 > 10  # millilitres of sinuses and airways
    assert 2000 < body_of(head.array).sum() * 27 / 1000 < 8000
    ct = simulate_ct(head, 2)
    assert np.median(ct.array[head.array == CORTICAL]) > 600
    assert np.median(ct.array[head.array == CAVITY]) < -600


def pulse_by_pulse(sequence, t1):
    """Longitudinal magnetisation in the middle of the train, every pulse and every pause stepped through."""
    train = sequence.lines * sequence.echo_spacing
    turn = math.cos(math.radians(sequence.flip))
    m = middle = 1.0
    for _ in range(60):
        m = 1 + (-m - 1) * math.exp(-(sequence.ti - train / 2) / t1)
        for line in range(sequence.lines):
            middle = m if line == sequence.lines // 2 else middle
            m = 1 + (m * turn - 1) * math.exp(-sequence.echo_spacing / t1)
        m = 1 + (m - 1) * math.exp(-(sequence.tr - sequence.ti - train / 2) / t1)
    return middle


@pytest.mark.parametrize("t1", [350.0, 500.0, 850.0, 1550.0, 4300.0])
def test_mprage_against_every_pulse(t1):
    sequence = named("T1")
    expected = abs(pulse_by_pulse(sequence, t1)) * math.sin(math.radians(sequence.flip)) * math.exp(-sequence.te / 80.0)
    assert signal(sequence, np.float64(t1), 80.0, 1.0) == pytest.approx(expected, rel=0.02)


def test_mprage_of_weak_pulses_is_inversion_recovery():
    """With flip angles towards zero the train disturbs nothing: 1 - 2 exp(-TI/T1) / (1 + exp(-TR/T1))."""
    weak = Sequence("mprage", 2300.0, 1e-6, 900.0, flip=0.01)
    t1 = np.array([400.0, 900.0, 4000.0])
    found = signal(weak, t1, 80.0, 1.0) / math.sin(math.radians(0.01))
    expected = np.abs(1 - 2 * np.exp(-900.0 / t1) / (1 + np.exp(-2300.0 / t1)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_mprage_shows_fluid_that_inversion_recovery_hides():
    fluid, bone = (next(t for t in TISSUES if t.name == name) for name in ("cerebrospinal fluid", "cortical bone"))
    ratio = {
        name: signal(named(name), fluid.t1, fluid.t2, fluid.pd) / signal(named(name), bone.t1, bone.t2, bone.pd)
        for name in ("T1", "T1-IR")
    }
    assert ratio["T1"] > 2.5
    assert ratio["T1-IR"] < 1.0


def test_train_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        signal(Sequence("mprage", 900.0, 3.0, 850.0, flip=9.0), 800.0, 80.0, 1.0)
