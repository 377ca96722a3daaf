"""PET activity to standardised uptake value by body weight.

SUVbw = activity concentration (Bq/ml) * body weight (g) / dose decayed to the time the image is corrected to.
The choice of times follows the vendor-neutral recipe of the Quantitative Imaging Biomarkers Alliance (QIBA,
"Computation of SUV", FDG-PET profile); definitions in DICOM PS3.3 C.8.9.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from SynthGANLib.io.dicom.header import Dataset, Header

_PHILIPS_SUV_FACTOR = 0x70531000


@dataclass(frozen=True)
class Uptake:
    """Unit of the stored numbers after multiplying by ``factor``, and what could not be done."""

    unit: str
    factor: float = 1.0
    warnings: tuple[str, ...] = ()


def uptake(header: Header) -> Uptake:
    """How to turn the rescaled values of a PET image into SUVbw, if its header permits it."""
    units = header.text(0x00541001)
    if units == "GML" and header.text(0x00541006, "BW") in ("BW", ""):
        return Uptake("SUVbw")
    if units == "CNTS":
        factor = header.number(_PHILIPS_SUV_FACTOR)
        if factor:
            return Uptake("SUVbw", factor)
        return Uptake("CNTS", 1.0, ("The PET stores counts without a factor to SUV; values stay counts.",))
    if units != "BQML":
        what = f"has the unit '{units}'" if units else "names no unit"
        return Uptake("1", 1.0, (f"The PET {what}; values are used as they are.",))
    factor, missing = _factor(header)
    if factor is None:
        return Uptake("BQML", 1.0, (f"The PET cannot be converted to SUV: {missing}; values stay in Bq/ml.",))
    return Uptake("SUVbw", factor)


def _factor(header: Header) -> tuple[float | None, str]:
    """The factor from Bq/ml to SUVbw, or None and what is missing."""
    dose_item = header.first(0x00540016)
    weight = header.number(0x00101030)
    dose = dose_item.number(0x00181074)
    half_life = dose_item.number(0x00181075)
    if not weight or weight <= 0:
        return None, "the patient's weight is not in the header"
    if not dose or dose <= 0:
        return None, "the injected dose is not in the header"
    corrected = header.text(0x00280051).split("\\")
    reference = header.text(0x00541102)
    if "DECY" not in corrected or reference not in ("START", "ADMIN"):
        return None, "the images are not decay-corrected in a known way"
    if reference == "ADMIN":
        return weight * 1000.0 / dose, ""
    if not half_life or half_life <= 0:
        return None, "the nuclide's half-life is not in the header"
    scan, injection = _scan_start(header), _injection(header, dose_item)
    if scan is None or injection is None:
        return None, "the times of injection and scan are not in the header"
    seconds = (scan - injection).total_seconds()
    if not 0 <= seconds < 24 * 3600:
        return None, f"the scan starts {seconds:.0f} s after the injection, which cannot be"
    return weight * 1000.0 / (dose * 2.0 ** (-seconds / half_life)), ""


def _scan_start(header: Header) -> datetime.datetime | None:
    """The time decay is corrected to: the series start, unless a later processing overwrote it."""
    series = _moment(header.text(0x00080021), header.text(0x00080031))
    acquisition = _moment(header.text(0x00080022), header.text(0x00080032))
    if series is not None and (acquisition is None or series <= acquisition):
        return series
    return None


def _injection(header: Header, dose_item: Dataset) -> datetime.datetime | None:
    full = dose_item.text(0x00181078)
    if full:
        return _moment(full[:8], full[8:].partition("+")[0].partition("-")[0])
    moment = _moment(header.text(0x00080021), dose_item.text(0x00181072))
    scan = _scan_start(header)
    if moment is not None and scan is not None and moment > scan:
        return moment - datetime.timedelta(days=1)  # only the time of day is stored: injected before midnight
    return moment


def _moment(date: str, time: str) -> datetime.datetime | None:
    """DICOM date and time; None if either is absent or malformed."""
    digits, _, fraction = time.replace(":", "").partition(".")
    try:
        whole = datetime.datetime.strptime(date + digits.ljust(6, "0")[:6], "%Y%m%d%H%M%S") if digits else None  # noqa: DTZ007
        return whole + datetime.timedelta(seconds=float("0." + (fraction or "0"))) if whole else None
    except ValueError:
        return None
