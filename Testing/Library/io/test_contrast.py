"""The contrast of an MR image from its times and its name."""

import pytest

from SynthGANLib.io.dicom.contrast import contrast_of

PROTOCOLS = {
    "spin echo": ({"scanning": "SE", "echo_ms": 14.0, "repetition_ms": 500.0}, "T1"),
    "MPRAGE, one repetition per line": ({"scanning": "GR\\IR", "echo_ms": 3.0, "repetition_ms": 2300.0,
                                         "inversion_ms": 900.0}, "T1"),
    "spoiled gradient echo": ({"scanning": "GR", "echo_ms": 4.0, "repetition_ms": 9.0}, "T1"),
    "turbo spin echo": ({"scanning": "SE", "echo_ms": 100.0, "repetition_ms": 4500.0}, "T2"),
    "proton density": ({"scanning": "SE", "echo_ms": 12.0, "repetition_ms": 2800.0}, "PD"),
    "FLAIR": ({"scanning": "SE\\IR", "echo_ms": 120.0, "repetition_ms": 9000.0, "inversion_ms": 2500.0}, "FLAIR"),
    "STIR is none of the four": ({"scanning": "SE\\IR", "echo_ms": 60.0, "repetition_ms": 5000.0,
                                  "inversion_ms": 160.0}, ""),
    "echo planar is none": ({"scanning": "EP", "echo_ms": 80.0, "repetition_ms": 5000.0}, ""),
    "diffusion by its name": ({"echo_ms": 80.0, "repetition_ms": 5000.0, "description": "ep2d_diff_ADC"}, ""),
    "name alone": ({"description": "t2_space_sag"}, "T2"),
    "FLAIR before T2 in a name": ({"description": "T2 FLAIR axial"}, "FLAIR"),
    "T2* is not T2": ({"description": "t2*_gre"}, ""),
    "a name that holds the letters by chance": ({"description": "at1as of update"}, ""),
    "nothing known": ({}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", PROTOCOLS, ids=str)
def test_contrast(case):
    known, contrast = PROTOCOLS[case]
    assert contrast_of(**known) == contrast


def test_times_win_over_names():
    assert contrast_of(echo_ms=100.0, repetition_ms=4500.0, description="T1 localiser") == "T2"
