"""PET: activity to SUV where the header permits it, and a reason where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_cases import Slice, stack_of, write_stack

from SynthGANLib.io.volumes import read_volume


def pet(stored: np.ndarray, **changes) -> list[Slice]:
    """A decay-corrected PET, injected an hour before the scan with 18F."""
    dose = {0x00181072: "120000.00", 0x00181074: 370e6, 0x00181075: 6586.2} | changes.pop("dose", {})
    extra = {
        0x00080021: "20240102",
        0x00080022: "20240102",
        0x00080031: "130000",
        0x00080032: "130230",
        0x00101030: 80.0,
        0x00280051: "DECY\\ATTN",
        0x00540016: [{tag: value for tag, value in dose.items() if value is not None}],
        0x00541001: "BQML",
        0x00541102: "START",
    } | changes.pop("header", {})
    return stack_of(stored, modality="PT", rescale=(2.0, 0.0), extra=extra)


def test_suv_against_its_formula(tmp_path, stored):
    volume = read_volume(write_stack(tmp_path, pet(stored)))
    remaining = 370e6 * 0.5 ** (3600 / 6586.2)
    np.testing.assert_allclose(volume.array, stored * 2.0 * 80_000 / remaining, rtol=1e-5)
    assert volume.unit == "SUVbw"
    assert volume.warnings == ()


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"header": {0x00541102: "ADMIN"}}, 0),
        ({"dose": {0x00181072: "123000"}}, 1800),
        ({"dose": {0x00181078: "20240102113000.500000+0100", 0x00181072: None}}, 5399.5),
        ({"dose": {0x00181072: "233000"}, "header": {0x00080031: "003000", 0x00080032: "003100"}}, 3600),
    ],
)
def test_suv_times(tmp_path, stored, changes, seconds):
    volume = read_volume(write_stack(tmp_path, pet(stored, **changes)))
    remaining = 370e6 * 0.5 ** (seconds / 6586.2)
    assert volume.unit == "SUVbw"
    np.testing.assert_allclose(volume.array, stored * 2.0 * 80_000 / remaining, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"header": {0x00101030: None}}, "weight"),
        ({"dose": {0x00181074: None}}, "dose"),
        ({"dose": {0x00181075: None}}, "half-life"),
        ({"dose": {0x00181072: None}}, "times"),
        ({"header": {0x00541102: "NONE"}}, "decay-corrected"),
        ({"header": {0x00080031: "140000"}}, "times"),
    ],
)
def test_suv_impossible_stays_activity(tmp_path, stored, changes, reason):
    volume = read_volume(write_stack(tmp_path, pet(stored, **changes)))
    assert volume.unit == "BQML"
    np.testing.assert_allclose(volume.array, stored * 2.0)
    assert reason in volume.warnings[0]


def test_a_named_unit_wins_only_where_the_header_differs(tmp_path, stored):
    folder = write_stack(tmp_path, pet(stored))
    np.testing.assert_array_equal(read_volume(folder, unit="SUVbw").array, read_volume(folder).array)
    np.testing.assert_allclose(read_volume(folder, unit="BQML").array, stored * 2.0)


def test_pet_counts_and_grams(tmp_path, stored):
    assert read_volume(write_stack(tmp_path / "g", pet(stored, header={0x00541001: "GML"}))).unit == "SUVbw"
    counts = read_volume(write_stack(tmp_path / "c", pet(stored, header={0x00541001: "CNTS"})))
    assert counts.unit == "CNTS"
    assert "counts" in counts.warnings[0]
