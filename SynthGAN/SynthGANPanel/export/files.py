"""A result as an NRRD or NIfTI file with its record as JSON beside it; both appear complete or not at all.

The values are written as they are, in the type that the node has. They are packed slice by slice, so that the
application stays usable; the headers are those of the NRRD definition (version 4) and of nifti1.h.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from SynthGANPanel.export import record as exportRecord
from SynthGANPanel.export.run import ExportRun
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.runs import raster
from SynthGANPanel.scene import nodes

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array
    from SynthGANPanel.task import Steps

SUFFIXES = (".nrrd", ".nii.gz")
NIFTI_TYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
NIFTI_RGB = 128
NIFTI_SIDE = 32767
UNIT_KEY = "SynthGAN.unit"
"""Under which the library's reader looks for the unit."""
PACKING = 1
"""zlib's level: floats hardly shrink further at the usual one, which takes several times longer."""


class FileExport(ExportRun):
    """The export of one result; see :class:`task.Task` for how it is run.

    :param node: a volume that SynthGAN made
    :param path: file to write, ending in .nrrd or .nii.gz; the record goes beside it with the ending .json
    :param overwrite: whether to replace a file and a record that are there already
    :param callbacks: for progress and end, as of a task
    """

    def __init__(self, node: slicer.vtkMRMLNode, path: str | Path, overwrite: bool = False, *callbacks: Any) -> None:
        super().__init__(Path(path), *callbacks)
        self._node = node
        self._overwrite = overwrite
        self._part = exportRecord.temporaryBeside(self.path)
        self._recordPart = self._part.with_suffix(".record")

    def _begin(self) -> None:
        exportRecord.checkResult(self._node)
        self._suffix = next((each for each in SUFFIXES if self.path.name.lower().endswith(each)), "")
        if not self._suffix:
            raise SynthesisError(
                _("'{name}' does not end in a supported file type.").format(name=self.path.name),
                _("Use one of the endings {suffixes}.").format(suffixes=", ".join(SUFFIXES)),
            )
        self._kind = exportRecord.kindOf(self._node)
        self._place = exportRecord.placeOf(self._node)
        self._array = slicer.util.arrayFromVolume(self._node)  # (z, y, x[, c])
        if self._suffix == ".nii.gz":
            exportRecord.checkRightAngles(self._node, self._place, _("a NIfTI file"))
        self._header = self._makeHeader()
        self._checkTarget()

    def _checkTarget(self) -> None:
        if not self.path.parent.is_dir():
            raise SynthesisError(
                _("There is no folder '{folder}'.").format(folder=self.path.parent), _("Make it, or choose another.")
            )
        for path in (self.path, self._beside):
            if path.is_dir():
                raise SynthesisError(_("'{path}' is a folder.").format(path=path), _("Choose another name."))
            if os.path.lexists(path) and not self._overwrite:
                raise SynthesisError(
                    _("'{path}' exists and is not overwritten.").format(path=path), _("Choose another name or folder.")
                )

    def _makeHeader(self) -> bytes:
        if self._suffix == ".nrrd":
            return raster.nrrdHeader(self._array, self._place.affine, "gzip", [(UNIT_KEY, self._kind.unit)])
        return niftiHeader(self._array, self._place.affine, self._kind.unit)

    @property
    def _beside(self) -> Path:
        return exportRecord.recordPath(self.path, self.path.name[-len(self._suffix) :])

    def _work(self) -> Steps:
        if self._place.moved:
            self.notes.append(_("World coordinates are exported: the volume is under a transform."))
        changed = self._node.GetImageData().GetMTime()
        plain = self._header if self._suffix == ".nrrd" else b""  # NRRD packs the voxels only, .nii.gz everything
        packed = b"" if plain else self._header
        packer = zlib.compressobj(PACKING, zlib.DEFLATED, 31)  # 31: with the frame of gzip
        digest = hashlib.sha256(plain)
        with open(self._part, "xb") as file:
            file.write(plain)
            for piece, fraction in self._pieces(packer, packed):
                file.write(piece)
                digest.update(piece)
                yield 0.99 * fraction
        if self._node.GetImageData() is None or self._node.GetImageData().GetMTime() != changed:
            raise SynthesisError(
                _("'{name}' was changed while it was being exported.").format(name=self._node.GetName()),
                _("Export it again."),
            )
        record = exportRecord.recordOf(self._node, self._place, self._kind, self.notes)
        record["file"], record["sha256"] = self.path.name, digest.hexdigest()
        exportRecord.writeRecord(self._recordPart, record)
        self._checkTarget()  # another program may have written there in the meantime
        os.replace(self._part, self.path)  # first: on Windows it fails if another program has the old file open
        os.replace(self._recordPart, self._beside)
        return self.path

    def _pieces(self, packer: Any, start: bytes) -> Generator[tuple[bytes, float], None, None]:
        """Packed bytes and the fraction done, slice by slice."""
        yield packer.compress(start), 0.0
        for number, plane in enumerate(self._array, start=1):
            yield packer.compress(np.ascontiguousarray(plane)), number / len(self._array)
        yield packer.flush(), 1.0

    def _cleanUp(self) -> None:
        for path in (self._part, self._recordPart):
            path.unlink(missing_ok=True)


def exportFile(node: slicer.vtkMRMLNode, path: str | Path, overwrite: bool = False) -> Path:
    """Export and wait for it.

    :return: the path
    :raises SynthesisError: one sentence about what is wrong; nothing was written
    """
    run = FileExport(node, path, overwrite)
    run.start()
    return run.wait()


def niftiHeader(array: Array, affine: Array, unit: str) -> bytes:
    """The 352 bytes before the voxels (z, y, x[, 3]) of a NIfTI-1 file; `affine` maps indices to LPS mm.

    :raises SynthesisError: for voxel types or extents that NIfTI-1 does not support
    """
    code, bits = _niftiType(array)
    extents = array.shape[2::-1]
    if max(extents) > NIFTI_SIDE:
        raise SynthesisError(
            _("A NIfTI file has at most {side} voxels a side.").format(side=NIFTI_SIDE), _("Export it as NRRD.")
        )
    toRas = nodes.RAS_TO_LPS @ affine
    spacing = np.linalg.norm(toRas[:3, :3], axis=0)
    handedness, quaternion = _quaternion(toRas[:3, :3] / spacing)
    order = ">" if array.dtype.byteorder == ">" else "<"
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, 3, *extents, 1, 1, 1, 1)
    struct.pack_into(order + "2h", header, 70, code, bits)
    struct.pack_into(order + "8f", header, 76, handedness, *spacing, 0, 0, 0, 0)
    struct.pack_into(order + "3f", header, 108, 352, 1, 0)  # first voxel, slope, intercept
    header[123] = 2  # millimeters
    struct.pack_into("80s", header, 148, f"{UNIT_KEY}={unit}".encode("ascii"))
    struct.pack_into(order + "2h", header, 252, 1, 1)  # qform and sform: scanner coordinates
    struct.pack_into(order + "6f", header, 256, *quaternion, *toRas[:3, 3])
    struct.pack_into(order + "12f", header, 280, *toRas[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header)


def _niftiType(array: Array) -> tuple[int, int]:
    """Code and bits of a voxel."""
    kind = array.dtype.str[1:]
    if array.ndim == 4 and kind == "u1" and array.shape[3] == 3:
        return NIFTI_RGB, 24
    if array.ndim == 3 and kind in NIFTI_TYPES:
        return NIFTI_TYPES[kind], 8 * array.dtype.itemsize
    raise SynthesisError(
        _("Voxels of type {type} with {count} components cannot be written as NIfTI.").format(
            type=array.dtype, count=array.shape[3] if array.ndim == 4 else 1
        ),
        _("Export it as NRRD."),
    )


def _quaternion(directions: Array) -> tuple[float, tuple[float, float, float]]:
    """Handedness (1 or -1, of the third axis) and the imaginary parts of the rotation's unit quaternion."""
    rotation = np.array(directions)
    handedness = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    rotation[:, 2] *= handedness
    # The unit quaternion is the eigenvector to the largest eigenvalue (Bar-Itzhack 2000): stable at every angle.
    (a, b, c), (d, e, f), (g, h, i) = rotation
    form = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    x, y, z, w = np.linalg.eigh(form)[1][:, -1]
    sign = math.copysign(1.0, w)
    return handedness, (sign * x, sign * y, sign * z)
