"""Which contrast an MR image has: from the times it was acquired with, else from how the scanner called it."""

from __future__ import annotations

import re

_WORDS = (
    ("FLAIR", re.compile(r"flair|dark[ _-]?fluid|tirm", re.IGNORECASE)),
    ("T1", re.compile(r"(?<![a-z0-9])t1|mp2?rage|spgr|bravo|tfl", re.IGNORECASE)),
    ("T2", re.compile(r"(?<![a-z0-9])t2(?!\*|_?star)", re.IGNORECASE)),
    ("PD", re.compile(r"(?<![a-z0-9])pd(?![a-z0-9])|proton[ _-]?density", re.IGNORECASE)),
)
_OTHER = re.compile(r"diff|dwi|adc|bold|perf|asl|swi|phase|angio|tof|star|t2\*", re.IGNORECASE)


def contrast_of(
    *,
    scanning: str = "",
    echo_ms: float | None = None,
    repetition_ms: float | None = None,
    inversion_ms: float | None = None,
    description: str = "",
) -> str:
    """One of "T1", "T2", "PD" or "FLAIR"; "" where neither times nor words settle it.

    The limits are those of common practice (e.g. McRobbie et al., MRI from Picture to Proton, ch. 3): short echo and
    repetition or a prepared gradient echo for T1, long ones for T2, a late inversion that nulls fluid for FLAIR.

    Args:
        scanning: DICOM Scanning Sequence (0018,0020), e.g. "GR\\IR". echo_ms, repetition_ms, inversion_ms: (0018,0081),
            (0018,0080), (0018,0082). description: Series Description or Protocol Name.
    """
    if "EP" in scanning.upper().split("\\") or _OTHER.search(description):
        return ""
    if echo_ms is not None and repetition_ms is not None:
        by_times = _by_times(echo_ms, repetition_ms, inversion_ms)
        if by_times:
            return by_times
    return next((name for name, words in _WORDS if words.search(description)), "")


def _by_times(echo: float, repetition: float, inversion: float | None) -> str:
    if inversion and inversion >= 1500.0 and echo >= 60.0:
        return "FLAIR"
    if inversion and 300.0 <= inversion <= 1300.0 and echo < 30.0:
        return "T1"
    if inversion:
        return ""
    if echo < 30.0 and repetition <= 1000.0:
        return "T1"
    if echo >= 60.0 and repetition >= 1500.0:
        return "T2"
    if echo < 40.0 and repetition >= 1500.0:
        return "PD"
    return ""
