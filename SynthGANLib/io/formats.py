"""Which image files are read and written, by their suffix."""

from __future__ import annotations

from pathlib import Path

READABLE = (
    ".nii",
    ".nii.gz",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".dcm",
)
WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".tiff")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Pictures: no place in the patient, and only one color slice can be written to them."""


def suffix_of(path: Path) -> str:
    """The suffix in lower case, ``.nii.gz`` as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix
